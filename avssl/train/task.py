"""What is learnt: which clips a task wants when, how it labels, and its loss. One class an objective, one loop."""

from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional as F

from ..config import TrainConfig
from ..contrast.composition import Composition
from ..contrast.gather import global_contrastive_loss
from ..contrast.measures import statistics
from ..data.clips import Batch, Failure, Pass, Request
from ..data.loader import pass_requests, train_requests
from ..data.transform import DeviceTransform
from ..models import TwoStream, build_two_stream
from ..selflabel.alignment import align
from ..selflabel.labeller import UNLABELLED, Labeller, Solved
from ..selflabel.sinkhorn import joint_evidence
from .device import autocast

LABEL_BATCH = 64

Figures = dict[str, torch.Tensor | float]
"""What a step tells the log."""


def build_model(config: TrainConfig) -> TwoStream:
    """The encoders with what `config.task` puts on them."""
    labelling, contrast = config.labelling, config.contrast
    clusters = 0 if config.task == "gdt" else labelling.clusters
    projection = 0 if config.task == "selavi" else contrast.projection
    modalities = contrast.modalities if config.task == "gdt" else ["video", "audio"]
    return build_two_stream(config.model, clusters, labelling.heads, labelling.sharing, projection, modalities)


def make_composition(config: TrainConfig) -> Composition | None:
    """The composition of the training clips; None for a task without contrast. UserError for one that cannot be."""
    return None if config.task == "selavi" else Composition.from_config(config.contrast)


class Task:
    """A task without labels, which wants batch after batch: `videos` of them in the data, `total` training steps."""

    def __init__(self, model: TwoStream, config: TrainConfig, videos: int, total: int, device: torch.device):
        self.model, self.config, self.videos, self.total, self.device = model, config, videos, total, device
        self.transform = DeviceTransform(config.clip, device)
        self.failures: dict[str, str] = {}

    def requests(self, start: int) -> Iterator[list[Request]]:
        """Every batch that the run will take from step `start` on, in order; known in advance, so that the decoding
        workers never wait."""
        for step in range(start, self.total):
            yield train_requests(self.videos, self.config.optim.batch, self.config.seed, step)

    def due(self, step: int) -> bool:
        """Is a labelling due before training step `step`?"""
        return False

    def label(self, batches: Iterator[Batch]) -> Solved:
        """New labels for all videos, from one pass over them."""
        raise NotImplementedError

    def loss(self, batch: Batch, detailed: bool) -> tuple[torch.Tensor, Figures]:
        """The loss of a batch, and figures for the log: with `detailed` the dear ones too."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        return {"failures": self.failures}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.failures = state["failures"]

    def _note(self, failures: list[Failure]) -> None:
        self.failures.update({f.path: f.reason for f in failures})


class SelaviTask(Task):
    """SeLaVi (Asano et al. 2020): both modalities predict the label that their joint evidence was given."""

    def __init__(self, model: TwoStream, config: TrainConfig, videos: int, total: int, device: torch.device):
        super().__init__(model, config, videos, total, device)
        self.labeller = Labeller(videos, config.labelling, total)

    def requests(self, start: int) -> Iterator[list[Request]]:
        """Training batches, and before them those of the labellings that are due."""
        done = self.labeller.done
        for step in range(start, self.total + 1):
            if self.labeller.due(step, done):
                if done == 0:
                    for i in range(self.config.labelling.warmup_batches):
                        yield train_requests(self.videos, self.config.optim.batch, self.config.seed, i)
                yield from pass_requests(self.videos, LABEL_BATCH, Pass.LABEL, done)
                done += 1
            if step < self.total:
                yield train_requests(self.videos, self.config.optim.batch, self.config.seed, step)

    def due(self, step: int) -> bool:
        return self.labeller.due(step)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"labeller": self.labeller.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.labeller.load_state_dict(state["labeller"])

    def label(self, batches: Iterator[Batch]) -> Solved:
        if self.labeller.done == 0:
            self._warm_up(batches)
        self.model.eval()
        index, video, audio = [], [], []
        with torch.no_grad():
            for _ in range(0, self.videos, LABEL_BATCH):
                batch = next(batches)
                self._note(batch.failures)
                if len(batch.index):
                    inputs = self.transform(batch)
                    with autocast(self.device, self.config.precision):
                        z_v, z_a = self.model(*inputs)
                    index.append(batch.index)
                    video.append(z_v.float().cpu())
                    audio.append(z_a.float().cpu())
        z_v, z_a = torch.cat(video, 1), torch.cat(audio, 1)
        if self.labeller.done == 0 and self.model.head_audio is not None:
            z_a = self._align(z_v, z_a)
        return self.labeller.solve(joint_evidence(z_v, z_a), torch.cat(index))

    def _warm_up(self, batches: Iterator[Batch]) -> None:
        """Batch-norm statistics from training batches: the first labels come from an untrained network."""
        self.model.train()
        with torch.no_grad():
            for _ in range(self.config.labelling.warmup_batches):
                inputs = self.transform(next(batches))
                with autocast(self.device, self.config.precision):
                    self.model(*inputs)

    def _align(self, z_v: torch.Tensor, z_a: torch.Tensor) -> torch.Tensor:
        """Permute the sound heads' outputs to agree with the video heads'; the logits [H, N, K] so permuted."""
        aligned = z_a.clone()
        assert self.model.head_audio is not None
        out = self.model.head_audio.out
        assert out.bias is not None
        for head in range(len(z_v)):
            order = align(z_v[head].softmax(-1), z_a[head].softmax(-1))
            aligned[head] = z_a[head][:, order]
            with torch.no_grad():
                out.weight[head] = out.weight[head][order.to(out.weight.device)].clone()
                out.bias[head] = out.bias[head][order.to(out.bias.device)].clone()
        return aligned

    def loss(self, batch: Batch, detailed: bool) -> tuple[torch.Tensor, Figures]:
        self._note(batch.failures)
        inputs = self.transform(batch)  # spectrograms in float32
        with autocast(self.device, self.config.precision):
            return self.objective(*self.model.features(*inputs), batch.index)

    def objective(self, video: torch.Tensor, audio: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, Figures]:
        """Mean over heads and both modalities of the cross-entropy to the label (SeLaVi §3.2).

        Features [N, D] of each modality, of the videos `index`, int64 [N].
        """
        labels = self.labeller.labels[index].T.long().to(self.device)  # [H, N]
        z_v, z_a = self.model.logits(video, audio)
        losses = [cross_entropy(z, labels) for z in (z_v, z_a)]
        with torch.no_grad():
            hits = [(z.argmax(-1) == labels).float().mean() for z in (z_v, z_a)]
        loss = (losses[0] + losses[1]) / 2
        logged: Figures = {"loss": loss, "loss_video": losses[0], "loss_audio": losses[1]}
        return loss, logged | {"accuracy_video": hits[0], "accuracy_audio": hits[1]}


class GdtTask(Task):
    """GDT (Patrick et al. 2021): clips attract or repel as their composition says."""

    def __init__(self, model: TwoStream, config: TrainConfig, videos: int, total: int, device: torch.device):
        super().__init__(model, config, videos, total, device)
        self.composition = Composition.from_config(config.contrast)

    def clips(self, batch: Batch) -> dict[str, torch.Tensor]:
        """What is encoded of a batch, by modality: all clips of its composition, [B · clips, …]."""
        composition = self.composition
        with torch.no_grad():
            frames, sound = composition.expand(
                self.transform.frames(batch) if "video" in composition.modalities else None,
                self.transform.sound(batch) if "audio" in composition.modalities else None,
                {name: value.to(self.device) for name, value in batch.values.items()},
            )
        return {name: x for name, x in (("video", frames), ("audio", sound)) if x is not None}

    def encode(self, clips: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Features [B · clips, D] by modality."""
        return {name: getattr(self.model, name)(x) for name, x in clips.items()}

    def loss(self, batch: Batch, detailed: bool) -> tuple[torch.Tensor, Figures]:
        self._note(batch.failures)
        clips = self.clips(batch)
        with autocast(self.device, self.config.precision):
            return self.objective(self.encode(clips), batch.index, detailed)

    def objective(
        self, features: dict[str, torch.Tensor], index: torch.Tensor, detailed: bool
    ) -> tuple[torch.Tensor, Figures]:
        """The composed contrast (GDT §3) of features [B · clips, D] of the videos `index`, int64 [B]."""
        composition, contrast = self.composition, self.config.contrast
        z = torch.cat([self.model.embed(features[name], name) for name in composition.modalities])
        codes = composition.codes(index)
        loss = global_contrastive_loss(z, codes, composition, contrast.temperature, block=contrast.block)
        return loss, {"loss": loss} | (statistics(z, codes, composition) if detailed else {})


