import json
import re

import numpy as np
import pytest

from avssl.core.errors import UserError
from avssl.explore.assignments import Assignments
from avssl.explore.explorer import ROWS, Explorer, chosen_rows, rename, write_explorer
from avssl.explore.names import Names
from avssl.explore.neighbours import places, similarity
from avssl.metrics.clustering import clustering_table

HOSTILE = '"></script><img src=x onerror=alert(1)>\u2028é\udcff.mp4'


def payload(path):
    """What a data file puts, and under which name."""
    text = path.read_text("utf-8")
    name, value = re.fullmatch(r'avssl\.put\("(\w+)",(.*)\);\n', text, re.DOTALL).groups()
    return name, json.loads(value)


def assignments(n, clusters, seed=0, classes=True):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, clusters - 1, (n, 2))  # the last cluster stays empty
    label[0] = -1
    sure = rng.random((n, 2)).astype(np.float32)
    sure[0] = np.nan
    video, audio = (np.where(rng.random((n, 2)) < 0.7, label, (label + 1) % (clusters - 1)) for _ in range(2))
    names = [f"class {c}" if classes else None for c in rng.integers(0, 40, n)]
    path = [HOSTILE if i == 5 else f"v{i % (n - 3)}.mp4" for i in range(n)]  # the last three are second windows
    return Assignments(path, ["train"] * n, names, np.zeros(n), label, video, audio, sure, sure, sure, clusters,
                       "run", 3, 1)  # fmt: skip


def written(tmp_path, a, **options):
    table = clustering_table({"joint": a.label}, a.class_ids()[0], np.array([1.0, 0.5]), a.clusters)
    explorer = Explorer(a, 1, "data", table=table, **options)
    shown = [chosen_rows(explorer, c, 2) for c in range(a.clusters)]
    page = write_explorer(tmp_path, explorer, shown)
    data = dict(payload(path) for path in (tmp_path / "data").glob("*.js"))
    return page, data, shown


def test_every_video_is_in_its_cluster_once_the_most_confident_first(tmp_path):
    a = assignments(5000, 3)
    page, data, _ = written(tmp_path, a, url=lambda row: f"file:///{row}")
    assert page.is_file()
    about = data["overview"]
    assert (about["videos"], about["undecodable"], about["clusters"]) == (4999, 1, 3)
    found = []
    for cluster in about["cluster"]:
        shards = [data[f"cluster_{cluster['id']:05d}_{number}"] for number in range(cluster["shards"])]
        assert all(len(shard["path"]) == ROWS for shard in shards[:-1])
        rows = [int(url.rpartition("/")[2]) for shard in shards for url in shard["url"]]
        assert len(rows) == cluster["size"]
        assert (a.label[rows, 1] == cluster["id"]).all()
        assert (np.diff(a.confidence_joint[rows, 1]) <= 0).all()
        for shard in shards:
            for column in ("class", "split", "start", "confidence", "video", "audio"):
                assert len(shard[column]) == len(shard["path"])
        if rows:
            assert [about["classes"][c] for s in shards for c in s["class"]] == [a.classes[row] for row in rows]
            agree = (a.label_video[rows, 1] == a.label_audio[rows, 1]).mean()
            assert cluster["agreement"] == pytest.approx(agree, abs=1e-5)
            counted = dict(map(tuple, cluster["classes"]))
            assert len(counted) == 30
            assert sum(counted.values()) + cluster["other_classes"] == cluster["size"]
            assert cluster["purity"] == pytest.approx(max(counted.values()) / cluster["size"], abs=1e-5)
        found += rows
    assert sorted(found) == list(range(1, 5000))
    assert about["cluster"][2]["size"] == 0
    assert about["cluster"][2]["confidence"] == {"joint": None, "video": None, "audio": None}


def test_no_name_can_end_a_script_or_stop_the_writing(tmp_path):
    written(tmp_path, assignments(50, 3))
    for path in (tmp_path / "data").glob("*.js"):
        text = path.read_text("utf-8")
        assert "<" not in text
        assert "\u2028" not in text


def test_shown_videos_are_different_ones(tmp_path):
    explorer = Explorer(assignments(60, 4), 1, "data")
    for cluster in range(3):
        rows = explorer.rows(cluster)
        shown = chosen_rows(explorer, cluster, 3)
        assert shown["confident"][0] == 0
        assert shown["least"][0] == len(rows) - 1
        together = [place for kind in shown.values() for place in kind]
        paths = [explorer.assignments.path[rows[place]] for place in together]
        assert len(set(paths)) == len(paths) == 9
        assert shown == chosen_rows(explorer, cluster, 3)
    every = chosen_rows(explorer, 0, 1000)
    assert len(every["confident"]) == len({explorer.assignments.path[row] for row in explorer.rows(0)})
    assert every["random"] == every["least"] == chosen_rows(explorer, 3, 5)["confident"] == []
    assert chosen_rows(explorer, 0, 0) == {"confident": [], "random": [], "least": []}


def test_another_labelling_leaves_no_data_of_the_last(tmp_path):
    written(tmp_path, assignments(9000, 3))
    before = {p.name for p in (tmp_path / "data").iterdir()}
    _, data, _ = written(tmp_path, assignments(100, 3))
    assert {p.stem for p in (tmp_path / "data").iterdir()} == set(data) < {name[:-3] for name in before}


def test_names_are_put_into_a_page_that_is_there(tmp_path):
    _, data, _ = written(tmp_path, assignments(50, 3, classes=False))
    rename(tmp_path, Names({1: {"name": "</script>"}}, "run", 3, 1))
    assert payload(tmp_path / "data/overview.js")[1] == {**data["overview"], "names": {
        "avssl_names": 1, "run": "run", "model": "", "step": 3, "head": 1, "clusters": {"1": {"name": "</script>"}},
    }}  # fmt: skip
    with pytest.raises(UserError, match="no page of clusters"):
        rename(tmp_path / "none", Names())


@pytest.mark.parametrize("clusters", [1, 2, 3, 8, 40])
def test_alike_clusters_are_near_and_empty_ones_are_nowhere(clusters):
    rng = np.random.default_rng(0)
    means = np.repeat(rng.normal(size=(-(-clusters // 2), 16)), 2, 0)[:clusters] + 0.01 * rng.normal(
        size=(clusters, 16)
    )
    means = np.concatenate([means, np.full((1, 16), np.nan)])
    alike, at = similarity(means), places(means)
    assert np.isnan(at[-1]).all()
    assert np.isnan(alike[-1]).all()
    assert ((at[:-1] >= 0) & (at[:-1] <= 1)).all()
    if clusters >= 8:
        for one in range(0, clusters, 2):
            assert np.argsort(-alike[one, :-1])[:2].tolist() in ([one, one + 1], [one + 1, one])
    assert np.array_equal(at, places(means), equal_nan=True)
    moved = 1e-30 * (1e3 + means)  # the same at any offset and scale
    np.testing.assert_allclose(similarity(moved), alike, atol=1e-9)
    assert np.isnan(places(np.full((3, 4), np.nan))).all()
