"""`avssl export`: write an encoder to a file for other tools, checked against the encoder."""

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..clips.transform import clip_shape
from ..config import EvaluateConfig, ExportConfig
from ..config.check_options import check_export
from ..core.atomic import atomic_path, write_json, write_text
from ..core.errors import UserError
from ..core.screen import Console
from ..core.version import __version__
from ..models import MultiStream
from ..models.audio import BandStatistics
from ..models.encoder import is_trainable
from .model_card import model_card
from .open import Source, open_source, run_of
from .stored import refuse_table

SUFFIX = {"onnx": ".onnx", "torch_export": ".pt2", "safetensors": ".safetensors"}
BATCHES = (1, 3)
"""Sizes of the batches that check a file. The file is made with a batch of two."""

OURS = ("avssl.models.video", "avssl.models.audio")
"""The modules of encoders that every format supports."""

OF_MODALITY = {
    "video": ("frames", "fps", "short_side_min", "crop", "mean", "std"),
    "audio": ("audio_rate", "audio_seconds", "spectrogram", "mels", "window_ms", "hop_ms", "audio_mean", "audio_std"),
}  # fmt: skip


PassFeatures = Callable[[torch.Tensor], list[np.ndarray]]
"""The type of a function that runs the exported file: clips → outputs."""


class Exported(nn.Module):
    """An encoder with its adapter and, with `heads`, its cluster heads.

    It maps clips [B, …] to features [B, D], and logits [B, H, K].
    """

    def __init__(self, model: MultiStream, modality: str, heads: bool):
        super().__init__()
        self.encoder = model.encoders[modality]
        self.adapter = model.adapters[modality] if modality in model.adapters else None  # noqa: SIM401
        self.norm = model.norms[modality] if heads and modality in model.norms else None
        self.heads = model.cluster_head(modality) if heads else None

    def forward(self, clip: torch.Tensor) -> tuple[torch.Tensor, ...]:
        features = self.encoder(clip)
        if self.adapter is not None:
            features = self.adapter(features)
        if self.heads is None:
            return (features,)
        logits = self.heads(features if self.norm is None else self.norm(features))
        return features, logits.transpose(0, 1)

    def weights(self) -> dict[str, torch.Tensor]:
        """The weights: an encoder without other parts keeps its own names, else they are under `encoder.`, `adapter.`,
        `norm.` and `heads.`."""
        return self.weighted().state_dict()

    def weighted(self) -> nn.Module:
        """The module whose weights to write."""
        return self.encoder if self.heads is None and self.adapter is None else self


def run(config: ExportConfig) -> Path:
    """Export an encoder, compare the file's outputs with the encoder's, and return the file.

    Raises:
        UserError: the model has no such encoder or no heads, a package is missing, or the outputs differ by more than
            `tolerance`. In that case no file is left.
    """
    check_export(config)
    source = open_source(EvaluateConfig(run=config.run, checkpoint=config.checkpoint, trust=config.trust))
    refuse_table(source, "be exported")
    module, clip = _module(source, config)
    path = _place(config)
    about = _about(source, config, module, clip)
    with atomic_path(path, sweep=True) as temporary:
        try:
            with quiet_exporters(), torch.no_grad():
                exported = _written(module, clip, temporary, about, config)
                about["max_difference"] = worst = _compare(module, clip, exported, config)
        finally:
            _sweep(temporary)
    write_json(path.with_name(path.name + ".json"), about)
    card = _write_card(config, path)
    console, size = Console(highlight=False, soft_wrap=True), path.stat().st_size / 1e6
    scale = about["outputs"]["features"]["largest"]
    console.print(
        f"{config.modality} encoder of {source.name}: the file's outputs differ from the encoder's by at most "
        f"{worst:.1e} (largest output {scale:.3g}), in batches of {' and '.join(map(str, BATCHES))}",
        markup=False,
    )
    console.print(f"file    {path} ({size:.1f} MB)\nabout   {path}.json{card}", markup=False)
    if licence := source.licences.get(config.modality):
        console.print(f"licence of the weights, or of those that they started from: {licence}", markup=False)
    return path


def _write_card(config: ExportConfig, path: Path) -> str:
    """Write the model card of the run beside the file. Returns the words that name it; none for published weights."""
    run = Path(config.run) if config.run else run_of(config.checkpoint)
    if run is None:
        return ""
    card = path.with_name(f"{path.name}.md")
    write_text(card, model_card(run))
    return f"\ncard    {card}"


def _written(
    module: Exported, clip: torch.Tensor, path: Path, about: dict[str, Any], config: ExportConfig
) -> PassFeatures:
    """Write the file. Raises UserError if torch cannot export another's encoder, which may contain any code."""
    try:
        return WRITERS[config.format](module, clip, path, about)
    except Exception as error:
        if type(module.encoder).__module__.startswith(OURS):
            raise
        why = " ".join(str(error).split())[:200]
        other = "" if config.format == "safetensors" else ": format=safetensors writes only its weights"
        raise UserError(
            f"the {config.modality} encoder cannot be exported as {config.format}{other} ({type(error).__name__}: "
            f"{why})"
        ) from None


