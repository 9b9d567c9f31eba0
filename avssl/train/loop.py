"""`avssl train`: one loop, top to bottom, in one process or in many."""

import time
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from ..clips.dataset import describe_failures
from ..clips.loader import load
from ..config import TrainConfig
from ..config.run_folder import open_run
from ..core.atomic import write_json
from ..core.checkpoint_store import Checkpoints
from ..core.collectives import rank, sum_over_processes, world_size
from ..core.counts import counted, many
from ..core.device import choose_device, share_cores
from ..core.errors import UserError
from ..objectives.objective import Figures, Interrupted
from ..selflabel.sinkhorn import DivergedError
from ..videos.index_options import resolve_for_training
from .check import check
from .collapse import SETTLED, CollapseWatch
from .distributed import StepConsensus, StepDecision, collect, process_group
from .log import RunLog
from .monitor import LossMonitor, Throughput
from .schedule import learning_rate
from .signals import Stopped, StopSignals
from .state import load_state
from .trainer import Training


def run(config: TrainConfig) -> Path:
    """Train as configured, going on from the run folder's newest checkpoint where there is one. Returns the run folder.

    Raises UserError for options or data that do not fit, LostProcessError when another process of the training is gone,
    and Stopped when a signal came, after saving: SIGTERM, Ctrl-C, or a scheduler's SIGUSR1 or SIGUSR2.
    """
    check(config)
    config = replace(config, data=resolve_for_training(config.data))
    device = choose_device(config.device)
    share_cores(device, config.workers, config.threads)
    signals = StopSignals()
    try:
        with process_group(device, config.launch.timeout):
            return _train(config, device, signals)
    finally:
        signals.close()


def _train(config: TrainConfig, device: torch.device, signals: StopSignals) -> Path:
    training, folder = Training(config, device), Path(config.out)
    if rank() == 0:
        open_run(config)  # once all that can be wrong with the options has been found
    with closing(Checkpoints(folder, config.launch.timeout)) as checkpoints:
        newest = checkpoints.newest()
        state = load_state(newest) if newest else {}
        training.begin(state, folder)
        if newest:
            training.load(state, newest, folder)
        return _steps(training, folder, checkpoints, state.get("processes", 0), signals)


