"""Finetuning (spec §6): the video encoder and a fresh linear classifier are trained on with labels, and tested on many
clips and crops of every video."""

import copy
import hashlib
import json
import math
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import nn
from torch.nn import functional as F

from ..config import ClipConfig, FinetuneConfig
from ..data.clips import ClipDataset, Failure, Pass, Request
from ..data.loader import load, pass_requests, train_requests
from ..data.transform import DeviceTransform
from ..errors import UserError
from ..progress import track
from ..train.checkpoint import load_checkpoint, save_checkpoint
from ..train.device import autocast
from ..train.log import RunLog
from ..train.run_folder import CHECKPOINT
from .features import digest

FREE = {"clips_test", "crops_test", "save_seconds"}
"""Options that may differ when a finetuning goes on: its training does not depend on them."""

LOG_STEPS = 10


class Labelled(NamedTuple):
    """Rows of an index, and a label for each, str [n]."""

    rows: pa.Table
    labels: np.ndarray


@dataclass
class Finetuned:
    """`video`: accuracy of the mean softmax score of a video's clips and crops; `clip`: of every one by itself. Of
    `tested` videos; those that could not be decoded, in training or test, are among the failures."""

    video: float
    clip: float
    tested: int
    classes: int
    failures: dict[str, str]


class Classifier(nn.Module):
    """A video encoder with a linear classifier. float [B, 3, T, H, W] → logits [B, classes]."""

    def __init__(self, encoder: nn.Module, classes: int, dropout: float):
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(int(encoder.dim), classes)  # type: ignore[arg-type]

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        return self.head(self.dropout(self.encoder(video)))


def finetune_clips(config: FinetuneConfig, trained: ClipConfig) -> ClipConfig:
    """The clips of a finetuning, normalised as those that the encoder was `trained` on. UserError for sides that do not
    fit."""
    clip = replace(trained, flip=config.flip, color_jitter=config.color_jitter)
    if config.frames:
        clip.frames, clip.fps, clip.crop = config.frames, config.fps, config.crop
        clip.short_side_min, clip.short_side_max = config.short_side_min, config.short_side_max
    if not clip.crop <= clip.short_side_min <= clip.short_side_max:
        raise UserError(
            f"finetune.crop={clip.crop}, finetune.short_side_min={clip.short_side_min} and "
            f"finetune.short_side_max={clip.short_side_max} must not fall in this order"
        )
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
    if not 0 < config.warmup_from <= 1:
        raise UserError(f"finetune.warmup_from={config.warmup_from:g} is a share: more than 0, at most 1")
    if config.momentum >= 1:
        raise UserError(f"finetune.momentum={config.momentum:g} never settles: give less than 1")


def rate_factor(config: FinetuneConfig, epoch: float) -> float:
    """What both learning rates are multiplied by at `epoch`, counted from 0, with fractions: a linear warm-up from
    `warmup_from` to 1 over `warmup_epochs`, and a factor `gamma` at each of `milestones` that has come."""
    drop = config.gamma ** sum(epoch >= milestone for milestone in config.milestones)
    if epoch < config.warmup_epochs:
        return drop * (config.warmup_from + (1 - config.warmup_from) * epoch / config.warmup_epochs)
    return drop


