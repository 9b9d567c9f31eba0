"""Clusters numbered apart are numbered alike; and what heads themselves say: agreement, spread, collapse."""

import numpy as np
import pytest
import torch

from avssl.selflabel.alignment import common_numbering
from avssl.selflabel.head_opinions import (
    FEW_CLUSTERS,
    ONE_CLUSTER,
    UNRELATED,
    Opinion,
    adjusted_information,
    collapse,
    opinion,
    spread_of,
)

K = 6


def logits_of(labels, sure=5.0):
    return sure * torch.eye(K)[torch.as_tensor(labels)]


def test_a_numbering_is_undone_exactly_and_head_by_head():
    rng = np.random.default_rng(0)
    first = torch.from_numpy(rng.integers(K, size=(300, 2)))
    orders = torch.stack([torch.from_numpy(rng.permutation(K)) for _ in range(2)])  # cluster k is cluster order[k]
    second = torch.stack([orders[h][first[:, h]] for h in range(2)], 1)
    second[rng.random((300, 2)) < 0.2] = 0  # noise
    first[:5] = -1
    assert torch.equal(common_numbering(first, second, K), orders)


def test_copies_of_one_labelling_keep_their_numbers_empty_clusters_too():
    labels = torch.tensor([[0], [0], [2], [5], [-1]])
    assert common_numbering(labels, labels, K).tolist() == [list(range(K))]
    assert common_numbering(torch.full((4, 1), -1), labels[:4], K).tolist() == [list(range(K))]


def test_a_numbering_is_that_of_all_processes():
    rng = np.random.default_rng(1)
    tables = [torch.from_numpy(rng.integers(K, size=(40, 1))) for _ in range(2)]
    whole = common_numbering(*tables, K)
    seen = []
    for rows in (slice(0, 25), slice(25, 40)):
        common_numbering(*(table[rows] for table in tables), K, lambda x: seen.append(x.clone()) or x)
    assert torch.equal(common_numbering(*(t[:25] for t in tables), K, lambda x: seen[0] + seen[1]), whole)


def test_an_opinion_of_two_modalities():
    truth = np.arange(240) % 4
    video, audio = truth.copy(), truth.copy()
    audio[:60] = 0
    blocks = [{"video": logits_of(video[at]), "audio": logits_of(audio[at])} for at in (slice(0, 100), slice(100, 240))]
    found = opinion(blocks, K, per_modality=True)
    assert found.agreement == pytest.approx(adjusted_information(_table(video, audio)))
    assert 0.5 < found.agreement < 1
    assert found.together == pytest.approx(0.25)
    assert 3.5 < found.spread <= 4
    order = torch.tensor([3, 4, 5, 0, 1, 2])  # cluster k of the video is cluster order[k] of the audio
    apart = [{"video": b["video"], "audio": b["audio"][:, order.argsort()]} for b in blocks]
    assert opinion(apart, K, per_modality=True, numbering=order) == found


def test_agreement_does_not_change_with_the_scale_of_the_logits():
    generator = torch.Generator().manual_seed(0)
    z = {name: torch.randn(200, K, generator=generator) + logits_of(np.arange(200) % K, 1.0) for name in "va"}
    pairs = [{"video": s * z["v"], "audio": s * z["a"]} for s in (1.0, 10.0)]
    once, ten = (opinion([pair], K, per_modality=True) for pair in pairs)
    assert once.agreement == ten.agreement


def test_one_evidence_has_no_agreement():
    found = opinion([{"video": logits_of([0, 1, 2, 2])}], K, per_modality=False)
    assert (found.agreement, found.together) == (None, None)
    assert found.spread == pytest.approx(2.828, abs=1e-3)


def test_two_labellings_of_one_cluster_say_nothing_of_each_other():
    assert adjusted_information(np.array([[50, 0], [0, 0]])) == 0
    assert adjusted_information(np.array([[25, 25], [0, 0]])) == 0
    assert adjusted_information(np.zeros((2, 2), int)) == 0
    assert spread_of(np.zeros(3, int)) == 0


@pytest.mark.parametrize(
    ("spread", "together", "ami", "asked", "way"),
    [
        (9.5, 0.1, 0.8, 10, ""),
        (1.1, 0.95, 0.8, 10, ONE_CLUSTER),
        (2.4, 0.6, 0.8, 10, FEW_CLUSTERS),
        (2.6, 0.6, 0.8, 10, ""),
        (2.4, 0.6, 0.8, 3, ""),  # few were asked for
        (1.0, None, 0.8, 3, FEW_CLUSTERS),
        (9.5, 0.1, 0.01, 10, UNRELATED),
        (9.5, None, None, 10, ""),
        (1.0, 1.0, None, 1, ""),  # one cluster is what was asked for
    ],
)
def test_ways_to_collapse(spread, together, ami, asked, way):
    assert collapse(Opinion(spread, 0.5, together), asked, ami) == way


def _table(one, other):
    return np.bincount(one * K + other, minlength=K * K).reshape(K, K)
