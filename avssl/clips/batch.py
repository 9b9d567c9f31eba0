"""A batch of decoded clips, in one block of memory.

The decoding worker writes all arrays of a batch into one block, in shared memory. The block is pinned and copied to a
GPU as a whole, with one copy that nobody waits for; the tensors of a batch are views of it, on either side.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch

from .augment import Draws

ALIGNED = 128
"""Each tensor begins at a multiple of this, bytes; kernels read whole lines of a GPU's memory."""


class Failure(NamedTuple):
    """A file whose clip could not be decoded."""

    path: str
    reason: str


class Place(NamedTuple):
    """Where a tensor of a batch is in its block: a field of `Batch`, a name in it, and the first byte."""

    field: str
    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int

    @property
    def stop(self) -> int:
        return self.start + prod(self.shape) * self.dtype.itemsize

    def view(self, block: torch.Tensor) -> torch.Tensor:
        """The tensor, a view of a block, uint8 [n]."""
        return block[self.start : self.stop].view(self.dtype).view(self.shape)


@dataclass
class Batch:
    """The V clips of each of B decoded videos.

    Args:
        index: the rows of the videos, int64 [B], on the CPU.
        clips: video by video, "video" uint8 [B · V, T, H, W, 3] and "audio" float32 [B · V, n].
        draws: random values for the augmentation of the B · V clips; None without augmentation.
        failures: the files that failed.
        values: random values of the plan's transformations on the device, float32 [B, levels, k] by name.
        features: instead of clips, their stored features: float32 [B · V, D] by modality.
    """

    index: torch.Tensor
    clips: dict[str, torch.Tensor]
    draws: Draws | None
    failures: list[Failure]
    values: dict[str, torch.Tensor] = field(default_factory=dict)
    features: dict[str, torch.Tensor] = field(default_factory=dict)
    # not taken over by `replace`, whose result is no view of the block
    block: torch.Tensor | None = field(default=None, init=False, repr=False)
    """The memory of all tensors, uint8 [n]; None if each has its own."""
    places: tuple[Place, ...] = field(default=(), init=False, repr=False)
    device_index: torch.Tensor = field(init=False, repr=False)
    """`index` on the device of the clips."""

    def __post_init__(self) -> None:
        self.device_index = self.index

    def __reduce__(self) -> Any:
        # a worker sends one block to the run, instead of every tensor
        if self.block is None:
            return unpack, (*_packed(self, torch.empty), self.failures)
        return unpack, (self.block, self.places, self.failures)

    def with_clips(self, **clips: torch.Tensor) -> "Batch":
        """A copy of the batch with the clips of some modalities replaced."""
        return replace(self, clips=self.clips | clips)

    def pin_memory(self) -> "Batch":
        """The batch in pinned memory, from which a GPU copies without the host. torch's loader calls this."""
        block, places = (self.block, self.places) if self.block is not None else _packed(self, torch.empty)
        return unpack(block.pin_memory() if len(block) else block, places, self.failures)

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device, from one copy that is not waited for; `index` stays on the CPU as well."""
        if device.type == "cpu" or self.is_on(device):
            return self
        block, places = (self.block, self.places) if self.block is not None else _packed(self, torch.empty)
        # of its own, because objectives and the monitor keep it longer than the block
        index = self.index.clone()
        return unpack(block.to(device, non_blocking=True), places, self.failures, index)

    def is_on(self, device: torch.device) -> bool:
        """Whether the clips are on a device."""
        here = self.device_index.device
        return here.type == device.type and device.index in (None, here.index)


Allocate = Callable[..., torch.Tensor]
"""Makes a block, as `torch.empty` does."""


def allocate(
    tensors: Mapping[tuple[str, str], tuple[torch.dtype, tuple[int, ...]]], empty: Allocate = torch.empty
) -> tuple[torch.Tensor, tuple[Place, ...]]:
    """A block for tensors of these types and shapes, by the field and name of a batch, and the place of each."""
    places, start = [], 0
    for (part, name), (dtype, shape) in tensors.items():
        places.append(Place(part, name, dtype, tuple(shape), start))
        start += -(-(places[-1].stop - start) // ALIGNED) * ALIGNED
    return empty(start, dtype=torch.uint8), tuple(places)


def arrays_of(block: torch.Tensor, places: tuple[Place, ...]) -> dict[tuple[str, str], np.ndarray]:
    """The tensors of a block on the CPU as arrays, to be written."""
    return {(place.field, place.name): place.view(block).numpy() for place in places}


def unpack(
    block: torch.Tensor, places: tuple[Place, ...], failures: list[Failure], index: torch.Tensor | None = None
) -> Batch:
    """The batch of a block. `index`: its videos on the CPU, if the block is elsewhere."""
    fields: dict[str, dict[str, torch.Tensor]] = {"index": {}, "clips": {}, "draws": {}, "values": {}, "features": {}}
    for place in places:
        fields[place.field][place.name] = place.view(block)
    draws = Draws(fields["draws"][""]) if fields["draws"] else None
    here = fields["index"][""]
    batch = Batch(
        here if index is None else index, fields["clips"], draws, failures, fields["values"], fields["features"]
    )
    batch.block, batch.places, batch.device_index = block, places, here
    return batch


def _packed(batch: Batch, empty: Allocate) -> tuple[torch.Tensor, tuple[Place, ...]]:
    """The tensors of a batch, copied into one block."""
    tensors = {("index", ""): batch.index}
    tensors |= {("clips", name): x for name, x in batch.clips.items()}
    tensors |= {("draws", ""): batch.draws.values} if batch.draws is not None else {}
    tensors |= {("values", name): x for name, x in batch.values.items()}
    tensors |= {("features", name): x for name, x in batch.features.items()}
    block, places = allocate({key: (x.dtype, tuple(x.shape)) for key, x in tensors.items()}, empty)
    for place in places:
        place.view(block).copy_(tensors[place.field, place.name])
    return block, places
