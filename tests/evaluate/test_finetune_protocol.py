"""Finetuning: the published schedule, logits averaged per video, exact resume, and what it learns."""

import copy
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from avssl.cli import main
from avssl.clips.dataset import ClipDataset, Pass
from avssl.clips.loader import train_requests
from avssl.config import ClipConfig, EvaluateConfig, FinetuneConfig
from avssl.config.compose import compose_config
from avssl.core.checkpoint_file import load_checkpoint
from avssl.core.errors import UserError
from avssl.evaluate import finetune_protocol as evaluation
from avssl.evaluate.finetune_protocol import Finetuned, LabelledRows, accuracies, finetune, finetune_clips
from avssl.models.video import build_video
from avssl.sample.picture import write_mp4
from avssl.train import finetune as training
from avssl.train.finetune import Classifier, Place, epoch_of, rate_factor, total_steps

TINY = ClipConfig(frames=4, fps=4.0, short_side_min=32, short_side_max=36, crop=32)
QUICK = FinetuneConfig(
    frames=0, clips_train=2, clips_test=2, crops_test=1, epochs=4, batch=6, lr_head=0.0125, lr_encoder=0.0025,
    weight_decay=0.0, warmup_epochs=1, milestones=[3], dropout=0.1, save_seconds=0,
)  # fmt: skip
CPU = torch.device("cpu")


def tinted(path: Path, hue: int, seed: int) -> Path:
    """Noise of 1.2 s with more of one colour, and a little sound."""
    rng = np.random.default_rng([hue, seed])
    frames = rng.integers(0, 120, (12, 40, 56, 3)) + 100 * (np.arange(3) == hue)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_mp4(path, frames.astype(np.uint8), rng.uniform(-0.1, 0.1, 28800).astype(np.float32), 10.0, 24000)
    return path


def labelled(root: Path, names: dict[str, str]) -> LabelledRows:
    """Rows as an index has them, of paths and their labels."""
    there = [(root / name).stat() for name in names]
    rows = pa.table(
        {
            "path": list(names), "window_start": [0.0] * len(names), "window_seconds": [1.2] * len(names),
            "audio_rate": [24000] * len(names), "size": [s.st_size for s in there],
            "mtime_ns": [s.st_mtime_ns for s in there],
        }
    )  # fmt: skip
    return LabelledRows(rows, np.array(list(names.values())))


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Threads that wait for one another take longer than so little work does."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def colours(tmp_path_factory) -> tuple[Path, dict[str, str], dict[str, str]]:
    """Where three classes of videos are that their colour tells apart; those of training, and of the test."""
    root = tmp_path_factory.mktemp("colours")
    train = {f"{name}{i}.mp4": name for name in "rgb" for i in range(4)}
    test = {f"{name}{i}.mp4": name for name in "rgb" for i in range(4, 6)}
    for name in train | test:
        tinted(root / name, "rgb".index(name[0]), int(name[1]))
    return root, train, test


def tiny_encoder() -> torch.nn.Module:
    torch.manual_seed(1)
    return build_video("tiny")


def run(colours, folder: Path, config: FinetuneConfig = QUICK) -> Finetuned:
    root, train, test = colours
    return finetune(tiny_encoder(), labelled(root, train), labelled(root, test), root, TINY, config, Place(folder, CPU))


@pytest.fixture(scope="module")
def whole(colours, tmp_path_factory) -> tuple[Path, Finetuned]:
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(colours, folder)


# the protocol


def test_the_published_schedule():
    config = FinetuneConfig()
    factors = [1, 4.5, 8, 8, 8, 8, 0.4, 0.4, 0.4, 0.4, 0.02, 0.02]
    assert [rate_factor(config, epoch) for epoch in range(12)] == pytest.approx(factors, rel=1e-12)
    assert (config.lr_head, config.lr_encoder, config.weight_decay, config.momentum) == (0.0025, 0.00025, 0.005, 0.9)
    assert (config.frames, config.crop, config.epochs) == (32, 128, 12)
    assert (config.clips_train, config.clips_test, config.crops_test) == (10, 10, 3)
    assert config.batch == 32
    # the released scripts multiply in the warm-up alone
    plain = replace(config, warmup_epochs=0)
    assert [rate_factor(plain, epoch) for epoch in (0, 5, 6, 10)] == pytest.approx([1, 1, 0.05, 0.0025])


