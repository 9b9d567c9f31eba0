"""`python -m experiments reproduce`: what decides, where it comes from, and its page."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from avssl.core.errors import UserError
from experiments import provenance
from experiments import run as module
from experiments.__main__ import main
from experiments.options import ReproduceConfig
from experiments.page import page, slug
from experiments.plan import CORE_SECONDS, PLAN, PLOTS, Arm, Claim, Comparison, Plan, read_plan
from experiments.plots import draw
from experiments.provenance import PlanHistory, changed_claims, check_same, plan_history
from experiments.run import command, jobs_of, machine, planned, read_known
from experiments.selection import FIGURES
from experiments.trained import Done, Scale, localised, measured, train_words, training_of
from experiments.verdicts import Results, by_set, claim_verdict, decide, verdict_of_all, weakest

HELD, OPEN, FAILED = "holds", "undecided", "does not hold"
HISTORY = PlanHistory("abc1234", "2026-01-02", False)
SEEDS = [100, 101, 102]


def made(compare, measures=("NMI",), data=("sample",), **values):
    """Results of made-up arms: by name, a figure a seed, the same on each data set."""
    arms = {name: Arm(train=[f"optim.lr={i + 1}"]) for i, name in enumerate(values)}
    claim = Claim("A title, of it", "A claim.", data=[*data], measures=[*measures], arms=arms, compare=compare)
    seeds = [*range(100, 100 + len(next(iter(values.values()))))]
    plan = Plan(claims={"mine": claim}, seeds=len(seeds))
    results = Results(plan, Scale(), ["mine"], {"mine": seeds}, family=len([*plan.deciding(False)]))
    for of in data:
        for name, arm in arms.items():
            for seed, value in zip(seeds, values[name], strict=True):
                figure = f"training/{CORE_SECONDS}" if measures[0] == CORE_SECONDS else f"joint/{measures[0]}"
                figures = {figure: value, "training/seconds": 1.0}
                results.done[results.training("mine", arm, of, seed).name] = Done(figures, "here", "abc", "p")
    return results, claim


def verdict(results):
    return by_set(decide(results), "mine")


def lines(results, command="python -m experiments reproduce"):
    return page(results, command, {}, HISTORY, "p")


def test_a_difference_above_its_margin_holds():
    results, claim = made([Comparison("a", "b")], a=[0.9, 0.8, 0.7], b=[0.7, 0.61, 0.51])
    (found,) = decide(results)
    assert found.differences == pytest.approx([0.2, 0.19, 0.19])
    assert (found.verdict, found.adjusted) == (HELD, found.p)
    # t(0.975, 2) = 4.303 times 0.577 points / √3
    assert found.interval == pytest.approx((0.1933 - 0.0143, 0.1933 + 0.0143), abs=1e-4)
    claim.compare[0].margin = 19
    assert verdict(results) == {"sample": OPEN}
    claim.compare[0].margin = 25
    assert verdict(results) == {"sample": FAILED}
    claim.compare[0] = Comparison("b", "a", margin=-25)
    assert verdict(results) == {"sample": HELD}  # less than 25 points are lost


def test_an_equivalence_test():
    results, claim = made([Comparison("a", "b", direction="equivalent", margin=5)], a=[0.50, 0.51, 0.52], b=[0.51] * 3)
    (found,) = decide(results)
    assert found.verdict == HELD
    assert found.interval[1] == pytest.approx(2.92 * 0.01 / math.sqrt(3), abs=1e-4)  # t(0.95, 2): five per cent a side
    claim.compare[0].margin = 1.0
    assert verdict(results) == {"sample": OPEN}
    results, _ = made([Comparison("a", "b", direction="equivalent", margin=5)], a=[0.70, 0.71, 0.72], b=[0.51] * 3)
    assert verdict(results) == {"sample": FAILED}  # better by 20 points is not equivalent


def test_all_that_the_plan_lets_decide_is_adjusted_for():
    # of one alone, t = 5 with two degrees of freedom: p = 0.0377
    values = {"a": [0.5] * 3, "c": [0.5 - d for d in (0.05 - 0.01732, 0.05, 0.05 + 0.01732)]}
    results, _ = made([Comparison("a", "c")], **values)
    assert decide(results)[0].adjusted == pytest.approx(0.0377, abs=1e-4)
    results.family = 2  # another claim decides too, and is not looked at
    (found,) = decide(results)
    assert (found.adjusted, found.verdict) == (pytest.approx(0.0754, abs=2e-4), OPEN)
    assert found.interval[0] < 0  # which agrees
    results.family = 1
    results.exploratory["mine"] = "as asked for"
    assert decide(results) == []


def test_a_claim_is_decided_on_each_data_set_by_itself():
    results, claim = made([Comparison("a", "b")], data=("sample", "typefaces"), a=[0.9, 0.8, 0.7], b=[0.7, 0.61, 0.51])
    assert claim_verdict(verdict(results)) == "holds on both"
    assert "A claim." in lines(results)
    assert any(row.endswith("| **holds on both** |") for row in lines(results)[:8])
    for seed in SEEDS:
        job = results.training("mine", claim.arms["a"], "typefaces", seed).name
        results.done[job] = Done({"joint/NMI": 0.6, "training/seconds": 1.0}, "here", "abc", "p")
    assert verdict(results) == {"sample": HELD, "typefaces": OPEN}
    assert claim_verdict(verdict(results)) == "holds on sample; undecided on typefaces"
    assert "On sample alone: A claim." in lines(results)
    assert claim_verdict({"typefaces": HELD}) == "holds (on typefaces alone)"
    assert claim_verdict({"a": OPEN, "b": OPEN, "c": OPEN}) == "undecided on all 3"


@pytest.mark.parametrize(
    ("verdicts", "of_all"),
    [([HELD, HELD], HELD), ([HELD, OPEN], OPEN), ([OPEN, FAILED, HELD], FAILED), ([], OPEN)],
)
def test_a_claim_holds_where_all_that_decides_does(verdicts, of_all):
    assert verdict_of_all(verdicts) == of_all


def test_nothing_to_test_with_decides_nothing():
    results, _ = made([Comparison("a", "b", direction="equivalent", margin=5)], a=[1.0] * 4, b=[1.0] * 4)
    assert verdict(results) == {"sample": OPEN}
    assert any(line.startswith("¶: The difference is the same") for line in lines(results))
    results, _ = made([Comparison("a", "b")], a=[0.9, 0.8], b=[0.1, 0.02])
    assert verdict(results) == {"sample": OPEN}  # of two seeds


def test_differences_of_differences_and_of_a_share():
    c = Comparison("a", "b", beyond=["c", "d"])
    results, claim = made([c], a=[0.9, 0.8], b=[0.3, 0.3], c=[0.5, 0.6], d=[0.4, 0.5])
    assert results.pairs("mine", c, "sample") == pytest.approx({100: 0.5, 101: 0.4})
    assert any("(a − b) − (c − d)" in line for line in lines(results))
    c = claim.compare[0] = Comparison("a", "b", times=0.9)
    assert results.pairs("mine", c, "sample") == pytest.approx({100: 0.63, 101: 0.53})
    assert any("a − 0.9 × b" in line for line in lines(results))


def test_seeds_without_a_figure_are_left_out():
    c = Comparison("slow", "fast", measure=CORE_SECONDS)
    results, claim = made([c], (CORE_SECONDS,), slow=[100.0, 102.0, 99.0, math.nan], fast=[50.0, 53.0, 49.0, 40.0])
    assert results.pairs("mine", c, "sample") == {100: 50.0, 101: 49.0, 102: 50.0}
    assert verdict(results) == {"sample": HELD}
    assert any("slow − fast +49.7 [+48.2, +51.1] core-seconds" in line for line in lines(results))
    claim.measures.append("NMI")
    c.measure = "NMI"
    with pytest.raises(UserError, match="no seed has it of both"):
        decide(results)
    results.missing = 1
    assert verdict(results) == {"sample": OPEN}


def test_the_comparison_that_a_verdict_rests_on():
    results, _ = made(
        [Comparison("a", "b"), Comparison("a", "c")], a=[0.9, 0.8, 0.7], b=[0.7, 0.61, 0.51], c=[0.6, 0.8, 0.5]
    )
    found = decide(results)
    assert weakest(found) is found[1]
    assert [d.verdict for d in found] == [HELD, OPEN]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (("there", "abc", "p"), "within one commit and one machine, not abc on here and abc on there"),
        (("here", "abd", "p"), "within one commit and one machine, not abc on here and abd on here"),
        (("here", "", "p"), "the code is of no commit"),
        (("here", "abc with changes", "p"), "the code is abc with changes"),
        (("here", "abc", "q"), "under one plan, not p and q"),
    ],
)
def test_what_decides_is_of_one_commit_machine_and_plan(other, said):
    same = Done({}, "here", "abc", "p")
    check_same("mine", [same, same])
    with pytest.raises(UserError, match=said) as told:
        check_same("mine", [same, Done({}, *other)])
    assert "\n" not in str(told.value)


def test_what_is_changed_after_the_first_training_is_exploratory():
    _, claim = made([Comparison("a", "b")], a=[1.0], b=[1.0])
    frozen = Plan(claims={"old": claim, "kept": claim})
    plan = Plan(claims={
        "old": replace(claim, compare=[Comparison("a", "b", margin=5)]), "kept": replace(claim, note="Said later."),
        "new": claim, "looked at": replace(claim, exploratory=True),
    })  # fmt: skip
    found = changed_claims(plan, frozen)
    assert found.keys() == {"old", "new", "looked at"}
    assert found["old"] == "the plan of it was changed after the first training"
    results = planned(ReproduceConfig(), plan, frozen)
    assert results.exploratory == found
    assert results.family == 2  # of the plan as it was
    told = lines(replace(results, missing=1))
    assert any(line.startswith("- **The plan was changed after the first training**: old, new") for line in told)
    assert told.index("# Exploratory") < told.index("| [A title, of it](#a-title-of-it) | the plan says so |")


@pytest.mark.parametrize(
    ("words", "why", "seeds"),
    [
        ({"profile": "quick"}, "a smoke test", [0, 1]),
        ({"seeds": [7, 8]}, "other seeds than the plan's", [7, 8]),
        ({"exploratory": True}, "as asked for", SEEDS),
        ({}, None, SEEDS),
    ],
)
def test_other_words_than_the_plans_decide_nothing(words, why, seeds):
    results, _ = made([Comparison("a", "b")], a=[0.9, 0.8, 0.7], b=[0.7, 0.61, 0.51])
    found = planned(ReproduceConfig(**words), results.plan, results.plan)
    assert found.exploratory.get("mine") == why
    assert found.seeds["mine"] == seeds


def test_what_cannot_be_decided_is_listed():
    results, _ = made([Comparison("a", "b")], a=[0.9, 0.8, 0.7], b=[0.7, 0.61, 0.51])
    results.plan.not_decidable["mine"] = "40 seeds"
    found = planned(ReproduceConfig(), results.plan, results.plan)
    assert (found.claims, found.family) == ([], 0)
    assert "# Not decidable here" in page(replace(results, claims=[]), "x", {}, HISTORY, "p")
    asked = planned(ReproduceConfig(claims=["mine"]), results.plan, results.plan)
    assert asked.exploratory == {"mine": "the pilot says that it cannot be decided here"}


def test_the_page_begins_with_the_table_and_says_what_is_of_which_commit():
    results, _ = made(
        [Comparison("a", "b"), Comparison("b", "a", decides=False)], a=[0.9, 0.8, 0.7], b=[0.7, 0.61, 0.51]
    )
    told = lines(results, "python -m experiments reproduce report=true")
    assert told[0].startswith("# ")
    assert "Of 1 claim, 1 holds." in told[2]
    assert told[6] == (
        "| [A title, of it](#a-title-of-it): On sample alone: A claim. | sample: a − b +19.3 [+17.9, +20.8] | "
        "**holds (on sample alone)** |"
    )
    assert "- The plan is `experiments/plan.yaml`, last changed in commit abc1234 of 2026-01-02. Its digest" in told[8]
    assert told[9] == "- The results are of abc."
    assert told[10] == "- What decides was not changed after the first training."
    assert any("Written by `python -m experiments reproduce report=true`" in line for line in told)
    assert any(row.startswith("| b − a | NMI | chosen | 3 | -19.3 ± 1.4 |") for row in told)
    results.done[next(iter(results.done))] = Done({"joint/NMI": 0.5}, "here", "abc", "q")
    assert "- Some trainings are of another plan (q)." in lines(results)


def test_every_kind_of_picture(tmp_path):
    pytest.importorskip("matplotlib")
    for plot in PLOTS:
        results, claim = made([Comparison("a", "b")], a=[0.9, 0.8, 0.7], b=[0.3, math.nan, 0.2])
        claim.plot = plot
        pictures = draw(results, tmp_path / plot)
        assert pictures["mine"].read_bytes().startswith(b"\x89PNG")
        said = page(results, "x", {"mine": Path("reproduce/mine.png")}, HISTORY, "p")
        assert said[-1] == "![A title, of it](reproduce/mine.png)"


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
    assert found["no sound: video/accuracy"] == 0.6
    assert found["features, video/class, 5-NN"] == 0.8
    assert found["embedding/class, audio → video"] == 0.2
    rows = {"own audio": {k: {"mean": 0.4} for k in ("ciou", "auc", "ciou_adaptive")}}
    located = localised(
        {"measures": {"rows": rows}}, {"own boxes": {"measures": {"class_ap": {"0.5": 0.3}}}, "true boxes": {}}
    )
    assert located["heat map: own audio/cIoU"] == 0.4
    assert located["detector: own boxes/AP at IoU 0.5"] == 0.3
    assert {name.rpartition("/")[0] for name in located} <= {*FIGURES}


def test_words_of_a_training():
    arms = {"a": Arm(longer=1.5), "b": Arm(start="a", train=["model.init={start}"])}
    claim = Claim(
        "t", "c.", train=["experiment=small"], arms=arms, compare=[Comparison("b", "a")], sample={"train": 40}
    )
    job = training_of(Plan(), Scale(train=0.5), claim, arms["a"], "sample", 100)
    assert train_words(job) == ["experiment=small", "optim.epochs=60", "labelling.passes=16", "seed=100"]
    assert job.videos.options == (("test", 30), ("train", 20))
    started = training_of(Plan(), Scale(train=0.5), claim, arms["b"], "sample", 100)
    assert started.start == job
    assert "model.init='runs/a'" in train_words(started, "runs/a")
    claim = replace(claim, clips=1000)
    assert training_of(Plan(), Scale(length=0.5), claim, arms["a"], "sample", 1).words[-1] == "optim.clips=750"


def test_the_command_that_writes_the_page_again():
    told = command(ReproduceConfig(profile="quick", seeds=[4, 2], claims=["heads"], report=True))
    assert told == "python -m experiments reproduce profile=quick claims=[heads] seeds=[4,2] report=true"
    assert command(ReproduceConfig()) == "python -m experiments reproduce"


@pytest.fixture
def small_plan(tmp_path, monkeypatch):
    """A plan of one claim in place of the project's, in a folder that is no checkout."""
    file, arms = tmp_path / "plan.yaml", {name: {"train": [f"optim.lr={i + 1}"]} for i, name in enumerate("ab")}
    claim = {"title": "A title, of it", "claim": "A claim.", "data": ["sample"], "measures": ["NMI"], "arms": arms}
    claim["compare"] = [{"arm": "a", "than": "b"}]
    file.write_text(json.dumps({"seeds": 3, "claims": {"mine": claim}}))
    monkeypatch.setattr(module, "read_plan", lambda: read_plan(file))
    monkeypatch.setattr(module, "plan_history", lambda: plan_history(file))
    monkeypatch.setattr(module, "plan_digest", lambda out: provenance.plan_digest(out, file))
    monkeypatch.setattr(module, "freeze", lambda out: provenance.freeze(out, file))
    monkeypatch.setattr(module, "check_claims", lambda config: None)
    monkeypatch.setattr(module, "commit", lambda: "abc")
    return file


