"""Labels of degraded clips: coarse frames, and low-passed, quiet, missing or wrong audio."""

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
"""The type of a function that degrades a batch, given the batch and the sampling rate of its audio (Hz)."""


def coarse(factor: int) -> Corruption:
    """Frames scaled down to 1 / factor of their width and height, and up again."""

    def damage(batch: Batch, rate: int) -> Batch:
        frames = batch.clips["video"]
        n, t, h, w, _ = frames.shape
        x = frames.flatten(0, 1).permute(0, 3, 1, 2).float()
        small = F.interpolate(x, size=(max(1, h // factor), max(1, w // factor)), mode="area")
        back = F.interpolate(small, size=(h, w), mode="bilinear", align_corners=False).round().clamp(0, 255)
        return batch.with_clips(video=back.byte().permute(0, 2, 3, 1).reshape(n, t, h, w, 3))

    return damage


def low_pass(cutoff: float) -> Corruption:
    """Audio without frequencies above `cutoff` (Hz)."""

    def damage(batch: Batch, rate: int) -> Batch:
        samples = batch.clips["audio"]
        spectrum, hertz = torch.fft.rfft(samples), torch.fft.rfftfreq(samples.shape[-1], 1 / rate)
        return batch.with_clips(audio=torch.fft.irfft(spectrum * (hertz <= cutoff), n=samples.shape[-1]))

    return damage


def attenuated(decibels: float) -> Corruption:
    """Audio quieter by `decibels`, rounded to the 16 bits of a file."""

    def damage(batch: Batch, rate: int) -> Batch:
        scaled = batch.clips["audio"] * 10 ** (-decibels / 20)
        return batch.with_clips(audio=(scaled * 32767).round() / 32767)

    return damage


def silenced(batch: Batch, rate: int) -> Batch:
    """Silent audio."""
    return batch.with_clips(audio=torch.zeros_like(batch.clips["audio"]))


def swapped_audio(batch: Batch, rate: int) -> Batch:
    """The audio of another video of the batch."""
    return batch.with_clips(audio=batch.clips["audio"].roll(1, 0))


def clean(batch: Batch, rate: int) -> Batch:
    """The unchanged batch."""
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
    """Labels of one head for every degradation; each video is decoded only once.

    The order of the videos is random, so that the audio of another video rarely has the same class.

    Args:
        model: encoders and heads.
        dataset: the videos.
        rows: positions in the data set of the videos to label, int64 [n].
        head: the head that labels.
        config: the clips.
        device, precision: where and in which number format to encode.
        workers: number of decoding processes.

    Returns:
        Labels int32 [n] by degradation and evidence, -1 for a failed file; and the failures.
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
    by_damage: dict[str, dict[str, np.ndarray]] = {name: {} for name in CORRUPTIONS}
    failures: list[Failure] = []
    for batch in track(load(dataset, batches, workers, pin=device.type == "cuda"), "damage", len(batches)):
        failures += batch.failures
        if not len(batch.index):
            continue
        for name, damage in CORRUPTIONS.items():
            clips = transform(damage(batch, config.audio_rate), list(model.encoders))
            for evidence, (labels, _) in head_labels(model, clips, device, precision).items():
                column = by_damage[name].setdefault(evidence, np.full(len(rows), -1, np.int32))
                column[place[batch.index.numpy()]] = labels[head].cpu().numpy()
    return by_damage, failures
