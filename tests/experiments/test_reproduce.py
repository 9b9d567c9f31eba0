"""`python -m experiments reproduce`: its experiments' files, its page, and experiments that go on."""

import json
import math
import shutil
import time
from pathlib import Path

import pytest
import torch

from avssl.cli import main as avssl
from avssl.config import SampleConfig, TrainConfig
from avssl.config.compose import compose_config
from avssl.core.errors import UserError
from avssl.core.out_folder import folder_lock
from avssl.evaluate.protocols import TASKS
from avssl.metrics.intervals import mean_of
from experiments import experiment as module
from experiments.__main__ import main
from experiments.experiment import Arm, Comparison, Experiment, experiments, read_experiment, selection
from experiments.jobs import Spent
from experiments.options import ReproduceConfig
from experiments.page import page, slug
from experiments.plots import draw
from experiments.run import (
    PAGE,
    PICTURES,
    PROFILES,
    SEEN,
    command,
    machine,
    read_known,
    scale_of,
    take_seeds,
    write,
)
from experiments.trained import CORE_SECONDS, FIGURES, Done, Scale, measured, train_words, training_of
from experiments.verdicts import Results, claim_verdict, decide, verdict_of_all, weakest

DOCS = Path(__file__).parents[2] / "docs" / "results"
SCALE = Scale(epochs=2, solves=2, train=0.5, test=0.5)
HELD, OPEN, FAILED = "holds", "undecided", "does not hold"


@pytest.mark.parametrize("name", experiments())
def test_every_experiment_is_made_of_known_options(name):
    found = read_experiment(name)
    assert found.claim.endswith(".")
    assert ". " not in found.claim  # one sentence: it is a table's cell
    assert set(found.tasks) <= TASKS.keys()
    for job in {training_of(SCALE, found, arm, 1) for arm in found.arms.values()}:
        compose_config("sample", SampleConfig, [f"{k}={v}" for k, v in job.sample])
        compose_config("train", TrainConfig, ["data.root=x", *train_words(SCALE, job)])
    told = {(training_of(SCALE, found, arm, 1), arm.figure, arm.untrained) for arm in found.arms.values()}
    assert len(told) == len(found.arms)
    assert any(c.decides for c in found.compare)
    assert all(c.arm != c.than for c in found.compare)


def test_there_is_an_experiment_for_every_claim():
    found = [read_experiment(name) for name in experiments()]
    assert [e.order for e in found] == [*range(1, 12)]
    assert len({slug(e.title) for e in found}) == 11


def test_arms_of_the_same_options_are_one_training():
    jobs = {
        training_of(SCALE, e, arm, seed)
        for e in map(read_experiment, experiments())
        for arm in e.arms.values()
        for seed in (0, 1)
    }
    assert len({Path(job.name).with_suffix(".log") for job in jobs}) == len(jobs) == 54
    claim, plain = read_experiment("marginals"), read_experiment("spread").arms["uniform"]
    tail = claim.arms["long-tailed, uniform"]
    assert training_of(SCALE, claim, plain, 1) == training_of(SCALE, read_experiment("heads"), Arm(), 1)
    assert dict(training_of(SCALE, claim, tail, 1).sample)["train"] == 120
    assert training_of(SCALE, claim, tail, 1).data != training_of(SCALE, claim, plain, 1).data


def made(metrics, compare, figure="joint", **values):
    """Results of made-up arms: by name, a figure a seed; the arms are trainings of as many epochs."""
    arms = {name: Arm(figure, train=[f"optim.epochs={i + 1}"]) for i, name in enumerate(values)}
    experiment = Experiment(1, "A title, of it", "A claim.", metrics=metrics, arms=arms, compare=compare)
    seeds = [*range(len(next(iter(values.values()))))]
    results = Results(SCALE, seeds, {"mine": experiment})
    for name, arm in arms.items():
        for seed in seeds:
            measure = f"training/{CORE_SECONDS}" if metrics == [CORE_SECONDS] else f"{figure}/{metrics[0]}"
            results.done[training_of(SCALE, experiment, arm, seed)] = Done({measure: values[name][seed]}, "here", "abc")
    return results, experiment


