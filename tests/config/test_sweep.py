"""--multirun: what is trained, and where to."""

import pytest

from avssl.cli import main
from avssl.config import TrainConfig
from avssl.config.sweep import compose_sweep
from avssl.core.errors import UserError

BASE = ["data.root=videos", "task=gdt"]


def folders(*words: str) -> list[str]:
    return [config.out for config in compose_sweep("train", TrainConfig, [*BASE, *words])[0]]


def test_every_combination_has_a_folder_of_its_own():
    configs, _ = compose_sweep("train", TrainConfig, [*BASE, "contrast=preset_1,preset_2", "seed=0,1"])
    assert [(config.contrast.axes, config.seed) for config in configs] == [
        (config.contrast.axes, seed) for config in configs[::2] for seed in (0, 1)
    ]
    assert configs[0].contrast != configs[2].contrast
    assert [config.out for config in configs] == [
        f"runs/videos_gdt_seed{seed}_contrast={preset}" for preset in ("preset_1", "preset_2") for seed in (0, 1)
    ]


def test_a_range_sweeps_and_the_seed_is_named_once():
    assert folders("seed=range(0,3)") == [f"runs/videos_gdt_seed{seed}" for seed in range(3)]


def test_values_that_no_folder_can_be_named_after():
    assert folders("clip.decoder='auto','pyav'", "contrast.modalities=[video,audio],[video]") == [
        f"runs/videos_gdt_seed0_clip.decoder={decoder}_contrast.modalities={names}"
        for decoder in ("auto", "pyav")
        for names in ("-video-audio", "-video")
    ]


def test_a_folder_that_is_given_names_what_differs():
    assert folders("out='mine/${seed}'", "seed=4,5") == ["mine/4", "mine/5"]
    with pytest.raises(UserError, match="two runs of the sweep would write to mine"):
        folders("out=mine", "seed=4,5")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["seed=0"], "no option has several values"),
        (["seed=0,1", "optim.lr=high,low"], "optim.lr"),
        (["seed=0,1", "sead=1"], "did you mean seed?"),
        (["contrast=preset_1,preset_99"], "no contrast=preset_99"),
        (["optim.lr=interval(0,1)"], "cannot be swept"),
        (["experiment=glob(*)"], "cannot be swept"),
        (["seed", "workers=0,1"], "seed needs a value: seed=…"),
    ],
)
def test_a_wrong_word_is_one_line(words: list[str], line: str, capsys: pytest.CaptureFixture[str]):
    assert main(["train", "--multirun", *BASE, *words]) == 2
    errors = capsys.readouterr().err
    assert line in errors
    assert errors.count("\n") == 1


def test_several_values_without_multirun(capsys: pytest.CaptureFixture[str]):
    assert main(["train", *BASE, "contrast=preset_1,preset_2"]) == 2
    assert "--multirun" in capsys.readouterr().err
    assert main(["index", "--multirun", "data.root=a,b"]) == 2
    assert "--multirun is for train, not index" in capsys.readouterr().err
