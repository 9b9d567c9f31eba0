"""The version of this toolkit."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    __version__: str


def __getattr__(name: str) -> str:
    # importlib.metadata takes as long to import as the rest of a command line: not before the version is wanted
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("avssl")
    except PackageNotFoundError:  # a checkout on PYTHONPATH, not installed
        return "0+checkout"
