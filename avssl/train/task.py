"""Self-labelling as a task: which clips it wants when, how it labels, and its loss."""

from collections.abc import Iterator

import torch
from torch.nn import functional as F

from ..config import TrainConfig
from ..data.clips import Batch, Failure, Pass, Request
from ..data.loader import pass_requests, train_requests
from ..data.transform import DeviceTransform
from ..models import TwoStream
from ..selflabel.alignment import align
from ..selflabel.labeller import UNLABELLED, Labeller, Solved
from ..selflabel.sinkhorn import joint_evidence
from .device import autocast

LABEL_BATCH = 64


class SelaviTask:
    """SeLaVi (Asano et al. 2020): both modalities predict the label that their joint evidence was given."""

    def __init__(self, model: TwoStream, config: TrainConfig, videos: int, total: int, device: torch.device):
        self.model, self.config, self.videos, self.total, self.device = model, config, videos, total, device
        self.transform = DeviceTransform(config.clip, device)
        self.labeller = Labeller(videos, config.labelling, total)
        self.failures: dict[str, str] = {}

    def requests(self, start: int) -> Iterator[list[Request]]:
        """Every batch that the run will take from step `start` on, in order; known in advance, so that the decoding
        workers never wait for a labelling."""
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

    def _note(self, failures: list[Failure]) -> None:
        self.failures |= {f.path: f.reason for f in failures}

    def label(self, batches: Iterator[Batch]) -> Solved:
        """New labels for all videos, from one pass over them."""
        if self.labeller.done == 0:
            self._warm_up(batches)
        self.model.eval()
        index, video, audio = [], [], []
        with torch.no_grad(), autocast(self.device, self.config.precision):
            for _ in range(0, self.videos, LABEL_BATCH):
                batch = next(batches)
                self._note(batch.failures)
                if len(batch.index):
                    z_v, z_a = self.model(*self.transform(batch))
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
        with torch.no_grad(), autocast(self.device, self.config.precision):
            for _ in range(self.config.labelling.warmup_batches):
                self.model(*self.transform(next(batches)))

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

    def loss(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Mean over heads and both modalities of the cross-entropy to the label, and figures for the log."""
        self._note(batch.failures)
        labels = self.labeller.labels[batch.index].T.long().to(self.device)  # [H, B]
        with autocast(self.device, self.config.precision):
            z_v, z_a = self.model(*self.transform(batch))
        losses = [cross_entropy(z, labels) for z in (z_v, z_a)]
        with torch.no_grad():
            hits = [(z.argmax(-1) == labels).float().mean() for z in (z_v, z_a)]
        loss = (losses[0] + losses[1]) / 2
        logged = {"loss": loss, "loss_video": losses[0], "loss_audio": losses[1]}
        return loss, logged | {"accuracy_video": hits[0], "accuracy_audio": hits[1]}


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of logits [H, B, K] to labels [H, B]; videos without a label count for nothing."""
    each = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=UNLABELLED, reduction="none")
    return each.sum() / (labels != UNLABELLED).sum().clamp(min=1)
