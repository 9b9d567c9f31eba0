"""On noise nothing tells the level of an axis. What a classifier still finds there would be a shortcut."""

from pathlib import Path

from tests.objectives.noise import accuracies, write_noise

CHANCE = {"rotation": 1 / 4, "context": 1 / 8}
"""Of the other axes it is one half."""

TERMS = ["rotation", "arrow", "pace", "context", "order", "sync"]
AUGMENTED = ["clip.shift=0.1", "clip.audio_shift=0.1", "clip.noise=0.1", "clip.audio_rate=16000"]
"""Augmentation that would tell a level if it came before or after the wrong step."""


def test_nothing_is_predicted_from_noise(tmp_path: Path) -> None:
    """All axes at once, from files without loss, through the decoder: accuracies on new clips are chance.

    The clips at the levels of a video are counted as one trial, which is cautious, and the bound is 3.5 deviations.
    """
    words = write_noise(tmp_path, 2, 40.0, video_codec="ffv1", audio_codec="pcm_s16le")
    found, count = accuracies([*words, "task=none", *(f"loss.{term}=1" for term in TERMS), *AUGMENTED], 24, 16)
    assert len(found) == 9
    for name, accuracy in found.items():
        chance = CHANCE.get(name.partition("_")[0], 1 / 2)
        assert abs(accuracy - chance) < 3.5 * (chance * (1 - chance) / count) ** 0.5, (name, accuracy, found)
