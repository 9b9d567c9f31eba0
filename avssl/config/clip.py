"""The options of a clip: its frames, its audio and how it is decoded."""

from dataclasses import asdict, dataclass
from typing import Any

from .option import DAY, option


@dataclass
class FramesConfig:
    """The frames of a clip, in training and in finetuning."""

    frames: int = option(30, "frames in a clip", "frames", minimum=1, maximum=1024)
    fps: float = option(30.0, "frame rate of a clip, whatever the file's rate", "1/s", minimum=0.1, maximum=1000)
    short_side_min: int = option(
        128,
        "smallest short side before the random crop; evaluation uses it too, unless short_side_eval is set",
        "px",
        minimum=1,
        maximum=4096,
    )
    short_side_max: int = option(160, "largest short side before the random crop", "px", minimum=1, maximum=4096)
    crop: int = option(112, "side of the square crop", "px", minimum=1, maximum=4096)
    flip: bool = option(True, "random horizontal flip in training")
    color_jitter: float = option(
        0.0, "strength of brightness, contrast and saturation jitter in training", minimum=0, maximum=1
    )


@dataclass
class ClipConfig(FramesConfig):
    """clip.*"""

    short_side_eval: int = option(
        0,
        "short side before the crop in evaluation; 0: short_side_min; SeLaVi's released code uses 112",
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
        [0.45] * 3, "mean of pixel values in [0, 1], by channel", minimum=0, maximum=1, noted=True, length=3
    )
    std: list[float] = option(
        [0.225] * 3,
        "standard deviation of pixel values, by channel",
        minimum=0.001,
        maximum=10,
        noted=True,
        length=3,
    )
    audio_rate: int = option(
        24000, "sampling rate that audio is resampled to, mono", "Hz", minimum=100, maximum=192_000
    )
    audio_seconds: float = option(
        1.0, "length of a clip's audio, from the clip's start", "s", minimum=0.05, maximum=600
    )
    spectrogram: str = option(
        "logmel",
        "logmel: standardised per clip; by audio_mean and audio_std: logfbank as in SeLaVi and GDT, kaldi as "
        "for audio transformers",
        choices="logmel logfbank kaldi",
    )
    audio_mean: float = option(
        0.0, "mean of the spectrogram, for logfbank and kaldi; GDT uses 1.93", minimum=-1000, maximum=1000
    )
    audio_std: float = option(
        1.0,
        "standard deviation of the spectrogram, for logfbank and kaldi; GDT uses 17.89",
        minimum=0.001,
        maximum=1000,
    )
    mels: int = option(80, "mel bands", "bands", minimum=1, maximum=1024)
    window_ms: float = option(20.0, "length of the spectrogram's analysis window", "ms", minimum=1, maximum=1000)
    hop_ms: float = option(10.0, "time from one analysis window to the next", "ms", minimum=1, maximum=1000)
    volume_jitter: float = option(
        0.1, "in training, audio is scaled by a random factor within 1 ± this", minimum=0, maximum=1
    )
    freq_mask: int = option(0, "widest SpecAugment mask over mel bands in training", "bands", minimum=0, maximum=1024)
    time_mask: int = option(0, "widest SpecAugment mask over time in training", "frames", minimum=0, maximum=100_000)
    decoder: str = option(
        "auto",
        "decoder of the frames; auto: pyav; the others are optional installs: pip install 'avssl[torchcodec]'",
        choices="auto pyav torchcodec decord",
    )
    cache_mb: float = option(
        0.0,
        "memory in which each decoding process keeps decoded videos, so that it decodes small files only once; needs "
        "clip.decoder=pyav",
        "MB",
        minimum=0,
        maximum=1_000_000,
    )
    timeout: float = option(
        60.0, "a video that takes longer than this to decode is treated as damaged", "s", minimum=0.1, maximum=DAY
    )
    given: list[str] = option(
        [], "options of clips that the user gave: an encoder's own clip does not replace them", noted=True
    )

    def identity(self) -> dict[str, Any]:
        """The options that determine a clip's contents, for digests.

        Names and order are those of the first version: digests in existing files were made with them.
        """
        values = {**asdict(self), "keep_mb": self.cache_mb, "timeout": None}
        for name in ("mean", "std"):  # earlier versions had one number for all channels
            values[name] = by_channel(values[name])
        return {name: values[name] for name in _IDENTITY}


def by_channel(values: list[float]) -> float | list[float]:
    """The number that all channels have, or a number for each."""
    return values[0] if len(set(values)) == 1 else values


_IDENTITY = (
    "frames", "fps", "short_side_min", "short_side_max", "short_side_eval", "retrieval_frames", "crop", "flip",
    "color_jitter", "mean", "std", "audio_rate", "audio_seconds", "spectrogram", "audio_mean", "audio_std", "mels",
    "window_ms", "hop_ms", "volume_jitter", "freq_mask", "time_mask", "decoder", "keep_mb", "timeout",
)  # fmt: skip
