"""Clusters and representations from unlabelled video with its sound."""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import load as load

try:
    __version__ = version("avssl")
except PackageNotFoundError:  # a checkout on PYTHONPATH, not installed
    __version__ = "0+checkout"


def __getattr__(name: str) -> Any:
    # PyTorch takes seconds to import: not before it is wanted
    if name == "load":
        from .api import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
