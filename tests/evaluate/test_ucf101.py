"""UCF101 and HMDB51 in miniature, end to end: official split files, three folds, every task, finetuning."""

import json
from pathlib import Path

import numpy as np
import pytest

from avssl.cli import main
from avssl.compose import compose_config
from avssl.config import IndexConfig
from avssl.data.sample_video import write_mp4

pytestmark = pytest.mark.slow

COLOURS = {0: (200, 40, 40), 1: (40, 200, 40), 2: (40, 40, 200)}
GROUPS = (1, 2, 3, 4, 5, 6)
TESTED = {1: (1, 2), 2: (3, 4), 3: (5, 6)}
"""Groups of each fold's test split, as UCF101's g01 to g07 are of its first."""


def video(path: Path, place: int, seed: int, sound: bool) -> None:
    """1.5 s of a class's colour under noise; without `sound` there is no audio stream."""
    from tests.data.make_media import noise, write_media

    rng = np.random.default_rng([place, seed])
    frames = [(rng.integers(0, 50, (48, 64, 3)) + COLOURS[place]).astype(np.uint8) for _ in range(15)]
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = noise(16000, 1.5, seed=seed) if sound else None
    write_media(path, [i / 10 for i in range(15)], frames, samples, 16000, video_codec="mpeg4", audio_codec="aac")


@pytest.fixture(scope="module")
def untrained(tmp_path_factory) -> list[str]:
    """The words for a run of tiny encoders whose training has hardly begun, evaluated as it was before."""
    folder = tmp_path_factory.mktemp("run")
    for split in ("train", "test"):
        for i in range(4):
            frames = np.random.default_rng(i).integers(0, 255, (18, 48, 48, 3)).astype(np.uint8)
            path = folder / f"videos/{split}/a/{i}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            tone = np.sin(np.arange(28800) / 20).astype(np.float32) / 4
            write_mp4(path, frames, tone, 15.0, 24000)
    data = [f"data.root={folder / 'videos'}", f"data.index={folder / 'index'}"]
    assert main(["index", *data, "workers=1"]) == 0
    words = ["experiment=gdt_sample", "optim.epochs=1", "optim.batch=4", "workers=0", "threads=1", "device=cpu"]
    assert main(["train", *data, *words, f"out={folder / 'run'}"]) == 0
    return [f"run={folder / 'run'}", "random=true"]
