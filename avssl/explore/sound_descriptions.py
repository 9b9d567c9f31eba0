"""Descriptions of clusters' audio in words and numbers: loudness, brightness, percussive or sustained, tempo."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

import av
import numpy as np

from ..core.progress import track
from ..videos.workers import run_isolated

VIDEOS = 3
"""Number of videos that describe a cluster: the most confident ones."""

TIMEOUT = 300.0
"""Time limit per cluster, s. The first import of librosa on a machine compiles for half a minute."""

SILENT, QUIETEST = -60.0, -120.0
"""Loudness below which audio is called silent, and the lowest loudness that is reported, dB of full scale."""

DARK, BRIGHT = 800.0, 2500.0
"""Spectral centroids below which audio is called dark, and above which it is called bright, Hz."""

SUSTAINED, PERCUSSIVE = 0.25, 0.6
"""Percussive fractions of the energy for the words sustained (below) and percussive (above); noise has 0.5."""

FFT, HOP, BANDS = 1024, 256, 40
MIN_BEAT_CORRELATION = 0.3
"""Lowest autocorrelation of the onsets at the beat's lag that counts as a regular beat; noise stays below 0.15."""

MIN_ONSET = 3.0
"""Lowest strength (mean rise over the bands, dB) of the strongest onset if there is a beat; a steady tone has none."""

LONGEST_BEAT = 2.0
"""Longest time between two beats, s."""

SAME_TEMPO = 0.08
"""Tempos that differ from their median by at most this fraction count as the same."""


@dataclass(frozen=True)
class SoundDescription:
    """The audio of one video, or of several, in numbers."""

    loudness: float
    """Root mean square, dB of full scale."""
    brightness: float | None = None
    """Spectral centroid, weighted by energy, Hz; None for silence."""
    percussive: float | None = None
    """Fraction of the energy in short broad-band events, 0 to 1; the rest is sustained. None for silence."""
    tempo: float | None = None
    """Beats per minute; None without a regular beat."""

    @property
    def text(self) -> str:
        """The description in words, as "bright, percussive, 120 bpm, −23 dB"."""
        if self.brightness is None or self.percussive is None:
            return "silent"
        words = ["dark"] * (self.brightness < DARK) + ["bright"] * (self.brightness > BRIGHT)
        words += ["sustained"] * (self.percussive < SUSTAINED) + ["percussive"] * (self.percussive > PERCUSSIVE)
        words += [] if self.tempo is None else [f"{self.tempo:.0f} bpm"]
        return ", ".join([*words, f"{self.loudness:.0f} dB".replace("-", "−")])

    def to_dict(self) -> dict[str, Any]:
        """The description for the page's data."""
        return {**vars(self), "text": self.text}


def describe_samples(samples: np.ndarray, rate: int) -> SoundDescription:
    """Describe audio.

    Args:
        samples: float [n], in −1 to 1; a tempo needs a second or more.
        rate: sampling rate, Hz.
    """
    import librosa  # takes seconds to import

    power = float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0
    loudness = max(QUIETEST, 10 * float(np.log10(max(power, 1e-30))))
    if loudness < SILENT:
        return SoundDescription(loudness)
    samples = librosa.util.fix_length(samples.astype(np.float32), size=max(FFT, len(samples)))
    spectrum = np.abs(librosa.stft(samples, n_fft=FFT, hop_length=HOP))
    energy = np.square(spectrum)
    centroid = librosa.feature.spectral_centroid(S=spectrum, sr=rate, n_fft=FFT)[0]
    bands = librosa.feature.melspectrogram(S=energy, sr=rate, n_fft=FFT, n_mels=BANDS)
    # every second frame, because the filters take most of the time, and events are longer than two frames
    sustained, percussive = librosa.decompose.hpss(np.sqrt(bands[:, ::2]), kernel_size=(17, 17))
    parts = [float(np.square(part, dtype=np.float64).sum()) for part in (sustained, percussive)]
    return SoundDescription(
        loudness,
        float(np.average(centroid, weights=energy.sum(0, dtype=np.float64) + 1e-12)),
        parts[1] / max(sum(parts), 1e-30),
        _tempo(bands, rate),
    )


def _tempo(bands: np.ndarray, rate: int) -> float | None:
    """The tempo in beats per minute of energies [M, T] by band and frame; None without a regular beat."""
    import librosa

    # without the frames at the edges
    onsets = librosa.onset.onset_strength(S=librosa.power_to_db(bands), sr=rate, hop_length=HOP)[2:-2]
    if len(onsets) < 16 or onsets.max() < MIN_ONSET:
        return None
    tempos = librosa.feature.tempo(onset_envelope=onsets, sr=rate, hop_length=HOP, ac_size=LONGEST_BEAT)
    tempo = float(np.atleast_1d(tempos)[0])
    correlation = librosa.autocorrelate(onsets - onsets.mean())
    lag = round(60 * rate / HOP / tempo)
    at_beat = correlation[lag - 1 : lag + 2] if lag + 2 <= len(correlation) else None
    return tempo if at_beat is not None and at_beat.max() >= MIN_BEAT_CORRELATION * correlation[0] else None


def summarise(descriptions: Sequence[SoundDescription]) -> SoundDescription | None:
    """The description of several videos together: means, and the tempo if most have the same; None without videos."""
    if not descriptions:
        return None
    loud = [x for x in descriptions if x.brightness is not None and x.percussive is not None]
    loudness = 10 * float(np.log10(fmean(10 ** (x.loudness / 10) for x in descriptions)))
    if not loud:
        return SoundDescription(loudness)
    tempos = [x.tempo for x in loud if x.tempo is not None]
    middle = median(tempos) if tempos else 0.0
    same = [tempo for tempo in tempos if abs(tempo - middle) <= SAME_TEMPO * middle]
    return SoundDescription(
        loudness,
        fmean(x.brightness for x in loud if x.brightness is not None),
        fmean(x.percussive for x in loud if x.percussive is not None),
        fmean(same) if 2 * len(same) > len(descriptions) else None,
    )


def describe_previews(previews: Sequence[Sequence[Path]], workers: int) -> dict[int, SoundDescription]:
    """Describe clusters by their previews.

    Args:
        previews: video files of each cluster; files that are missing or have no audio are skipped.
        workers: processes. If a file hangs or crashes one, its cluster gets no description.

    Returns:
        Descriptions by cluster, of the clusters with audio that could be read.
    """
    files = [(cluster, tuple(paths[:VIDEOS])) for cluster, paths in enumerate(previews) if paths]
    if not files:
        return {}
    results = run_isolated(_describe_files, files, min(max(1, workers), len(files)), TIMEOUT)
    by_cluster = {cluster: sound for (cluster, _), sound in track(results, "sounds", len(files))}
    return {cluster: sound for cluster, sound in sorted(by_cluster.items()) if isinstance(sound, SoundDescription)}


def _describe_files(files: tuple[int, tuple[Path, ...]]) -> SoundDescription | None:
    """The description of a cluster's files together; None if none has audio that can be read."""
    descriptions = []
    for path in files[1]:
        try:
            with av.open(str(path)) as container:
                if not container.streams.audio:
                    continue
                rate = container.streams.audio[0].rate
                frames = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
        except (av.FFmpegError, OSError, ValueError):
            continue
        if frames:
            descriptions.append(describe_samples(np.concatenate(frames), rate))
    return summarise(descriptions)
