"""Checks of the lines of each command's journal. An invalid line is ignored, so that its file is processed again.

A folder may come from somebody else, and a resumed command uses names in the journal as paths, and numbers as sizes.
"""

from typing import Any

from ..core.safe_paths import strays
from ..core.untrusted import is_count, is_number

Entry = dict[str, Any]

NUMBERS = (
    "start", "duration", "fps", "frames", "width", "height", "audio_rate", "channels", "loudness", "video_start",
    "video_end", "audio_start", "audio_end",
)  # fmt: skip
"""The numbers in the probe of every usable file."""

LONGEST = 1e6
"""Longest duration of a video (s)."""


def _is_stamped(entry: Entry) -> bool:
    changed = entry.get("mtime_ns")
    return is_count(entry.get("size")) and isinstance(changed, int) and is_count(abs(changed))


def _is_reject(found: Entry) -> bool:
    return isinstance(found.get("reason"), str) and isinstance(found.get("detail"), str)


def is_probe(entry: Entry) -> bool:
    """Whether it is a valid line of `avssl index`."""
    probe = entry.get("probe")
    if not _is_stamped(entry) or type(entry.get("whole")) is not bool or not is_number(entry.get("silence_db")):
        return False
    if not isinstance(probe, dict) or "reason" in probe:
        return isinstance(probe, dict) and _is_reject(probe)
    if not all(is_number(probe.get(name)) and abs(probe[name]) < 2**31 for name in NUMBERS):
        return False
    if not all(probe.get(name) is None or isinstance(probe[name], str) for name in ("video_codec", "audio_codec")):
        return False
    counts = all(is_count(probe[name]) for name in ("frames", "width", "height", "audio_rate", "channels"))
    profile = probe.get("profile")
    return (
        counts and 0 <= probe["duration"] <= LONGEST and type(probe.get("variable_rate")) is bool
        and isinstance(profile, list) and all(map(is_number, profile))
    )  # fmt: skip


def is_prepared(entry: Entry) -> bool:
    """Whether it is a valid line of `avssl prepare`, of a file below its folder or of a reject."""
    name = entry.get("name")
    if not _is_stamped(entry) or ("reason" in entry and not _is_reject(entry)):
        return False
    if strays(name) or not str(name).endswith(".mp4") or not isinstance(entry.get("settings"), dict):
        return False
    return "reason" in entry or is_count(entry.get("bytes"))


def is_packed(entry: Entry) -> bool:
    """Whether it is a valid line of `avssl shard`."""
    offsets = entry.get("offsets")
    good = isinstance(entry.get("signature"), str) and is_count(entry.get("size"))
    return good and isinstance(offsets, list) and all(map(is_count, offsets))


def is_hashed(entry: Entry) -> bool:
    """Whether it is a valid line of `avssl doctor`."""
    return _is_stamped(entry) and all(isinstance(entry.get(k), str | None) for k in ("ends", "whole"))


def is_preview(entry: Entry) -> bool:
    """Whether it is a valid line of `avssl clusters`."""
    return isinstance(entry.get("of"), list) and isinstance(entry.get("why"), str)


LABEL = {
    "path": (str,), "window_start": (float, int, None), "label": (int,), "confidence": (float, int, None),
    "label_video": (int, None), "label_audio": (int, None), "labelled_by": (str,), "score": (float, int, None),
    "reason": (str,), "detail": (str,),
}  # fmt: skip
"""Fields of a label and their types; only the last two may be missing."""


def is_labelled(entry: Entry) -> bool:
    """Whether it is a valid line of `avssl label`."""
    stamp, rows = entry.get("stamp"), entry.get("rows")
    if not isinstance(stamp, list) or len(stamp) != 2 or not isinstance(rows, list):
        return False
    return all(isinstance(row, dict) and _is_label(row) for row in rows)


def _is_label(row: Entry) -> bool:
    if not row.keys() <= LABEL.keys() or not LABEL.keys() - {"reason", "detail"} <= row.keys():
        return False
    for name, value in row.items():
        if not any(value is None if kind is None else type(value) is kind for kind in LABEL[name]):
            return False
        if isinstance(value, int | float) and not (is_number(value) and abs(value) < 2**31):
            return False
    return row["labelled_by"] in ("both", "video", "audio", "") and (row["label"] < 0 or row["confidence"] is not None)
