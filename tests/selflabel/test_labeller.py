"""When labels are solved, and what the label table keeps."""

import torch

from avssl.config import LabellingConfig
from avssl.selflabel.labeller import UNLABELLED, Labeller, solve_steps


def test_the_published_schedule():
    steps = solve_steps(1000, 5, 1.5)
    assert steps == [0, 125, 354, 650, 1000]
    assert solve_steps(10, 1) == [0]
    assert len(solve_steps(3, 100)) == 4  # every step at most once


def test_videos_without_evidence_keep_no_label_and_state_survives():
    config = LabellingConfig(clusters=3, heads=2, solves=2)
    labeller = Labeller(10, config, total_steps=5)
    assert labeller.due(0)
    log_p = torch.randn(2, 9, 3, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    labeller.solve(log_p, torch.arange(9))
    assert (labeller.labels[9] == UNLABELLED).all()
    assert torch.bincount(labeller.labels[:9, 0].long()).tolist() == [3, 3, 3]
    assert not labeller.due(4)
    assert labeller.due(5)
    other = Labeller(10, config, total_steps=5)
    other.load_state_dict(labeller.state_dict())
    assert (other.labels == labeller.labels).all()
    assert other.due(5)
    assert not other.due(4)


def test_the_plan_has_the_masses_asked_for():
    config = LabellingConfig(clusters=4, heads=1, marginal="zipf")
    labeller = Labeller(60, config, total_steps=5)
    log_p = (0.1 * torch.randn(1, 60, 4, generator=torch.Generator().manual_seed(1))).log_softmax(-1)
    solved = labeller.solve(log_p, torch.arange(60))
    assert solved.errors[0] <= config.tolerance
    plan = (log_p[0].double() * config.lam / 2 + labeller.log_alpha[0]).softmax(-1).mean(0)
    expected = labeller.marginals[0].sort().values
    torch.testing.assert_close(plan.sort().values, expected, atol=0.1 / 60, rtol=0)
