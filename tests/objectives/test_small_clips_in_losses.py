"""Small clips in a run: what objectives do with them, what is encoded, and what is an error."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.nn import functional as F

from avssl.cli import main
from avssl.config import TrainConfig
from avssl.config.compose import compose_config
from avssl.core.errors import UserError
from avssl.models.running_statistics import keep_statistics
from avssl.objectives.build import make_plan
from avssl.objectives.labelling import Labelling
from avssl.objectives.objective import EncodedBatch, ExtraViews
from avssl.objectives.small_views import SmallViews
from avssl.objectives.step_clips import StepClips
from avssl.plan.step import Bench, random_batch
from avssl.train.new_model import new_model
from avssl.train.sync_norm import synchronise
from tests.objectives.test_nothing_waits import BATCH, VIDEOS, objective
from tests.processes import run_together

CPU, SMALL = torch.device("cpu"), 2
WORDS = ["crops.small=2", "model.dropout=0"]
FORMS = {
    "offline": [],
    "soft": ["labelling.soft=1"],
    "bank": ["labelling.mode=bank"],
    "batch": ["labelling.mode=batch"],
}


def config_of(*words: str) -> TrainConfig:
    return compose_config("train", TrainConfig, ["model=tiny", "clip=tiny", "data.root=x", "optim.batch=4", *words])


def labelled(words: list[str]) -> Labelling:
    """An objective with labels that do not depend on the process."""
    made = objective([*WORDS, *words], "selavi")
    assert isinstance(made, Labelling)
    labels = torch.arange(VIDEOS)[:, None] * torch.tensor([1, 3]) % 4
    labels[5] = -1  # a video without a label
    for modality in made.modalities:
        made.labeller.table(modality).copy_(labels[made.rows.start : made.rows.stop])
    if words == FORMS["soft"]:
        made.labeller.plan = F.one_hot(labels[made.rows.start : made.rows.stop].clamp(min=0), 4).half()  # type: ignore[attr-defined]
    return made


def features_of(made: Labelling, rows: slice = slice(0, BATCH)) -> tuple[dict, dict]:
    """The features of whole and of small clips of some videos of the batch."""
    g = torch.Generator().manual_seed(0)
    whole, small = {}, {}
    for name, width in made.model.widths.items():
        whole[name] = torch.randn(BATCH, width, generator=g)[rows].requires_grad_()
        small[name] = torch.randn(BATCH, SMALL, width, generator=g)[rows].flatten(0, 1).requires_grad_()
    return whole, small


def loss_of(made: Labelling, whole: dict, small: dict, rows: slice = slice(0, BATCH)) -> torch.Tensor:
    batch = EncodedBatch({}, whole, torch.arange(BATCH)[rows], extra={"small": ExtraViews({}, small)})
    return made.loss(batch, detailed=False)[0]


def test_small_clips_predict_the_label_of_their_video():
    made = labelled([])
    whole, small = features_of(made)
    found = loss_of(made, whole, small)
    together = {name: torch.cat([whole[name], small[name]]) for name in whole}
    labels = made.labeller.table("video")[:BATCH].T.long()
    labels = torch.cat([labels, labels.repeat_interleave(SMALL, 1)], 1)
    losses = [
        F.cross_entropy(z.flatten(0, 1), labels.flatten(), ignore_index=-1)
        for z in made.model.cluster(together).values()
    ]
    assert found.item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-6)
    found.backward()
    assert all(x.grad.abs().sum() > 0 for x in (*whole.values(), *small.values()))
    assert small["video"].grad.view(BATCH, -1)[5].abs().max() < small["video"].grad.abs().max()


def test_small_clips_do_not_take_part_in_labelling():
    """With labelling.mode=batch, the labels of a batch are those that it gets without small clips."""
    labels = []
    for words in ([], ["crops.small=0"]):
        made = labelled([*FORMS["batch"], *words])
        whole, small = features_of(made)
        extra = {} if words else {"small": ExtraViews({}, small)}
        made.loss(EncodedBatch({}, whole, torch.arange(BATCH), extra=extra), detailed=False)
        labels.append(made.labeller.table("video")[:BATCH].clone())
    assert torch.equal(*labels)


def _process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for form, words in FORMS.items():
        made, rows = labelled(words), slice(rank * BATCH // 2, (rank + 1) * BATCH // 2)
        synchronise(made.model, CPU)
        whole, small = features_of(made, rows)
        loss = loss_of(made, whole, small, rows)
        loss.backward()
        gradients = [{name: x.grad for name, x in each.items()} for each in (whole, small)]
        torch.save([loss.detach(), *gradients], f"{folder}/{form}-{rank}.pt")
    before = {name: x.clone() for name, x in made.model.encoders.named_buffers()}
    with keep_statistics(made.model.encoders):
        made.model.encode({"video": torch.randn(2, 3, 2, 16, 16), "audio": torch.randn(2, 1, 40, 20)})
    assert before
    assert all(torch.equal(x, before[name]) for name, x in made.model.encoders.named_buffers())
    dist.barrier()
    os._exit(0)


def test_two_processes_with_small_clips_are_one(tmp_path: Path):
    run_together(_process, (str(tmp_path),), 2)
    for form, words in FORMS.items():
        made = labelled(words)
        whole, small = features_of(made)
        expected = loss_of(made, whole, small)
        expected.backward()
        found = [torch.load(tmp_path / f"{form}-{rank}.pt") for rank in range(2)]
        assert sum(loss.item() for loss, *_ in found) / 2 == pytest.approx(expected.item(), rel=1e-5), form
        for number, ours in enumerate((whole, small), 1):
            for name, x in ours.items():
                together = torch.cat([part[number][name] for part in found]) / 2
                assert torch.allclose(together, x.grad, rtol=1e-4, atol=1e-6), (form, name)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["task=selavi", "crops.small=2"], (1, 2, {"small": 4}, 0)),
        (["task=both", "contrast=preset_4", "crops.small=3"], (2, 4, {"small": 6}, 0)),
        (["task=gdt", "contrast=simclr", "crops.small=1"], (1, 2, {"small": 1}, 0)),
        (["task=gdt", "contrast=preset_9"], (2, 8, {}, 0)),
        (["task=selavi"], (1, 2, {}, 0)),
        (["objective=rotation"], (1, 0, {"rotation": 4}, 0)),
        (["objective=arrow", "loss.rotation=1"], (1, 2, {"rotation": 4, "reversal": 2}, 0)),
    ],
)
def test_the_clips_of_a_step(words, expected):
    config = config_of(*words)
    clips = StepClips.of(config, make_plan(config))
    assert tuple(clips) == expected
    batch = random_batch(config, make_plan(config), 3)
    bench = Bench(config, CPU)
    encoded = bench.loss.clips(batch)
    assert clips.whole in (0, sum(len(x) for x in encoded.main.values()) / 3)
    assert sum(len(x) for group in encoded.groups.values() for x in group.values()) == 3 * sum(clips.groups.values())


def test_the_line_of_the_clips():
    assert StepClips(1, 2, {"small": 4}, 2).describe(8) == (
        "8 clips decoded, 48 encoded (16 whole, 32 small), 16 by the teacher"
    )
    assert StepClips(2, 4, {}, 0).describe(8) == "16 clips decoded, 32 encoded"
    assert StepClips(1, 0, {"rotation": 4}, 0).describe(8) == "8 clips decoded, 32 encoded (32 rotation)"


def test_small_clips_leave_running_statistics_to_whole_ones():
    """The encoders' running statistics after a step are those of a step without small clips."""
    states = []
    for words in (["crops.small=2"], []):
        bench = Bench(config_of("task=selavi", "labelling.clusters=4", "model.dropout=0", *words), CPU)
        batch = random_batch(bench.config, make_plan(bench.config), 4)
        whole = random_batch(bench.config, make_plan(config_of("task=selavi", "crops.small=2")), 4)
        bench.model.train()
        bench.loss(replace(whole, values=batch.values if words else {}), detailed=False)
        states.append(bench.model.encoders.state_dict())
    assert all(torch.equal(states[0][name], x) for name, x in states[1].items() if "running" in name)


