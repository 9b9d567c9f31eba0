"""Heat maps over previews: what is written, what is refused, and what stays when clusters are computed again."""

import base64
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from avssl.core.errors import UserError
from avssl.core.journal import Journal
from avssl.explore.explorer import chosen_rows, preview_name, write_explorer
from avssl.explore.overlays import Overlay, write_overlays
from avssl.explore.previews import JOURNAL, VERSION, Stretch, read_previews
from tests.explore.test_explorer import payload
from tests.explore.test_explorer_page import explorer_of

CLUSTERS = 3


def overlay(moments: int = 2, of: Stretch | None = None, **changed) -> Overlay:
    maps = np.arange(moments * 12, dtype=np.uint8).reshape(moments, 3, 4)
    boxes = np.tile(np.float32([0.1, 0.2, 0.5, 0.6]), (moments, 1))
    given = {"times": np.arange(moments) / 2, "maps": maps, "other": maps[::-1], "boxes": boxes,
             "extent": (0.0, 0.1, 1.0, 0.9), "cluster": 1, "score": 0.25, "of": of}  # fmt: skip
    return Overlay(**{**given, **changed})


def shown_page(folder: Path, step: int = 7, **stamps) -> dict[str, Stretch]:
    """An explorer with previews that are empty files; returns what they show, by name."""
    explorer = explorer_of(20, CLUSTERS)
    explorer.assignments.step = step
    shown = [chosen_rows(explorer, c, 2) for c in range(CLUSTERS)]
    rows = {preview_name(c, place): explorer.rows(c)[place] for c, kinds in enumerate(shown)
            for places in kinds.values() for place in places}  # fmt: skip
    path = explorer.assignments.path
    stretches = {
        name: stamps.get(Path(path[row]).stem) or Stretch(path[row], 10, 2**60 + 1, 0.1, 1.6)
        for name, row in rows.items()
    }
    write_explorer(folder, explorer, shown, None, stretches)
    (folder / "previews").mkdir(exist_ok=True)
    with Journal(folder / "previews" / JOURNAL, VERSION) as journal:
        for name, of in stretches.items():
            (folder / "previews" / name).parent.mkdir(exist_ok=True)
            (folder / "previews" / f"{name}.mp4").touch()
            journal.add(name, {"of": list(of), "why": ""})
    return stretches


def data(folder: Path) -> dict:
    return dict(payload(path) for path in (folder / "data").glob("locate*.js"))


def places(folder: Path) -> set[str]:
    """The names of the previews that have an overlay."""
    return {f"{name[-5:]}/{int(place):07}" for name, value in data(folder).items() if name != "locate"
            for place in value["previews"]}  # fmt: skip


def test_overlays_are_written_by_cluster_and_read_back(tmp_path):
    there = shown_page(tmp_path)
    assert data(tmp_path) == {
        "locate": {
            "key": data(tmp_path)["locate"]["key"], "note": "", "split": "", "clusters": [], "maps": 0,
            "compared": False,
        }
    }  # fmt: skip
    assert read_previews(tmp_path / "previews") == there
    boxes = np.float32([[-0.5, 0.25, 1.5, 0.75], [1.2, 0.0, 1.4, 1.0], [0.5, 0.5, 0.5, 0.9], [np.nan] * 4])
    some = {name: overlay(4, of, boxes=boxes) for name, of in there.items() if name.startswith("00001")}
    assert write_overlays(tmp_path, some, "Weak </script>", "test") == len(some) > 2
    index = data(tmp_path)["locate"]
    assert (index["split"], index["maps"]) == ("test", len(some))
    assert (index["note"], index["clusters"], index["compared"]) == ("Weak </script>", [1], True)
    name, of = next((name, of) for name, of in there.items() if name in some)
    entry = data(tmp_path)["locate_00001"]["previews"][str(int(name.partition("/")[2]))]
    assert (entry["path"], entry["middle"], entry["size"]) == (of.path, 0.9, [3, 4])
    assert base64.b64decode(entry["maps"]) == bytes(range(48))
    assert base64.b64decode(entry["other"])[:12] == bytes(range(36, 48))
    assert entry["boxes"] == [[0, 0.25, 1, 0.75], None, None, None]  # inside the picture, and with an area
    assert entry["still"] == pytest.approx(12 / 15)  # the frame in the middle of 24
    assert write_overlays(tmp_path, {name: overlay(other=None)}) == 1  # in place of the earlier ones
    assert places(tmp_path) == {name}
    assert data(tmp_path)["locate"]["compared"] is False