def test_a_run_trains_what_is_missing_and_refuses_to_mix(tmp_path, small_plan, monkeypatch, capsys):
    trained = []

    def train(place, job, wanted, data):
        trained.append(job)
        lr = float(job.words[0].partition("=")[2])
        figures = {"joint/NMI": 0.9 - 0.1 * lr - 0.001 * (job.seed % 2) * lr, "training/seconds": 1.0}
        return Done(figures, place.machine, "abc", place.plan)

    monkeypatch.setattr(module, "train_and_measure", train)
    monkeypatch.setattr(module, "make_videos", lambda *given: (None, None))
    first = ReproduceConfig(out=str(tmp_path / "first"), device="cpu", jobs=1)
    results = module.run(first)
    assert len(trained) == 6
    assert by_set(decide(results), "mine") == {"sample": HELD}
    out = tmp_path / "first"
    assert "**holds (on sample alone)**" in (out / "reproduce.md").read_text()
    assert (out / "plan.yaml").read_text() == small_plan.read_text()
    known = ReproduceConfig(out=str(tmp_path / "second"), device="cpu", known=[str(out / "reproduce.json")])
    module.run(known)
    assert len(trained) == 6  # what is known is not trained
    monkeypatch.setattr(module, "machine", lambda device: "another one")
    module.run(known)  # nothing is left to train
    kept = read_known(known.known)
    assert {done.plan for done in kept.values()} == {provenance.digest(small_plan)}
    held = json.loads((out / "reproduce.json").read_text())
    held["trainings"].popitem()
    (tmp_path / "part.json").write_text(json.dumps(held))
    part = replace(known, out=str(tmp_path / "third"), known=[str(tmp_path / "part.json")])
    with pytest.raises(UserError, match="within one commit and one machine, not abc on .* and abc on another one"):
        module.run(part)
    assert len(trained) == 6
    module.run(replace(part, exploratory=True))
    assert len(trained) == 7
    assert "Nothing on this page is decided" in (tmp_path / "third" / "reproduce.md").read_text()
    assert not (tmp_path / "third" / "plan.yaml").exists()
    small_plan.write_text(small_plan.read_text().replace('"seeds": 3', '"seeds": 4'))
    monkeypatch.setattr(module, "machine", lambda device: next(iter(kept.values())).machine)
    module.run(first)  # a seed more than was planned: exploratory
    assert len(trained) == 15
    assert "plan of it was changed" in (out / "reproduce.md").read_text()
    capsys.readouterr()


