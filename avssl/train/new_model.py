"""The untrained model of a run, and the parts of its encoders that are not trained."""

from collections.abc import Container

import torch

from ..clips.transform import clip_shape
from ..config import TrainConfig
from ..core.errors import UserError
from ..models import MultiStream
from ..models.encoder import channels_last, check_encoder, encode_with_map, has_map, is_trainable, map_width
from ..objectives.build import OBJECTIVES, build_model
from .check_localisation import WITH_MAPS

SAME_SIZE = "it encodes clips of one size alone, so set crops.small_side=1 crops.small_time=1, or omit crops.small"


def new_model(config: TrainConfig, device: torch.device) -> MultiStream:
    """The untrained model of a run, in the fastest memory format; its frozen encoders are frozen."""
    torch.manual_seed(config.seed)
    model = build_model(config).to(device)
    model.freeze(name for name, x in model.encoders.items() if name in config.model.freeze or not is_trainable(x))
    for encoder in model.encoders.values():
        channels_last(encoder)
    if not config.data.features:
        check_foreign(config, model)
        check_maps(config, model)
    return model


def check_maps(config: TrainConfig, model: MultiStream) -> None:
    """Check the feature maps that objectives need, with a clip of zeros.

    Raises:
        UserError: an encoder has no map, or one of a single position, or of other channels than it says; or the window
            of localisation is larger than the map.
    """
    for modality in {name for objective in config.objectives for name in OBJECTIVES[objective].maps}:
        encoder, option = model.encoders[modality], f"model.{modality}={getattr(config.model, modality)}"
        if not has_map(encoder):
            raise UserError(f"{option} has no feature_map, in which sounds could be located: choose {WITH_MAPS}")
        training, device = encoder.training, next((p.device for p in encoder.parameters()), torch.device("cpu"))
        encoder.eval()
        with torch.no_grad():
            found = encode_with_map(encoder, torch.zeros(1, *clip_shape(config.clip, modality), device=device))[1]
        encoder.train(training)
        if found.shape[1] != map_width(encoder):
            raise UserError(
                f"{option}: feature_map returns {found.shape[1]} channels, but dim is {map_width(encoder)}: set "
                f"self.map_dim={found.shape[1]} in the encoder"
            )
        if found.shape[-1] * found.shape[-2] < 2:
            raise UserError(
                f"{option} has a map of a single position for frames of {config.clip.crop} px, so that nothing could "
                f"be located: raise clip.crop, lower model.video_stride, or choose {WITH_MAPS}"
            )
        if modality == "video":
            check_window(config, *found.shape[-2:])


def check_window(config: TrainConfig, high: int, wide: int) -> None:
    """Raise UserError for a window of localisation that reaches beyond the map wherever it is: what lies outside is
    zero, so that all similarities would be small."""
    options, largest = config.localisation, min(high, wide)
    if "localisation" in config.objectives and options.form == "max" and options.window > largest:
        fix = f"localisation.window={largest - (largest + 1) % 2}"
        raise UserError(
            f"localisation.window={options.window} is larger than the map of {wide} × {high} positions that "
            f"model.video={config.model.video} has of frames of {config.clip.crop} px: set {fix} or less, raise "
            "clip.crop, or lower model.video_stride"
        )


def compile_encoders(model: MultiStream, maps: Container[str] = ()) -> None:
    """Compile the encoders, not the heads and losses, which take little time.

    Training batches have one shape, and those of small clips another. Without `dynamic=False`, the batches of a
    labelling pass, which have a third, would make the compiler give up these shapes for training too. Each shape is
    compiled; after eight, new ones are not. `maps`: the modalities that are encoded together with their maps.
    """
    for name, encoder in model.encoders.items():
        encoder.compile(dynamic=False)
        if name in maps and hasattr(encoder, "with_map"):
            encoder.with_map = torch.compile(encoder.with_map, dynamic=False)  # type: ignore[assignment,arg-type]


def check_foreign(config: TrainConfig, model: MultiStream) -> None:
    """Encode a clip of noise with each encoder that is not ours, and a small one if the run has small clips.

    Raises:
        UserError: an encoder violates the contract.
    """
    for modality, encoder in model.encoders.items():
        if ":" in (name := getattr(config.model, modality)):
            check_encoder(encoder, modality, name, clip_shape(config.clip, modality))
            if config.crops.small:
                shape = clip_shape(config.crops.clip(config.clip), modality)
                check_encoder(encoder, modality, name, shape, SAME_SIZE)


def freeze_unused(config: TrainConfig, model: MultiStream, maps: set[str]) -> None:
    """Freeze weights of others' encoders that no feature depends on, such as a mask token, because the processes of a
    run wait for the gradient of every trained weight. `maps`: modalities whose feature maps are used too, or alone."""
    pooled = any(OBJECTIVES[name].pooled for name in config.objectives)
    for modality, encoder in model.encoders.items():
        weights = [p for p in encoder.parameters() if p.requires_grad]
        if ":" not in getattr(config.model, modality) or not weights:
            continue
        training = encoder.training
        clip = torch.randn(1, *clip_shape(config.clip, modality), generator=torch.Generator().manual_seed(0))
        with torch.random.fork_rng([]), torch.enable_grad():
            encoder.eval()
            features, found = model.encode_with_maps({modality: clip.to(weights[0].device)}, maps)
            outputs = (features, found) if pooled or not found else (found,)
            total = torch.stack([x.float().sum() for part in outputs for x in part.values()]).sum()
            gradients = torch.autograd.grad(total, weights, allow_unused=True)
        encoder.train(training)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.requires_grad_(gradient is not None)
