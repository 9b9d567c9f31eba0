"""The axes, what a batch holds, and one-line errors."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from avssl.assets import assets_root
from avssl.config import ContrastConfig
from avssl.contrast.axes import AXES, Axis, Crop, Reversal, Speed, TimeShift
from avssl.contrast.composition import PRESETS, Composition, preset
from avssl.core.errors import ClipError, UserError

BASE = {"sample": "distinct", "modality": "invariant"}
VIEWS = ["time_shift", "speed", "augmentation", "reversal"]


@dataclass(frozen=True)
class Echo(Axis):
    """An axis of a user's own."""

    name: str = "echo"
    changes: frozenset[str] = frozenset({"audio"})

    def apply(self, frames, sound, level, values):
        return frames, sound if level == 0 else sound + 0.5 * sound.roll(1, -1)


def expected_cost(views):
    return 2 * 2 ** len(views)


@pytest.mark.parametrize("number", PRESETS)
def test_presets_build_only_the_levels_they_name(number):
    composition = Composition(**preset(number))
    named = PRESETS[number]
    plan = composition.plan(8)
    assert plan.decoded_per_video == (2 if "time_shift" in named else 1)
    assert plan.encoded == 8 * expected_cost(named)
    views = composition.sample(np.random.default_rng(0), 5.0, 1.0)
    assert len(views.requests) == plan.decoded_per_video
    assert set(views.values) == set(named) & {"reversal"}
    codes = composition.codes(torch.arange(8))
    assert len(codes) == plan.encoded == len(codes.unique(dim=0))
    assert composition.describe(8).count("\n") == 0
    assert "decoded" not in composition.describe(8, stored=True)  # a step on stored features decodes nothing


def test_the_group_files_are_the_presets():
    schema = OmegaConf.structured(ContrastConfig)
    folder = assets_root() / "configs" / "contrast"
    read = {p.stem: OmegaConf.to_object(OmegaConf.merge(schema, OmegaConf.load(p))) for p in folder.glob("*.yaml")}
    assert set(read) == {*(f"preset_{n}" for n in PRESETS), "simclr", "cross_modal"}
    for number in PRESETS:
        by_file = Composition.from_config(read[f"preset_{number}"])
        assert {n: r for n, r in by_file.axes.items() if r != "off"} == BASE | PRESETS[number]
        assert by_file.compare == "cross_modal"
    simclr = Composition.from_config(read["simclr"])
    assert simclr.columns == ("modality", "sample", "augmentation")
    assert simclr.plan(4) == (1, 2, 8)


def test_codes_are_in_the_order_of_the_clips():
    composition = Composition(BASE | {"reversal": "distinct", "time_shift": "distinct", "augmentation": "invariant"})
    assert composition.columns == ("modality", "sample", "time_shift", "augmentation", "reversal")
    videos = torch.tensor([7, 3, 11])
    codes = composition.codes(videos)
    decoded = torch.tensor([[[v, s] for s in range(2)] for v in videos]).flatten(0, 1)  # [B · 2, (video, shift)]
    assert composition.copies == 2
    assert composition.plain.tolist() == [True, False] * 4
    copied = decoded.float().repeat_interleave(composition.copies, 0)
    frames = copied[:, :, None, None, None].expand(-1, -1, 2, 1, 1).clone()
    frames[:, :, 1] += 0.5  # frame 1 follows frame 0
    values = {"reversal": torch.zeros(3, 2, 1)}
    expanded = composition.expand({"video": frames}, values)
    assert [*expanded] == ["video"]
    clips = expanded["video"]
    first_of_each = clips[:, :, 0, 0, 0]
    assert len(clips) == len(codes) / 2
    for half in (codes[: len(clips)], codes[len(clips) :]):
        assert torch.equal(first_of_each[:, 0].floor().long(), half[:, 1])
        assert torch.equal(first_of_each[:, 1].floor().long(), half[:, 2])
        assert torch.equal((first_of_each[:, 1] % 1 > 0).long(), half[:, 4])
    assert codes[:, 0].tolist() == [0] * 24 + [1] * 24


