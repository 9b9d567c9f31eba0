"""Counts of pairs of labels, beside a table of all pairs."""

import numpy as np
import pytest
import torch
import torch.distributed as dist

from avssl.metrics.information import contingency, normalised_and_adjusted_information, normalised_information
from avssl.selflabel.head_opinions import adjusted_information
from avssl.selflabel.pairs import count_pairs
from tests.processes import run_together

VIDEOS = 500
CASES = {"few": 5, "many": 300, "one": 1}


def labellings(clusters: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    first = rng.integers(0, clusters, VIDEOS)
    second = np.where(rng.random(VIDEOS) < 0.6, first, rng.integers(0, clusters, VIDEOS))
    return torch.from_numpy(first), torch.from_numpy(second)


@pytest.mark.parametrize("clusters", CASES.values(), ids=CASES)
def test_the_measures_are_bit_for_bit_those_of_the_table(clusters):
    first, second = labellings(clusters)
    pairs, table = count_pairs(first, second, clusters), contingency(first.numpy(), second.numpy())
    assert pairs.normalised() == normalised_information(table)
    assert pairs.adjusted() == adjusted_information(table)
    if clusters > 1:
        assert pairs.adjusted() == normalised_and_adjusted_information(table)[1]
    alike = np.bincount(first[first == second], minlength=clusters)
    assert pairs.most_alike() == alike.max() / VIDEOS


def test_no_videos_and_no_two_alike():
    none = torch.empty(0, dtype=torch.int64)
    pairs = count_pairs(none, none, 3)
    assert (len(pairs), pairs.adjusted(), pairs.most_alike()) == (0, 0.0, 0.0)
    assert count_pairs(torch.tensor([0, 1]), torch.tensor([1, 0]), 2).most_alike() == 0


def _process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    found = []
    for clusters in CASES.values():
        parts = [x.split([490, 10])[rank] for x in labellings(clusters)]
        pairs = count_pairs(*parts, clusters)
        found.append((pairs.codes, pairs.counts))
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_count_what_one_does(tmp_path):
    run_together(_process, (str(tmp_path),), 2)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=False)
        for (codes, counts), clusters in zip(found, CASES.values(), strict=True):
            alone = count_pairs(*labellings(clusters), clusters)
            assert np.array_equal(codes, alone.codes)
            assert np.array_equal(counts, alone.counts)
