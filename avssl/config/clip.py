"""The options `clip.*`: the frames and the audio of a clip, their augmentation, and how a clip is decoded."""

from dataclasses import asdict, dataclass
from typing import Any

from .option import DAY, option


@dataclass
class FramesConfig:
    """The frames of a clip, in training and in finetuning."""

    frames: int = option(30, "frames in a clip", "frames", minimum=1, maximum=1024)
    fps: float = option(
        30.0, "frame rate of a clip; a file of another rate is resampled to it", "1/s", minimum=0.1, maximum=1000
    )
    short_side_min: int = option(
        128,
        "smallest short side before the random crop; also that of evaluation, unless short_side_eval is set",
        "px",
        minimum=1,
        maximum=4096,
    )
    short_side_max: int = option(160, "largest short side before the random crop", "px", minimum=1, maximum=4096)
    crop: int = option(112, "side of the square crop", "px", minimum=1, maximum=4096)
    flip: bool = option(True, "flip frames horizontally at random in training; false if left and right matter")
    color_jitter: float = option(
        0.0, "strength of the random changes of brightness, contrast and saturation in training", minimum=0, maximum=1
    )


@dataclass
class ClipConfig(FramesConfig):
    """clip.*"""

    short_side_eval: int = option(
        0,
        "short side before the crop in evaluation; 0: the same as short_side_min; SeLaVi's released code uses 112",
        "px",
        minimum=0,
        maximum=4096,
    )
    retrieval_frames: int = option(
        0,
        "frames in a clip for retrieval; 0: the same as frames; SeLaVi's released code uses 32",
        "frames",
        minimum=0,
        maximum=1024,
    )
    mean: list[float] = option(
        [0.45] * 3, "mean of the pixel values in [0, 1], per channel", minimum=0, maximum=1, noted=True, length=3
    )
    std: list[float] = option(
        [0.225] * 3,
        "standard deviation of the pixel values, per channel",
        minimum=0.001,
        maximum=10,
        noted=True,
        length=3,
    )
    audio_rate: int = option(
        24000, "sampling rate that audio is resampled to, mono", "Hz", minimum=100, maximum=192_000
    )
    audio_seconds: float = option(
        1.0, "duration of a clip's audio, from the clip's start", "s", minimum=0.05, maximum=600
    )
    spectrogram: str = option(
        "logmel",
        "logmel: standardised per clip; logfbank (SeLaVi, GDT) and kaldi (audio transformers): standardised by "
        "audio_mean and audio_std",
        choices="logmel logfbank kaldi",
    )
    audio_mean: float = option(
        0.0,
        "mean that is subtracted from the spectrogram, for logfbank and kaldi; GDT uses 1.93",
        minimum=-1000,
        maximum=1000,
    )
    audio_std: float = option(
        1.0,
        "standard deviation that the spectrogram is divided by, for logfbank and kaldi; GDT uses 17.89",
        minimum=0.001,
        maximum=1000,
    )
    mels: int = option(80, "mel bands of the spectrogram", "bands", minimum=1, maximum=1024)
    window_ms: float = option(20.0, "duration of the spectrogram's analysis window", "ms", minimum=1, maximum=1000)
    hop_ms: float = option(10.0, "time from one analysis window to the next", "ms", minimum=1, maximum=1000)
    volume_jitter: float = option(
        0.1, "in training, multiply audio by a random factor between 1 - this and 1 + this", minimum=0, maximum=1
    )
    freq_mask: int = option(0, "widest SpecAugment mask over mel bands in training", "bands", minimum=0, maximum=1024)
    time_mask: int = option(0, "widest SpecAugment mask over time in training", "frames", minimum=0, maximum=100_000)
    masks: int = option(
        1, "SpecAugment masks over mel bands; as many are placed over time", "masks", minimum=1, maximum=2
    )
    rotate: float = option(
        0.0,
        "in training, rotate frames by a random angle of at most this, either way",
        "degrees",
        minimum=0,
        maximum=180,
    )
    scale: float = option(
        0.0, "in training, scale frames by a random factor between 1 - this and 1 + this", minimum=0, maximum=0.9
    )
    shift: float = option(
        0.0,
        "in training, shift frames by a random fraction of their side, of at most this, either way",
        minimum=0,
        maximum=1,
    )
    grey: float = option(0.0, "fraction of training clips whose frames are turned grey", minimum=0, maximum=1)
    audio_shift: float = option(
        0.0,
        "in training, shift the spectrogram in time by at most this, either way; what leaves at one end enters at the "
        "other",
        "s",
        minimum=0,
        maximum=600,
    )
    freq_shift: int = option(
        0,
        "in training, shift the spectrogram by a random number of mel bands, at most this, either way",
        "bands",
        minimum=0,
        maximum=1024,
    )
    noise: float = option(
        0.0,
        "in training, add white or pink noise to the audio, at a random level of at most this times the clip's own RMS",
        minimum=0,
        maximum=100,
    )
    decoder: str = option(
        "auto",
        "library that decodes the frames; auto: pyav; the others are optional: pip install 'avssl[torchcodec]'",
        choices="auto pyav torchcodec decord",
    )
    cache_mb: float = option(
        0.0,
        "memory in which each decoding process keeps decoded videos, so that small files are decoded only once; needs "
        "clip.decoder=pyav",
        "MB",
        minimum=0,
        maximum=1_000_000,
    )
    timeout: float = option(
        60.0, "a video is treated as damaged if decoding it takes longer", "s", minimum=0.1, maximum=DAY
    )
    given: list[str] = option(
        [], "options of clips that the user gave; the encoder's own values do not replace them", noted=True
    )

    def identity(self) -> dict[str, Any]:
        """The options that determine a clip's contents, for digests.

        Names and order stay those of the first version, because existing files contain digests of them.
        """
        values = {**asdict(self), "keep_mb": self.cache_mb, "timeout": None}
        for name in ("mean", "std"):  # earlier versions had one number for all channels
            values[name] = by_channel(values[name])
        return {name: values[name] for name in _IDENTITY}


def by_channel(values: list[float]) -> float | list[float]:
    """One number if all channels have the same value, or a number per channel."""
    return values[0] if len(set(values)) == 1 else values


_IDENTITY = (
    "frames", "fps", "short_side_min", "short_side_max", "short_side_eval", "retrieval_frames", "crop", "flip",
    "color_jitter", "mean", "std", "audio_rate", "audio_seconds", "spectrogram", "audio_mean", "audio_std", "mels",
    "window_ms", "hop_ms", "volume_jitter", "freq_mask", "time_mask", "decoder", "keep_mb", "timeout",
)  # fmt: skip