def test_known_files_that_are_none(tmp_path, capsys):
    (tmp_path / "list.json").write_text('{"trainings": []}')
    with pytest.raises(UserError, match="no reproduce.json"):
        read_known([str(tmp_path / "list.json")])
    words = ["reproduce", "claims=[heads]", f"out={tmp_path / 'new'}", "device=cpu"]
    assert main([*words, "known=[nowhere.json]"]) == 2
    assert main(["reproduce", "claims=[haeds]"]) == 2
    assert "claims=haeds is not in plan.yaml; did you mean heads?" in capsys.readouterr().err
    assert main([*words, "exploratory=true", "report=true"]) == 2
    assert "no training in" in capsys.readouterr().err


def test_git_knows_the_plan(tmp_path):
    history = plan_history(PLAN)
    assert history.changed or len(history.date) == 10
    (tmp_path / "plan.yaml").write_text("")
    assert plan_history(tmp_path / "plan.yaml").commit == ""


def test_the_machine_is_named():
    assert f"PyTorch {torch.__version__}" in machine(torch.device("cpu"))
    assert slug("Joint, video & audio") == "joint-video-audio"


def test_what_others_start_from_is_trained_first():
    plan = read_plan()
    results = planned(ReproduceConfig(claims=["start"]), plan, plan)
    jobs = jobs_of(results, "start")
    firsts = {job for job in jobs if job.start is None}
    assert {job.start for job in jobs if job.start} <= firsts
    assert jobs[: len(firsts)] == [job for job in jobs if job in firsts]
