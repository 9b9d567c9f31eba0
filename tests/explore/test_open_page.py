"""`avssl open`: the page of a run, and what is said where no browser opens."""

import webbrowser

import pytest

from avssl.cli import main
from avssl.explore import clusters, open_page
from avssl.explore.explorer import PAGE


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run in runs/, with a page, in the working folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(open_page.sys, "platform", "linux")
    folder = tmp_path / "runs" / "cats & dogs_selavi_seed0"
    page = folder / open_page.PAGE
    page.parent.mkdir(parents=True)
    page.write_text("<!doctype html>")
    (folder / "config.yaml").write_text("data: {name: cats}\n")
    return folder


def test_the_place_of_the_page():
    assert str(open_page.PAGE) == f"clusters/{clusters.EXPLORER}/{PAGE}"


def test_it_opens_in_the_browser(run, monkeypatch, capsys):
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    monkeypatch.setenv("DISPLAY", ":0")
    assert main(["open"]) == 0
    assert opened == [(run / open_page.PAGE).as_uri()]
    assert "cats & dogs_selavi_seed0/clusters/explorer/index.html" in capsys.readouterr().out


@pytest.mark.parametrize("display", ["", ":0"])
def test_without_a_browser_it_prints_the_path(run, display, monkeypatch, capsys):
    def fail(address):
        assert display  # a browser in the terminal is not asked
        raise webbrowser.Error

    monkeypatch.setattr(webbrowser, "open", fail)
    monkeypatch.setenv("DISPLAY", display)
    assert main(["open", "cats"]) == 0
    out = capsys.readouterr().out
    assert "page: runs/cats & dogs_selavi_seed0/clusters/explorer/index.html" in out
    assert "no browser" in out
    assert "ssh" not in out
    monkeypatch.setenv("SSH_CONNECTION", "1 2 3 4")
    assert main(["open", "cats"]) == 0
    out = capsys.readouterr().out
    assert "http.server 8000 --bind 127.0.0.1 --directory 'runs/cats & dogs_selavi_seed0/clusters/explorer'" in out


def test_a_run_without_a_page_is_one_line(run, capsys):
    (run / open_page.PAGE).unlink()
    assert main(["open", "cats"]) == 2
    assert "run `avssl clusters cats` first" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["open"], ["open", "cats"]])
def test_the_newest_run_that_has_a_page_is_opened(words, run, capsys):
    newer = run.parent / "newer"
    newer.mkdir()
    (newer / "config.yaml").write_text("data: {name: cats}\n")
    (newer / "status.json").write_text('{"state": "finished", "time": 9e9}')
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert "page: runs/cats & dogs_selavi_seed0/clusters" in out
    assert "newest with a page of 2" in err
    assert "runs/newer has no page" in err
    assert open_page.open_words(run, run / open_page.PAGE) == "open the page: avssl open"


def test_how_a_page_is_opened(run, tmp_path):
    assert open_page.open_words(run, run / open_page.PAGE) == "open the page: avssl open"
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "config.yaml").write_text("")
    assert open_page.open_words(other, other / open_page.PAGE) == f"open the page: avssl open {other}"
    assert open_page.open_words(run, tmp_path / "x.html") == f"page: {tmp_path / 'x.html'}"
