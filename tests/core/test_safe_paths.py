"""Paths made of what others wrote stay below their folder."""

from pathlib import Path

import pytest

from avssl.core.errors import UserError
from avssl.core.safe_paths import below, strays

OUT = ["", "/", "/etc/passwd", "..", "../x", "a/../../x", "a/..", ".", "./", "a/", "a\0b", None, 3, ["a"], b"a"]


@pytest.mark.parametrize("path", OUT)
def test_what_leads_out_is_refused(path, tmp_path):
    assert strays(path)
    with pytest.raises(UserError, match="below"):
        below(tmp_path, path)
    with pytest.raises(UserError, match="below"):
        below(tmp_path, "good", path)


@pytest.mark.parametrize(
    "path", ["a", "a/b.mp4", "..a", "a..b/c", "a\\b", "-x", "~", "${HOME}", "c:x", "é\n", ".hidden"]
)
def test_what_stays_is_taken_as_it_is(path, tmp_path):
    assert strays(path) is None
    assert below(tmp_path, path, writing=True) == tmp_path / path
    assert below(tmp_path, "x", path) == tmp_path / "x" / path


def test_a_link_is_followed_for_reading_alone(tmp_path: Path):
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "in/link").symlink_to(tmp_path / "out")
    assert below(tmp_path / "in", "link/x") == tmp_path / "in/link/x"
    with pytest.raises(UserError, match="leads out"):
        below(tmp_path / "in", "link/x", writing=True)
    (tmp_path / "also").symlink_to(tmp_path / "in")
    assert below(tmp_path / "also", "new/x", writing=True) == tmp_path / "also/new/x"
