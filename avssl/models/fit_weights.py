"""Fit the weights of a file to an encoder, by name below any prefix and by shape. Every key is accounted for."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn import functional as F

State = dict[str, torch.Tensor]

STREAMS = {name: (f"encoders.{name}.", f"{name}_network.", f"{name}.") for name in ("video", "audio")}
"""Prefixes of a modality's encoder in files of several modalities: ours, the published ones, and our oldest."""

RENAMES: dict[str, list[tuple[str, str]]] = {
    "as it is": [],
    "a ResNet's as a video ResNet's": [
        (r"^conv1\.", "stem.0."), (r"^bn1\.", "stem.1."), (r"^(layer\d\.\d+\.conv\d)\.", r"\1.0."),
        (r"^(layer\d\.\d+)\.bn(\d)\.", r"\1.conv\2.1."),
    ],
}  # fmt: skip
"""Ways to rename keys. All are tried; the one that loads the most weights is used."""

CLASSIFIER = re.compile(r"(^|\.)(_?fc|classifier|heads?|head_dist|last_linear|logits|predictions)\.")
"""Keys of layers that predict the classes of the training data."""

POSITIONS = re.compile(r"pos_?embed|position_embedding|pos_emb")

MIN_SHARE = 0.3
"""A prefix is tried if at least this fraction of the keys have it."""


@dataclass
class Fit:
    """What happened to every key. Names are the file's in `left`, the encoder's elsewhere."""

    loaded: dict[str, str] = field(default_factory=dict)
    """The name in the file, by the encoder's name."""
    left: dict[str, str] = field(default_factory=dict)
    """Why a tensor is not used, by the file's name: classifier, other part, other shape, unknown."""
    missing: list[str] = field(default_factory=list)
    """Names of the encoder that the file lacks."""
    changed: dict[str, str] = field(default_factory=dict)
    """How a tensor was changed to fit."""
    share: float = 0.0
    """Fraction of the encoder's parameters that were loaded."""

    def counts(self) -> str:
        """The counts in words: "260 of 262 tensors", and what happened to the others."""
        why = ", ".join(f"{number} {reason}" for reason, number in Counter(self.left.values()).items())
        reasons = {*self.left.values()}
        text = f"{len(self.left)} left" + (f" ({reasons.pop() if len(reasons) == 1 else why})" if self.left else "")
        return f"{text}, {len(self.missing)} missing" + (f", {len(self.changed)} changed" if self.changed else "")


def fit(encoder: nn.Module, state: State, modality: str) -> tuple[State, Fit]:
    """The weights of a file under an encoder's names and in its shapes. Neither input is changed.

    Two-dimensional convolutions are inflated to three dimensions: repeated over time and divided by its length
    (Carreira & Zisserman 2017). For a spectrogram, a first convolution over three colours is summed over them.

    Args:
        encoder: the encoder, for names and shapes.
        state: the tensors of the file by name.
        modality: the encoder's modality; a file of several modalities has keys for each.
    """
    wanted = encoder.state_dict()
    own, prefix = _stream(state, modality)
    best: dict[str, str] = {}
    best_score = -1
    for rename in RENAMES.values():
        renamed = {key: _renamed(key.removeprefix(prefix), rename) for key in own}
        for matched in _matches(renamed, wanted):
            score = sum(wanted[name].numel() for name, key in matched.items() if _fits(state[key], wanted[name]))
            if score > best_score:
                best, best_score = matched, score
    result, weights = Fit(), {}
    for name, key in best.items():
        adapted = _adapt(state[key], wanted[name], name, wanted)
        if adapted is None:
            result.left[key] = "other shape"
            continue
        weights[name], how = adapted
        result.loaded[name] = key
        if how:
            result.changed[name] = f"{how}: {[*state[key].shape]} to {[*wanted[name].shape]}"
    used = {*result.loaded.values()}
    for key in state:
        if key not in used and key not in result.left:
            result.left[key] = _reason(key, key in own)
    result.missing = [name for name in wanted if name not in weights]
    parameters = {name: p.numel() for name, p in encoder.named_parameters()}
    loaded = sum(number for name, number in parameters.items() if name in weights)
    result.share = loaded / max(1, sum(parameters.values()))
    return weights, result