def claim(results):
    return claim_verdict(decide(results)["mine"])


def test_the_page_compares_pairs():
    compare = [Comparison("uniform", "zipf"), Comparison("gaussian", "uniform", non_inferior=True)]
    results, experiment = made(
        ["NMI"], compare, uniform=[0.9, 0.8, 0.7], zipf=[0.7, 0.61, 0.51], gaussian=[0.9, 0.3, 0.6]
    )
    lines = page(results, "python -m experiments reproduce", {})
    # 20, 19 and 19 points: t(0.975, 2 degrees) = 4.303 times 0.577 / √3. Its t is 58 = 0.1933 / (0.00577 / √3), and
    # with two degrees of freedom p is 1 - t / √(2 + t²) = 0.0003, twice that by Holm, for two comparisons
    assert "| uniform − zipf | 3 | **+19.3 ± 1.4** | superiority | < 0.001 | < 0.001 | **holds** |" in lines
    # 0, -50 and -10 points against -5: t = -15 / (26.46 / √3) = -0.9820
    open_one = "| gaussian − uniform | 3 | **-20.0 ± 65.7** | non-inferiority | 0.430 | 0.430 | **undecided** |"
    assert open_one in lines
    assert claim(results) == OPEN
    assert "The claim: **undecided**." in lines
    row = "gaussian − uniform: NMI (non-inferiority) | -20.0 ± 65.7 | 0.430 | **undecided** |"
    assert f"| [A title, of it](#a-title-of-it): A claim. | {row}" in lines
    assert not any("will be repeated" in line or "†" in line for line in lines)
    assert any("Holm's method for all 2 comparisons that decide on this page" in line for line in lines)
    experiment.compare[1].decides = False
    assert claim(results) == HELD
    lines = page(results, "python -m experiments reproduce", {})
    assert "| gaussian − uniform | 3 | -20.0 ± 65.7 |  |  |  | not tested |" in lines
    assert any("Holm's method for the one comparison that decides on this page" in line for line in lines)
    results.seeds = [0, 1, 5]
    assert claim(results) == OPEN  # of two seeds
    assert "| uniform − zipf | 2 | **+19.5 ± 6.4** | superiority | 1.000 | 1.000 | **undecided** |" in page(
        results, "python -m experiments reproduce", {}
    )


def test_all_comparisons_of_the_page_are_adjusted_for():
    # of each alone, t = 4 with two degrees of freedom: p = 1 - 4 / √18 = 0.0572; with t = 5, 0.0377
    values = {"a": [0.5] * 3, "b": [0.5 - d for d in (0.05 - 0.02165, 0.05, 0.05 + 0.02165)]}
    values["c"] = [0.5 - d for d in (0.05 - 0.01732, 0.05, 0.05 + 0.01732)]
    results, experiment = made(["NMI"], [Comparison("a", "c")], **values)
    assert decide(results)["mine"][0].p == pytest.approx(0.0377, abs=1e-4)
    assert claim(results) == HELD
    experiment.compare.append(Comparison("a", "b"))
    found = decide(results)["mine"]
    assert [d.p for d in found] == pytest.approx([0.0377, 0.0572], abs=1e-4)
    assert [d.adjusted for d in found] == pytest.approx([0.0754, 0.0754], abs=2e-4)  # twice the least of them
    assert [d.verdict for d in found] == [OPEN, OPEN]
    assert weakest(found) is found[1]
    results.experiments["another"] = Experiment(2, "Another", "B.", metrics=["NMI"], arms=experiment.arms)
    results.experiments["another"].compare = [experiment.compare.pop()]
    assert decide(results)["mine"][0].adjusted == pytest.approx(0.0754, abs=2e-4)  # also those of other claims


