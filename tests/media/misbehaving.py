"""What worker processes are given to survive: in a module that takes them no time to import."""

import ctypes
import os
import signal
import time

from avssl.videos.probe import ProbeRequest, probe
from avssl.videos.source import Source
from avssl.videos.transcode import header_seconds


def misbehave(item: str) -> str:
    if item == "sleep":
        time.sleep(60)
    if item == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    return item.upper()


def gulp(item: str) -> str:
    """The item, or what became of a gigabyte of memory."""
    if item == "segfault":
        ctypes.string_at(0)
    if item == "sleep":
        time.sleep(60)
    if item == "gulp":
        try:
            return str(len(bytearray(1 << 30)))
        except MemoryError:
            return "no memory"
    return item.upper()


def hang(request: ProbeRequest) -> dict:
    if str(request.path).endswith("hang.mp4"):
        time.sleep(60)
    return probe(request)


def hang_at_header(source: Source) -> float:
    if str(source).endswith("hang.mkv"):
        time.sleep(60)
    return header_seconds(source)
