"""`avssl train`: one loop, top to bottom."""

import math
import time
from pathlib import Path
from typing import Any

import torch

from ..atomic import write_json
from ..config import TrainConfig
from ..contrast.config import ContrastConfig
from ..data.clips import ClipDataset
from ..data.index import read_index, splits
from ..data.loader import load
from ..errors import UserError
from ..selflabel.marginals import make_marginal
from ..selflabel.sinkhorn import DivergedError
from .checkpoint import load_checkpoint, random_state, restore_random_state, save_checkpoint
from .device import choose_device, share_cores
from .gdt import BothTask, GdtTask
from .log import RunLog
from .run_folder import CHECKPOINT, open_run
from .schedule import learning_rate
from .selavi import SelaviTask
from .stopping import StopSignals
from .task import Task, build_model, make_composition, modalities_of

TASKS: dict[str, type[Task]] = {"selavi": SelaviTask, "gdt": GdtTask, "both": BothTask}


def run(config: TrainConfig) -> Path:
    """Train as configured, going on from the run folder's checkpoint where there is one. Returns the run folder.

    Raises UserError for options or data that do not fit. SIGTERM saves and stops; so does Ctrl-C.
    """
    check(config)
    composition = make_composition(config)
    device = choose_device(config.device)
    share_cores(device, config.workers, config.threads)
    there = splits(config.data.index)
    rows = read_index(config.data.index, config.data.train_split if config.data.train_split in there else there[0])
    if config.task != "gdt" and len(rows) < config.labelling.clusters:
        raise UserError(
            f"labelling.clusters={config.labelling.clusters} for {len(rows)} training videos: "
            f"ask for at most {len(rows)} clusters"
        )
    dataset = ClipDataset(rows, config.data.root, config.clip, config.seed, composition, modalities_of(config))
    torch.manual_seed(config.seed)
    model = build_model(config).to(device)
    if model.video is not None:
        model.video.to(memory_format=torch.channels_last_3d)  # a fifth faster on CPUs too
    optimizer = make_optimizer(model, config)
    steps_per_epoch = len(dataset) / config.optim.batch
    total = math.ceil(config.optim.epochs * steps_per_epoch)
    task = TASKS[config.task](model, config, len(dataset), total, device)
    folder = open_run(config)  # once all that can be wrong with the options has been found

    step = 0
    if (folder / CHECKPOINT).exists():
        state = load_checkpoint(folder / CHECKPOINT)
        if state["videos"] != dataset.paths:
            raise UserError(
                f"the index {config.data.index} has changed since {folder} began: start anew with out=…, "
                f"or remove {folder}"
            )
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        task.load_state_dict(state)
        restore_random_state(state, device)
        step = state["step"]

    def save() -> None:
        state: dict[str, Any] = {
            "step": step,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            **task.state_dict(),
            "videos": dataset.paths,
            **random_state(device),
        }
        save_checkpoint(folder / CHECKPOINT, state)

    log = RunLog(folder, step, total)
    stopping = StopSignals()
    if step:
        log.say(f"going on from step {step} of {total} in {folder}")
    else:
        log.say(f"{len(dataset)} videos, {total} steps on {device}; writing to {folder}")
    if composition is not None:
        log.say(composition.describe(config.optim.batch))
    batches = load(dataset, task.requests(step), config.workers, pin=device.type == "cuda")
    saved, finished, note = time.monotonic(), False, ""
    try:
        while not stopping:
            if task.due(step):
                began = time.monotonic()
                solved = task.label(batches)
                log.write(step, "labelling", {**vars(solved), "seconds": time.monotonic() - began})
                if max(solved.errors) > config.labelling.tolerance:
                    log.say(
                        f"labelling at step {step} stopped {max(solved.errors):.2g} from its cluster sizes, after "
                        f"{max(solved.iterations)} passes (labelling.tolerance={config.labelling.tolerance:g})"
                    )
            if step == total:
                finished = True
                break
            waited = time.monotonic()
            batch = next(batches)
            waited = time.monotonic() - waited
            model.train()
            rate = learning_rate(config.optim, step, steps_per_epoch, total)
            for group in optimizer.param_groups:
                group["lr"] = rate
            logging = step % config.log_steps == 0
            loss, logged = task.loss(batch, detailed=logging)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            if logging:
                values = {k: v.item() if isinstance(v, torch.Tensor) else v for k, v in logged.items()}
                if not math.isfinite(values["loss"]):
                    raise UserError(f"the loss is {values['loss']} at step {step}: lower optim.lr")
                log.write(step, "train", {**values, "lr": rate, "wait": waited, "failed": len(task.failures)})
                note = f"loss {values['loss']:.3f}"
            step += 1
            log.advance(step, note)
            if time.monotonic() - saved > config.save_seconds:
                save()
                saved = time.monotonic()
        save()
    except DivergedError as error:
        raise UserError(f"{error}, at step {step}: lower optim.lr") from None
    finally:
        log.close()
        stopping.close()
    if task.failures:
        write_json(folder / "failures.json", task.failures)
        log.say(f"{len(task.failures)} videos could not be decoded and were replaced: {folder / 'failures.json'}")
    if not finished:
        log.say(f"stopped at step {step} of {total}, saved in {folder}: the same command goes on from there")
        raise KeyboardInterrupt
    log.say(f"trained: {folder}")
    if config.task != "gdt" or {config.data.train_split, config.data.test_split} <= set(there):
        log.say(f"next: avssl {'evaluate' if config.task == 'gdt' else 'clusters'} run={folder}")
    return folder