def test_the_opposite_direction_is_what_does_not_hold():
    low, high = [0.50, 0.51, 0.52], [0.60, 0.62, 0.61]
    results, experiment = made(["NMI"], [Comparison("low", "high")], low=low, high=high)
    assert claim(results) == FAILED
    experiment.compare[0].non_inferior = True
    assert claim(results) == FAILED  # ten points are lost
    results, experiment = made(["NMI"], [Comparison("low", "high")], low=[0.50, 0.51, 0.52], high=[0.51, 0.522, 0.531])
    assert claim(results) == FAILED
    experiment.compare[0].non_inferior = True
    assert claim(results) == HELD  # one point is lost


def test_differences_without_spread_decide_nothing():
    results, _ = made(["NMI"], [Comparison("a", "b", non_inferior=True)], a=[1.0] * 4, b=[1.0] * 4)
    assert claim(results) == OPEN
    lines = page(results, "x", {})
    assert "| a − b | 4 | **+0.0 ± 0.0** ¶ | non-inferiority | 1.000 | 1.000 | **undecided** |" in lines
    assert any(line.startswith("¶: The difference is the same for every seed") for line in lines)


def test_seeds_that_were_added_decide_nothing():
    c = Comparison("a", "b")
    results, experiment = made(["NMI"], [c], a=[0.9, 0.8, 0.7, 0.8, 0.8], b=[0.9, 0.6, 0.4, 0.6, 0.61])
    results.seeds = [0, 1, 2]
    assert results.pairs(experiment, c, "NMI") == pytest.approx({0: 0.0, 1: 0.2, 2: 0.3})
    experiment.arms["a"].more_seeds = [3, 4]
    assert results.pairs(experiment, c, "NMI", results.all_seeds()) == pytest.approx({0: 0.0, 1: 0.2, 2: 0.3})
    experiment.arms["b"].more_seeds = [4]  # the third has no pair
    assert results.pairs(experiment, c, "NMI") == pytest.approx({0: 0.0, 1: 0.2, 2: 0.3})
    assert claim(results) == OPEN
    lines = page(results, "x", {})
    assert any("Seeds 0, 1, 2 were planned; 3, 4 were added to some arms; a seed" in line for line in lines)
    assert any(line.startswith("| the same, with added seeds ‡ | 4 | +17.2 ± 19.9 |  |  |  | not ") for line in lines)
    assert "The claim: **undecided** ‡." in lines
    assert any(line.startswith("‡: Seeds were added") for line in lines)
    assert any("will be repeated, under a plan" in line for line in lines)


def test_a_claim_that_was_changed_stays_undecided():
    results, experiment = made(["NMI"], [Comparison("a", "b")], a=[0.9, 0.8, 0.7], b=[0.7, 0.61, 0.51])
    assert claim(results) == HELD
    experiment.changed = "the measure, after two seeds"
    assert claim(results) == OPEN
    lines = page(results, "x", {})
    assert "§ Changed after results were known: the measure, after two seeds." in lines
    assert "| a − b | 3 | **+19.3 ± 1.4** | superiority | < 0.001 | < 0.001 | **undecided** § |" in lines


@pytest.mark.parametrize(
    ("machine", "commit", "mixed"),
    [("here", "abc", 0), ("there", "abc", 1), ("here", "abd", 1), ("here", "", 1), ("here", "abc with changes", 1)],
)
def test_pairs_of_other_commits_or_machines_are_marked(machine, commit, mixed):
    c = Comparison("a", "b")
    results, experiment = made(["NMI"], [c], a=[0.9, 0.8, 0.7], b=[0.7, 0.61, 0.51])
    job = training_of(SCALE, experiment, experiment.arms["b"], 1)
    results.done[job] = Done(results.done[job].figures, machine, commit)
    assert results.mixed(experiment, c, [0, 1, 2]) == mixed
    lines = page(results, "x", {})
    mark = " † (1 of 3)" if mixed else ""
    assert f"| a − b | 3 | **+19.3 ± 1.4**{mark} | superiority | < 0.001 | < 0.001 | **holds** |" in lines
    assert any(line.startswith("† (k of n): In k") for line in lines) == bool(mixed)
    for seed in (0, 1, 2):
        for arm in experiment.arms.values():
            job = training_of(SCALE, experiment, arm, seed)
            results.done[job] = Done(results.done[job].figures, machine, commit)
    unknown = commit in ("", "abc with changes")  # what ran is not known to be the same
    assert results.mixed(experiment, c, [0, 1, 2]) == (3 if unknown else 0)
    experiment.arms["b"] = Arm("joint, best head", experiment.arms["a"].train)
    assert results.mixed(experiment, c, [0, 1, 2]) == 0  # two figures of one training