def accuracies(scores: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Accuracy per video and per clip of softmax scores float [n, V, classes] of V clips of each of n videos, whose
    labels are int [n]. A video is given the class of the highest mean score."""
    per_video = float((scores.mean(1).argmax(-1) == truth).mean())
    return per_video, float((scores.argmax(-1) == truth[:, None]).mean())


def finetune(
    encoder: nn.Module,
    train: Labelled,
    test: Labelled,
    root: str | Path,
    trained: ClipConfig,
    config: FinetuneConfig,
    folder: Path,
    device: torch.device,
    precision: str = "auto",
    workers: int = 0,
    title: str = "",
) -> Finetuned:
    """Finetune a copy of the video encoder on `train`, one class a label, and test it on `test`; clips are normalised
    as those that it was `trained` on.

    A training clip is a function of (seed, pass, video): an epoch is `clips_train` passes over the videos, each in an
    order of its own; a file that fails is replaced by another. `folder` keeps `last.ckpt` and `metrics.jsonl`; where
    one was stopped, the same goes on, and one that has ended is not done again. SIGTERM saves and stops; so does
    Ctrl-C. Test videos of a class that is not in training count as wrong.

    Raises UserError for videos shorter than a clip, another finetuning in `folder`, or a loss that is no number.
    """
    clip = finetune_clips(config, trained)
    names = sorted(set(train.labels.tolist()))
    ids = torch.tensor([names.index(label) for label in train.labels])
    _check_length(train, test, clip)
    what = _identity(encoder, train, clip, config)
    state = _read(folder, what)
    wanted = _test_identity(test, config)
    if state is not None and state.get("tested") == wanted:
        return Finetuned(**state["figures"])
    torch.manual_seed(config.seed)
    model = Classifier(copy.deepcopy(encoder), len(names), config.dropout).to(device)
    model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    dataset = ClipDataset(train.rows, root, clip, config.seed, modalities=["video"])
    total = math.ceil(config.epochs * config.clips_train * len(dataset) / config.batch)
    if state is None or state["step"] < total:
        state = _train(model, dataset, ids, total, clip, config, folder, what, state, device, precision, workers, title)
    else:
        model.load_state_dict(state["model"])
    views = ClipDataset(test.rows, root, clip, modalities=["video"], clips=config.clips_test, crops=config.crops_test)
    scores, rows, failures = _scores(model, views, clip, config.batch, device, precision, workers)
    if not len(rows):
        raise UserError(f"none of {len(views)} test videos could be decoded, the first {failures[0].path} "
                        f"({failures[0].reason}): run `avssl index` again")  # fmt: skip
    truth = np.array([names.index(x) if x in names else -1 for x in test.labels[rows]])
    failed = state["failures"] | {f.path: f.reason for f in failures}
    found = Finetuned(*accuracies(scores, truth), len(rows), len(names), failed)
    save_checkpoint(folder / CHECKPOINT, state | {"tested": wanted, "figures": asdict(found)})
    return found


def _check_length(train: Labelled, test: Labelled, clip: ClipConfig) -> None:
    seconds = np.concatenate([part.rows["window_seconds"].to_numpy() for part in (train, test)])
    needed = clip.frames / clip.fps
    short = int((seconds < 0.75 * needed).sum())
    if short:
        raise UserError(
            f"{short} of {len(seconds)} videos are shorter than the {needed:.2f} s of a clip (the shortest is "
            f"{seconds.min():.2f} s): make finetune.frames smaller, or index again with data.min_seconds={needed:.2f}"
        )


def _hash(rows: pa.Table, labels: np.ndarray, columns: list[str]) -> str:
    told = json.dumps([rows.select(columns).to_pydict(), labels.tolist()])
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def _identity(encoder: nn.Module, train: Labelled, clip: ClipConfig, config: FinetuneConfig) -> dict[str, Any]:
    """What a training depends on, by name."""
    options = {f"finetune.{key}": value for key, value in asdict(config).items() if key not in FREE}
    return options | {
        "clip": [clip.frames, clip.fps, clip.short_side_min, clip.short_side_max, clip.crop, clip.mean, clip.std],
        "weights": digest(encoder)[:12],
        "videos": _hash(*train, ["path", "window_start"]),
    }


def _test_identity(test: Labelled, config: FinetuneConfig) -> list[Any]:
    videos = _hash(*test, ["path", "size", "mtime_ns", "window_start", "window_seconds"])
    return [videos, config.clips_test, config.crops_test]


def _read(folder: Path, what: Mapping[str, Any]) -> dict[str, Any] | None:
    """The checkpoint in `folder`, None where there is none yet. UserError where it is of something else."""
    if not (folder / CHECKPOINT).exists():
        return None
    state = load_checkpoint(folder / CHECKPOINT)
    before = state.get("what", {})
    changed = next((key for key in what if before.get(key) != what[key]), None)
    if changed is not None:
        raise UserError(
            f"{folder} holds a finetuning with {changed}={before.get(changed)}, not {what[changed]}: choose another "
            f"folder with out=…, or remove that one"
        )
    return state


def _train(
    model: Classifier,
    dataset: ClipDataset,
    ids: torch.Tensor,
    total: int,
    clip: ClipConfig,
    config: FinetuneConfig,
    folder: Path,
    what: dict[str, Any],
    state: dict[str, Any] | None,
    device: torch.device,
    precision: str,
    workers: int,
    title: str,
) -> dict[str, Any]:
    """Train to the end, from `state` on; returns the last checkpoint's. KeyboardInterrupt when a signal stopped it."""
    optimizer = torch.optim.SGD(
        [{"params": model.head.parameters()}, {"params": model.encoder.parameters()}],
        lr=config.lr_head, momentum=config.momentum, weight_decay=config.weight_decay,
    )  # fmt: skip
    step, failures = 0, {}
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
        if device.type == "cuda" and state["rng_device"] is not None:
            torch.cuda.set_rng_state(state["rng_device"], device)
        step, failures = state["step"], state["failures"]

    def reached(done: bool) -> dict[str, Any]:
        kept = {"what": what, "step": step, "model": model.state_dict(), "failures": failures}
        going_on = {"optimizer": optimizer.state_dict(), "rng": torch.get_rng_state()} if not done else {}
        on_device = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        return kept | going_on | {"rng_device": on_device}

    def requests(start: int) -> Iterator[list[Request]]:
        for at in range(start, total):
            yield train_requests(len(dataset), config.batch, config.seed, at)

    folder.mkdir(parents=True, exist_ok=True)
    log = RunLog(folder, step, total)
    began = f"going on from step {step} of {total}" if step else f"{len(dataset)} videos, {total} steps on {device}"
    log.say(f"finetuning{title and f' on {title}'}: {began}; writing to {folder}")
    transform = DeviceTransform(clip, device)
    batches = load(dataset, requests(step), workers, pin=device.type == "cuda")
    stopping: list[int] = []
    handlers = {s: signal.signal(s, lambda number, _: stopping.append(number)) for s in (signal.SIGTERM, signal.SIGINT)}
    saved, note = time.monotonic(), ""
    model.train()
    try:
        while step < total and not stopping:
            batch = next(batches)
            failures |= {f.path: f.reason for f in batch.failures}
            factor = rate_factor(config, step * config.batch / (config.clips_train * len(dataset)))
            for group, rate in zip(optimizer.param_groups, (config.lr_head, config.lr_encoder), strict=True):
                group["lr"] = rate * factor
            video, target = transform.frames(batch), ids[batch.index].to(device)
            with autocast(device, precision):
                logits = model(video)
                loss = F.cross_entropy(logits, target)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            due = time.monotonic() - saved > config.save_seconds
            if due or step % LOG_STEPS == 0 or step + 1 == total:
                if not math.isfinite(value := loss.item()):
                    raise UserError(
                        f"the loss is {value} at step {step}: lower finetune.lr_head and finetune.lr_encoder, and "
                        f"remove {folder}"
                    )
                accuracy = (logits.argmax(1) == target).float().mean().item()
                log.write(step, "finetune", {"loss": value, "accuracy": accuracy, "lr_head": config.lr_head * factor,
                                             "lr_encoder": config.lr_encoder * factor})  # fmt: skip
                note = f"loss {value:.3f}"
            step += 1
            log.advance(step, note)
            if due and step < total:
                save_checkpoint(folder / CHECKPOINT, reached(done=False))
                saved = time.monotonic()
        last = reached(done=step == total)
        save_checkpoint(folder / CHECKPOINT, last)
    finally:
        log.close()
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if step < total:
        log.say(f"stopped at step {step} of {total}, saved in {folder}: the same command goes on from there")
        raise KeyboardInterrupt
    return last


@torch.no_grad()
def _scores(
    model: Classifier,
    dataset: ClipDataset,
    clip: ClipConfig,
    batch: int,
    device: torch.device,
    precision: str,
    workers: int,
) -> tuple[np.ndarray, np.ndarray, list[Failure]]:
    """Softmax scores float32 [n, V, classes] of the V clips and crops of the videos that decode, and their rows."""
    model.eval()
    views = dataset.clips * dataset.crops
    transform = DeviceTransform(clip, device)
    requests = list(pass_requests(len(dataset), max(1, batch // views), Pass.EVALUATE, 0))
    scores, rows, failures = [], [], []
    for videos in track(load(dataset, requests, workers, pin=device.type == "cuda"), "testing", len(requests)):
        failures += videos.failures
        if not len(videos.index):
            continue
        found = []
        for frames in videos.frames.split(batch):
            with autocast(device, precision):
                logits = model(transform.frames(replace(videos, frames=frames)))
            found.append(logits.float().softmax(-1).cpu().numpy())
        scores.append(np.concatenate(found).reshape(len(videos.index), views, -1))
        rows.append(videos.index.numpy())
    if not rows:
        return np.empty((0, views, 0), np.float32), np.empty(0, np.int64), failures
    return np.concatenate(scores), np.concatenate(rows), failures
