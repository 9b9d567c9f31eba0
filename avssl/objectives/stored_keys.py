"""The keys of contrast that outlive a batch, in a run: MoCo's queue and NPID's bank."""

from typing import Any

import torch
import torch.nn.functional as F

from ..contrast.bank import (
    KeyBank,
    bank_terms,
    drawn_videos,
    nce_normaliser,
    nce_terms,
    sampled_scores,
    sampled_terms,
)
from ..contrast.composition import Composition
from ..contrast.loss import normalise
from ..contrast.queue import KeyQueue, queue_terms
from ..contrast.statistics import measures, measures_of_keys
from ..core.collectives import batch_sizes, gather, rank_slice, world_size
from ..core.cores import check_memory
from ..models import MultiStream
from ..models.multi_stream import ByModality
from .objective import Context, EncodedBatch, LoggedFigures

LONGEST_QUEUE = 65_536
"""Most keys of a queue whose size is not given (MoCo)."""


def queue_size(given: int | None, videos: int, clips: int) -> int:
    """The keys of each modality in the queue: those of half an epoch, at most `LONGEST_QUEUE`, unless given."""
    return max(1, min(LONGEST_QUEUE, videos * clips // 2)) if given is None else given


class StoredKeys:
    """What the queue and the bank have in common.

    Args:
        context: the run.
        composition: decides which pairs are compared.
    """

    def __init__(self, context: Context, composition: Composition):
        self.context, self.composition, self.contrast = context, composition, context.config.contrast
        self.names = composition.modalities
        self.seen: list[tuple[torch.Tensor, torch.Tensor]] = []
        """Unit vectors [modalities, B, V, D] and videos int64 [B] of a step's batches, which enter after the step,
        because its backward pass needs the keys as they are."""

    def loss(self, batch: EncodedBatch, queries: torch.Tensor, detailed: bool) -> tuple[torch.Tensor, LoggedFigures]:
        """The loss of a batch, see `Objective.loss`, and its `queries`."""
        raise NotImplementedError

    def enter(self, seen: torch.Tensor, videos: torch.Tensor, number: int) -> None:
        """Store unit vectors [modalities, B, V, D] of all processes' videos int64 [B], of the run's batch `number`."""
        raise NotImplementedError

    def after_step(self, step: int) -> None:
        """Store what the step saw, in the order of its batches and of the processes."""
        for number, (seen, videos) in enumerate(self.seen, step * self.context.config.optim.accumulate):
            sizes = batch_sizes(self.context.batch, len(videos))
            by_video = gather(seen.transpose(0, 1).contiguous(), sizes)
            self.enter(by_video.transpose(0, 1), gather(videos, sizes), number)
        self.seen.clear()

    def queries(self, batch: EncodedBatch) -> torch.Tensor:
        """The unit queries, float [modalities, B, V + S, D]: the main clips of a video, and its small views."""
        model, videos = self.context.model, len(batch.index)
        if not batch.small:
            return unit_embeddings(model, batch.features, self.names, videos)
        small = batch.small
        # a modality's clips of all sizes go through its projection together (SwAV)
        joined = {
            name: torch.cat([x.unflatten(0, (videos, -1)) for x in (batch.features[name], small[name])], 1).flatten(
                0, 1
            )
            for name in self.names
        }
        return unit_embeddings(model, joined, self.names, videos)

    def mean(self, terms: torch.Tensor) -> torch.Tensor:
        """The mean of the terms [modalities, B, Q], scaled so that the mean over processes is the global mean."""
        own = terms.shape[1]
        return terms.mean() * (own * world_size() / sum(batch_sizes(self.context.batch, own)))

    def shared_state(self) -> dict[str, Any]:
        return {}

    def load_shared_state(self, state: dict[str, Any]) -> None:
        pass

    def rank_state(self) -> ByModality:
        return {}

    def load_rank_state(self, tables: ByModality) -> None:
        pass


class QueuedKeys(StoredKeys):
    """MoCo (He et al. 2020): keys are the teacher's embeddings; those of past batches are negatives."""

    def __init__(self, context: Context, composition: Composition):
        super().__init__(context, composition)
        size = queue_size(self.contrast.queue, context.videos, len(composition.plain))
        self.queue = KeyQueue(size, len(self.names), self.contrast.projection, context.device)

    def loss(self, batch: EncodedBatch, queries: torch.Tensor, detailed: bool) -> tuple[torch.Tensor, LoggedFigures]:
        contrast, teacher = self.contrast, self.context.teacher
        assert teacher is not None  # `TrainConfig.has_teacher` for contrast.keys=queue
        videos = batch.device_index
        with torch.no_grad():
            keys = unit_embeddings(teacher.model, batch.teacher, self.names, len(videos))
        with torch.autocast(queries.device.type, enabled=False):
            terms = queue_terms(
                queries, keys, videos, self.queue, self.composition, contrast.temperature, contrast.block
            )
        self.seen.append((keys, videos))
        loss = self.mean(terms)
        if not detailed:
            return loss, {"loss": loss}
        main = queries.detach()[:, :, : keys.shape[2]].flatten(0, 2)
        return loss, {"loss": loss, **measures(main, videos, self.composition)}

    def enter(self, seen: torch.Tensor, videos: torch.Tensor, number: int) -> None:
        self.queue.add(seen, videos)

    def shared_state(self) -> dict[str, Any]:
        return {"contrast_queue": self.queue.state_dict()}

    def load_shared_state(self, state: dict[str, Any]) -> None:
        self.queue.load_state_dict(state["contrast_queue"], self.context.videos)


class BankedKeys(StoredKeys):
    """NPID (Wu et al. 2018): the keys are an average of the past embeddings of each video."""

    def __init__(self, context: Context, composition: Composition):
        super().__init__(context, composition)
        config, rows, width = context.config, rank_slice(context.videos), self.contrast.projection
        check_memory("contrast.keys=bank", 4.0 * len(rows) * width * len(self.names), "the keys of all videos")
        self.bank = KeyBank(rows, len(self.names), width, config.seed, context.device)
        self.tables = [f"contrast_bank_{name}" for name in self.names]
        self.normaliser: torch.Tensor | None = None
        """Z of the released NCE loss, from the first batch."""

    def loss(self, batch: EncodedBatch, queries: torch.Tensor, detailed: bool) -> tuple[torch.Tensor, LoggedFigures]:
        videos = batch.device_index
        with torch.autocast(queries.device.type, enabled=False):
            loss = self.mean(self._terms(queries, videos, batch.step))
        main = queries.detach()[:, :, : len(self.composition.plain)]
        logged: LoggedFigures = {"loss": loss}
        if detailed:
            logged |= self._figures(main, videos)
        self.seen.append((main, videos))
        return loss, logged

    def _terms(self, queries: torch.Tensor, videos: torch.Tensor, step: int) -> torch.Tensor:
        contrast, composition, bank = self.contrast, self.composition, self.bank
        every, sizes = self.context.videos, batch_sizes(self.context.batch, len(videos))
        if not contrast.negatives:
            return bank_terms(
                queries, videos, bank, composition, contrast.temperature, sizes=sizes, block=contrast.block
            )
        number = step * self.context.config.optim.accumulate + len(self.seen)
        drawn = drawn_videos(contrast.negatives, every, self.context.config.seed, number, queries.device)
        near, far = sampled_scores(queries, videos, bank, drawn, composition, contrast.temperature, sizes)
        if "nce" not in contrast.released:
            return sampled_terms(near, far, videos, drawn, composition.denominator)
        if self.normaliser is None:
            self.normaliser = nce_normaliser(near, far, every, sum(sizes))
        return nce_terms(near, far, self.normaliser, every)

    @torch.no_grad()
    def _figures(self, queries: torch.Tensor, videos: torch.Tensor) -> LoggedFigures:
        """Figures of the comparison with the keys of the batch's videos."""
        numbers = gather(videos, batch_sizes(self.context.batch, len(videos)))
        return {**measures_of_keys(queries, videos, self.bank.fetch(numbers), numbers, self.composition)}

    def enter(self, seen: torch.Tensor, videos: torch.Tensor, number: int) -> None:
        # what is left of a drawn key would be all that tells videos apart for epochs, and the encoders would learn it
        first = number * self.context.batch < self.context.videos
        self.bank.update(videos, F.normalize(seen.mean(2), dim=-1), first)

    def shared_state(self) -> dict[str, Any]:
        return {} if self.normaliser is None else {"contrast_normaliser": self.normaliser}

    def load_shared_state(self, state: dict[str, Any]) -> None:
        """Load `shared_state`. Raises ValueError for a normaliser of other modalities."""
        if "nce" in self.contrast.released and "contrast_normaliser" in state:
            normaliser = state["contrast_normaliser"]
            if normaliser.shape != (len(self.names), 1, 1, 1):
                raise ValueError(f"the normaliser has the shape {list(normaliser.shape)}")
            self.normaliser = normaliser.float().to(self.context.device)

    def rank_state(self) -> ByModality:
        return self.bank.row_state(self.tables)

    def load_rank_state(self, tables: ByModality) -> None:
        self.bank.load_row_state(tables, self.tables)


KEYS: dict[str, type[StoredKeys]] = {"queue": QueuedKeys, "bank": BankedKeys}
"""By the value of `contrast.keys`; `batch` stores none."""


def unit_embeddings(model: MultiStream, features: ByModality, names: tuple[str, ...], videos: int) -> torch.Tensor:
    """Features [B · V, D] by modality → unit embeddings, float [modalities, B, V, P], in float32 or wider."""
    by_modality = []
    for name in names:
        unit = normalise(model.embed(features[name], name))
        by_modality.append(unit.view(videos, -1, unit.shape[1]))
    return torch.stack(by_modality)