def test_a_difference_of_differences():
    c = Comparison("a", "b", beyond=["c", "d"])
    results, experiment = made(["NMI"], [c], a=[0.9, 0.8], b=[0.3, 0.3], c=[0.5, 0.6], d=[0.4, 0.5])
    assert results.pairs(experiment, c, "NMI") == pytest.approx({0: 0.6 - 0.1, 1: 0.5 - 0.1})
    assert "| (a − b) − (c − d) |" in "\n".join(page(results, "x", {}))


def test_seeds_without_a_figure_are_left_out():
    c = Comparison("slow", "fast", metric=CORE_SECONDS)
    results, experiment = made([CORE_SECONDS], [c], slow=[100.0, 102.0, 99.0, math.nan], fast=[50.0, 53.0, 49.0, 40.0])
    assert results.pairs(experiment, c, CORE_SECONDS) == {0: 50.0, 1: 49.0, 2: 50.0}
    assert claim(results) == HELD
    lines = page(results, "x", {})
    assert "| slow | `experiment=selavi_sample` `optim.epochs=1` | 3 | 100 ± 4 |" in lines
    assert any("slow − fast: core-seconds | +50 ± 1 core-seconds | < 0.001 | **holds** |" in line for line in lines)
    assert "Interrupted and resumed, so their time is unknown: 1 training." in lines
    job = training_of(SCALE, experiment, experiment.arms["fast"], 0)
    results.done[job] = Done(results.done[job].figures, "a faster one")
    assert results.pairs(experiment, c, CORE_SECONDS) == {1: 49.0, 2: 50.0}  # times of other machines are not compared
    assert any("Core-seconds are of the first alone." in line for line in page(results, "x", {}))
    for done in results.done.values():
        done.figures.clear()
    assert claim(results) == OPEN
    c.metric = "NMI"
    with pytest.raises(UserError, match="no seed has it of both"):
        claim(results)


@pytest.mark.parametrize(
    ("verdicts", "of_all"),
    [([HELD, HELD], HELD), ([HELD, OPEN], OPEN), ([OPEN, FAILED, HELD], FAILED), ([], OPEN)],
)
def test_a_claim_holds_where_all_that_decides_does(verdicts, of_all):
    assert verdict_of_all(verdicts) == of_all


def test_every_kind_of_picture(tmp_path):
    pytest.importorskip("matplotlib")
    for plot in module.PLOTS:
        results, experiment = made(["NMI"], [Comparison("a", "b")], a=[0.9, 0.8], b=[0.3, math.nan])
        experiment.plot = plot
        pictures = draw(results, tmp_path / plot)
        assert pictures["mine"].read_bytes().startswith(b"\x89PNG")


def test_figures_of_an_evaluation():
    metrics = {"nmi": 0.5, "ami": 0.4, "ari": 0.3, "accuracy": 0.6}
    of = {"chosen": {"metrics": metrics}, "oracle_by_nmi": {"metrics": {**metrics, "nmi": 0.7}}, "mean": metrics}
    spread = {k: {"mean": v, "half": 0.1, "lowest_inertia": v + 0.1} for k, v in metrics.items()}
    spread["inertia"] = [3.0, 2.0]
    found = measured({
        "columns": ["class"],
        "clustering": {"class": {"labels": {"evidence": {"joint": of}}, "kmeans": {"both": spread}}},
        "robustness": {"class": {"no sound": {"video": metrics}}},
        "knn": {"video": {"class": 0.8}},
        "cross_modal": {"class": {"video_audio_others": 0.1, "audio_video_others": 0.2}},
        "linear": None,
    })  # fmt: skip
    assert found["joint/NMI"] == found["joint, all heads/NMI"] == found["k-means, both/NMI"] == 0.5
    assert found["joint, best head/NMI"] == 0.7
    assert found["k-means, both, lowest inertia/NMI"] == pytest.approx(0.6)
    assert measured(
        {
            "columns": ["class"],
            "clustering": {"class": {"kmeans": {"both": {k: {"mean": v, "half": 0.1} for k, v in metrics.items()}}}},
        }
    ).keys() == {f"k-means, both/{m}" for m in ("NMI", "AMI", "ARI", "accuracy")}
    assert found["no sound: video/accuracy"] == 0.6
    assert found["features, video/class, 5-NN"] == 0.8
    assert found["embedding/class, audio → video"] == 0.2
    assert {name.partition("/")[0] if ": " not in name else name.rpartition("/")[0] for name in found} <= FIGURES


