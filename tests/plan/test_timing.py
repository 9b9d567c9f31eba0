"""The random problems that the solver is timed on."""

import torch

from avssl.plan.timing import random_evidence


def test_evidence_is_the_same_however_it_is_cut():
    problem = random_evidence(2500, 6, seed=3)
    whole = problem.block_of(0, 2500)
    assert torch.equal(torch.cat([problem.block_of(0, 1000), problem.block_of(1000, 2500)]), whole)
    assert torch.equal(torch.cat(list(problem.blocks(700))), whole)
    assert not torch.equal(random_evidence(2500, 6, seed=4).block_of(0, 2500), whole)
