"""The contract of an encoder, and its check.

An encoder is a module with `dim: int` whose `forward(x)` returns features [B, dim]. `x` is video, float
[B, 3, T, H, W], or spectrograms, float [B, 1, M, F]. An encoder may also have:

- `feature_map(x)`: the features before pooling, [B, C, T', H', W'], or [B, C, F', T'] for spectrograms;
- `map_dim`: C, if it is not `dim`;
- `with_map(x)`: features and map from one pass, if that is cheaper than two;
- `clip`: the options of clips that it was trained with, by the names in `clip_options`;
- `trainable = False`: its weights cannot be trained.
"""

import math
from collections.abc import Mapping
from typing import Any, NoReturn

import torch
from torch import nn

from ..core.errors import UserError

clip_options = {
    "video": ("frames", "fps", "crop", "short_side_min", "short_side_max", "short_side_eval", "mean", "std"),
    "audio": (
        "audio_rate", "audio_seconds", "spectrogram", "mels", "window_ms", "hop_ms", "audio_mean", "audio_std",
    ),
}  # fmt: skip
"""The options of clips that an encoder's `clip` may contain, by modality; `mean` and `std` are three numbers each."""

MAX_DIM = 1 << 20
"""Largest width of an encoder's features; a head of ten clusters on these takes 40 MB."""

RANK = {"video": 5, "audio": 4}
"""Number of dimensions of an encoder's input, and of its map, by modality."""


class ShortRepr:
    """A base of encoders, whose `repr` is a line: the class, the width of the features, and the number of weights."""

    def __repr__(self) -> str:
        weights = sum(p.numel() for p in self.parameters())  # type: ignore[attr-defined]
        number = f"{weights / 1e6:.1f} M" if weights >= 1e5 else f"{weights:,}"
        return f"{type(self).__name__}(dim={getattr(self, 'dim', '?')}, {number} weights)"


def has_map(encoder: nn.Module) -> bool:
    """Whether the encoder provides a feature map."""
    return callable(getattr(encoder, "feature_map", None))


def map_width(encoder: nn.Module) -> int:
    """The number of channels of the encoder's feature map."""
    return int(getattr(encoder, "map_dim", None) or encoder.dim)  # type: ignore[arg-type]


def is_trainable(encoder: nn.Module) -> bool:
    """Whether the encoder's weights can be trained."""
    return bool(getattr(encoder, "trainable", True))


def encode_with_map(encoder: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Features [B, dim] and the feature map [B, C, …] of clips, in one pass if the encoder supports it."""
    if callable(both := getattr(encoder, "with_map", None)):
        return both(x)
    return encoder(x), encoder.feature_map(x)  # type: ignore[operator]


def channels_last(module: nn.Module) -> nn.Module:
    """Store the weights of convolutions with channels last, in place, which saves a fifth of the time, also on CPUs."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for part in module.modules():
        for weight in part.parameters(recurse=False):
            if weight.ndim in formats:
                weight.data = weight.data.contiguous(memory_format=formats[weight.ndim])
    return module


def check_contract(encoder: Any, option: str, name: str) -> nn.Module:
    """Check the contract without a forward pass, and return the encoder.

    Args:
        encoder: the object to check.
        option: the option that names it, such as model.video.
        name: its name, for messages.

    Raises:
        UserError: it is not a module, contains itself, has no `dim`, or an invalid `clip` or `trainable`.
    """
    if not isinstance(encoder, nn.Module):
        raise UserError(f"{option}={name} returns a {type(encoder).__name__}, not a torch.nn.Module: return an encoder")
    dim = getattr(encoder, "dim", None)
    if not isinstance(dim, int) or isinstance(dim, bool) or dim < 1:
        what = "has no `dim`" if dim is None else f"has dim={dim!r}"
        raise UserError(f"{option}={name} {what}: set self.dim to the width of its features, an integer of at least 1")
    if dim > MAX_DIM:
        raise UserError(f"{option}={name} has a dim above {MAX_DIM}: set self.dim to the width of its features")
    clip = getattr(encoder, "clip", {})
    if not isinstance(clip, Mapping):
        raise UserError(f"{option}={name} has a `clip` that is not a dictionary: write clip = {{'frames': 8, …}}")
    if not isinstance(trainable := getattr(encoder, "trainable", True), bool):
        raise UserError(f"{option}={name} has trainable={trainable!r}: set it to True or False, or omit it")
    try:
        encoder.train(encoder.training)
    except RecursionError:
        raise UserError(
            f"{option}={name} contains itself, or nests its modules too deep: keep a reference to a parent out of its "
            "modules"
        ) from None
    return encoder


def check_encoder(encoder: nn.Module, modality: str, name: str, shape: tuple[int, ...], fix: str = "") -> None:
    """Encode one clip of noise, and check the result.

    Args:
        encoder: it is in evaluation mode during the check; its mode is then restored.
        modality: "video" or "audio".
        name: the encoder's name, for messages.
        shape: shape of a clip, without the batch.
        fix: what to do if the encoder cannot encode it; empty: change the options of clips.

    Raises:
        UserError: the clip does not fit the encoder, or its features or its map violate the contract.
    """
    option, training = f"model.{modality}={name}", encoder.training
    device = next((p.device for p in encoder.parameters()), torch.device("cpu"))
    x = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0)).to(device)
    cuda = [device] if device.type == "cuda" else []
    encoder.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(cuda):
            features = _run(encoder, x, option, modality, fix)
            _check_features(features, int(encoder.dim), option)  # type: ignore[arg-type]
            if has_map(encoder):
                _check_map(_run(encoder.feature_map, x, option, modality, fix), option, modality)
                if callable(both := getattr(encoder, "with_map", None)):
                    _check_both(_run(both, x, option, modality, fix), int(encoder.dim), option, modality)  # type: ignore[arg-type]
    finally:
        encoder.train(training)


