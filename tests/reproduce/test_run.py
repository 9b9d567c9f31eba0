"""`avssl reproduce`: its experiments' files, its page, and experiments that go on."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch

from avssl.cli import main
from avssl.compose import compose_config
from avssl.config import ReproduceConfig, SampleConfig, TrainConfig
from avssl.data.out_folder import writing_alone
from avssl.errors import UserError
from avssl.evaluate.protocols import TASKS
from avssl.reproduce import experiment as module
from avssl.reproduce.experiment import Arm, Comparison, Experiment, experiments, read_experiment
from avssl.reproduce.page import Results, claim_verdict, page, slug, verdict_of_all
from avssl.reproduce.plots import draw
from avssl.reproduce.run import PROFILES, command, machine, read_known, scale_of, write
from avssl.reproduce.training import CORE_SECONDS, FIGURES, Done, Scale, measured, train_words, training_of

SCALE = Scale(epochs=2, solves=2, train=0.5, test=0.5)
HELD, OPEN, FAILED = "holds", "undecided", "does not hold"


@pytest.mark.parametrize("name", experiments())
def test_every_experiment_is_made_of_known_options(name):
    found = read_experiment(name)
    assert found.claim.endswith(".")
    assert set(found.tasks) <= TASKS.keys()
    for job in {training_of(SCALE, found, arm, 1) for arm in found.arms.values()}:
        compose_config("sample", SampleConfig, [f"{k}={v}" for k, v in job.sample])
        compose_config("train", TrainConfig, ["data.root=x", *train_words(SCALE, job)])
    told = {(training_of(SCALE, found, arm, 1), arm.figure, arm.untrained) for arm in found.arms.values()}
    assert len(told) == len(found.arms)
    assert any(c.decides for c in found.compare)
    assert all(c.arm != c.than and abs(c.margin) <= 0.05 for c in found.compare)


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


def made(metrics, compare, **values):
    """Results of made-up arms: by name, a figure a seed; the arms are trainings of as many epochs."""
    arms = {name: Arm(train=[f"optim.epochs={i + 1}"]) for i, name in enumerate(values)}
    experiment = Experiment(1, "A title, of it", "A claim.", metrics=metrics, arms=arms, compare=compare)
    seeds = [*range(len(next(iter(values.values()))))]
    results = Results(SCALE, seeds, {"mine": experiment})
    for name, arm in arms.items():
        for seed in seeds:
            figure = f"training/{CORE_SECONDS}" if metrics == [CORE_SECONDS] else f"joint/{metrics[0]}"
            results.done[training_of(SCALE, experiment, arm, seed)] = Done({figure: values[name][seed]})
    return results, experiment


def test_the_page_compares_pairs():
    compare = [Comparison("uniform", "zipf"), Comparison("gaussian", "uniform", margin=-0.05)]
    results, experiment = made(
        ["NMI"], compare, uniform=[0.9, 0.8, 0.7], zipf=[0.7, 0.61, 0.51], gaussian=[0.9, 0.3, 0.6]
    )
    lines = page(results, "avssl reproduce", {})
    cell = "+19.3 ± 1.4"  # 20, 19 and 19 points: t(0.975, 2 degrees) = 4.303 times 0.577 / √3
    assert f"| uniform − zipf | 3 | **{cell}** | 0 | **holds** |" in lines
    assert any(line.startswith("| gaussian − uniform |") and line.endswith("| -5 | **undecided** |") for line in lines)
    assert claim_verdict(results, experiment) == OPEN
    assert "The claim: **undecided**." in lines
    assert any(
        line.startswith("| [A title, of it](#a-title-of-it) | **undecided** | uniform − zipf: +19.3") for line in lines
    )
    experiment.compare[1].decides = False
    assert claim_verdict(results, experiment) == HELD
    results.seeds = [0, 1, 5]
    assert claim_verdict(results, experiment) == OPEN  # of two seeds
    lines = page(results, "avssl reproduce", {})
    assert "| uniform − zipf | 2 | **+19.5 ± 6.4** | 0 | **undecided** |" in lines
    assert any("uniform − zipf: +19.5 ± 6.4 (2 seeds) |" in line for line in lines)


def test_an_arm_may_have_more_seeds():
    c = Comparison("a", "b")
    results, experiment = made(["NMI"], [c], a=[0.9, 0.8, 0.7, 0.8], b=[0.7, 0.6, 0.5, 0.6])
    results.seeds = [0, 1]
    assert results.differences(experiment, c, "NMI") == pytest.approx([0.2, 0.2])
    experiment.arms["a"].more_seeds = [2, 3]
    assert results.differences(experiment, c, "NMI") == pytest.approx([0.2, 0.2])  # of the other there is no pair
    experiment.arms["b"].more_seeds = [3]
    assert results.differences(experiment, c, "NMI") == pytest.approx([0.2, 0.2, 0.2])
    lines = page(results, "x", {})
    assert any(line.startswith("Seeds 0, 1 (and 2, 3 where more of them are told), of") for line in lines)
    assert any("(3 seeds)" in line for line in lines)


def test_a_difference_of_differences():
    c = Comparison("a", "b", beyond=["c", "d"])
    results, experiment = made(["NMI"], [c], a=[0.9, 0.8], b=[0.3, 0.3], c=[0.5, 0.6], d=[0.4, 0.5])
    assert results.differences(experiment, c, "NMI") == pytest.approx([0.6 - 0.1, 0.5 - 0.1])
    assert "| (a − b) − (c − d) |" in "\n".join(page(results, "x", {}))


def test_seeds_without_a_figure_are_left_out():
    c = Comparison("slow", "fast", metric=CORE_SECONDS)
    results, experiment = made([CORE_SECONDS], [c], slow=[100.0, 102.0, 99.0, math.nan], fast=[50.0, 53.0, 49.0, 40.0])
    assert results.differences(experiment, c, CORE_SECONDS) == [50.0, 49.0, 50.0]
    assert claim_verdict(results, experiment) == HELD
    lines = page(results, "x", {})
    assert "| slow | `experiment=sample` `optim.epochs=1` | 3 | 100 ± 4 |" in lines
    assert "Stopped and taken up again, so that its time is not known: 1 training." in lines
    results.here = "a faster one"  # times of other machines are not compared
    assert results.differences(experiment, c, CORE_SECONDS) == []
    for done in results.done.values():
        done.figures.clear()
    assert claim_verdict(results, experiment) == OPEN
    c.metric = "NMI"
    with pytest.raises(UserError, match="no seed has it of both"):
        claim_verdict(results, experiment)


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
    spread = {k: {"mean": v, "half": 0.1} for k, v in metrics.items()}
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
    assert found["no sound: video/accuracy"] == 0.6
    assert found["features, video/class, 5-NN"] == 0.8
    assert found["embedding/class, audio → video"] == 0.2
    assert {name.partition("/")[0] if ": " not in name else name.rpartition("/")[0] for name in found} <= FIGURES


def test_a_profile_and_what_is_asked_for_beside_it():
    seeds, scale = scale_of(ReproduceConfig(profile="quick", epochs=7, seeds=[4, 4, 2]))
    assert (seeds, scale.epochs, scale.solves) == ([4, 2], 7, PROFILES["quick"][1].solves)
    assert len(PROFILES["full"][0]) >= 5
    told = command(ReproduceConfig(profile="quick", epochs=7, seeds=[4, 2], experiments=["heads"], train=0.25))
    assert told == "avssl reproduce profile=quick experiments=[heads] seeds=[4,2] epochs=7 train=0.25"


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
    assert "Done on another machine: 3 trainings (a laptop). " in told
    assert "Done on another machine: 3 trainings (of which nothing is known). " in told
    assert "Commits that the trainings were done with: an unknown one (3), abc (3)." in told
    kept = read_known([str(tmp_path / "all" / "reproduce.json")], SCALE)
    assert sorted((done.machine, done.commit) for done in kept.values()) == [("", "")] * 3 + [("a laptop", "abc")] * 3
    assert [done.figures["training/seconds"] for done in kept.values()] == [7.0] * 6
    assert "| aligned − unaligned | 2 | **-10.0 ± 0.0**" in told
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
    assert "known=nowhere.json is missing" in capsys.readouterr().err


@pytest.mark.slow
def test_experiments_go_on(tmp_path, capsys):
    out = tmp_path / "it's (one) place"
    words = [
        "reproduce", f'out="{out}"', "experiments=[alignment]", "profile=quick", "seeds=[3]", "train=0.05", "test=0.07",
        "epochs=1", "solves=2", "device=cpu",
    ]  # fmt: skip
    assert main(words) == 0
    text = (out / "reproduce.md").read_text()
    assert "The claim: **undecided**." in text  # one seed decides nothing
    assert "seeds=[3] epochs=1 solves=2 train=0.05 test=0.07`: 3 trainings" in text
    assert "](reproduce/alignment.png)" in text
    assert (out / "reproduce" / "alignment.png").is_file()
    found = json.loads((out / "reproduce.json").read_text())
    assert found["verdicts"] == {"alignment": OPEN}
    assert [len(row["words"]) for row in found["trainings"]] == [0, 1, 2]
    assert all(0 <= row["figures"]["joint/NMI"] <= 1 and row["seed"] == 3 for row in found["trainings"])
    assert all(row["figures"][f"training/{CORE_SECONDS}"] > 1 for row in found["trainings"])
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
    assert (
        "Stopped and taken up again, so that its time is not known: 1 training." in (out / "reproduce.md").read_text()
    )
    (out / "settings.json").write_text("[]")
    assert main(words) == 2
    assert "settings.json is missing or damaged: remove it, or choose another out=" in capsys.readouterr().err
    (out / "settings.json").unlink()
    with writing_alone(out):
        assert main(words) == 2
    assert "another command is writing to" in capsys.readouterr().err
    capsys.readouterr()
    assert main([*words, "epochs=2"]) == 2
    assert "epochs=1, not 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["experiments=[aligment]"], "did you mean alignment?"),
        (["experiments=heads"], "experiments is a list: write experiments=[…]"),
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
        (MINE, "compares nothing"),
        ("clam: x", "clam"),
    ],
)
def test_a_file_that_is_no_experiment(text, said, tmp_path, monkeypatch):
    (tmp_path / "configs" / "reproduce").mkdir(parents=True)
    (tmp_path / "configs" / "reproduce" / "mine.yaml").write_text(text)
    monkeypatch.setattr(module, "assets_root", lambda: tmp_path)
    with pytest.raises(UserError, match=said):
        read_experiment("mine")
