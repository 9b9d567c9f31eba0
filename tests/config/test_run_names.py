"""A run by its folder, by its name, or by the videos that it learned from."""

import json
import os
from pathlib import Path

import pytest

from avssl.config.run_names import Chosen, Wish, announce_run, choose_run, newest_first, resolve_run, word_for
from avssl.core.errors import UserError


def a_run(folder: Path, name: str, root: str = "", time: float | None = None, state: str = "") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(f"data:\n  root: {json.dumps(root or name)}\n  name: {json.dumps(name)}\n")
    if time is not None:
        (folder / "status.json").write_text(json.dumps({"time": time, "state": state}))
    return folder


@pytest.fixture
def runs(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    runs = tmp_path / "runs"
    a_run(runs / "talks_both_seed0", "talks", time=300)
    a_run(runs / "talks_both_seed1", "talks", time=400)
    a_run(runs / "sweeps" / "vidéos_gdt_seed0", "vidéos d'été", time=200)
    a_run(runs / "late", "birds", root=str(tmp_path / "other"), time=500)
    return runs


def test_a_word_is_a_run_folder_a_run_s_name_a_data_set_or_its_folder(runs: Path, tmp_path: Path) -> None:
    assert resolve_run("runs/talks_both_seed0") == Path("runs/talks_both_seed0")
    assert resolve_run("talks_both_seed0") == Path("runs/talks_both_seed0")
    for word in ("talks", "talks/", "/data/talks", "data/talks"):
        assert resolve_run(word) == Path("runs/talks_both_seed1"), word
    assert resolve_run("vidéos d'été") == Path("runs/sweeps/vidéos_gdt_seed0")
    (tmp_path / "other").mkdir()
    assert resolve_run("other") == Path("runs/late")  # by the folder, where the data set has another name
    (tmp_path / "link").symlink_to("talks")
    assert resolve_run("link") == Path("runs/talks_both_seed1")


def test_no_word_is_the_newest_run_and_a_run_without_status_is_as_old_as_its_config(runs: Path) -> None:
    assert resolve_run("") == Path("runs/late")
    a_run(runs / "queued", "talks")
    os.utime(runs / "queued" / "config.yaml", (450, 450))
    assert resolve_run("talks") == Path("runs/queued")
    assert [path.name for path in newest_first()][:2] == ["late", "queued"]


def test_a_folder_of_videos_with_a_config_yaml_is_the_run(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "talks").mkdir()
    assert resolve_run("talks") == Path("runs/talks_both_seed1")
    (tmp_path / "talks" / "config.yaml").write_text("data: {}\n")
    assert resolve_run("talks") == Path("talks")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("tlaks", "did you mean talks?"),
        ("nowhere/at/all", "`avssl runs` lists them"),
        (
            "clips",
            "clips is not a run folder (no config.yaml), and no run in runs was trained on it: `avssl train clips`",
        ),
        ("a\nb\x1b[2J", "a\\nb\\x1b[2J is not a run folder"),
    ],
)
def test_a_word_that_is_no_run_is_one_line_with_the_fix(word: str, said: str, runs: Path, tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    with pytest.raises(UserError) as error:
        resolve_run(word)
    assert said in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_without_a_run_the_line_says_how_to_make_one(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no run in runs: train one first, with `avssl train my_videos`"):
        resolve_run("")


def test_damaged_runs_of_others_are_passed(runs: Path) -> None:
    for name, config, status in (("a", "data: &x [talks]\n", "{"), ("b", "- talks\n", '{"time": "now"}')):
        (runs / name).mkdir()
        (runs / name / "config.yaml").write_text(config)
        (runs / name / "status.json").write_text(status)
    (runs / "c").mkdir()
    (runs / "c" / "config.yaml").write_text('data: ["talks"]\n')
    assert resolve_run("talks") == Path("runs/talks_both_seed1")


def test_the_run_that_was_taken_is_named_once_and_not_when_quiet(capsys, monkeypatch) -> None:
    monkeypatch.delenv("AVSSL_VERBOSITY", raising=False)
    announce_run(Chosen(Path("runs/a")))
    monkeypatch.setenv("RANK", "1")
    announce_run(Chosen(Path("runs/a")))
    monkeypatch.delenv("RANK")
    monkeypatch.setenv("AVSSL_VERBOSITY", "quiet")
    announce_run(Chosen(Path("runs/a")))
    assert capsys.readouterr().err == "run: runs/a\n"


def test_a_name_of_several_runs_says_which_it_is_and_which_others_there_are(runs: Path) -> None:
    assert choose_run("talks").note == "newest of 2 on talks; the other: runs/talks_both_seed0"
    a_run(runs / "talks_both_seed2", "talks", time=350)
    assert choose_run("data/talks/").note == "newest of 3 on talks; `avssl runs` lists them"
    for word in ("birds", "late", "runs/late", "talks_both_seed0", ""):  # no choice, or the newest of all as asked
        assert choose_run(word).note == "", word


def test_an_unfinished_run_does_not_hide_a_finished_one(runs: Path) -> None:
    a_run(runs / "done", "talks", time=350, state="finished")
    a_run(runs / "broken_off", "talks", time=600, state="stopped")
    for word, on in (("talks", "4 on talks"), ("", "6")):
        chosen = choose_run(word)
        assert chosen.folder == Path("runs/done")
        assert chosen.note == f"newest finished of {on}; runs/broken_off is not finished"
        assert resolve_run(word, wish=Wish(any=True)) == Path("runs/broken_off")  # to watch it
    assert word_for(Path("runs/done")) == "talks"
    assert word_for(Path("runs/broken_off")) == "runs/broken_off"


def test_a_run_with_the_wished_file_comes_before_newer_ones(runs: Path) -> None:
    page = runs / "talks_both_seed0" / "page.html"
    page.touch()
    for word, on in (("talks", "2 on talks; runs/talks_both_seed1"), ("", "4; runs/late")):
        chosen = choose_run(word, wish=Wish(file="page.html"))
        assert chosen.folder == Path("runs/talks_both_seed0")
        assert chosen.note == f"newest with a page of {on} has no page"
    page.unlink()
    assert resolve_run("talks", wish=Wish(file="page.html")) == Path("runs/talks_both_seed1")


@pytest.mark.parametrize("run", ["runs/talks_both_seed0", "/elsewhere/runs/talks_both_seed0"])
def test_names_mean_the_run_that_they_were_made_for(run: str, runs: Path) -> None:
    Path("names.json").write_text(json.dumps({"run": run}))
    wish = Wish(names="names.json")
    for word, on in (("talks", "2 on talks: runs/talks_both_seed1"), ("", "4: runs/late")):
        chosen = choose_run(word, wish=wish)
        assert chosen.folder == Path("runs/talks_both_seed0")
        assert chosen.note == f"names.json names its clusters; newest of {on}"
    assert choose_run("birds", wish=wish) == Chosen(Path("runs/late"))  # the names are of other videos
    Path("names.json").write_text(json.dumps({"run": "runs/talks_both_seed1"}))
    assert choose_run("talks", wish=wish).note == "newest of 2 on talks; the other: runs/talks_both_seed0"
    for damaged in ("", "[]", '{"run": 1}', '{"run": "\\u0000"}'):
        Path("names.json").write_text(damaged)
        assert resolve_run("talks", wish=wish) == Path("runs/talks_both_seed1"), damaged


def test_the_line_says_why_the_run_was_chosen(capsys, monkeypatch) -> None:
    monkeypatch.delenv("AVSSL_VERBOSITY", raising=False)
    announce_run(Chosen(Path("runs/a"), "newest of 2 on talks; the other: runs/b"))
    assert capsys.readouterr().err == "run: runs/a (newest of 2 on talks; the other: runs/b)\n"
