import json

import pytest

from avssl.core.errors import UserError
from avssl.explore.names import read_names


def names(tmp_path, clusters, **about):
    path = tmp_path / "names.json"
    path.write_text(json.dumps({"avssl_names": 1, "step": 7, "head": 2, "clusters": clusters, **about}))
    return read_names(path)


def test_merged_clusters_have_the_name_of_the_last(tmp_path):
    found = names(tmp_path, {"3": {"into": 1}, "1": {"into": 0}, "0": {"name": " dog \n barks "}, "4": {"name": ""}})
    assert [found.target(c) for c in (3, 1, 0, 4, 9)] == [0, 0, 0, 4, 9]
    assert [found.name(c) for c in (3, 0, 4)] == ["dog barks", "dog barks", None]
    assert [found.title(c) for c in (3, 4, 12)] == ["dog barks", "cluster_004", "cluster_012"]


def test_what_is_merged_into_a_rejected_cluster_is_rejected(tmp_path):
    found = names(tmp_path, {"3": {"into": 1}, "1": {"mark": "reject"}, "0": {"mark": "star"}})
    assert [found.rejected(c) for c in (0, 1, 2, 3)] == [False, True, False, True]


def test_written_and_read_again_it_is_the_same(tmp_path):
    found = names(tmp_path, {"3": {"into": 1, "note": "as 1"}, "1": {"name": "x", "mark": "star"}}, run="r")
    (tmp_path / "again.json").write_text(json.dumps(found.to_dict()))
    assert read_names(tmp_path / "again.json") == found


@pytest.mark.parametrize(
    ("clusters", "message"),
    [
        ({"1": {"into": 2}, "2": {"into": 1}}, "circle"),
        ({"0": {"into": 1}, "1": {"into": 2}, "2": {"into": 1}}, "circle"),
        ({"x": {}}, "not a cluster number"),
        ({"-1": {}}, "not a cluster number"),
        ({"1": "dog"}, "must be an object"),
        ({"1": {"title": "dog"}}, "title"),
        ({"1": {"name": 3}}, "name of cluster 1"),
        ({"1": {"into": -1}}, "into of cluster 1"),
        ({"1": {"into": 10**21}}, "into of cluster 1"),
        ({"9" * 5000: {}}, "not a cluster number"),
        ({"01": {}}, "not a cluster number"),
        ({"1": {"name": "x \ud800"}}, "name of cluster 1 is .*, which is not valid Unicode"),
        ({"1": {"mark": "best"}}, "star, reject"),
    ],
)
def test_what_makes_no_sense_is_told(tmp_path, clusters, message):
    with pytest.raises(UserError, match=message):
        names(tmp_path, clusters)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "[" * 200_000, '{"clusters": {}}', '{"avssl_names": 2, "clusters": {}}']
)
def test_another_file_is_told(tmp_path, text):
    (tmp_path / "names.json").write_text(text)
    with pytest.raises(UserError, match=r"names\.json"):
        read_names(tmp_path / "names.json")
    with pytest.raises(UserError, match="cannot be read"):
        read_names(tmp_path / "none.json")


def test_names_of_other_clusters_are_refused(tmp_path):
    found = names(tmp_path, {"4": {"name": "x"}})
    found.check(7, 2, 5)
    with pytest.raises(UserError, match="cluster 99"):
        names(tmp_path, {"0": {"into": 99}}).check(7, 2, 5)
    with pytest.raises(UserError, match="head is '2', which is not a number"):
        names(tmp_path, {}, head="2")
    for step, head, clusters, message in ((8, 2, 5, "step 7"), (7, 1, 5, "head 2"), (7, 2, 4, "cluster 4")):
        with pytest.raises(UserError, match=message):
            found.check(step, head, clusters)


def test_a_names_file_that_an_editor_saved(tmp_path):
    path = tmp_path / "names.json"
    path.write_bytes(b"\xef\xbb\xbf" + b'{"avssl_names": 1, "clusters": {"0": {"name": "red\\u001b[31m"}}}')
    assert read_names(path).name(0) == "red [31m"


def test_names_of_another_model_are_refused(tmp_path, capsys):
    path = tmp_path / "names.json"
    content = {"avssl_names": 1, "run": "runs/a", "model": "0123456789abcdef", "step": 5, "head": 1, "clusters": {}}
    path.write_text(json.dumps(content))
    names = read_names(path)
    names.check(5, 1, 10, "0123456789abcdef", "elsewhere/b")  # the same model in another folder
    with pytest.raises(UserError, match=r"clusters of another model \(runs/a\): name these clusters"):
        names.check(5, 1, 10, "another", "runs/a")
    assert names.to_dict() == content
    assert capsys.readouterr().err == ""
    del content["model"]  # as earlier versions wrote it
    path.write_text(json.dumps(content))
    read_names(path).check(5, 1, 10, "another", "runs/a")
    assert capsys.readouterr().err == ""
    read_names(path).check(5, 1, 10, "another", "runs/b")
    assert "made for the clusters of runs/a" in capsys.readouterr().err
