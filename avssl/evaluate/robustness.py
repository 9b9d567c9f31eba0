"""How labels fare when a modality is damaged: coarse pictures, dull, faint or wrong sound."""

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional as F

from ..clips.dataset import Batch, ClipDataset, Failure, Pass, Request
from ..clips.loader import load
from ..clips.transform import DeviceTransform
from ..config import ClipConfig
from ..core.progress import track
from ..models import MultiStream
from .predictions import head_labels

BATCH = 64

Corruption = Callable[[Batch, int], Batch]
"""A batch and its sampling rate (Hz), damaged."""


def coarse(factor: int) -> Corruption:
    """Pictures of 1 / factor of the width and height, brought back to size."""

    def damage(batch: Batch, rate: int) -> Batch:
        frames = batch.clips["video"]
        n, t, h, w, _ = frames.shape
        x = frames.flatten(0, 1).permute(0, 3, 1, 2).float()
        small = F.interpolate(x, size=(max(1, h // factor), max(1, w // factor)), mode="area")
        back = F.interpolate(small, size=(h, w), mode="bilinear", align_corners=False).round().clamp(0, 255)
        return batch.with_clips(video=back.byte().permute(0, 2, 3, 1).reshape(n, t, h, w, 3))

    return damage


def low_pass(cutoff: float) -> Corruption:
    """Sound without what is above `cutoff` (Hz)."""

    def damage(batch: Batch, rate: int) -> Batch:
        samples = batch.clips["audio"]
        spectrum, hertz = torch.fft.rfft(samples), torch.fft.rfftfreq(samples.shape[-1], 1 / rate)
        return batch.with_clips(audio=torch.fft.irfft(spectrum * (hertz <= cutoff), n=samples.shape[-1]))

    return damage


def attenuated(decibels: float) -> Corruption:
    """Sound fainter by `decibels`, in the 16 bits of a file: what falls below them is lost."""

    def damage(batch: Batch, rate: int) -> Batch:
        scaled = batch.clips["audio"] * 10 ** (-decibels / 20)
        return batch.with_clips(audio=(scaled * 32767).round() / 32767)

    return damage


def silenced(batch: Batch, rate: int) -> Batch:
    """No sound."""
    return batch.with_clips(audio=torch.zeros_like(batch.clips["audio"]))


def swapped_audio(batch: Batch, rate: int) -> Batch:
    """The sound of another video of the batch."""
    return batch.with_clips(audio=batch.clips["audio"].roll(1, 0))


def clean(batch: Batch, rate: int) -> Batch:
    """As it is."""
    return batch


CORRUPTIONS: dict[str, Corruption] = {
    "none": clean,
    **{f"picture / {n}": coarse(n) for n in (2, 4, 8, 16)},
    "sound < 4 kHz": low_pass(4000),
    "sound < 1 kHz": low_pass(1000),
    "sound - 20 dB": attenuated(20),
    "sound - 40 dB": attenuated(40),
    "no sound": silenced,
    "another's sound": swapped_audio,
}


@torch.no_grad()
def damaged_labels(
    model: MultiStream,
    dataset: ClipDataset,
    rows: np.ndarray,
    head: int,
    config: ClipConfig,
    device: torch.device,
    precision: str = "auto",
    workers: int = 0,
) -> tuple[dict[str, dict[str, np.ndarray]], list[Failure]]:
    """Labels int32 [len(rows)] of one head by damage and evidence, -1 where a file failed: one decoding for all.

    Videos are taken in a shuffled order, so that another's sound is seldom of the same class.
    """
    model.eval().to(device)
    transform = DeviceTransform(config, device)
    shuffled = np.random.default_rng(0).permutation(rows)
    batches = [
        [Request(int(row), Pass.EVALUATE, 0) for row in shuffled[at : at + BATCH]]
        for at in range(0, len(shuffled), BATCH)
    ]
    place = np.full(len(dataset), -1, np.int64)
    place[rows] = np.arange(len(rows))
    found: dict[str, dict[str, np.ndarray]] = {name: {} for name in CORRUPTIONS}
    failures: list[Failure] = []
    for batch in track(load(dataset, batches, workers, pin=device.type == "cuda"), "damage", len(batches)):
        failures += batch.failures
        if not len(batch.index):
            continue
        for name, damage in CORRUPTIONS.items():
            clips = transform(damage(batch, config.audio_rate), list(model.encoders))
            for evidence, (labels, _) in head_labels(model, clips, device, precision).items():
                kept = found[name].setdefault(evidence, np.full(len(rows), -1, np.int32))
                kept[place[batch.index.numpy()]] = labels[head].cpu().numpy()
    return found, failures
