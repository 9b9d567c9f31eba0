"""k-means of all processes together, beside scikit-learn's."""

import numpy as np
import pytest
import torch
import torch.distributed as dist
from sklearn.cluster import KMeans

from avssl.metrics import lloyd as module
from avssl.metrics.lloyd import lloyd
from tests.processes import run_together

CLUSTERS = 12


def rows(overlap: float, count: int = 1500) -> torch.Tensor:
    """Float [n, 8] around as many places as clusters; with more overlap, they are not apart."""
    rng = torch.Generator().manual_seed(1)
    places = torch.randn(CLUSTERS, 8, generator=rng)
    return places[torch.arange(count) % CLUSTERS] + overlap * torch.randn(count, 8, generator=rng)


@pytest.mark.parametrize("overlap", [0.1, 0.6, 3.0])
def test_it_is_as_good_as_scikit_learn(overlap):
    x = rows(overlap)
    ours = lloyd(x, CLUSTERS, 0, starts=4)
    theirs = KMeans(CLUSTERS, n_init=4, random_state=0).fit(x.numpy())
    assert ours.inertia < 1.02 * theirs.inertia_
    nearest = torch.cdist(x, ours.centres).min(1)
    assert ours.inertia == pytest.approx(float(nearest.values.square().sum()), rel=1e-4)
    assert torch.equal(ours.labels, nearest.indices)


def test_a_seed_decides(monkeypatch):
    x = rows(3.0)
    one, again, other = (lloyd(x, CLUSTERS, seed) for seed in (3, 3, 4))
    assert torch.equal(one.centres, again.centres)
    assert not torch.equal(one.centres, other.centres)
    monkeypatch.setattr(module, "CHUNK", 700 * CLUSTERS)  # in three parts
    torch.testing.assert_close(lloyd(x, CLUSTERS, 3).centres, one.centres)


def test_fewer_places_than_clusters_and_one_row_each():
    x = torch.eye(3).repeat(4, 1)
    found = lloyd(x, 5, 0)
    assert found.inertia == 0
    assert len(found.labels[:3].unique()) == 3
    assert lloyd(torch.eye(3), 3, 0).inertia == 0


def test_nan_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        lloyd(torch.tensor([[0.0], [np.nan]]), 1, 0)


def _process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    found = lloyd(rows(0.6).split([1000, 500])[rank], CLUSTERS, 5)
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_find_what_one_does(tmp_path):
    run_together(_process, (str(tmp_path),), 2)
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(2)]
    alone = lloyd(rows(0.6), CLUSTERS, 5)
    assert torch.equal(torch.cat([part.labels for part in parts]), alone.labels)
    for part in parts:
        torch.testing.assert_close(part.centres, alone.centres)
        assert part.inertia == pytest.approx(alone.inertia)