def _steps(training: Training, folder: Path, checkpoints: Checkpoints, before: int, signals: StopSignals) -> Path:
    """Train to the end. `before`: processes that the training has gone on in so far, 0 where it begins."""
    t, config, device, task = training, training.config, training.device, training.task
    optim, batch, total, model, optimizer = config.optim, t.batch, t.total, t.model, t.optimizer
    log = RunLog(folder, t.step, total, config.wandb, done=t.step == total and not task.due(t.step))
    checkpoints.say = log.say
    windows = t.videos["files"] < t.videos["number"]
    each = f"{batch} {'windows' if windows else 'videos'} a step" + (
        f" in {world_size()} processes" if world_size() > 1 else ""
    )
    if t.step:
        log.say(f"going on from step {t.step} of {total} in {folder}")
    else:
        log.say(
            f"{counted(t.videos['number'], t.videos['files'])}, {many(total, 'step')} on {device}, {each}; "
            f"writing to {folder}"
        )
        if total < SETTLED:
            log.say(
                f"warning: less than {SETTLED} steps teach it little: raise optim.epochs (now {config.optim.epochs}), "
                f"or add videos"
            )
    if before not in (0, world_size()):
        log.say(
            f"{world_size()} processes instead of {before}: the {batch} videos of a step and their augmentation are "
            f"what they would have been; dropout and the order of sums are not"
        )
    if t.composition is not None:
        log.say(t.composition.describe(batch))
    batches = load(t.dataset, task.requests(t.step), config.workers, pin=device.type == "cuda")
    agreement = StepConsensus(signals)
    saved_at, note, unsaved = time.monotonic(), "", not before
    collapse = CollapseWatch(log, config.labelling, t.steps_per_epoch)
    finite, pace = LossMonitor(t.dataset.paths), Throughput(t.step * batch * optim.accumulate)
    stopped: StepDecision | None = None

    def save() -> None:
        agreement.start(bad=finite.has_nonfinite())
        if agreement.wait().bad:
            raise finite.error(collect(finite.files()), folder)
        checkpoints.save(t.step, t.shared(), t.own())

    try:
        while True:
            if task.due(t.step):
                began = time.monotonic()
                try:
                    solved = task.label(batches, agreement.stop, log.show)
                except Interrupted:  # as if it had not begun: the saved state is that of before, but for a first one
                    stopped, unsaved = agreement.wait(), unsaved and t.step > 0
                    break
                unsaved = True
                pace.skip(time.monotonic() - began)
                log.write(t.step, "labelling", {**vars(solved), "seconds": time.monotonic() - began})
                collapse.look(t.step, solved)
                if max(solved.errors) > config.labelling.tolerance:
                    log.say(
                        f"labelling at step {t.step} stopped {max(solved.errors):.2g} from its cluster sizes, after "
                        f"{max(solved.iterations)} passes (labelling.tolerance={config.labelling.tolerance:g})"
                    )
            if t.step == total:
                break
            due = rank() == 0 and time.monotonic() - saved_at > config.save_seconds and t.step + 1 < total
            agreement.start(save=due, bad=finite.has_nonfinite())
            model.train()
            rate = learning_rate(optim, t.step, t.steps_per_epoch, total, t.begun if optim.scale_lr else 1)
            for group in optimizer.param_groups:
                group["lr"] = rate
            logging = t.step % config.log_steps == 0
            optimizer.zero_grad(set_to_none=True)
            losses = []
            for number in range(optim.accumulate):
                with pace.waiting():
                    current = next(batches)
                last = number + 1 == optim.accumulate
                with nullcontext() if last or world_size() == 1 else t.objective.no_sync():  # type: ignore[operator]
                    loss, logged = t.objective(current, detailed=logging)
                    (loss / optim.accumulate).backward()
                losses.append(loss.detach())
                finite.watch(t.step, losses[-1], current.index)
            norm = clip_gradients(model, optim.max_grad_norm) if optim.max_grad_norm or logging else None
            optimizer.step()
            if logging:
                logged |= {"loss": torch.stack(losses).mean(), "gradient_norm": norm, "failed": len(task.failures)}
                values = averaged(logged)
                values["failed"] *= world_size()
                speed = pace.figures((t.step + 1) * batch * optim.accumulate)
                log.write(t.step, "train", {**values, "lr": rate, **speed})
                note = f"loss {values['loss']:.3f}"
            t.step, unsaved = t.step + 1, True
            verdict = agreement.wait()
            if verdict.bad:
                raise finite.error(collect(finite.files()), folder)
            log.advance(t.step, note)
            if verdict.stop:
                stopped = verdict
                break
            if verdict.save:
                save()
                saved_at, unsaved = time.monotonic(), False
        if unsaved:
            save()
        if not checkpoints.wait():
            raise UserError(f"step {t.step} could not be saved in {folder}: make room, and give the same command again")
        failures = dict(collect([*task.failures.items()]))
        log.status("finished" if stopped is None else "stopped")
    except DivergedError as error:
        log.status("failed", str(error))
        raise UserError(f"{error}, at step {t.step}: lower optim.lr") from None
    except BaseException as error:
        log.status("failed", str(error))
        raise
    finally:
        log.close()
    if failures and rank() == 0:
        write_json(folder / "failures.json", failures)
        log.say(f"{describe_failures(failures.items())}; others took their place: {folder / 'failures.json'}")
    if stopped is not None:
        log.say(f"stopped at step {t.step} of {total}, saved in {folder}: repeat the command to resume")
        raise Stopped(stopped.requeue, said=True)
    log.say(f"trained: {folder}")
    collapse.end()
    if config.task != "gdt" or {config.data.train_split, config.data.test_split} <= set(t.splits):
        log.say(f"next: avssl {'evaluate' if config.task == 'gdt' else 'clusters'} run={folder}")
    return folder


def clip_gradients(model: nn.Module, most: float) -> torch.Tensor:
    """The norm of all gradients together; they are scaled down to `most` unless it is 0."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    if most:
        nn.utils.clip_grads_with_norm_(model.parameters(), most, norm)
    return norm


def averaged(figures: Figures) -> dict[str, float]:
    """Figures of the log, averaged over the processes."""
    values = torch.tensor(
        [v.item() if isinstance(v, torch.Tensor) else v for v in figures.values()], dtype=torch.float64
    )
    return dict(zip(figures, (sum_over_processes(values) / world_size()).tolist(), strict=True))
