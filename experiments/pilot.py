"""Before the plan is carried out: how many seeds each comparison needs, and which fit into the budget."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from avssl.core.atomic import write_json, write_text
from avssl.core.device import choose_device
from avssl.core.errors import UserError
from avssl.core.out_folder import claim_folder, folder_lock
from avssl.core.report import markdown_table
from avssl.core.screen import Console
from experiments.options import PilotConfig, ReproduceConfig, check_claims
from experiments.plan import CORE_SECONDS, TIMES, Comparison, Plan, read_plan
from experiments.run import QUICK, asked_of, machine, read_known, train_all
from experiments.significance import EQUIVALENT, alike, cautious, seeds_needed
from experiments.trained import EVALUATED, Scale, check_words, commit, done_of
from experiments.verdicts import LEAST_SEEDS, Results

PAGE, NUMBERS = "pilot.md", "pilot.json"


@dataclass(frozen=True)
class Need:
    """What a comparison on a data set needs."""

    claim: str
    data: str
    comparison: Comparison
    seeds: int | None
    """None: more than any budget, or the pilot points elsewhere."""
    mean: float
    spread: float
    why: str = ""
    """What stands in place of the number of seeds."""


def run(config: PilotConfig) -> str:
    """Train the pilot's seeds, and write what the plan needs: `pilot.md` and `pilot.json` in `out`. Returns the page.

    Raises UserError for seeds that decide, an unknown claim, or a training that failed.
    """
    check_claims(config)
    plan, out, console = read_plan(), Path(config.out), Console(highlight=False)
    names = [name for name in plan.claims if name in config.claims or not config.claims]
    seeds = config.seeds or plan.pilot_seeds
    fresh = {seed for name in names for seed in plan.seeds_of(plan.claims[name])} & {*seeds}
    if fresh:
        raise UserError(f"seeds={min(fresh)} decides a claim of the plan: a pilot takes others, as {plan.pilot_seeds}")
    results = Results(
        plan, QUICK if config.profile == "quick" else Scale(), names, dict.fromkeys(names, seeds), bool(config.voices),
        dict.fromkeys(names, "a pilot"), family=sum(1 for _ in family(plan, bool(config.voices))),
    )  # fmt: skip
    for name in names:
        try:
            check_words(plan, plan.claims[name], results.sets(name))
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
    claim_folder(out, "settings.json", "an experiment", {"of": "pilot"})
    asked, known = asked_of(results), read_known(config.known)
    if config.report:
        for job, wanted in asked.items():
            done = known.get(job.name) or done_of(out, job, wanted)
            results.done |= {job.name: done} if done else {}
        results.missing = len(asked) - len(results.done)
        if not results.done:
            raise UserError(f"no training in {out} is done yet: give the command without report=true")
    else:
        with folder_lock(out):
            words = ReproduceConfig(out=config.out, voices=config.voices, jobs=config.jobs, device=config.device)
            train_all(words, plan, asked, known, machine(choose_device(config.device)), results)
    found = needs(results)
    text = "\n".join(lines(results, found, seeds)) + "\n"
    write_text(out / PAGE, text)
    trainings = {name: asdict(done) for name, done in sorted(results.done.items())}
    write_json(out / NUMBERS, {"commit": commit(), "needs": found, "trainings": trainings})
    console.print(text, markup=False, soft_wrap=True)
    console.print(f"page {out / PAGE}", soft_wrap=True, markup=False)
    return text


def family(plan: Plan, voices: bool) -> list[tuple[str, str, Comparison]]:
    """What would decide if nothing were dropped: the budget is not known before the pilot."""
    return [*Plan(**{**vars(plan), "not_decidable": {}}).deciding(voices)]


def needs(results: Results) -> list[Need]:
    """What each deciding comparison needs, at the level that Holm's method asks of the first one."""
    plan, found = results.plan, []
    for name, of, c in family(plan, results.voices):
        if name not in results.claims:
            continue
        claim, unit = results.claim(name), 1.0 if results.claim(name).measure(c) in TIMES else 0.01
        differences = [*results.pairs(name, c, of).values()]
        if len(differences) < 2 or alike(differences):
            why = "no figures" if not differences else "one seed" if len(differences) < 2 else "no spread: both alike"
            found.append(Need(name, of, c, None, statistics.fmean(differences or [math.nan]), 0.0, why))
            continue
        effect = unit * (plan.effect if c.effect is None else c.effect)
        margin, spread = claim.margin(c), statistics.stdev(differences)
        true = cautious(differences, c.direction, effect, margin)
        seeds = seeds_needed(spread, c.direction, margin, true, plan.level / results.family, plan.power, LEAST_SEEDS)
        mean = statistics.fmean(differences)
        outside = abs(mean) >= margin if c.direction == EQUIVALENT else mean <= margin
        why = "the pilot does not point to it" if outside else "more than 1,000" if seeds is None else ""
        found.append(Need(name, of, c, None if outside else seeds, mean, spread, why))
    return found


def claim_seeds(found: list[Need]) -> dict[str, int | None]:
    """The seeds of each claim: as many as its neediest comparison has; None where one cannot be decided."""
    seeds: dict[str, int | None] = {}
    for need in found:
        before = seeds.get(need.claim, 0)
        seeds[need.claim] = None if before is None or need.seeds is None else max(before, need.seeds)
    return seeds


