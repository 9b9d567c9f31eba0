"""The loop that finetunes a video encoder on classes, with a new linear classifier, SGD and exact resume."""

import math
import time
from collections.abc import Iterator, Sequence
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
    """A video encoder with a linear classifier, with orthogonal initial weights and zero initial bias, as released.

    It maps float [B, 3, T, H, W] to logits [B, classes], which are float32 even under autocast.
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
        with torch.autocast(features.device.type, enabled=False):  # bfloat16's rounding would change labels
            return self.head(self.dropout(features.float()))


@dataclass(frozen=True)
class Place:
    """Where finetuning computes and writes. `title` names its data in the log."""

    folder: Path
    device: torch.device
    precision: str = "auto"
    workers: int = 0
    title: str = ""


def rate_factor(config: FinetuneConfig, epoch: int) -> float:
    """The factor on both learning rates in an epoch (spec §6).

    As in the released scripts, the factor rises from 1 to `warmup_factor` in equal steps over `warmup_epochs`, and then
    stays there. Each passed milestone multiplies it by `gamma`. By default the epochs' factors are 1, 4.5, 8, 8, 8, 8,
    0.4, 0.4, 0.4, 0.4, 0.02, 0.02.

    Args:
        epoch: counted from 0.
    """
    drop = config.gamma ** sum(epoch >= milestone for milestone in config.milestones)
    if config.warmup_epochs == 0:
        return drop
    return drop * (1 + (config.warmup_factor - 1) * min(1, epoch / config.warmup_epochs))


def epoch_of(config: FinetuneConfig, step: int, videos: int) -> int:
    """The epoch, counted from 0, in which a step's batch begins; an epoch has `clips_train` clips of each video."""
    return step * config.batch // (config.clips_train * videos)


def total_steps(config: FinetuneConfig, videos: int) -> int:
    """The number of finetuning steps for `videos` training videos."""
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
    """Train a classifier to the end, and write its checkpoints into the folder of `place`.

    Args:
        model: the classifier, which is trained in place.
        dataset: the training clips of N videos.
        ids: the class of each video, int64 [N].
        clip: how clips are transformed.
        config: the options of finetuning.
        place: where to compute and to write.
        what: a description for finetune.json and the checkpoints.
        state: the checkpoint to resume from; None: begin from the start.

    Returns:
        The last checkpoint: `what`, `step`, `model`, and `failures` by path. Earlier checkpoints also contain the state
        of the optimiser and of the random generators.

    Raises:
        KeyboardInterrupt: SIGTERM or SIGINT arrived, and the state was saved.
        UserError: a loss was NaN or infinite.
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

    def checkpoint(done: bool) -> dict[str, Any]:
        result = {"what": what, "step": step, "model": model.state_dict(), "failures": failures}
        return result if done else result | {"optimizer": optimizer.state_dict(), **random_state(device)}

    def requests(start: int) -> Iterator[Sequence[Request]]:
        for number in range(start, total):
            yield train_requests(len(dataset), config.batch, config.seed, number)

    write_json(folder / "finetune.json", what)
    log = RunLog(folder, step, total)
    title = place.title and f" on {place.title}"
    begins = (
        f"resuming from step {step} of {total}"
        if step
        else f"{many(len(dataset), 'video')}, {many(total, 'step')} on {device}"
    )
    log.say(f"finetuning{title}: {begins}; writing to {folder}")
    transform, ids = DeviceTransform(clip, device), ids.to(device)
    batches = load(dataset, requests(step), place.workers, pin=device.type == "cuda")
    stop_signals = StopSignals()
    saved_at, note = time.monotonic(), ""
    model.train()
    try:
        while step < total and not stop_signals:
            batch = next(batches)
            failures |= {f.path: f.reason for f in batch.failures}
            factor = rate_factor(config, epoch_of(config, step, len(dataset)))
            for group, rate in zip(optimizer.param_groups, (config.lr_head, config.lr_encoder), strict=True):
                group["lr"] = rate * factor
            batch = batch.to(device)
            video, target = transform(batch)["video"], ids[batch.device_index]
            with autocast(device, place.precision):
                logits = model(video)
                loss = F.cross_entropy(logits, target)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            save_due = time.monotonic() - saved_at > config.save_seconds
            if save_due or step % LOG_STEPS == 0 or step + 1 == total:
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
            if save_due and step < total:
                save_checkpoint(folder / CHECKPOINT, checkpoint(done=False))
                saved_at = time.monotonic()
        last = checkpoint(done=step == total)
        save_checkpoint(folder / CHECKPOINT, last)
    finally:
        log.close()
        stop_signals.close()
    if step < total:
        log.say(f"stopped at step {step} of {total}, saved in {folder}: repeat the command to resume")
        raise KeyboardInterrupt
    return last