def _run(function: Any, x: torch.Tensor, option: str, modality: str, fix: str) -> Any:
    try:
        return function(x)
    except (UserError, KeyboardInterrupt):
        raise
    except BaseException as error:  # the code may be anything, and may call sys.exit
        _unfit(error, x, option, modality, fix)


def _unfit(error: BaseException, x: torch.Tensor, option: str, modality: str, fix: str) -> NoReturn:
    reason = " ".join(str(error).split())[:200] or "no reason given"
    options = "clip.frames, clip.crop" if modality == "video" else "clip.mels, clip.audio_seconds, clip.hop_ms"
    fix = fix or f"omit the clip options to use the encoder's own, or change {options}"
    raise UserError(
        f"{option} cannot encode a clip of shape {list(x.shape[1:])} ({type(error).__name__}: {reason}): {fix}"
    ) from None


def _check_features(features: Any, dim: int, option: str) -> None:
    if not isinstance(features, torch.Tensor):
        raise UserError(
            f"{option}: forward returns a {type(features).__name__}, not a tensor: return features [B, {dim}]"
        )
    if tuple(features.shape) != (1, dim):
        raise UserError(
            f"{option}: forward returns {list(features.shape)} for one clip, but dim={dim}: return [B, {dim}], or set "
            "dim to this width"
        )
    if features.dtype != torch.float32:
        raise UserError(
            f"{option}: forward returns {features.dtype}: return features in torch.float32, for example with .float()"
        )
    if not math.isfinite(features.float().abs().sum().item()):
        raise UserError(f"{option} returns NaN or infinite features for a clip of noise: check its weights")


def _check_map(maps: Any, option: str, modality: str) -> None:
    form = "[B, C, T', H', W']" if modality == "video" else "[B, C, F', T']"
    if not isinstance(maps, torch.Tensor) or maps.ndim != RANK[modality] or maps.shape[0] != 1:
        found = list(maps.shape) if isinstance(maps, torch.Tensor) else type(maps).__name__
        raise UserError(f"{option}: feature_map returns {found}: return {form}, or remove feature_map")


def _check_both(both: Any, dim: int, option: str, modality: str) -> None:
    if not isinstance(both, tuple | list) or len(both) != 2:
        raise UserError(
            f"{option}: with_map returns a {type(both).__name__}: return (forward(x), feature_map(x)), or remove "
            "with_map"
        )
    _check_features(both[0], dim, option)
    _check_map(both[1], option, modality)
