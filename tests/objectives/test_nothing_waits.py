"""A step of labelling or contrast reads nothing from the device, and exchanges little."""

import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily

from avssl.clips.transform import DeviceTransform
from avssl.config import TrainConfig
from avssl.config.compose import compose_config
from avssl.contrast import gather, loss
from avssl.contrast.prototypes import Prototypes, find_prototypes
from avssl.core import sharded_table
from avssl.core.sharded_table import ShardedTable
from avssl.objectives import labelling
from avssl.objectives.build import build_model, make_composition
from avssl.objectives.contrast import Contrast
from avssl.objectives.labelling import Labelling
from avssl.objectives.objective import Context, EncodedBatch, ExtraViews, Objective
from avssl.objectives.prototypes import key_of
from avssl.selflabel import transport_labeller
from tests.processes import run_together
from tests.waits import Waits

VIDEOS, BATCH = 12, 8
CPU = torch.device("cpu")
LABELLING = {
    "offline": [],
    "soft": ["labelling.soft=1"],
    "bank": ["labelling.mode=bank"],
    "batch": ["labelling.mode=batch", "labelling.queue=6", "labelling.marginal=empirical"],
    "weights": ["labelling.mode=batch", "labelling.modality_weights=[video:1,audio:2]"],
    "separate": ["labelling.sharing=per_modality"],
    "xdc": ["labelling=xdc"],
    "small": ["crops.small=2"],
}
CONTRAST = {
    "composed": ["contrast=preset_9"],
    "all": ["contrast=preset_2", "contrast.compare=all", "contrast.denominator=without_positives"],
    "released": ["contrast=preset_2", "contrast.released=[loss]"],
    "prototypes": ["contrast=preset_1", "contrast.prototypes=[3]"],
    "keys": ["contrast.keys=bank", "contrast.compare=all"],
    "drawn keys": ["contrast.keys=bank", "contrast.negatives=5", "contrast.released=[nce]"],
    "small contrast": ["contrast=preset_9", "crops.small=2"],
}


def objective(words: list[str], task: str, device: torch.device = CPU) -> Objective:
    config = compose_config("train", TrainConfig, [
        f"task={task}", "model=tiny", "clip=tiny", "data.root=x", "labelling.clusters=4", "labelling.heads=2", *words,
    ])  # fmt: skip
    torch.manual_seed(0)
    model = build_model(config).to(device)
    context = Context(config, model, device, DeviceTransform(config.clip, device), VIDEOS, 100, BATCH)
    composition = make_composition(config)
    made: Objective = Labelling(context, composition) if task == "selavi" else Contrast(context, composition)
    if isinstance(made, Labelling):
        for modality in made.modalities:
            made.labeller.table(modality).random_(0, 4)
        made.labeller.done = 1
        made.labeller.costs.zero_()
        if words == LABELLING["soft"]:
            made.labeller.plan = torch.rand(len(made.rows), 2, 4).half()  # type: ignore[attr-defined]
    if isinstance(made, Contrast) and (passes := made.prototypes) is not None:
        passes.done = 1
        passes.numbers.random_(0, 3)
        z = torch.randn(9, config.contrast.projection, device=device)
        passes.found = {key_of(name, 3): find_prototypes(z, 3, 0, 0.07).prototypes for name in ("video", "audio")}
    return made


def batch_of(made: Objective, rank: int, step: int, clips: int) -> EncodedBatch:
    size = BATCH // (dist.get_world_size() if dist.is_initialized() else 1)
    index = (torch.arange(size) + size * rank + 3 * step) % VIDEOS

    def features(count: int) -> dict[str, torch.Tensor]:
        return {
            name: torch.randn(size * count, width, requires_grad=True, device=made.device)
            for name, width in made.model.widths.items()
        }

    small = made.config.crops.small
    extra = {"small": ExtraViews({}, features(small))} if small else {}
    return EncodedBatch({}, features(clips), index, step=step, extra=extra)


