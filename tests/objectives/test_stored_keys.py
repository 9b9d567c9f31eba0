"""MoCo's queue and NPID's bank in a run: the order in which keys enter, resuming, two processes, bad input."""

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F

from avssl.cli import main
from avssl.clips.transform import DeviceTransform
from avssl.config import TrainConfig
from avssl.config.compose import compose_config
from avssl.contrast.axes import AXES
from avssl.contrast.bank import KeyBank
from avssl.contrast.composition import Composition
from avssl.contrast.keys import compared_with
from avssl.core.collectives import rank_slice
from avssl.models import MultiStream
from avssl.objectives.build import build_model, make_composition
from avssl.objectives.contrast import Contrast
from avssl.objectives.objective import Context, EncodedBatch, ExtraViews
from avssl.objectives.stored_keys import BankedKeys, QueuedKeys, queue_size
from avssl.objectives.teacher import Teacher, momentum
from avssl.runs.checkpoints import load_run_state
from avssl.train.check_options import LEVELS
from avssl.train.checkpoint_state import tables_of
from avssl.train.sync_norm import synchronise
from avssl.train.weighted_loss import WeightedLoss
from tests.conftest import made_with_features
from tests.processes import run_together

VIDEOS, BATCH, CPU = 13, 5, torch.device("cpu")
WORDS = ["model=tiny", "clip=tiny", "data.root=x", "contrast.projection=8", "seed=3", "model.dropout=0"]
MOMENTUM = ["teacher.momentum=0.9", "teacher.momentum_end=0.9"]
CASES = {
    "moco": ["objective=moco", "contrast.queue=9", "contrast.temperature=0.3", *MOMENTUM],
    "npid": ["objective=npid", "contrast.compare=all", "contrast.temperature=0.3", "contrast.block=4"],
    "nce": [
        "objective=npid",
        "contrast.compare=all",
        "contrast.temperature=0.3",
        "contrast.negatives=6",
        "contrast.released=[nce]",
    ],
    "drawn": ["objective=npid", "contrast.negatives=6", "optim.accumulate=2"],
}


