"""transformers' video, audio and image networks as encoders, by `model_type`."""

import inspect
import math
from typing import Any

import torch
import transformers
from torch import nn
from torch.nn import functional as F

from ..core.errors import UserError
from .encoder import ShortRepr


class TokenVideo(ShortRepr, nn.Module):
    """A video transformer: float [B, 3, T, H, W] → [B, dim].

    The features are the class token if there is one, else the mean of all tokens; the map is the tokens.
    """

    fixed = True
    """Whether the network accepts clips of only one size."""

    def __init__(self, config: Any):
        super().__init__()
        self.config, self.dim = config, int(config.hidden_size)
        self.base = self._base(config)

    def _base(self, config: Any) -> nn.Module:
        raise NotImplementedError

    def _tokens(self, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Frames [B, T, 3, H, W] → features [B, dim] and tokens [B, dim, T', H', W']."""
        raise NotImplementedError

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        return self.with_map(video)[0]

    def feature_map(self, video: torch.Tensor) -> torch.Tensor:
        """The tokens at their positions: [B, dim, T', H', W']."""
        return self.with_map(video)[1]

    def with_map(self, video: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features [B, dim] and the map."""
        if self.fixed:
            self._check(*video.shape[2:])
        return self._tokens(video.transpose(1, 2))

    def _check(self, frames: int, height: int, width: int) -> None:
        c = self.config
        side = getattr(c, "crop_size", None) or c.image_size
        side = side[0] if isinstance(side, list | tuple) else side
        wanted = getattr(c, "frames_per_clip", None) or c.num_frames
        if (height, width) != (side, side) or (frames != wanted and c.model_type != "vjepa2"):
            raise UserError(
                f"{c.model_type} needs clips of {wanted} frames of {side} px, not of {frames} of {height}: omit "
                f"clip.frames and clip.crop, or set clip.frames={wanted} clip.crop={side}"
            )


class VideoMAE(TokenVideo):
    """VideoMAE (Tong et al. 2022)."""

    def _base(self, config: Any) -> nn.Module:
        return transformers.VideoMAEModel(config)

    def _tokens(self, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        c = self.config
        x = self.base(pixel_values=frames).last_hidden_state.transpose(1, 2)
        time, side = frames.shape[1] // c.tubelet_size, frames.shape[-1] // c.patch_size
        return x.mean(2), x.unflatten(2, (time, side, side))


class VJepa2(TokenVideo):
    """The encoder of V-JEPA 2 (Assran et al. 2025); its predictor is left out."""

    def _base(self, config: Any) -> nn.Module:
        base = transformers.VJEPA2Model(config)
        del base.predictor
        return base

    def _tokens(self, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        c = self.config
        x = self.base.encoder(pixel_values_videos=frames).last_hidden_state.transpose(1, 2)  # type: ignore[union-attr,operator]
        side = frames.shape[-1] // c.patch_size
        return x.mean(2), x.unflatten(2, (-1, side, side))


class TimeSformer(TokenVideo):
    """TimeSformer (Bertasius et al. 2021). It interpolates its positions, so it accepts clips of any size."""

    fixed = False

    def _base(self, config: Any) -> nn.Module:
        return transformers.TimesformerModel(config)

    def _tokens(self, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.base(pixel_values=frames).last_hidden_state
        time, side = frames.shape[1], frames.shape[-1] // self.config.patch_size
        tokens = x[:, 1:].transpose(1, 2).unflatten(2, (side, side, time))  # patch by patch
        return x[:, 0], tokens.permute(0, 1, 4, 2, 3)


class Vivit(TokenVideo):
    """ViViT (Arnab et al. 2021)."""

    def _base(self, config: Any) -> nn.Module:
        return transformers.VivitModel(config, add_pooling_layer=False)

    def _tokens(self, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        t, h, w = self.config.tubelet_size
        x = self.base(pixel_values=frames).last_hidden_state
        size = (frames.shape[1] // t, frames.shape[-2] // h, frames.shape[-1] // w)
        return x[:, 0], x[:, 1:].transpose(1, 2).unflatten(2, size)


class PeVideo(TokenVideo):
    """The video tower of PE-AV: one token per frame, so its map has one position per frame."""

    fixed = False

    def _base(self, config: Any) -> nn.Module:
        return transformers.PeVideoEncoder(config)

    def _tokens(self, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.base(pixel_values_videos=frames.contiguous())
        return y.pooler_output, y.last_hidden_state.transpose(1, 2)[..., None, None]


class AST(ShortRepr, nn.Module):
    """The audio spectrogram transformer (Gong et al. 2021): float [B, 1, M, F] → [B, dim].

    A spectrogram with fewer frames than in its training is padded like its feature extractor does: with zeros before
        the
    normalisation.
    """

    def __init__(self, config: Any):
        super().__init__()
        self.config, self.dim = config, int(config.hidden_size)
        self.base = transformers.ASTModel(config)
        self.clip: dict[str, Any] = {}

    def forward(self, spectrogram: torch.Tensor) -> torch.Tensor:
        return self.with_map(spectrogram)[0]

    def feature_map(self, spectrogram: torch.Tensor) -> torch.Tensor:
        """The tokens at their positions: [B, dim, M', F']."""
        return self.with_map(spectrogram)[1]

    def with_map(self, spectrogram: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features [B, dim], the mean of the class and the distillation token, and the map."""
        c = self.config
        mels, frames = spectrogram.shape[2:]
        if mels != c.num_mel_bins or frames > c.max_length:
            raise UserError(
                f"AST needs {c.num_mel_bins} mel bands and at most {c.max_length} frames, not {mels} and {frames}: "
                f"omit clip.mels, clip.audio_seconds and clip.hop_ms, or set clip.mels={c.num_mel_bins} and a "
                "shorter clip.audio_seconds"
            )
        zero = -self.clip.get("audio_mean", 0.0) / self.clip.get("audio_std", 1.0)
        x = F.pad(spectrogram, (0, c.max_length - frames), value=zero)
        y = self.base(input_values=x[:, 0].transpose(1, 2))
        rows = (mels - c.patch_size) // c.frequency_stride + 1
        return y.pooler_output, y.last_hidden_state[:, 2:].transpose(1, 2).unflatten(2, (rows, -1))


class ClapAudio(ShortRepr, nn.Module):
    """CLAP's audio tower, an HTS-AT (Wu et al. 2023): float [B, 1, M, F] → [B, dim]."""

    def __init__(self, config: Any):
        super().__init__()
        self.config = config
        self.base = transformers.ClapAudioModel(config)
        self.dim = int(config.hidden_size)

    def forward(self, spectrogram: torch.Tensor) -> torch.Tensor:
        return self.with_map(spectrogram)[0]

    def feature_map(self, spectrogram: torch.Tensor) -> torch.Tensor:
        """The map before pooling: [B, dim, M', F']."""
        return self.with_map(spectrogram)[1]

    def with_map(self, spectrogram: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features [B, dim] and the map."""
        if spectrogram.shape[2] != self.config.num_mel_bins:
            raise UserError(
                f"CLAP needs {self.config.num_mel_bins} mel bands, not {spectrogram.shape[2]}: omit clip.mels, or "
                f"set clip.mels={self.config.num_mel_bins}"
            )
        longer = torch.zeros(spectrogram.shape[0], 1, device=spectrogram.device)
        y = self.base(input_features=spectrogram.transpose(2, 3), is_longer=longer)
        return y.pooler_output, y.last_hidden_state


class HfImage(ShortRepr, nn.Module):
    """An image network: float [N, channels, H, W] → [N, dim].

    The features are the network's pooled output unless that is an extra layer, else the class token, else the mean.
    """

    def __init__(self, config: Any):
        super().__init__()
        try:
            self.base = transformers.AutoModel.from_config(config, add_pooling_layer=False)
        except TypeError:
            self.base = transformers.AutoModel.from_config(config)
        sizes = getattr(config, "hidden_sizes", None)
        self.dim = int(sizes[-1] if sizes else config.hidden_size)
        patch = getattr(config, "patch_size", None)
        self.patch = patch[0] if isinstance(patch, list | tuple) else patch
        interpolates = "interpolate_pos_encoding" in inspect.signature(self.base.forward).parameters
        self.extra = {"interpolate_pos_encoding": True} if interpolates else {}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.with_map(images)[0]

    def with_map(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features [N, dim] and the map [N, C, h, w]."""
        x = self.base(pixel_values=images, **self.extra).last_hidden_state
        if x.ndim == 4:
            return x.mean((2, 3)), x
        height, width = images.shape[-2:]
        if self.patch and (height // self.patch) * (width // self.patch) <= x.shape[1]:
            rows, columns = height // self.patch, width // self.patch
        else:  # a pyramid: it has fewer positions than patches
            rows = round(math.sqrt(x.shape[1] * height / width))
            columns = x.shape[1] // rows
        first = x.shape[1] - rows * columns
        tokens = x[:, first:].transpose(1, 2).unflatten(2, (rows, columns))
        return (x[:, 0] if first else x.mean(1)), tokens


VIDEO: dict[str, type[TokenVideo]] = {
    "videomae": VideoMAE, "vjepa2": VJepa2, "timesformer": TimeSformer, "vivit": Vivit,
    "pe_video_encoder": PeVideo, "pe_video": PeVideo,
}  # fmt: skip
"""Video networks by the model type in their configuration."""

AUDIO: dict[str, type[nn.Module]] = {"audio-spectrogram-transformer": AST, "clap_audio_model": ClapAudio}
"""Audio networks by the model type in their configuration."""
