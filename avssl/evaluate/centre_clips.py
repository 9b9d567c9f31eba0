"""The one pass over a split that every evaluation makes: each video's centre clip, in order."""

from collections.abc import Iterator

import torch

from ..clips.dataset import Batch, ClipDataset, Failure, Pass
from ..clips.loader import load, pass_requests
from ..core.progress import track

BATCH = 64


def centre_clips(
    dataset: ClipDataset, device: torch.device, workers: int, text: str, failures: list[Failure]
) -> Iterator[Batch]:
    """Batches of the videos that decode, under a progress bar named `text`, or without one where that is empty; those
    that do not decode go to `failures`."""
    requests = list(pass_requests(len(dataset), BATCH, Pass.EVALUATE, 0))
    batches: Iterator[Batch] = load(dataset, requests, workers, pin=device.type == "cuda")
    for batch in track(batches, text, len(requests)) if text else batches:
        failures += batch.failures
        if len(batch.index):
            yield batch
