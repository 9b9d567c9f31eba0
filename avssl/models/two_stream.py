"""The two encoders and their cluster heads."""

import torch
from torch import nn

from ..config import ModelConfig
from .audio import build_audio
from .heads import MLPHeads
from .video import build_video


class TwoStream(nn.Module):
    """Video and sound encoders with H cluster heads of K outputs (spec: SeLaVi §3).

    `shared`: one head serves both modalities, after a batch norm of each modality's features of its own (the two
    encoders' features differ in scale, and the head would otherwise tell the modality first). `per_modality`: a head
    each, fed with the features as they are (the published recipe).
    """

    def __init__(self, video: nn.Module, audio: nn.Module, head_video: MLPHeads, head_audio: MLPHeads | None):
        super().__init__()
        self.video, self.audio = video, audio
        self.head_video, self.head_audio = head_video, head_audio
        if head_audio is None:
            self.norm_video = nn.BatchNorm1d(head_video.inputs, affine=False)
            self.norm_audio = nn.BatchNorm1d(head_video.inputs, affine=False)

    def features(self, video: torch.Tensor, spectrogram: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """float [B, 3, T, H, W], [B, 1, M, F] → features [B, D] of each modality."""
        return self.video(video), self.audio(spectrogram)

    def logits(self, video: torch.Tensor, audio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features [B, D] of each modality → cluster logits [H, B, K] of each."""
        if self.head_audio is not None:
            return self.head_video(video), self.head_audio(audio)
        # in one pass, so that the head's batch norm sees in training the mixture that its running statistics describe
        both = self.head_video(torch.cat([self.norm_video(video), self.norm_audio(audio)]))
        return both[:, : len(video)], both[:, len(video) :]

    def forward(self, video: torch.Tensor, spectrogram: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.logits(*self.features(video, spectrogram))


def build_two_stream(config: ModelConfig, clusters: int, heads: int = 1, sharing: str = "shared") -> TwoStream:
    """A model as configured. `sharing` is `shared` or `per_modality`."""
    video, audio = build_video(config.video), build_audio(config.audio)
    if sharing == "shared" and video.dim != audio.dim:
        raise ValueError(f"a shared head needs encoders of one width, not {video.dim} and {audio.dim}")

    def head(dim: int) -> MLPHeads:
        return MLPHeads(dim, config.hidden, clusters, heads, config.dropout)

    return TwoStream(video, audio, head(video.dim), head(audio.dim) if sharing == "per_modality" else None)
