"""The audio of a sample video: one of ten synthesised instruments with its melody, or a real spoken digit."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import signal
from scipy.io import wavfile

from ..core.errors import UserError


@dataclass(frozen=True)
class Instrument:
    """One class of audio: a timbre and a looped melody. The pitch of the root is not part of the class."""

    melody: tuple[float | None, ...]  # semitones above the root, one per step; None is a rest
    step: float  # seconds
    partials: tuple[tuple[float, float], ...]  # (multiple of the pitch, amplitude)
    attack: float = 0.02  # fraction of a step in which a note swells
    decay: float = 0.0  # a note falls by exp(-decay) within its step
    vibrato: tuple[float, float] = (0.0, 0.0)  # Hz, semitones
    tremolo: tuple[float, float] = (0.0, 0.0)  # Hz, depth
    breath: float = 0.0  # bandwidth of the noise that modulates each partial, Hz; 0 is a pure tone


def harmonics(n: int, stride: int = 1) -> tuple[tuple[float, float], ...]:
    """The harmonics 1, 1 + stride, … below n; higher ones are a little weaker."""
    return tuple((float(k), float(k) ** -0.2) for k in range(1, n, stride))


INSTRUMENTS = (
    Instrument((0, 4, 7, 4), 0.25, ((1.0, 1.0), (2.0, 0.5)), attack=0.1),  # flute, a broken chord
    Instrument((0,), 0.11, harmonics(14), decay=6.0),  # plucked string, one note repeated
    Instrument((0, 5), 0.5, harmonics(12, 2), tremolo=(12.0, 1.0)),  # clarinet, trembling
    Instrument((7, 0), 0.35, ((3.0, 1.0), (5.4, 0.8), (8.9, 0.7)), decay=2.5),  # bell, two strokes
    Instrument((0, None), 0.08, ((12.0, 1.0),), decay=1.0, breath=4000.0),  # shaker
    Instrument((0,), 0.5, ((2.0, 1.0), (4.0, 0.7)), vibrato=(3.2, 7.0)),  # siren
    Instrument((0, 2), 0.5, ((1.5, 1.0),), breath=500.0),  # wind
    Instrument((0, 3), 0.6, harmonics(16), attack=0.2),  # organ, a slow third
    Instrument((0, 9), 0.07, ((4.0, 1.0), (8.0, 0.5))),  # trill
    Instrument((0, 0, 0, None), 0.16, ((10.0, 1.0), (20.0, 0.3)), tremolo=(24.0, 1.0)),  # cricket
)


def synthesise(
    rng: np.random.Generator, instrument: Instrument, seconds: float, rate: int, glide: np.ndarray | None = None
) -> np.ndarray:
    """Play an instrument's looped melody at a random pitch and tempo, from a random moment of the loop.

    Args:
        rng: the random numbers.
        instrument: what to play.
        seconds: the length, s.
        rate: samples a second, Hz.
        glide: semitones that are added to the pitch, [round(seconds * rate)]; None for no change.

    Returns:
        Samples, float [round(seconds * rate)].
    """
    n = round(seconds * rate)
    t = np.arange(n) / rate
    step = instrument.step * rng.uniform(0.9, 1.11)
    beat = t / step + rng.uniform(0, len(instrument.melody))
    melody = np.array([np.nan if note is None else note for note in instrument.melody])
    note = melody[beat.astype(int) % len(melody)]
    within = beat % 1.0
    envelope = np.minimum(within / instrument.attack, 1.0) * np.minimum((1 - within) / 0.05, 1.0)
    envelope *= np.exp(-instrument.decay * within) * ~np.isnan(note)
    speed, depth = instrument.tremolo
    envelope *= 1 - depth * (0.5 + 0.5 * np.sin(2 * np.pi * (speed * t + rng.random())))
    speed, depth = instrument.vibrato
    pitch = np.nan_to_num(note) + depth * np.sin(2 * np.pi * (speed * t + rng.random())) + rng.uniform(-1.5, 1.5)
    if glide is not None:
        pitch = pitch + glide
    hertz = 400.0 * 2 ** (pitch / 12)
    phase = 2 * np.pi * np.cumsum(hertz) / rate
    wave = np.zeros(n)
    for multiple, amplitude in instrument.partials:
        below_nyquist = np.clip((0.48 * rate - multiple * hertz) / (0.05 * rate), 0, 1)
        tone = amplitude * below_nyquist * np.sin(multiple * phase + 2 * np.pi * rng.random())
        if instrument.breath:
            coarse = rng.standard_normal(int(seconds * instrument.breath) + 2)
            tone *= np.interp(t * instrument.breath, np.arange(len(coarse)), coarse)
        wave += tone
    return wave * envelope


def record(rng: np.random.Generator, wave: np.ndarray, rate: int) -> np.ndarray:
    """Imitate a recording, float [n] → float32 [n] in [-1, 1]: random tone colour, loudness and background noise.

    The recording swells and fades at random moments, as if its source moved. Raw spectrograms of one class therefore
    differ more than those of two classes, while a network that compares neighbouring bands and moments is hardly
    affected.
    """
    n = len(wave)
    octaves = np.log2(np.maximum(np.fft.rfftfreq(n, 1 / rate), 60.0) / 1000.0)
    wave = np.fft.irfft(np.fft.rfft(wave) * 10 ** (rng.uniform(-2, 2) * octaves / 20), n)
    noise = np.fft.irfft(np.fft.rfft(rng.standard_normal(n)) * 10 ** (rng.uniform(-4, 0) * octaves / 20), n)
    wave /= np.sqrt(np.mean(wave**2)) + 1e-9
    wave += noise / np.sqrt(np.mean(noise**2)) * 10 ** (-rng.uniform(12, 18) / 20)
    swell = rng.uniform(9, 12) * np.sin(2 * np.pi * (rng.uniform(0.8, 1.4) * np.arange(n) / rate + rng.random()))
    wave *= 10 ** (swell / 20)
    return (wave / np.abs(wave).max() * 10 ** (-rng.uniform(1, 20) / 20)).astype(np.float32)


@dataclass(frozen=True)
class Voices:
    """Recordings of spoken digits, by digit and voice. No voice is in both splits."""

    files: dict[tuple[int, str], list[Path]]
    train: list[str]
    test: list[str]

    def choose(self, rng: np.random.Generator, digit: int, split: str) -> tuple[str, Path]:
        """A random voice of the split, and one of its recordings of the digit."""
        voices = [v for v in (self.train if split == "train" else self.test) if (digit, v) in self.files]
        voice = voices[rng.integers(len(voices))]
        takes = self.files[digit, voice]
        return voice, takes[rng.integers(len(takes))]


def find_voices(folder: str, digits: list[int]) -> Voices:
    """The recordings <digit>_<voice>.wav or <digit>_<voice>_<take>.wav in a folder, with voices assigned to splits.

    A voice's name may begin with its language (`en_US_...`). The first voice of each language with several voices is
    for the test split, so that every word of the test is heard in training. Without such languages, every fourth voice
    is for the test split.

    Raises:
        UserError: the folder is missing, contains no such file, or lacks a digit in either split.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UserError(f"voices={folder} does not exist: give a folder of <digit>_<voice>.wav files")
    files: dict[tuple[int, str], list[Path]] = {}
    for path in sorted(root.glob("*.wav")):
        named = re.fullmatch(r"(\d)_(.+?)(_\d+)?", path.stem)
        if named:
            files.setdefault((int(named[1]), named[2]), []).append(path)
    if not files:
        raise UserError(f"voices={folder} has no <digit>_<voice>.wav file: name them like 7_anna.wav")
    voices = sorted({voice for _, voice in files})
    languages: dict[str, list[str]] = {}
    for voice in voices:
        languages.setdefault(voice.split("_")[0], []).append(voice)
    test = [group[0] for group in languages.values() if len(group) > 1] or voices[::4]
    result = Voices(files, [v for v in voices if v not in test], test)
    for digit in digits:
        for split, members in (("train", result.train), ("test", result.test)):
            if not any((digit, voice) in files for voice in members):
                raise UserError(
                    f"voices={folder}: no {split} voice says {digit}: add recordings of this digit by two voices"
                )
    return result


