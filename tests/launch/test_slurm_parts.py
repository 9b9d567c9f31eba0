"""The parts of a long command as jobs of a real SLURM."""

import json
import os
import re
import shutil
import signal
from pathlib import Path

import pytest

from avssl.cli import main
from avssl.runs.jobs import jobs_below
from tests.launch.conftest import ROOT, Slurm, wait_for
from tests.launch.test_parts import index, written

SLURM = ["launch=slurm", "launch.parts=3", "launch.cpus=1", "launch.minutes=30"]


def submit(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[str, str, str]:
    """What a submission says, and the numbers of the array (empty without one) and of the command's job."""
    assert index(*SLURM, *words) == 0
    said = capsys.readouterr().out
    array = re.search(r"submitted job (\d+): \d", said)
    command = re.search(r"submitted job (\d+): the command", said)
    assert command
    return said, array[1] if array else "", command[1]


def test_a_part_that_is_killed_is_submitted_again_alone(
    slurm: Slurm, videos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert index() == 0
    alone = written()
    shutil.rmtree("index")
    said, array, command = submit(capsys)
    assert "3 parts, up to 30 min each" in said
    folder = Path("runs/jobs/index_videos")
    mark = folder / "parts" / "00001.json"
    wait_for(mark.exists, "part 1")
    os.kill(json.loads(mark.read_text())["pid"], signal.SIGKILL)
    assert index(*SLURM) == 2
    assert re.search(r"parts of index_videos are running|is in the queue with index_videos", capsys.readouterr().err)
    wait_for(lambda: all(slurm.ended(f"{array}_{number}") for number in range(3)), "the end of the parts")
    wait_for(lambda: slurm.ended(command), "the end of the job that depends on them")
    assert slurm.state(command) == "CANCELLED"
    (status,) = jobs_below(Path("runs"))
    assert (status.done, status.lost, status.state) == (2, 1, "failed")
    assert not [*Path("index").rglob("all.parquet")]
    began = (folder / "parts" / "00000.json").read_bytes()

    said, array, command = submit(capsys)
    assert "1 of 3 parts" in said
    assert "#SBATCH --array=1\n" in (folder / "slurm" / "array.sbatch").read_text()
    wait_for(lambda: slurm.ended(command), "the end of the command")
    assert slurm.state(command) == "COMPLETED"
    assert written() == alone
    assert (folder / "parts" / "00000.json").read_bytes() == began
    assert main(["runs"]) == 0
    assert re.search(r"index_videos +finished +3 of 3 done", capsys.readouterr().out)
    assert "6 usable" in (folder / "slurm" / f"{command}.out").read_text()


def test_dry_prints_both_scripts(videos: Path, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    words = [
        "launch.dry=true",
        "launch.partition=long",
        "launch.setup=[module load ffmpeg]",
        "launch.sbatch=[exclusive]",
    ]
    assert index(*SLURM, *words, "data.name=a b") == 0
    array, whole = capsys.readouterr().out.split("\n\n")
    for script in (array, whole):
        for line in ("cpus-per-task=1", "time=30", "partition=long", "exclusive", "nodes=1", f"chdir={os.getcwd()}"):
            assert f"#SBATCH --{line}\n" in script
        assert script.splitlines()[-1].endswith("-m avssl index workers=1 'data.name=a b' data.root=videos")
        assert "\nmodule load ffmpeg\n" in script
    assert "#SBATCH --array=0-2\n" in array
    assert 'export AVSSL_PART="$SLURM_ARRAY_TASK_ID/3"\n' in array
    assert "#SBATCH --dependency='afterok:" in whole
    assert "#SBATCH --kill-on-invalid-dep=yes\n" in whole
    assert "AVSSL_PART" not in whole
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("launch.sbatch=['time=3']", "time has its own option: set launch.minutes"),
        ("launch.sbatch=['output=x']", "launch.sbatch: avssl sets output itself: omit it"),
        ("launch.sbatch=['=x']", "is not an option of sbatch"),
        ("launch.dry=false", "launch=slurm needs sbatch"),
    ],
)
def test_a_wrong_option_is_one_line(videos: Path, word: str, line: str, monkeypatch, capsys) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert index(*SLURM, word) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert line in said
    assert not Path("runs").exists()


def test_a_line_break_is_no_line_of_a_script(videos: Path, monkeypatch, capsys) -> None:
    """It would end the comment with sbatch's options, and the rest would be a command."""
    folder = Path("bad\ntouch here\n#")
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert main(["index", str(videos), *SLURM, "launch.dry=true"]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "sbatch cannot take chdir=" in said


def test_a_rejected_job_changes_nothing(videos: Path, monkeypatch, capsys) -> None:
    for part in range(2):
        monkeypatch.setenv("AVSSL_PART", f"{part}/2")
        assert index() == 0
    monkeypatch.delenv("AVSSL_PART")
    before = {path: path.read_bytes() for path in Path("runs").rglob("*.json")}
    program = Path("bin/sbatch")
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'sbatch: error: no such partition' >&2; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent.absolute()}:/usr/bin:/bin")
    assert index(*SLURM, "launch.parts=64") == 2
    assert "no such partition" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in Path("runs").rglob("*.json")} == before
