"""`python -m experiments localisation`: its arms."""

import pytest

from avssl.config import TrainConfig
from avssl.config.check_given import check_given
from avssl.config.compose import compose_config
from avssl.train.check_options import check
from experiments.localisation import ARMS, train_words


@pytest.mark.parametrize("name", ARMS)
def test_every_arm_can_be_trained(name):
    words = ["data.root=x", *train_words(name, 640)]
    config = compose_config("train", TrainConfig, words)
    check(config)
    check_given([config], words)
