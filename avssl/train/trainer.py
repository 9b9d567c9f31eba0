"""What the training loop calls: a step's parts, saving, labelling passes, signals and the log of a run."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from ..clips.dataset import Batch, describe_failures
from ..clips.loader import load
from ..core.atomic import write_json
from ..core.checkpoint_store import Checkpoints
from ..core.collectives import rank, sum_over_processes, world_size
from ..core.errors import UserError
from ..core.plurals import counted, many
from ..objectives.objective import Interrupted, LoggedFigures
from ..selflabel.labeller import LabellingReport
from ..selflabel.sinkhorn import DivergedError
from .checkpoint_state import load_state
from .collapse import SETTLED, CollapseWatch
from .distributed import StepConsensus, StepDecision, collect
from .log import RunLog
from .monitor import LossMonitor, Throughput
from .run_state import RunState
from .signals import Stopped, StopSignals


class Trainer:
    """Takes a run through its steps, in the order of `avssl.train.loop`, and keeps it in `folder`.

    No value is read back from the device between two steps: the loss is looked at a step late, by `LossMonitor`, and
    the processes agree by `StepConsensus` on what to do next while the step computes.
    """

    def __init__(self, state: RunState, folder: Path, checkpoints: Checkpoints, signals: StopSignals):
        self.state, self.folder, self.checkpoints, self.config = state, folder, checkpoints, state.config
        self.signals = signals
        self.stopped: StepDecision | None = None
        """The decision that ended the run before its last step."""
        self.unsaved = False
        self.saved_at = time.monotonic()
        self.note = ""

    def resume(self) -> None:
        """Bring back the newest checkpoint, or begin; then open the log, and start the decoding workers."""
        state, newest = self.state, self.checkpoints.newest()
        saved = load_state(newest) if newest else {}
        state.begin(saved, self.folder)
        if newest:
            state.load(saved, newest, self.folder)
        at_end = state.step == state.total and not state.labelling(state.step)
        self.log = RunLog(self.folder, state.step, state.total, self.config.wandb, done=at_end)
        self.checkpoints.say = self.log.say
        self._announce(saved.get("processes", 0))
        pin = state.device.type == "cuda"
        self.batches = load(state.dataset, state.requests(), self.config.workers, pin=pin)
        self.consensus = StepConsensus(self.signals)
        self.collapse = CollapseWatch(self.log, self.config.labelling, state.steps_per_epoch)
        self.monitor = LossMonitor(state.dataset.paths)
        self.throughput = Throughput(state.step * self._clips_a_step())
        self.unsaved = not newest

    @contextmanager
    def running(self) -> Iterator[None]:
        """Around the loop: a labelling pass that a signal interrupts ends it as any signal does; errors are logged."""
        log = self.log
        try:
            try:
                yield
            except Interrupted:  # as if it had not begun: the saved state is that of before, but for a first one
                self.stopped = self.consensus.wait()
                self.unsaved = self.unsaved and self.state.step > 0
                self.finish()
        except DivergedError as error:
            log.status("failed", str(error))
            raise UserError(f"{error}, at step {self.state.step}: lower optim.lr") from None
        except BaseException as error:
            log.status("failed", str(error))
            raise
        finally:
            log.close()

    def steps(self) -> Iterator[int]:
        """The steps that are left."""
        state = self.state
        while state.step < state.total and self.stopped is None:
            yield state.step

    def labelling_due(self, step: int) -> bool:
        """Are labels due before training step `step`?"""
        return self.state.labelling(step) is not None

    def relabel(self) -> None:
        """The labelling that is due. Raises Interrupted as soon as a signal comes."""
        began, state = time.monotonic(), self.state
        report = state.relabel(self.batches, self.consensus.stop, self.log.show)
        self.unsaved = True
        self.throughput.skip(time.monotonic() - began)
        self.log.write(state.step, "labelling", {**vars(report), "seconds": time.monotonic() - began})
        self.collapse.look(state.step, report)
        self._say_if_unsolved(report)

    def micro_batches(self) -> Iterator[Batch]:
        """Begin a step; then its `optim.accumulate` batches."""
        state, config = self.state, self.config
        late = time.monotonic() - self.saved_at > config.save_seconds
        save = rank() == 0 and late and state.step + 1 < state.total
        self.consensus.start(save=save, bad=self.monitor.has_nonfinite())
        self.rate = state.begin_step()
        self.logging = state.step % config.log_steps == 0
        self.losses: list[torch.Tensor] = []
        self.logged: LoggedFigures = {}
        for number in range(config.optim.accumulate):
            self.last = number + 1 == config.optim.accumulate
            with self.throughput.waiting():
                batch = next(self.batches)
            yield batch

    def forward(self, batch: Batch) -> torch.Tensor:
        """The loss of a batch, a scalar."""
        loss, self.logged = self.state.forward(batch, self.logging, self.last)
        return loss

    def watch(self, loss: torch.Tensor, batch: Batch) -> None:
        """Have the loss looked at a step later."""
        self.losses.append(loss.detach())
        self.monitor.watch(self.state.step, self.losses[-1], batch.index)

    def backward(self, loss: torch.Tensor) -> None:
        self.state.backward(loss)

    def update(self, step: int) -> None:
        """The optimiser's step, its line of the log, and what the processes agreed on: to stop, or to save."""
        norm = self.state.update(self.logging)
        if self.logging:
            self._log_step(step, norm)
        self.unsaved = True
        decision = self.consensus.wait()
        if decision.bad:
            raise self.monitor.error(collect(self.monitor.files()), self.folder)
        self.log.advance(self.state.step, self.note)
        if decision.stop:
            self.stopped = decision
        elif decision.save:
            self._save()
            self.saved_at, self.unsaved = time.monotonic(), False

    def finish(self) -> None:
        """The last labelling, where it is due, and the last checkpoint, on the disk."""
        state = self.state
        if self.stopped is None and self.labelling_due(state.step):
            self.relabel()
        if self.unsaved:
            self._save()
        if not self.checkpoints.wait():
            raise UserError(
                f"step {state.step} could not be saved in {self.folder}: make room, then repeat the command to resume"
            )
        self.failures = dict(collect([*state.failures.items()]))
        self.log.status("finished" if self.stopped is None else "stopped")

    def report(self) -> Path:
        """Say how the run ended, and what comes next. Returns the run folder. Raises Stopped where a signal came."""
        folder, log, state, config = self.folder, self.log, self.state, self.config
        if self.failures and rank() == 0:
            write_json(folder / "failures.json", self.failures)
            log.say(f"{describe_failures(self.failures.items())}; others took their place: {folder / 'failures.json'}")
        if self.stopped is not None:
            log.say(f"stopped at step {state.step} of {state.total}, saved in {folder}: repeat the command to resume")
            raise Stopped(self.stopped.requeue, said=True)
        log.say(f"trained: {folder}")
        self.collapse.end()
        labelled = "labelling" in config.objectives
        if labelled or {config.data.train_split, config.data.test_split} <= set(state.splits):
            log.say(f"next: avssl {'clusters' if labelled else 'evaluate'} run={folder}")
        return folder

    def _save(self) -> None:
        self.consensus.start(bad=self.monitor.has_nonfinite())
        if self.consensus.wait().bad:
            raise self.monitor.error(collect(self.monitor.files()), self.folder)
        self.checkpoints.save(self.state.step, self.state.shared_state(), self.state.rank_state())

    def _log_step(self, step: int, norm: torch.Tensor | None) -> None:
        assert norm is not None  # measured in every step that is logged
        self.logged |= {"loss": torch.stack(self.losses).mean(), "gradient_norm": norm}
        values = averaged(self.logged | {"failed": float(len(self.state.failures))})
        values["failed"] *= world_size()
        speed = self.throughput.figures((step + 1) * self._clips_a_step())
        self.log.write(step, "train", {**values, "lr": self.rate, **speed})
        self.note = f"loss {values['loss']:.3f}"

    def _clips_a_step(self) -> int:
        return self.state.batch * self.config.optim.accumulate

    def _announce(self, before: int) -> None:
        """The first lines of a run. `before`: processes of the run so far, 0 where it begins."""
        state, log, batch = self.state, self.log, self.state.batch
        windows = state.videos["files"] < state.videos["number"]
        each = f"{batch} {'windows' if windows else 'videos'} a step"
        each += f" in {world_size()} processes" if world_size() > 1 else ""
        if state.step:
            log.say(f"resuming from step {state.step} of {state.total} in {self.folder}")
        else:
            videos = counted(state.videos["number"], state.videos["files"])
            log.say(f"{videos}, {many(state.total, 'step')} on {state.device}, {each}; writing to {self.folder}")
            if state.total < SETTLED:
                log.say(
                    f"warning: less than {SETTLED} steps teach it little: raise optim.epochs (now "
                    f"{self.config.optim.epochs}), or add videos"
                )
        if before not in (0, world_size()):
            log.say(
                f"{world_size()} processes instead of {before}: the {batch} videos of a step and their augmentation "
                f"are what they would have been; dropout and the order of sums are not"
            )
        if state.composition is not None:
            log.say(state.composition.describe(batch))

    def _say_if_unsolved(self, report: LabellingReport) -> None:
        tolerance = self.config.labelling.tolerance
        if max(report.errors) > tolerance:
            self.log.say(
                f"labelling at step {self.state.step} stopped {max(report.errors):.2g} from its cluster sizes, after "
                f"{max(report.iterations)} passes (labelling.tolerance={tolerance:g})"
            )


def averaged(figures: LoggedFigures) -> dict[str, float]:
    """Figures of the log, averaged over the processes."""
    values = torch.tensor(
        [v.item() if isinstance(v, torch.Tensor) else v for v in figures.values()], dtype=torch.float64
    )
    return dict(zip(figures, (sum_over_processes(values) / world_size()).tolist(), strict=True))