class Steps:
    """An objective that takes steps on made-up features, which depend on the step and the video alone."""

    def __init__(self, case: str, small: int = 0):
        self.config = compose_config("train", TrainConfig, [*WORDS, *CASES[case]])
        torch.manual_seed(0)
        self.model, self.small = build_model(self.config), small
        if dist.is_initialized():
            synchronise(self.model, CPU)
        teacher = Teacher(self.model, self.config.teacher, 100) if self.config.has_teacher else None
        transform = DeviceTransform(self.config.clip, CPU)
        self.context = Context(self.config, self.model, CPU, transform, VIDEOS, 100, BATCH, teacher=teacher)
        composition = make_composition(self.config)
        assert composition is not None
        self.objective, self.clips = Contrast(self.context, composition), len(composition.plain)
        self.projections = [p for head in self.model.projections.values() for p in head.parameters()]

    def features(self, step: int, clips: int, own: slice, kind: int) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(97 * step + kind)
        made = {name: torch.randn(BATCH, clips, w, generator=generator) for name, w in self.model.widths.items()}
        return {name: x[own].flatten(0, 1) for name, x in made.items()}

    def step(self, step: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The loss of the global batch, and the gradients of the projections."""
        own = rank_slice(BATCH)
        own = slice(own.start, own.stop)
        index = ((torch.arange(BATCH) + 4 * step) % VIDEOS)[own]
        extra = {"small": ExtraViews({}, self.features(step, self.small, own, 2))} if self.small else {}
        features, slow = (self.features(step, self.clips, own, kind) for kind in (0, 1))
        batch = EncodedBatch({}, features, index, step=step, extra=extra, teacher=slow)
        self.model.zero_grad()
        loss, _ = self.objective.loss(batch, detailed=False)
        loss.backward()
        found = [loss.detach(), *(p.grad for p in self.projections)]
        if dist.is_initialized():
            for x in found:
                dist.all_reduce(x)
                x /= dist.get_world_size()
        with torch.no_grad():
            for p in self.projections:
                p -= 0.1 * p.grad
        if self.context.teacher is not None:
            self.context.teacher.update(step)
        self.objective.after_step(step)
        return found[0], [x.clone() for x in found[1:]]

    def part(self) -> dict:
        rows = rank_slice(VIDEOS)
        return {"rows": [rows.start, rows.stop], "tables": self.objective.rank_state()}

    def load(self, other: "Steps", shared: dict, tables: dict) -> "Steps":
        self.model.load_state_dict(other.model.state_dict())
        if self.context.teacher is not None:
            self.context.teacher.load_state_dict(other.context.teacher.state_dict())
        self.objective.load_shared_state(shared)
        self.objective.load_rank_state(tables)
        return self


def _process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for case in CASES:
        steps = Steps(case, small=1)
        found = [steps.step(number) for number in range(3)]
        torch.save([found, steps.objective.shared_state(), steps.part()], f"{folder}/{case}-{rank}.pt")
    dist.barrier()
    os._exit(0)


def test_two_processes_are_one_and_resume_as_one(tmp_path):
    """Losses, gradients, the queue and the bank's rows are equal. One process then resumes from the state of two."""
    run_together(_process, (str(tmp_path),), 2)
    for case in CASES:
        one = Steps(case, small=1)
        expected = [one.step(number) for number in range(3)]
        parts = [torch.load(tmp_path / f"{case}-{rank}.pt") for rank in range(2)]
        for found, shared, _ in parts:
            for (loss, gradients), (right, others) in zip(found, expected, strict=True):
                assert loss.item() == pytest.approx(right.item(), abs=1e-5)
                for gradient, other in zip(gradients, others, strict=True):
                    assert torch.allclose(gradient, other, atol=1e-5)
            states = (
                (shared["contrast_queue"], one.objective.shared_state()["contrast_queue"]) if case == "moco" else ()
            )
            for name in ("videos", "next") if states else ():
                assert torch.equal(*(torch.as_tensor(state[name]) for state in states))
            if states:
                assert torch.allclose(*(state["keys"] for state in states), atol=1e-5)
        tables = tables_of(iter([part for *_, part in parts]), range(VIDEOS))
        for name, table in one.objective.rank_state().items():
            assert torch.allclose(tables[name], table, atol=1e-5)
        resumed = Steps(case, small=1).load(one, parts[0][1], tables)
        assert resumed.step(3)[0].item() == pytest.approx(one.step(3)[0].item(), abs=1e-5)
        assert max(g.abs().max() for g in expected[2][1]) > 1e-3


@pytest.mark.parametrize("case", CASES)
def test_resumed_it_goes_on_bit_for_bit(case, tmp_path):
    whole = Steps(case)
    whole.step(0), whole.step(1)
    torch.save([whole.objective.shared_state(), whole.part()], tmp_path / "state.pt")
    part = Steps(case).load(whole, *_loaded(tmp_path / "state.pt"))
    for number in (2, 3):
        one, other = whole.step(number), part.step(number)
        assert torch.equal(one[0], other[0])
        assert all(torch.equal(*pair) for pair in zip(one[1], other[1], strict=True))


def _loaded(path: Path) -> tuple[dict, dict]:
    shared, part = torch.load(path)
    return shared, part["tables"]


def test_keys_enter_after_the_step_in_the_order_of_its_batches():
    steps = Steps("moco")
    keys = steps.objective.keys
    assert isinstance(keys, QueuedKeys)
    batches = []
    for number in (1, 2):
        features = [steps.features(number, 2, slice(None), kind) for kind in (0, 1)]
        index = torch.arange(BATCH) + BATCH * (number - 1)
        batches.append(EncodedBatch({}, features[0], index, teacher=features[1]))
        steps.objective.loss(batches[-1], detailed=False)
        assert not keys.queue.keys.any()
    steps.objective.after_step(0)
    # 20 keys of each modality for 9 places: those of the last videos
    assert keys.queue.videos.tolist() == [5, 6, 6, 7, 7, 8, 8, 9, 9]
    teacher = steps.context.teacher
    assert teacher is not None
    last = teacher.model.embed(batches[1].teacher["audio"], "audio")[-1]
    assert torch.allclose(keys.queue.keys[1, 8], last / last.norm(), atol=1e-6)


def test_a_drawn_key_is_replaced_and_a_seen_one_is_averaged(monkeypatch):
    """The first epoch of 13 videos is three batches of 5; a step has two batches."""
    steps, flags = Steps("drawn"), []
    original = KeyBank.update

    def update(self, videos, seen, first=False):
        flags.append(first)
        before = self.keys[:, videos].clone()
        original(self, videos, seen, first)
        assert torch.allclose(self.keys[:, videos], F.normalize(seen + (0 if first else before), dim=-1), atol=1e-6)

    monkeypatch.setattr(KeyBank, "update", update)
    for step in range(2):
        for number in (2 * step, 2 * step + 1):
            index = (torch.arange(BATCH) + BATCH * number) % VIDEOS
            batch = EncodedBatch({}, steps.features(number, 1, slice(None), 0), index, step=step)
            steps.objective.loss(batch, detailed=True)
        steps.objective.after_step(step)
    assert flags == [True, True, True, False]


def test_the_teacher_moves_as_mocos():
    """The published momentum update: k ← m k + (1 − m) q, before the next batch's keys."""
    import numpy as np

    golden = np.load(Path(__file__).parent.parent / "golden" / "moco.npz")
    width, size = golden["weight_k_before"].shape
    encoder = nn.Linear(size, width)
    encoder.dim = width  # type: ignore[assignment]
    with torch.no_grad():
        encoder.weight.copy_(torch.from_numpy(golden["weight_k_before"]))
        encoder.bias.copy_(torch.from_numpy(golden["bias_k_before"]))
    m = float(golden["m"])
    config = compose_config(
        "train", TrainConfig, ["objective=moco", "data.root=x", f"teacher.momentum={m}", f"teacher.momentum_end={m}"]
    )
    teacher = Teacher(MultiStream({"video": encoder}), config.teacher, 100)
    for step in range(int(golden["steps"])):
        with torch.no_grad():
            encoder.weight.copy_(torch.from_numpy(golden["weight_q_used"][step]))
            encoder.bias.copy_(torch.from_numpy(golden["bias_q_used"][step]))
        teacher.update(step)
        state = teacher.state_dict()
        for name in ("weight", "bias"):
            after = torch.from_numpy(golden[f"{name}_k_after"][step])
            assert torch.allclose(state[f"encoders.video.{name}"], after, atol=1e-6)


def test_the_size_of_a_queue_follows_the_data():
    assert queue_size(None, 800, 2) == 800
    assert queue_size(None, 1, 1) == 1
    assert queue_size(None, 10**7, 4) == 65_536
    assert queue_size(7, 800, 2) == 7
    known = {axis.name for axis in AXES}
    for name, levels in LEVELS.items():  # what the quick check of options counts
        if name not in known:
            continue
        axes = {"sample": "distinct", "modality": "invariant", name: "invariant"}
        assert len(Composition(axes).plain) == levels


@pytest.mark.parametrize("case", ["npid", "nce"])
def test_a_bank_that_does_not_fit_is_refused(case):
    steps = Steps(case)
    keys = steps.objective.keys
    assert isinstance(keys, BankedKeys)
    tables = keys.rank_state()
    whole, huge = torch.zeros(VIDEOS, 8), torch.full((VIDEOS, 8), 1e30)
    for wrong in (torch.zeros(VIDEOS, 9), whole + torch.inf, whole.long(), whole.bool(), huge):
        with pytest.raises(ValueError, match="contrast_bank_audio has the shape"):
            keys.load_rank_state(tables | {"contrast_bank_audio": wrong})
    if case == "nce":
        with pytest.raises(ValueError, match="the normaliser has the shape"):
            keys.load_shared_state({"contrast_normaliser": torch.ones(7, 1, 1, 1)})


@pytest.mark.parametrize(
    ("name", "keys", "clips", "positives"),
    [("moco", "queue", 2, 3), ("npid", "bank", 1, 1), ("simclr_av", "batch", 2, 3)],
)
def test_the_presets_compare_both_modalities(name, keys, clips, positives):
    config = compose_config("train", TrainConfig, [f"objective={name}", "data.root=x", "data.name=some"])
    composition = make_composition(config)
    assert composition is not None
    assert (composition.keys, len(composition.plain), config.contrast.temperature) == (keys, clips, 0.07)
    assert config.objectives == {"contrast": 1}
    assert config.out == f"runs/some_{name}_seed0"
    assert config.has_teacher is (name == "moco")
    if config.has_teacher:
        assert {momentum(config.teacher, step, 10) for step in range(11)} == {0.999}
    # a bank has a key of the clip itself
    compared = len(compared_with(composition, 0)) * clips - (keys != "bank")
    assert compared == positives


# with the whole command, on stored features


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    words, features = made_with_features(tmp_path_factory)
    return [*words, f"data.features={features}"]


TINY = [
    "model=tiny", "clip=tiny", "workers=0", "threads=1", "device=cpu", "optim.batch=8", "optim.epochs=3", "log_steps=1",
    "save_seconds=0", "model.adapter=32",
]  # fmt: skip
MOCO = ["objective=moco", "contrast.axes.augmentation=off", "contrast.axes.time_shift=invariant"]


@pytest.mark.parametrize("words", [MOCO, ["objective=npid"]], ids=["moco", "npid"])
def test_a_stopped_run_goes_on_bit_for_bit(data, words, tmp_path, monkeypatch):
    words = ["train", *data, *TINY, *words]
    assert main([*words, f"out={tmp_path / 'whole'}"]) == 0
    original, calls = WeightedLoss.forward, []

    def interrupted(self, batch, detailed):
        calls.append(batch)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return original(self, batch, detailed)

    monkeypatch.setattr(WeightedLoss, "forward", interrupted)
    assert main([*words, f"out={tmp_path / 'part'}"]) == 130
    monkeypatch.undo()
    assert main([*words, f"out={tmp_path / 'part'}"]) == 0
    ours, theirs = (load_run_state(tmp_path / name) for name in ("part", "whole"))
    assert all(torch.equal(ours["model"][key], x) for key, x in theirs["model"].items())
    if "objective=moco" in words:
        queues = [state["contrast_queue"] for state in (ours, theirs)]
        assert torch.equal(*(queue["keys"] for queue in queues))
        assert queues[0]["next"] == queues[1]["next"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["contrast.keys=queu"], "did you mean queue?"),
        (["contrast.queue=100"], "contrast.queue=100 has no effect with contrast.keys=batch"),
        (
            ["contrast.keys=queue", "contrast.negatives=4"],
            "contrast.negatives=4 has no effect with contrast.keys=queue",
        ),
        (["objective=moco", "contrast.queue=73"], "contrast.queue=73 is more than the 72 clips of an epoch"),
        (["objective=npid", "contrast.negatives=36"], "contrast.negatives=36 draws from 36 training videos"),
        (["objective=npid", "contrast.released=[nce]"], "contrast.released=[nce] needs drawn negatives"),
        (["objective=npid", "contrast.axes.reversal=distinct"], "contrast.keys=bank has one key for each video"),
        (["objective=npid", "contrast.axes.sample=off"], "set contrast.axes.sample=distinct"),
        (["objective=moco", "contrast.stop_gradient=keys"], "contrast.stop_gradient=keys is for contrast.keys=batch"),
        (["objective=moco", "contrast.modalities=[video]", "contrast.axes.augmentation=off"], "without a positive"),
    ],
)
def test_wrong_keys_are_one_clear_line(data, words, said, tmp_path, capsys):
    task = [] if any(word.startswith("objective") for word in words) else ["task=gdt"]
    assert main(["train", *data[:-1], *TINY, f"out={tmp_path / 'run'}", *task, *words]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert error.count("\n") == 0
    assert not (tmp_path / "run").exists()