def test_a_profile_and_what_is_asked_for_beside_it():
    seeds, scale = scale_of(ReproduceConfig(profile="quick", epochs=7, seeds=[4, 4, 2]))
    assert (seeds, scale.epochs, scale.solves) == ([4, 2], 7, PROFILES["quick"][1].solves)
    assert len(PROFILES["full"][0]) >= 5
    told = command(ReproduceConfig(profile="quick", epochs=7, seeds=[4, 2], experiments=["heads"], train=0.25))
    assert told == "python -m experiments reproduce profile=quick experiments=[heads] seeds=[4,2] epochs=7 train=0.25"


def test_what_is_known_is_not_trained(tmp_path, capsys):
    experiment = read_experiment("alignment")
    jobs = [training_of(SCALE, experiment, arm, seed) for seed in (0, 1) for arm in experiment.arms.values()]
    results = Results(SCALE, [0, 1], {"alignment": experiment})
    metrics = {m: 0.5 for m in ("NMI", "AMI", "ARI", "accuracy")}
    for job in jobs:
        shift = 0.1 * len(job.words) + 0.01 * job.seed
        figures = {f"joint/{m}": v + shift for m, v in metrics.items()}
        figures |= {"training/core-seconds": math.nan, "training/seconds": 7.0}
        where = ("a laptop", "abc") if job.seed else ("", "")
        results.done[job] = Done(figures, *where)
    for part in (0, 1):
        half = Results(SCALE, [part], {}, {j: done for j, done in results.done.items() if j.seed == part})
        write(half, ReproduceConfig(), tmp_path / str(part))
    words = ["reproduce", "experiments=[alignment]", "seeds=[0,1]", f"out={tmp_path / 'all'}", "device=cpu"]
    words += ["epochs=2", "solves=2", "train=0.5", "test=0.5"]
    files = ",".join(str(tmp_path / str(part) / "reproduce.json") for part in (0, 1))
    assert main([*words, f"known=[{files}]"]) == 0
    assert not (tmp_path / "all" / "runs").exists()
    told = (tmp_path / "all" / "reproduce.md").read_text()
    assert "Machines of the trainings: an unknown one (3); a laptop (3). " in told
    assert "Commits of the trainings: an unknown one (3), abc (3)." in told
    kept = read_known([str(tmp_path / "all" / "reproduce.json")], SCALE)
    assert sorted((done.machine, done.commit) for done in kept.values()) == [("", "")] * 3 + [("a laptop", "abc")] * 3
    assert [done.figures["training/seconds"] for done in kept.values()] == [7.0] * 6
    assert "| aligned − unaligned | 2 | **-10.0 ± 0.0** † (1 of 2) |" in told
    (tmp_path / "list.json").write_text('{"scale": [], "trainings": []}')
    assert main([*words, f"known=[{tmp_path / 'list.json'}]"]) == 2
    assert "no reproduce.json" in capsys.readouterr().err
    capsys.readouterr()
    assert main([*words, f"known=[{files}]", "solves=3", f"out={tmp_path / 'other'}"]) == 2
    assert "solves=2, not 3" in capsys.readouterr().err
    assert main([*words, f"known=[{files}]", "epochs=3", "report=true", f"out={tmp_path / 'longer'}"]) == 2
    assert "no training in" in capsys.readouterr().err  # what has other epochs is another training
    assert main([*words, "report=true", f"out={tmp_path / 'new'}"]) == 2
    assert "no training in" in capsys.readouterr().err
    assert main([*words, "known=[nowhere.json]"]) == 2
    assert "known=nowhere.json does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("figure", "how"),
    [
        ("joint", "chosen"),
        ("no sound: video", "chosen"),
        ("k-means, audio, lowest inertia", "chosen"),
        ("joint, all heads", "mean"),
        ("k-means, both", "mean"),
        ("audio, best head", "best"),
        ("features, video", ""),
        ("embedding", ""),
    ],
)
def test_how_a_figure_was_selected(figure, how):
    assert figure in FIGURES
    assert selection(figure) == how


