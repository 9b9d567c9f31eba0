"""The length of a run: passes over the videos, or clips."""

import pytest

from avssl.config import TrainConfig
from avssl.config.compose import compose_config
from avssl.core.errors import UserError

WORDS = ["data.root=x", "experiment=small"]


def test_epochs_replace_the_clips_of_a_preset():
    assert compose_config("train", TrainConfig, WORDS).optim.clips > 0
    assert compose_config("train", TrainConfig, [*WORDS, "optim.epochs=3"]).optim.clips == 0


def test_epochs_and_clips_together_are_refused():
    with pytest.raises(UserError, match="give one of them"):
        compose_config("train", TrainConfig, [*WORDS, "optim.epochs=3", "optim.clips=1000"])
