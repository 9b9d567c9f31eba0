"""The device of a command: prepared as a GPU needs it, seen here with a pretended GPU, and the decoding processes."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from avssl.config import EvaluateConfig, TrainConfig
from avssl.config.option import check_config
from avssl.core import device as devices
from avssl.core.cores import process_cores
from avssl.core.errors import UserError
from avssl.models.encoder import channels_last

CPU, GPU = torch.device("cpu"), torch.device("cuda", 1)
OLD, NEW = (7, 0), (8, 0)


@pytest.fixture
def pretended_gpu(monkeypatch):
    """Two GPUs of the compute capability `capability` that hold no tensors; `current` is the one that was set."""
    gpu = SimpleNamespace(current=0, capability=NEW)
    monkeypatch.setattr(devices, "choose_device", torch.device)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: setattr(gpu, "current", device.index))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: gpu.capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla V100")
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, cudnn.benchmark, matmul.allow_tf32
    devices.has_bfloat16.cache_clear()
    yield gpu
    cudnn.allow_tf32, cudnn.benchmark, matmul.allow_tf32 = before
    devices.has_bfloat16.cache_clear()


@pytest.mark.parametrize("fixed", [True, False])
def test_a_gpu_is_current_exact_and_timed_for_fixed_shapes(pretended_gpu, fixed):
    torch.backends.cudnn.allow_tf32 = True
    assert devices.prepare_device("cuda:1", fixed) == GPU
    assert pretended_gpu.current == 1
    assert torch.backends.cudnn.benchmark is fixed
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


def test_a_cpu_is_left_as_it_is():
    before = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    assert devices.prepare_device("cpu", True) == CPU
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark) == before


def test_a_missing_gpu_is_one_line(monkeypatch):
    monkeypatch.setattr(devices, "GPUS", ())
    with pytest.raises(UserError, match="this machine has no such device"):
        devices.prepare_device("cuda:1")


@pytest.mark.parametrize(
    ("capability", "precision", "half"),
    [(NEW, "auto", True), (OLD, "auto", False), (NEW, "float32", False), (OLD, "bfloat16", True)],
)
def test_bfloat16_is_chosen_only_where_the_hardware_has_it(pretended_gpu, monkeypatch, capability, precision, half):
    """torch says that a V100 supports bfloat16, because it emulates it."""
    pretended_gpu.capability = capability
    monkeypatch.setattr(torch, "autocast", lambda kind, dtype, enabled: (kind, dtype, enabled))
    assert devices.autocast(GPU, precision) == ("cuda", torch.bfloat16, half)


def test_a_precision_that_is_slow_on_this_gpu_is_a_line(pretended_gpu, monkeypatch):
    model = nn.Sequential(nn.Conv3d(3, 4, 3))
    monkeypatch.setattr(torch, "__version__", "2.9.1+cu128")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)
    assert "nvidia-cudnn 9.15" in devices.precision_warning(model, GPU, "auto")
    assert devices.precision_warning(model, GPU, "float32") == ""
    assert devices.precision_warning(model, CPU, "bfloat16") == ""
    assert devices.precision_warning(channels_last(model), GPU, "auto") == ""
    pretended_gpu.capability = OLD
    devices.has_bfloat16.cache_clear()
    assert "Tesla V100 only emulates bfloat16" in devices.precision_warning(model, GPU, "bfloat16")


@pytest.mark.parametrize(
    ("version", "cudnn", "avoided"),
    [
        ("2.8.0", 91002, False), ("2.9.0+cu128", 91002, True), ("2.9.0", 91600, True), ("2.9.1", 91002, True),
        ("2.9.1", 91600, False), ("2.9.0", 90700, False), ("2.10.0", 91002, True), ("2.14.1+cu130", 92000, False),
        ("2.14.1+cpu", 0, False),
    ],
)  # fmt: skip
def test_versions_that_avoid_cudnn_in_bfloat16(version, cudnn, avoided):
    assert devices.avoids_cudnn(version, cudnn) is avoided


def test_convolutions_of_one_pixel_are_never_slow():
    assert not devices.contiguous_conv3d(nn.Conv3d(3, 4, 1))
    assert devices.contiguous_conv3d(nn.Conv3d(3, 4, (1, 3, 3)))
    assert not devices.contiguous_conv3d(nn.Conv2d(3, 4, 3))


@pytest.mark.parametrize(("cores", "cpu", "gpu"), [(1, 1, 1), (2, 2, 1), (8, 2, 7), (128, 2, 16)])
def test_workers_follow_the_cores(monkeypatch, cores, cpu, gpu):
    monkeypatch.setattr(devices, "available_cores", lambda: cores)
    monkeypatch.setattr(devices, "process_cores", lambda: cores)
    assert devices.decoding_workers(-1, CPU) == cpu
    assert devices.decoding_workers(-1, GPU) == gpu
    for given in (0, 2, 30):
        assert devices.decoding_workers(given, GPU) == given


@pytest.mark.parametrize(
    ("variables", "cores"),
    [
        ({}, 64),
        ({"LOCAL_WORLD_SIZE": "8"}, 8),
        ({"LOCAL_WORLD_SIZE": "8", "SLURM_CPUS_PER_TASK": "12"}, 12),
        ({"LOCAL_WORLD_SIZE": "8", "SLURM_CPUS_PER_TASK": "64", "TORCHELASTIC_RUN_ID": "x"}, 8),
        ({"SLURM_CPUS_PER_TASK": "200"}, 64),
        ({"LOCAL_WORLD_SIZE": "100"}, 1),
        ({"LOCAL_WORLD_SIZE": "x", "SLURM_CPUS_PER_TASK": "y"}, 64),
    ],
)
def test_processes_of_a_machine_divide_its_cores(monkeypatch, variables, cores):
    monkeypatch.setattr("avssl.core.cores.available_cores", lambda: 64)
    for name in ("LOCAL_WORLD_SIZE", "SLURM_CPUS_PER_TASK", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert process_cores() == cores


def test_the_number_of_workers_is_said_when_verbose(monkeypatch, capsys):
    monkeypatch.setenv("AVSSL_VERBOSITY", "verbose")
    monkeypatch.setattr(devices, "process_cores", lambda: 12)
    assert devices.share_cores(GPU, -1) == 11
    assert devices.share_cores(GPU, 3) == 3
    assert capsys.readouterr().out == "workers=11: this process has 12 cores, and computes on cuda:1\n"
    monkeypatch.setenv("AVSSL_VERBOSITY", "")
    devices.share_cores(GPU, -1)
    assert capsys.readouterr().out == ""


def test_workers_are_automatic_by_default():
    assert TrainConfig().workers == EvaluateConfig().workers == -1
    with pytest.raises(UserError, match="below the minimum -1"):
        check_config(EvaluateConfig(run="x", workers=-2))


@pytest.mark.parametrize(
    ("device", "threads", "computing", "load", "said"),
    [
        (CPU, 0, 2, 7.2, True),
        (CPU, 1, 2, 7.2, False),
        (CPU, 0, 1, 7.2, False),
        (CPU, 0, 2, 1.9, False),
        (GPU, 0, 2, 7.2, False),
    ],
)
def test_a_training_says_that_other_programs_use_the_cores(monkeypatch, capsys, device, threads, computing, load, said):
    monkeypatch.setattr(torch, "get_num_threads", lambda: computing)
    monkeypatch.setattr(devices.os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(devices.os, "cpu_count", lambda: 2)
    devices.say_if_busy(device, threads)
    line = "avssl: other programs use the cores (load 7, 2 cores): threads=1 is then often faster\n"
    assert capsys.readouterr().err == (line if said else "")
