"""Finetuning (spec §6): the video encoder and a fresh linear classifier are trained on with labels, and tested on many
clips and crops of every video.

The figures are those of the last epoch. The released scripts test after every epoch and report the best on the test
split: the published figures chose their epoch by the videos that they are measured on.
"""

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from ..clips.dataset import ClipDataset, Failure, Pass
from ..clips.loader import load, pass_requests
from ..clips.transform import DeviceTransform
from ..config import ClipConfig, FinetuneConfig
from ..config.check_options import check_sides
from ..core.checkpoint_file import load_checkpoint, save_checkpoint
from ..core.device import autocast
from ..core.errors import UserError
from ..core.out_folder import check_same
from ..core.plurals import counted_paths, out_of
from ..core.progress import track
from ..core.untrusted import field, is_count
from ..train.finetune import CHECKPOINT, Classifier, Place, total_steps, train_classifier
from .features import digest

FREE = {"clips_test", "crops_test", "save_seconds"}
"""Options that may differ when a finetuning goes on: its training does not depend on them."""


class LabelledRows(NamedTuple):
    """Rows of an index, and a label for each, str [n]."""

    rows: pa.Table
    labels: np.ndarray


@dataclass
class Finetuned:
    """Accuracies as fractions, after the last epoch. `video`: of the mean logits of a video's clips and crops; `clip`:
    of every one by itself. Of `tested` videos; those that could not be decoded, in training or test, are among the
    failures."""

    video: float
    clip: float
    tested: int
    classes: int
    failures: dict[str, str]


def finetune_clips(config: FinetuneConfig, trained: ClipConfig) -> ClipConfig:
    """The clips of a finetuning, normalised as those that the encoder was `trained` on. UserError for sides that do not
    fit."""
    clip = replace(trained, flip=config.flip, color_jitter=config.color_jitter)
    if config.frames:
        clip.short_side_eval = 0
        clip.frames, clip.fps, clip.crop = config.frames, config.fps, config.crop
        clip.short_side_min, clip.short_side_max = config.short_side_min, config.short_side_max
    check_sides(clip, "finetune")
    # nothing is heard: the sound's length is not to limit where clips may start
    clip.audio_seconds = clip.frames / clip.fps
    return clip


def check_finetune(config: FinetuneConfig, encoder: nn.Module | None, trained: ClipConfig, source: str) -> None:
    """UserError for options that cannot be, or without a video encoder."""
    if encoder is None:
        raise UserError(f"{source} has no video encoder to finetune: give a run or checkpoint that has one")
    finetune_clips(config, trained)
    if config.dropout >= 1:
        raise UserError(f"finetune.dropout={config.dropout:g} leaves nothing: give less than 1")
    if config.momentum >= 1:
        raise UserError(f"finetune.momentum={config.momentum:g} never settles: give less than 1")


