"""A run's heartbeat, and the progress of what is not a training step."""

import io
import json
import os
import time

import pytest
from rich.console import Console

from avssl.cli import main
from avssl.core import progress
from avssl.runs.sign_of_life import LOST_AFTER, state_of
from avssl.train import heartbeat as beats
from avssl.train import log as log_module
from avssl.train.heartbeat import BEAT, Heartbeat, process_start
from avssl.train.log import RunLog
from avssl.train.signals import Stopped


def wait_for(condition, seconds=600.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def times(path):
    return json.loads(path.read_text())["time"]


def test_a_run_beats_while_its_process_is_busy_and_stops_when_it_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(log_module, "BEAT", 0.02)
    log = RunLog(tmp_path, 0, 9)
    path = tmp_path / "status.json"
    first = times(path)
    wait_for(lambda: times(path) > first)
    log.advance(4, "")
    wait_for(lambda: json.loads(path.read_text())["step"] == 4)
    log.status("finished")
    last = path.read_text()
    time.sleep(0.1)
    assert path.read_text() == last
    assert json.loads(last)["state"] == "finished"
    log.close()
    assert not log.heartbeat.thread.is_alive()


def test_a_beat_survives_a_disk_that_takes_nothing_for_a_while(tmp_path, monkeypatch):
    path, failing, tried = tmp_path / "status.json", [], []
    original = beats.write_json

    def sometimes(target, value):
        tried.append(value)
        if failing:
            raise OSError(30, "Read-only file system")
        original(target, value)

    monkeypatch.setattr(beats, "write_json", sometimes)
    heartbeat = Heartbeat(path, 0.02)
    heartbeat.write({"state": "running"})
    failing.append(True)
    count = len(tried)
    wait_for(lambda: len(tried) > count + 2)
    failing.clear()
    before = times(path)
    wait_for(lambda: times(path) > before)
    heartbeat.close()


def test_a_folder_that_was_taken_away_is_not_made_anew(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    heartbeat = Heartbeat(folder / "status.json", 0.01)
    heartbeat.write({"state": "running"})
    with heartbeat.write_lock:
        (folder / "status.json").unlink()
        folder.rmdir()
    time.sleep(0.1)
    heartbeat.close()
    assert not folder.exists()


def test_the_end_of_a_run_is_said_where_it_cannot_be_written(tmp_path, monkeypatch, capsys):
    log = RunLog(tmp_path, 0, 9)

    def full(target, value):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(beats, "write_json", full)
    log.status("finished")
    log.close()
    assert "No space left" in capsys.readouterr().out


@pytest.mark.skipif(process_start(os.getpid()) is None, reason="no /proc")
def test_a_live_process_is_never_lost(tmp_path):
    log = RunLog(tmp_path, 0, 9)
    log.close()
    status = json.loads((tmp_path / "status.json").read_text())
    assert LOST_AFTER >= 5 * BEAT
    assert state_of(status | {"time": 0.0}) == "running"  # alive, though it could not write for long
    assert state_of(status | {"time": 0.0, "pid_start": 1}) == "lost"  # another process has its number now
    assert state_of(status | {"time": 0.0, "host": "elsewhere"}) == "lost"


def test_a_stop_is_told_once(monkeypatch, capsys):
    for said, lines in ((True, 0), (False, 1)):

        def stop(config, said=said):
            raise Stopped(said=said)

        monkeypatch.setattr("avssl.cli._resolve", lambda name, stop=stop: stop)
        assert main(["models"]) == 130
        assert len(capsys.readouterr().err.splitlines()) == lines


def test_time_left():
    left = progress.TimeLeft(10)
    left.began -= 60
    assert left(10, 100) == left(100, 100) == ""
    assert left(40, 100) == ", 2:00 left"
    left = progress.TimeLeft(10)
    left.began -= 60
    assert left(11, 101) == ", 1:30:00 left"


def test_time_left_does_not_count_the_start_of_processes(monkeypatch):
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    left = progress.TimeLeft()
    now = 40.0  # the first part ends: processes had to start
    assert left(1, 1000) == ", 11:06:00 left"
    now = 50.0
    assert left(101, 1000) == ", 1:30 left"


@pytest.mark.parametrize(
    ("seconds", "lines"),
    [
        # each part's end: the first had to wait for processes, so that its pace says nothing
        ([85, 86, 87, 88], ["sounds: 1 of 4", "sounds: 4 of 4"]),
        ([85, 86, 120, 121], ["sounds: 1 of 4", "sounds: 3 of 4, 0:40 left", "sounds: 4 of 4"]),
        ([85, 125], ["sounds: 1 of 2", "sounds: 2 of 2"]),
        ([85, 125, 126], ["sounds: 1 of 3", "sounds: 2 of 3, 1:02 left", "sounds: 3 of 3"]),
        ([1, 2, 3], []),
    ],
)
def test_lines_off_a_terminal_are_right_and_end_with_the_last_part(seconds, lines, monkeypatch, capsys):
    monkeypatch.delenv("AVSSL_VERBOSITY", raising=False)
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)

    def parts():
        nonlocal now
        for end in seconds:
            now = end
            yield end

    assert list(progress.track(parts(), "sounds", len(seconds))) == seconds
    assert capsys.readouterr().out.splitlines() == lines


@pytest.mark.parametrize("terminal", [False, True])
def test_a_part_of_the_work_is_shown_on_a_terminal_and_off_it(tmp_path, monkeypatch, terminal):
    shown = io.StringIO()
    monkeypatch.setattr(
        log_module, "Console", lambda **options: Console(file=shown, force_terminal=terminal, width=100, **options)
    )
    monkeypatch.setattr(progress, "SAY_EVERY", 0.0)
    log = RunLog(tmp_path, 3, 9)
    for done in (0, 64, 100):
        if done:
            log.part[2].began -= 10
        log.show("labelling 2 of 8, videos", done, 100)
        log.progress.refresh()
    log.close()
    assert "labelling 2 of 8, videos" in shown.getvalue()
    if terminal:
        assert "64/100" in shown.getvalue()
    else:
        assert "step 3 of 9; labelling 2 of 8, videos: 64 of 100, 0:06 left of that" in shown.getvalue()


def test_a_quiet_log_prints_its_results_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AVSSL_VERBOSITY", "quiet")
    monkeypatch.setattr(progress, "SAY_EVERY", -1.0)
    log = RunLog(tmp_path, 3, 9)
    log.say("a note")
    log.advance(4, "loss 1")
    log.say("trained", result=True)
    log.close()
    assert capsys.readouterr().out == "trained\n"
