"""Which share of a clip's time FFmpeg itself takes, and which we do."""

from dataclasses import dataclass
from pathlib import Path
from time import process_time

import numpy as np

from avssl.clips.decode import ClipSpec
from avssl.clips.decoders import pyav
from avssl.clips.decoders.span import ClipSpan
from benchmarks.bare import record, replay
from benchmarks.loader_ways import make_way
from benchmarks.options import BenchLoaderConfig


@dataclass
class Share:
    """CPU time of a clip of a kind of file, s: FFmpeg's calls and the resampler alone, `read` with all that leads to
    frames and samples, and the `whole` with crop and spectrogram; medians over videos."""

    source: str
    ffmpeg: float
    read: float
    whole: float
    overhead: float
    """Median of the ratios of `read` to `ffmpeg`."""


def profile(files: dict[str, list[Path]], config: BenchLoaderConfig) -> list[Share]:
    """Two clips of each of `items` videos: read, read with crop and spectrogram, and FFmpeg's calls again, in turns."""
    spec, whole = ClipSpec.of(config.clip), make_way("pyav", config.clip)
    shares = []
    for kind, paths in files.items():
        times = np.empty((config.items, 3))
        for i in range(-1, config.items):
            rng = np.random.default_rng([config.seed, i + 1])
            starts = np.sort(rng.random(2)) * (config.seconds - 2 * spec.seconds - 0.1) + [0.0, spec.seconds]
            short_side = int(rng.integers(config.clip.short_side_min, config.clip.short_side_max + 1))
            path, spans = paths[i % len(paths)], [ClipSpan(float(start), spec) for start in starts]
            calls = record(path, spans, short_side)
            marks = [process_time()]
            replay(calls)
            marks.append(process_time())
            pyav.read(path, spans, short_side)
            marks.append(process_time())
            whole(path, starts.tolist(), short_side)
            marks.append(process_time())
            if i >= 0:  # the first is not counted
                times[i] = np.diff(marks) / 2
        ffmpeg, read, with_rest = np.median(times, axis=0).tolist()
        shares.append(Share(kind, ffmpeg, read, with_rest, float(np.median(times[:, 1] / times[:, 0]))))
    return shares
