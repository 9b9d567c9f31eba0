"""`avssl runs`: what state each training is in."""

import json
import os
import socket
import time

from avssl.cli import main
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
    assert figures(tmp_path / "old") == ("0.500", "")


def test_names_of_runs_are_whole(tmp_path, capsys):
    name = "a_folder_of_many_videos_with_a_long_name_selavi_seed0"
    (tmp_path / name).mkdir()
    (tmp_path / name / "config.yaml").write_text("")
    (tmp_path / name / "status.json").write_text(json.dumps(ALIVE))
    assert main(["runs", f"folder={tmp_path}"]) == 0
    cells = [line.split("│")[1].strip() for line in capsys.readouterr().out.splitlines() if "│" in line]
    assert "".join(cells) == name


def test_no_runs_is_one_line(tmp_path, capsys):
    for folder in (tmp_path, tmp_path / "none"):
        assert main(["runs", f"folder={folder}"]) == 2
        assert str(folder) in capsys.readouterr().err
