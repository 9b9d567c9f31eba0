"""Predicted axes: the loss against its formula, two processes against one, resume, the user's own axis, and errors."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.nn import functional as F

from avssl.clips.loader import load
from avssl.clips.transform import DeviceTransform
from avssl.config import TrainConfig
from avssl.config.compose import compose_config
from avssl.contrast.axes import ClipRequest, Speed, Sync, TimeShift
from avssl.contrast.patches import smallest_frame
from avssl.contrast.predicted_views import group_of
from avssl.core.collectives import rank_slice
from avssl.core.errors import UserError
from avssl.objectives.build import build_model, make_plan
from avssl.objectives.objective import Context, EncodedBatch, ExtraViews
from avssl.objectives.prediction import Prediction, pairs, terms
from avssl.train.check_options import check
from avssl.train.check_predicted import check_resampling
from avssl.train.run_state import RunState
from tests.conftest import made_with_features
from tests.processes import run_together

TINY = ["experiment=tiny", "workers=0", "threads=1", "precision=float32", "device=cpu", "data.root=x"]
SHORT = ["clip.fps=8", "clip.audio_seconds=0.5"]
ALL = ["loss.rotation=1", "loss.arrow=2", "loss.pace=0.5", "loss.context=1", "loss.order=1", "loss.sync=3", *SHORT,
       "clip.audio_rate=16000", "task=none"]  # fmt: skip
OWN = """
from dataclasses import dataclass
from avssl.contrast.axes import Axis

@dataclass(frozen=True)
class Echo(Axis):
    name: str = "echo"
    levels: int = 3
    changes: frozenset = frozenset({"audio"})

    def apply(self, frames, sound, level, values):
        return frames, sound if level == 0 else sound + 0.5 * level * sound.roll(3, -1)

@dataclass(frozen=True)
class Lonely(Axis):
    name: str = "lonely"
    levels: int = 1

@dataclass(frozen=True)
class Small(Echo):
    name: str = "small"
