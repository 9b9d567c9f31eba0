"""`avssl runs`: what state each training is in."""

import json
import os
import socket
import subprocess
import sys
import time

import pytest

from avssl.cli import main
from avssl.runs.sign_of_life import step_words
from avssl.runs.status import figures, state_of

ALIVE = {"state": "running", "step": 3, "total": 9, "host": socket.gethostname(), "pid": os.getpid()}


def test_states():
    now = time.time()
    assert state_of(ALIVE | {"time": now}) == "running"
    assert state_of(ALIVE | {"time": now, "pid": 2**22 + 1}) == "lost"
    assert state_of(ALIVE | {"time": now, "host": "elsewhere"}) == "running"
    assert state_of(ALIVE | {"time": now - 3600, "host": "elsewhere"}) == "lost"
    assert state_of({"state": "finished", "time": 0}) == "finished"
    assert state_of({}) == "unknown"


def test_a_step_of_an_unfinished_run_says_so(tmp_path):
    assert step_words(tmp_path, 1500) == "step 1,500"  # no status, as with published weights
    (tmp_path / "status.json").write_text(json.dumps({"state": "stopped", "step": 33, "total": 50}))
    assert step_words(tmp_path, 33) == "step 33 of 50 (the run is not finished)"
    assert step_words(tmp_path, 50) == "step 50"


def test_the_newest_comes_first_and_damage_does_not_matter(tmp_path, capsys):
    for number, name in enumerate(("old", "a/new", "broken")):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text("")
        (folder / "status.json").write_text(json.dumps(ALIVE | {"time": time.time() - 100 + number}))
    (tmp_path / "broken" / "status.json").write_text("{")
    (tmp_path / "old" / "metrics.jsonl").write_text('{"step": 1, "kind": "train", "loss": 0.5}\n{"step": 2, "ki')
    (tmp_path / "not_a_run").mkdir()
    (tmp_path / "not_a_run" / "status.json").write_text("{}")
    assert main(["runs", f"folder={tmp_path}"]) == 0
    said = capsys.readouterr().out
    assert said.index("a/new") < said.index("old") < said.index("broken")
    assert "not_a_run" not in said
    assert "3 of 9" in said
    assert figures(tmp_path / "old") == (0.5, {})


def test_names_of_runs_are_whole(tmp_path, capsys):
    name = "a_folder_of_many_videos_with_a_long_name_selavi_seed0"
    (tmp_path / name).mkdir()
    (tmp_path / name / "config.yaml").write_text("")
    (tmp_path / name / "status.json").write_text(json.dumps(ALIVE))
    assert main(["runs", f"folder={tmp_path}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith(name) for line in lines)
    assert max(map(len, lines)) <= 80
    (tmp_path / name).rename(tmp_path / (2 * name))
    assert main(["runs", f"folder={tmp_path}"]) == 0
    assert 2 * name in capsys.readouterr().out.splitlines()  # on a line of its own


def test_runs_as_json(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "config.yaml").write_text("")
    (tmp_path / "one" / "status.json").write_text(json.dumps(ALIVE | {"time": time.time()}))
    (tmp_path / "one" / "metrics.jsonl").write_text('{"step": 1, "kind": "train", "loss": NaN}\n')
    words = [sys.executable, "-m", "avssl", "runs", f"folder={tmp_path}", "json=true"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    (run,) = json.loads(done.stdout, parse_constant=pytest.fail)["runs"]
    assert (run["run"], run["state"], run["step"], run["loss"]) == (str(tmp_path / "one"), "running", 3, None)
    assert "3 of 9" in done.stderr


def test_no_runs_is_one_line(tmp_path, capsys):
    for folder in (tmp_path, tmp_path / "none"):
        assert main(["runs", f"folder={folder}"]) == 2
        assert str(folder) in capsys.readouterr().err
