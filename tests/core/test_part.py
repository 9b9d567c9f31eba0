"""Parts of the work that several jobs share."""

import pytest

from avssl.core.part import VARIABLE, Part, part_of, this_part


def test_every_path_is_in_one_part_for_ever():
    paths = [f"class_{i % 7}/{i}.mp4" for i in range(1000)]
    counts = [sum(Part(number, 8).has(path) for path in paths) for number in range(8)]
    assert sum(counts) == 1000
    assert min(counts) > 80
    assert part_of("a/b.mp4", 64) == part_of("a/b.mp4", 64)
    # in every version: journals of earlier parts must fit
    assert [part_of(path, 16) for path in ("a.mp4", "b/c.mkv", "d\udc80.mp4")] == [4, 13, 11]


def test_rows_are_shared_in_order():
    assert [row for number in range(5) for row in Part(number, 5).rows(13)] == [*range(13)]


def test_the_environment_says_which(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert this_part() is None
    monkeypatch.setenv(VARIABLE, "3/8")
    assert this_part() == Part(3, 8)
    with pytest.raises(ValueError, match="no part 8 of 8"):
        Part(8, 8)


@pytest.mark.parametrize("word", ["3", "x", "3/", "/16", "1/100001", "2/2", "-1/4"])
def test_another_word_is_refused(word, monkeypatch):
    monkeypatch.setenv(VARIABLE, word)
    with pytest.raises(ValueError):
        this_part()
