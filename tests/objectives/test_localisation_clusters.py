"""Clips of one cluster are no negatives in localisation, whichever way the clusters are found."""

import os
from copy import deepcopy
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from avssl.clips.transform import DeviceTransform
from avssl.config import TrainConfig
from avssl.config.compose import compose_config
from avssl.contrast.localisation import localisation_loss
from avssl.objectives.build import build_model, build_objectives, make_composition
from avssl.objectives.labelling import Labelling
from avssl.objectives.localisation import Localisation
from avssl.objectives.objective import Context, EncodedBatch
from avssl.selflabel.labeller import UNLABELLED
from avssl.train.sync_norm import synchronise
from tests.processes import run_together
from tests.waits import Waits

CPU, BATCH, VIDEOS = torch.device("cpu"), 6, 9
MODES = {
    "offline": [],
    "bank": ["labelling.mode=bank"],
    "batch": ["labelling.mode=batch", "labelling.queue=4"],
    "one head": ["labelling.heads=1", "labelling.sharing=per_modality"],
    "soft positions": ["localisation.form=soft"],
}


def made(words: list[str]) -> tuple[Labelling, Localisation]:
    """The objectives of a run whose first labels are there; one video has none."""
    config = compose_config("train", TrainConfig, [
        "objective=localisation_labels", "model=tiny", "clip=tiny", "data.root=x", "localisation.projection=6",
        "model.dropout=0", "labelling.clusters=3", "labelling.heads=2", "labelling.start=0", *words,
    ])  # fmt: skip
    torch.manual_seed(0)
    context = Context(config, build_model(config), CPU, DeviceTransform(config.clip, CPU), VIDEOS, 100, BATCH)
    objectives = {type(x): x for _, x in build_objectives(context, make_composition(config))}
    labelling, localisation = objectives[Labelling], objectives[Localisation]
    assert isinstance(labelling, Labelling)
    assert isinstance(localisation, Localisation)
    labeller, heads = labelling.labeller, config.labelling.heads
    labels = torch.randint(0, 3, (VIDEOS, heads), generator=torch.Generator().manual_seed(1))
    labels[4] = UNLABELLED
    labeller.labels.copy_(labels[labelling.rows.start : labelling.rows.stop])
    labeller.costs, labeller.done = torch.arange(float(heads), 0, -1), 1
    return labelling, localisation


def batch_of(localisation: Localisation, step: int = 0, rows: slice = slice(0, BATCH)) -> EncodedBatch:
    generator = torch.Generator().manual_seed(step)
    features = {
        name: torch.randn(BATCH, width, generator=generator)[rows].requires_grad_()
        for name, width in localisation.model.widths.items()
    }
    maps = torch.randn(BATCH, localisation.model.widths["video"], 2, 3, 3, generator=generator)[rows].requires_grad_()
    index = (torch.arange(BATCH) + 4 * step)[rows] % VIDEOS
    return EncodedBatch({}, features, index, {"video": maps}, step)


def losses(
    objectives: tuple[Labelling, Localisation], rows: slice = slice(0, BATCH), steps: range = range(3)
) -> torch.Tensor:
    """Both losses of some steps, [S, 2]."""
    found = []
    for step in steps:
        batch = batch_of(objectives[1], step, rows)
        found.append(torch.stack([x.loss(batch, detailed=False)[0].detach() for x in objectives]))
    return torch.stack(found)


def test_labels_of_a_batch_are_those_that_it_has_just_got():
    """Not those of the last pass or checkpoint; before labelling has begun, all clips are compared."""
    labelling, localisation = made(MODES["batch"])
    heads = localisation.model.heads["localisation"]

    def loss(batch, alike):
        embedded = heads["video"](batch.maps["video"]), heads["audio"](batch.features["audio"])
        return localisation_loss(*embedded, alike, localisation.options.temperature).loss

    first = batch_of(localisation)
    assert torch.equal(localisation.loss(first, detailed=False)[0], loss(first, torch.arange(BATCH)))
    for step in range(2):
        batch = batch_of(localisation, step)
        labelling.loss(batch, detailed=False)
        labels = labelling.rank_state()["labels"][batch.index]
        alike = labels[:, int(labelling.labeller.costs.argmin())]
        assert (labels >= 0).all()
        assert len(alike.unique()) < BATCH
        assert torch.equal(localisation.loss(batch, detailed=False)[0], loss(batch, alike))


@pytest.mark.parametrize("mode", MODES)
def test_a_resumed_run_has_the_same_losses(mode):
    """Also the run that went on after its checkpoint."""
    expected = losses(made(MODES[mode]))
    before, after = made(MODES[mode]), made(MODES[mode])
    losses(before, steps=range(1))
    saved = deepcopy((before[0].shared_state(), before[0].rank_state(), before[0].model.state_dict()))
    after[0].load_shared_state(saved[0])
    after[0].load_rank_state(saved[1])
    after[0].model.load_state_dict(saved[2])
    for going_on in (before, after):
        assert torch.equal(losses(going_on, steps=range(1, 3)), expected[1:])


@pytest.mark.parametrize("mode", MODES)
def test_a_step_reads_nothing_from_the_device(mode):
    objectives = made(MODES[mode])
    losses(objectives, steps=range(2))
    batch, labeller = batch_of(objectives[1], 2), objectives[0].labeller
    waits = Waits(*batch.features.values(), *batch.maps.values(), batch.device_index)
    if mode == "batch":
        waits.mark(labeller.costs)  # on the device since the first batch
    with pytest.MonkeyPatch.context() as patch, waits:
        waits.watch(patch)
        for objective in objectives:
            objective.loss(batch, detailed=False)
    assert not +waits.found


def _process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    found = {}
    for mode, words in MODES.items():
        objectives = made(words)
        synchronise(objectives[0].model, CPU)
        found[mode] = losses(objectives, slice(rank * BATCH // 2, (rank + 1) * BATCH // 2))
    torch.save(found, f"{folder}/{rank}.pt")
    dist.barrier()
    os._exit(0)


def test_two_processes_are_one(tmp_path: Path):
    run_together(_process, (str(tmp_path),), 2)
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for mode, words in MODES.items():
        expected = losses(made(words))
        together = torch.stack([part[mode] for part in parts]).mean(0)
        assert torch.allclose(together, expected, atol=1e-4, rtol=1e-4), mode
