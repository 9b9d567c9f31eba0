"""How much is printed is inherited by the processes that a command starts."""

import subprocess
import sys

import pytest

from avssl.core.verbosity import VARIABLE, is_quiet, is_verbose, set_verbosity


@pytest.mark.parametrize(
    ("level", "quiet", "verbose"), [("quiet", True, False), ("verbose", False, True), ("", False, False)]
)
def test_a_level_holds_here_and_in_processes_that_are_started(level, quiet, verbose, monkeypatch) -> None:
    monkeypatch.setenv(VARIABLE, "verbose")
    set_verbosity(level)
    assert (is_quiet(), is_verbose()) == (quiet, verbose)
    code = "from avssl.core.verbosity import is_quiet, is_verbose; print(is_quiet(), is_verbose())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{quiet} {verbose}"
