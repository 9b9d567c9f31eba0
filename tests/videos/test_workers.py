"""Processes that work on files end with the one that started them."""

import os
import signal
import subprocess
import sys
import time

import pytest

from avssl.core.errors import FailedError
from avssl.videos.workers import run_isolated

PARENT = """
import time
from avssl.videos.workers import run_isolated
if __name__ == "__main__":
    list(run_isolated(time.sleep, [600.0, 600.0], 2, 900.0))
"""


def children(pid: int) -> list[int]:
    """Of a process, those that work."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as stat, open(f"/proc/{name}/cmdline") as line:
                if int(stat.read().rsplit(")", 1)[1].split()[1]) == pid and "spawn_main" in line.read():
                    found.append(int(name))
        except OSError:
            continue
    return found


def lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="looks at processes in /proc")
def test_a_killed_command_leaves_no_process(tmp_path):
    (tmp_path / "parent.py").write_text(PARENT)
    here = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    parent = subprocess.Popen([sys.executable, str(tmp_path / "parent.py")], stderr=subprocess.PIPE, env=here)
    until = time.monotonic() + 600
    while len(found := children(parent.pid)) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(1.0)
    os.kill(parent.pid, signal.SIGKILL)
    said = parent.communicate()[1]
    while any(map(lives, found)) and time.monotonic() < until:
        time.sleep(0.05)
    assert len(found) == 2
    assert not any(map(lives, found))
    assert b"Traceback" not in said


def test_a_process_that_ends_as_it_starts_is_one_line(monkeypatch):
    from avssl.videos import workers

    class Ended:
        def recv(self) -> None:
            raise EOFError

        def fileno(self) -> int:
            return reading

        close = poll = lambda self: None

    class Process:
        kill = join = lambda self: None

    reading, writing = os.pipe()
    monkeypatch.setattr(workers, "_start", lambda *_: workers._Worker(Process(), Ended()))  # type: ignore[arg-type]
    with pytest.raises(FailedError, match="was killed at its start"):
        list(run_isolated(print, [1], 1, 5.0))
    os.close(reading)
    os.close(writing)


def test_a_limit_may_be_longer_than_the_system_waits_at_once():
    assert list(run_isolated(len, ["ab"], 1, 1e9)) == [("ab", 2)]
