"""An ONNX file as a frozen encoder, run by onnxruntime."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..core.errors import UserError
from .encoder import RANK, ShortRepr, clip_options
from .frame_by_frame import of_images

FORMS = {"video": "[B, 3, T, H, W], or images [B, 3, H, W]", "audio": "[B, 1, M, F]"}


def build(modality: str, path: str, pooling: str) -> nn.Module:
    """The frozen encoder in an ONNX file; an image network encodes videos frame by frame.

    Raises:
        UserError: the file is damaged, has several inputs, or an input or output of unexpected shape.
    """
    network = OnnxNetwork(modality, path)
    if modality == "video" and network.rank == 4:
        return of_images(network, modality, pooling, network.clip)
    return network


def clip(modality: str, path: str) -> dict[str, Any]:
    """The clip that `avssl export` recorded in the file, or else the sizes that the file fixes."""
    return OnnxNetwork(modality, path).clip


class OnnxNetwork(ShortRepr, nn.Module):
    """A frozen encoder: clips float [B, …] → [B, dim]. If the file's first output is a map, it is averaged.

    The file's SHA-256 is in the state dict, so that a checkpoint does not load with another file.
    """

    trainable = False
    sha256: torch.Tensor

    def __init__(self, modality: str, path: str):
        super().__init__()
        self.option, self.path = f"model.{modality}=onnx:{path}", path
        self._start()
        inputs, output = self.session.get_inputs(), self.session.get_outputs()[0]
        if len(inputs) != 1 or inputs[0].type != "tensor(float)":
            found = ", ".join(f"{x.name} {x.type}" for x in inputs)
            raise UserError(f"{self.option} has the inputs {found}: give a file with a single input, float32 clips")
        self.input, shape = inputs[0].name, inputs[0].shape
        self.rank = len(shape)
        ranks = (5, 4) if modality == "video" else (RANK.get(modality, 5),)
        channels = 3 if modality == "video" else 1
        if self.rank not in ranks or (isinstance(shape[1], int) and shape[1] != channels):
            raise UserError(f"{self.option} needs an input {shape}: give a file with the input {FORMS.get(modality)}")
        if shape[0] not in (1, None) and not isinstance(shape[0], str):
            raise UserError(f"{self.option} accepts only batches of {shape[0]}: export it for any batch size, or for 1")
        self.single = shape[0] == 1
        self.dim = self._dim(output.shape, shape)
        self.clip = self._clip(modality, shape)
        digest = hashlib.sha256(Path(path).read_bytes()).digest()
        self.register_buffer("sha256", torch.tensor([*digest], dtype=torch.uint8))

    def _start(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self.session = onnxruntime.InferenceSession(self.path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors share no base class
            why = " ".join(str(error).split())[:200]
            raise UserError(f"onnxruntime cannot open {self.option}: {why}") from None

    def _dim(self, output: list[Any], shape: list[Any]) -> int:
        if len(output) >= 2 and isinstance(output[1], int):
            return output[1]
        sizes = [x if isinstance(x, int) else n for x, n in zip(shape, (1, 3, 8, 224, 224), strict=False)]
        return int(self._run(np.zeros(sizes, np.float32)).shape[1])  # the file does not state its width

    def _clip(self, modality: str, shape: list[Any]) -> dict[str, Any]:
        about = self.session.get_modelmeta().custom_metadata_map.get("avssl", "{}")
        try:
            described = json.loads(about).get("clip", {})
            found = {name: value for name, value in described.items() if name in clip_options[modality]}
        except (ValueError, AttributeError, RecursionError):
            found = {}
        if modality == "video" and isinstance(shape[-1], int):
            found.setdefault("crop", shape[-1])
        if modality == "video" and self.rank == 5 and isinstance(shape[2], int):
            found.setdefault("frames", shape[2])
        return found

    def _run(self, x: np.ndarray) -> np.ndarray:
        try:
            return np.asarray(self.session.run(None, {self.input: x})[0])
        except Exception as error:
            why = " ".join(str(error).split())[:200]
            raise UserError(f"{self.option} cannot encode a clip of shape {list(x.shape[1:])}: {why}") from None

    @torch.compiler.disable
    @torch.no_grad()
    def _output(self, x: torch.Tensor) -> torch.Tensor:
        array = x.detach().float().cpu().contiguous().numpy()
        parts = [self._run(item[None]) for item in array] if self.single else [self._run(array)]
        return torch.from_numpy(np.concatenate(parts)).to(x.device)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self._output(x)
        return y.flatten(2).mean(2) if y.ndim > 2 else y

    def with_map(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features [B, dim] and the map; a file without a map gives the features as a map of one position."""
        y = self._output(x)
        if y.ndim == 2:
            return y, y.reshape(*y.shape, *[1] * (x.ndim - 2))
        return y.flatten(2).mean(2), y

    def feature_map(self, x: torch.Tensor) -> torch.Tensor:
        """The file's map, [B, dim, …]."""
        return self.with_map(x)[1]

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        saved = state.get(f"{prefix}sha256")
        if isinstance(saved, torch.Tensor) and not torch.equal(saved.cpu(), self.sha256.cpu()):
            raise UserError(f"{self.option} is not the file that the run was trained with: give that file")
        super()._load_from_state_dict(state, prefix, *rest)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "session"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._start()
