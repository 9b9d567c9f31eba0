"""Values that are on their way from a GPU to the CPU, so that nobody waits for them."""

import torch


class HostCopy:
    """A copy of a tensor on the CPU. It is complete once the GPU has done what was asked of it before.

    Reading a tensor of a GPU at once would wait for all its work. A copy into pinned memory is part of that work.
    """

    def __init__(self, x: torch.Tensor):
        self.event: torch.cuda.Event | None = None
        if not x.is_cuda:
            self.values = x.detach().cpu()
            return
        self.values = x.detach().to("cpu", non_blocking=True)  # torch pins the target
        self.event = torch.cuda.Event()
        # of the tensor's GPU, which need not be the current one
        self.event.record(torch.cuda.current_stream(x.device))

    def ready(self) -> bool:
        """Whether the values can be read without waiting."""
        return self.event is None or self.event.query()

    def wait(self) -> torch.Tensor:
        """The values, on the CPU."""
        if self.event is not None:
            self.event.synchronize()
        return self.values
