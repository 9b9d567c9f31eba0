"""What becomes of a job, by how its training ended and what SLURM says of it."""

import os
import signal
import time

import pytest

from avssl.launch.ending import (
    FINISHED,
    FOLDER,
    REFUSED,
    REQUEUE,
    STOPPED,
    Ending,
    planned,
    read_endings,
    run_and_record_exit,
)
from avssl.launch.requeue import decide, describe, newest, status_of
from avssl.train.signals import Stopped, StopSignals

RUNNING, ENDING = ("RUNNING", "None"), ("COMPLETING", "None")
TIME_LIMIT = ("COMPLETING", "TimeLimit")


@pytest.mark.parametrize(
    ("status", "state", "requeued"),
    [
        (FINISHED, RUNNING, False),
        (REFUSED, RUNNING, False),
        (STOPPED, RUNNING, False),
        (REQUEUE, RUNNING, True),
        (137, RUNNING, True),
        # scancel: bash, ended by a signal, reports the status of what it ran before
        (FINISHED, ENDING, False),
        (143, ENDING, False),
        (REQUEUE, ENDING, False),
        (1, ENDING, False),
        # out of time before all was saved: it saved something, or nothing
        (FINISHED, TIME_LIMIT, True),
        (137, TIME_LIMIT, True),
        (REQUEUE, TIME_LIMIT, True),
        (STOPPED, TIME_LIMIT, False),
        (REFUSED, TIME_LIMIT, False),
    ],
)
def test_what_is_requeued(status: int, state: tuple[str, str], requeued: bool):
    assert decide(status, "failed", *state, failures=0, newer=True, restarts=3).requeue is requeued


def test_failures_count_while_no_checkpoint_is_written():
    failures, requeued = 0, []
    for newer in (True, False, False, True, False, False, False):
        decision = decide(1, "failed", *RUNNING, failures=failures, newer=newer, restarts=3)
        failures = decision.failures
        requeued.append((decision.failures, decision.requeue))
    assert requeued == [(1, True), (2, True), (3, True), (1, True), (2, True), (3, True), (4, False)]


def test_no_restarts_is_none():
    assert not decide(1, "failed", *RUNNING, failures=0, newer=True, restarts=0).requeue
    assert decide(REQUEUE, "", *RUNNING, failures=0, newer=True, restarts=0).requeue


def test_the_cause_is_the_signal_that_killed_or_the_first_error():
    lost = [Ending(0, 1, "Traceback\nRuntimeError: Connection closed by peer", 1.0)]
    assert describe(137, lost) == "a process was killed by SIGKILL"
    assert describe(143, lost) == "process 0 failed: RuntimeError: Connection closed by peer"  # srun's SIGTERM
    assert describe(1, []) == "failed with status 1"


def test_what_the_processes_say_counts_more_than_srun():
    stopped, lost = Ending(1, STOPPED, "", 1.0), Ending(0, 1, "RuntimeError: Connection closed by peer", 2.0)
    assert status_of(143, [stopped, lost]) == STOPPED
    assert status_of(1, [lost, Ending(1, REFUSED, "no such file", 3.0)]) == REFUSED
    assert status_of(137, [lost]) == 137
    assert status_of(FINISHED, []) == FINISHED
    # a scheduler's signal before Python could answer it
    assert status_of(128 + signal.SIGUSR2, []) == REQUEUE


def test_a_process_that_srun_stopped_after_a_failure_is_not_stopped_by_the_user():
    failed, stopped = Ending(0, 1, "DistNetworkError: address already in use", 1.0), Ending(1, STOPPED, "", 2.0)
    assert status_of(1, [failed, stopped]) == 1
    assert planned([failed, stopped]) is None
    assert planned([failed, Ending(1, REQUEUE, "", 2.0)]) == REQUEUE  # srun does not send what schedulers send
    decision = decide(1, describe(1, [failed, stopped]), *RUNNING, failures=0, newer=False, restarts=3)
    assert decision.requeue
    assert decision.why.startswith("process 0 failed: DistNetworkError: address already in use, failure 1")


def stop_slowly(config: object) -> None:
    signals = StopSignals()
    os.kill(os.getpid(), signal.SIGTERM)
    assert signals
    signals.since -= 60  # it saved for a minute
    signals.close()
    raise Stopped(since=signals.since)


def test_the_ending_of_a_process_that_stopped_is_of_the_time_of_its_signal(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv(FOLDER, str(tmp_path))
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
    before, handlers = time.time(), {number: signal.getsignal(number) for number in numbers}
    try:
        assert run_and_record_exit(None, "tests.launch.test_requeue:stop_slowly") == FINISHED
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    (ending,) = read_endings(tmp_path)
    assert (ending.rank, ending.status) == (3, STOPPED)
    assert ending.time < before


def test_the_newest_checkpoint_is_found_by_name(tmp_path):
    assert newest(tmp_path) == ""
    for name in ("step_0000000005", "step_0000000120", ".step_0000000900"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert newest(tmp_path) == "step_0000000120"
