"""`python -m experiments pilot`: seeds for a margin, and what fits into a budget."""

import math

import pytest

from avssl.core.errors import UserError
from experiments.options import PilotConfig
from experiments.pilot import Need, claim_seeds, core_hours, costs, family, lines, needs, run, within
from experiments.plan import Arm, Claim, Comparison, Plan
from experiments.significance import power
from experiments.trained import CORE_SECONDS, EVALUATED, Done, Scale
from experiments.verdicts import Results

SEEDS = [0, 1, 2, 3, 4]


def made(compare, seconds=3600.0, **values):
    """A pilot of made-up arms: by name, a figure a seed."""
    arms = {name: Arm(train=[f"optim.lr={i + 1}"]) for i, name in enumerate(values)}
    plan = Plan(claims={"mine": Claim("T", "A claim.", data=["sample"], arms=arms, compare=compare)})
    results = Results(plan, Scale(), ["mine"], {"mine": SEEDS}, family=len(family(plan, False)))
    for name, arm in arms.items():
        for seed, value in zip(SEEDS, values[name], strict=True):
            figures = {"joint/NMI": value, f"training/{CORE_SECONDS}": seconds, f"training/{EVALUATED}": 360.0}
            results.done[results.training("mine", arm, "sample", seed).name] = Done(figures, "m", "c", "p")
    return results


def test_seeds_for_a_margin():
    c = Comparison("a", "b", direction="equivalent", margin=5)
    results = made([c], a=[0.50, 0.54, 0.46, 0.52, 0.48], b=[0.5] * 5)
    (need,) = needs(results)
    assert need.spread == pytest.approx(0.0316, abs=1e-4)
    assert power(need.seeds, need.spread, "equivalent", 0.05, 0.0, 0.05) >= 0.8
    assert power(need.seeds - 1, need.spread, "equivalent", 0.05, 0.0, 0.05) < 0.8
    results.family = 40  # Holm's method asks for more
    assert needs(results)[0].seeds > need.seeds


def test_what_a_pilot_does_not_point_to():
    low, high = [0.1, 0.2, 0.15, 0.1, 0.2], [0.5, 0.52, 0.51, 0.5, 0.5]
    (need,) = needs(made([Comparison("low", "high")], low=low, high=high))
    assert (need.seeds, need.why) == (None, "the pilot does not point to it")
    (need,) = needs(made([Comparison("high", "low")], low=low, high=high))
    assert need.seeds <= 5
    (need,) = needs(made([Comparison("a", "b")], a=[1.0] * 5, b=[1.0] * 5))
    assert (need.seeds, need.why) == (None, "no spread: both alike")


def test_a_shared_training_is_paid_once():
    each = {"one": {"a": 3600.0, "b": 3600.0}, "two": {"a": 3600.0, "c": 7200.0}, "three": {"d": 36_000.0}}
    assert core_hours({"one": 3}, each) == 6
    assert core_hours({"one": 3, "two": 5}, each) == 3 + 5 + 10
    assert within(16, {"one": 3, "two": 3, "three": 3}, each) == {"one": 3, "two": 3}
    assert within(16, {"one": None, "two": 9, "three": 1}, each) == {"three": 1}
    assert within(16, {"one": 1}, {"one": {"a": math.nan}}) == {}


def test_a_claim_needs_what_its_neediest_comparison_needs():
    c = Comparison("a", "b")
    found = [Need("x", "sample", c, 4, 0, 1), Need("x", "typefaces", c, 9, 0, 1), Need("y", "sample", c, None, 0, 1)]
    assert claim_seeds([*found, Need("y", "typefaces", c, 4, 0, 1)]) == {"x": 9, "y": None}


def test_the_page_has_the_lines_of_the_plan():
    c = Comparison("a", "b")
    results = made([c], a=[0.9, 0.92, 0.9, 0.91, 0.9], b=[0.5, 0.55, 0.5, 0.52, 0.5])
    assert {*costs(results)["mine"].values()} == {3960.0}
    told = lines(results, needs(results), SEEDS)
    assert any(
        line.startswith("| mine | sample | a − b: NMI, greater, margin 0 | +39.2 (σ 1.3) | 3 |") for line in told
    )
    assert "| mine | 3 | 6.6 | in the plan |" in told
    assert "not_decidable: {}" in told
    results.plan.core_hours = 1.0
    told = lines(results, needs(results), SEEDS)
    assert '  mine: "3 seeds, 6.6 core-hours alone, of 1 in all"' in told
    results.plan.claims["mine"].arms["b"].as_long_as = "a"
    assert "mine, b, sample: longer: 1.00 takes as long as a." in lines(results, needs(results), SEEDS)


def test_seeds_that_decide_are_refused(tmp_path):
    with pytest.raises(UserError, match="seeds=101 decides a claim of the plan"):
        run(PilotConfig(out=str(tmp_path / "x"), seeds=[0, 101]))
    assert not (tmp_path / "x").exists()
