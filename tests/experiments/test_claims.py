"""`experiments/plan.yaml`: its reader, and that both sides of every comparison are selected alike."""

import shutil
from dataclasses import replace

import pytest

from avssl.config import TrainConfig
from avssl.config.compose import compose_config
from avssl.core.errors import UserError
from avssl.evaluate.protocols import TASKS
from experiments.plan import PLAN, Arm, Claim, Comparison, as_planned, check_claim, digest, read_plan, sets_of
from experiments.selection import FIGURES, candidates, check_alike, measured_name
from experiments.significance import DIRECTIONS
from experiments.trained import Scale, check_words, training_of
from experiments.videos import TYPEFACES, VOICES, Videos, check_videos

SAID = """
claims:
  one:
    title: One
    claim: A is better than B.
    arms: {a: {train: [x=1]}, b: {}}
    compare: [{arm: a, than: b}]
"""


@pytest.fixture(scope="module")
def plan():
    return read_plan()


def read(tmp_path, text):
    (tmp_path / "plan.yaml").write_text(text)
    return read_plan(tmp_path / "plan.yaml")


@pytest.mark.parametrize("name", read_plan().claims)
def test_every_claim_is_made_of_known_words(plan, name):
    claim = plan.claims[name]
    check_words(plan, claim, sets_of(claim, voices=True))
    assert claim.claim.endswith(".")
    assert ". " not in claim.claim  # one sentence: it is a table's cell
    assert {*claim.tasks} <= {*TASKS, "locate", "detect"}
    assert any(c.decides for c in claim.compare)


def test_arms_of_the_same_words_are_one_training(plan):
    def jobs(seed):
        return [
            training_of(plan, Scale(), claim, arm, of, seed)
            for claim in plan.claims.values() for of in sets_of(claim, False) for arm in claim.arms.values()
        ]  # fmt: skip

    found = jobs(100)
    assert len({job.name for job in found}) == len({*found}) < len(found)
    assert not {job.name for job in found} & {job.name for job in jobs(101)}
    assert all(len(job.name) < 110 and "." not in job.name for job in found)


def test_decided_on_every_set_and_by_margins_that_are_said(plan):
    family = [*plan.deciding(voices=False)]
    assert len({(name, of, id(c)) for name, of, c in family}) == len(family)
    assert {of for _, of, _ in family} == {"sample", TYPEFACES}
    assert VOICES in {of for _, of, _ in plan.deciding(voices=True)}
    assert {c.direction for _, _, c in family} == {*DIRECTIONS}
    for name, _, c in family:
        claim = plan.claims[name]
        if c.direction == "equivalent":
            assert f"within {c.margin:g} points" in f"{claim.claim} {claim.about}"


def test_a_plan_is_read_with_its_defaults(tmp_path):
    found = read(tmp_path, SAID + "seeds: 5\n")
    assert found.seeds_of(found.claims["one"]) == [100, 101, 102, 103, 104]
    assert found.claims["one"].arms["a"] == Arm(train=["x=1"])
    assert [(name, of) for name, of, _ in found.deciding(False)] == [("one", "sample"), ("one", TYPEFACES)]
    found.not_decidable["one"] = "more"
    assert not [*found.deciding(False)]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("title: One", "titel: One", "claims.one: no key titel; did you mean title?"),
        ("title: One", "data: [sample]", "claims.one: title is missing"),
        ("train: [x=1]", "train: x=1", "claims.one.arms.a.train is 'x=1', which is no list"),
        ("{arm: a, than: b}", "{arm: a, than: c}", "one: c is none of its arms"),
        ("{arm: a, than: b}", "{arm: a, than: a}", "one: a − a: an arm is compared with itself"),
        ("{arm: a, than: b}", "{arm: a, than: b, direction: less}", "direction is less, not greater or equivalent"),
        ("{arm: a, than: b}", "{arm: a, than: b, direction: equivalent}", "needs a margin above 0"),
        ("{arm: a, than: b}", "{arm: a, than: b, margin: much}", "compare[0].margin is 'much', which is no float"),
        ("{arm: a, than: b}", "{arm: a, than: b, select: best}", "select is best, not chosen or mean"),
        ("{arm: a, than: b}", "{arm: a, than: b, measure: purity}", "purity is none of its measures"),
        ("b: {}", "b: {of: jont}", "b is measured by jont; did you mean joint?, which is no figure"),
        ("b: {}", "b: {of: 'no sound: joint', best: true}", "cannot be selected by best"),
        ("claims:", "pilot_seeds: [0, 100]\nclaims:", "pilot_seeds are among the seeds that decide"),
        ("claims:", "seeds: 2\nclaims:", "seeds: 2 decide nothing"),
        (
            "claims:",
            "not_decidable: {won: x}\nclaims:",
            "not_decidable names won; did you mean one?, which",
        ),
        ("title: One", "title: One\n    title: Two", "cannot be read"),
        (SAID, "claims: {}", "there is no claim"),
    ],
)
def test_what_is_wrong_with_a_plan_is_said_in_one_line(tmp_path, old, new, said):
    with pytest.raises(UserError) as told:
        read(tmp_path, SAID.replace(old, new, 1))
    assert said in str(told.value)
    assert str(tmp_path / "plan.yaml") in str(told.value)
    assert "\n" not in str(told.value)


