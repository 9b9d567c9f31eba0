"""How much is printed is inherited by the processes that a command starts."""

import subprocess
import sys

import pytest

from avssl.core import progress
from avssl.core.printable import note, warn
from avssl.core.screen import Console
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


@pytest.mark.parametrize("level", ["", "quiet"])
def test_progress_and_notes_are_printed_unless_quiet(level: str, capsys, monkeypatch) -> None:
    monkeypatch.setenv(VARIABLE, level)
    monkeypatch.setattr(progress, "SAY_EVERY", -1.0)
    assert [*progress.track(range(3), "parts", 3)] == [0, 1, 2]
    warn("a file is skipped")
    note("it begins")
    Console(highlight=False).note("it begins")
    Console(highlight=False).print("a result")
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == "a result"
    assert (len(out.splitlines()), bool(err)) == ((1, False) if level else (6, True))
