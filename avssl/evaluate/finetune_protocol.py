"""Finetuning: train the video encoder and a new linear classifier on labels, and test on many clips of every video.

Results are those of the last epoch. The released scripts test after every epoch and report the best result on the test
split, so they choose the epoch with the test videos.
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
from ..clips.transform import DeviceTransform, clip_shape
from ..config import ClipConfig, FinetuneConfig
from ..config.check_options import check_sides
from ..config.clip import by_channel
from ..core.checkpoint_file import digest, load_checkpoint, save_checkpoint
from ..core.device import autocast
from ..core.errors import UserError
from ..core.out_folder import check_same
from ..core.plurals import counted_paths, out_of
from ..core.progress import track
from ..core.untrusted import field, is_count
from ..models.encoder import channels_last, check_encoder, is_trainable
from ..train.finetune import CHECKPOINT, Classifier, Place, total_steps, train_classifier

FREE = {"clips_test", "crops_test", "save_seconds"}
"""Options that may change when a finetuning is resumed, because the training does not depend on them."""


class LabelledRows(NamedTuple):
    """Rows of an index, with a label for each, str [n]."""

    rows: pa.Table
    labels: np.ndarray


@dataclass
class Finetuned:
    """Accuracies after the last epoch, as fractions.

    `video` is the accuracy of the mean logits of a video's clips and crops, `clip` that of each single clip and crop,
    both over `tested` videos. `failures` has the videos that could not be decoded, in training or test.
    """

    video: float
    clip: float
    tested: int
    classes: int
    failures: dict[str, str]


def finetune_clips(config: FinetuneConfig, trained: ClipConfig) -> ClipConfig:
    """The clips for finetuning, normalised like `trained`, the clips that the encoder was trained on.

    Raises:
        UserError: the crop is larger than the frames.
    """
    clip = replace(trained, flip=config.flip, color_jitter=config.color_jitter)
    if config.frames:
        clip.short_side_eval = 0
        clip.frames, clip.fps, clip.crop = config.frames, config.fps, config.crop
        clip.short_side_min, clip.short_side_max = config.short_side_min, config.short_side_max
    check_sides(clip, "finetune")
    # audio is not used, and its duration must not limit where clips may start
    clip.audio_seconds = clip.frames / clip.fps
    return clip


def check_finetune(config: FinetuneConfig, encoder: nn.Module | None, trained: ClipConfig, source: str) -> None:
    """Raise UserError for invalid options of finetuning, or a model without a video encoder."""
    if encoder is None:
        raise UserError(f"{source} has no video encoder to finetune: give a run or checkpoint with one")
    clip = finetune_clips(config, trained)
    if not is_trainable(encoder):
        raise UserError(
            f"the video encoder of {source} is an ONNX file, which cannot be trained: remove finetune from tasks"
        )
    if getattr(encoder, "clip", None):
        try:
            check_encoder(encoder, "video", type(encoder).__name__, clip_shape(clip, "video"))
        except UserError as error:
            raise UserError(f"{error}; finetune.frames=0 uses the clips that the encoder was trained on") from None
    if config.dropout >= 1:
        raise UserError(f"finetune.dropout={config.dropout:g} drops all features: give less than 1")
    if config.momentum >= 1:
        raise UserError(f"finetune.momentum={config.momentum:g} never converges: give less than 1")


def accuracies(logits: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Accuracy per video and per clip, as fractions.

    A video's class is that of the highest mean logit, without a softmax before the mean, as in the released code.

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
    """Finetune a copy of the video encoder, and test it.

    A training clip is a function of (seed, pass, video). An epoch has `clips_train` passes over the videos, each in its
    own order; a file that fails is replaced by another. The folder of `place` keeps `last.ckpt` and `metrics.jsonl`, so
    that an interrupted finetuning is resumed and a finished one is not repeated. SIGTERM and Ctrl-C save and stop.

    Args:
        encoder: the video encoder; it is not changed.
        train, test: rows and labels; test videos of a class without training videos count as errors.
        root: the folder of the videos.
        trained: the clips that the encoder was trained on, for normalisation.
        config: the options of finetuning.
        place: folder, device, precision and decoding processes.

    Raises:
        UserError: a video is shorter than a clip, the folder contains another finetuning, or the loss is NaN or
            infinite.
    """
    clip = finetune_clips(config, trained)
    names = sorted(set(train.labels.tolist()))
    ids = torch.tensor([names.index(label) for label in train.labels])
    _check_length(train, test, clip)
    what = _identity(encoder, train, clip, config)
    state = _read(place.folder, what)
    tested = _test_identity(test, config)
    if state is not None and state.get("tested") == tested:
        return Finetuned(**state["figures"])
    torch.manual_seed(config.seed)
    model = Classifier(copy.deepcopy(encoder), len(names), config.dropout).to(place.device)
    channels_last(model)
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
    result = Finetuned(*accuracies(logits, truth), len(rows), len(names), failed)
    save_checkpoint(place.folder / CHECKPOINT, state | {"tested": tested, "figures": asdict(result)})
    return result


def _check_length(train: LabelledRows, test: LabelledRows, clip: ClipConfig) -> None:
    seconds = np.concatenate([part.rows["window_seconds"].to_numpy() for part in (train, test)])
    needed = clip.frames / clip.fps
    short = int((seconds < 0.75 * needed).sum())
    if short:
        files = len({path for part in (train, test) for path in part.rows["path"].to_pylist()})
        raise UserError(
            f"{out_of(short, len(seconds), files)} are shorter than the {needed:.2f} s of a clip (the shortest is "
            f"{seconds.min():.2f} s): lower finetune.frames, or index again with data.min_seconds={needed:.2f}"
        )


def _hash(rows: pa.Table, labels: np.ndarray, columns: list[str]) -> str:
    text = json.dumps([rows.select(columns).to_pydict(), labels.tolist()])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _identity(encoder: nn.Module, train: LabelledRows, clip: ClipConfig, config: FinetuneConfig) -> dict[str, Any]:
    """Everything that training depends on, by name."""
    options = {f"finetune.{key}": value for key, value in asdict(config).items() if key not in FREE}
    return options | {
        "clip": [
            clip.frames,
            clip.fps,
            clip.short_side_min,
            clip.short_side_max,
            clip.crop,
            *map(by_channel, (clip.mean, clip.std)),
        ],
        "weights": digest(encoder)[:12],
        "videos": _hash(*train, ["path", "window_start"]),
    }  # fmt: skip


def _test_identity(test: LabelledRows, config: FinetuneConfig) -> list[Any]:
    videos = _hash(*test, ["path", "size", "mtime_ns", "window_start", "window_seconds"])
    return [videos, config.clips_test, config.crops_test]


def _read(folder: Path, what: Mapping[str, Any]) -> dict[str, Any] | None:
    """The checkpoint in `folder`; None if there is none. Raises UserError if it belongs to another finetuning."""
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
    """Logits float32 [n, V, classes] of the V clips and crops of the n videos that can be decoded, and their rows."""
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
        parts = []
        for frames in videos.clips["video"].split(batch):
            with autocast(place.device, place.precision):
                parts.append(model(transform(videos.with_clips(video=frames))["video"]).cpu().numpy())
        logits.append(np.concatenate(parts).reshape(len(videos.index), views, -1))
        rows.append(videos.index.numpy())
    if not rows:
        return np.empty((0, views, 0), np.float32), np.empty(0, np.int64), failures
    return np.concatenate(logits), np.concatenate(rows), failures
