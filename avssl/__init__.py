"""Clusters and representations from unlabelled video with its sound."""

from typing import TYPE_CHECKING, Any

__all__ = ["__version__", "load"]

if TYPE_CHECKING:
    from .api import load as load
    from .core.version import __version__ as __version__


def __getattr__(name: str) -> Any:
    # importing PyTorch takes seconds, so it is imported only when needed
    if name == "load":
        from .api import load

        return load
    if name == "__version__":
        from .core.version import __version__

        return __version__
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