@pytest.fixture(scope="module")
def published():
    """The trainings of the documentation's page."""
    seeds, scale = PROFILES["full"]
    known = read_known([str(DOCS / PICTURES / "reproduce.json")], scale)
    return Results(scale, seeds, {name: read_experiment(name) for name in experiments()}, known)


def test_the_page_of_the_documentation_is_what_the_command_writes(published):
    pictures = {name: Path(PICTURES) / f"{name}.png" for name in experiments()}
    lines = page(published, "python -m experiments reproduce", pictures)
    there = (DOCS / PAGE).read_text().splitlines()
    # its first words about the trainings name the version and the commit
    assert [x for x in lines if not x.startswith("Written by")] == [x for x in there if not x.startswith("Written by")]
    assert all((DOCS / path).is_file() for path in pictures.values())


def test_equal_selection_leaves_the_first_claim_undecided(published):
    first = decide(published)["kmeans"][0]
    mean = mean_of(first.differences)
    assert (100 * mean.value, 100 * mean.half) == pytest.approx((0.9, 4.3), abs=0.05)
    assert first.p == pytest.approx(0.605, abs=0.001)
    assert claim_verdict(decide(published)["kmeans"]) == OPEN


@pytest.mark.parametrize(
    ("words", "changed", "added"),
    [
        ({}, "the measure", [5]),
        ({"profile": "quick"}, "the measure", []),
        ({"seeds": [0, 1, 2, 3, 4]}, "the measure", []),
        ({"seeds": [100, 4, 101]}, "the measure", []),
        ({"seeds": [100, 101, 102]}, "", []),
    ],
)
def test_fresh_seeds_test_what_was_changed(words, changed, added):
    experiment = Experiment(1, "t", "c", changed="the measure", arms={"a": Arm(more_seeds=[5])})
    take_seeds({"mine": experiment}, ReproduceConfig(**words))
    assert (experiment.changed, experiment.arms["a"].more_seeds) == (changed, added)


def test_seeds_of_the_published_page_are_not_fresh(published):
    assert {job.seed for job in published.done} == SEEN == {*published.all_seeds()}


