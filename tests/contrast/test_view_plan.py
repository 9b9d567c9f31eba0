"""The clips of a composition, and groups of further clips."""

import numpy as np
import torch

from avssl.contrast.axes import ClipRequest
from avssl.contrast.composition import Composition, preset
from avssl.contrast.view_plan import ViewGroup, ViewPlan, by_shape


class Later(ViewGroup):
    """The audio of a second clip, half a second later, and the first one's negative."""

    name, modalities, clips, decoded = "later", ("audio",), 2, 1

    def required(self, clip_seconds):
        return clip_seconds + 0.5

    def sample(self, rng, duration, clip_seconds, first):
        return [ClipRequest(first.start + 0.5)], rng.random((2, 3)).astype(np.float32)

    def expand(self, given):
        return {"audio": torch.stack([-given.first["audio"], given.own["audio"]], 1).flatten(0, 1)}


def clips_of(videos: int, rows: int) -> dict[str, torch.Tensor]:
    return {name: torch.randn(videos * rows, *shape) for name, shape in {"video": (3, 2, 4, 4), "audio": (8,)}.items()}


def test_a_group_beside_a_composition_leaves_its_clips_as_they_are():
    composition = Composition(**preset(6))
    plan = ViewPlan(composition, (Later(),), ("video", "audio"))
    ours, theirs = (x.sample(np.random.default_rng(0), 9.0, 1.0) for x in (plan, composition))
    assert ours.requests[:2] == theirs.requests
    assert (ours.requests[2].start, len(ours.requests)) == (ours.requests[0].start + 0.5, plan.decoded)
    assert plan.required_seconds(1.0) == max(composition.required_seconds(1.0), 1.5)
    clips = clips_of(5, plan.decoded)
    values = {name: torch.from_numpy(np.stack([x] * 5)) for name, x in ours.values.items()}
    found = plan.expand(clips, values, None, None)
    kept = {name: x.unflatten(0, (5, 3))[:, :2].flatten(0, 1) for name, x in clips.items()}
    expected = composition.expand(kept, values)
    assert all(torch.equal(found.main[name], x) for name, x in expected.items())
    later = found.groups["later"]["audio"].unflatten(0, (5, 2))
    assert torch.equal(later[:, 1], clips["audio"].unflatten(0, (5, 3))[:, 2])
    assert torch.equal(later[:, 0], -clips["audio"].unflatten(0, (5, 3))[:, 0])


def test_without_a_composition_there_is_one_main_clip():
    plan = ViewPlan(None, (Later(),), ("video", "audio"))
    assert (plan.main, plan.further, plan.copies) == (1, 1, 1)
    views = plan.sample(np.random.default_rng(0), 9.0, 1.0)
    assert len(views.requests) == 2
    assert 0 <= views.requests[0].start <= 8


def test_parts_of_one_shape_are_encoded_together():
    shapes = {"a": (2, 3, 4), "b": (5, 3, 4), "c": (2, 3, 5), "d": (1, 3, 4)}
    parts = {name: torch.empty(shape) for name, shape in shapes.items()}
    assert by_shape(parts) == [["a", "b", "d"], ["c"]]
