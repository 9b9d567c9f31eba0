import json
import math
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics
from sklearn.metrics.cluster import expected_mutual_information as sklearn_expected

from avssl.core.errors import UserError
from avssl.metrics.clustering import clustering_metrics, clustering_table
from avssl.metrics.head_choice import HeadChoice
from avssl.metrics.information import contingency, expected_mutual_information

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics.npz"


def test_equals_the_published_figures():
    golden = np.load(GOLDEN)
    found = clustering_metrics(golden["pred"], golden["true"], 30)
    names = {"nmi": "nmi", "ami": "ami", "ari": "ari", "accuracy": "acc", "purity": "purity", "entropy": "entropy"}
    for name, key in names.items():
        assert getattr(found, name) == pytest.approx(float(golden[key]), abs=1e-6), name
    assert (found.used, found.clusters, found.videos, found.excluded) == (30, 30, 3000, 0)


labellings = st.integers(1, 60).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(0, 9), min_size=n, max_size=n).map(np.array) for _ in range(2)])
)


@settings(max_examples=150, deadline=None)
@given(labellings)
def test_agrees_with_scikit_learn(pair):
    labels, classes = pair
    found = clustering_metrics(labels, classes)
    assert found.nmi == pytest.approx(sklearn_metrics.normalized_mutual_info_score(classes, labels), abs=1e-9)
    assert found.ari == pytest.approx(sklearn_metrics.adjusted_rand_score(classes, labels), abs=1e-9)
    # scikit-learn divides rounding errors where chance is perfect
    if min(len(np.unique(labels)), len(np.unique(classes))) < len(labels):
        assert found.ami == pytest.approx(sklearn_metrics.adjusted_mutual_info_score(classes, labels), abs=1e-7)
    assert 0 <= found.purity <= 1
    assert (
        found.accuracy <= sum(max(np.bincount(classes[labels == k])) for k in np.unique(labels)) / len(labels) + 1e-12
    )


@settings(max_examples=50, deadline=None)
@given(labellings, st.permutations(range(10)))
def test_names_of_clusters_do_not_matter(pair, names):
    labels, classes = pair
    one = clustering_metrics(labels, classes, 10).to_dict()
    other = clustering_metrics(np.array(names)[labels], classes, 10).to_dict()
    assert one == pytest.approx(other, abs=1e-9)


def test_expected_information_of_long_tails():
    rng = np.random.default_rng(0)
    share = 1 / np.arange(1, 31) ** 2
    table = contingency(*rng.choice(30, (2, 20_000), p=share / share.sum()))
    expected = sklearn_expected(table, int(table.sum()))
    assert expected_mutual_information(table.sum(1), table.sum(0)) == pytest.approx(expected, rel=1e-8)


def test_more_clusters_than_classes_and_fewer():
    # clusters 0 and 1 share class 0: one of them is matched
    more = clustering_metrics(np.array([0, 0, 1, 2]), np.array([0, 0, 0, 1]), 5)
    assert (more.accuracy, more.purity, more.entropy, more.used, more.clusters) == (0.75, 1.0, 0.0, 3, 5)
    fewer = clustering_metrics(np.zeros(4, int), np.array([0, 1, 2, 3]))
    assert (fewer.accuracy, fewer.purity, fewer.nmi) == (0.25, 0.25, 0.0)
    assert fewer.entropy == pytest.approx(math.log(4))


def test_purity_and_entropy_are_unweighted_over_non_empty_clusters():
    labels, classes = np.array([0] * 8 + [3] * 2), np.array([0] * 8 + [0, 1])
    found = clustering_metrics(labels, classes, 10)
    assert found.purity == pytest.approx((1 + 0.5) / 2)
    assert found.entropy == pytest.approx(math.log(2) / 2)


def test_undecodable_and_unclassified_are_excluded_and_counted():
    labels, classes = np.array([0, 1, -1, 0, 1, 0]), np.array([0, 1, 0, -1, 1, 0])
    found = clustering_metrics(labels, classes)
    assert (found.videos, found.excluded, found.accuracy, found.nmi) == (4, 2, 1.0, pytest.approx(1.0))
    none = clustering_metrics(np.array([-1, -1]), np.array([0, 1]), 3)
    assert math.isnan(none.nmi)
    assert none.to_dict()["nmi"] is None
    assert (none.used, none.excluded) == (0, 2)