def _module(source: Source, config: ExportConfig) -> tuple[Exported, torch.Tensor]:
    """The module to export, in evaluation mode, and a batch of noise clips [2, …]."""
    model, c = source.model, source.clip
    assert model is not None
    if config.modality not in model.encoders:
        raise UserError(f"{source.name} has no {config.modality} encoder: it has {' and '.join(model.encoders)}")
    encoder = model.encoders[config.modality]
    if not is_trainable(encoder) and not isinstance(encoder, BandStatistics):
        raise UserError(f"the {config.modality} encoder of {source.name} is already an ONNX file: copy that file")
    if config.heads and model.sharing == "concat":
        raise UserError(
            f"the heads of {source.name} need both modalities at once (labelling.sharing=concat): set heads=false"
        )
    if config.heads and not model.clusters:
        raise UserError(f"{source.name} has no cluster heads: set heads=false")
    clip = torch.randn(2, *clip_shape(c, config.modality), generator=torch.Generator().manual_seed(0))
    return Exported(model, config.modality, config.heads).float().eval(), clip


def _place(config: ExportConfig) -> Path:
    if config.out:
        return Path(config.out)
    name = config.modality + SUFFIX[config.format]
    if config.run:
        return Path(config.run) / "export" / name
    return (run_of(config.checkpoint) or Path()) / "export" / f"{Path(config.checkpoint).stem}_{name}"


def _about(source: Source, config: ExportConfig, module: Exported, clip: torch.Tensor) -> dict[str, Any]:
    """A description of the file for users without this project: inputs, outputs, clips, source."""
    with torch.no_grad():
        outputs = module(clip)
    named = zip(("features", "logits"), outputs, strict=False)
    options = asdict(source.clip)
    # of each head, by modality: joint labels are argmax of the sum of weight times log softmax
    weights = source.model.modality_weights if source.model is not None and config.heads else None
    options["short_side_min"] = source.clip.short_side_eval or source.clip.short_side_min
    licence = source.licences.get(config.modality)
    return {
        "avssl": __version__, "source": source.name, "step": source.step, "format": config.format,
        "encoder": type(module.encoder).__name__,
        "input": {"name": config.modality, "shape": ["batch", *clip.shape[1:]], "dtype": "float32"},
        "outputs": {
            name: {"shape": ["batch", *x.shape[1:]], "largest": float(x.abs().max())} for name, x in named
        },
        "clip": {key: options[key] for key in OF_MODALITY[config.modality]},
        **({"licence": licence} if licence else {}),
        **({"modality_weights": {name: x.tolist() for name, x in weights.items()}} if weights else {}),
    }  # fmt: skip


def _onnx(module: Exported, clip: torch.Tensor, path: Path, about: dict[str, Any]) -> PassFeatures:
    import onnx
    import onnxruntime

    name, outputs = about["input"]["name"], list(about["outputs"])
    torch.onnx.export(
        module, (clip,), str(path), dynamo=True, input_names=[name], output_names=outputs, verbose=False,
        dynamic_shapes={"clip": {0: torch.export.Dim("batch")}}, external_data=False,
    )  # fmt: skip
    made = onnx.load(str(path))
    onnx.helper.set_model_props(made, {"avssl": json.dumps(about)})
    onnx.save(made, str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda x: session.run(outputs, {name: x.numpy()})


def _torch_export(module: Exported, clip: torch.Tensor, path: Path, about: dict[str, Any]) -> PassFeatures:
    made = torch.export.export(module, (clip,), dynamic_shapes={"clip": {0: torch.export.Dim("batch")}})
    torch.export.save(made, path, extra_files={"avssl.json": json.dumps(about)})
    loaded = torch.export.load(path).module()
    return lambda x: [y.numpy() for y in loaded(x)]


def _safetensors(module: Exported, clip: torch.Tensor, path: Path, about: dict[str, Any]) -> PassFeatures:
    from copy import deepcopy

    from safetensors.torch import load_file, save

    whole = {key: value.contiguous().clone() for key, value in module.weights().items()}
    path.write_bytes(
        save(whole, metadata={"avssl": json.dumps(about)})
    )  # safetensors' save_file writes files that only the owner can read
    empty = deepcopy(module)
    for value in empty.weights().values():
        value.zero_()
    empty.weighted().load_state_dict(load_file(str(path)))
    return lambda x: [y.numpy() for y in empty(x)]


WRITERS: dict[str, Callable[[Exported, torch.Tensor, Path, dict[str, Any]], PassFeatures]] = {
    "onnx": _onnx, "torch_export": _torch_export, "safetensors": _safetensors,
}  # fmt: skip


def _compare(module: Exported, clip: torch.Tensor, exported: PassFeatures, config: ExportConfig) -> float:
    """The largest difference between the file's outputs and the encoder's. Raises UserError above `tolerance`."""
    worst = 0.0
    for number, size in enumerate(BATCHES, 1):
        x = torch.randn(size, *clip.shape[1:], generator=torch.Generator().manual_seed(number))
        for expected, output in zip(module(x), exported(x), strict=True):
            difference = float(np.abs(expected.numpy() - output).max())
            worst = max(worst, difference)
            allowed = config.tolerance * float(expected.abs().max())
            if not difference <= allowed:
                raise UserError(
                    f"the file's outputs differ by {difference:.2g} from the encoder's, more than tolerance="
                    f"{config.tolerance:g} times the largest output: no file was written"
                )
    return worst


def _sweep(temporary: Path) -> None:
    """Remove files that an exporter left beside the exported one."""
    for path in temporary.parent.glob(f"{temporary.name}.*"):
        path.unlink()


@contextmanager
def quiet_exporters() -> Iterator[None]:
    """Silence the exporters' warnings and log lines, which do not help users; failures are still raised."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
