"""What a cluster sounds like, in a few words and numbers: loudness, brightness, percussive or sustained, tempo."""

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
"""Videos of a cluster that are listened to, the most confident ones."""

TIMEOUT = 300.0
"""s; the first import of librosa on a machine compiles for half a minute."""

SILENT, QUIETEST = -60.0, -120.0
"""dB of full scale: what is called silent, and what stands for no sound at all."""

DARK, BRIGHT = 800.0, 2500.0
"""Hz: spectral centroids below and above these have a word."""

SUSTAINED, PERCUSSIVE = 0.25, 0.6
"""Percussive shares of the energy below and above these have a word. That of noise is half."""

FFT, HOP, BANDS = 1024, 256, 40
BEAT = 0.3
"""Autocorrelation of the onsets at the beat's lag from which they count as regular. That of noise is below 0.15."""

ONSET = 3.0
"""Mean rise over the bands, dB: without an onset as strong there is no beat, as in a steady tone."""

LONGEST_BEAT = 2.0
"""s"""

ALIKE = 0.08
"""Tempos within this share of their median are the same one."""


@dataclass(frozen=True)
class SoundDescription:
    """Numbers of one video's audio, or of several's. None: it is silent, or has no regular beat."""

    loudness: float
    """Root mean square, dB of full scale."""
    brightness: float | None = None
    """Spectral centroid, Hz, weighted by energy."""
    percussive: float | None = None
    """Share of the energy in short broad-band events, 0 to 1; the rest is sustained."""
    tempo: float | None = None
    """Beats a minute."""

    @property
    def text(self) -> str:
        """As "bright, percussive, 120 bpm, −23 dB"."""
        if self.brightness is None or self.percussive is None:
            return "silent"
        words = ["dark"] * (self.brightness < DARK) + ["bright"] * (self.brightness > BRIGHT)
        words += ["sustained"] * (self.percussive < SUSTAINED) + ["percussive"] * (self.percussive > PERCUSSIVE)
        words += [] if self.tempo is None else [f"{self.tempo:.0f} bpm"]
        return ", ".join([*words, f"{self.loudness:.0f} dB".replace("-", "−")])

    def to_dict(self) -> dict[str, Any]:
        """As the page has it."""
        return {**vars(self), "text": self.text}


def describe_samples(samples: np.ndarray, rate: int) -> SoundDescription:
    """Describe audio.

    Args:
        samples: float [n], in −1 to 1; a second or more to find a tempo.
        rate: samples a second, Hz.
    """
    import librosa  # takes seconds

    power = float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0
    loudness = max(QUIETEST, 10 * float(np.log10(max(power, 1e-30))))
    if loudness < SILENT:
        return SoundDescription(loudness)
    samples = librosa.util.fix_length(samples.astype(np.float32), size=max(FFT, len(samples)))
    spectrum = np.abs(librosa.stft(samples, n_fft=FFT, hop_length=HOP))
    energy = np.square(spectrum)
    centroid = librosa.feature.spectral_centroid(S=spectrum, sr=rate, n_fft=FFT)[0]
    bands = librosa.feature.melspectrogram(S=energy, sr=rate, n_fft=FFT, n_mels=BANDS)
    # every second frame: the filters take most of the time, and events are longer than that
    sustained, percussive = librosa.decompose.hpss(np.sqrt(bands[:, ::2]), kernel_size=(17, 17))
    parts = [float(np.square(part, dtype=np.float64).sum()) for part in (sustained, percussive)]
    return SoundDescription(
        loudness,
        float(np.average(centroid, weights=energy.sum(0, dtype=np.float64) + 1e-12)),
        parts[1] / max(sum(parts), 1e-30),
        _tempo(bands, rate),
    )


def _tempo(bands: np.ndarray, rate: int) -> float | None:
    """Beats a minute of energies float [M, T] by band and frame; None without a regular beat."""
    import librosa

    onsets = librosa.onset.onset_strength(S=librosa.power_to_db(bands), sr=rate, hop_length=HOP)[2:-2]  # no edges
    if len(onsets) < 16 or onsets.max() < ONSET:
        return None
    found = librosa.feature.tempo(onset_envelope=onsets, sr=rate, hop_length=HOP, ac_size=LONGEST_BEAT)
    tempo = float(np.atleast_1d(found)[0])
    likeness = librosa.autocorrelate(onsets - onsets.mean())
    lag = round(60 * rate / HOP / tempo)
    regular = lag + 2 <= len(likeness) and likeness[lag - 1 : lag + 2].max() >= BEAT * likeness[0]
    return tempo if regular else None


def summarise(found: Sequence[SoundDescription]) -> SoundDescription | None:
    """Of several videos: means, and their tempo where most have the same one. None of none."""
    if not found:
        return None
    loud = [x for x in found if x.brightness is not None and x.percussive is not None]
    loudness = 10 * float(np.log10(fmean(10 ** (x.loudness / 10) for x in found)))
    if not loud:
        return SoundDescription(loudness)
    tempos = [x.tempo for x in loud if x.tempo is not None]
    middle = median(tempos) if tempos else 0.0
    same = [tempo for tempo in tempos if abs(tempo - middle) <= ALIKE * middle]
    return SoundDescription(
        loudness,
        fmean(x.brightness for x in loud if x.brightness is not None),
        fmean(x.percussive for x in loud if x.percussive is not None),
        fmean(same) if 2 * len(same) > len(found) else None,
    )


def describe_previews(previews: Sequence[Sequence[Path]], workers: int) -> dict[int, SoundDescription]:
    """Describe clusters by their previews.

    Args:
        previews: video files of each cluster; those that are missing or have no audio say nothing.
        workers: processes. A file that hangs or crashes one costs its cluster the description.

    Returns:
        By cluster; without those of which nothing could be heard.
    """
    files = [(cluster, tuple(paths[:VIDEOS])) for cluster, paths in enumerate(previews) if paths]
    if not files:
        return {}
    results = run_isolated(_describe_files, files, min(max(1, workers), len(files)), TIMEOUT)
    found = {cluster: sound for (cluster, _), sound in track(results, "sounds", len(files))}
    return {cluster: sound for cluster, sound in sorted(found.items()) if isinstance(sound, SoundDescription)}


def _describe_files(files: tuple[int, tuple[Path, ...]]) -> SoundDescription | None:
    """What a cluster's files sound like together; None where none has audio that can be read."""
    found = []
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
            found.append(describe_samples(np.concatenate(frames), rate))
    return summarise(found)
