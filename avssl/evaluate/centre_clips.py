"""The one pass over a split that every evaluation makes: each video's centre clip, in order."""

from collections.abc import Iterator

import torch

from ..data.clips import Batch, ClipDataset, Failure, Pass
from ..data.loader import load, pass_requests
from ..progress import track

BATCH = 64


def centre_clips(
    dataset: ClipDataset, device: torch.device, workers: int, text: str, failures: list[Failure]
) -> Iterator[Batch]:
    """Batches of the videos that decode, under a progress bar named `text`; those that do not go to `failures`."""
    requests = list(pass_requests(len(dataset), BATCH, Pass.EVALUATE, 0))
    for batch in track(load(dataset, requests, workers, pin=device.type == "cuda"), text, len(requests)):
        failures += batch.failures
        if len(batch.index):
            yield batch
