"""What a cluster sounds like."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from avssl.explore.sound_descriptions import (
    BRIGHT,
    PERCUSSIVE,
    QUIETEST,
    SUSTAINED,
    SoundDescription,
    describe_previews,
    describe_samples,
    summarise,
)
from avssl.videos.workers import run_isolated
from tests.conftest import write_video

RATE = 24000
TIME = np.arange(2 * RATE) / RATE


@pytest.fixture(autouse=True)
def _in_a_process_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a user's command does; other tests describe sounds in theirs."""
    monkeypatch.setattr("avssl.explore.sound_descriptions.run_isolated", run_isolated)


def clicks(bpm: float, level: float = 0.5, seconds: float = 2.0) -> np.ndarray:
    """Bursts of noise that fade within 20 ms."""
    rng = np.random.default_rng(0)
    samples = np.zeros(round(seconds * RATE), np.float32)
    for start in np.arange(0.1, seconds - 0.02, 60 / bpm):
        at = round(start * RATE)
        samples[at : at + 480] += level * rng.standard_normal(480) * np.exp(-np.arange(480) / 100)
    return samples


def tone(hertz: float, level: float = 0.1) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hertz * TIME)).astype(np.float32)


def noise(seed: int = 0) -> np.ndarray:
    """The differences of white noise, which is more of it the higher."""
    return np.diff(0.05 * np.random.default_rng(seed).standard_normal(2 * RATE + 1)).astype(np.float32)


@pytest.mark.parametrize("bpm", [90, 120, 150])
def test_clicks_are_percussive_and_have_their_tempo(bpm: int) -> None:
    found = describe_samples(clicks(bpm), RATE)
    assert found.tempo == pytest.approx(bpm, rel=0.02)
    assert found.percussive > PERCUSSIVE
    assert found.text.startswith("bright, percussive, ")


def test_a_low_tone_is_dark_and_sustained_and_has_no_beat() -> None:
    found = describe_samples(tone(200), RATE)
    assert found.brightness == pytest.approx(200, abs=15)
    assert found.percussive < SUSTAINED
    assert found.tempo is None
    assert found.loudness == pytest.approx(-23.01, abs=0.02)
    assert found.text == "dark, sustained, −23 dB"


@pytest.mark.parametrize("seed", range(8))
def test_noise_is_bright_and_has_no_beat(seed: int) -> None:
    found = describe_samples(noise(seed), RATE)
    assert found.brightness > BRIGHT
    assert SUSTAINED < found.percussive < PERCUSSIVE
    assert found.tempo is None
    assert found.text == "bright, −23 dB"


def test_silence_is_silent() -> None:
    assert describe_samples(np.zeros(RATE, np.float32), RATE) == SoundDescription(QUIETEST)
    assert describe_samples(np.zeros(0, np.float32), RATE).text == "silent"
    assert describe_samples(1e-3 * tone(200), RATE).text == "silent"


def test_a_moment_of_sound_has_no_tempo() -> None:
    found = describe_samples(tone(3000)[:100], RATE)
    assert found.tempo is None
    assert found.brightness > BRIGHT


def test_several_videos_have_a_tempo_where_most_have_the_same() -> None:
    a, b, c = (SoundDescription(-20.0, 3000.0, 0.8, tempo) for tempo in (120.0, 122.0, 90.0))
    assert summarise([a, b, c]).tempo == 121.0
    assert summarise([a, c]).tempo is None
    silent = SoundDescription(QUIETEST)
    assert summarise([a, silent]).tempo is None
    assert summarise([a, silent]).brightness == 3000.0
    assert summarise([a, silent]).loudness == pytest.approx(-23.01, abs=0.01)  # half the power
    assert summarise([silent]).text == "silent"
    assert summarise([]) is None


def test_clusters_are_described_by_their_previews(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4")
    (tmp_path / "bad.mp4").write_text("no video")
    found = describe_previews([[video, video], [], [tmp_path / "bad.mp4"], [tmp_path / "none.mp4", video]], 1)
    assert [*found] == [0, 3]
    assert found[0].text.startswith("dark, sustained, ")
    assert found[0].brightness == pytest.approx(440, abs=60)
    assert describe_previews([[], []], 1) == {}


def test_librosa_is_imported_where_it_is_needed_alone() -> None:
    code = "import sys, avssl.explore.clusters; print('librosa' in sys.modules, 'numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
