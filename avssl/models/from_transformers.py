"""transformers' networks as encoders, from a folder or the id of a cached model. Nothing is fetched.

`base` is the network; its weights have transformers' names.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from ..config.encoder_names import IMAGE_CLIP
from ..core.errors import UserError
from ..core.untrusted import read_json
from .frame_by_frame import of_images
from .from_torchvision import LARGER
from .transformers_networks import AUDIO, VIDEO, HfImage

RATES = {"videomae": 7.5, "vjepa2": 4.0, "timesformer": 0.9375, "vivit": 15.0}
"""Frame rate (1/s) at which the published weights of each type were trained, for videos of 30 frames per second."""

RAW_SOUND = ("pe_audio", "pe_audio_video", "wav2vec2", "hubert", "wavlm", "whisper", "encodec", "dac")
"""Types whose audio tower does not accept our spectrograms."""


MAX_LAYERS = 1000
"""Most layers of a network."""


def build(modality: str, name: str, pooling: str) -> nn.Module:
    """The encoder `hf:name` with random weights.

    Args:
        modality: "video" or "audio".
        name: a folder that `save_pretrained` wrote, or the id of a model in the cache.
        pooling: how image networks pool over time.

    Raises:
        UserError: there is no such model on this machine, or it has no tower for the modality.
    """
    config = read_config(modality, name)
    kind = (VIDEO if modality == "video" else AUDIO).get(config.model_type)
    try:
        if kind is not None:
            encoder = kind(config)
            encoder.clip = clip(modality, name)  # type: ignore[assignment]
            return encoder
        if modality == "audio":
            config.num_channels = 1
        return of_images(HfImage(config), modality, pooling, clip(modality, name))
    except UserError:
        raise
    except (ValueError, TypeError, AttributeError, ImportError, KeyError, RuntimeError) as error:
        why = " ".join(str(error).split())[:200]
        raise UserError(f"model.{modality}=hf:{name} ({config.model_type}) cannot be built: {why}") from None


def read_config(modality: str, name: str) -> Any:
    """The configuration of the tower for a modality. Raises UserError if there is none."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(name, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        why = " ".join(str(error).split())[:150]
        raise UserError(
            f"model.{modality}=hf:{name} is neither a folder with a config.json nor in the cache ({why}): give a "
            f"folder that save_pretrained wrote, or fetch it first with `hf download {name}`"
        ) from None
    _check_size(config, f"model.{modality}=hf:{name}")
    if modality == "audio":
        if config.model_type in RAW_SOUND:
            raise UserError(
                f"model.audio=hf:{name} ({config.model_type}) needs samples or other features, not a spectrogram: give "
                "an AST, CLAP or image model"
            )
        return getattr(config, "audio_config", config)
    if config.model_type == "pe_audio_video" or config.model_type == "pe_video":
        return getattr(config, "video_config", config)
    return getattr(config, "vision_config", config)


def _check_size(config: Any, option: str) -> None:
    """Raise UserError for a configuration with more layers than any network has; building it would not end."""
    for part in (config, *(getattr(config, f"{x}_config", None) for x in ("vision", "audio", "video"))):
        depths = getattr(part, "depths", None)
        layers = getattr(part, "num_hidden_layers", 0) if part is not None else 0
        total = sum(depths) if isinstance(depths, list) else layers
        if isinstance(total, int) and max(total, layers if isinstance(layers, int) else 0) > MAX_LAYERS:
            raise UserError(f"{option} claims to have {total} layers, more than {MAX_LAYERS}: check its config.json")


def clip(modality: str, name: str) -> dict[str, Any]:
    """The clip that a model was trained with, from its configuration and its preprocessor's."""
    config, about = read_config(modality, name), _preprocessor(name)
    if modality == "audio":
        return AUDIO_CLIPS[config.model_type](config, about) if config.model_type in AUDIO_CLIPS else {}
    found: dict[str, Any] = dict(IMAGE_CLIP)
    frames = getattr(config, "frames_per_clip", None) or getattr(config, "num_frames", None)
    if config.model_type in RATES and frames:
        found = {"frames": int(frames), "fps": RATES[config.model_type]}
    crop = _side(about.get("crop_size")) or getattr(config, "crop_size", None) or getattr(config, "image_size", None)
    crop = _side(crop)
    if crop:
        side = max(crop, _side(about.get("size")) or crop)
        found |= {"crop": crop, "short_side_min": side, "short_side_max": round(LARGER * side), "short_side_eval": side}
    for option, key in (("mean", "image_mean"), ("std", "image_std")):
        if isinstance(about.get(key), list) and len(about[key]) == 3:
            found[option] = about[key]
    return found


def _side(size: Any) -> int:
    """A side in the notations of image processors: 224, [224, 224], {"shortest_edge": 224}, {"height": 224, …}."""
    if isinstance(size, dict):
        size = size.get("shortest_edge") or size.get("height")
    if isinstance(size, list | tuple):
        size = size[0] if size else 0
    return int(size) if isinstance(size, int | float) and size > 0 else 0


def _preprocessor(name: str) -> dict[str, Any]:
    """The contents of a model's preprocessor_config.json, or of video_preprocessor_config.json; empty without one."""
    for file in ("preprocessor_config.json", "video_preprocessor_config.json"):
        path: Any = Path(name) / file
        if not Path(name).is_dir():
            from huggingface_hub import try_to_load_from_cache

            path = try_to_load_from_cache(name, file)
        if isinstance(path, str | Path) and Path(path).is_file():
            content = read_json(Path(path))
            return content if isinstance(content, dict) else {}
    return {}


def _ast_clip(config: Any, about: dict[str, Any]) -> dict[str, Any]:
    mean, std = about.get("mean", -4.2677393), about.get("std", 4.5689974)
    return {
        "audio_rate": about.get("sampling_rate", 16000), "audio_seconds": config.max_length / 100,
        "spectrogram": "kaldi", "mels": config.num_mel_bins, "window_ms": 25, "hop_ms": 10,
        "audio_mean": mean, "audio_std": 2 * std,
    }  # fmt: skip


def _clap_clip(config: Any, about: dict[str, Any]) -> dict[str, Any]:
    rate = about.get("sampling_rate", 48000)
    window, hop = about.get("fft_window_size", 1024), about.get("hop_length", 480)
    return {
        "audio_rate": rate, "audio_seconds": about.get("max_length_s", 10), "spectrogram": "logfbank",
        "mels": config.num_mel_bins, "window_ms": 1000 * window / rate, "hop_ms": 1000 * hop / rate,
        "audio_mean": 13.863, "audio_std": 0.23026,
    }  # fmt: skip


AUDIO_CLIPS: dict[str, Callable[[Any, dict[str, Any]], dict[str, Any]]] = {
    "audio-spectrogram-transformer": _ast_clip, "clap_audio_model": _clap_clip,
}  # fmt: skip
"""The spectrograms of each type of audio tower. CLAP's decibels are natural logarithms times 10 / ln 10; the mean
compensates that `logfbank` scales samples to 16 bits and divides the power by its 1,024 points."""