def losses(made: Objective, rank: int, clips: int) -> tuple[list[torch.Tensor], Counter[str]]:
    """The losses of three steps, and what the third one reads from the device."""
    found = []
    for step in range(3):
        batch = batch_of(made, rank, step, clips)
        waits = Waits(*batch.features.values(), *made.model.parameters(), *made.model.buffers())
        if step == 2 and isinstance(made, Labelling):  # what the steps before keep on the device
            labeller, memory = made.labeller, made.memory
            waits.mark(*(table.table for table in labeller.on_device.values()))
            waits.mark(
                *(x for x in vars(labeller).values() if isinstance(x, torch.Tensor) and x is not labeller.labels)
            )
            waits.mark(*(x for x in vars(memory).values() if isinstance(x, torch.Tensor)), *memory.features.values())
        if step == 2 and isinstance(made, Contrast) and (passes := made.prototypes) is not None:
            assert passes.on_device is not None
            waits.mark(passes.on_device.table, *(x for found in passes.found.values() for x in found))
        with pytest.MonkeyPatch.context() as patch, waits:
            waits.watch(patch)
            total, _ = made.loss(batch, detailed=step == 2)
            total.backward()
        found.append(total.detach())
    return found, +waits.found


CASES = [("selavi", words, 1) for words in LABELLING.values()] + [
    ("gdt", words, clips) for words, clips in zip(CONTRAST.values(), (4, 2, 2, 1, 1, 1, 4), strict=True)
]
IDS = [*LABELLING, *CONTRAST]
TOGETHER = [
    "offline", "xdc", "small", "bank", "batch", "composed", "released", "prototypes", "keys", "drawn keys",
    "small contrast",
]  # fmt: skip
"""Those of two processes."""


@pytest.mark.parametrize(("task", "words", "clips"), CASES, ids=IDS)
def test_a_step_reads_nothing_from_the_device(task, words, clips):
    found, reads = losses(objective(words, task), 0, clips)
    assert all(x.isfinite() for x in found)
    assert not reads