@settings(deadline=None, max_examples=50)
@given(
    st.floats(0.2, 3), st.floats(0, 2), st.floats(0, 20), st.integers(2, 4), st.integers(0, 1000), st.sampled_from("di")
)
def test_distinct_shifts_never_overlap(clip, gap, slack, levels, seed, role):
    distinct = role == "d"
    known = tuple(TimeShift(levels=levels, min_gap=gap) if a.name == "time_shift" else a for a in AXES)
    composition = Composition(BASE | {"time_shift": "distinct" if distinct else "invariant"}, known=known)
    needed = composition.required_seconds(clip)
    assert needed == pytest.approx(levels * clip + (levels - 1) * gap if distinct else clip)
    rng = np.random.default_rng(seed)
    starts = np.array([r.start for r in composition.sample(rng, needed + slack, clip).requests])
    assert len(starts) == levels
    assert starts.min() >= 0
    assert starts.max() + clip <= needed + slack + 1e-6
    assert not distinct or (np.diff(starts) >= clip + gap - 1e-9).all()
    with pytest.raises(ClipError, match=r"the clips need"):
        composition.sample(rng, needed - 0.1, clip)


def test_independent_shifts_may_overlap_and_have_no_order():
    config = ContrastConfig(released=["shifts"])
    config.axes.time_shift = "distinct"
    composition = Composition.from_config(config)
    assert composition.required_seconds(1.0) == 1.0
    rng = np.random.default_rng(0)
    starts = np.array([[r.start for r in composition.sample(rng, 3, 1).requests] for _ in range(4000)])
    assert starts.min() >= 0
    assert starts.max() <= 2
    assert (np.abs(np.diff(starts)) < 1).mean() == pytest.approx(0.75, abs=0.03)  # of a square of 2 s
    assert (starts[:, 0] < starts[:, 1]).mean() == pytest.approx(0.5, abs=0.03)
    assert abs(np.corrcoef(starts.T)[0, 1]) < 0.05
    config.min_gap = 0.5
    with pytest.raises(UserError, match=r"contrast.min_gap=0.5 .*remove shifts from"):
        Composition.from_config(config)


def test_plain_clips_are_those_that_show_the_video_as_it_is():
    for released in ([], ["reversal"]):
        config = ContrastConfig(released=released)
        for axis in ("time_shift", "reversal", "crop", "augmentation"):
            setattr(config.axes, axis, "invariant")
        composition = Composition.from_config(config)
        codes = composition.codes(torch.arange(3))
        changed = [composition.columns.index(axis) for axis in ("reversal", "crop")]
        expected = (codes[:, changed] == 0).all(1)
        assert torch.equal(composition.plain.repeat(6), expected)
        assert composition.copies == (4 if released else 2)


def test_distinct_shifts_reach_the_whole_video():
    composition = Composition(BASE | {"time_shift": "distinct"})
    rng = np.random.default_rng(0)
    starts = np.array([[r.start for r in composition.sample(rng, 6, 1).requests] for _ in range(2000)])
    assert starts[:, 0].min() < 0.1
    assert starts[:, 1].max() > 4.9
    assert np.corrcoef(starts.T)[0, 1] > 0.3  # neither is tied to the other


def test_speed_takes_as_much_of_the_file_as_it_plays():
    known = tuple(Speed(speeds=(1.0, 1.5, 2.0)) if a.name == "speed" else a for a in AXES)
    composition = Composition(BASE | {"speed": "distinct", "time_shift": "distinct"}, known=known)
    assert composition.plan(1) == (6, 12, 12)
    assert composition.required_seconds(1.0) == 4.0
    requests = composition.sample(np.random.default_rng(0), 4.0, 1.0).requests
    assert [r.speed for r in requests] == [1.0, 1.5, 2.0] * 2
    assert [r.start for r in requests] == pytest.approx([0.0] * 3 + [2.0] * 3)


def test_reversal_is_its_own_inverse_and_flips_time_alone():
    frames, sound, spectrogram = torch.rand(2, 3, 4, 5, 5), torch.rand(2, 30), torch.rand(2, 1, 8, 6)
    none = torch.zeros(2, 1)
    for heard in (sound, spectrogram):
        once = Reversal().apply(frames, heard, 1, none)
        assert torch.equal(once[0][:, :, 0], frames[:, :, -1])
        assert torch.equal(once[1][..., 0], heard[..., -1])
        twice = Reversal().apply(*once, 1, none)
        assert torch.equal(twice[0], frames)
        assert torch.equal(twice[1], heard)
    assert Reversal().apply(frames, sound, 0, none) == (frames, sound)


