"""The two encoders, their cluster heads and their projections."""

from collections.abc import Sequence

import torch
from torch import nn

from ..config import ModelConfig
from .audio import build_audio
from .heads import MLPHeads
from .video import build_video


class TwoStream(nn.Module):
    """Video and sound encoders, with H cluster heads of K outputs (SeLaVi §3), projections for contrast (GDT §3), or
    both.

    `shared`: one head serves both modalities, after a batch norm of each modality's features of its own (the two
    encoders' features differ in scale, and the head would otherwise tell the modality first). `per_modality`: a head
    each, fed with the features as they are (the published recipe). A part that is not needed is None.
    """

    def __init__(
        self,
        video: nn.Module | None,
        audio: nn.Module | None,
        head_video: MLPHeads | None = None,
        head_audio: MLPHeads | None = None,
        projection_video: MLPHeads | None = None,
        projection_audio: MLPHeads | None = None,
    ):
        super().__init__()
        self.video, self.audio = video, audio
        self.head_video, self.head_audio = head_video, head_audio
        self.projection_video, self.projection_audio = projection_video, projection_audio
        if head_video is not None and head_audio is None:
            self.norm_video = nn.BatchNorm1d(head_video.inputs, affine=False)
            self.norm_audio = nn.BatchNorm1d(head_video.inputs, affine=False)

    def features(self, video: torch.Tensor, spectrogram: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """float [B, 3, T, H, W], [B, 1, M, F] → features [B, D] of each modality."""
        assert self.video is not None
        assert self.audio is not None
        return self.video(video), self.audio(spectrogram)

    def logits(self, video: torch.Tensor, audio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features [B, D] of each modality → cluster logits [H, B, K] of each."""
        assert self.head_video is not None
        if self.head_audio is not None:
            return self.head_video(video), self.head_audio(audio)
        # in one pass, so that the head's batch norm sees in training the mixture that its running statistics describe
        both = self.head_video(torch.cat([self.norm_video(video), self.norm_audio(audio)]))
        return both[:, : len(video)], both[:, len(video) :]

    def embed(self, features: torch.Tensor, modality: str) -> torch.Tensor:
        """Features [N, D] of "video" or "audio" → what contrast compares, float [N, P]; not of unit length."""
        projection = self.projection_video if modality == "video" else self.projection_audio
        assert projection is not None
        return projection(features)[0]

    def forward(self, video: torch.Tensor, spectrogram: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.logits(*self.features(video, spectrogram))


def build_two_stream(
    config: ModelConfig,
    clusters: int = 0,
    heads: int = 1,
    sharing: str = "shared",
    projection: int = 0,
    modalities: Sequence[str] = ("video", "audio"),
) -> TwoStream:
    """A model as configured: cluster heads where `clusters` > 0, projections of that width where `projection` > 0.

    `sharing` is `shared` or `per_modality`. Only the encoders of `modalities` are built.
    """
    video = build_video(config.video) if "video" in modalities else None
    audio = build_audio(config.audio) if "audio" in modalities else None
    if clusters and sharing == "shared" and video and audio and video.dim != audio.dim:
        raise ValueError(f"a shared head needs encoders of one width, not {video.dim} and {audio.dim}")

    def mlp(dim: int | None, outputs: int, number: int = 1) -> MLPHeads | None:
        return MLPHeads(dim, config.hidden, outputs, number, config.dropout) if dim and outputs else None

    video_dim, audio_dim = video.dim if video else None, audio.dim if audio else None
    head_video = mlp(video_dim, clusters, heads)
    head_audio = mlp(audio_dim, clusters, heads) if sharing == "per_modality" else None
    return TwoStream(video, audio, head_video, head_audio, mlp(video_dim, projection), mlp(audio_dim, projection))
