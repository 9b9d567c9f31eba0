"""Two and three real processes, each with its rows, give the labels of one: however the rows fall."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from avssl.core.collectives import sum_over_processes
from avssl.selflabel.marginals import uniform, zipf
from avssl.selflabel.sinkhorn import sinkhorn
from tests.processes import run_together

SIZES = {2: [[301, 300], [600, 1], [0, 601]], 3: [[201, 200, 200], [1, 0, 600], [300, 1, 300]]}
ROWS, CLUSTERS = 601, 12
MARGINALS = (uniform(CLUSTERS), zipf(CLUSTERS), uniform(CLUSTERS - 1))


def _problem(number: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(number)
    log_p = (2 * torch.randn(ROWS, CLUSTERS, generator=g)).log_softmax(1)
    r = MARGINALS[number]
    return log_p, torch.cat([r, r.new_zeros(CLUSTERS - len(r))])


def _process(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
    shapes: set[tuple[int, ...]] = set()

    def summed(x: torch.Tensor) -> torch.Tensor:
        shapes.add(tuple(x.shape))
        return sum_over_processes(x)

    for case, sizes in enumerate(SIZES[world]):
        for number in range(len(MARGINALS)):
            log_p, r = _problem(number)
            mine = log_p.split(sizes)[rank]
            solved = sinkhorn(mine, r, all_reduce=summed, tolerance=1e-3)
            torch.save(solved, f"{folder}/{case}-{number}-{rank}.pt")
    mine = log_p.split(SIZES[world][0])[rank].clone()
    if rank == 1:
        mine[0, 0] = torch.nan
    try:
        sinkhorn(mine, r, all_reduce=summed)
        said = ""
    except ValueError as error:
        said = str(error)
    torch.save([said, shapes], f"{folder}/end-{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module", params=[2, 3])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path]:
    path = tmp_path_factory.mktemp("gloo")
    run_together(_process, (request.param, str(path)), request.param)
    return request.param, path


@pytest.mark.parametrize("case", range(3))
@pytest.mark.parametrize("number", range(len(MARGINALS)))
def test_labels_of_one_process(run, case, number):
    world, folder = run
    log_p, r = _problem(number)
    whole = sinkhorn(log_p, r, tolerance=1e-3)
    parts = [torch.load(folder / f"{case}-{number}-{rank}.pt", weights_only=False) for rank in range(world)]
    assert [len(solved.labels) for solved in parts] == SIZES[world][case]
    assert (torch.cat([solved.labels for solved in parts]) == whole.labels).all()
    for solved in parts:
        assert (solved.log_alpha == parts[0].log_alpha).all()
        assert solved.cost == pytest.approx(whole.cost, rel=1e-9)
        assert solved.error <= 1e-3


def test_what_crosses_and_that_all_refuse_together(run):
    world, folder = run
    for rank in range(world):
        said, shapes = torch.load(folder / f"end-{rank}.pt", weights_only=False)
        assert "NaN" in said
        assert shapes <= {(), (CLUSTERS,), (CLUSTERS, CLUSTERS)}


def test_without_a_process_group_a_sum_is_itself():
    x = torch.ones(3)
    assert sum_over_processes(x) is x
