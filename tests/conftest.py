"""Media that the tests make, and places that they may look at."""

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from avssl.cli import main
from avssl.sample.picture import write_mp4

# a busy machine is no failure
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# a thread that waits for another must not keep a core busy: other processes need it (read when torch is imported)
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

pytest.register_assert_rewrite("tests.media.against_pyav")

LONGEST = (
    "docs/test_docs_snippets.py", "launch/test_slurm.py", "launch/test_slurm_training.py", "train/test_distributed.py",
    "experiments/test_claims.py", "models/test_foreign_encoders.py", "explore/test_explorer_page.py",
    "gpu/test_bodies_on_cpu.py", "train/test_resume.py", "objectives/test_labelling_training.py",
    "examples/test_real_videos.py", "examples/test_first_clusters.py", "label/test_label.py",
    "evaluate/test_command.py", "experiments/test_objectives.py", "launch/test_local.py", "test_wheel.py",
    "experiments/test_hypotheses.py", "benchmarks/test_sinkhorn_bench.py", "core/test_fuzz_untrusted.py",
)  # fmt: skip
"""The files of tests that take longest: several pytest processes begin with them, so that none ends alone with one."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first; all else in its order."""
    folder = Path(__file__).parent
    order = {folder / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path, len(order)))


SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """A training computes in one thread unless told otherwise: of two threads on busy cores each waits for the other,
    and a training of a second takes ten. Words of processes say threads=1 themselves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("avssl.core.device.available_cores", lambda: 1)
        yield


@pytest.fixture(scope="session", autouse=True)
def _librosa_once() -> Iterator[None]:
    """Clusters' sounds are described in this process: in one of its own, each time, librosa takes seconds to import."""

    def here(function: Callable, items: Iterable, *_: object) -> Iterator[tuple]:
        return ((item, function(item)) for item in items)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("avssl.explore.sound_descriptions.run_isolated", here)
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_word_of_patience() -> Iterator[None]:
    """On a busy machine a command that imports torch would print that it is at work, among the lines of a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("avssl.cli.QUIET", 600.0)
        yield


@pytest.fixture(scope="session")
def clips_folder() -> Path:
    """Real video files beside the checkout; not part of the project."""
    folder = SHARED / "clips"
    if not folder.is_dir():
        pytest.skip(f"no real clips in {folder}")
    return folder


def made_once(factory: pytest.TempPathFactory, name: str, *options: str) -> list[str]:
    """The words that name a sample of 3 classes, 12 training and 4 test videos each, and its index: made by the first
    of several pytest processes that asks for it."""
    folder = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        words = [f"data.root={folder / name}", f"data.index={folder / name}_index"]
        if not (folder / f"{name}.made").exists():
            sizes = ["classes=3", "train=12", "test=4", *options]
            assert main(["sample", f"out={folder / name}", *sizes, "workers=1"]) == 0
            assert main(["index", *words, "workers=1"]) == 0
            (folder / f"{name}.made").touch()
    return words


def made_with_features(factory: pytest.TempPathFactory) -> tuple[list[str], str]:
    """The words of 36 training videos long enough for two clips apart, and the folder of features of three clips of
    each."""
    words = made_once(factory, "apart", "min_seconds=2.2", "max_seconds=2.4")
    out = words[0].removeprefix("data.root=") + "_features"
    options = ["model=tiny", "clip=tiny", "views=3", "workers=0", "threads=1", "device=cpu"]
    with Path(f"{out}.lock").open("w") as lock:  # of several pytest processes, the first one makes them
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main(["features", *words, *options, f"out={out}"]) == 0
    return words, out


@pytest.fixture(scope="session")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The words that name a tiny sample and its index."""
    return made_once(tmp_path_factory, "tiny")


@pytest.fixture(scope="session")
def tiny_sample(indexed: list[str]) -> Path:
    return Path(indexed[0].removeprefix("data.root="))


def write_video(path: Path, seconds: float = 1.5, fps: float = 15.0, rate: int = 24000, loud: float = 0.3) -> Path:
    """A grey ramp with a tone: frame k has brightness 10 k."""
    path.parent.mkdir(parents=True, exist_ok=True)
    n = round(seconds * fps)
    frames = np.repeat(np.minimum(250, 10 * np.arange(n))[:, None, None, None], 3, 3).astype(np.uint8)
    frames = np.ascontiguousarray(np.broadcast_to(frames, (n, 64, 64, 3)))
    t = np.arange(round(seconds * rate)) / rate
    write_mp4(path, frames, (loud * np.sin(2 * np.pi * 440 * t)).astype(np.float32), fps=fps, audio_rate=rate)
    return path
