"""The pass over a split that every evaluation needs: the centre clip of each video, in order."""

from collections.abc import Iterator

import torch

from ..clips.dataset import Batch, ClipDataset, Failure, Pass
from ..clips.loader import load, pass_requests
from ..clips.stored_clips import StoredClips
from ..core.progress import track

BATCH = 64


def centre_clips(
    dataset: ClipDataset | StoredClips, device: torch.device, workers: int, text: str, failures: list[Failure]
) -> Iterator[Batch]:
    """Yield batches of the centre clips of all videos that can be decoded.

    Args:
        dataset: the videos.
        device: the device of the batches.
        workers: number of decoding processes.
        text: name of the progress bar; empty for none.
        failures: receives the videos that cannot be decoded.
    """
    requests = pass_requests(len(dataset), BATCH, Pass.EVALUATE, 0)
    batches: Iterator[Batch] = load(dataset, requests, workers, pin=device.type == "cuda")
    for batch in track(batches, text, -(-len(dataset) // BATCH)) if text else batches:
        failures += batch.failures
        if len(batch.index):
            yield batch
