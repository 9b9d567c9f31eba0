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
"""Our own encoders by modality; efficientnet_lite0 encodes images, and videos frame by frame; statistics has no
weights."""

STATISTICS = "statistics"
"""The audio encoder that computes statistics of the mel bands."""

OF_IMAGES = ("efficientnet_lite0",)
"""Those of ours that encode a video's frames one by one."""

LIBRARIES = {"torchvision": "torchvision", "timm": "timm", "hf": "transformers", "onnx": "onnxruntime"}
"""The package that each prefix of a name needs."""

EXTRAS = {"timm": "timm", "transformers": "transformers", "onnxruntime": "export"}
"""The extra of avssl that installs each optional package."""

OWN = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*"
"""A user's own encoder: package.module:callable."""

TABLE = "table"
"""The prefix of the width of features in a table, in the place of an encoder; a run on a table notes it."""

FOREIGN = (
    rf"table:[1-9]\d{{0,6}}|torchvision:[a-z0-9_]+|timm:[A-Za-z0-9_.\-]+|(hf|onnx):[^\0\n]+"
    rf"|(?!(?:table|torchvision|timm|hf|onnx):){OWN}"
)
"""Every name but ours."""

IMAGE_CLIP: dict[str, Any] = {"frames": 8, "fps": 8.0}
"""The clips of image networks, which take any number of frames."""

OUR_CLIPS: dict[tuple[str, str], dict[str, Any]] = {
    ("video", "efficientnet_lite0"): {
        **IMAGE_CLIP, "crop": 224, "short_side_min": 256, "short_side_max": 320, "short_side_eval": 256,
        "mean": [0.5] * 3, "std": [0.5] * 3,
    },
    ("audio", STATISTICS): {
        "audio_rate": 24000, "spectrogram": "logmel", "mels": 64, "window_ms": 40.0, "hop_ms": 10.0,
    },
}  # fmt: skip
"""The clips of our own encoders that do not take any: those that published weights were trained with, and 64 bands."""


def learns(name: str) -> bool:
    """Has the encoder weights that can be trained? Another's may turn out to have none when it is built."""
    return name != STATISTICS and not name.startswith(("onnx:", f"{TABLE}:"))


def is_own(name: str) -> bool:
    """Is the encoder the user's own, code that is imported?"""
    prefix = name.partition(":")[0]
    return ":" in name and prefix not in LIBRARIES and prefix != TABLE


def check_encoder_name(option: str, name: str) -> None:
    """Check that the package, the file or the module of an encoder is there. No module is imported.

    Args:
        option: the option that names the encoder, for messages.
        name: a name that matches `FOREIGN`, or one of ours.

    Raises:
        UserError: it is not there, in one line with the fix.
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
        raise UserError(f"{option}={shown(name)}: there is no file {shown(rest, 200)}: give the path of an ONNX file")
    if prefix == "hf" and os.path.isdir(rest) and not os.path.isfile(os.path.join(rest, "config.json")):
        raise UserError(f"{option}={shown(name)}: the folder has no config.json: give one that save_pretrained wrote")
    if prefix == "hf" and not os.path.isdir(rest) and not re.fullmatch(r"[\w.\-]+(/[\w.\-]+)?", rest):
        raise UserError(
            f"{option}={shown(name)}: there is no such folder: give a folder that save_pretrained wrote, or the id of "
            "a model in the cache"
        )


def _check_module(option: str, name: str, module: str) -> None:
    first = module.partition(".")[0]
    if PathFinder.find_spec(first, [os.getcwd()]) is None and find_spec(first) is None:
        raise UserError(
            f"{option}={shown(name)}: no module {first} in the working directory or installed"
            f"{nearest(first, [*LIBRARIES])} (your own encoder is package.module:callable: run the command beside "
            f"{first}.py, or install it)"
        )
