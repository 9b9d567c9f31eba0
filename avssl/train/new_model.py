"""The untrained model of a run, and the parts of its encoders that are not trained."""

import torch

from ..clips.transform import clip_shape
from ..config import TrainConfig
from ..models import MultiStream
from ..models.encoder import channels_last, check_encoder, is_trainable
from ..objectives.build import build_model

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
    return model


def compile_encoders(model: MultiStream) -> None:
    """Compile the encoders, not the heads and losses, which take little time.

    Training batches have one shape, and those of small clips another. Without `dynamic=False`, the batches of a
    labelling pass, which have a third, would make the compiler give up these shapes for training too. Each shape is
    compiled; after eight, new ones are not.
    """
    for encoder in model.encoders.values():
        encoder.compile(dynamic=False)


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
    run wait for the gradient of every trained weight. `maps`: modalities whose feature maps are used too."""
    for modality, encoder in model.encoders.items():
        weights = [p for p in encoder.parameters() if p.requires_grad]
        if ":" not in getattr(config.model, modality) or not weights:
            continue
        training = encoder.training
        clip = torch.randn(1, *clip_shape(config.clip, modality), generator=torch.Generator().manual_seed(0))
        with torch.random.fork_rng([]), torch.enable_grad():
            encoder.eval()
            outputs = model.encode_with_maps({modality: clip.to(weights[0].device)}, maps)
            total = torch.stack([x.float().sum() for part in outputs for x in part.values()]).sum()
            gradients = torch.autograd.grad(total, weights, allow_unused=True)
        encoder.train(training)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.requires_grad_(gradient is not None)