def test_a_rate_is_constant_within_an_epoch(colours, tmp_path, monkeypatch):
    """12 videos in batches of 6: two steps an epoch, each group of weights at its own rate."""
    rates: list[list[float]] = []
    step = torch.optim.SGD.step

    def noted(optimizer, *args, **options):
        rates.append([group["lr"] for group in optimizer.param_groups])
        return step(optimizer, *args, **options)

    monkeypatch.setattr(torch.optim.SGD, "step", noted)
    config = FinetuneConfig(frames=0, clips_train=1, clips_test=1, crops_test=1, batch=6, save_seconds=9999)
    run(colours, tmp_path, config)
    factors = np.repeat([1, 4.5, 8, 8, 8, 8, 0.4, 0.4, 0.4, 0.4, 0.02, 0.02], 2)
    np.testing.assert_allclose(rates, np.stack([0.0025 * factors, 0.00025 * factors], 1), rtol=1e-12)


def test_batches_that_do_not_divide_an_epoch():
    config = FinetuneConfig(batch=7, clips_train=1)
    assert [epoch_of(config, step, 10) for step in range(6)] == [0, 0, 1, 2, 2, 3]


def test_the_classifier_begins_orthogonal_and_without_bias():
    head = Classifier(tiny_encoder(), 5, 0.0).head
    np.testing.assert_allclose((head.weight @ head.weight.T).detach(), np.eye(5), atol=1e-5)
    assert not head.bias.any()


def test_the_preset_is_the_default_and_the_small_one_takes_the_encoders_clips():
    assert compose_config("evaluate", EvaluateConfig, ["finetune=published"]).finetune == FinetuneConfig()
    small = compose_config("evaluate", EvaluateConfig, ["finetune=small", "finetune.batch=4"]).finetune
    assert (small.frames, small.batch, small.epochs) == (0, 4, 12)
    clip = finetune_clips(small, replace(TINY, mean=0.3))
    assert (clip.frames, clip.crop, clip.short_side_max, clip.mean) == (4, 32, 36, 0.3)
    clip = finetune_clips(FinetuneConfig(), replace(TINY, mean=0.3))
    assert (clip.frames, clip.crop, clip.short_side_min, clip.short_side_max, clip.mean) == (32, 128, 128, 160, 0.3)


def test_an_epoch_is_ten_clips_of_every_video():
    config = FinetuneConfig(batch=7)
    assert total_steps(config, 21) == 12 * 10 * 3
    epoch = [r for step in range(30) for r in train_requests(21, 7, 0, step)]
    assert len(set(epoch)) == len(epoch) == 210
    assert sorted(r.video for r in epoch) == sorted(list(range(21)) * 10)
    assert {r.kind for r in epoch} == {Pass.TRAIN}


def test_logits_are_averaged_per_video():
    logits = np.array(
        [
            [[0.9, 0.1], [0.45, 0.55], [0.45, 0.55]],  # two of three clips say 1, their mean 0
            [[0.6, 0.4], [0.7, 0.3], [0.0, 1.0]],  # two of three say 0, their mean 1
            [[0.8, 0.2], [0.8, 0.2], [0.8, 0.2]],  # of no class of the training
        ]
    )
    assert accuracies(logits, np.array([0, 0, -1])) == (pytest.approx(1 / 3), pytest.approx(3 / 9))
    assert accuracies(logits, np.array([0, 1, 0])) == (1.0, pytest.approx(5 / 9))


def test_one_sure_clip_counts_more_by_its_logits_than_by_its_softmax():
    """Mean softmax scores are (0.336, 0.664), mean logits (3, 0.667): the released mean is of logits."""
    logits = np.array([[[9.0, -9.0], [0.0, 5.5], [0.0, 5.5]]], np.float32)
    softmax = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    assert softmax.mean(1).argmax(-1) == 1
    assert accuracies(logits, np.array([0]))[0] == 1.0