def _stream(state: State, modality: str) -> tuple[set[str], str]:
    """The keys of a modality in a file of several modalities, with their prefix; else all keys."""
    bare = {key: key.removeprefix("module.") for key in state}
    for number, prefix in enumerate(STREAMS[modality]):
        if any(key.startswith(tuple(x[number] for x in STREAMS.values())) for key in bare.values()):
            module = "module." if any(key.startswith(f"module.{prefix}") for key in state) else ""
            return {key for key, short in bare.items() if short.startswith(prefix)}, module + prefix
    return {*state}, ""


def _renamed(key: str, rename: list[tuple[str, str]]) -> str:
    for pattern, replacement in rename:
        key = re.sub(pattern, replacement, key)
    return key


def _matches(renamed: dict[str, str], wanted: State) -> list[dict[str, str]]:
    """For each pair of prefixes, of the file and of the encoder, the file's key by the encoder's name."""
    matches = []
    for theirs in _prefixes(renamed.values()):
        short = {name.removeprefix(theirs): key for key, name in renamed.items() if name.startswith(theirs)}
        for ours in _prefixes(wanted):
            found = {ours + name: key for name, key in short.items() if ours + name in wanted}
            if found:
                matches.append(found)
    return matches


def _prefixes(names: Iterable[str]) -> list[str]:
    """The prefixes, of up to four parts, that many names share; the empty one first."""
    counted: Counter[str] = Counter()
    total = 0
    for name in names:
        total += 1
        parts = name.split(".")[:-1]
        for end in range(1, min(len(parts), 4) + 1):
            counted[".".join(parts[:end]) + "."] += 1
    return ["", *(prefix for prefix, number in counted.items() if number >= MIN_SHARE * total)]


def _reason(key: str, of_modality: bool) -> str:
    if not of_modality:
        return "other part"
    return "classifier" if CLASSIFIER.search(key) else "unknown"


def _fits(value: torch.Tensor, target: torch.Tensor) -> bool:
    return value.shape == target.shape or _convolution(value.shape, target.shape) is not None


def _convolution(shape: torch.Size, target: torch.Size) -> str | None:
    """How a convolution's weights of one shape are changed to another shape; None if that is impossible."""
    inflate = len(shape) == 4 and len(target) == 5 and shape[2:] == target[3:]
    if len(shape) not in (4, 5) or not (inflate or shape[2:] == target[2:]) or shape[0] != target[0]:
        return None
    if shape[1] != target[1] and (shape[1], target[1]) != (3, 1):
        return None
    how = ["inflated over time"] if inflate else []
    how += ["summed over colours"] if shape[1] != target[1] else []
    return " and ".join(how)


def _adapt(value: torch.Tensor, target: torch.Tensor, name: str, wanted: State) -> tuple[torch.Tensor, str] | None:
    """A tensor in the shape and type of `target`, and how it was changed; None if it does not fit."""
    if value.is_floating_point() != target.is_floating_point():
        return None
    if value.shape == target.shape:
        return value.to(target.dtype), ""
    how = _convolution(value.shape, target.shape)
    if how is None:
        return _positions(value, target, wanted) if POSITIONS.search(name) else None
    value = value.to(torch.float32)
    if "colours" in how:
        value = value.sum(1, keepdim=True)
    if "inflated" in how:
        frames = target.shape[2]
        value = value.unsqueeze(2).expand(target.shape) / frames
    return value.to(target.dtype), how


def _positions(value: torch.Tensor, target: torch.Tensor, wanted: State) -> tuple[torch.Tensor, str] | None:
    """Embeddings [1, N, D] of a square of positions, resized; a class token may come first."""
    if value.ndim != 3 or target.ndim != 3 or value.shape[::2] != target.shape[::2] or value.shape[0] != 1:
        return None
    tokens = sum(re.search(r"(cls|class)_?token$", name) is not None for name in wanted)
    sides = [round((x.shape[1] - tokens) ** 0.5) for x in (value, target)]
    if any(side**2 + tokens != x.shape[1] for side, x in zip(sides, (value, target), strict=True)):
        return None
    grid = value[:, tokens:].float().reshape(1, sides[0], sides[0], -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(sides[1], sides[1]), mode="bicubic", align_corners=False, antialias=True)
    grid = grid.permute(0, 2, 3, 1).reshape(1, sides[1] ** 2, -1)
    return torch.cat([value[:, :tokens].float(), grid], 1).to(target.dtype), "interpolated"
