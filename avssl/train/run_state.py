"""The state of a run: how it is created and loaded, what a checkpoint keeps of it, and what a step does to it."""

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..clips.dataset import Batch, Request
from ..clips.loader import train_requests
from ..clips.transform import DeviceTransform
from ..config import TrainConfig
from ..contrast.view_plan import ViewPlan
from ..core.collectives import rank, rank_slice, world_size
from ..core.errors import UserError
from ..core.progress import Progress, silent
from ..models.build import modalities_of
from ..models.start import start
from ..objectives.build import make_plan
from ..objectives.objective import Context, LoggedFigures, Objective, PassReport
from ..objectives.teacher import Teacher
from ..videos.index_options import difference, fingerprint
from .check_options import check_clusters, check_keys
from .checkpoint_state import (
    check_numbers,
    check_queue,
    check_tables,
    checkpoint_errors,
    load_optimizer,
    load_part,
    load_parts,
    random_state,
    restore_random_state,
    tables_of,
)
from .new_model import compile_encoders, freeze_unused, new_model
from .optimizers import clip_gradients, make_optimizer, set_rate
from .schedule import learning_rate
from .sync_norm import synchronise
from .training_data import check_features, open_training_data
from .weighted_loss import WeightedLoss

# torch 2.14 renamed this switch, which sends batch-norm statistics at every step. Synchronised ones need no sending
_NAMES = inspect.signature(DistributedDataParallel).parameters
BUFFERS = "forward_sync_buffers" if "forward_sync_buffers" in _NAMES else "broadcast_buffers"


