"""Journals of results: positions by path in little memory, also when paths have the same hash."""

import json
import tracemalloc
from pathlib import Path

import pytest

from avssl.core import places
from avssl.core.journal import Journal
from avssl.core.places import Hashes, Places


@pytest.fixture(params=[2**64, 3, 1])
def hashes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few values of the hash, or one for all paths."""
    if request.param < 2**64:
        monkeypatch.setattr(places, "hash_of", lambda path: len(path) % request.param << 52)


def value(journal: Journal, path: str) -> int:
    entry = journal.get(path)
    assert entry is not None
    return int(entry["value"])


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


@pytest.mark.usefixtures("hashes")
def test_each_path_has_its_newest_entry(tmp_path: Path):
    names = ["a" * length for length in range(1, 40)] + ["ä", "d\udc80", ""]
    with Journal(tmp_path / "j", 1) as journal:
        for number, name in enumerate(names):
            assert journal.get(name) is None
            journal.add(name, {"value": number})
            assert len(journal) == number + 1
        journal.add("a", {"value": -1})
        journal.add("aaaa", {"value": -4})
        expected = {name: number for number, name in enumerate(names)} | {"a": -1, "aaaa": -4}
        assert {name: value(journal, name) for name in names} == expected
    for read_only in (True, False):
        with Journal(tmp_path / "j", 1, read_only=read_only) as journal:
            assert len(journal) == len(names)
            assert {name: value(journal, name) for name in names} == expected
            assert journal.get("b") is journal.get("bbbb") is None
            assert [*journal.paths()] == names  # in the order of the first entries


@pytest.mark.usefixtures("hashes")
def test_entries_are_read_and_added_while_the_paths_are_iterated(tmp_path: Path):
    with Journal(tmp_path / "j", 1) as journal:
        for name in ("a", "bb", "ccc", "dddd"):
            journal.add(name, {"value": 0})
        found = []
        for name in journal.paths():
            found.append(name)
            journal.get("a")
            journal.add("bb", {"value": len(found)})
            journal.add(f"new {name}", {"value": 0})
        assert found == ["a", "bb", "ccc", "dddd"]
        assert value(journal, "bb") == 4
        assert len([*journal.paths()]) == len(journal) == 8


@pytest.mark.usefixtures("hashes")
def test_compaction_keeps_the_newest_entries_in_order(tmp_path: Path):
    path = tmp_path / "j"
    with Journal(path, 1) as journal:
        for number in range(1300):
            journal.add("abc"[number % 3] * (1 + number % 2), {"value": number})
        journal.add("old", {"value": 0})
    path.write_bytes(path.read_bytes() + b'{"version": 0, "path": "older"}\n{"version": 1, "path": "cut')
    with Journal(path, 1, lambda entry: entry["value"] != 1299) as journal:
        assert [line["path"] for line in lines(path)] == ["a", "bb", "c", "aa", "b", "cc", "old"] == [*journal.paths()]
        assert [line["value"] for line in lines(path)] == [1296, 1297, 1298, 1299, 1294, 1295, 0]
        assert journal.get("aa") is None  # an entry of an earlier command that is not valid
        journal.add("aa", {"value": 1299})
        assert value(journal, "aa") == 1299
        assert value(journal, "bb") == 1297
        assert journal.is_outdated("older")  # although its line is gone


@pytest.mark.usefixtures("hashes")
def test_a_line_that_a_kill_cut_is_ignored(tmp_path: Path):
    path = tmp_path / "j"
    with Journal(path, 1) as journal:
        journal.add("a", {"value": 1})
        journal.add("b", {"value": 2})
    path.write_bytes(path.read_bytes()[:-4])
    with Journal(path, 1, read_only=True) as journal:
        assert [*journal.paths()] == ["a"]
    with Journal(path, 1) as journal:
        assert journal.get("b") is None
        journal.add("b", {"value": 3})
    with Journal(path, 1) as journal:
        assert [value(journal, name) for name in ("a", "b")] == [1, 3]
        assert [*journal.paths()] == ["a", "b"]


def test_paths_with_entries_of_another_version_alone_are_outdated(tmp_path: Path):
    with Journal(tmp_path / "j", 1) as journal:
        for number in range(50):
            journal.add(f"{number}", {})
    with Journal(tmp_path / "j", 2) as journal:
        journal.add("7", {})
        assert [number for number in range(60) if not journal.is_outdated(f"{number}")] == [7, *range(50, 60)]


def test_lines_of_somebody_else_are_ignored(tmp_path: Path):
    bad = [
        "[]",
        "{",
        '{"version": 1}',
        '{"path": "a"}',
        '{"version": 1, "path": ["a"]}',
        '{"version": [], "path": "a"}',
    ]
    (tmp_path / "j").write_text("\n".join(bad) + "\n")
    with Journal(tmp_path / "j", 1) as journal:
        assert len(journal) == 0
        assert [*journal.paths()] == []


def test_a_position_may_be_beyond_4_gb(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(places, "hash_of", lambda path: 2**64 - 1)
    found = Places()
    for place in (0, 2**32 - 1, 2**32, 2**48 - 1):
        found.put("a", place)
    found.put("a", 2**40 + 5, instead=2**32)
    assert found.of("b") == [0, 2**32 - 1, 2**40 + 5, 2**48 - 1]
    assert len(found) == 4


def test_a_path_takes_few_bytes():
    tracemalloc.start()
    found, outdated = Places(), Hashes()
    for number in range(100_000):
        found.put(f"{number}", number)
        outdated.add(f"{number}")
    outdated.sort()
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert taken < 5_000_000  # a dictionary and a set: 16,000,000
    assert len(found.of("77777")) >= 1
    assert "77777" in outdated
    assert "100000" not in outdated
