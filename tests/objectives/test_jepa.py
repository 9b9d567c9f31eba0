"""Joint-embedding prediction as an objective: its views, two processes that are one, and options that are refused."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.nn import functional as F

from avssl.cli import main
from avssl.clips.transform import DeviceTransform
from avssl.config import TrainConfig
from avssl.config.compose import compose_config
from avssl.contrast.joint_embedding import joint_embedding_loss
from avssl.contrast.sigreg import unit_directions
from avssl.core.collectives import rank_slice
from avssl.core.errors import UserError
from avssl.objectives.build import build_model, make_composition
from avssl.objectives.jepa import Jepa
from avssl.objectives.objective import Context, EncodedBatch, ExtraViews
from avssl.runs.checkpoints import load_run_state
from avssl.train.check_options import check
from avssl.train.sync_norm import synchronise
from tests.processes import run_together
from tests.waits import Waits

CPU, BATCH = torch.device("cpu"), 7
WORDS = ["objective=jepa", "model=tiny", "clip=tiny", "data.root=x", "jepa.projection=6", "jepa.directions=32"]
SMALL = 2
"""Small clips of each video and modality."""


def configured(*words: str) -> TrainConfig:
    return compose_config("train", TrainConfig, [*WORDS, *words])


def objective(*words: str) -> Jepa:
    config = configured(*words)
    torch.manual_seed(0)
    model = build_model(config)
    context = Context(config, model, CPU, DeviceTransform(config.clip, CPU), 50, 100, BATCH)
    return Jepa(context, make_composition(config))


def batch_of(made: Jepa, rows: range = range(BATCH), small: int = 0, step: int = 3) -> EncodedBatch:
    """Features of some of a batch's videos."""

    def features(clips: int, seed: int) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        found = {
            name: torch.randn(BATCH, clips, width, generator=generator) for name, width in made.model.widths.items()
        }
        return {name: x[rows.start : rows.stop].flatten(0, 1).requires_grad_() for name, x in found.items()}

    extra = {"small": ExtraViews({}, features(small, 1))} if small else {}
    large = features(made.composition.plan(1).encoded_per_video // len(made.modalities), 0)
    return EncodedBatch({}, large, torch.arange(rows.start, rows.stop), step=step, extra=extra)


# the views


def test_the_views_are_clips_of_both_modalities_each_of_them_alone_and_small_clips():
    made = objective()
    made.model.eval()
    batch = batch_of(made, small=SMALL)
    found = made.embed(batch.features, BATCH, batch.extra["small"].features)
    heads = made.model.heads["jepa"]

    def embedding(*parts: tuple[str, torch.Tensor]) -> torch.Tensor:
        return heads["joint"](torch.stack([heads[name](x)[0] for name, x in parts]).mean(0))

    large = {name: x.view(BATCH, 2, -1) for name, x in batch.features.items()}
    small = {name: x.view(BATCH, SMALL, -1) for name, x in batch.extra["small"].features.items()}
    expected = [embedding(("video", large["video"][:, k]), ("audio", large["audio"][:, k])) for k in range(2)]
    expected += [embedding((name, large[name][:, k])) for name in ("video", "audio") for k in range(2)]
    expected += [embedding((name, small[name][:, k])) for name in ("video", "audio") for k in range(SMALL)]
    assert found.global_views == 2
    assert torch.allclose(found.z, torch.stack(expected), atol=1e-5)


def test_one_modality_has_its_clips_as_global_views():
    made = objective("contrast.modalities=[video]")
    found = made.embed(batch_of(made).features, BATCH, {})
    assert (found.global_views, len(found.z)) == (2, 2)


def test_clips_that_another_objective_pushes_apart_are_left_out():
    apart = ["loss.contrast=1", "contrast.axes.reversal=distinct", "contrast.axes.time_shift=invariant"]
    made = objective(*apart)
    found = made.embed(batch_of(made).features, BATCH, {})
    assert (found.global_views, len(found.z)) == (4, 12)
    views = made.context.config  # the codes say which clips are at level 0 of the distinct axis
    composition = make_composition(views)
    assert composition is not None
    codes = composition.codes(torch.zeros(1))
    codes = codes[: len(codes) // 2]  # of video
    level = codes[:, composition.columns.index("reversal")]
    numbers = torch.arange(len(codes), dtype=torch.float32)[:, None]
    assert composition.take_alike(numbers, 1).flatten().tolist() == level.eq(0).nonzero().flatten().tolist()


def test_the_loss_is_that_of_the_views():
    made = objective("jepa.released=[centre]", "jepa.lam=0.3")
    batch = batch_of(made)
    torch.manual_seed(0)
    loss, figures = made.loss(batch, detailed=True)
    found = made.embed(batch.features, BATCH, {})
    directions = unit_directions(6, 32, 0, 3, CPU)
    expected = joint_embedding_loss(found.z, 2, directions, 0.3, centre="all")
    assert torch.allclose(loss, expected.loss)
    assert torch.allclose(torch.stack([figures["prediction"], figures["sigreg"]]), torch.stack(expected[1:]))
    assert figures["deviation_min"] <= figures["deviation"]
    other, _ = made.loss(batch_of(made, step=4), detailed=False)
    assert not torch.equal(other, loss)  # other directions


# what it does


def test_it_descends_without_collapsing():
    """Two modalities of 64 videos share two factors and have noise of their own; the embedding keeps the factors."""
    made = objective("jepa.projection=2", "jepa.directions=64", "contrast.axes.augmentation=off")
    generator = torch.Generator().manual_seed(0)
    made.context.batch = 64
    factors = torch.randn(64, 2, generator=generator)
    inputs = {}
    for name, width in made.model.widths.items():
        mixed = factors @ torch.randn(2, width, generator=generator)
        inputs[name] = mixed + 0.5 * torch.randn(64, width, generator=generator)
    optimiser = torch.optim.Adam(made.model.heads["jepa"].parameters(), 0.01)
    logged = []
    for step in range(80):
        loss, figures = made.loss(EncodedBatch({}, inputs, torch.arange(64), step=step), detailed=True)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        logged.append({name: float(torch.as_tensor(value).detach()) for name, value in figures.items()})
    assert logged[-1]["loss"] < 0.5 * logged[0]["loss"]
    assert logged[-1]["deviation_min"] > 0.7
    assert logged[-1]["prediction"] < 0.1
    made.model.eval()
    z = made.embed(inputs, 64, {}).z[1:].detach()  # of each modality alone
    assert F.cosine_similarity(z[0], z[1]).mean() > 0.9
    fitted = torch.linalg.lstsq(torch.cat([z[0], torch.ones(64, 1)], 1), factors)
    assert fitted.residuals.sum() < 0.3 * factors.square().sum()


def test_a_step_reads_nothing_from_the_device():
    made = objective("loss.contrast=1", "contrast.axes.reversal=distinct")
    for step in range(2):
        batch = batch_of(made, small=SMALL, step=step)
        waits = Waits(*batch.features.values(), *made.model.parameters(), *made.model.buffers())
        with pytest.MonkeyPatch.context() as patch, waits:
            waits.watch(patch)
            loss, _ = made.loss(batch, detailed=True)
            loss.backward()
        assert loss.isfinite()
    assert not +waits.found


# several processes


FORMS = [[], ["jepa.released=[rows,weight]"], ["jepa.released=[centre]"]]


def _gradients(made: Jepa, rows: range) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
    """The loss of some videos of the batch, and its gradients by their features and by the heads' parameters."""
    batch = batch_of(made, rows, SMALL)
    loss, _ = made.loss(batch, detailed=False)
    loss.backward()
    inputs = [*batch.features.values(), *batch.extra["small"].features.values()]
    by_video = [x.grad.view(len(rows), -1) for x in inputs if x.grad is not None]
    weights = [x.grad for x in made.model.heads["jepa"].parameters() if x.grad is not None]
    return loss.detach(), by_video, weights


def _process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    results = []
    for words in FORMS:
        made = objective(*words)
        synchronise(made.model, CPU)
        results.append((*_gradients(made, rank_slice(BATCH)), [x.clone() for x in made.model.buffers()]))
    torch.save(results, f"{folder}/{rank}.pt")
    dist.barrier()
    os._exit(0)


def test_two_processes_are_one(tmp_path: Path) -> None:
    """Three and four videos: the mean of the losses and of the gradients, as DistributedDataParallel computes it."""
    run_together(_process, (str(tmp_path),), 2)
    both = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for number, words in enumerate(FORMS):
        made = objective(*words)
        loss, by_video, weights = _gradients(made, range(BATCH))
        (first, *of_first), (second, *of_second) = both[0][number], both[1][number]
        assert (first + second).item() / 2 == pytest.approx(loss.item(), rel=1e-5)
        for one, other, whole in zip(of_first[0], of_second[0], by_video, strict=True):
            assert whole.abs().max() > 1e-5
            assert torch.allclose(torch.cat([one, other]) / 2, whole, rtol=1e-4, atol=1e-6)
        for one, other, whole in zip(of_first[1], of_second[1], weights, strict=True):
            assert torch.allclose((one + other) / 2, whole, rtol=1e-4, atol=2e-6)
        for one, other, whole in zip(of_first[2], of_second[2], made.model.buffers(), strict=True):
            assert torch.equal(one, other)
            assert torch.allclose(one.float(), whole.float(), rtol=1e-4, atol=1e-6)


# options


@pytest.mark.parametrize(("words", "message"), [
    (["jepa.projection=256"], "jepa.projection=256 is wider than the model.hidden=128 units"),
    (["contrast.axes.modality=distinct"], "set contrast.axes.modality=invariant"),
    (["contrast.axes.reversal=distinct"], "set contrast.axes.reversal=invariant"),
    (["contrast.modalities=[video]", "contrast.axes.augmentation=off"], "video has one: set contrast.axes"),
    (["loss.jepa=0", "task=gdt", "jepa.lam=0.1"], "jepa.* has no effect without loss.jepa"),
    (["jepa.lam=0"], "jepa.lam=0 is below the minimum 0.0001"),
    (["jepa.lam=1"], "jepa.lam=1 is above the maximum 0.9999"),
    (["jepa.released=[center]"], "did you mean centre?"),
])  # fmt: skip
def test_options_that_are_refused(words, message):
    with pytest.raises(UserError) as error:
        check(configured(*words))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_preset_is_accepted():
    config = configured()
    check(config)
    assert config.objectives == {"jepa": 1.0}
    assert (config.task, config.out) == ("none", "runs/x_jepa_seed0")


# a run


def test_a_run_that_resumes_is_the_same(indexed, tmp_path, monkeypatch):
    words = [
        *indexed, "objective=jepa", "experiment=tiny", "optim.batch=4", "optim.clips=24", "log_steps=1", "threads=1",
        "jepa.directions=32", "device=cpu",
    ]  # fmt: skip
    assert main(["train", *words, f"out={tmp_path / 'whole'}"]) == 0

    def stop(made: Jepa, step: int) -> None:
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Jepa, "after_step", stop)
        assert main(["train", *words, f"out={tmp_path / 'run'}"]) != 0
    assert 2 < load_run_state(tmp_path / "run")["step"] < 6
    assert main(["train", *words, f"out={tmp_path / 'run'}"]) == 0
    one, other = (load_run_state(tmp_path / name)["model"] for name in ("whole", "run"))
    assert {key.split(".")[1] for key in one if key.startswith("heads.")} == {"jepa"}
    assert all(torch.equal(one[key], other[key]) for key in one)
    figures = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in figures] == [*range(6)]
    assert figures[0].keys() >= {"loss", "prediction", "sigreg", "deviation", "deviation_min"}


def test_a_modality_alone_has_the_embedding_that_retrieval_compares():
    made = objective()
    made.model.eval()
    batch = batch_of(made)
    views = made.embed(batch.features, BATCH, {}).z
    for number, name in enumerate(("video", "audio")):
        found = made.model.embed(batch.features[name], name)
        expected = views[2 + 2 * number : 4 + 2 * number].transpose(0, 1).flatten(0, 1)
        assert torch.allclose(found, expected, atol=1e-6)
    assert made.model.embeds
    both = objective("loss.contrast=1").model.eval()
    assert torch.equal(
        both.embed(batch.features["video"], "video"), both.projections["video"](batch.features["video"])[0]
    )