"""


def config_of(*words: str) -> TrainConfig:
    return compose_config("train", TrainConfig, [*TINY, *words])


def objective(config: TrainConfig, batch: int) -> Prediction:
    torch.manual_seed(0)
    model, cpu = build_model(config), torch.device("cpu")
    return Prediction(Context(config, model, cpu, DeviceTransform(config.clip, cpu), 20, 100, batch))


def encoded(made: Prediction, videos: int, main: int = 2) -> EncodedBatch:
    """Random features of `videos` videos, with `main` main clips each."""
    generator = torch.Generator().manual_seed(1)

    def features(clips: int) -> dict[str, torch.Tensor]:
        widths = made.model.widths.items()
        return {name: torch.randn(videos * clips, width, generator=generator) for name, width in widths}

    extra = {}
    for term in made.terms:
        rng = np.random.default_rng(0)
        drawn = [term.group.sample(rng, 9.0, 0.5, ClipRequest(rng.random() * 8))[1] for _ in range(videos)]
        values = torch.from_numpy(np.stack(drawn))
        extra[term.group.name] = ExtraViews({}, features(term.group.clips), values)
    return EncodedBatch({}, features(main), torch.arange(videos), extra=extra)


def part(batch: EncodedBatch, rows: slice, videos: int) -> EncodedBatch:
    def of(x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(0, (videos, -1))[rows].flatten(0, 1).clone().requires_grad_()

    extra = {
        name: ExtraViews({}, {m: of(x) for m, x in views.features.items()}, views.values[rows])
        for name, views in batch.extra.items()
    }
    return EncodedBatch({}, {m: of(x) for m, x in batch.features.items()}, batch.index[rows], extra=extra)


def test_the_loss_is_the_weighted_sum_of_the_formulas():
    made = objective(config_of(*ALL), 5)
    batch, heads = encoded(made, 5), made.model.heads["prediction"]
    loss, logged = made.loss(batch, True)
    expected = {}
    for axis, own in (("rotation", 4), ("reversal", 1), ("speed", 2)):
        for name in ("video",) if axis == "rotation" else ("video", "audio"):
            clips = batch.extra[axis].features[name].view(5, own, -1)
            if axis == "reversal":
                clips = torch.cat([batch.features[name].view(5, 2, -1)[:, :1], clips], 1)
            each = [
                F.cross_entropy(heads[f"{axis}_{name}"](clips[:, level]), torch.full((5,), level))
                for level in range(clips.shape[1])
            ]
            expected[axis, name] = torch.stack(each).mean()
    patch = batch.extra["context"].features["video"].view(5, 2, -1)
    places = batch.extra["context"].values[:, 1, 0].long() - 1
    assert places.min() >= 0
    assert places.max() < 8
    expected["context", "video"] = F.cross_entropy(heads["context_video"](patch.flatten(1)), places)
    later = batch.extra["time_shift"].values[:, 0, 0].long()
    for name in ("video", "audio"):
        f, g = batch.features[name][::2], batch.extra["time_shift"].features[name]
        head = heads[f"time_shift_{name}"]
        both = (
            F.cross_entropy(head(torch.cat([f, g], 1)), later),
            F.cross_entropy(head(torch.cat([g, f], 1)), 1 - later),
        )
        expected["time_shift", name] = (both[0] + both[1]) / 2
    video, audio = batch.features["video"][::2], batch.features["audio"][::2]
    other = batch.extra["sync"].features["audio"]
    fit, no = (heads["sync"](torch.cat([video, x], 1)).log_softmax(1) for x in (audio, other))
    expected["sync", "both"] = -(fit[:, 1].mean() + no[:, 0].mean()) / 2
    weights = {"rotation": 1, "reversal": 2, "speed": 0.5, "context": 1, "time_shift": 1, "sync": 3}
    total = torch.zeros(())
    for axis, weight in weights.items():
        mean = torch.stack([x for (name, _), x in expected.items() if name == axis]).mean()
        total = total + weight * mean
    torch.testing.assert_close(loss, total, atol=1e-5, rtol=1e-5)
    assert {"reversal_accuracy_audio", "sync_accuracy", "context_loss_video"} <= logged.keys()


def test_a_pair_in_both_orders_has_both_classes():
    clips = torch.arange(4.0).view(2, 2, 1)
    x, classes, per_video = pairs(clips, torch.tensor([[1], [0]]), both_orders=True)
    assert x.tolist() == [[0, 1], [1, 0], [2, 3], [3, 2]]
    assert classes.tolist() == [1, 0, 0, 1]
    assert per_video == 2


@pytest.mark.parametrize(("axis", "apart"), [(TimeShift(min_gap=0.3), 1.3), (Sync(), 0.5)])
def test_the_time_of_a_clip_does_not_tell_which_it_is(axis, apart):
    """Both starts are uniform, at least so far apart, and exchangeable."""
    group, rng = group_of(axis, ["video", "audio"]), np.random.default_rng(0)
    needed = group.required(1.0)
    assert needed == pytest.approx(1 + 2 * apart)
    for duration in (needed, needed + 2.0):
        starts = []
        for _ in range(4000):
            first = ClipRequest(rng.random() * (duration - 1))
            (other,), values = group.sample(rng, duration, 1.0, first)
            assert -1e-9 <= other.start <= duration - 1 + 1e-9
            assert abs(other.start - first.start) >= apart - 1e-9
            assert values.tolist() == [[float(other.start > first.start)]]
            starts.append((first.start, other.start))
        ours, theirs = (np.sort(column) / (duration - 1) for column in np.array(starts).T)
        assert np.abs(theirs - np.linspace(0, 1, 4000)).max() < 0.035  # Kolmogorov's test, 1 in 10,000
        assert np.abs(ours - theirs).max() < 0.05


def test_a_faster_clip_lies_inside_the_video():
    group, rng = group_of(Speed(speeds=(1.0, 0.5, 3.0)), ["video"]), np.random.default_rng(0)
    assert group.required(2.0) == 6
    for _ in range(50):
        requests, _ = group.sample(rng, 7.0, 2.0, ClipRequest(4.9))
        assert [x.speed for x in requests] == [1.0, 0.5, 3.0]
        assert all(0 <= x.start <= 1 for x in requests)


def test_the_time_of_a_clip_does_not_tell_its_speed():
    plan, rng = make_plan(config_of("objective=pace")), np.random.default_rng(0)
    starts = np.array([[x.start for x in plan.sample(rng, 2.5, 1.0).requests[plan.main :]] for _ in range(4000)])
    first, second = np.sort(starts.T)
    assert np.abs(first - second).max() < 0.05


def _process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    made = objective(config_of(*ALL), 5)
    whole = encoded(made, 5)
    rows = rank_slice(5)
    batch = part(whole, slice(rows.start, rows.stop), 5)
    loss, _ = made.loss(batch, False)
    loss.backward()
    heads = {name: p.grad for name, p in made.model.heads.named_parameters() if p.grad is not None}
    for x in heads.values():
        dist.all_reduce(x)
    total = loss.detach().clone()
    dist.all_reduce(total)
    clips = {name: x.grad for name, x in batch.extra["sync"].features.items()}
    torch.save((total / 2, {name: x / 2 for name, x in heads.items()}, clips), f"{folder}/{rank}.pt")
    dist.barrier()
    os._exit(0)


def test_two_processes_of_different_sizes_equal_one(tmp_path):
    run_together(_process, (str(tmp_path),), 2)
    made = objective(config_of(*ALL), 5)
    batch = part(encoded(made, 5), slice(0, 5), 5)
    loss, _ = made.loss(batch, False)
    loss.backward()
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    torch.testing.assert_close(parts[0][0], loss.detach(), atol=1e-6, rtol=1e-5)
    for name, p in made.model.heads.named_parameters():
        torch.testing.assert_close(parts[0][1][name], p.grad, atol=1e-6, rtol=1e-5)
    joined = torch.cat([x[2]["audio"] for x in parts]) / 2  # the mean over processes is taken of the gradients
    torch.testing.assert_close(joined, batch.extra["sync"].features["audio"].grad, atol=1e-6, rtol=1e-5)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """36 training videos of 2.2 s or more."""
    return made_with_features(tmp_path_factory)[0]


def test_all_axes_and_an_own_one_train_and_resume_bit_for_bit(data, tmp_path, monkeypatch):
    (tmp_path / "own_predicted.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    own = "contrast.custom_axes=[own_predicted:Echo:predicted]"
    config = config_of(*data, *ALL, own, "optim.batch=4")

    def stepped(state: RunState, steps: int) -> list[dict]:
        batches, found = load(state.dataset, state.requests(), 0), []
        for _ in range(steps):
            state.begin_step()
            loss, logged = state.forward(next(batches), True)
            state.backward(loss)
            state.update(True)
            found.append({name: float(x.detach()) for name, x in logged.items()})
        return found

    def begun() -> RunState:
        torch.manual_seed(0)
        state = RunState(config, torch.device("cpu"))
        state.begin({}, Path())
        return state

    whole = begun()
    expected = stepped(whole, 3)
    assert {"echo_loss_audio", "echo_accuracy_audio"} <= expected[0].keys()
    assert whole.model.heads["prediction"]["echo_audio"].out_features == 3
    first = begun()
    stepped(first, 2)
    shared, own_state = first.shared_state(), first.rank_state()
    torch.save((shared, own_state), tmp_path / "state.pt")
    shared, own_state = torch.load(tmp_path / "state.pt", weights_only=False)
    resumed = RunState(config, torch.device("cpu"))
    resumed.begin(shared, Path())
    resumed.model.load_state_dict(shared["model"])
    resumed.optimizer.load_state_dict(shared["optimizer"])
    resumed.step = shared["step"]
    assert stepped(resumed, 1) == expected[2:]
    ours, theirs = resumed.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(ours[name], x) for name, x in theirs.items())


ERRORS = {
    "no video": (["objective=rotation", "contrast.modalities=[audio]", "contrast.compare=within_modal"], "needs video"),
    "one modality": (["objective=sync", "contrast.modalities=[video]"], "set contrast.modalities=[video,audio]"),
    "two roles": (["objective=arrow", "contrast.axes.reversal=distinct"], "contrast.axes.reversal=distinct compares"),
    "small frames": (["objective=context", "clip.crop=32"], "set clip.crop=34 or more"),
    "one speed": (["objective=pace", "contrast.speeds=[1]"], "such as [1,2]"),
    "another first speed": (["objective=pace", "contrast.speeds=[2,1]"], "such as [1,2]"),
    "sync of the earlier clip": (["task=gdt", "contrast=preset_4", "loss.sync=1"], "contrast.axes.time_shift=off"),
    "order of fast clips": (
        ["task=gdt", "loss.order=1", "contrast.axes.speed=invariant", "contrast.speeds=[2,1]"], "such as [1,2]"
    ),
    "stored features": (["objective=arrow", "data.features=x.parquet"], "train on the videos"),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_what_cannot_be_predicted_is_one_line_before_training(case):
    words, message = ERRORS[case]
    with pytest.raises(UserError) as error:
        check(config_of(*words))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("axis", ["sample", "modality", "augmentation", "crop"])
def test_some_axes_have_nothing_to_predict(axis):
    with pytest.raises(UserError, match=f"contrast.axes.{axis}"):
        config_of(f"contrast.axes.{axis}=predicted")


def test_an_axis_needs_levels_and_modalities(tmp_path, monkeypatch):
    (tmp_path / "own_predicted_2.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match="lonely has 1 level"):
        terms(config_of("task=none", "contrast.custom_axes=[own_predicted_2:Lonely:predicted]"))
    with pytest.raises(UserError, match="the name small is taken"):
        terms(config_of("task=none", "contrast.custom_axes=[own_predicted_2:Small:predicted]"))
    silent = ["task=none", "contrast.modalities=[video]", "contrast.custom_axes=[own_predicted_2:Echo:predicted]"]
    with pytest.raises(UserError, match="echo changes audio, but the run encodes video"):
        terms(config_of(*silent))


@pytest.mark.parametrize(("name", "needed"), [("order", 3.0), ("sync", 2.0), ("pace", 2.0), ("arrow", 1.0)])
def test_the_shortest_video_has_room_for_all_clips(name, needed):
    plan = make_plan(config_of(f"objective={name}"))
    assert plan is not None
    assert plan.required_seconds(1.0) == pytest.approx(needed)


def test_videos_too_short_for_two_clips_are_one_line(data):
    with pytest.raises(UserError, match="data.min_seconds=3"):
        RunState(config_of(*data, "objective=order"), torch.device("cpu"))


def test_resampling_that_tells_the_speed_is_one_line():
    pa = pytest.importorskip("pyarrow")
    rows = pa.table({"fps": [25.0, 30.0, 0.0], "audio_rate": [44100, 24000, 48000]})
    fine = ["objective=pace", "clip.fps=25"]
    check_resampling(config_of(*fine), rows)
    with pytest.raises(UserError, match=r"^1 of 3 videos have fewer frames .* set clip.fps=25 or less$"):
        check_resampling(config_of("objective=pace", "clip.fps=30"), rows)
    with pytest.raises(UserError, match=r"set clip.fps=12.5 or less"):
        check_resampling(config_of(*fine, "contrast.speeds=[1,0.5]"), rows)
    with pytest.raises(UserError, match=r"^the audio of 1 of 3 videos \(from 24000 Hz\) .* set clip.audio_rate=22050$"):
        check_resampling(config_of(*fine, "clip.audio_rate=24000"), rows)
    check_resampling(config_of("objective=arrow", "clip.fps=60"), rows)


def test_the_smallest_frame_of_the_check_is_that_of_the_patches():
    from avssl.config.contrast import CONTEXT_CROP

    assert smallest_frame() == CONTEXT_CROP
