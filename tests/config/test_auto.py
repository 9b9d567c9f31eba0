"""What `experiment=auto` decides: a table of facts, the user's words, and that every decision can be composed."""

import pytest

from avssl.config import TrainConfig
from avssl.config.auto import FROM_SCRATCH, Facts, decide, is_left_open
from avssl.config.compose import compose_config
from avssl.core.errors import UserError
from avssl.train.check_options import check

LENGTHS = {"frozen": (76_800, 128), "frozen_video": (76_800, 128), "small": (50_000, 32)}
GPU = {"gpu": True, "kinetics": True}
MVIT = "torchvision:mvit_v2_s"


def facts(rows: int = 300, **others) -> Facts:
    return Facts(**{"rows": rows, "files": rows, "shortest": 2.0, "median": 6.0, "lengths": LENGTHS, **others})


def options(found: Facts) -> dict[str, str]:
    decision = decide(found)
    return {"experiment": decision.recipe} | dict(word.split("=", 1) for word in decision.words)


@pytest.mark.parametrize(
    ("found", "expected", "absent"),
    [
        (facts(), {"experiment": "frozen", "model.video": "efficientnet_lite0", "labelling.clusters": "12",
                   "clip.frames": "4", "clip.fps": "2", "clip.audio_seconds": "2", "clip.crop": "128",
                   "data.views": "3", "data.augmented": "2", "optim.batch": "150", "optim.clips": "90000"},
         ["data.features", "model.freeze"]),
        (facts(95, shortest=1.0), {"labelling.clusters": "7", "clip.fps": "4", "optim.batch": "47"}, []),
        (facts(20), {"labelling.clusters": "4", "optim.batch": "16"}, []),
        (facts(processes=2), {"optim.batch": "75", "optim.scale_lr": "false", "optim.clips": "90000"}, []),
        (facts(processes=4), {"optim.batch": "38", "optim.scale_lr": "false", "optim.clips": "90000"}, []),
        (facts(processes=64), {"optim.batch": "3"}, []),
        (facts(20, processes=64), {"optim.batch": "2"}, []),  # the fewest that can be compared
        (facts(imagenet=False, processes=2), {"optim.batch": "16", "optim.scale_lr": "false"}, []),
        (facts(processes=2, given={"optim.batch": "100"}), {}, ["optim.batch", "optim.scale_lr"]),
        (facts(processes=2, given={"optim": "published"}), {}, ["optim.batch", "optim.scale_lr"]),
        (facts(3), {"labelling.clusters": "3"}, []),
        (facts(10_000, shortest=9.0), {"labelling.clusters": "71", "clip.frames": "8", "clip.fps": "2",
                                       "clip.audio_seconds": "4", "data.views": "3", "data.augmented": "2",
                                       "optim.clips": "400000"}, []),
        (facts(10_000_000), {"labelling.clusters": "1000", "data.views": "1", "data.augmented": "0"}, []),
        (facts(shortest=0.5), {"clip.audio_seconds": "0.5", "clip.fps": "8"}, []),
        (facts(median=2.0), {"data.views": "1", "data.augmented": "2"}, []),
        (facts(**GPU), {"experiment": "frozen", "model.video": MVIT, "clip.fps": "8"},
         ["clip.crop", "clip.frames", "data.features"]),
        (facts(gpu=True, fetchable=True), {"model.video": MVIT}, []),
        (facts(gpu=True), {"model.video": "efficientnet_lite0"}, ["clip.crop"]),
        (facts(2_000, **GPU), {"model.video": MVIT, "data.features": "''", "model.freeze": "[audio]",
                               "optim.encoder_start": "0.2", "optim.batch": "32"}, ["data.views"]),
        (facts(imagenet=False), {"experiment": "small", "optim.clips": "50000"}, ["model.init", "clip.frames"]),
        (facts(silent=2), {"experiment": "frozen_video"}, ["clip.audio_seconds"]),
        (facts(shortest=0.0, median=0.0), {"clip.audio_seconds": "2"}, []),
    ],
)  # fmt: skip
def test_the_facts_decide(found, expected, absent):
    words = options(found)
    assert {key: words.get(key) for key in expected} == expected
    assert not set(absent) & set(words)
    assert len(decide(found).lines) >= 5
    config = compose_config("train", TrainConfig, ["data.root=x", *(f"{key}={value}" for key, value in words.items())])
    check(config)  # the options fit together


@pytest.mark.parametrize(
    ("given", "absent", "present"),
    [
        ({"labelling.clusters": "20"}, ["labelling.clusters"], ["optim.clips"]),
        ({"clip.frames": "6"}, ["clip.frames"], ["clip.fps"]),
        ({"clip": "tiny"}, ["clip.frames", "clip.fps", "clip.crop"], ["model.init"]),
        ({"optim": "published"}, ["optim.batch", "optim.clips"], ["labelling.clusters"]),
        ({"model.init": "runs/x"}, ["model.init"], ["model.video"]),
        ({"data.features": "features/mine"}, ["model.video", "clip.frames", "data.views"], ["optim.clips"]),
    ],
)  # fmt: skip
def test_the_users_words_win(given, absent, present):
    words = options(facts(given=given))
    assert not set(absent) & set(words)
    assert set(present) <= set(words)


