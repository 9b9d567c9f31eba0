"""The state of a training: all that a checkpoint keeps, and how it is made and brought back."""

import inspect
import math
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..clips.dataset import Batch, ClipDataset
from ..clips.transform import DeviceTransform
from ..config import TrainConfig
from ..core.collectives import rank, rank_slice, world_size
from ..core.errors import UserError
from ..models import TwoStream
from ..objectives.contrast import BothTask, GdtTask
from ..objectives.labelling import SelaviTask
from ..objectives.objective import Figures, Task, build_model, make_composition, modalities_of
from ..videos.index import read_index, splits, training_split
from ..videos.index_options import difference, fingerprint
from .check import check_clusters
from .optimizers import make_optimizer
from .state import (
    check_queue,
    check_tables,
    checkpoint_errors,
    load_optimizer,
    load_own,
    load_part,
    random_state,
    restore_random_state,
    tables_of,
)
from .sync_norm import synchronise

TASKS: dict[str, type[Task]] = {"selavi": SelaviTask, "gdt": GdtTask, "both": BothTask}

# whether batch-norm statistics are sent round at every step, which synchronised ones need not: renamed in torch 2.14
_NAMES = inspect.signature(DistributedDataParallel).parameters
BUFFERS = "forward_sync_buffers" if "forward_sync_buffers" in _NAMES else "broadcast_buffers"


def new_model(config: TrainConfig, device: torch.device) -> TwoStream:
    """The model as a training begins with it, laid out in memory as it is fast."""
    torch.manual_seed(config.seed)
    model = build_model(config).to(device)
    if model.video is not None:
        model.video.to(memory_format=torch.channels_last_3d)  # a fifth faster on CPUs too
    return model


class Objective(nn.Module):
    """The loss of a batch as a module, for DistributedDataParallel to hook into."""

    def __init__(self, model: nn.Module, task: Task):
        super().__init__()
        self.model, self.task = model, task

    def forward(self, batch: Batch, detailed: bool) -> tuple[torch.Tensor, Figures]:
        return self.task.loss(batch, detailed)


class Training:
    """The data and the model of a configured training, then, after `begin`, all that it goes through.

    Raises UserError for options or data that do not fit.
    """

    def __init__(self, config: TrainConfig, device: torch.device):
        self.config, self.device = config, device
        self.composition = make_composition(config)
        self.splits = splits(config.data.index)
        rows = read_index(config.data.index, training_split(config.data, self.splits))
        self.videos = fingerprint(rows)
        check_clusters(config, self.videos["number"], self.videos["files"])
        self.dataset = ClipDataset(
            rows, config.data.root, config.clip, config.seed, self.composition, modalities_of(config)
        )
        self.rows = rank_slice(len(self.dataset))
        self.model = new_model(config, device)
        DeviceTransform(config.clip, device)  # says what is wrong with the clips

    def begin(self, state: dict[str, Any], folder: Path) -> None:
        """Make what depends on how many processes the training began in, as its checkpoint `state` says."""
        config, optim, processes = self.config, self.config.optim, world_size()
        # one that goes on in more processes or fewer takes as many videos a step as it began with
        self.batch: int = state.get("batch", optim.batch * processes)
        self.begun: int = state.get("begun", processes)
        if self.batch < processes:
            raise UserError(
                f"{processes} processes for the {self.batch} videos of a step in {folder}: "
                f"go on in at most {self.batch}"
            )
        self.step, self.steps_per_epoch = 0, len(self.dataset) / (self.batch * optim.accumulate)
        self.total = math.ceil(optim.epochs * self.steps_per_epoch)
        if processes > 1:
            synchronise(self.model, self.device)
        if config.compile:
            for encoder in self.model.encoders.values():
                encoder.compile()
        self.optimizer = make_optimizer(self.model, optim)
        self.task = TASKS[config.task](
            self.model, config, len(self.dataset), self.total, self.device, self.batch
        )  # fmt: skip
        self.objective: nn.Module = Objective(self.model, self.task)
        if processes > 1:
            self.objective = DistributedDataParallel(self.objective, **{BUFFERS: False})  # type: ignore[arg-type]
        if rank():  # dropout of its own; that of the first process is what it would be alone
            torch.manual_seed(config.seed * 1_000_003 + rank())

    def shared(self) -> dict[str, Any]:
        """What a checkpoint keeps that is the same in all processes."""
        return {
            "step": self.step, "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
            **self.task.state_dict(),
            "videos": self.videos, "batch": self.batch, "processes": world_size(), "begun": self.begun,
        }  # fmt: skip

    def own(self) -> dict[str, Any]:
        """What it keeps of this process."""
        rows = {"rows": [self.rows.start, self.rows.stop], "tables": self.task.row_state()}
        return rows | {"failures": self.task.failures} | random_state(self.device)

    def load(self, state: dict[str, Any], newest: Path, folder: Path) -> None:
        """Go on from the checkpoint `newest`, whose shared part is `state`."""
        if changed := difference(state["videos"], self.videos):
            raise UserError(
                f"the index {self.config.data.index} has changed since {folder} began ({changed}): start anew with "
                f"out=…, or remove {folder}"
            )
        with checkpoint_errors(newest):
            self.model.load_state_dict(state["model"])
            load_optimizer(self.optimizer, state["optimizer"])
            check_queue(state, len(self.dataset), self._widths())
            self.task.load_state_dict(state)
            self._load_rows(state, newest)

    def _load_rows(self, state: dict[str, Any], newest: Path) -> None:
        self.step = state["step"]
        if state["processes"] == world_size():
            own = load_part(newest, rank())
            self._load_tables(own["tables"])
            self.task.failures.update(own["failures"])
            restore_random_state(own, self.device)
            return
        self._load_tables(tables_of(load_own(newest, state["processes"]), self.rows))
        torch.manual_seed(((self.config.seed * 1_000_003 + rank()) * 1_000_003 + self.step) % 2**63)
        if rank() == 0:
            for part in load_own(newest, state["processes"]):
                self.task.failures.update(part["failures"])

    def _load_tables(self, tables: dict[str, torch.Tensor]) -> None:
        check_tables(tables, self.config.labelling.clusters, self._widths())
        self.task.load_row_state(tables)

    def _widths(self) -> dict[str, int]:
        return {name: int(encoder.dim) for name, encoder in self.model.encoders.items()}  # type: ignore[arg-type]
