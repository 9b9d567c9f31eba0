"""The loop that trains a video encoder on with labels: a fresh linear classifier on top, SGD, exact resume."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ..clips.dataset import ClipDataset, Request
from ..clips.loader import load, train_requests
from ..clips.transform import DeviceTransform
from ..config import ClipConfig, FinetuneConfig
from ..core.atomic import write_json
from ..core.checkpoint_file import save_checkpoint
from ..core.device import autocast
from ..core.errors import UserError
from ..core.plurals import many
from .checkpoint_state import random_state, restore_random_state
from .log import RunLog
from .signals import StopSignals

CHECKPOINT = "last.ckpt"
LOG_STEPS = 10


class Classifier(nn.Module):
    """A video encoder with a linear classifier, which begins orthogonal and without bias (as released).

    float [B, 3, T, H, W] → logits float32 [B, classes], whatever autocast says.
    """

    def __init__(self, encoder: nn.Module, classes: int, dropout: float):
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(int(encoder.dim), classes)  # type: ignore[arg-type]
        nn.init.orthogonal_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        features = self.encoder(video)
        with torch.autocast(features.device.type, enabled=False):  # bfloat16's rounding changes labels
            return self.head(self.dropout(features.float()))


@dataclass(frozen=True)
class Place:
    """Where a finetuning computes and writes. `title` is what it says that it is on."""

    folder: Path
    device: torch.device
    precision: str = "auto"
    workers: int = 0
    title: str = ""


def rate_factor(config: FinetuneConfig, epoch: int) -> float:
    """What both learning rates are multiplied by throughout an epoch (spec §6).

    As in the released scripts, the warm-up rises from 1 to `warmup_factor` in equal steps over `warmup_epochs`, and the
    rates stay multiplied by it afterwards. Each milestone that has come multiplies them by `gamma`. By default the
    epochs' factors are 1, 4.5, 8, 8, 8, 8, 0.4, 0.4, 0.4, 0.4, 0.02, 0.02.

    Args:
        epoch: counted from 0.
    """
    drop = config.gamma ** sum(epoch >= milestone for milestone in config.milestones)
    if config.warmup_epochs == 0:
        return drop
    return drop * (1 + (config.warmup_factor - 1) * min(1, epoch / config.warmup_epochs))


def epoch_of(config: FinetuneConfig, step: int, videos: int) -> int:
    """The epoch, counted from 0, of the first clip of a step's batch; an epoch is `clips_train` clips of each video."""
    return step * config.batch // (config.clips_train * videos)


def total_steps(config: FinetuneConfig, videos: int) -> int:
    """Steps of a training on as many videos."""
    return math.ceil(config.epochs * config.clips_train * videos / config.batch)


def train_classifier(
    model: Classifier,
    dataset: ClipDataset,
    ids: torch.Tensor,
    clip: ClipConfig,
    config: FinetuneConfig,
    place: Place,
    what: dict[str, Any],
    state: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Train to the end on the videos of `dataset`, of classes `ids` int64 [N], from the checkpoint `state` on.

    Returns the last checkpoint: `what` (a description), `step`, `model`, `failures` by path; those on the way also have
    what is needed to go on. Raises KeyboardInterrupt when SIGTERM or SIGINT stopped it, after it has saved, and
    UserError for a loss that is no number.
    """
    folder, device, total = place.folder, place.device, total_steps(config, len(dataset))
    optimizer = torch.optim.SGD(
        [{"params": model.head.parameters()}, {"params": model.encoder.parameters()}],
        lr=config.lr_head, momentum=config.momentum, weight_decay=config.weight_decay,
    )  # fmt: skip
    step, failures = 0, {}
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        restore_random_state(state, device)
        step, failures = state["step"], state["failures"]

    def reached(done: bool) -> dict[str, Any]:
        kept = {"what": what, "step": step, "model": model.state_dict(), "failures": failures}
        return kept if done else kept | {"optimizer": optimizer.state_dict(), **random_state(device)}

    def requests(start: int) -> Iterator[list[Request]]:
        for at in range(start, total):
            yield train_requests(len(dataset), config.batch, config.seed, at)

    write_json(folder / "finetune.json", what)
    log = RunLog(folder, step, total)
    title = place.title and f" on {place.title}"
    began = (
        f"resuming from step {step} of {total}"
        if step
        else f"{many(len(dataset), 'video')}, {many(total, 'step')} on {device}"
    )
    log.say(f"finetuning{title}: {began}; writing to {folder}")
    transform = DeviceTransform(clip, device)
    batches = load(dataset, requests(step), place.workers, pin=device.type == "cuda")
    stopping = StopSignals()
    saved, note = time.monotonic(), ""
    model.train()
    try:
        while step < total and not stopping:
            batch = next(batches)
            failures |= {f.path: f.reason for f in batch.failures}
            factor = rate_factor(config, epoch_of(config, step, len(dataset)))
            for group, rate in zip(optimizer.param_groups, (config.lr_head, config.lr_encoder), strict=True):
                group["lr"] = rate * factor
            video, target = transform(batch)["video"], ids[batch.index].to(device)
            with autocast(device, place.precision):
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
        stopping.close()
    if step < total:
        log.say(f"stopped at step {step} of {total}, saved in {folder}: repeat the command to resume")
        raise KeyboardInterrupt
    return last
