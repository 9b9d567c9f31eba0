"""Where results come from: the plan that they were trained under, its commit and theirs, and the machine."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from avssl.core.atomic import write_text
from avssl.core.errors import UserError
from experiments.plan import PLAN, Plan, as_planned, digest, read_plan
from experiments.trained import Done

FROZEN = "plan.yaml"
"""The plan as it was at the first training, in the folder of the results."""


@dataclass(frozen=True)
class PlanHistory:
    """What git knows of the plan."""

    commit: str
    """The last one that changed it, shortened; empty where git does not know it."""
    date: str
    changed: bool
    """Whether the file differs from that commit."""


def plan_history(path: Path = PLAN) -> PlanHistory:
    """Of the plan's file."""
    try:
        last = _git(path, "log", "-1", "--format=%h %cs", "--", path.name).split()
        changed = bool(_git(path, "status", "--porcelain", "--", path.name))
    except (OSError, subprocess.SubprocessError):
        return PlanHistory("", "", True)
    return PlanHistory(last[0], last[1], changed) if len(last) == 2 else PlanHistory("", "", True)


def _git(path: Path, *words: str) -> str:
    command = ["git", "-C", str(path.parent), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout


def frozen_plan(out: Path, plan: Plan, path: Path = PLAN) -> Plan:
    """The plan at the first training in `out`; the present one where there was none."""
    return read_plan(out / FROZEN) if (out / FROZEN).is_file() else plan


def freeze(out: Path, path: Path = PLAN) -> None:
    """Keep the plan as it is before the first training in `out`."""
    if not (out / FROZEN).is_file():
        write_text(out / FROZEN, path.read_text())


def plan_digest(out: Path, path: Path = PLAN) -> str:
    """Of the plan that the trainings in `out` are of."""
    return digest(out / FROZEN if (out / FROZEN).is_file() else path)


def changed_claims(plan: Plan, frozen: Plan) -> dict[str, str]:
    """Claims that decide nothing, and why: those that the plan says so of, and those that are not as they were at the
    first training."""
    found = {}
    for name, claim in plan.claims.items():
        now, before = as_planned(plan, name), as_planned(frozen, name)
        if claim.exploratory:
            found[name] = "the plan says so"
        elif name in plan.not_decidable and name in frozen.not_decidable:
            continue
        elif before is None:
            found[name] = "it came into the plan after the first training"
        elif now != before:
            found[name] = "the plan of it was changed after the first training"
    return found


def check_same(name: str, done: Sequence[Done]) -> None:
    """Raise UserError where a claim's trainings are not of one commit, one machine and one plan."""
    made = list(dict.fromkeys((d.commit, d.machine, d.plan) for d in done))
    advice = "train it in another out=, or give exploratory=true"
    for commit, _, _ in made:
        if not commit or " " in commit:
            raise UserError(
                f"{name}: the code is {commit or 'of no commit'}, so nobody can repeat it: commit it, or {advice}"
            )
    if len({plan for _, _, plan in made}) > 1:
        raise UserError(f"{name} is compared under one plan, not {made[0][2]} and {made[-1][2]}: {advice}")
    if len(made) > 1:
        (commit, machine, _), (other, there, _) = made[:2]
        raise UserError(
            f"{name} is compared within one commit and one machine, not {commit} on {machine} and {other} on {there}: "
            f"{advice}"
        )
