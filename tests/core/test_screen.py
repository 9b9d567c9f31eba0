"""What others wrote steers no terminal."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table

from avssl.cli import main
from avssl.config import DataConfig
from avssl.core.screen import Console, one_line, printable
from avssl.videos.layout import scan

STEERING = "\x1b[2J\x1b]0;title\x07\x9b31m\x08\x00\u202e\u2066\u200f\x7f\ud800"


def test_steering_characters_are_escaped():
    text = f"a{STEERING}\tb\nc"
    for shown in (printable(text), one_line(text)):
        assert not any(c in shown for c in STEERING if c not in "[2J]0;title31m")
        assert "\\x1b[2J" in shown
        assert "\\u202e" in shown
    assert printable("é日本🎬\t\n'") == "é日本🎬\t\n'"
    assert one_line("a\nb\tc\u2028") == "a\\nb\\tc\\u2028"


@pytest.mark.parametrize("terminal", [False, True])
def test_the_console_sends_its_own_sequences_alone(terminal):
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=200, highlight=False)
    table = Table("[bold]head[/]")
    table.add_row(STEERING)
    console.print(table)
    console.print(STEERING, markup=False, soft_wrap=True)
    console.print(f"[red]{STEERING}[/]")
    said = out.getvalue().replace("\x1b[1m", "").replace("\x1b[31m", "").replace("\x1b[0m", "")
    assert not any(c in said for c in "\x1b\x07\x9b\x08\x00\u202e\u2066\u200f\x7f\ud800")
    assert said.count("\\x1b[2J") == 3


def test_an_error_is_one_line_whatever_it_repeats(capsys):
    assert main(["runs", "folder='no\n\x1b[31mavssl: fine'"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_errors_name_their_path(capsys, monkeypatch, tmp_path):
    from avssl.core import atomic

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left") as caught:
        atomic.write_text(tmp_path / "a.csv", "x")
    assert caught.value.filename == str(tmp_path / "a.csv")


def test_an_encoding_without_our_characters(monkeypatch):
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="ascii") for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    assert main(["models", "show", "name=é→"]) == 2
    print("é→")
    out.flush()
    assert out.buffer.getvalue() == b"\\xe9\\u2192\n"  # type: ignore[attr-defined]
    err.flush()
    assert b"no published model is called \\xe9\\u2192" in err.buffer.getvalue()  # type: ignore[attr-defined]


def test_a_working_folder_that_was_removed(tmp_path: Path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert main(["runs"]) == 2
    assert capsys.readouterr().err == "avssl: the working folder was removed: cd to a folder that exists\n"
    assert main(["--version"]) == 0


def test_work_goes_on_when_its_reader_has_gone():
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as file:
        console = Console(file=file)
        console.print("a line that nobody reads")
        console.print("and another")
        print("and one that is not the console's", file=file, flush=True)


def test_a_folder_that_steers_the_terminal_is_escaped_where_folders_are_told_of(tmp_path, capsys):
    for folder in ("Train/a", "test/b", "\x1b[2Jother"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "x.mp4").write_bytes(b"0")
    scan(DataConfig(root=str(tmp_path)))
    said = capsys.readouterr().err
    assert "\\x1b[2Jother" in said
    assert "\x1b" not in said


def test_names_are_no_emoji(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["clusters", "run=runs/a:x:b"]) == 2
    assert "a:x:b" in capsys.readouterr().err


@pytest.mark.parametrize(("line", "status"), [("--version", 0), ("trian", 2)])
def test_closed_streams_change_no_status(line, status):
    command = f"exec {sys.executable} -m avssl {line}"
    for closed in (">&-", "2>&-", ">&- 2>&-"):
        done = subprocess.run(["sh", "-c", f"{command} {closed}"], capture_output=True, text=True, check=False)
        assert done.returncode == status
        assert "Traceback" not in done.stderr
