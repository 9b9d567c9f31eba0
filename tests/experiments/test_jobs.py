"""Jobs side by side."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from avssl.core.errors import UserError
from experiments import jobs
from experiments.jobs import avssl, run_parallel
from tests.launch.conftest import wait_for


def test_results_come_in_the_order_asked_for():
    def late(job):
        time.sleep(0.02 * (3 - job))
        return 10 * job

    assert list(run_parallel(late, [0, 1, 2], 3).items()) == [(0, 0), (1, 10), (2, 20)]


def test_an_error_is_the_callers():
    with pytest.raises(ZeroDivisionError):
        run_parallel(lambda job: 1 // job, [1, 0], 2)


def test_a_command_in_a_process_of_its_own(tmp_path, capfd):
    spent = avssl("sample", [f"out='{tmp_path / 'videos'}'", "classes=2", "train=1", "test=1"], tmp_path / "it")
    assert spent.seconds > 0
    assert spent.core_seconds > 0
    assert "4 videos written" in (tmp_path / "it.log").read_text()
    with pytest.raises(UserError, match=r"it: avssl: no command 'smaple'; did you mean sample\?.*it\.log"):
        avssl("smaple", [], tmp_path / "it")
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads processes' environments in /proc")
@pytest.mark.parametrize("ended_by", [signal.SIGKILL, signal.SIGINT])
def test_a_command_ends_with_who_started_it(ended_by, tmp_path):
    mark = str(uuid.uuid4())
    words = [f"out={tmp_path / 'sample'}", "train=4000", "workers=1"]
    call = f"run_parallel(lambda _: avssl('sample', {words}, Path({str(tmp_path / 'a')!r})), [0], 1)"
    # without the imports of trainings, which take seconds and these videos do not need
    code = f"""
from multiprocessing import get_context
from pathlib import Path
from experiments import jobs
from experiments.jobs import avssl, run_parallel
bare = get_context("forkserver")
bare.set_forkserver_preload([])
jobs._processes = lambda: bare
{call}
"""
    # the tests may have been started where Ctrl-C is ignored: in the background
    heard = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    starter = subprocess.Popen([sys.executable, "-c", heard + code], env={**os.environ, "AVSSL_TEST_MARK": mark})
    try:
        wait_for(lambda: list(tmp_path.glob("sample/**/*.mp4")), "the first video", 120)
        assert len(marked(mark)) >= 2
        starter.send_signal(ended_by)
        starter.wait(600)
    finally:
        starter.kill()
    wait_for(lambda: not marked(mark), "the end of the processes", 120)
    assert len(list(tmp_path.glob("sample/**/*.mp4"))) < 4000


def test_a_command_that_is_killed_is_told(tmp_path):
    words = [f"out='{tmp_path / 'videos'}'", "train=4000", "workers=1"]
    with ThreadPoolExecutor(1) as pool:
        command = pool.submit(avssl, "sample", words, tmp_path / "it")
        wait_for(lambda: list(tmp_path.glob("videos/**/*.mp4")), "the first video", 120)
        [process] = jobs._running
        process.kill()
        with pytest.raises(
            UserError, match=r"it: avssl sample was killed \(out of memory\?\); repeat the command to resume .*it\.log"
        ):
            command.result()
    assert not jobs._running


def marked(mark: str) -> list[int]:
    """Processes that have it in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"AVSSL_TEST_MARK={mark}".encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found