def test_wrong_input_is_named():
    with pytest.raises(UserError, match="equal length"):
        clustering_metrics(np.zeros(3, int), np.zeros(4, int))
    with pytest.raises(UserError, match="label 5"):
        clustering_metrics(np.array([5]), np.array([0]), 5)
    labels = {"joint": np.zeros((3, 2), int)}
    with pytest.raises(UserError, match="the same shape"):
        clustering_table(labels | {"video": np.zeros((3, 1), int)})
    with pytest.raises(UserError, match="one per video"):
        clustering_table(labels, np.zeros(4, int))
    with pytest.raises(UserError, match="one per head"):
        clustering_table(labels, None, np.zeros(3))


def test_quick_at_the_size_of_vgg_sound():
    """Well below a second; what compares each video with each would take minutes."""
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 400, 230_000)
    labels = np.where(rng.random(230_000) < 0.5, classes, rng.integers(0, 400, 230_000))
    start = time.process_time()
    clustering_metrics(labels, classes, 400)
    assert time.process_time() - start < 20


@pytest.fixture
def labels():
    rng = np.random.default_rng(1)
    classes = np.repeat(np.arange(5), 40)

    def noisy(*shares):
        return np.stack([np.where(rng.random(200) < p, rng.integers(0, 5, 200), classes) for p in shares], 1)

    arrays = {"joint": noisy(0.5, 0.1, 0.3), "video": noisy(0.6, 0.2, 0.4), "audio": noisy(0.7, 0.3, 0.5)}
    for array in arrays.values():
        array[:3] = -1
    return arrays, classes


def test_the_head_is_chosen_by_cost_and_the_best_is_an_oracle(labels):
    arrays, classes = labels
    table = clustering_table(arrays, classes, np.array([2.0, 1.5, 1.0]), 6)
    assert table.chosen_head == 2
    assert table.oracle_head("joint") == 1
    assert (table.undecodable, table.unclassified, table.clusters) == (3, 0, 6)
    out = json.loads(json.dumps(table.to_dict(), allow_nan=False))
    joint = out["evidence"]["joint"]
    assert joint["chosen"]["head"] == 2
    assert joint["oracle_by_nmi"]["head"] == 1
    nmi = [head["metrics"]["nmi"] for head in joint["heads"]]
    assert joint["mean"]["nmi"] == pytest.approx(np.mean(nmi))
    assert joint["sd"]["nmi"] == pytest.approx(np.std(nmi, ddof=1))
    assert clustering_table(arrays, classes).chosen_head is None
    assert clustering_table(arrays, classes, np.array([np.nan, 3, 4])).chosen_head == 1
    one = {name: array[:, :1] for name, array in arrays.items()}
    assert clustering_table(one, classes).chosen_head == 0
    choice = HeadChoice(0, "agreement", [0.9, 0.8, None], ["", "few clusters", ""])
    named = clustering_table(arrays, classes, np.array([2.0, 1.5, 1.0]), 6, choice).to_dict()
    assert [named[key] for key in ("chosen_head", "chosen_by", "chosen_values", "collapsed")] == [
        0, "agreement", [0.9, 0.8, None], ["", "few clusters", ""]
    ]  # fmt: skip


def test_the_choice_does_not_look_at_classes(labels):
    arrays, classes = labels
    cost = np.array([2.0, 1.5, 1.0])
    shuffled = np.random.default_rng(0).permutation(classes)
    assert clustering_table(arrays, shuffled, cost).chosen_head == clustering_table(arrays, None, cost).chosen_head == 2


def test_unlabelled_data_has_label_free_figures(labels):
    arrays, _ = labels
    for classes in (None, np.full(200, -1)):
        table = clustering_table(arrays, classes, np.array([2.0, 1.5, 1.0]))
        assert not table.has_classes
        assert table.oracle_head("joint") is None
        head = table.to_dict()["evidence"]["joint"]["heads"][1]
        assert head["metrics"] is None
        assert head["used"] == 5
        assert head["size_entropy"] == pytest.approx(math.log(5), abs=0.05)
        share = (arrays["video"][3:] == arrays["audio"][3:]).mean(0)
        np.testing.assert_allclose(table.agreement, share)
    same = clustering_table({"video": arrays["video"], "audio": 4 - arrays["video"].clip(0)})
    assert min(same.agreement_nmi) > 0.9
