"""Train a detector, resumably: the weights after a kill and a repeat are those of a training without one."""

import json
import math
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from ..config import DetectConfig
from ..core.atomic import write_text
from ..core.checkpoint_file import load_checkpoint, save_checkpoint
from ..core.errors import UserError
from ..core.progress import track
from ..core.untrusted import field, is_count, read_text
from ..train.checkpoint_state import checkpoint_errors, load_optimizer
from ..train.signals import Stopped, StopSignals
from .detector import Detector, set_jitter
from .frame_reader import FrameReader, as_tensors, targets_of

STATE, LOG = "training.ckpt", "training.jsonl"

SAVE_SECONDS = 60.0
"""Seconds between two checkpoints."""

LOG_STEPS = 20
"""Steps between two lines of the log, and between two checks of the loss."""

WARM_UP = 50
"""Steps in which the learning rate rises; a tenth of a short training."""

MAX_GRAD_NORM = 10.0


def train(
    detector: Detector, reader: FrameReader, config: DetectConfig, device: torch.device, out: Path, key: str
) -> dict[str, float]:
    """Train a detector in place, from its checkpoint if there is one, and return its last losses.

    Each step seeds torch's random numbers with the seed and the step, so that a checkpoint needs none. On a GPU, the
    gradient of RoI pooling adds in any order, so its last digits differ between two trainings.

    Args:
        detector: with random weights.
        reader: the batches.
        config: the options `steps`, `lr` and `seed`.
        device: where to compute.
        out: the folder of the checkpoint and of the log.
        key: what the training depends on; a checkpoint of another key is an error.

    Raises:
        Stopped: a signal ended the training, after it was saved.
        UserError: the checkpoint is damaged, or the loss is NaN or infinite.
    """
    model = detector.model.to(device).train()
    set_jitter(model, detector.side, jitter=True)
    parameters = [x for x in model.parameters() if x.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=config.lr, weight_decay=1e-4)
    start = _restore(out / STATE, model, optimizer, reader, key)
    log = _Log(out / LOG, start)
    losses: Mapping[str, torch.Tensor] = {}

    def save(done: int) -> None:
        weights, moments = model.state_dict(), optimizer.state_dict()
        failures = dict(reader.failures)
        state = {"key": key, "step": done, "model": weights, "optimizer": moments, "failures": failures}
        save_checkpoint(out / STATE, state)

    signals, saved = StopSignals(), time.monotonic()
    try:
        batches = reader.batches(start, config.steps)
        for step, pictures in track(enumerate(batches, start), "training the detector", config.steps - start):
            rate = rate_at(step, config.steps, config.lr)
            for group in optimizer.param_groups:
                group["lr"] = rate
            torch.manual_seed(int(np.random.SeedSequence([config.seed, 2, step]).generate_state(1)[0]))
            losses = model(as_tensors([x.pixels for x in pictures], device), targets_of(pictures, device))
            optimizer.zero_grad()
            sum(losses.values()).backward()  # type: ignore[union-attr]
            torch.nn.utils.clip_grad_norm_(parameters, MAX_GRAD_NORM, foreach=True)
            optimizer.step()
            if (step + 1) % LOG_STEPS == 0 or step + 1 == config.steps:
                log.add(step + 1, _checked(losses, step + 1, out), rate)
            if signals or time.monotonic() - saved > SAVE_SECONDS:
                save(step + 1)
                saved = time.monotonic()
            if signals and step + 1 < config.steps:
                raise Stopped(signals.requeue)
    finally:
        signals.close()
    set_jitter(model, detector.side, jitter=False)
    model.eval()
    return _checked(losses, config.steps, out) if losses else log.last


def finish(out: Path) -> None:
    """Remove the checkpoint of a training whose detector has been written."""
    (out / STATE).unlink(missing_ok=True)


def rate_at(step: int, steps: int, largest: float) -> float:
    """The learning rate of a step: it rises, then falls along a cosine to a hundredth."""
    rising = max(1, min(WARM_UP, steps // 10))
    if step < rising:
        return largest * (step + 1) / rising
    done = (step - rising) / max(1, steps - rising)
    return largest * (0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * done)))


def _restore(
    path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, reader: FrameReader, key: str
) -> int:
    """Load a checkpoint, and return the number of its steps; 0 without one."""
    if not path.is_file():
        return 0
    state = load_checkpoint(path)
    if field(state, "key", str, path) != key:
        raise UserError(
            f"{path} is of a training on other boxes or with other options: remove it or give another out=…"
        )
    step = field(state, "step", is_count, path)
    failures = field(state, "failures", dict, path)
    reader.failures.update({str(name): str(why) for name, why in failures.items()})
    with checkpoint_errors(path):
        model.load_state_dict(field(state, "model", dict, path))
        load_optimizer(optimizer, field(state, "optimizer", dict, path))
    return step


def _checked(losses: Mapping[str, torch.Tensor], step: int, out: Path) -> dict[str, float]:
    """The losses as numbers. Raises UserError if one is NaN or infinite."""
    values = {name: float(x.detach()) for name, x in losses.items()}
    if not all(map(math.isfinite, values.values())):
        raise UserError(
            f"the detector's loss is NaN or infinite at step {step}: set a smaller lr, and remove {out} or choose "
            "another folder with out=…"
        )
    return values


class _Log:
    """The lines of `training.jsonl`, without those of steps that are done again."""

    def __init__(self, path: Path, step: int):
        self.path, self.last = path, dict[str, float]()
        kept = []
        for line in read_text(path, 1 << 28).splitlines() if path.is_file() else []:
            with suppress(ValueError, KeyError, TypeError):
                entry = json.loads(line)
                if entry["step"] <= step:
                    kept.append(line + "\n")
                    self.last = {k: x for k, x in entry.items() if k not in ("step", "lr")}
        write_text(path, "".join(kept))

    def add(self, step: int, losses: dict[str, float], rate: float) -> None:
        entry = {"step": step, "lr": round(rate, 8), **{name: round(x, 5) for name, x in losses.items()}}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
