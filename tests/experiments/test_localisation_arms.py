"""`python -m experiments localisation`: its arms, and the part of its page on pictures of two objects."""

import pytest

from avssl.config import TrainConfig
from avssl.config.check_given import check_given
from avssl.config.compose import compose_config
from avssl.train.check_options import check
from experiments.localisation import ARMS, train_words
from experiments.localisation_page import two_objects


@pytest.mark.parametrize("name", ARMS)
def test_every_arm_can_be_trained(name):
    words = ["data.root=x", *train_words(name, 640)]
    config = compose_config("train", TrainConfig, words)
    check(config)
    check_given([config], words)


def test_two_objects_of_each_arm_and_a_dash_where_they_were_not_measured():
    def located(iiou: float) -> dict:
        controls = {name: {"iiou": 0.0} for name in ("swapped", "centre")}
        return {"located": {"interactive": {"iiou": iiou, "iauc": 0.5, "ciou": 0.75, **controls}}}

    found = {("a", 0): located(0.5), ("a", 1): located(0.7), ("b", 0): located(0.5), ("b", 1): {"located": {}}}
    table = [line.strip("| ").split(" | ") for line in two_objects(found, ["a", "b"], [0, 1]) if line.startswith("|")]
    assert table[0][:3] == ["run", "IIoU", "IAUC"]
    assert [cell.split(" ± ")[0] for cell in table[2]] == ["a", "60.0", "50.0", "75.0", "0.0", "0.0"]
    assert table[3] == ["b", *["–"] * 5]
