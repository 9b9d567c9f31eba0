"""Media that the tests make, and places that they may look at."""

import os
from collections.abc import Iterator
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

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """A training computes in one thread unless told otherwise: of two threads on busy cores each waits for the other,
    and a training of a second takes ten. Words of processes say threads=1 themselves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("avssl.core.device.available_cores", lambda: 1)
        yield


@pytest.fixture(scope="session")
def clips_folder() -> Path:
    """Real video files beside the checkout; not part of the project."""
    folder = SHARED / "clips"
    if not folder.is_dir():
        pytest.skip(f"no real clips in {folder}")
    return folder


@pytest.fixture(scope="session")
def tiny_sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample of 3 classes, 12 training and 4 test videos each."""
    out = tmp_path_factory.mktemp("sample") / "tiny"
    assert main(["sample", f"out={out}", "classes=3", "train=12", "test=4", "workers=1"]) == 0
    return out


@pytest.fixture(scope="session")
def indexed(tiny_sample, tmp_path_factory) -> list[str]:
    """The words that name the tiny sample and its index."""
    folder = tmp_path_factory.mktemp("index")
    assert main(["index", f"data.root={tiny_sample}", f"data.index={folder}", "workers=1"]) == 0
    return [f"data.root={tiny_sample}", f"data.index={folder}"]


def write_video(path: Path, seconds: float = 1.5, fps: float = 15.0, rate: int = 24000, loud: float = 0.3) -> Path:
    """A grey ramp with a tone: frame k has brightness 10 k."""
    path.parent.mkdir(parents=True, exist_ok=True)
    n = round(seconds * fps)
    frames = np.repeat(np.minimum(250, 10 * np.arange(n))[:, None, None, None], 3, 3).astype(np.uint8)
    frames = np.ascontiguousarray(np.broadcast_to(frames, (n, 64, 64, 3)))
    t = np.arange(round(seconds * rate)) / rate
    write_mp4(path, frames, (loud * np.sin(2 * np.pi * 440 * t)).astype(np.float32), fps=fps, audio_rate=rate)
    return path