def test_overlays_of_what_a_preview_no_longer_shows_are_left_out(tmp_path):
    there = shown_page(tmp_path)
    names = sorted(there)
    (tmp_path / "previews" / f"{names[1]}.mp4").unlink()
    some = {
        names[0]: overlay(of=there[names[0]]._replace(path="another.mp4")),
        names[1]: overlay(of=there[names[1]]),
        names[2]: overlay(of=there[names[2]]._replace(start=5.0)),
        names[3]: overlay(of=there[names[3]]),
        "00000/0099999": overlay(),
    }
    assert write_overlays(tmp_path, some) == 1
    assert places(tmp_path) == {names[3]}


def test_the_same_clusters_again_keep_their_overlays_and_others_lose_them(tmp_path):
    there = shown_page(tmp_path / "a")
    write_overlays(tmp_path / "a", {name: overlay(of=of) for name, of in there.items()}, "weak", "test")
    before = data(tmp_path / "a")
    assert places(tmp_path / "a") == set(there)
    for number, (change, kept) in enumerate([
        ({}, set(there)),
        ({"step": 8}, set()),  # the model was trained on
        ({"video_0000005": Stretch("train/some folder/video_0000005.mp4", 11, 0, 0.1, 1.6)}, None),  # a new file
    ]):  # fmt: skip
        folder = tmp_path / str(number)
        shutil.copytree(tmp_path / "a", folder)
        now = shown_page(folder, **change)
        expected = kept if kept is not None else {name for name in now if now[name] == there[name]}
        assert places(folder) == expected
        if kept:
            assert data(folder) == before
    assert len(expected) == len(there) - 1
    index = data(folder)["locate"]
    assert (index["note"], index["split"], index["maps"]) == ("weak", "test", len(there) - 1)


@pytest.mark.parametrize(
    "damage", ['avssl.put("locate",{"clusters":[0,', 'avssl.put("locate",{"key":KEY,"clusters":["../x",9]});\n']
)
def test_damaged_overlays_are_dropped(tmp_path, damage):
    there = shown_page(tmp_path)
    write_overlays(tmp_path, {name: overlay(of=of) for name, of in there.items()})
    key = json.dumps(data(tmp_path)["locate"]["key"])
    (tmp_path / "data/locate.js").write_text(damage.replace("KEY", key))
    shown_page(tmp_path)
    assert places(tmp_path) == set()
    assert data(tmp_path)["locate"]["clusters"] == []


@pytest.mark.parametrize(("changed", "message"), [
    ({"times": np.float32([0.5, 0.5])}, "times must ascend"),
    ({"times": np.float32([0.5, np.nan])}, "times must be"),
    ({"maps": np.zeros((2, 3, 4), np.float32)}, "maps must be uint8"),
    ({"maps": np.zeros((3, 3, 4), np.uint8)}, "maps must be uint8"),
    ({"maps": np.zeros((2, 65, 4), np.uint8), "other": None}, "at most 64"),
    ({"other": np.zeros((2, 4, 3), np.uint8)}, "other must be like maps"),
    ({"boxes": np.zeros((1, 4))}, "boxes must be"),
    ({"extent": (0.5, 0.0, 0.5, 1.0)}, "extent"),
])  # fmt: skip
def test_overlays_that_cannot_be_drawn_are_refused(tmp_path, changed, message):
    name = sorted(shown_page(tmp_path))[0]
    with pytest.raises(ValueError, match=message):
        write_overlays(tmp_path, {name: overlay(**changed)})
    assert places(tmp_path) == set()


def test_without_a_page_or_with_an_old_one_it_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match="there is no page of clusters"):
        write_overlays(tmp_path / "none", {})
    shown_page(tmp_path)
    overview = tmp_path / "data/overview.js"
    overview.write_text(overview.read_text().replace('"version":2', '"version":1'))
    with pytest.raises(UserError, match="repeat `avssl clusters`"):
        write_overlays(tmp_path, {})
