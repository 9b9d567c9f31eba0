"""Decoded audio as mono samples, placed by presentation time."""

from math import gcd
from typing import Any

import numpy as np
import soxr

JITTER = 0.005
"""Audio is contiguous while its time stamps differ from the count of samples by less than this (s), because Matroska
rounds to 1 ms."""

LONGEST_GAP = 600.0
"""Longest gap in the audio (s) that counts as silence; a longer gap means a wrong time stamp."""

SETTLED = 0.1
"""Reading begins with a packet at least this long (s) before the audio that is needed."""


def channels(frame: Any) -> tuple[np.ndarray, ...]:
    """One or two channels float32 [n] of an audio frame, whose mean is `mono`: of most frames, views of their memory,
    because the mean of a whole clip takes a tenth of the time of the means of its frames."""
    count = frame.layout.nb_channels
    if count <= 2 and frame.format.name == "fltp":
        return tuple([np.frombuffer(plane, np.float32, frame.samples) for plane in frame.planes])
    return (mono(frame),)


def _mean(channels: tuple[np.ndarray, ...]) -> np.ndarray:
    return channels[0] if len(channels) == 1 else (channels[0] + channels[1]) * np.float32(0.5)


def mono(frame: Any) -> np.ndarray:
    """Samples float32 [n] of an audio frame of any format and layout: the mean of its channels except the subwoofer."""
    count = frame.layout.nb_channels
    if frame.format.name == "fltp" and count == 2:  # identical to the code below, in a third of the time
        return _mean(channels(frame))
    data = frame.to_ndarray()
    if data.shape[0] != count:
        data = data.reshape(-1, count).T
    if count > 2:
        keep = [i for i, channel in enumerate(frame.layout.channels) if not channel.name.startswith("LFE")]
        if 0 < len(keep) < count:
            data = data[keep]
    kind = data.dtype
    samples = data[0] if len(data) == 1 else data.mean(axis=0, dtype=np.float32 if kind.itemsize < 4 else np.float64)
    if kind.kind == "f":
        return samples.astype(np.float32)
    half = 2.0 ** (8 * kind.itemsize - 1)
    if kind.kind == "u":
        samples = samples.astype(np.float32) - half
    return (samples * np.float64(1 / half)).astype(np.float32)


class Sound:
    """Decoded audio as runs without gaps, each with its time and rate, and the times of the file's packets.

    The stream begins at `begin` (s) and lasts at least until `until` (s). Between them, times without a packet are
    silent. Outside, and for packets that cannot be decoded, audio is missing.
    """

    def __init__(self, begin: float | None = None) -> None:
        self.begin = begin
        self.until = -np.inf
        self._seen = np.inf  # start of the first packet (s)
        self.runs: list[tuple[float, int, list[Any]]] = []  # blocks of `channels`; after `join`, one array of samples
        self.end: float | None = None
        self._broken: list[tuple[float, float]] = []  # spans (s) of packets that gave no audio

    def packet(self, time: float | None, end: float | None, seconds: float | None = None) -> None:
        """Record a packet from `time` to `end` (s), which was skipped, or gave `seconds` of audio."""
        if time is None or end is None or -np.inf < self.until < time - LONGEST_GAP:
            return
        if time < self._seen:
            self._seen = time
        if end > self.until:
            self.until = end
        if seconds == 0:  # other packets are not checked: their span may include a gap beside their audio
            self._broken.append((time, end))

    def add(self, time: float | None, rate: int, *samples: np.ndarray) -> None:
        """Add samples float32 [n] at `time` (s), or, for None, directly after the last ones: of two channels, their
        mean."""
        if self.end is not None and rate == self.runs[-1][1] and (time is None or abs(time - self.end) < JITTER):
            self.runs[-1][2].append(samples)
            self.end += len(samples[0]) / rate
            return
        start = (self.end or 0.0) if time is None else time
        self.runs.append((start, rate, [samples]))
        self.end = start + len(samples[0]) / rate

    def late(self, start: float) -> bool:
        """Whether reading began too late for the audio at `start` (s)."""
        start = max(start, -np.inf if self.begin is None else self.begin)
        return (not self.runs or self.runs[0][0] > start + 1e-3) and self._seen > start - SETTLED

    def whole(self, start: float, seconds: float) -> bool:
        """Whether one run covers the `seconds` from `start` (s). Call `join` first."""
        ends = [(time, time + len(samples) / rate) for time, rate, (samples,) in self.runs]
        return any(time <= start and start + seconds <= end for time, end in ends)

    def join(self) -> None:
        """Make each run one array; call this once all audio is added."""
        self.runs = [(time, rate, [_joined(blocks)]) for time, rate, blocks in self.runs]

    def stretch(self, start: float, length: int, rate: int) -> tuple[np.ndarray, int]:
        """The samples of a span, and the number of those that are missing. Call `join` first.

        Args:
            start: start of the span, s.
            length: number of samples.
            rate: their sampling rate, Hz.

        Returns:
            float32 [length] in [-1, 1], zeros without audio; and the number of missing samples.
        """
        out = np.zeros(length, np.float32)
        covered = np.zeros(length, bool)
        margin = 0.01  # s, more than the resampling filter reaches
        for time, own_rate, (samples,) in self.runs:
            first = max(0, int((start - margin - time) * own_rate))
            last = int((start + length / rate + margin - time) * own_rate) + 1
            part = samples[first:last] if last > first else samples[:0]
            if len(part) == 0:
                continue
            if own_rate != rate:
                if first > 0:  # begin where the samples of both rates coincide, which keeps the file's phase
                    steps = np.arange(min(own_rate // gcd(own_rate, rate), first + 1))
                    phase = (time + (first - steps) / own_rate - start) * rate
                    first -= int(np.abs(phase - np.round(phase)).round(6).argmin())
                    part = samples[first:last]
                part = resample(part, own_rate, rate)
            at = round((time + first / own_rate - start) * rate)
            low, high = max(0, at), min(length, at + len(part))
            if high > low:
                out[low:high] = part[low - at : high - at]
                covered[low:high] = True
        if not covered.all():
            self._cover_holes(covered, start, rate)
        if not np.isfinite(out).all():  # rare, and the check takes a tenth of the time
            np.nan_to_num(out, copy=False)
        return np.clip(out, -1, 1, out=out), length - int(covered.sum())

    def _cover_holes(self, covered: np.ndarray, start: float, rate: int) -> None:
        """Mark samples within the stream's duration that have no packet: they are silent."""
        begin = self.begin if self.begin is not None else self.runs[0][0] if self.runs else np.inf
        times = start + (np.arange(len(covered)) + 0.5) / rate
        hole = (times >= begin) & (times < self.until)
        for time, end in self._broken:
            hole &= (times < time) | (times >= end)
        covered |= hole


def _joined(blocks: list[tuple[np.ndarray, ...]]) -> np.ndarray:
    """The samples of a run, float32 [n]."""
    if all(len(block) == 2 for block in blocks):
        return _mean(tuple(np.concatenate(sides) for sides in zip(*blocks, strict=True)))
    return np.concatenate([_mean(block) for block in blocks])


def resample(samples: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Resample mono samples float32 [n] from `rate` to `new_rate` (Hz), to float32 [m]; the first keeps its time."""
    return soxr.resample(samples, rate, new_rate)
