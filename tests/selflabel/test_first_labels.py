"""First labels by k-means of features: they find groups that are there, with the sizes that are asked for."""

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from avssl.config import LabellingConfig
from avssl.selflabel import first_labels, kmeans_labeller
from avssl.selflabel.first_labels import first_pass
from avssl.selflabel.labeller import UNLABELLED, PassFeatures
from avssl.selflabel.transport_labeller import TransportLabeller

GROUPS, EACH = 4, 30
TRUTH = np.arange(GROUPS).repeat(EACH)


def groups_apart(noise: float = 0.1, seed: int = 0) -> PassFeatures:
    """Features around a direction for each group; the heads' own logits are noise."""
    rng = torch.Generator().manual_seed(seed)
    features = {
        name: torch.nn.functional.normalize(torch.randn(GROUPS, 16, generator=rng))[TRUTH]
        + noise * torch.randn(GROUPS * EACH, 16, generator=rng)
        for name in ("video", "audio")
    }

    def chance(head: int, parts: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: torch.randn(len(x), GROUPS) for name, x in parts.items()}

    return PassFeatures(torch.arange(GROUPS * EACH), features, chance)


def labelled(outputs: PassFeatures, method: str = "kmeans", **options) -> TransportLabeller:
    config = LabellingConfig(**{"clusters": GROUPS, "heads": 2, "passes": 3} | options)
    ours = TransportLabeller(GROUPS * EACH, config, 90)

    def first(pass_: PassFeatures, heads: list[int]) -> PassFeatures:
        return first_pass(pass_, method, GROUPS, {head: 7 + head for head in heads}, weights=ours.weights_of)

    ours.solve([outputs], first=first)
    return ours


@pytest.mark.parametrize("method", ["kmeans", "prototypes"])
@pytest.mark.parametrize("memory", ["full", "stream"])
def test_groups_that_are_there_are_the_first_labels(method, memory):
    ours = labelled(groups_apart(), method, memory=memory)
    for head in range(2):
        assert adjusted_rand_score(TRUTH, ours.labels[:, head]) == 1
    assert ours.costs.isfinite().all()


def test_prototypes_join_what_one_centre_cannot_hold():
    """Each group is two clouds; centres of four clusters would often take clouds of different groups together."""
    rng = torch.Generator().manual_seed(0)
    places = torch.nn.functional.normalize(torch.randn(GROUPS, 12, generator=rng))
    apart = 0.35 * torch.nn.functional.normalize(torch.randn(2 * GROUPS, 12, generator=rng))
    cloud = np.arange(2 * GROUPS).repeat(EACH // 2)
    x = places[cloud // 2] + apart[cloud] + 0.02 * torch.randn(len(cloud), 12, generator=rng)
    outputs = PassFeatures(torch.arange(len(cloud)), {"video": x}, groups_apart().logits)
    ours = labelled(outputs, "prototypes")
    assert adjusted_rand_score(TRUTH, ours.labels[:, 0]) == 1


def test_sizes_are_those_that_are_asked_for():
    ours = labelled(groups_apart(noise=0.6), marginal="given", sizes=["60", "30", "20", "10"])
    for head in range(2):
        sizes = sorted(torch.bincount(ours.labels[:, head].long(), minlength=GROUPS).tolist())
        assert all(abs(a - b) <= 2 for a, b in zip(sizes, [10, 20, 30, 60], strict=True))


def other_groups_by_audio() -> PassFeatures:
    """The video has the groups of `TRUTH`; the audio has others, closer together, that k-means of both would take."""
    rng = torch.Generator().manual_seed(1)
    other = torch.randperm(len(TRUTH), generator=rng).numpy()
    video = torch.randn(GROUPS, 16, generator=rng)[TRUTH] + 0.5 * torch.randn(len(TRUTH), 16, generator=rng)
    audio = torch.randn(GROUPS, 16, generator=rng)[TRUTH[other]] + 0.1 * torch.randn(len(TRUTH), 16, generator=rng)
    return PassFeatures(torch.arange(len(TRUTH)), {"video": video, "audio": audio}, groups_apart().logits)


def test_a_modality_of_weight_0_does_not_count_in_the_first_labels():
    both, alone = other_groups_by_audio(), other_groups_by_audio()
    del alone.features["audio"]
    ours, theirs = labelled(both, modality_weights=["video:2", "audio:0"]), labelled(alone)
    assert torch.equal(ours.labels, theirs.labels)
    assert adjusted_rand_score(TRUTH, ours.labels[:, 0]) > 0.95
    assert adjusted_rand_score(TRUTH, labelled(both).labels[:, 0]) < 0.9


def test_equal_weights_change_no_bit_of_the_first_labels():
    outputs = other_groups_by_audio()
    one, two = torch.ones(()), first_pass(outputs, "kmeans", GROUPS, {0: 7})
    weighed = first_pass(outputs, "kmeans", GROUPS, {0: 7}, weights=lambda head: {"video": one, "audio": one})
    assert torch.equal(weighed.block(0, 0, 50)["both"], two.block(0, 0, 50)["both"])


def test_soft_targets_weigh_the_modalities_as_labels_do():
    """Where audio has no weight, what it says moves neither the labels nor the soft targets."""
    rng = torch.Generator().manual_seed(2)
    features = {name: torch.randn(GROUPS * EACH, GROUPS, generator=rng) for name in ("video", "audio")}
    index = torch.arange(GROUPS * EACH)
    options = {"clusters": GROUPS, "passes": 3, "soft": 1.0, "lam": 3.0, "modality_weights": ["video:2", "audio:0"]}
    found = []
    for loudness in (1.0, 5.0):
        parts = {"video": features["video"], "audio": loudness * features["audio"]}
        ours = TransportLabeller(GROUPS * EACH, LabellingConfig(heads=1, **options), 90)
        ours.solve([PassFeatures(index, parts, lambda head, x: x)])
        found.append((ours.labels, ours.soft_targets(index, 0)))
        assert torch.equal(found[-1][1][0].argmax(-1), ours.labels[:, 0].long())
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1], atol=1e-3, rtol=0)


