"""A few alternations on the device, beside the exact solver."""

import pytest
import torch

from avssl.config import LabellingConfig
from avssl.selflabel.batch_transport import alternate
from avssl.selflabel.labeller import evidence
from avssl.selflabel.marginals import make_marginal, soft_counts
from avssl.selflabel.memory import NOTHING, Queue
from avssl.selflabel.sinkhorn import sinkhorn

HEADS, ROWS, CLUSTERS, LAM = 3, 60, 5, 20.0


def problems(sharpness: float, rows: int = ROWS, seed: int = 0) -> torch.Tensor:
    """Evidence [H, n, K] of as many rows for each cluster, which a model prefers by different amounts."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.arange(rows) % CLUSTERS
    noise, bias = torch.randn(HEADS, rows, CLUSTERS, generator=generator), torch.arange(CLUSTERS) * 0.3
    logits = sharpness * torch.eye(CLUSTERS)[truth] + 0.5 * noise + bias
    return evidence({"video": logits, "audio": logits})


def every(rows: int) -> torch.Tensor:
    return torch.ones(rows, dtype=torch.bool)


def test_clear_problems_have_the_labels_of_the_exact_solver():
    log_p, masses = problems(6.0), torch.full((HEADS, CLUSTERS), 1 / CLUSTERS)
    found = alternate(log_p, every(ROWS), masses, torch.zeros(HEADS, CLUSTERS), LAM)
    for head in range(HEADS):
        exact = sinkhorn(log_p[head], masses[head], LAM)
        assert torch.equal(found.labels[head], exact.labels)
        assert found.cost[head] == pytest.approx(exact.cost, rel=1e-5)


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1, 1), (5, 4, 3, 2, 1), (0, 1, 1, 1, 1)])
def test_over_batches_the_masses_become_those_requested(sizes):
    """The scales carry over, so that after ten batches they solve the problem, also where clusters were preferred."""
    masses = (torch.tensor(sizes) / sum(sizes)).expand(HEADS, -1)
    log_alpha = torch.zeros(HEADS, CLUSTERS)
    for seed in range(10):
        log_p = problems(0.2, 500, seed)
        log_alpha = alternate(log_p, every(500), masses, log_alpha, LAM).log_alpha
    plan = (LAM / 2 * log_p + log_alpha[:, None]).softmax(2).mean(1)
    assert ((plan - masses).abs().sum(1) < 0.1).all()
    one = alternate(log_p, every(500), masses, torch.zeros(HEADS, CLUSTERS), LAM, times=300)
    exact = sinkhorn(log_p[0], masses[0], LAM)
    assert (one.labels[0] == exact.labels).float().mean() > 0.99
    assert not (one.labels == 0).any() or sizes[0]


def test_rows_without_mass_change_nothing():
    log_p, masses = problems(2.0), torch.full((HEADS, CLUSTERS), 1 / CLUSTERS)
    start = torch.zeros(HEADS, CLUSTERS)
    alone = alternate(log_p, every(ROWS), masses, start, LAM)
    with_more = torch.cat([log_p, 5 * problems(1.0, 7, seed=3)], 1)
    counts = torch.cat([every(ROWS), torch.zeros(7, dtype=torch.bool)])
    found = alternate(with_more, counts, masses, start, LAM)
    assert torch.equal(found.labels[:, :ROWS], alone.labels)
    torch.testing.assert_close(found.log_alpha, alone.log_alpha)
    torch.testing.assert_close(found.cost, alone.cost)


@pytest.mark.parametrize("words", [{}, {"marginal": "zipf"}, {"marginal": "empirical"}])
def test_masses_of_all_heads_are_those_of_each(words):
    marginal = make_marginal(LabellingConfig(clusters=CLUSTERS, heads=HEADS, **words))
    drawn, log_p = marginal.draw(CLUSTERS, HEADS), problems(1.0)
    counts = torch.stack([soft_counts(each) for each in log_p])
    together = marginal.masses_by_head(drawn, counts)
    for head in range(HEADS):
        assert torch.equal(together[head], marginal.masses(drawn[head], counts[head]))


def test_a_queue_has_a_constant_shape_and_each_video_once():
    queue = Queue(4)
    for index in ([1, 2], [3, 1], [5, 5], [9, 8]):
        queue.write(torch.tensor(index), {"video": torch.tensor(index)[:, None].float()})
        assert queue.index.shape == (4,)
    assert queue.index.tolist() == [5, NOTHING, 9, 8]
    assert queue.features["video"][:, 0].tolist() == [5, 5, 9, 8]
    old = Queue(4)
    old.load_state_dict({"index": torch.tensor([7]), "features": {"video": torch.ones(1, 1)}})
    assert old.index.tolist() == [NOTHING] * 3 + [7]
    assert old.features["video"].tolist() == [[0.0]] * 3 + [[1.0]]
    wide = Queue(1)
    wide.write(torch.tensor([4, 6]), {"video": torch.zeros(2, 1)})
    assert wide.index.tolist() == [6]