class BothTask(GdtTask):
    """Self-labelling and composed contrast, weighted, over one pair of encoders and the same clips.

    Labels are asked of the clips at the first level of every axis that is applied on the device: a reversed clip may be
    meant to differ from its original. Those of all start times and speeds are asked for the video's label.
    """

    def __init__(self, model: TwoStream, config: TrainConfig, videos: int, total: int, device: torch.device):
        super().__init__(model, config, videos, total, device)
        self.selavi = SelaviTask(model, config, videos, total, device)
        self.failures = self.selavi.failures = {}

    def requests(self, start: int) -> Iterator[list[Request]]:
        return self.selavi.requests(start)

    def due(self, step: int) -> bool:
        return self.selavi.due(step)

    def label(self, batches: Iterator[Batch]) -> Solved:
        return self.selavi.label(batches)

    def loss(self, batch: Batch, detailed: bool) -> tuple[torch.Tensor, Figures]:
        self._note(batch.failures)
        clips = self.clips(batch)
        with autocast(self.device, self.config.precision):
            features = self.encode(clips)
            contrast, contrasted = self.objective(features, batch.index, detailed)
            video, audio = (features[name][:: self.composition.transformed] for name in ("video", "audio"))
            videos = batch.index.repeat_interleave(len(video) // len(batch.index))
            labelling, labelled = self.selavi.objective(video, audio, videos)
        loss = self.config.labelling.weight * labelling + self.config.contrast.weight * contrast
        parts = {f"contrast_{k}": v for k, v in contrasted.items()} | {f"labelling_{k}": v for k, v in labelled.items()}
        return loss, {"loss": loss} | parts

    def state_dict(self) -> dict[str, Any]:
        return self.selavi.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.selavi.load_state_dict(state)
        self.failures = self.selavi.failures


TASKS: dict[str, type[Task]] = {"selavi": SelaviTask, "gdt": GdtTask, "both": BothTask}


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of logits [H, B, K] to labels [H, B]; videos without a label count for nothing."""
    each = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=UNLABELLED, reduction="none")
    return each.sum() / (labels != UNLABELLED).sum().clamp(min=1)
