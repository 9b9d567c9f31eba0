"""The version of this toolkit."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("avssl")
except PackageNotFoundError:  # a checkout on PYTHONPATH, not installed
    __version__ = "0+checkout"
