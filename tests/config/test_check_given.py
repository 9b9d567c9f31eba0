"""Options that a user gave and no objective of the run uses; those of presets pass."""

import pytest

from avssl.cli import main
from avssl.config import TrainConfig
from avssl.config.check_given import NEEDED, check_given
from avssl.config.compose import compose_config
from avssl.config.presets import groups
from avssl.core.errors import UserError

BASE = ["data.root=x", "experiment=tiny", "workers=0"]

REFUSED = [
    (["objective=rotation", "contrast.compare=all"], "contrast.compare=all has no effect without contrast: omit it"),
    (["objective=jepa", "contrast.released=[loss]"], "contrast.released=[loss] has no effect without contrast"),
    (["objective=swav", "contrast.axes.sample=invariant"], "contrast.axes.sample=invariant has no effect"),
    (["objective=simclr", "labelling.clusters=20"], "labelling.clusters=20 has no effect without labelling: omit it"),
    (["task=gdt", "labelling.passes=9"], "labelling.passes=9 has no effect without labelling"),
    (["objective=npid", "teacher.momentum=0.9"], "teacher.momentum=0.9 has no effect without a teacher"),
    (["objective=simclr", "contrast.min_gap=1"], "contrast.min_gap=1 has no effect without the axis time_shift"),
    (["objective=arrow", "contrast.axes.time_shift=invariant", "contrast.min_gap=1"], "without the axis time_shift"),
    (["objective=simclr", "contrast.speeds=[1,3]"], "contrast.speeds=[1,3] has no effect without the axis speed"),
    (["objective=simclr", "localisation.form=soft"], "localisation.form=soft has no effect without localisation"),
    (
        ["objective=lvs", "localisation.window=3"],
        "localisation.window=3 has no effect without localisation of the form",
    ),
    (["task=gdt", "contrast.crop_side=0.3"], "contrast.crop_side=0.3 has no effect without the axis crop"),
]
USED = [
    ["objective=npid", "contrast.compare=cross_modal", "contrast.axes.sample=distinct"],
    ["task=both", "labelling.clusters=20", "labelling.passes=3", "contrast.released=[reversal]"],
    ["objective=moco", "teacher.momentum=0.9"],
    ["objective=dino", "teacher.momentum=0.9", "teacher.momentum_end=0.99"],
    ["objective=order", "contrast.min_gap=1"],
    ["contrast=preset_4", "task=gdt", "contrast.min_gap=1"],
    ["objective=pace", "contrast.speeds=[1,3]"],
    ["objective=jepa", "contrast.axes.speed=invariant", "contrast.speeds=[1,3]"],
    ["task=gdt", "contrast.axes.crop=invariant", "contrast.crop_side=0.3"],
    ["objective=localisation", "localisation.window=5"],
]


def config_of(words: list[str]) -> TrainConfig:
    return compose_config("train", TrainConfig, [*BASE, *words])


@pytest.mark.parametrize(("words", "said"), REFUSED, ids=[words[-1] for words, _ in REFUSED])
def test_an_option_that_nothing_uses_is_refused(words, said):
    with pytest.raises(UserError) as error:
        check_given([config_of(words)], [*BASE, *words])
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("words", USED, ids=lambda words: " ".join(words))
def test_an_option_that_is_used_passes(words):
    check_given([config_of(words)], [*BASE, *words])


@pytest.mark.parametrize("name", groups(own=False)["objective"])
def test_what_a_preset_sets_passes(name):
    check_given([config_of([f"objective={name}"])], [*BASE, f"objective={name}"])


def test_a_sweep_may_give_what_one_of_its_runs_uses():
    words = ["labelling.clusters=20"]
    configs = [config_of([task, *words]) for task in ("task=selavi", "task=gdt")]
    check_given(configs, words)
    with pytest.raises(UserError, match="has no effect without labelling"):
        check_given(configs[1:], words)


def test_the_command_refuses_it_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["plan", "videos=100", "experiment=tiny", "objective=simclr", "labelling.clusters=20"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "avssl: labelling.clusters=20 has no effect without labelling: omit it, or add loss.labelling=1"
    ]


def test_all_these_options_exist():
    from avssl.config.option import accepted_keys

    assert NEEDED.keys() <= {key.name for key in accepted_keys(TrainConfig)}
