"""Frozen features of every video of a split: one deterministic pass."""

from dataclasses import dataclass

import numpy as np
import torch

from ..config import ClipConfig
from ..data.clips import ClipDataset, Failure
from ..data.transform import DeviceTransform
from ..models import TwoStream
from ..train.device import autocast
from .centre_clips import centre_clips


@dataclass
class Features:
    """Of the n videos that decoded, `rows` int64 [n] of the data set, by modality ("video", "audio").

    `encoded` float32 [n, D]: what the encoder gives. `embedded` float32 [n, P]: its projection to the space of the
    contrast; empty for a model without projections.
    """

    rows: np.ndarray
    encoded: dict[str, np.ndarray]
    embedded: dict[str, np.ndarray]
    failures: list[Failure]

    def views(self) -> dict[str, np.ndarray]:
        """What probes look at, of unit length: `encoded` by modality, "both" side by side, and the embeddings."""
        views = {name: _unit(x) for name, x in self.encoded.items()}
        if len(views) > 1:
            views["both"] = np.concatenate(list(views.values()), 1)
        return views | {f"{name} embedding": _unit(x) for name, x in self.embedded.items()}


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True).clip(1e-12)


@torch.no_grad()
def extract_features(
    model: TwoStream,
    dataset: ClipDataset,
    config: ClipConfig,
    device: torch.device,
    precision: str = "auto",
    workers: int = 0,
) -> Features:
    """Features of one centre clip of every video, in evaluation mode."""
    model.eval()
    transform = DeviceTransform(config, device)
    encoders = model.encoders
    projected = model.projection_video is not None or model.projection_audio is not None
    parts: dict[str, list[np.ndarray]] = {f"{kind}_{name}": [] for kind in ("encoded", "embedded") for name in encoders}
    rows: list[int] = []
    failures: list[Failure] = []
    for batch in centre_clips(dataset, device, workers, "features", failures):
        rows += batch.index.tolist()
        for name, clips in transform(batch, list(encoders)).items():
            with autocast(device, precision):
                encoded = encoders[name](clips)
                embedded = model.embed(encoded, name) if projected else None
            parts[f"encoded_{name}"].append(encoded.float().cpu().numpy())
            if embedded is not None:
                parts[f"embedded_{name}"].append(embedded.float().cpu().numpy())
    joined = {key: np.concatenate(found) for key, found in parts.items() if found}
    return Features(
        np.array(rows, dtype=np.int64),
        {name: joined[f"encoded_{name}"] for name in encoders if f"encoded_{name}" in joined},
        {name: joined[f"embedded_{name}"] for name in encoders if f"embedded_{name}" in joined},
        failures,
    )