def test_crop_takes_the_square_it_says():
    height = torch.linspace(0, 1, 16).view(1, 1, 1, 16, 1).expand(2, 3, 4, 16, 16)
    values = torch.tensor([[1.0, 0.0, 0.0], [0.5, 1.0, -1.0]])  # all of it; the lower left quarter
    frames, _ = Crop().apply(height, None, 0, values)
    assert torch.allclose(frames[0], height[0], atol=1e-5)
    assert frames[1].min() > 0.45
    assert frames[1].max() == pytest.approx(1, abs=1e-5)
    width, _ = Crop().apply(height.transpose(3, 4), None, 0, values)
    assert width[1].max() < 0.55
    composition = Composition(BASE | {"crop": "invariant"})
    drawn = composition.sample(np.random.default_rng(0), 2, 1).values["crop"]
    assert drawn.shape == (2, 3)
    clips = {"video": height, "audio": torch.rand(2, 9), "text": torch.rand(2, 5)}
    found = composition.expand(clips, {"crop": torch.from_numpy(np.stack([drawn] * 2))})
    assert found["video"].shape == (4, 3, 4, 16, 16)
    assert found["audio"].shape == (4, 9)
    assert torch.equal(found["text"], clips["text"].repeat_interleave(2, 0))  # a third modality is left as it is


def test_an_axis_of_ones_own():
    config = ContrastConfig(custom_axes=[f"{__name__}:Echo:invariant"])
    composition = Composition.from_config(config)
    assert composition.columns == ("modality", "sample", "echo")
    found = composition.expand({"audio": torch.eye(2, 4)}, {"echo": torch.zeros(2, 2, 1)})
    assert found["audio"].tolist() == [[1, 0, 0, 0], [1, 0.5, 0, 0], [0, 1, 0, 0], [0, 1, 0.5, 0]]
    for bad, match in ((":Echo", "no axis at"), (f"{__name__}:Ech:distinct", "no axis at"), ("os::x", "no axis at")):
        with pytest.raises(UserError, match=match):
            Composition.from_config(ContrastConfig(custom_axes=[bad]))
    with pytest.raises(UserError, match=r"echo=distinct does not change video"):
        Composition.from_config(ContrastConfig(custom_axes=[f"{__name__}:Echo:distinct"]))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"axes": BASE | {"time_shfit": "distinct"}}, "did you mean time_shift"),
        ({"axes": BASE | {"reversal": "invarient"}}, "did you mean invariant"),
        ({"axes": BASE, "compare": "crossmodal"}, "did you mean cross_modal"),
        ({"axes": BASE, "denominator": "some"}, "contrast.denominator some is unknown"),
        ({"axes": BASE, "stop_gradient": "key"}, "did you mean keys"),
        ({"axes": {"sample": "distinct", "modality": "distinct"}}, "leaves a clip without a positive"),
        ({"axes": BASE, "modalities": ("video",)}, "within_modal"),
        ({"axes": BASE, "compare": "within_modal"}, "without a positive: every axis is distinct or off"),
        ({"axes": BASE | {"reversal": "distinct"}, "compare": "within_modal"}, "make one invariant"),
        ({"axes": {"sample": "distinct", "modality": "distinct"}, "compare": "all"}, "without a positive"),
        ({"axes": {"sample": "distinct"}}, "modality=off with more than one modality"),
        ({"axes": BASE | {"crop": "distinct"}}, "does not change audio"),
        ({"axes": BASE, "modalities": ("video", "video")}, "name each modality once"),
    ],
)
def test_a_wrong_composition_is_one_clear_line(options, match):
    with pytest.raises(UserError, match=match) as caught:
        Composition(**options)
    assert "\n" not in str(caught.value)


def test_contradictory_options_are_one_clear_line():
    own = ContrastConfig(custom_axes=[f"{__name__}:Echo:invariant"] * 2)
    with pytest.raises(UserError, match=r"the name echo is taken"):
        Composition.from_config(own)
    for speeds in ([], [1, 1], [1, 0], [float("nan"), 1], [1e-9, 1]):
        with pytest.raises(UserError, match="different playback speeds"):
            Composition.from_config(ContrastConfig(speeds=speeds))


