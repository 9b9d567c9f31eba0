"""Batch norms that leave their running statistics as they are."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def keep_statistics(*modules: nn.Module) -> Iterator[None]:
    """A context in which batch norms in training normalise by their batch, without adding it to running statistics.

    Clips of another shape than those of evaluation have other statistics; the running ones are used by evaluation.
    """
    norms = [x for module in modules for x in module.modules() if isinstance(x, _BatchNorm) and x.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
