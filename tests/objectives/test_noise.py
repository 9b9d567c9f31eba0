"""Noise looks the same at every level of an axis. A classifier that is right more often than chance uses a shortcut."""

from pathlib import Path

import pytest

from tests.objectives.noise import accuracies, write_noise

CHANCE = {"rotation": 1 / 4, "context": 1 / 8}
"""Of the other axes it is one half."""

TERMS = ["rotation", "arrow", "pace", "context", "order", "sync"]
AUGMENTED = ["clip.shift=0.1", "clip.audio_shift=0.1", "clip.noise=0.1", "clip.audio_rate=16000"]
"""Augmentation that would tell a level if it came before or after the wrong step."""


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Files without loss, read through the decoder."""
    folder: Path = tmp_path_factory.mktemp("noise")
    return write_noise(folder, 2, 40.0, video_codec="ffv1", audio_codec="pcm_s16le")


@pytest.mark.parametrize("terms", [TERMS[:1], TERMS[1:]], ids=["rotation", "others"])
def test_nothing_is_predicted_from_noise(terms: list[str], noise: list[str]) -> None:
    """Accuracies on new clips are chance. Rotation is by itself, because its shortcut takes longest to find.

    The clips at the levels of a video are counted as one trial, which is cautious, and the bound is 3.5 deviations.
    """
    steps = 30 if terms == ["rotation"] else 24
    words = [*noise, "task=none", *(f"loss.{term}=1" for term in terms), *AUGMENTED]
    found, count = accuracies(words, steps, steps * 2 // 3)
    assert len(found) == (1 if terms == ["rotation"] else 8)
    for name, accuracy in found.items():
        chance = CHANCE.get(name.partition("_")[0], 1 / 2)
        assert abs(accuracy - chance) < 3.5 * (chance * (1 - chance) / count) ** 0.5, (name, accuracy, found)