def test_logits_are_of_every_clip_and_crop_however_many_are_encoded_at_a_time(colours):
    root, _, test = colours
    torch.manual_seed(0)
    model = Classifier(tiny_encoder(), 5, 0.5)
    dataset = ClipDataset(labelled(root, test).rows, root, TINY, modalities=["video"], clips=2, crops=3)
    place = Place(root, CPU)
    logits, rows, failures = evaluation._logits(model, dataset, TINY, 64, place)
    assert logits.shape == (6, 6, 5)
    assert rows.tolist() == list(range(6))
    assert not failures
    assert np.abs(logits.sum(-1) - 1).max() > 1e-3  # no probabilities
    assert len(np.unique(logits[0, :, 0])) == 6
    pieces, _, _ = evaluation._logits(model, dataset, TINY, 4, place)
    np.testing.assert_allclose(pieces, logits, atol=1e-5)


# training


def test_it_learns_what_tells_classes_apart(colours, whole):
    folder, found = whole
    assert (found.video, found.clip, found.tested, found.classes) == (1.0, 1.0, 6, 3)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 15  # 12 videos, 2 clips, 4 epochs, in batches of 6
    assert lines[-1]["loss"] < 0.5 < lines[0]["loss"]
    by_step = {line["step"]: line for line in lines}
    assert by_step[0]["lr_head"] == pytest.approx(0.1 / 8)
    assert by_step[3]["lr_encoder"] == pytest.approx(0.02 / 8)
    assert by_step[4]["lr_encoder"] == pytest.approx(0.02)
    assert by_step[11]["lr_encoder"] == pytest.approx(0.02)
    assert by_step[12]["lr_encoder"] == pytest.approx(0.001)
    state = load_checkpoint(folder / "last.ckpt")
    assert "optimizer" not in state
    before = tiny_encoder().state_dict()
    assert any((state["model"][f"encoder.{key}"] != before[key]).any() for key in before)


def test_the_encoder_that_was_given_stays_as_it_was(colours, tmp_path):
    root, train, test = colours
    encoder = tiny_encoder()
    before = copy.deepcopy(encoder.state_dict())
    finetune(encoder, labelled(root, train), labelled(root, test), root, TINY, replace(QUICK, epochs=1),
             Place(tmp_path, CPU))  # fmt: skip
    assert all((before[key] == value).all() for key, value in encoder.state_dict().items())


def same(ours: Path, theirs: Path) -> bool:
    a, b = (load_checkpoint(folder / "last.ckpt")["model"] for folder in (ours, theirs))
    return all((a[key] == b[key]).all() for key in b)


def test_what_was_killed_goes_on_bit_for_bit(colours, whole, tmp_path, monkeypatch):
    saves = []

    def save_and_die(path: Path, state: dict) -> None:
        kept(path, state)
        saves.append(state["step"])
        if len(saves) == 7:
            raise RuntimeError("killed")

    kept = training.save_checkpoint
    monkeypatch.setattr(training, "save_checkpoint", save_and_die)
    with pytest.raises(RuntimeError, match="killed"):
        run(colours, tmp_path)
    assert load_checkpoint(tmp_path / "last.ckpt")["step"] == 7
    assert run(colours, tmp_path) == whole[1]
    assert saves == list(range(1, 17))
    assert same(tmp_path, whole[0])
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(16))


def test_a_signal_saves_and_stops(colours, whole, tmp_path, monkeypatch, capsys):
    advance = training.RunLog.advance

    def signalled(log, step: int, note: str) -> None:
        advance(log, step, note)
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(training.RunLog, "advance", signalled)
    slow = replace(QUICK, save_seconds=9999)
    with pytest.raises(KeyboardInterrupt):
        run(colours, tmp_path, slow)
    assert "stopped at step 3 of 16" in capsys.readouterr().out
    assert run(colours, tmp_path, slow) == whole[1]
    assert same(tmp_path, whole[0])


