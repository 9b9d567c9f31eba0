"""A detector as ONNX, kept only if its outputs are those of torch."""

import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..core.atomic import atomic_path
from ..core.errors import UserError
from ..runs.export import quiet_exporters
from .detector import Detector

FILE = "detector.onnx"

TOLERANCE = 1e-3
"""Largest difference of a score, and of a corner as a fraction of the picture."""

OPSET = 17

NAMES = ["boxes", "scores", "labels"]


class _Single(nn.Module):
    """A detector of one picture: float32 [3, h, w] in [0, 1] → boxes [n, 4] (px), scores [n], labels [n]."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        output = self.model([picture])[0]
        return output["boxes"], output["scores"], output["labels"]


def write_onnx(detector: Detector, picture: np.ndarray, path: Path) -> float:
    """Write a detector as ONNX, and return the largest difference of its outputs from torch's.

    Args:
        detector: the detector, on the CPU.
        picture: uint8 [h, w, 3], with which the outputs are compared. The file has this size of pictures.
        path: the file.

    Raises:
        UserError: the detector cannot be exported, or its outputs differ. In that case no file is left.
    """
    import onnx
    import onnxruntime

    module = _Single(detector.model).eval()
    x = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1).float() / 255
    about = {"side": detector.side, "size": list(picture.shape[:2]), "categories": detector.categories,
             "titles": detector.titles, "detector": detector.kind, **detector.about}  # fmt: skip
    with atomic_path(path, sweep=True) as temporary, quiet_exporters(), torch.no_grad():
        expected = [v.numpy() for v in module(x)]
        try:
            torch.onnx.export(
                module, (x,), str(temporary), dynamo=False, opset_version=OPSET, input_names=["picture"],
                output_names=NAMES, dynamic_axes={n: [0] for n in NAMES},
            )  # fmt: skip
        except Exception as error:
            why = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise UserError(f"the detector cannot be exported as ONNX with this torch: {why}") from None
        made = onnx.load(str(temporary))
        onnx.helper.set_model_props(made, {"avssl": json.dumps(about)})
        onnx.save(made, str(temporary))
        session = onnxruntime.InferenceSession(str(temporary), providers=["CPUExecutionProvider"])
        found = session.run(NAMES, {"picture": x.numpy()})
        return _difference(expected, found, max(picture.shape[:2]))


def _difference(expected: list[np.ndarray], found: list[np.ndarray], size: int) -> float:
    """The largest difference. Raises UserError if the outputs are not the same objects."""
    if len(expected[0]) != len(found[0]):
        raise UserError(
            f"the ONNX file finds {len(found[0])} objects where torch finds {len(expected[0])}: no file was written"
        )
    if not len(expected[0]):
        return 0.0
    worst = max(float(np.abs(expected[0] - found[0]).max()) / size, float(np.abs(expected[1] - found[1]).max()))
    if worst > TOLERANCE or (expected[2] != found[2]).any():
        raise UserError(f"the outputs of the ONNX file differ from torch's by {worst:.2g}: no file was written")
    return worst
