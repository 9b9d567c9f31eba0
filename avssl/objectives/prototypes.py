"""The prototypes of a run's contrast (PCL): when they are found, from what, and what a checkpoint keeps of them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from ..clips.dataset import Batch, Pass, Request
from ..clips.loader import pass_requests
from ..config import ContrastConfig
from ..contrast.composition import Composition
from ..contrast.keys import are_unit
from ..contrast.loss import normalise
from ..contrast.prototypes import NO_PROTOTYPE, Clustering, PrototypeReport, Prototypes, find_prototypes, prototype_loss
from ..core.collectives import rank_slice, world_size
from ..core.progress import Progress
from ..core.sharded_table import ShardedTable
from ..models import MultiStream
from ..models.multi_stream import ByModality
from ..selflabel.sinkhorn import DivergedError
from .objective import Context
from .passes import pass_batch, run_pass


def prototype_steps(contrast: ContrastConfig, steps: int, steps_per_epoch: float) -> list[int]:
    """The training steps before which prototypes are found: the first is at `contrast.prototype_start`, the others
    follow once an epoch, as long as contrast is trained.

    Args:
        contrast: the options.
        steps: training steps of the run.
        steps_per_epoch: training steps in which every video is used once.
    """
    if not contrast.prototypes:
        return []
    first, end = round(contrast.prototype_start * steps), min(steps, round(contrast.end * steps))
    count = int((end - first) / steps_per_epoch) + 1
    found = {first + round(number * steps_per_epoch) for number in range(count)}
    return sorted(step for step in found if step < end)


LEAST_CONCENTRATION = 1e-9
"""The smallest φ that a checkpoint may have; `concentration` gives a thousandth of the temperature or more."""


class PrototypePasses:
    """Prototypes of each modality's embeddings at several numbers of clusters, and the loss of a batch against them.

    With `contrast.keys=queue`, embeddings are the teacher's, else the model's, in evaluation mode. A clip predicts its
    video's prototype in the modalities that it is compared with: with `contrast.compare=cross_modal` the other
    modality, with `within_modal` its own, with `all` both.

    Args:
        context: of the run.
        composition: decides which clips predict: its `plain` ones, because a reversed clip may be meant to differ.
    """

    def __init__(self, context: Context, composition: Composition):
        self.context, self.contrast, self.composition = context, context.config.contrast, composition
        self.clusters = self.contrast.prototypes
        self.modalities = [*composition.modalities]
        per_epoch = context.videos / (context.batch * context.config.optim.accumulate)
        self.steps = prototype_steps(self.contrast, context.steps, per_epoch)
        self.rows = rank_slice(context.videos)
        self.done = 0
        self.found: dict[str, Prototypes] = {}
        """By modality and number of clusters, see `key_of`."""
        columns = len(self.modalities) * len(self.clusters)
        self.numbers = torch.full((len(self.rows), columns), NO_PROTOTYPE, dtype=torch.int32)
        """The prototypes of this process's videos [n, columns], a column for each of `found`, in its order."""
        self.on_device: ShardedTable | None = None

    def due(self, step: int, done: int | None = None) -> bool:
        """Whether prototypes are to be found before training step `step`, after `done` times (default: so far)."""
        done = self.done if done is None else done
        return done < len(self.steps) and step >= self.steps[done]

    def requests(self, done: int) -> Iterator[Sequence[Request]]:
        """The batches of the pass."""
        return pass_requests(self.rows, pass_batch(self.context), Pass.LABEL, done)

    def find(self, batches: Iterator[Batch], stop: Callable[[], bool], progress: Progress) -> PrototypeReport:
        """Find new prototypes, from a pass over the data. Raises Interrupted if `stop` returned True."""
        title = f"prototypes {self.done + 1} of {len(self.steps)}, videos"
        model = self._model()
        widths = dict.fromkeys(self.modalities, self.contrast.projection)
        with torch.no_grad(), evaluation(model):
            encode = partial(self._embeddings, model)
            index, z = run_pass(self.context, self.rows, widths, encode, batches, stop, partial(progress, title))
        report = PrototypeReport([*self.clusters], {}, {}, {})
        found: dict[str, Prototypes] = {}
        numbers = torch.full_like(self.numbers, NO_PROTOTYPE)
        total = len(self.modalities) * len(self.clusters)
        for modality in self.modalities:
            rows = z[modality].to(self.context.device)
            report.inertia[modality], report.largest[modality], report.empty[modality] = [], [], []
            for clusters in self.clusters:
                progress("prototypes, clusterings", len(found), total)
                result = self._cluster(rows, clusters, len(found))
                numbers[index - self.rows.start, len(found)] = result.numbers.int().cpu()
                found[key_of(modality, clusters)] = result.prototypes
                report.inertia[modality].append(result.inertia)
                report.largest[modality].append(float(result.sizes.max() / result.sizes.sum()))
                report.empty[modality].append(int((result.sizes == 0).sum()))
        progress("prototypes, clusterings", total, total)
        self.found, self.numbers, self.on_device = found, numbers, None
        self.done += 1
        return report

    def _model(self) -> MultiStream:
        """The model whose embeddings are clustered."""
        teacher = self.context.teacher if self.contrast.keys == "queue" else None  # else its projections learn nothing
        return self.context.model if teacher is None else teacher.model

    def _cluster(self, z: torch.Tensor, clusters: int, column: int) -> Clustering:
        seed = (self.context.config.seed * 1_000_003 + self.done) * 1_009 + column
        try:
            return find_prototypes(z, clusters, seed, self.contrast.temperature)
        except ValueError as error:
            raise DivergedError(f"{error}: the model has diverged") from None

    def _embeddings(self, model: MultiStream, batch: Batch) -> ByModality:
        """Embeddings of unit length, float32 [B, P] by modality, of a batch of the pass."""
        features = self.context.encode(batch, self.modalities, model)
        with torch.autocast(self.context.device.type, enabled=False):
            return {name: normalise(model.embed(x.float(), name)) for name, x in features.items()}

    def loss(self, z: ByModality, index: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
        """The mean over clusterings of the loss of a batch's embeddings, a scalar, once prototypes are found.

        Its mean over the processes is the loss of the global batch.

        Args:
            z: embeddings of all main clips, of unit length, float [B · V, P] by modality, video by video.
            index: the videos, int64 [B], on the device of the embeddings.
            sizes: the number of videos of each process.
        """
        if self.on_device is None:
            self.on_device = ShardedTable(self.numbers, self.rows, self.context.device)
        numbers = dict(zip(self.found, self.on_device(index, sizes).long().T, strict=True))
        losses = []
        for modality, of_modality in z.items():
            plain = of_modality[:: self.composition.turns]
            clips = len(plain) // len(index)
            for source in self._predicted_by(modality):
                for clusters in self.clusters:
                    key = key_of(source, clusters)
                    own = numbers[key][:, None].expand(-1, clips).flatten()
                    losses.append(prototype_loss(plain, self.found[key], own))
        return torch.stack(losses).mean() * (len(index) * world_size() / sum(sizes))

    def _predicted_by(self, modality: str) -> list[str]:
        """The modalities whose prototypes an embedding of a modality predicts."""
        if self.contrast.compare == "all":
            return self.modalities
        cross = self.contrast.compare == "cross_modal"
        return [name for name in self.modalities if (name != modality) == cross]

    def shared_state(self) -> dict[str, Any]:
        """The part of a checkpoint that is the same in all processes."""
        tensors = {name: x._asdict() for name, x in self.found.items()}
        return {"prototypes": {"done": self.done, "found": tensors}}

    def load_shared_state(self, state: dict[str, Any]) -> None:
        """Load `shared_state`. Raises ValueError for prototypes of another run."""
        saved, device = state["prototypes"], self.context.device
        found = {name: Prototypes(**x) for name, x in saved["found"].items()}
        expected = [key_of(modality, clusters) for modality in self.modalities for clusters in self.clusters]
        done, width = saved["done"], self.contrast.projection
        if type(done) is not int or not 0 <= done <= len(self.steps) or [*found] != (expected if done else []):
            raise ValueError("the prototypes belong to other options")
        for name, (directions, phi) in found.items():
            clusters = int(name.rpartition("_")[2])
            if directions.ndim != 2 or directions.shape[1] != width or not 0 < len(directions) <= clusters:
                raise ValueError(f"the prototypes {name} have the shape {list(directions.shape)}")
            if not are_unit(directions):
                raise ValueError(f"the prototypes {name} are no unit vectors")
            is_number = phi.is_floating_point() and bool((phi >= LEAST_CONCENTRATION).all() and phi.isfinite().all())
            if phi.shape != directions.shape[:1] or not is_number:
                raise ValueError(f"the concentrations of the prototypes {name} are not positive numbers")
        self.done = done
        self.found = {name: Prototypes(*(y.float().to(device) for y in x)) for name, x in found.items()}

    def rank_state(self) -> dict[str, torch.Tensor]:
        """The part of a checkpoint that belongs to this process's videos."""
        return {"prototypes": self.numbers}

    def load_rank_state(self, tables: dict[str, torch.Tensor]) -> None:
        """Load `rank_state`, after `load_shared_state`. Raises ValueError for numbers without a prototype."""
        table = tables["prototypes"]
        if table.shape != self.numbers.shape or table.is_floating_point() or table.dtype is torch.bool:
            raise ValueError(f"the prototypes of the videos are {table.dtype} of the shape {list(table.shape)}")
        for column, prototypes in zip(table.T, self.found.values(), strict=False):
            if len(column) and not (column.min() >= NO_PROTOTYPE and column.max() < len(prototypes.directions)):
                raise ValueError("a video has a prototype that does not exist")
        self.numbers, self.on_device = table.int(), None


def key_of(modality: str, clusters: int) -> str:
    """The name of the prototypes of a modality at a number of clusters."""
    return f"{modality}_{clusters}"


@contextmanager
def evaluation(model: nn.Module) -> Iterator[None]:
    """A context in which a model is in evaluation mode; afterwards each of its parts is as it was."""
    training = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for part, mode in training:
            part.training = mode
