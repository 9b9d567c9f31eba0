"""Clusters and representations from unlabelled video with its sound."""

from typing import TYPE_CHECKING, Any

from .core.version import __version__ as __version__

if TYPE_CHECKING:
    from .api import load as load


def __getattr__(name: str) -> Any:
    # importing PyTorch takes seconds, so it is imported only when needed
    if name == "load":
        from .api import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
