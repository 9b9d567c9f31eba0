"""`python -m experiments <experiment> [key=value …]`, in a checkout."""

import sys
from pathlib import Path

from avssl.cli import run_commands
from avssl.commands import Command, Program
from experiments import options

EXPERIMENTS = Program(
    "python -m experiments",
    "the methods' claims and hypotheses, tested on the sample",
    {
        "reproduce": Command(
            options.ReproduceConfig,
            "experiments.run:run",
            "decide the claims of experiments/plan.yaml, on small data",
            "Makes the videos of each claim, trains its arms with every seed of the plan and compares them: a page of "
            "claims with verdicts, differences with intervals, tables and pictures. Everything that decides is of one "
            "commit, one machine and one plan; other words than the plan's make it exploratory. To resume it, repeat "
            "the command.",
            (
                ("python -m experiments reproduce profile=quick", "a smoke test of every claim"),
                ("python -m experiments reproduce", "every claim, as planned: many core-hours"),
                ("python -m experiments reproduce claims=[marginals]", "one of them"),
                (
                    "python -m experiments reproduce known=[a/reproduce.json,b/reproduce.json]",
                    "with claims that two other machines trained",
                ),
            ),
            check="experiments.options:check_claims",
        ),
        "pilot": Command(
            options.PilotConfig,
            "experiments.pilot:run",
            "how many seeds the plan needs, and what fits into its core-hours",
            "Trains every claim with the pilot's seeds, which decide nothing, and computes for each comparison the "
            "seeds that show its margin with a chance of 80 %. Claims beyond the plan's core-hours are listed as not "
            "decidable. Writes pilot.md, with the lines for plan.yaml.",
            (
                ("python -m experiments pilot", "every claim, five seeds: many core-hours"),
                ("python -m experiments pilot claims=[heads] seeds=[0,1,2]", "one of them"),
                ("python -m experiments pilot report=true", "the table of what is done so far"),
            ),
            check="experiments.options:check_claims",
        ),
        "typefaces": Command(
            options.TypefacesConfig,
            "experiments.videos:write_typefaces",
            "the second data set: printed digits over noise, with synthetic words",
            "Makes videos as `avssl sample` does, from other material: digits of matplotlib's typefaces, bent and "
            "drifting over noise, each with a word of a formant synthesiser. The test split has other typefaces and "
            "voices.",
            (("python -m experiments typefaces out=typefaces", "1,100 videos"),),
        ),
        "hypotheses": Command(
            options.HypothesesConfig,
            "experiments.hypotheses:run",
            "GDT's nine hypotheses on the sample: what to be distinct and invariant to, for which task",
            "Makes the sample with its direction in time, trains each preset with each seed, and probes the features "
            "for direction and digit. Writes table.md and table.json. To resume it, repeat the command.",
            (
                ("python -m experiments hypotheses", "all nine, three seeds: about an hour on two cores"),
                ("python -m experiments hypotheses out=quick presets=[1,2,3] seeds=[0] epochs=10", "a quick look"),
            ),
        ),
        "objectives": Command(
            options.ObjectivesConfig,
            "experiments.objectives:run",
            "every objective on the sample: what it learns, beside untrained encoders, and what a step takes",
            "Makes the sample with its direction in time, trains each method with each seed on as many clips, and "
            "probes the features for digit and direction. Writes objectives.md and objectives.json. To resume it, "
            "repeat the command.",
            (
                ("python -m experiments objectives", "all of them, three seeds: about half an hour on two cores"),
                ("python -m experiments objectives methods=[rotation,moco] seeds=[0]", "a quick look at two"),
            ),
        ),
        "localisation": Command(
            options.LocalisationConfig,
            "experiments.localisation:run",
            "where the sound is, and a detector on its boxes, beside controls",
            "Makes the sample with a silent digit beside the one that sounds, trains each arm with each seed, locates "
            "the sounds, and trains a detector on the boxes and one on true boxes. Writes localisation.md and "
            "localisation.json. To resume it, repeat the command.",
            (
                ("python -m experiments localisation", "all of it, three seeds: an hour or two on two cores"),
                ("python -m experiments localisation arms=[LVS] seeds=[0]", "a quick look at one arm"),
            ),
        ),
        "transfer": Command(
            options.TransferConfig,
            "experiments.transfer:run",
            "does a start help: encoders of digits 0 to 4 start on 5 to 9",
            "Makes the sample with each seed, trains on one half of its digits, and starts from that on the other half "
            "with few videos. Writes transfer.md and transfer.json. To resume it, repeat the command.",
            (("python -m experiments transfer", "three seeds, four arms: half an hour on two cores"),),
        ),
    },
    Path(__file__).parent / "configs",
    (
        "`make reproduce` decides all claims of the plan; `make reproduce-quick` is a smoke test, too small to draw "
        "conclusions.",
    ),
)


def main(argv: list[str] | None = None) -> int:
    """The exit status, as that of `avssl`."""
    return run_commands(EXPERIMENTS, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