def real(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as the host computes it, from real tensors."""

    def call(*args: Any, **options: Any) -> Any:
        with unset_fake_temporarily():
            return function(*args, **options)

    return call


@pytest.mark.parametrize(("task", "words", "clips"), CASES, ids=IDS)
def test_a_loss_on_a_gpu_has_no_operands_elsewhere(task, words, clips, monkeypatch):
    """On tensors of a GPU that have no values: those of the CPU would be an error, and so would any value read."""
    gpu, made = torch.device("cuda"), objective(words, task)
    for module in (gather, labelling, loss, sharded_table, transport_labeller):
        monkeypatch.setattr(module, "to_device", lambda x, device: x.to(device))  # pinned memory needs a driver
    monkeypatch.setattr(loss, "labels_of_clips", real(loss.labels_of_clips))
    for module in (gather, loss):
        monkeypatch.setattr(module, "parts_of_videos", real(loss.parts_of_videos))
    monkeypatch.setattr(loss, "constant", lambda values, device: torch.tensor(values).to(device))
    batches = [batch_of(made, 0, step, clips) for step in range(3)]
    with FakeTensorMode(allow_non_fake_inputs=True):
        made.model.to_empty(device=gpu)
        made.device = made.context.device = gpu
        if isinstance(made, Labelling):
            made.labeller.device = gpu
            for modality in made.modalities:
                name = made.labeller.table_name(modality)
                made.labeller.complete[name] = True
                made.labeller._on_device(name, made.labeller.table(modality))
        if isinstance(made, Contrast) and (passes := made.prototypes) is not None:
            passes.on_device = ShardedTable(passes.numbers, passes.rows, gpu)
            found = {name: Prototypes(*(x.to(gpu) for x in each)) for name, each in passes.found.items()}
            passes.found = found
        if isinstance(made, Contrast) and made.keys is not None:
            bank = made.keys.bank  # type: ignore[attr-defined]
            bank.keys, bank.videos = (torch.empty_like(x, device=gpu) for x in (bank.keys, bank.videos))
        for batch in batches:
            for given in (batch, *batch.extra.values()):
                given.features = {name: torch.empty(x.shape, device=gpu) for name, x in given.features.items()}
            batch.device_index = batch.index.to(gpu)
            total, _ = made.loss(batch, detailed=False)
            assert (total.device.type, total.shape) == ("cuda", ())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("task", "words", "clips"), CASES, ids=IDS)
def test_a_step_on_a_gpu_waits_for_nothing(task, words, clips):
    """torch itself says so, from the third step on; the first ones bring tables to the GPU."""
    made, found = objective(words, task, torch.device("cuda")), []
    for step in range(4):
        batch = batch_of(made, 0, step, clips)
        torch.cuda.set_sync_debug_mode("error" if step > 1 else "default")
        try:
            total, _ = made.loss(batch, detailed=step == 3)
            total.backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        found.append(total.detach())
    assert torch.stack(found).isfinite().all()


def test_a_read_is_counted():
    x = torch.arange(3.0)
    waits = Waits(x)
    with pytest.MonkeyPatch.context() as patch, waits:
        waits.watch(patch)
        y = x + 1
        assert bool(y.sum() > 0)
        y[y > 1], y.tolist(), y.unique(), torch.arange(3).tolist()
    assert set(waits.found) == {"_local_scalar_dense", "index", "tolist", "_unique2"} | (set(waits.found) & {"nonzero"})


def _process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    calls: Counter[str] = Counter()

    def counted(name: str) -> Any:
        original = getattr(dist, name)

        def call(*args: Any, **options: Any) -> Any:
            calls[name] += 1
            return original(*args, **options)

        return call

    for name in ("all_reduce", "all_gather", "broadcast", "barrier"):
        setattr(dist, name, counted(name))
    results = {}
    for key in TOGETHER:
        task, words, clips = CASES[IDS.index(key)]
        made = objective(words, task)
        _, reads = losses(made, rank, clips)
        calls.clear()
        made.loss(batch_of(made, rank, 3, clips), False)
        results[key] = dict(reads), dict(calls)
    sharded_table.REPLICATED = 0  # as for a table that is too large for every process
    made = objective([], "selavi")
    _, reads = losses(made, rank, 1)
    calls.clear()
    made.loss(batch_of(made, rank, 3, 1), False)
    results["large"] = dict(reads), dict(calls)
    made.labeller.labels[0] = -1  # type: ignore[attr-defined]
    made.labeller.on_device.clear()  # type: ignore[attr-defined]
    made.loss(batch_of(made, rank, 3, 1), False)
    calls.clear()
    made.loss(batch_of(made, rank, 3, 1), False)
    results["unlabelled"] = dict(reads), dict(calls)
    torch.save(results, f"{folder}/{rank}.pt")
    dist.barrier()
    os._exit(0)


def test_two_processes_exchange_what_they_must(tmp_path):
    run_together(_process, (str(tmp_path),), 2)
    for rank in range(2):
        results = torch.load(tmp_path / f"{rank}.pt")
        assert {key: reads for key, (reads, _) in results.items() if reads} == {}
        exchanged = {key: calls for key, (_, calls) in results.items()}
        for replicated in ("offline", "xdc", "small"):
            assert exchanged[replicated] == {}
        features = {"all_gather": 3}  # of two modalities, and the videos' numbers
        assert exchanged["bank"] == exchanged["batch"] == features
        assert exchanged["composed"] == exchanged["prototypes"] == exchanged["small contrast"] == {"all_gather": 2}
        assert exchanged["released"] == {"all_gather": 1}
        assert exchanged["keys"] == {"all_gather": 3}  # of the queries, the videos' numbers, and the sums of the rows
        assert exchanged["drawn keys"] == {"all_gather": 1, "all_reduce": 1}
        assert exchanged["large"] == {"all_gather": 1, "all_reduce": 1}  # for all heads and both modalities
        assert exchanged["unlabelled"] == {"all_gather": 1, "all_reduce": 2}