@dataclass(frozen=True)
class Wrong(Echo):
    """Axes of a user's own that are not what they say."""

    fault: str = ""

    def sample(self, rng, duration, clip, distinct):
        return np.zeros((self.levels + (self.fault == "values"), 1))

    def apply(self, frames, sound, level, values):
        if level == 0:
            return frames, sound
        return {"shape": (frames, sound[:, 1:]), "dropped": (frames, None)}.get(self.fault, (frames, sound))


class NotAnAxis:
    pass


def test_an_axis_that_breaks_its_word_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "torn_axis.py").write_text("class Axis(:")
    for own, match in (
        ("torn_axis:Axis:invariant", "no axis at torn_axis:Axis"),
        (f"{__name__}:NotAnAxis:invariant", "is not an avssl.contrast.axes.Axis"),
    ):
        with pytest.raises(UserError, match=match):
            Composition.from_config(ContrastConfig(custom_axes=[own]))
    roles = BASE | {"echo": "invariant"}
    with pytest.raises(UserError, match="did you mean free"):
        Composition(roles, known=(*AXES, Wrong(stage="fre")))
    with pytest.raises(UserError, match="the axis echo has 0 levels"):
        Composition(roles, known=(*AXES, Wrong(levels=0)))
    with pytest.raises(UserError, match=r"the axis echo has 2 levels, but sample\(\) gave 3"):
        Composition(roles, known=(*AXES, Wrong(fault="values"))).sample(np.random.default_rng(0), 2, 1)
    for fault in ("shape", "dropped"):
        with pytest.raises(UserError, match=r"the axis echo: apply\(\) must keep"):
            Composition(roles, known=(*AXES, Wrong(fault=fault))).expand(
                {"audio": torch.rand(2, 9)}, {"echo": torch.zeros(2, 2, 1)}
            )


@pytest.mark.parametrize(
    ("axes", "settings", "match"),
    [
        ({"sample": "invariant"}, {"keys": "queue"}, "set contrast.axes.sample=distinct"),
        ({"reversal": "distinct"}, {"keys": "bank"}, "set contrast.axes.reversal=invariant or off"),
        ({"modality": "distinct"}, {"keys": "bank", "compare": "all"}, "set contrast.axes.modality=invariant"),
        ({}, {"keys": "queue", "stop_gradient": "keys"}, "contrast.stop_gradient=keys is for contrast.keys=batch"),
        ({}, {"keys": "bank", "form": "released"}, r"contrast.released=\[loss\] is for contrast.keys=batch"),
        ({}, {"keys": "queue", "compare": "within_modal"}, "leaves a clip without a positive"),
        ({}, {"keys": "memory"}, "contrast.keys memory is unknown"),
    ],
)
def test_stored_keys_have_the_compositions_that_they_can(axes, settings, match):
    with pytest.raises(UserError, match=match):
        Composition(BASE | axes, **settings)
    assert Composition(BASE, "within_modal", keys="bank").keys == "bank"  # its own key is the clip's positive


roles = st.fixed_dictionaries(
    {"sample": st.just("distinct"), "modality": st.sampled_from(["distinct", "invariant"])},
    optional={name: st.sampled_from(["distinct", "invariant"]) for name in VIEWS},
)


@settings(deadline=None, max_examples=200)
@given(roles, st.sampled_from(["cross_modal", "within_modal", "all"]), st.sampled_from([1, 2]))
def test_a_composition_is_refused_exactly_when_an_anchor_has_no_positive(axes, compare, modalities):
    views = [name for name in VIEWS if name in axes]
    names = ["modality", *views]
    clips = [(m, *rest) for m in range(modalities) for rest in np.ndindex(*[2] * len(views))]

    def is_positive(s, t):
        same = all(s[i] == t[i] for i, name in enumerate(names) if axes[name] == "distinct")
        may = {"cross_modal": s[0] != t[0], "within_modal": s[0] == t[0], "all": True}[compare]
        return s != t and same and may

    complete = all(any(is_positive(s, t) for t in clips) for s in clips)
    try:
        Composition(axes, compare, modalities=("video", "audio")[:modalities])
    except UserError:
        assert not complete
    else:
        assert complete