def test_a_plan_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="nowhere.yaml"):
        read_plan(tmp_path / "nowhere.yaml")


def test_what_is_planned_does_not_depend_on_how_it_is_explained(tmp_path, plan):
    name = "heads"
    before = as_planned(plan, name)
    other = read_plan()
    other.claims[name] = replace(other.claims[name], note="Said later.", title="Another title")
    assert as_planned(other, name) == before
    other.claims[name].compare[0].margin = 1.0
    assert as_planned(other, name) != before
    other = replace(plan, level=0.1)
    assert as_planned(other, name) != before
    shutil.copy(PLAN, tmp_path / "plan.yaml")
    assert digest(tmp_path / "plan.yaml") == digest()


def test_names_of_what_is_selected():
    assert measured_name("joint", "chosen") == "joint"
    assert measured_name("joint", "mean") == "joint, all heads"
    assert measured_name("joint", "best") == "joint, best head"
    assert measured_name("k-means, both", "chosen") == "k-means, both, lowest inertia"
    assert measured_name("k-means, both", "mean") == "k-means, both"
    for of in FIGURES:
        assert measured_name(of, "chosen")
    with pytest.raises(UserError, match="cannot be selected by mean"):
        measured_name("no sound: joint", "mean")


def test_both_sides_are_selected_alike():
    check_alike({"a": ("joint", "chosen", 6), "b": ("k-means, both", "chosen", 6)})
    check_alike({"a": ("joint", "mean", 6), "b": ("joint", "mean", 1)})
    check_alike({"a": ("joint", "chosen", 6), "b": ("joint", "best", 6)})
    check_alike({"a": ("features, video", "chosen", 0), "b": ("joint", "mean", 6)})
    with pytest.raises(UserError, match="a mean is compared with what is chosen: a and b"):
        check_alike({"a": ("joint", "chosen", 6), "b": ("k-means, both", "mean", 6)})
    with pytest.raises(UserError, match="one of as many has to be chosen on both sides: a has 6, b has 1"):
        check_alike({"a": ("joint", "chosen", 6), "b": ("joint", "chosen", 1)})


def test_one_of_six_heads_is_not_compared_with_one_head(plan):
    claim = plan.claims["heads"]
    wrong = replace(claim, compare=[Comparison("six", "one")])
    with pytest.raises(UserError, match="six has 6, one has 1"):
        check_words(plan, wrong, ["sample"])
    config = compose_config("train", TrainConfig, ["data.root=x", "experiment=selavi_sample"])
    assert candidates("joint", config, 6) == candidates("k-means, both", config, 6) == plan.starts
    assert candidates("features, both", config, 6) == 0


@pytest.mark.parametrize(
    ("videos", "said"),
    [
        (Videos("sample", (), 1, noisy=True), "noisy is of typefaces alone"),
        (Videos("sample", (), 1, few=3, joined=True), "joined takes all"),
        (Videos("sample", (("longtale", 1),), 1), "longtale"),
    ],
)
def test_videos_that_cannot_be_made(videos, said):
    with pytest.raises(UserError, match=said):
        check_videos(videos)


def test_a_start_does_not_start_itself():
    arms = {"a": Arm(start="b"), "b": Arm(start="c"), "c": Arm()}
    with pytest.raises(UserError, match="a starts from b, which starts from another arm itself"):
        check_claim(Claim("t", "c.", arms=arms, compare=[Comparison("a", "c")]))