def costs(results: Results) -> dict[str, dict[str, float]]:
    """Core-seconds of a seed, by claim and training (without its seed); a training may be of several claims."""
    found: dict[str, dict[str, float]] = {}
    for name in results.claims:
        claim = results.claim(name)
        for of in results.sets(name):
            for arm in claim.arms.values():
                taken = []
                for seed in results.seeds[name]:
                    done = results.done.get(results.training(name, arm, of, seed).name)
                    each = (
                        [done.figures.get(f"training/{k}", math.nan) for k in (CORE_SECONDS, EVALUATED)] if done else []
                    )
                    taken += [sum(x for x in each if math.isfinite(x))] if each and math.isfinite(each[0]) else []
                key = results.training(name, arm, of, 0).name
                found.setdefault(name, {})[key] = statistics.fmean(taken) if taken else math.nan
    return found


def core_hours(seeds: Mapping[str, int], costs: dict[str, dict[str, float]]) -> float:
    """Of all claims of `seeds` together: a training that several share is paid once, for the most seeds."""
    paid: dict[str, float] = {}
    for name, count in seeds.items():
        for key, seconds in costs[name].items():
            before = paid.get(key, 0.0)
            paid[key] = count * seconds if not count * seconds <= before else before  # one that is not known stays so
    return sum(paid.values()) / 3600


def within(budget: float, seeds: Mapping[str, int | None], costs: dict[str, dict[str, float]]) -> dict[str, int]:
    """The claims that fit into a budget of core-hours: again and again the one that adds least to it."""
    chosen: dict[str, int] = {}
    left = {name: count for name, count in seeds.items() if count is not None}
    while left:
        totals = {name: core_hours({**chosen, name: count}, costs) for name, count in left.items()}
        name = min(totals, key=lambda n: (math.isnan(totals[n]), totals[n]))
        if not totals[name] <= budget:
            break
        chosen[name] = left.pop(name)
    return chosen


def lines(results: Results, found: list[Need], pilot: list[int]) -> list[str]:
    """The page, as Markdown, with what goes into the plan."""
    plan, seeds, each = results.plan, claim_seeds(found), costs(results)
    chosen = within(plan.core_hours, seeds, each)
    rows = []
    for need in found:
        claim, c = results.claim(need.claim), need.comparison
        unit = 1.0 if claim.measure(c) in TIMES else 100.0
        told = f"{c.arm} − {c.than}: {claim.measure(c)}, {c.direction}, margin {c.margin:g}"
        figure = f"{unit * need.mean:+.1f} (σ {unit * need.spread:.1f})" if math.isfinite(need.mean) else "–"
        rows.append([need.claim, need.data, told, figure, str(need.seeds or need.why)])
    said = [
        "# How many seeds the plan needs", "",
        f"From seeds {', '.join(map(str, pilot))}, commit {commit() or 'unknown'}: the seeds with which a comparison "
        f"shows its claim with a chance of {100 * plan.power:.0f} %, by a paired t-test at {plan.level:g} / "
        f"{results.family} (what Holm's method asks at most). For *greater*, the true difference is taken to be the "
        f"lower end of the 60 % interval of the pilot's, but at least {plan.effect:g} beyond the margin; for "
        "*equivalent*, 0.", "",
        *markdown_table(["claim", "data", "comparison", "pilot", "seeds"], rows), "",
        f"## Within {plan.core_hours:g} core-hours", "",
    ]  # fmt: skip
    table = []
    for name, count in sorted(seeds.items(), key=lambda item: item[0] not in chosen):
        hours = core_hours({name: count}, each) if count else math.nan
        alone = f"{hours:.1f}" if math.isfinite(hours) else "–"
        table.append([name, str(count or "–"), alone, "in the plan" if name in chosen else "not decidable here"])
    said += markdown_table(["claim", "seeds", "core-hours, alone", ""], table)
    said += [
        "",
        f"Together: {core_hours(chosen, each):.1f} core-hours.",
        *_longer(results),
        "",
        "## Into plan.yaml",
        "",
        "```yaml",
    ]
    out = {name: why_not(found, name, seeds[name], each, plan) for name in seeds if name not in chosen}
    said += ["not_decidable:" if out else "not_decidable: {}", *(f'  {name}: "{why}"' for name, why in out.items())]
    said += ["# seeds of each claim", *(f"#   {name}: seeds: {count}" for name, count in chosen.items()), "```"]
    return said


def why_not(found: list[Need], name: str, seeds: int | None, costs: dict[str, dict[str, float]], plan: Plan) -> str:
    """What a claim that is dropped would need."""
    if seeds is None:
        lost = [need for need in found if need.claim == name and need.seeds is None]
        return "; ".join(f"{n.comparison.arm} − {n.comparison.than} on {n.data}: {n.why}" for n in lost)
    return f"{seeds} seeds, {core_hours({name: seeds}, costs):.1f} core-hours alone, of {plan.core_hours:g} in all"


def _longer(results: Results) -> list[str]:
    """What `longer` has to be for arms that are to take as long as another one."""
    said = []
    for name in results.claims:
        claim = results.claim(name)
        for arm_name, arm in claim.arms.items():
            if not arm.as_long_as:
                continue
            for of in results.sets(name):
                mine, other = (
                    [x for x in results.values(name, a, of, CORE_SECONDS, "") if math.isfinite(x)]
                    for a in (arm, claim.arms[arm.as_long_as])
                )
                if mine and other:
                    factor = arm.longer * statistics.fmean(other) / statistics.fmean(mine)
                    said += [f"{name}, {arm_name}, {of}: longer: {factor:.2f} takes as long as {arm.as_long_as}."]
    return ["", *said] if said else []
