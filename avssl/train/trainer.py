"""The trainer behind the training loop: the parts of a step, labelling passes, saving, signals and the log."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import torch

from ..clips.dataset import Batch, describe_failures
from ..clips.loader import load
from ..config.encoder_names import is_own, learns
from ..config.run_folder import INIT
from ..config.run_names import word_for
from ..core.atomic import write_json
from ..core.checkpoint_store import Checkpoints
from ..core.collectives import broadcast_from_rank0, rank, world_size
from ..core.device import decoding_workers, precision_warning
from ..core.errors import UserError
from ..core.plurals import counted, many
from ..core.verbosity import is_verbose
from ..models.start import licence_lines, short_lines
from ..objectives.objective import Interrupted, LoggedFigures
from ..objectives.step_clips import StepClips
from ..selflabel.labeller import LabellingReport
from ..selflabel.labelling_steps import first_step
from ..selflabel.sinkhorn import DivergedError
from .check_distillation import distillation_warnings
from .check_options import encoder_names
from .checkpoint_state import load_state
from .collapse import MONITOR, SETTLED, CollapseWatch, FeatureWatch
from .distributed import StepConsensus, StepDecision, collect
from .feature_monitor import FeatureMonitor, short_line
from .log import RunLog
from .monitor import LossMonitor, StepFigures, Throughput
from .run_state import RunState
from .signals import Stopped, StopSignals
from .weak_modality import weak_line


def batch_words(batch: int, rows: int, windows: bool, processes: int) -> str:
    """The batch of all processes in words: `16 videos per step`, or `16 clips per step, several of a video` if there
    are fewer videos than that."""
    one = "window" if windows else "video"
    words = f"{batch} {one}s per step" if batch <= rows else f"{batch} clips per step, several of a {one}"
    return f"{words} in {processes} processes" if processes > 1 else words


class Trainer:
    """Executes the steps of a run, in the order of `avssl.train.loop`, and saves the run in `folder`.

    No value is read back from the device between two steps, and no process waits for another: `LossMonitor` checks a
    loss, and `StepFigures` are written, one step late, and with `StepConsensus` the processes agree on what to do next
    while the next step computes.
    """

    def __init__(self, state: RunState, folder: Path, checkpoints: Checkpoints, signals: StopSignals):
        self.state, self.folder, self.checkpoints, self.config = state, folder, checkpoints, state.config
        self.signals = signals
        self.stopped: StepDecision | None = None
        """The decision that ended the run before its last step."""
        self.figures: StepFigures | None = None
        """The figures of the last logged step, until they are written."""
        self.unsaved = False
        self.saved_at = time.monotonic()
        self.note = ""

    def resume(self) -> None:
        """Load the newest checkpoint, or begin a new run; then open the log, and start the decoding workers."""
        state, newest = self.state, self.checkpoints.newest()
        saved = load_state(newest) if newest else {}
        state.begin(saved, self.folder)
        if newest:
            state.load(saved, newest, self.folder)
        at_end = state.step == state.total and not state.labelling(state.step)
        self.log = RunLog(self.folder, state.step, state.total, self.config.wandb, done=at_end)
        self.checkpoints.say = partial(self.log.say, result=True)
        self._announce(saved.get("processes", 0))
        pin, workers = state.device.type == "cuda", decoding_workers(self.config.workers, state.device)
        self._begin_monitor(workers, at_end)
        self.batches = load(state.dataset, state.requests(), workers, pin=pin)
        self.consensus = StepConsensus(self.signals)
        start = first_step(self.config.labelling, state.total)
        self.collapse = CollapseWatch(self.log, self.config.labelling, state.steps_per_epoch, start)
        self.monitor = LossMonitor(state.dataset.paths)
        self.throughput = Throughput(state.step * self._videos_per_step())
        self.unsaved = not newest

    @contextmanager
    def running(self) -> Iterator[None]:
        """A context around the loop. It ends the run when a signal interrupts a labelling pass, and logs errors."""
        log = self.log
        try:
            try:
                yield
            except Interrupted:  # the checkpoint from before the pass is still valid, but step 0 has none
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
            with suppress(RuntimeError):  # of a GPU that has failed
                self._write_figures()
            log.close()

    def steps(self) -> Iterator[int]:
        """Yield the remaining steps, until a signal arrives."""
        state = self.state
        while state.step < state.total and self.stopped is None:
            yield state.step

    def labelling_due(self, step: int) -> bool:
        """Whether an objective's pass over the data is due before training step `step`."""
        return self.state.labelling(step) is not None

    def relabel(self) -> None:
        """Run the pass that is due first. Raises Interrupted as soon as a signal arrives."""
        self._write_figures()
        began, state = time.monotonic(), self.state
        report = state.relabel(self.batches, self.consensus.stop, self.log.show)
        self.unsaved = True
        self.throughput.skip(time.monotonic() - began)
        kind = "labelling" if isinstance(report, LabellingReport) else "prototypes"
        self.log.write(state.step, kind, {**vars(report), "seconds": time.monotonic() - began})
        if isinstance(report, LabellingReport):
            self.collapse.check(state.step, report)
            self._say_if_unsolved(report)

    def monitor_due(self, step: int) -> bool:
        """Whether the features of held-out videos are measured before training step `step`."""
        return step in self.features.steps

    def measure_features(self) -> None:
        """Measure the features of held-out videos, and log them, with a warning if they have collapsed."""
        self._write_figures()
        began, state = time.monotonic(), self.state
        figures = self.features.measure()
        self.throughput.skip(time.monotonic() - began)
        self.log.write(state.step, MONITOR, figures)
        if figures and is_verbose():
            self.log.say(f"step {state.step}: {short_line(figures, state.model.widths)}")
        self.feature_watch.check(state.step, figures)

    def micro_batches(self) -> Iterator[Batch]:
        """Begin a step, and yield its `optim.accumulate` batches."""
        state, config = self.state, self.config
        due = time.monotonic() - self.saved_at > config.save_seconds
        save = rank() == 0 and due and state.step + 1 < state.total
        self.consensus.start(save=save, nonfinite=self.monitor.has_nonfinite(state.step))
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
        """Have the loss of a batch checked one step later."""
        self.losses.append(loss.detach())
        self.monitor.watch(self.state.step, self.losses[-1], batch.index)

    def backward(self, loss: torch.Tensor) -> None:
        self.state.backward(loss)

    def update(self, step: int) -> None:
        """Take the optimiser's step, log it, and stop or save if the processes agreed to."""
        norm = self.state.update(self.logging)
        self._write_figures()  # of the last step, now that the GPU has this one to do
        if self.logging:
            assert norm is not None  # `update` measures it in every step that is logged
            self.logged |= {"loss": torch.stack(self.losses).mean(), "gradient_norm": norm}
            self.figures = StepFigures(step, self.rate, self.logged, len(self.state.failures), self.state.device)
            if self.state.device.type != "cuda":  # nothing else is going on, so that waiting would gain nothing
                self._write_figures()
        self.unsaved = True
        decision = self.consensus.decide()
        if decision.nonfinite:
            raise self.monitor.error(collect(self.monitor.files()), self.folder)
        self.log.advance(self.state.step, self.note)
        if decision.stop:
            self.stopped = decision
        elif decision.save:
            self._save()
            self.saved_at, self.unsaved = time.monotonic(), False

    def finish(self) -> None:
        """Run the last labelling pass if it is due, and wait until the last checkpoint is on the disk."""
        state = self.state
        self._write_figures()
        while self.stopped is None and self.labelling_due(state.step):
            self.relabel()
        if self.stopped is None and self.monitor_due(state.step):
            self.measure_features()
        if self.unsaved:
            self._save()
        if not self.checkpoints.wait():
            raise UserError(
                f"step {state.step} could not be saved in {self.folder}: free some space, then repeat the command to "
                "resume"
            )
        self.failures = dict(collect([*state.failures.items()]))
        self.log.status("finished" if self.stopped is None else "stopped")

    def report(self) -> Path:
        """Print how the run ended and the command that comes next. Returns the run folder; raises Stopped after a
        signal."""
        folder, log, state, config = self.folder, self.log, self.state, self.config
        if self.failures and rank() == 0:
            write_json(folder / "failures.json", self.failures)
            log.say(f"{describe_failures(self.failures.items())}; others were used instead: {folder / 'failures.json'}")
        if self.stopped is not None:
            saved = (
                f", saved in {folder}: repeat the command to resume"
                if state.step
                else ": repeat the command to start again"
            )
            log.say(f"stopped at step {state.step} of {state.total}{saved}", result=True)
            raise Stopped(self.stopped.requeue, said=True, since=self.signals.since)
        log.say(f"trained: {folder}{self._outcome()}", result=True)
        self.collapse.end()
        last = self.collapse.last
        if last is not None and (line := weak_line(last.repeats, config.labelling.modality_weights)):
            log.say(line)
        labelled, located = config.has_clusters, "localisation" in config.objectives
        if labelled or located or {config.data.train_split, config.data.test_split} <= set(state.splits):
            own = [name for name in encoder_names(config).values() if is_own(name)]
            trust = f" trust=[{','.join(own)}]" if own else ""
            command = "clusters" if labelled else "locate" if located else "evaluate"
            then = f", then avssl locate {word_for(folder)}{trust}" if labelled and located else ""
            log.say(f"next: avssl {command} {word_for(folder)}{trust}{then}")
        return folder

    def _outcome(self) -> str:
        """The last loss and the last labelling pass, in a few words; empty if this process made no step."""
        changed = (
            "" if self.collapse.last is None else f"labels changed in the last pass {self.collapse.last.changed:.0%}"
        )
        said = ", ".join(filter(None, [self.note, changed]))
        return f" ({said})" if said else ""

    def _save(self) -> None:
        self._write_figures()  # a run that resumes from here has its lines
        self.consensus.start(nonfinite=self.monitor.has_nonfinite())
        if self.consensus.wait().nonfinite:
            raise self.monitor.error(collect(self.monitor.files()), self.folder)
        self.checkpoints.save(self.state.step, self.state.shared_state(), self.state.rank_state())

    def _write_figures(self) -> None:
        """Write the figures of the last logged step, if they are not yet written."""
        if self.figures is None:
            return
        figures, self.figures = self.figures, None
        values = figures.read()
        speed = self.throughput.figures((figures.step + 1) * self._videos_per_step())
        self.log.write(figures.step, "train", {**values, "lr": figures.rate, **speed})
        self.note = f"loss {values['loss']:.3f}"

    def _videos_per_step(self) -> int:
        return self.state.batch * self.config.optim.accumulate

    def _begin_monitor(self, workers: int, at_end: bool) -> None:
        """Decode the held-out videos. `at_end`: nothing else is left to do, so that the log keeps its last line."""
        self.features = FeatureMonitor(self.state, workers, self.log.show)
        self.feature_watch = FeatureWatch(self.log, self.config, self.state.batch, self.state.total)
        if at_end:
            measured = [line.get("step") == self.state.step for line in self.log.lines(MONITOR)]
            if int(broadcast_from_rank0(torch.tensor(any(measured), dtype=torch.int32))):
                self.features.steps.clear()
        if self.features.reason:
            self.log.say(f"the features are not measured during the run: {self.features.reason}")
        elif self.features.steps and is_verbose():
            self.log.say(self.features.describe())

    def _announce(self, processes_before: int) -> None:
        """Print the first lines of a run. `processes_before`: processes of the run that resumes; 0 for a new run."""
        state, log, batch = self.state, self.log, self.state.batch
        windows = state.videos["files"] < state.videos["number"]
        per_step = batch_words(batch, state.videos["number"], windows, world_size())
        if state.step:
            log.say(f"resuming from step {state.step} of {state.total} in {self.folder}")
        else:
            videos = counted(state.videos["number"], state.videos["files"])
            log.say(f"{videos}, {many(state.total, 'step')} on {state.device}, {per_step}; writing to {self.folder}")
            self._announce_start()
            if state.total < SETTLED:
                log.say(
                    f"warning: a model learns little in fewer than {SETTLED} steps: raise "
                    f"{self.config.optim.longer}, or add videos"
                )
            for line in distillation_warnings(self.config, batch):
                log.say(f"warning: {line}")
        if state.data.features is None:
            log.say(f"per step: {StepClips.of(self.config, state.plan).describe(self._videos_per_step())}")
        if processes_before not in (0, world_size()):
            log.say(
                f"{world_size()} processes instead of {processes_before}: the {batch} videos of each step and their "
                f"augmentation stay the same; dropout and the rounding of sums change"
            )
        if slow := precision_warning(state.model, state.device, self.config.precision):
            log.say(f"warning: {slow}")
        if not is_verbose():
            return
        if state.composition is not None:
            log.say(state.composition.describe(batch, state.data.features is not None))
        labelling, contrast = self.config.labelling, self.config.contrast
        if labelling.start or contrast.end < 1:
            ends, starts = round(contrast.end * state.total), first_step(labelling, state.total)
            log.say(f"contrast is trained until step {ends}, labelling from step {starts}")

    def _announce_start(self) -> None:
        """Print what the encoders started from, with licences, and write the full record to init.json."""
        state, log, frozen = self.state, self.log, self.config.model.freeze
        for line in state.data.lines:
            log.say(line)
        if state.data.features is not None:
            if state.init_of_features is not None and rank() == 0:
                write_json(self.folder / INIT, state.init_of_features)
            return
        full = [*licence_lines(state.started), *(s.line() for s in state.started)]
        for line in [*(full if is_verbose() else short_lines(state.started)), *state.unstarted]:
            log.say(line)
        if state.started and rank() == 0:
            write_json(self.folder / INIT, {"encoders": {s.modality: s.record() for s in state.started}})
        begun = {s.modality for s in state.started}
        random = [name for name in frozen if name not in begun and learns(getattr(self.config.model, name))]
        if random:
            which = ",".join(random)
            log.say(f"warning: model.freeze={which} freezes random weights: give starting weights with model.init")

    def _say_if_unsolved(self, report: LabellingReport) -> None:
        tolerance = self.config.labelling.tolerance
        if max(report.errors) > tolerance:
            self.log.say(
                f"the solver at step {self.state.step} did not reach labelling.tolerance={tolerance:g}: its error is "
                f"{max(report.errors):.2g} after {max(report.iterations)} iterations"
            )
