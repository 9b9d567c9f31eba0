"""Published weights: their key names, mapped to ours. Nothing is fetched here."""

import re
from pathlib import Path

import torch

from ..config import ModelConfig
from ..errors import UserError
from .two_stream import TwoStream, build_two_stream


def published_heads(state: dict[str, torch.Tensor]) -> int:
    """How many heads a published SeLaVi state dict has. UserError where it is not one."""
    found = {int(m[1]) for key in state if (m := re.match(r"mlp_v(\d+)\.block_forward\.8\.weight$", key))}
    if not found or found != set(range(len(found))):
        raise UserError("not a published SeLaVi checkpoint: no keys mlp_v0.block_forward.8.weight, mlp_v1…")
    return len(found)


def convert_selavi(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A published SeLaVi state dict (keys may start with `module.`) under our names; heads are stacked.

    Raises UserError for a dict that is something else.
    """
    state = {key.removeprefix("module."): value for key, value in state.items()}
    heads = published_heads(state)
    ours: dict[str, torch.Tensor] = {}
    for key, value in state.items():
        for theirs, new in (("video_network.base.", "video.base."), ("audio_network.base.", "audio.base.")):
            if key.startswith(theirs) and ".fc." not in key:
                ours[new + key.removeprefix(theirs)] = value
    for modality, new in (("v", "head_video"), ("a", "head_audio")):

        def stacked(part: str, modality: str = modality) -> list[torch.Tensor]:
            return [state[f"mlp_{modality}{h}.block_forward.{part}"] for h in range(heads)]

        ours[f"{new}.hidden.weight"] = torch.stack(stacked("2.weight"))
        for name in ("weight", "bias", "running_mean", "running_var"):
            ours[f"{new}.norm.{name}"] = torch.cat(stacked(f"4.{name}"))
        ours[f"{new}.norm.num_batches_tracked"] = stacked("4.num_batches_tracked")[0]
        ours[f"{new}.out.weight"] = torch.stack(stacked("8.weight"))
        ours[f"{new}.out.bias"] = torch.stack(stacked("8.bias"))
    return ours


def load_selavi(path: str | Path) -> TwoStream:
    """The model of a published SeLaVi checkpoint file: a dict with "model", read with `weights_only=True`."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"no checkpoint {path}") from None
    except Exception as error:  # pickle, zip and version errors share no base class
        raise UserError(f"{path} is not a checkpoint that can be loaded safely: {str(error).splitlines()[0]}") from None
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("model"), dict):
        raise UserError(f'{path} has no "model": a published checkpoint is a dict with "model" and "epoch"')
    state = convert_selavi(checkpoint["model"])
    heads, clusters = state["head_video.out.weight"].shape[:2]
    model = build_two_stream(
        ModelConfig(video="r2plus1d_18", audio="resnet9", hidden=512), clusters, heads, sharing="per_modality"
    )
    model.load_state_dict(state)
    return model.eval()
