"""Load published weights: their keys are mapped to the names of our models. Nothing is downloaded here."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..config import ModelConfig
from ..core.errors import UserError
from ..core.tensors import load_tensors
from .build import build_multi_stream
from .multi_stream import MultiStream

State = dict[str, torch.Tensor]
ENCODERS = {"video_network.base.": "encoders.video.base.", "audio_network.base.": "encoders.audio.base."}
MLP = {"2.weight": "hidden.weight", "8.weight": "out.weight", "8.bias": "out.bias"}
NORM = ("weight", "bias", "running_mean", "running_var")


def published_heads(state: Mapping[str, torch.Tensor]) -> int:
    """The number of heads in a published SeLaVi state dict. Raises UserError for another state dict."""
    heads = {int(m[1]) for key in state if (m := re.match(r"mlp_v(\d+)\.block_forward\.8\.weight$", key))}
    if not heads or heads != set(range(len(heads))):
        raise UserError(
            "this is not a published SeLaVi checkpoint: it lacks the keys mlp_v0.block_forward.8.weight, mlp_v1…"
        )
    return len(heads)


def convert_selavi(state: State) -> State:
    """A published SeLaVi state dict (keys may start with `module.`) under our names, with stacked heads.

    Raises:
        UserError: it is another state dict.
    """
    state = _plain(state)
    heads = published_heads(state)
    ours = _encoders(state)
    for modality, new in (("v", "heads.labelling.video"), ("a", "heads.labelling.audio")):
        ours |= _heads(state, [f"mlp_{modality}{h}" for h in range(heads)], new)
    return ours


def convert_gdt(state: State) -> State:
    """A published GDT state dict (keys may start with `module.`) under our names: encoders and projections.

    Raises:
        UserError: it is another state dict.
    """
    state = _plain(state)
    projected = [m for m in ("v", "a") if f"mlp_{m}.block_forward.8.weight" in state]
    if "v" not in projected:
        raise UserError("this is not a published GDT checkpoint: it lacks the key mlp_v.block_forward.8.weight")
    ours = _encoders(state)
    for modality in projected:
        ours |= _heads(state, [f"mlp_{modality}"], {"v": "heads.contrast.video", "a": "heads.contrast.audio"}[modality])
    return ours


def _plain(state: State) -> State:
    return {key.removeprefix("module."): value for key, value in state.items()}


def _encoders(state: State) -> State:
    return {
        new + key.removeprefix(theirs): value
        for key, value in state.items()
        for theirs, new in ENCODERS.items()
        if key.startswith(theirs) and ".fc." not in key
    }


def _heads(state: State, names: list[str], new: str) -> State:
    """Several published MLPs as one stacked MLP of ours."""
    first = f"{names[0]}.block_forward.4.num_batches_tracked"
    ours = {f"{new}.norm.num_batches_tracked": state[first]}
    for theirs, part in MLP.items():
        ours[f"{new}.{part}"] = torch.stack([state[f"{name}.block_forward.{theirs}"] for name in names])
    for part in NORM:
        ours[f"{new}.norm.{part}"] = torch.cat([state[f"{name}.block_forward.4.{part}"] for name in names])
    return ours


def _convert_torchvision(state: State) -> State:
    return {f"encoders.video.base.{key}": value for key, value in state.items() if not key.startswith("fc.")}


def build_for(ours: State) -> MultiStream:
    """A model with the parts and weights of a state dict under our names, in evaluation mode.

    Raises:
        UserError: the weights do not fit a model.
    """
    deep = "encoders.video.base.layer3.5.conv1.0.0.weight" in ours  # R(2+1)D-34
    wide = "encoders.audio.base.layer1.1.conv1.weight" in ours  # ResNet-18
    config = ModelConfig(
        video="r2plus1d_34" if deep else "r2plus1d_18", audio="resnet18" if wide else "resnet9", hidden=512
    )
    head, projected = (f"heads.{name}.video.out.weight" for name in ("labelling", "contrast"))
    heads, clusters = ours[head].shape[:2] if head in ours else (1, 0)
    projection = ours[projected].shape[1] if projected in ours else 0
    modalities = [m for m in ("video", "audio") if any(key.startswith(f"encoders.{m}.") for key in ours)]
    model = build_multi_stream(config, clusters, heads, "per_modality", projection, modalities)
    try:
        model.load_state_dict(ours)
    except RuntimeError as error:
        raise UserError(f"the checkpoint's weights do not fit: {' '.join(str(error).split())[:200]}") from None
    return model.eval()


def load_published(path: str | Path) -> tuple[str, MultiStream]:
    """Load a published checkpoint file, with `weights_only=True`.

    Returns:
        The family (`selavi`, `gdt`, or `torchvision` for R(2+1)D trained on the classes of Kinetics) and the model.

    Raises:
        UserError: the file is missing, damaged, or belongs to another family.
    """
    checkpoint = _load(path)
    with _fitting(path):
        if "stem.0.weight" in checkpoint and "fc.weight" in checkpoint:
            return "torchvision", build_for(_convert_torchvision(_weights(checkpoint, path)))
        state = _model_of(checkpoint, path)
        plain = _plain(state)
        if "mlp_v.block_forward.8.weight" in plain:
            return "gdt", build_for(convert_gdt(state))
        if "mlp_v0.block_forward.8.weight" in plain:
            return "selavi", build_for(convert_selavi(state))
    raise UserError(f"{path} is not a checkpoint of SeLaVi, GDT or torchvision's R(2+1)D: its keys match none of them")


def published_state(path: str | Path) -> State:
    """The weights of a published checkpoint's encoders, heads and projections, under its own names without `module.`.

    Other entries, such as another modality's encoder or the optimiser, are left out.
    """
    plain = _plain(_model_of(_load(path), path))
    return {key: value for key, value in plain.items() if key.startswith((*ENCODERS, "mlp_v", "mlp_a"))}


@contextmanager
def _fitting(path: str | Path) -> Iterator[None]:
    """Turn errors about missing weights or wrong shapes into a UserError that names the file."""
    try:
        yield
    except (KeyError, RuntimeError, ValueError, IndexError, TypeError) as error:
        raise UserError(f"{path}: its weights do not fit the model ({' '.join(str(error).split())[:200]})") from None


def _load(path: str | Path) -> dict[str, Any]:
    try:
        content = load_tensors(path, legacy=True)
    except FileNotFoundError:
        raise UserError(f"the checkpoint {path} does not exist") from None
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UserError(f"{path} contains no state dict")
    return content


def _model_of(checkpoint: dict[str, Any], path: str | Path) -> State:
    if not isinstance(checkpoint.get("model"), dict):
        raise UserError(f'{path} has no "model": a published checkpoint is a dict with "model" and "epoch"')
    return _weights(checkpoint["model"], path)


def _weights(state: dict[str, Any], path: str | Path) -> State:
    """Check that `state` contains tensors by name. Raises UserError for any other entry."""
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor) or value.is_complex() or not value.numel():
            raise UserError(f"{path}: {key!r} of its model is not a weight")
    return state
