"""A real SLURM of this machine, and the command that trains."""

import io
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from avssl import cli
from avssl.assets import assets_root
from tests.conftest import write_video
from tests.launch import counting
from tests.processes import Started

ROOT = Path(__file__).parents[2]


def wait_for(done: Callable[[], object], what: str, seconds: float = 600) -> None:
    """Wait until `done()`; fail saying `what` after `seconds`, which are for a hang, not for a slow machine."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.1)


@dataclass
class Train:
    """`avssl train` with a training that counts steps."""

    words: list[str]

    def submit(self, out: Path | str, steps: int, *words: str) -> subprocess.CompletedProcess[str]:
        """In this process: for what is refused, or trained by SLURM."""
        said, errors = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(said), redirect_stderr(errors):
            patch.chdir(ROOT)  # jobs import the training from here
            patch.setattr(cli, "_resolve", counting.COMMANDS.__getitem__)
            command = ["train", *self.words, f"out={out}", f"optim.epochs={steps}", *words]
            status = cli.main(command)
        return subprocess.CompletedProcess(command, status, said.getvalue(), errors.getvalue())

    def start(self, out: Path, steps: int, *words: str) -> Started:
        """As a process of its own."""
        said = out.with_name(f"{out.name}.said")
        said.unlink(missing_ok=True)
        words = (*self.words, f"out={out}", f"optim.epochs={steps}", *words)
        return Started([*words], said, errors=out.with_name(f"{out.name}.errors"), command=counting.main)

    def run(self, out: Path, steps: int, *words: str) -> subprocess.CompletedProcess[str]:
        started = self.start(out, steps, *words)
        return subprocess.CompletedProcess([], started.end(), started.text(), started.error_text())

    def step(self, out: Path) -> int:
        """Of the newest checkpoint; 0 where there is none."""
        return max((int(path.name[5:]) for path in out.glob("checkpoints/step_*")), default=0)

    def process(self, out: Path, rank: int) -> int:
        """The process that was last to train as `rank`."""
        return int((out / f"process_{rank}").read_text())


@pytest.fixture(scope="session")
def train() -> Train:
    return Train(["data.root=videos", "labelling=selavi"])  # a preset: nothing is chosen from videos


@dataclass
class Slurm:
    """What is asked of SLURM."""

    def ask(self, *words: str) -> str:
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout

    def fields(self, job: str) -> dict[str, str]:
        return dict(f.partition("=")[::2] for f in self.ask("scontrol", "show", "job", "-o", job).split())

    def state(self, job: str) -> str:
        """PENDING, RUNNING, COMPLETED, …"""
        return self.fields(job)["JobState"]

    def seconds(self, job: str) -> int:
        """How long it runs, less than a day."""
        hours, minutes, seconds = map(int, self.fields(job)["RunTime"].split(":"))
        return 3600 * hours + 60 * minutes + seconds

    def ended(self, job: str) -> bool:
        return self.state(job) in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")

    def log(self, out: Path, job: str, task: int = 0) -> str:
        path = out / "slurm" / f"{job}_{task}_log.out"
        return path.read_text() if path.exists() else ""


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """Skips where SLURM is neither there nor can be installed."""
    folder = tmp_path_factory.mktemp("slurm")
    script = str(assets_root() / "slurm" / "one_machine.sh")
    if os.geteuid() != 0:
        pytest.skip("a SLURM of this machine is started by root alone")
    if shutil.which("slurmctld") is None and shutil.which("apt-get") is None:
        pytest.skip("SLURM is not installed, and there is no apt-get to install it")
    started = subprocess.run([script, "start", folder], capture_output=True, text=True, check=False)
    if started.returncode and "installed by apt" in started.stderr:
        pytest.skip(started.stderr.strip())
    assert started.returncode == 0, started.stderr
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    yield Slurm()
    if before is None:
        del os.environ["SLURM_CONF"]
    else:
        os.environ["SLURM_CONF"] = before
    subprocess.run([script, "stop", folder], check=True)


@pytest.fixture
def videos(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of 6 videos in the working folder."""
    made = tmp_path_factory.getbasetemp() / "part.mp4"
    if not made.exists():
        write_video(made)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "videos").mkdir()
    for number in range(6):
        shutil.copy(made, tmp_path / "videos" / f"{number}.mp4")
    return tmp_path / "videos"
