"""On a GPU: no step waits for the device, batches are pinned, and the numbers are those of a CPU.

`pytest tests/gpu` runs them in some minutes. Without a GPU they are skipped, and `test_bodies_on_cpu.py` runs what they
do on the CPU.
"""

import pytest
import torch

from avssl.core.device import has_bfloat16, precision_warning, prepare_device
from tests.gpu import bodies

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("case", bodies.OBJECTIVES)
def test_no_step_waits_for_the_device(case, data):
    bodies.no_step_waits(bodies.words_of(case, data), "cuda")


@pytest.mark.parametrize("case", ["labels", "both", "features"])
def test_batches_are_pinned(case, data):
    copied = bodies.copied_to_the_device(bodies.Run(bodies.words_of(case, data), "cuda").batches[0])
    assert copied
    assert all(x.is_pinned() for x in copied)


@pytest.mark.parametrize("case", ["labels", "contrast", "both"])
def test_losses_are_those_of_the_cpu(case, data):
    words = bodies.words_of(case, data, "precision=float32")
    first = {device: bodies.losses_of(words, device)[0] for device in ("cpu", "cuda")}
    torch.testing.assert_close(first["cuda"], first["cpu"], rtol=1e-3, atol=1e-4)


PRECISIONS = ("float32", "bfloat16")


@pytest.mark.parametrize("case", ["labels", "contrast", "both"])
def test_bfloat16_is_near_float32(case, data):
    exact, half = (bodies.losses_of(bodies.words_of(case, data, f"precision={x}"), "cuda") for x in PRECISIONS)
    torch.testing.assert_close(half, exact, rtol=0.05, atol=0.02)


def test_float32_is_not_rounded_to_tf32():
    device = prepare_device("cuda", fixed_shapes=True)
    x, weight = torch.randn(2, 64, 8, 16, 16), torch.randn(64, 64, 3, 3, 3)
    exact = torch.nn.functional.conv3d(x.double(), weight.double())
    ours = torch.nn.functional.conv3d(x.to(device), weight.to(device)).cpu().double()
    assert ((ours - exact).norm() / exact.norm()) < 1e-5  # TF32 has some 3e-4


def test_3d_convolutions_in_bfloat16_use_cudnn(data):
    if not has_bfloat16(torch.device("cuda")):
        pytest.skip("this GPU has no bfloat16")
    run = bodies.Run(bodies.words_of("labels", data, "precision=bfloat16"), "cuda")
    run.step()
    assert precision_warning(run.state.model, run.device, "bfloat16") == ""
    names = bodies.kernels(run.step, run.device)
    assert not [name for name in names if "vol2col" in name or "slow_conv3d" in name]
    assert "aten::cudnn_convolution" in names


def test_compiled_encoders(data):
    bodies.compiled_alike(bodies.words_of("frozen", data, "precision=float32"), "cuda")


@pytest.mark.parametrize(("first", "second"), [("cpu", "cuda"), ("cuda", "cpu"), ("cuda", "cuda")])
def test_a_run_resumes_on_another_device(first, second, data, tmp_path):
    bodies.resumed_on(bodies.words_of("both", data, "precision=float32"), first, second, tmp_path)


def test_the_solver_gives_the_labels_of_the_cpu():
    bodies.solved_alike("cuda")


@pytest.mark.gpu(2)
def test_two_gpus_are_one(data, tmp_path):
    bodies.two_are_one(bodies.words_of("both", data, "precision=float32"), "auto", tmp_path)


@pytest.mark.gpu(2)
def test_two_gpus_with_compiled_encoders_are_one(data, tmp_path):
    words = bodies.words_of("contrast", data, "model.freeze=[video]", "precision=float32", "compile=true")
    bodies.two_are_one(words, "auto", tmp_path)


@pytest.mark.gpu(2)
def test_the_second_gpu_alone(data):
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated(0)
    bodies.no_step_waits(bodies.words_of("labels", data), "cuda:1")
    assert torch.cuda.current_device() == 1
    assert torch.cuda.memory_allocated(0) == before
    assert torch.cuda.max_memory_allocated(1) > 0
    torch.cuda.set_device(0)