def accuracies(logits: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Accuracy per video and per clip, as fractions; a video is given the class of the highest mean logit (as released:
    no softmax before the mean).

    Args:
        logits: float [n, V, classes] of V clips of each of n videos.
        truth: the videos' labels, int [n]; -1 counts as wrong.
    """
    per_video = float((logits.mean(1, dtype=np.float64).argmax(-1) == truth).mean())
    return per_video, float((logits.argmax(-1) == truth[:, None]).mean())


def finetune(
    encoder: nn.Module,
    train: LabelledRows,
    test: LabelledRows,
    root: str | Path,
    trained: ClipConfig,
    config: FinetuneConfig,
    place: Place,
) -> Finetuned:
    """Finetune a copy of the video encoder on `train`, one class a label, and test it on `test`; clips are normalised
    as those that it was `trained` on.

    A training clip is a function of (seed, pass, video): an epoch is `clips_train` passes over the videos, each in an
    order of its own; a file that fails is replaced by another. The folder of `place` keeps `last.ckpt` and
    `metrics.jsonl`: one that was stopped goes on, and one that has ended is not done again. SIGTERM saves and stops; so
    does Ctrl-C. Test videos of a class that is not in training count as wrong.

    Raises UserError for videos shorter than a clip, another finetuning in the folder, or a loss that is no number.
    """
    clip = finetune_clips(config, trained)
    names = sorted(set(train.labels.tolist()))
    ids = torch.tensor([names.index(label) for label in train.labels])
    _check_length(train, test, clip)
    what = _identity(encoder, train, clip, config)
    state = _read(place.folder, what)
    wanted = _test_identity(test, config)
    if state is not None and state.get("tested") == wanted:
        return Finetuned(**state["figures"])
    torch.manual_seed(config.seed)
    model = Classifier(copy.deepcopy(encoder), len(names), config.dropout).to(place.device)
    model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    dataset = ClipDataset(train.rows, root, clip, config.seed, modalities=["video"])
    if state is None or state["step"] < total_steps(config, len(dataset)):
        state = train_classifier(model, dataset, ids, clip, config, place, what, state)
    else:
        model.load_state_dict(state["model"])
    views = ClipDataset(test.rows, root, clip, modalities=["video"], clips=config.clips_test, crops=config.crops_test)
    logits, rows, failures = _logits(model, views, clip, config.batch, place)
    if not len(rows):
        raise UserError(f"none of {counted_paths(views.paths)} to test could be decoded, the first {failures[0].path} "
                        f"({failures[0].reason}): run `avssl index` again")  # fmt: skip
    truth = np.array([names.index(x) if x in names else -1 for x in test.labels[rows]])
    failed = state["failures"] | {f.path: f.reason for f in failures}
    found = Finetuned(*accuracies(logits, truth), len(rows), len(names), failed)
    save_checkpoint(place.folder / CHECKPOINT, state | {"tested": wanted, "figures": asdict(found)})
    return found


def _check_length(train: LabelledRows, test: LabelledRows, clip: ClipConfig) -> None:
    seconds = np.concatenate([part.rows["window_seconds"].to_numpy() for part in (train, test)])
    needed = clip.frames / clip.fps
    short = int((seconds < 0.75 * needed).sum())
    if short:
        files = len({path for part in (train, test) for path in part.rows["path"].to_pylist()})
        raise UserError(
            f"{out_of(short, len(seconds), files)} are shorter than the {needed:.2f} s of a clip (the shortest is "
            f"{seconds.min():.2f} s): make finetune.frames smaller, or index again with data.min_seconds={needed:.2f}"
        )


def _hash(rows: pa.Table, labels: np.ndarray, columns: list[str]) -> str:
    told = json.dumps([rows.select(columns).to_pydict(), labels.tolist()])
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def _identity(encoder: nn.Module, train: LabelledRows, clip: ClipConfig, config: FinetuneConfig) -> dict[str, Any]:
    """What a training depends on, by name."""
    options = {f"finetune.{key}": value for key, value in asdict(config).items() if key not in FREE}
    return options | {
        "clip": [clip.frames, clip.fps, clip.short_side_min, clip.short_side_max, clip.crop, clip.mean, clip.std],
        "weights": digest(encoder)[:12],
        "videos": _hash(*train, ["path", "window_start"]),
    }


def _test_identity(test: LabelledRows, config: FinetuneConfig) -> list[Any]:
    videos = _hash(*test, ["path", "size", "mtime_ns", "window_start", "window_seconds"])
    return [videos, config.clips_test, config.crops_test]


def _read(folder: Path, what: Mapping[str, Any]) -> dict[str, Any] | None:
    """The checkpoint in `folder`, None where there is none yet. UserError where it is of something else."""
    if not (folder / CHECKPOINT).exists():
        return None
    state = load_checkpoint(folder / CHECKPOINT)
    before = field(state, "what", dict, folder / CHECKPOINT)
    for name, kind in (("step", is_count), ("model", dict), ("failures", dict)):
        field(state, name, kind, folder / CHECKPOINT)
    check_same(folder, "a finetuning", before, what)
    return state


@torch.no_grad()
def _logits(
    model: Classifier, dataset: ClipDataset, clip: ClipConfig, batch: int, place: Place
) -> tuple[np.ndarray, np.ndarray, list[Failure]]:
    """Logits float32 [n, V, classes] of the V clips and crops of the videos that decode, and their rows."""
    model.eval()
    views = dataset.clips * dataset.crops
    transform = DeviceTransform(clip, place.device)
    requests = list(pass_requests(len(dataset), max(1, batch // views), Pass.EVALUATE, 0))
    logits, rows, failures = [], [], []
    for videos in track(
        load(dataset, requests, place.workers, pin=place.device.type == "cuda"), "testing", len(requests)
    ):
        failures += videos.failures
        if not len(videos.index):
            continue
        found = []
        for frames in videos.clips["video"].split(batch):
            with autocast(place.device, place.precision):
                found.append(model(transform(videos.with_clips(video=frames))["video"]).cpu().numpy())
        logits.append(np.concatenate(found).reshape(len(videos.index), views, -1))
        rows.append(videos.index.numpy())
    if not rows:
        return np.empty((0, views, 0), np.float32), np.empty(0, np.int64), failures
    return np.concatenate(logits), np.concatenate(rows), failures
