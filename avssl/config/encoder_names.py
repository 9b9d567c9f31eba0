"""The names of encoders that `model.video` and `model.audio` accept, checked without torch."""

import os
import re
from importlib.machinery import PathFinder
from importlib.util import find_spec
from typing import Any

from ..core.errors import UserError
from .option import nearest, shown

OURS = {
    "video": ("r2plus1d_18", "r2plus1d_34", "tiny", "efficientnet_lite0"),
    "audio": ("resnet9", "resnet18", "tiny", "efficientnet_lite0", "statistics"),
}
"""Our own encoders by modality. efficientnet_lite0 encodes images, and videos frame by frame; statistics has no
weights."""

STATISTICS = "statistics"
"""The audio encoder without weights, which computes statistics of the mel bands."""

OF_IMAGES = ("efficientnet_lite0",)
"""Our encoders of single frames."""

LIBRARIES = {"torchvision": "torchvision", "timm": "timm", "hf": "transformers", "onnx": "onnxruntime"}
"""The package that each prefix of an encoder's name needs."""

EXTRAS = {"timm": "timm", "transformers": "transformers", "onnxruntime": "export"}
"""The extra of avssl that installs each optional package."""

OWN = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*"
"""A user's own encoder: package.module:callable."""

TABLE = "table"
"""The prefix of a width of features, which a run on a table of features records in place of an encoder's name."""

FOREIGN = (
    rf"table:[1-9]\d{{0,6}}|torchvision:[a-z0-9_]+|timm:[A-Za-z0-9_.\-]+|(hf|onnx):[^\0\n]+"
    rf"|(?!(?:table|torchvision|timm|hf|onnx):){OWN}"
)
"""Matches every encoder name except ours."""

IMAGE_CLIP: dict[str, Any] = {"frames": 8, "fps": 8.0}
"""The clips of image networks, which accept any number of frames."""

OUR_CLIPS: dict[tuple[str, str], dict[str, Any]] = {
    ("video", "efficientnet_lite0"): {
        **IMAGE_CLIP, "crop": 224, "short_side_min": 256, "short_side_max": 320, "short_side_eval": 256,
        "mean": [0.5] * 3, "std": [0.5] * 3,
    },
    ("audio", STATISTICS): {
        "audio_rate": 24000, "spectrogram": "logmel", "mels": 64, "window_ms": 40.0, "hop_ms": 10.0,
    },
}  # fmt: skip
"""The clips of our own encoders that need particular ones: as their published weights were trained, or 64 bands."""


def learns(name: str) -> bool:
    """Whether the encoder has weights that can be trained. Another library's may turn out to have none once built."""
    return name != STATISTICS and not name.startswith(("onnx:", f"{TABLE}:"))


def is_own(name: str) -> bool:
    """Whether the encoder is the user's own code."""
    prefix = name.partition(":")[0]
    return ":" in name and prefix not in LIBRARIES and prefix != TABLE


def check_encoder_name(option: str, name: str) -> None:
    """Check that the package, the file or the module of an encoder exists. No module is imported.

    Args:
        option: the option that names the encoder, for messages.
        name: a name that matches `FOREIGN`, or one of ours.

    Raises:
        UserError: it does not exist; the message names the fix.
    """
    prefix, _, rest = name.partition(":")
    if not rest or prefix == TABLE:
        return
    if prefix not in LIBRARIES:
        _check_module(option, name, prefix)
        return
    package = LIBRARIES[prefix]
    if find_spec(package) is None:
        raise UserError(f"{option}={shown(name)} needs {package}: pip install 'avssl[{EXTRAS[package]}]'")
    if prefix == "onnx" and not os.path.isfile(rest):
        raise UserError(
            f"{option}={shown(name)}: the file {shown(rest, 200)} does not exist: give the path of an ONNX file"
        )
    if prefix == "hf" and os.path.isdir(rest) and not os.path.isfile(os.path.join(rest, "config.json")):
        raise UserError(
            f"{option}={shown(name)}: the folder has no config.json: give a folder that save_pretrained wrote"
        )
    if prefix == "hf" and not os.path.isdir(rest) and not re.fullmatch(r"[\w.\-]+(/[\w.\-]+)?", rest):
        raise UserError(
            f"{option}={shown(name)}: the folder does not exist: give a folder that save_pretrained wrote, or the id "
            "of a model in the cache"
        )


def _check_module(option: str, name: str, module: str) -> None:
    first = module.partition(".")[0]
    if PathFinder.find_spec(first, [os.getcwd()]) is None and find_spec(first) is None:
        raise UserError(
            f"{option}={shown(name)}: there is no module {first} in the working folder or installed"
            f"{nearest(first, [*LIBRARIES])} (write your own encoder as package.module:callable, and run the "
            f"command in the folder of {first}.py, or install it)"
        )