@pytest.mark.slow
def test_experiments_go_on(tmp_path, capsys, monkeypatch):
    """Its commands run in this process: test_jobs.py is about those of their own."""

    def here(command, words, folder):
        begun = time.process_time()
        assert avssl([command, *words]) == 0
        return Spent(1.0, time.process_time() - begun)

    monkeypatch.setattr("experiments.trained.avssl", here)
    # a training sets handlers of signals, which only a main thread may
    one_by_one = lambda do, wanted, jobs: {job: do(job) for job in wanted}  # noqa: E731
    monkeypatch.setattr("experiments.run.run_parallel", one_by_one)
    out = tmp_path / "it's (one) place"
    words = [
        "reproduce", f'out="{out}"', "experiments=[alignment]", "profile=quick", "seeds=[3]", "train=0.05", "test=0.07",
        "epochs=1", "solves=2", "device=cpu",
    ]  # fmt: skip
    assert main(words) == 0
    text = (out / "reproduce.md").read_text()
    assert "The claim: **undecided**." in text  # one seed decides nothing
    assert "seeds=[3] epochs=1 solves=2 train=0.05 test=0.07`, avssl" in text
    assert "from 3 trainings of small encoders" in text
    assert "](reproduce/alignment.png)" in text
    assert (out / "reproduce" / "alignment.png").is_file()
    found = json.loads((out / "reproduce.json").read_text())
    assert found["verdicts"] == {"alignment": OPEN}
    assert [len(row["words"]) for row in found["trainings"]] == [0, 1, 2]
    assert all(0 <= row["figures"]["joint/NMI"] <= 1 and row["seed"] == 3 for row in found["trainings"])
    assert all(row["figures"][f"training/{CORE_SECONDS}"] > 0.1 for row in found["trainings"])
    runs = sorted(p for p in (out / "runs").iterdir() if p.is_dir())
    kept = (runs[0] / "checkpoints").stat().st_mtime_ns
    shutil.rmtree(runs[1])
    runs[1].with_suffix(".cost.json").unlink()
    assert main(words) == 0
    assert (runs[0] / "checkpoints").stat().st_mtime_ns == kept
    assert {k: v for k, v in json.loads((out / "reproduce.json").read_text()).items() if k != "trainings"} == {
        k: v for k, v in found.items() if k != "trainings"
    }
    assert {row["machine"] for row in found["trainings"]} == {machine(torch.device("cpu"))}
    shutil.rmtree(out / "samples")  # what is done needs no videos
    assert main(words) == 0
    assert not (out / "samples").exists()
    for damaged in (runs[2].with_suffix(".cost.json"), runs[1] / "evaluate" / "evaluate.json"):
        damaged.write_text("[1")
    assert main([*words, "report=true"]) == 0
    assert "Not done yet: 2 trainings." in (out / "reproduce.md").read_text()
    assert main(words) == 0
    assert "Interrupted and resumed, so their time is unknown: 1 training." in (out / "reproduce.md").read_text()
    settings = (out / "settings.json").read_text()
    (out / "settings.json").write_text("[]")
    assert main(words) == 2
    assert f"settings.json is missing or damaged: remove {out}, or choose another" in capsys.readouterr().err
    (out / "settings.json").write_text(settings)
    with folder_lock(out):
        assert main(words) == 2
    assert "another command is writing to" in capsys.readouterr().err
    capsys.readouterr()
    assert main([*words, "epochs=2"]) == 2
    assert "epochs=1, not 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["experiments=[aligment]"], "did you mean alignment?"),
        (["experiments=[heads],[marginals]"], "has several values: give one"),
        (["profile=fast"], "quick"),
        (["train=-1"], "train"),
        (["train=inf"], "train=inf is not a finite number"),
        (["seeds=[-1]"], "seeds=-1 is below the minimum 0"),
        (["seeds=[1.5]"], "seeds=1.5 is not an integer"),
        (["device=cuda:77"], "cuda"),
    ],
)
def test_wrong_words(words, said, tmp_path, capsys):
    assert main(["reproduce", f"out={tmp_path / 'x'}", *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


MINE = "order: 1\ntitle: t\nclaim: c\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (MINE + "arms: {a: {}}\ncompare: [{arm: a, than: b}]", "compares b"),
        (MINE + "arms: {a: {}}\ncompare: [{arm: a, than: a, metric: NMO}]", "by NMO"),
        (MINE + "arms: {a: {}}\ncompare: [{arm: a, than: a, beyond: [a]}]", "two arms"),
        (MINE + "arms: {a: {}}\nplot: pie", "pie"),
        (MINE + "arms: {a: {}, b: {figure: 'k-means, both'}}\ncompare: [{arm: a, than: b}]", "select both sides alike"),
        (MINE + "arms: {a: {}}\ncompare: [{arm: a, than: a, margin: 0.03}]", "margin"),
        (MINE, "compares nothing"),
        ("clam: x", "clam"),
    ],
)
def test_a_file_that_is_no_experiment(text, said, tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text(text)
    monkeypatch.setattr(module, "CLAIMS", tmp_path)
    with pytest.raises(UserError, match=said):
        read_experiment("mine")