def test_heads_begin_from_different_starts():
    ours = labelled(groups_apart(noise=3.0))
    assert adjusted_rand_score(ours.labels[:, 0], ours.labels[:, 1]) < 0.9


def test_a_sample_of_the_videos_is_enough(monkeypatch):
    monkeypatch.setattr(first_labels, "MOST_VIDEOS", 40)
    ours = labelled(groups_apart())
    assert adjusted_rand_score(TRUTH, ours.labels[:, 0]) == 1


def test_more_clusters_than_videos_that_could_be_decoded():
    outputs = groups_apart()
    few = PassFeatures(outputs.index[:3], {n: x[:3] for n, x in outputs.features.items()}, outputs.logits)
    found = first_pass(few, "kmeans", GROUPS, {0: 0}).block(0, 0, 3)["both"]
    assert found.shape == (3, GROUPS)
    assert found.isfinite().all()


def test_soft_targets_are_the_rows_of_the_plan_until_labels_take_over():
    ours = labelled(groups_apart(noise=0.5), soft=0.5, lam=3.0)
    index = torch.tensor([3, 50, 119])
    q = ours.soft_targets(index, 0)
    assert q.shape == (2, 3, GROUPS)
    torch.testing.assert_close(q.sum(-1), torch.ones(2, 3), atol=2e-3, rtol=0)
    assert torch.equal(q.argmax(-1), ours.targets(index, "video"))
    assert float(q.amax(-1).min()) < 0.99
    masses = ours.plan.float().mean(0)
    torch.testing.assert_close(masses, torch.full((2, GROUPS), 1 / GROUPS), atol=2e-3, rtol=0)
    assert ours.soft_targets(index, 45) is None  # half of 90 steps
    ours.done = 2  # the last pass, at step 90
    ours.solve([groups_apart()])
    assert ours.plan is None


def test_a_video_without_a_label_has_no_soft_target():
    outputs = groups_apart()
    part = PassFeatures(outputs.index[1:], {n: x[1:] for n, x in outputs.features.items()}, outputs.logits)
    ours = labelled(part, soft=1.0)
    assert (ours.labels[0] == UNLABELLED).all()
    assert not ours.soft_targets(torch.tensor([0]), 0).any()


def test_lambda_grows_by_a_constant_factor_to_the_last_pass():
    ours = TransportLabeller(60, LabellingConfig(clusters=4, passes=4, lam=16.0, lam_start=2.0, exponent=1.0), 90)
    found = []
    for ours.done in range(5):
        found.append(ours.lam)
    np.testing.assert_allclose(found, [2, 4, 8, 16, 16])
    ours = TransportLabeller(60, LabellingConfig(clusters=4, lam=16.0), 90)
    assert ours.lam == 16


def test_passes_are_spread_over_the_steps_after_the_start():
    ours = TransportLabeller(60, LabellingConfig(clusters=4, passes=3, exponent=1.0, start=0.6), 100)
    assert ours.steps == [60, 80, 100]
    assert not ours.due(59)
    assert ours.due(60)


@pytest.mark.parametrize("method", ["kmeans", "prototypes"])
def test_many_videos_get_as_good_first_labels(method, monkeypatch):
    """Above the number for which all processes compute k-means together."""
    monkeypatch.setattr(kmeans_labeller, "TOGETHER_ABOVE", 20)
    ours = labelled(groups_apart(), method)
    for head in range(2):
        assert adjusted_rand_score(TRUTH, ours.labels[:, head]) == 1