def test_what_has_ended_is_not_done_again(colours, whole, monkeypatch):
    def never(*_):
        raise AssertionError

    monkeypatch.setattr(evaluation, "train_classifier", never)
    assert run(colours, whole[0]) == whole[1]
    more = run(colours, whole[0], replace(QUICK, clips_test=1, crops_test=3))  # tested again, not trained
    assert more.tested == 6
    with pytest.raises(UserError, match=r"finetune\.lr_head=0\.0125, not 0\.2.*out="):
        run(colours, whole[0], replace(QUICK, lr_head=0.2))
    root, train, test = colours
    parts, other = (labelled(root, train), labelled(root, test)), build_video("tiny")
    with pytest.raises(UserError, match="contains a finetuning with weights="):
        finetune(other, *parts, root, TINY, QUICK, Place(whole[0], CPU))


def test_a_broken_file_costs_its_clips_alone(colours, tmp_path):
    root, train, test = colours
    here = tmp_path / "videos"
    here.mkdir()
    for name in train | test:
        (here / name).write_bytes((root / name).read_bytes())
    parts = labelled(here, train), labelled(here, test)
    for name in ("r0.mp4", "g5.mp4"):
        (here / name).write_bytes((root / name).read_bytes()[:300])
    found = finetune(tiny_encoder(), *parts, here, TINY, QUICK, Place(tmp_path / "out", CPU))
    assert set(found.failures) == {"r0.mp4", "g5.mp4"}
    assert (found.video, found.tested) == (1.0, 5)


def test_a_class_that_training_lacks_counts_as_wrong(colours, tmp_path):
    root, train, test = colours
    named = {name: "violet" if name == "b5.mp4" else label for name, label in test.items()}
    found = finetune(tiny_encoder(), labelled(root, train), labelled(root, named), root, TINY, QUICK,
                     Place(tmp_path, CPU))  # fmt: skip
    assert (found.video, found.classes) == (pytest.approx(5 / 6), 3)


# what is wrong


def test_a_loss_that_is_no_number_is_told(colours, tmp_path):
    with pytest.raises(UserError, match=r"the loss is (nan|inf) at step \d+: lower finetune\.lr_head"):
        run(colours, tmp_path, replace(QUICK, lr_head=1e30, lr_encoder=1e30))
    assert not (tmp_path / "last.ckpt").exists() or all(
        value.isfinite().all() for value in load_checkpoint(tmp_path / "last.ckpt")["model"].values()
    )


def test_videos_that_are_shorter_than_a_clip_are_told(colours, tmp_path):
    with pytest.raises(UserError, match=r"18 of 18 videos are shorter than the 2\.00 s of a clip.*finetune\.frames"):
        run(colours, tmp_path, replace(QUICK, frames=8, fps=4.0, short_side_min=32, short_side_max=32, crop=32))


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("finetune.batch=32", "features.npz has no video encoder to finetune"),
        ("finetune=smal", "did you mean small?"),
        ("finetune.lr=1", "unknown option 'finetune.lr'"),
        ("finetune.batch=0", "finetune.batch=0 is below the minimum 1 clips"),
        ("finetune.warmup_factor=0.5", "finetune.warmup_factor=0.5 is below the minimum 1"),
        ("finetune.warmup_from=0.1", "did you mean finetune.warmup_factor?"),
    ],
)
def test_wrong_words_are_one_line(word: str, said: str, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "features.npz").touch()
    assert main(["evaluate", "tasks=[finetune]", "features=features.npz", word]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"crop": 200}, "finetune.crop=200"),
        ({"short_side_min": 170}, "must satisfy crop"),
        ({"dropout": 1.0}, "finetune.dropout=1"),
        ({"momentum": 1.0}, "finetune.momentum=1"),
    ],
)
def test_wrong_options(change: dict, said: str):
    with pytest.raises(UserError, match=said):
        evaluation.check_finetune(replace(FinetuneConfig(), **change), tiny_encoder(), TINY, "runs/a")