def make_optimizer(model: torch.nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW."""
    o = config.optim
    if o.optimizer == "adamw":
        return torch.optim.AdamW(model.parameters(), lr=o.lr, weight_decay=o.weight_decay)
    return torch.optim.SGD(model.parameters(), lr=o.lr, momentum=o.momentum, weight_decay=o.weight_decay)


def check(config: TrainConfig) -> None:
    """UserError for options that do not go together."""
    clip = config.clip
    if not clip.crop <= clip.short_side_min <= clip.short_side_max:
        raise UserError(
            f"clip.crop={clip.crop}, clip.short_side_min={clip.short_side_min} and "
            f"clip.short_side_max={clip.short_side_max} must not fall in this order"
        )
    if config.task == "selavi" and config.contrast != ContrastConfig():
        raise UserError("contrast.* has no part in task=selavi: set task=gdt, or task=both")
    if config.task != "selavi" and config.optim.batch < 2:
        raise UserError("optim.batch=1 leaves contrast with no other video to repel: give at least 2")
    if config.task == "both" and set(config.contrast.modalities) != set(config.labelling.modalities):
        wanted = ",".join(modalities_of(config))
        raise UserError(f"task=both encodes the same for both objectives: set contrast.modalities=[{wanted}]")
    labelling = config.labelling
    wrong = [name for name in labelling.modalities if name not in ("video", "audio")]
    if config.task != "gdt":
        make_marginal(labelling)
    twice = len(set(labelling.modalities)) < len(labelling.modalities)
    if config.task != "gdt" and (wrong or twice or not labelling.modalities):
        raise UserError(f"labelling.modalities={labelling.modalities}: choose from video, audio, each once")
    if config.task != "gdt" and math.isinf(labelling.lam):
        raise UserError("labelling.lam=inf: give a finite number")
    if labelling.groups > labelling.heads:
        raise UserError(
            f"labelling.groups={labelling.groups} of {labelling.heads} heads: ask for at most as many groups"
        )
    if labelling.mode != "offline" and labelling.groups > 1:
        raise UserError(
            f"labelling.groups={labelling.groups}: only mode=offline labels groups from passes of their own"
        )
    if labelling.method != "transport" and labelling.mode == "batch":
        raise UserError(f"labelling.method={labelling.method} clusters all videos: use labelling.mode=offline or bank")
    if labelling.method == "xdc" and len(labelling.modalities) < 2:
        raise UserError(
            "labelling.method=xdc labels each modality by the other: set labelling.modalities=[video,audio]"
        )
    if labelling.method == "xdc" and labelling.sharing != "per_modality":
        raise UserError(
            "labelling.method=xdc gives each modality labels of its own: set labelling.sharing=per_modality"
        )
    if labelling.sharing == "concat" and len(labelling.modalities) < 2:
        raise UserError("labelling.sharing=concat needs both modalities: set labelling.modalities=[video,audio]")