@pytest.mark.parametrize("task", ["selavi", "gdt", "both"])
@pytest.mark.parametrize(
    "found",
    [{}, {"imagenet": False}, {"silent": 2}, {"rows": 3_000, **GPU}, {"rows": FROM_SCRATCH, **GPU},
     {"rows": FROM_SCRATCH, "silent": 2, **GPU}],
)  # fmt: skip
def test_the_users_task_stays(found, task):
    if found.get("silent") and task != "selavi":
        with pytest.raises(UserError, match="contrasts video with audio"):
            decide(facts(given={"task": task}, **found))
        return
    words = options(facts(given={"task": task}, **found))
    given = [*(f"{key}={value}" for key, value in words.items()), f"task={task}"]
    config = compose_config("train", TrainConfig, ["data.root=x", *given])
    check(config)
    assert config.task == task
    said = decide(facts(given={"task": task}, **found)).line
    assert said.endswith("no clusters (task=gdt)" if task == "gdt" else f"{config.labelling.clusters} clusters")


def test_a_large_set_on_a_gpu_takes_the_published_encoders_from_scratch():
    words = options(facts(FROM_SCRATCH, **GPU))
    assert words == {"experiment": "published", "labelling.clusters": "100"}
    config = compose_config("train", TrainConfig, ["data.root=x", *(f"{key}={x}" for key, x in words.items())])
    assert (config.model.video, config.model.audio, config.labelling.heads) == ("r2plus1d_18", "resnet9", 10)
    assert (config.clip.frames, config.clip.spectrogram, config.clip.mels) == (30, "logfbank", 257)
    for others in (
        {"gpu": False},
        {"silent": 1},
        {"given": {"model.init": "runs/x"}},
        {"given": {"model.video": MVIT}},
    ):
        assert options(facts(FROM_SCRATCH, **{**GPU, **others}))["experiment"] != "published"
    assert options(facts(FROM_SCRATCH - 1, **GPU))["experiment"] != "published"


def test_what_leaves_the_recipe_open():
    assert is_left_open([])
    assert is_left_open(["data.root=x", "data=ucf101", "task=gdt", "model.video=tiny", "labelling.clusters=3"])
    for word in ("experiment=small", "model=tiny", "clip=gdt", "labelling=xdc", "contrast=simclr", "optim=published"):
        assert not is_left_open(["data.root=x", word])
    assert not is_left_open(["data.features=features/x"])


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (facts(800), "800 videos, no GPU: efficientnet_lite0 (ImageNet, frozen) and mel statistics, 20 clusters"),
        (facts(**GPU), f"300 videos, a GPU: {MVIT} (Kinetics-400, frozen) and mel statistics, 12 clusters"),
        (facts(2_000, **GPU), f"2,000 videos, a GPU: {MVIT} (Kinetics-400, trained) and mel statistics, 32 clusters"),
        (facts(silent=9), "300 videos, no GPU: efficientnet_lite0 (ImageNet, frozen) without the sound, 12 clusters"),
        (facts(imagenet=False), "300 videos, no GPU: small encoders from random weights, 12 clusters"),
        (facts(given={"labelling.clusters": "${x}"}),
         "300 videos, no GPU: efficientnet_lite0 (ImageNet, frozen) and mel statistics, ${x} clusters"),
    ],
)  # fmt: skip
def test_the_choice_in_one_line(found, line):
    assert decide(found).line == line


def test_the_clip_rate_follows_the_users_frames():
    assert options(facts(given={"clip.frames": "6"}))["clip.fps"] == "3"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"clip.crop": "64"}, "clips: 4 frames over 2 s, 64 px (the shortest video has 2 s); 3 clips"),
        ({"clip": "tiny"}, "clips: as clip=tiny says; 3 clips"),
    ],
)
def test_the_line_on_clips_says_what_the_user_gave(given, said):
    line = decide(facts(given=given)).lines[2]
    assert line.startswith(said)
    assert "128" not in line


def test_epochs_of_the_user_decide_the_length():
    assert options(facts(given={"optim.epochs": "9"}))["optim.clips"] == "0"
    assert "optim.clips" not in options(facts(given={"optim.epochs": "9", "optim.clips": "500"}))


def test_a_given_encoder_without_weights_is_trained_from_scratch():
    assert decide(facts(given={"model.video": "tiny"})).recipe == "small"
    assert decide(facts(given={"model.video": "tiny", "model.init": "runs/x"})).recipe == "frozen"


def test_a_few_videos_and_long_ones_get_advice():
    lines = decide(facts(20, median=90.0)).lines
    assert "20 videos are too few" in lines[5]
    assert "data.window_seconds=10" in lines[6]
    assert len(decide(facts(20, median=90.0, files=4, windows=True)).lines) == 6
    assert len(decide(facts()).lines) == 5


def test_the_cluster_line_promises_no_more_groups_than_there_are():
    line = decide(facts(84)).lines[3]  # 84 videos may well show seven kinds of things
    assert line.startswith("clusters: 6, for 84 videos; if some mix things, take more with labelling.clusters=…;")


def test_nothing_to_start_from_and_no_sound():
    with pytest.raises(UserError, match="learn nothing from scratch without sound"):
        decide(facts(imagenet=False, silent=300))


def test_an_encoder_of_the_user_starts_from_the_weights_that_it_brings():
    found = facts(given={"model.video": "my_net:Encoder"})
    assert options(found)["model.init"] == "[]"
    assert "my_net:Encoder (its own weights, frozen)" in decide(found).line


def test_an_audio_encoder_with_random_weights_is_not_frozen():
    with pytest.raises(UserError, match=r"^model\.audio=resnet9 has no pretrained weights, .*experiment=small"):
        decide(facts(given={"model.audio": "resnet9"}))
    given = {"model.audio": "resnet9", "model.init": "[audio:runs/a]"}
    assert decide(facts(given=given)).recipe == "frozen"