def test_a_small_clip_is_of_the_size_of_the_options():
    config = config_of("task=selavi", "crops.small=2", "crops.small_time=0.5", "clip.frames=6", "clip.fps=6")
    plan = make_plan(config)
    assert plan is not None
    group = plan.groups[0]  # type: ignore[union-attr]
    assert group == SmallViews("small", ("video", "audio"), 2, 16, 3, 12_000, (0.05, 0.14))


FIXED = """
import torch

class Net(torch.nn.Module):
    dim = 4

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3 * 4 * 36 * 36, 4)

    def forward(self, x):
        return self.layer(x.flatten(1))
"""


def test_an_encoder_of_one_size_is_one_clear_line(tmp_path, monkeypatch):
    (tmp_path / "net_of_one_size.py").write_text(FIXED)
    monkeypatch.chdir(tmp_path)
    words = ["task=selavi", "model.video=net_of_one_size:Net", "labelling.sharing=per_modality", "crops.small=2"]
    with pytest.raises(UserError, match=r"model.video=net_of_one_size:Net.*set crops.small_side=1 crops.small_time=1"):
        new_model(config_of(*words), CPU)
    new_model(config_of(*words, "crops.small_side=1", "crops.small_time=1", "clip.crop=36"), CPU)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["crops.small_side=0.5"], "crops.small_side has no effect without small clips: add crops.small=2"),
        (["crops.small=40"], "crops.small=40"),
        (["task=none", "loss.rotation=1", "crops.small=2"], "none of the run's losses uses small clips"),
        (
            ["task=gdt", "contrast=preset_1", "contrast.released=[loss]", "crops.small=2"],
            "remove loss from contrast.released",
        ),
        (["crops.small=2", "crops.small_area=[0.5,0.2]"], "set [0.2,0.5]"),
        (["crops.small=2", "crops.small_area=[0.5]"], "crops.small_area"),
        (["crops.small=2", "clip.audio_seconds=0.06", "clip.window_ms=50", "clip.hop_ms=10"], "crops.small_time=0.5"),
        (["crops.small=2", "data.features=auto", "model.freeze=[video,audio]"], "trains on stored features"),
    ],
)
def test_wrong_small_clips_are_one_clear_line(words, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "model=tiny", "clip=tiny", "data.root=x", *words]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert error.count("\n") == 0
