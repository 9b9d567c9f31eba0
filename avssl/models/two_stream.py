"""The two encoders, their cluster heads and their projections."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from ..config import ModelConfig
from .audio import build_audio
from .heads import MLPHeads
from .video import build_video

ByModality = dict[str, torch.Tensor]
"""A tensor for each modality, "video" and "audio", in this order."""


class TwoStream(nn.Module):
    """Video and sound encoders, with H cluster heads of K outputs (SeLaVi §3), projections for contrast (GDT §3), or
    both.

    `shared`: one head serves both modalities, after a batch norm of each modality's features of its own (the two
    encoders' features differ in scale, and the head would otherwise tell the modality first). `per_modality`: a head
    each, fed with the features as they are (the published recipe). `concat`: one head over both, so normed and side by
    side, a baseline that labels no single modality. A part that is not needed is None.
    """

    def __init__(
        self,
        video: nn.Module | None,
        audio: nn.Module | None,
        head_video: MLPHeads | None = None,
        head_audio: MLPHeads | None = None,
        projection_video: MLPHeads | None = None,
        projection_audio: MLPHeads | None = None,
        sharing: str = "shared",
    ):
        super().__init__()
        self.video, self.audio = video, audio
        self.head_video, self.head_audio = head_video, head_audio
        self.projection_video, self.projection_audio = projection_video, projection_audio
        self.sharing = sharing
        if head_video is not None and sharing != "per_modality":
            for name, encoder in self.encoders.items():
                setattr(self, f"norm_{name}", nn.BatchNorm1d(int(encoder.dim), affine=False))  # type: ignore[arg-type]

    @property
    def encoders(self) -> dict[str, nn.Module]:
        """The encoders there are, by modality."""
        return {name: part for name, part in (("video", self.video), ("audio", self.audio)) if part is not None}

    @property
    def clusters(self) -> int:
        """K, the outputs of a cluster head; 0 where there is none."""
        head = self.head_video if self.head_video is not None else self.head_audio
        return 0 if head is None else head.out.weight.shape[1]

    def encode(self, clips: ByModality) -> ByModality:
        """Video float [B, 3, T, H, W] and spectrograms [B, 1, M, F], as far as they are encoded → features [B, D]."""
        return {name: encoder(clips[name]) for name, encoder in self.encoders.items() if name in clips}

    def features(self, video: torch.Tensor, spectrogram: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """float [B, 3, T, H, W], [B, 1, M, F] → features [B, D] of each modality."""
        found = self.encode({"video": video, "audio": spectrogram})
        return found["video"], found["audio"]

    def cluster(self, features: ByModality) -> ByModality:
        """Features [B, D] by modality → cluster logits [H, B, K]."""
        return self._through_heads(features, lambda head, x: head(x))

    def cluster_by(self, head: int, features: ByModality) -> ByModality:
        """Features [B, D] by modality → the logits [B, K] of one head, as in evaluation."""
        return self._through_heads(features, lambda heads, x: heads.one(x, head))

    def _through_heads(
        self, features: ByModality, through: Callable[[MLPHeads, torch.Tensor], torch.Tensor]
    ) -> ByModality:
        assert self.head_video is not None or self.head_audio is not None
        if self.sharing == "per_modality":
            return {name: through(getattr(self, f"head_{name}"), x) for name, x in features.items()}
        head = self.head_video
        assert head is not None
        normed = [getattr(self, f"norm_{name}")(x) for name, x in features.items()]
        if self.sharing == "concat":
            return dict.fromkeys(features, through(head, torch.cat(normed, 1)))
        # in one pass, so that the head's batch norm sees in training the mixture that its running statistics describe
        parts = through(head, torch.cat(normed)).split([len(x) for x in normed], dim=-2)
        return dict(zip(features, parts, strict=True))

    def logits(self, video: torch.Tensor, audio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features [B, D] of each modality → cluster logits [H, B, K] of each."""
        found = self.cluster({"video": video, "audio": audio})
        return found["video"], found["audio"]

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

    `sharing` is `shared`, `per_modality` or `concat`. Only the encoders of `modalities` are built.
    """
    video = build_video(config.video) if "video" in modalities else None
    audio = build_audio(config.audio) if "audio" in modalities else None
    if clusters and sharing == "shared" and video and audio and video.dim != audio.dim:
        raise ValueError(f"a shared head needs encoders of one width, not {video.dim} and {audio.dim}")

    def mlp(dim: int, outputs: int, number: int = 1) -> MLPHeads | None:
        return MLPHeads(dim, config.hidden, outputs, number, config.dropout) if dim and outputs else None

    video_dim, audio_dim = video.dim if video else 0, audio.dim if audio else 0
    head_audio = None
    if sharing == "per_modality":
        head_video, head_audio = mlp(video_dim, clusters, heads), mlp(audio_dim, clusters, heads)
    else:
        head_video = mlp(video_dim + audio_dim if sharing == "concat" else video_dim or audio_dim, clusters, heads)
    return TwoStream(
        video, audio, head_video, head_audio, mlp(video_dim, projection), mlp(audio_dim, projection), sharing
    )