def read_wav(path: Path) -> tuple[np.ndarray, int]:
    """Mono samples, float [n] in [-1, 1], and their rate, Hz. Raises UserError for a file that is not PCM wav."""
    try:
        rate, samples = wavfile.read(path)
    except (ValueError, OSError) as error:
        raise UserError(
            f"{path} is not a readable wav file ({error}): remove it, or convert it to 16-bit PCM"
        ) from error
    if samples.dtype.kind == "u":
        samples = samples.astype(float) - 128
    peak = np.abs(samples.astype(float)).max(initial=0.0)
    if peak == 0:
        raise UserError(f"{path}: the recording is silent: remove it")
    mono = samples.reshape(len(samples), -1).mean(axis=1) / peak
    return mono, int(rate)


def speak(
    rng: np.random.Generator,
    recording: tuple[np.ndarray, int],
    seconds: float,
    rate: int,
    glide: np.ndarray | None = None,
) -> np.ndarray:
    """Repeat a spoken digit to fill a clip, at a random pitch and pace, from a random moment.

    Args:
        rng: the random numbers.
        recording: samples and their rate, Hz.
        seconds: length of the clip, s.
        rate: samples a second of the clip, Hz.
        glide: [round(seconds * rate)] semitones, of which half are added to the pitch; None for no change.

    Returns:
        Samples, float [round(seconds * rate)].
    """
    samples, recorded_rate = recording
    n = round(seconds * rate)
    audible = np.flatnonzero(np.abs(samples) > 0.04)
    samples = samples[audible[0] : audible[-1] + 1]
    if recorded_rate != rate:
        divisor = np.gcd(rate, recorded_rate)
        samples = signal.resample_poly(samples, rate // divisor, recorded_rate // divisor)
    pause = np.zeros(round(rng.uniform(0.05, 0.2) * rate))
    loop = np.concatenate([samples, pause])
    semitones = np.full(n, rng.uniform(-3, 3)) + (0.0 if glide is None else glide / 2)
    place = (np.cumsum(2 ** (semitones / 12)) + rng.uniform(0, len(loop))) % len(loop)
    return np.interp(place, np.arange(len(loop) + 1), np.append(loop, loop[0]))