class RunState:
    """The data and the model of a configured run; after `begin`, also its optimiser, objectives and step.

    Raises:
        UserError: the options contradict each other or do not fit the data.
    """

    def __init__(self, config: TrainConfig, device: torch.device):
        self.config, self.device = config, device
        self.plan = make_plan(config)
        self.composition = self.plan.composition if isinstance(self.plan, ViewPlan) else self.plan
        self.data = open_training_data(config, self.plan, modalities_of(config))
        self.splits, self.dataset = self.data.splits, self.data.dataset
        self.videos = fingerprint(self.data.rows)
        check_clusters(config, self.videos["number"], self.videos["files"])
        check_keys(config, self.videos["number"])
        self.rows = rank_slice(len(self.dataset))
        self.failures: dict[str, str] = {}
        self.model = new_model(config, device)
        self.kept = self.model.frozen
        """The modalities whose encoders are frozen for the whole run."""
        self.transform = DeviceTransform(config.clip, device)

    def begin(self, state: dict[str, Any], folder: Path) -> None:
        """Create what depends on the run's initial number of processes, which its checkpoint `state` contains."""
        config, optim, processes = self.config, self.config.optim, world_size()
        # a run that resumes in more or fewer processes keeps its number of videos per step
        self.batch: int = state.get("batch", optim.batch * processes)
        self.initial_world_size: int = state.get("begun", processes)
        if self.batch < processes:
            raise UserError(
                f"{folder} has {self.batch} videos per step, too few for {processes} processes: "
                f"resume in at most {self.batch} processes"
            )
        self.step, self.steps_per_epoch = 0, len(self.dataset) / (self.batch * optim.accumulate)
        self.total = optim.steps_of(len(self.dataset), self.batch)
        # a resumed run has its weights, and does not need those it started from
        self.started, self.unstarted = start(self.model, config.model) if not state else ([], [])
        self.init_of_features = self.data.load_encoders(self.model, config) if not state else None
        if processes > 1:
            synchronise(self.model, self.device)
        self.optimizer = make_optimizer(self.model, optim)
        self.teacher = Teacher(self.model, config.teacher, self.total) if config.has_teacher else None
        context = Context(
            config, self.model, self.device, self.transform, len(self.dataset), self.total, self.batch,
            self.note_failures, self.teacher,
        )  # fmt: skip
        self.weighted = WeightedLoss(context, self.plan)
        self.objectives = self.weighted.objectives
        self.encoder_start = math.ceil(optim.encoder_start * self.total)
        if processes > 1:
            freeze_unused(config, self.model, self.weighted.maps)
        if config.compile:  # after the clip of one video above, and before DistributedDataParallel wraps the model
            compile_encoders(self.model, self.weighted.maps)
        self.move_encoders()
        if rank():  # each process has its own dropout; that of the first equals a run in one process
            torch.manual_seed(config.seed * 1_000_003 + rank())

    def move_encoders(self) -> None:
        """Freeze all encoders before the step `encoder_start`, and afterwards only those that stay frozen."""
        frozen = self.kept if self.step >= self.encoder_start else {*self.model.encoders}
        if hasattr(self, "loss") and frozen == self.model.frozen:
            return
        self.model.freeze(frozen)
        # DistributedDataParallel exchanges gradients of the parameters that are trainable at its creation
        self.loss: nn.Module = self.weighted
        if world_size() > 1:
            # if objectives begin late or end early, some heads, or the encoders, have no gradient
            unused = not all(map(self.weighted.trains_all, (0, self.total - 1)))
            options = parallel_options(unused, self.config.optim.accumulate)
            self.loss = DistributedDataParallel(self.weighted, **options)

    def note_failures(self, batch: Batch) -> None:
        """Record the videos that could not be decoded, by path, to report them at the end of the run."""
        self.failures.update({failure.path: failure.reason for failure in batch.failures})

    # what a step does

    def labelling(self, step: int) -> Objective | None:
        """The first objective whose pass over the data is due before training step `step`, or None.

        After its pass, another objective's may be due before the same step.
        """
        return next((objective for _, objective in self.objectives if objective.labelling_due(step)), None)

    def requests(self) -> Iterator[Sequence[Request]]:
        """Yield every batch that this process has yet to load, in order, including labelling passes. The order is fixed
        in advance, so that the decoding workers never wait."""
        accumulate, batch_rows = self.config.optim.accumulate, rank_slice(self.batch)
        done = [objective.labellings() for _, objective in self.objectives]
        for step in range(self.step, self.total + 1):
            for number, (_, objective) in enumerate(self.objectives):
                while objective.labelling_due(step, done[number]):
                    yield from objective.labelling_requests(done[number])
                    done[number] += 1
            if step < self.total:
                for number in range(step * accumulate, (step + 1) * accumulate):
                    yield train_requests(len(self.dataset), self.batch, self.config.seed, number, batch_rows)

    def relabel(
        self, batches: Iterator[Batch], stop: Callable[[], bool] = lambda: False, progress: Progress = silent
    ) -> PassReport:
        """Run the pass that is due first, see `Objective.relabel`."""
        objective = self.labelling(self.step)
        assert objective is not None
        return objective.relabel(batches, stop, progress)

    def begin_step(self) -> float:
        """Clear the gradients, and set and return the learning rate of the step."""
        optim = self.config.optim
        self.move_encoders()
        self.model.train()
        if not self.weighted.encoders_learn(
            self.step
        ):  # their features are then those of labelling passes and evaluation
            for encoder in self.model.encoders.values():
                encoder.eval()
        if self.teacher is not None:
            self.teacher.train()
        processes = self.initial_world_size if optim.scale_lr else 1
        rate = learning_rate(optim, self.step, self.steps_per_epoch, self.total, processes)
        set_rate(self.optimizer, rate)
        self.optimizer.zero_grad(set_to_none=True)
        return rate

    def forward(self, batch: Batch, detailed: bool, last: bool = True) -> tuple[torch.Tensor, LoggedFigures]:
        """The loss of a batch, and figures for the log; with `detailed`, also the expensive ones. `last` marks the last
        batch of the step."""
        self.note_failures(batch)
        if world_size() > 1:  # processes exchange gradients once per step, with its last batch
            self.loss.require_backward_grad_sync = last  # type: ignore[assignment]
        self.weighted.step = self.step
        return self.loss(batch, detailed)

    def backward(self, loss: torch.Tensor) -> None:
        (loss / self.config.optim.accumulate).backward()

    def update(self, measured: bool) -> torch.Tensor | None:
        """Take the optimiser's step, then update the objectives. Returns the norm of all gradients if it is `measured`
        or clipped, else None."""
        max_norm = self.config.optim.max_grad_norm
        norm = clip_gradients(self.model, max_norm) if max_norm or measured else None
        self.optimizer.step()
        if self.teacher is not None:
            self.teacher.update(self.step)
        for _, objective in self.objectives:
            objective.after_step(self.step)
        self.step += 1
        return norm

    # what a checkpoint keeps

    def shared_state(self) -> dict[str, Any]:
        """The part of a checkpoint that is the same in all processes."""
        state = {
            "step": self.step, "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
            "videos": self.videos, "batch": self.batch, "processes": world_size(), "begun": self.initial_world_size,
        }  # fmt: skip
        state["features"] = self.data.features
        if self.teacher is not None:
            state["teacher"] = self.teacher.state_dict()
        for _, objective in self.objectives:
            added = objective.shared_state()
            assert not added.keys() & state.keys(), f"{objective.name}: {[*added.keys() & state.keys()]} is taken"
            state |= added
        return state

    def rank_state(self) -> dict[str, Any]:
        """The part of a checkpoint that belongs to this process."""
        tables: dict[str, torch.Tensor] = {}
        for _, objective in self.objectives:
            tables |= objective.rank_state()
        rows = {"rows": [self.rows.start, self.rows.stop], "tables": tables}
        return rows | {"failures": self.failures} | random_state(self.device)

    def load(self, state: dict[str, Any], newest: Path, folder: Path) -> None:
        """Resume from the checkpoint `newest`, of which `state` is the shared part."""
        if changed := difference(state["videos"], self.videos):
            raise UserError(
                f"the index {self.config.data.index} has changed since {folder} began ({changed}): start a new run "
                "with "
                f"another out=…, or remove {folder}"
            )
        check_features(state.get("features"), self.data.features, self.config)
        with checkpoint_errors(newest):
            self.model.load_state_dict(state["model"])
            check_numbers(self.model, "the model")
            load_optimizer(self.optimizer, state["optimizer"])
            if self.teacher is not None:
                self.teacher.load_state_dict(state["teacher"])
                check_numbers(self.teacher.model, "the teacher")
            check_queue(state, len(self.dataset), self.model.widths)
            for _, objective in self.objectives:
                objective.load_shared_state(state)
            self._load_rows(state, newest)
        self.move_encoders()

    def _load_rows(self, state: dict[str, Any], newest: Path) -> None:
        self.step = state["step"]
        if state["processes"] == world_size():
            part = load_part(newest, rank())
            self._load_tables(part["tables"])
            self.failures.update(part["failures"])
            restore_random_state(part, self.device)
            return
        self._load_tables(tables_of(load_parts(newest, state["processes"]), self.rows))
        torch.manual_seed(((self.config.seed * 1_000_003 + rank()) * 1_000_003 + self.step) % 2**63)
        if rank() == 0:
            for part in load_parts(newest, state["processes"]):
                self.failures.update(part["failures"])

    def _load_tables(self, tables: dict[str, torch.Tensor]) -> None:
        check_tables(tables, self.config.labelling.clusters, self.model.widths)
        for _, objective in self.objectives:
            objective.load_rank_state(tables)


def parallel_options(unused: bool, accumulate: int) -> dict[str, Any]:
    """The options of DistributedDataParallel.

    Args:
        unused: whether a step may leave trainable parameters without a gradient.
        accumulate: batches per step.
    """
    return {
        BUFFERS: False,
        "find_unused_parameters": unused,
        # gradients are exchanged where they are: no second copy of them in memory, and none to make
        "gradient_as_bucket_view": True,
        # the same parameters in every step need no bookkeeping; a step whose first batches exchange nothing has two
        # kinds of backward pass
        "static_graph": not unused and accumulate == 1,
    }
