"""The second data set: printed digits of matplotlib's typefaces, bent, over noise, each with a synthetic spoken word.

It has the options, files and labels of `avssl sample`, but shares neither the handwriting nor the instruments nor the
background with it. The test split has other typefaces and other voices.
"""

import importlib.util
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage, signal
from scipy.io import wavfile

from avssl.core.atomic import atomic_path
from avssl.core.errors import UserError

FONTS = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique", "DejaVuSansMono",
    "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique", "DejaVuSansMono-BoldOblique", "DejaVuSerif", "DejaVuSerif-Bold",
    "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic", "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic",
    "STIXGeneralBolIta", "cmr10", "cmb10", "cmss10", "cmtt10", "cmti10",
)  # fmt: skip
"""Files of matplotlib that have digits."""

SIDE = 48
"""Of a printed digit, px: as many as the stencil of a handwritten one has."""

BENDS = 6
"""Differently bent prints of each digit of a typeface."""


class Typefaces:
    """Printed digits in place of handwriting, see `avssl.sample.plan.Writing`."""

    background = "noise"

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng([seed, 11])
        order = rng.permutation(len(FONTS))
        held_out = len(FONTS) * 3 // 10
        self._fonts = {"train": order[held_out:], "test": order[:held_out]}
        self._seed = seed

    def image(self, row: int) -> np.ndarray:
        """The print of a row, float32 [SIDE, SIDE]."""
        font, rest = divmod(row, 10 * BENDS)
        return bend(np.random.default_rng([self._seed, 12, row]), glyph(FONTS[font], rest // BENDS))

    def pool(self, digit: int, split: str) -> np.ndarray:
        """The rows of a digit for a split, shuffled: int [n]."""
        rows = np.concatenate([(font * 10 + digit) * BENDS + np.arange(BENDS) for font in self._fonts[split]])
        np.random.default_rng([self._seed, 13, digit]).shuffle(rows)
        return rows


@cache
def glyph(font: str, digit: int) -> np.ndarray:
    """A digit of a typeface, as tall as fits: uint8 [SIDE, SIDE]. Raises UserError without matplotlib."""
    found = importlib.util.find_spec("matplotlib")
    if found is None or found.origin is None:
        raise UserError("the second data set needs the typefaces of matplotlib: pip install matplotlib")
    file = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / f"{font}.ttf"
    face = ImageFont.truetype(str(file), 2 * SIDE, layout_engine=ImageFont.Layout.BASIC)
    left, top, right, bottom = face.getbbox(str(digit))
    image = Image.new("L", (int(right - left) + 4, int(bottom - top) + 4))
    ImageDraw.Draw(image).text((2 - left, 2 - top), str(digit), fill=255, font=face)
    scale = SIDE / max(image.size)
    small = image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.BOX)
    square = Image.new("L", (SIDE, SIDE))
    square.paste(small, ((SIDE - small.width) // 2, (SIDE - small.height) // 2))
    return np.asarray(square)


def bend(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Move each pixel by a smooth random field, by up to a tenth of the side: float32 [SIDE, SIDE], 0 to 16."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(float)
    shift = ndimage.zoom(rng.uniform(-1, 1, (2, 4, 4)), (1, SIDE / 4, SIDE / 4), order=3)
    places = np.stack([y, x]) + 0.07 * SIDE * shift
    return ndimage.map_coordinates(image / 255 * 16, places, order=1, output=np.float32)


VOWELS = {
    "a": (730, 1090, 2440), "e": (530, 1840, 2480), "i": (270, 2290, 3010), "o": (570, 840, 2410),
    "u": (300, 870, 2240), "n": (250, 1400, 2300), "w": (300, 610, 2200), "r": (420, 1300, 1600),
    "v": (250, 1100, 2100), "z": (250, 1700, 2600),
}  # fmt: skip
"""Formants (Hz) of what is voiced."""

HISSES = {
    "s": (4500, 2500),
    "f": (2500, 4000),
    "t": (3500, 3000),
    "k": (1800, 1500),
    "z": (4800, 2000),
    "v": (1500, 1500),
}
"""Centre and width (Hz) of the noise."""

WORDS = ("ziiro", "waan", "tuu", "srii", "foor", "faaiv", "siks", "sevn", "eeit", "naain")

RATE = 16_000
VOICES = 16


def say(rng: np.random.Generator, word: str, pitch: float, tract: float, pace: float) -> np.ndarray:
    """A word by a voice of formants.

    Args:
        rng: the random numbers of the noise, and of how it is said this time.
        word: letters of VOWELS and HISSES; a letter that is written twice is long.
        pitch: of the voice, Hz.
        tract: factor of all formants; above 1 for a short vocal tract.
        pace: factor of all durations.

    Returns:
        Samples at RATE, float [n].
    """
    track, loud, hiss = [], [], []
    for letter in word:
        n = round(RATE * pace * (0.05 if letter in "tk" else 0.085) * rng.uniform(0.9, 1.1))
        track.append(np.tile(VOWELS.get(letter, (400, 1500, 2500)), (n, 1)))
        loud.append(np.full(n, 1.0 if letter in "aeiou" else 0.5 if letter in VOWELS else 0.0))
        hiss.append(_hiss(rng, letter, n))
    steps = round(0.03 * RATE)
    formants = tract * ndimage.uniform_filter1d(np.concatenate(track).astype(float), steps, axis=0)
    loudness = ndimage.uniform_filter1d(np.concatenate(loud), steps)
    t = np.arange(len(loudness)) / len(loudness)
    hertz = pitch * (1.08 - 0.16 * t) * (1 + 0.01 * np.sin(2 * np.pi * 5 * t + rng.random()))
    phase = 2 * np.pi * np.cumsum(hertz) / RATE
    voiced = np.zeros(len(t))
    for k in range(1, int(0.4 * RATE / pitch)):
        each = [1 / (1 + ((k * hertz - formants[:, i]) / (60 + 40 * i)) ** 2) for i in range(3)]
        voiced += (each[0] + 0.6 * each[1] + 0.35 * each[2]) * np.sin(k * phase)
    return loudness * voiced / (np.abs(voiced).max() + 1e-9) + np.concatenate(hiss)


def _hiss(rng: np.random.Generator, letter: str, n: int) -> np.ndarray:
    if letter not in HISSES:
        return np.zeros(n)
    centre, width = HISSES[letter]
    band = signal.butter(
        2, [max(200, centre - width / 2), min(7800, centre + width / 2)], "band", fs=RATE, output="sos"
    )
    made = signal.sosfilt(band, rng.standard_normal(n + 200))[200:]
    envelope = np.exp(-np.linspace(0, 5, n)) if letter in "tk" else np.hanning(n)
    return 0.4 * envelope * made / (np.abs(made).max() + 1e-9)


def write_words(folder: Path, seed: int, digits: int = 10, noise_db: float | None = None) -> Path:
    """Write <digit>_<voice>.wav, which `avssl sample voices=` reads, unless they are there.

    Args:
        folder: where to.
        seed: of the voices.
        digits: the words, from 0.
        noise_db: level of white noise over the word, dB relative to it; None for none.

    Returns:
        The folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for voice in range(VOICES):
        rng = np.random.default_rng([seed, 14, voice])
        pitch, tract, pace = 90 * 2 ** rng.uniform(0, 1.5), rng.uniform(0.85, 1.2), rng.uniform(0.8, 1.2)
        for digit in range(digits):
            path = folder / f"{digit}_v{voice:02d}.wav"
            if path.is_file():
                continue
            own = np.random.default_rng([seed, 15, voice, digit])
            wave = say(own, WORDS[digit], pitch, tract, pace)
            if noise_db is not None:
                level = np.sqrt(np.mean(wave**2)) * 10 ** (noise_db / 20)
                wave = wave + level * own.standard_normal(len(wave))
            with atomic_path(path) as temporary:
                wavfile.write(temporary, RATE, (30_000 * wave / np.abs(wave).max()).astype(np.int16))
    return folder
