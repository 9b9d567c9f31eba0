"""A simulated run: where nothing differs from the plan's assumptions, it takes as long as planned."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from avssl.core.atomic import write_json
from avssl.core.errors import UserError
from avssl.plan.estimate import Costs, Solver, Target, Work, estimate
from benchmarks import cluster
from benchmarks.cluster_events import Phase, Spread, simulate
from benchmarks.options import BenchClusterConfig

TARGET = Target(2, 4, True, cores=64, workers=7, threads=1, network=12.5e9)
WORK = Work(
    videos=40_960, epochs=2, batch=16, solves=4, groups=1, heads=2, clusters=50, features=1024, label_batch=64
)  # 640 steps
COSTS = Costs(
    batch=0.2, update=0.01, forward=0.004, decode=0.025, decode_wall=0.025, label_decode=0.02, label_wall=0.02,
    evidence=1e-7, solver=Solver(1e-9, 1e-10, 1e-8, 20.0), gradients=100_000_000, state=400_000_000,
)  # fmt: skip
NONE = Spread(0.0, 0.0, 0.0, 0.0, 0.0)
EQUAL = {"clip_spread": 0.0, "step_spread": 0.0, "gpu_spread": 0.0, "pause_rate": 0.0, "clip_mb": 0.0}


def planned(**costs: float) -> cluster.Planned:
    return cluster.Planned(TARGET, WORK, replace(COSTS, **costs), 1e-9)  # type: ignore[arg-type]


def parts(plan: cluster.Planned, **options: float) -> dict[str, cluster.Part]:
    return {p.name: p for p in cluster.compare(plan, BenchClusterConfig(steps=200, **options))}  # type: ignore[arg-type]


def test_a_run_in_which_all_is_equal_takes_as_long_as_planned():
    found = parts(planned(), **EQUAL)
    assert found["training"].simulated == pytest.approx(found["training"].planned, rel=0.02)
    assert found["labelling passes"].simulated == pytest.approx(found["labelling passes"].planned, rel=0.02)
    assert found["solver"].simulated == pytest.approx(found["solver"].planned)
    assert found["total"].simulated == pytest.approx(found["total"].planned, rel=0.02)


def test_slow_decoding_sets_the_pace_of_both():
    slow = planned(decode=0.2, decode_wall=0.2)
    found = parts(slow, **EQUAL)["training"]
    assert estimate(TARGET, WORK, slow.costs).step.bound == "decoding"
    assert found.simulated == pytest.approx(found.planned, rel=0.05)
    assert "for clips" in found.why


def test_stragglers_are_waited_for_at_every_step():
    calm, rough = (parts(planned(), **{**EQUAL, "step_spread": s})["training"] for s in (0.0, 0.2))
    assert rough.simulated > 1.2 * calm.simulated  # the slowest of 8: about 1.4 standard deviations above the mean
    assert "for other processes" in rough.why


def test_few_cores_slow_decoding_down():
    phase = Phase(batches=40, videos=16, device=0.01, cpu=0.02, wall=0.02)
    wide, narrow = (simulate(replace(TARGET, cores=c), phase, NONE, 0).end for c in (64, 16))
    assert narrow == pytest.approx(2 * wide, rel=0.1)  # 4 processes of 7 workers and a thread each


def test_gradients_that_no_computation_hides_are_waited_for():
    phase = Phase(40, 16, 0.01, 0.0, 0.0, accumulate=1, gradients=1e9)
    found = simulate(TARGET, phase, NONE, 0)
    network = 2 * 1e9 / 2 / 12.5e9
    assert found.end == pytest.approx(40 * (0.01 / 3 + network), rel=0.01)


def test_batches_between_two_exchanges_are_not_waited_for():
    phase = Phase(40, 16, 0.1, 0.0, 0.0, accumulate=4)
    assert len(simulate(TARGET, phase, NONE, 0).ends) == 10


def test_the_same_seed_gives_the_same_run():
    options = {"step_spread": 0.1}
    assert parts(planned(), **options) == parts(planned(), **options)


def test_a_plan_is_read_back_as_it_was(tmp_path: Path):
    before = replace(planned(), target=replace(TARGET, network=float("inf")))
    sections = {"target": before.target, "work": before.work, "costs": before.costs}
    stored = {name: asdict(section) for name, section in sections.items()}
    write_json(tmp_path / "plan.json", stored | {"measured": {"checkpoint": 1e-9}})
    assert cluster.read_plan(tmp_path) == before


@pytest.mark.parametrize("content", [{}, {"target": 3}, {"costs": {"solver": {"linear": "a"}}}])
def test_what_is_no_plan_is_one_line(tmp_path: Path, content: dict):
    write_json(tmp_path / "plan.json", content)
    with pytest.raises(UserError, match=r"plan.json"):
        cluster.read_plan(tmp_path)
    with pytest.raises(UserError, match=r"give the folder that"):
        cluster.read_plan(tmp_path / "missing")


def test_the_table_names_every_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    before = planned()
    stored = {"target": asdict(before.target), "work": asdict(before.work), "costs": asdict(before.costs)}
    write_json(tmp_path / "plan.json", stored | {"measured": {"checkpoint": None}})
    cluster.run(BenchClusterConfig(plan=str(tmp_path), steps=20))
    said = capsys.readouterr().out
    assert all(name in said for name in ("training", "labelling passes", "solver", "checkpoints", "total"))
