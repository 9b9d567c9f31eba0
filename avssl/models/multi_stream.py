"""The model: an encoder for each modality, and the heads of the objectives."""

from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from .encoder import encode_with_map
from .heads import MLPHeads
from .prototypes import PrototypeHead

ByModality = dict[str, torch.Tensor]
"""A tensor for each modality, such as "video" and "audio", in the order of the model's encoders."""

ClusterHead = MLPHeads | PrototypeHead
"""What maps features [B, D] to logits [H, B, K]; it has H as `heads` and K as `outputs`."""

CLUSTERING = "labelling", "distillation"
"""The objectives whose heads give clusters, the first of them that a model has."""

SHARED = "shared"
"""The name of a cluster head that all modalities share."""


class MultiStream(nn.Module):
    """An encoder for each modality, with H cluster heads of K outputs (SeLaVi §3), projections for contrast (GDT §3),
    or both.

    `sharing` decides which features the cluster heads get:

    - `shared`: one head for all modalities, after a batch norm for each. Features of different encoders differ in
      scale, so without the norms the head would mostly separate the modalities.
    - `per_modality`: a head for each modality, on its features without a norm (the published recipe).
    - `concat`: one head on the concatenated, normalised features, a baseline that cannot label from one modality.

    Args:
        encoders: encoders by modality; each has its width as `dim`.
        cluster_heads: cluster heads by modality, or under the name "shared" for `shared` and `concat`.
        projections: projections by modality.
        sharing: see above.
        adapters: by modality, what is between an encoder and the heads: a batch norm, a linear layer, both or none.
    """

    def __init__(
        self,
        encoders: Mapping[str, nn.Module],
        cluster_heads: Mapping[str, MLPHeads] | None = None,
        projections: Mapping[str, MLPHeads] | None = None,
        sharing: str = "shared",
        adapters: Mapping[str, nn.Module] | None = None,
    ):
        super().__init__()
        self.encoders = nn.ModuleDict(encoders)
        self.adapters = nn.ModuleDict(adapters or {})
        # one ModuleDict per objective
        self.heads = nn.ModuleDict(
            {
                name: nn.ModuleDict(heads)
                for name, heads in (("labelling", cluster_heads), ("contrast", projections))
                if heads
            }
        )
        self.sharing = sharing
        self.frozen: set[str] = set()
        """The modalities whose encoders are frozen, see `freeze`."""
        self.modality_weights: ByModality | None = None
        """Weight of each modality in the joint labels of each head, float32 [H]; None if all are equal. The run's
        labelling estimates it; it is not a parameter, and not in the state dict."""
        self._thawed: dict[str, list[nn.Parameter]] = {}  # the parameters to train once an encoder is no longer frozen
        normed = bool(cluster_heads) and sharing != "per_modality"
        self.norms = nn.ModuleDict(
            {name: nn.BatchNorm1d(dim, affine=False) for name, dim in self.widths.items()} if normed else {}
        )
        self.register_load_state_dict_pre_hook(_rename)

    @property
    def encoder_widths(self) -> dict[str, int]:
        """The width of each encoder's features, before its adapter."""
        return {name: int(encoder.dim) for name, encoder in self.encoders.items()}  # type: ignore[arg-type]

    @property
    def widths(self) -> dict[str, int]:
        """The width D of each modality's features after the adapter, as heads, labelling and memory get them."""
        layers = ((name, part) for name, adapter in self.adapters.items() for part in adapter.modules())
        return self.encoder_widths | {name: x.out_features for name, x in layers if isinstance(x, nn.Linear)}

    @property
    def cluster_heads(self) -> dict[str, ClusterHead]:
        """The cluster heads by modality, or the one called "shared"; empty if there are none.

        They are those of self-labelling, or else the prototype heads of distillation, which are by modality.
        """
        found = next((self.heads[name] for name in CLUSTERING if name in self.heads), None)
        return {} if found is None else dict(found.items())  # type: ignore[operator]

    @property
    def projections(self) -> dict[str, MLPHeads]:
        """The projections for contrast by modality; empty if there are none."""
        return dict(self.heads["contrast"].items()) if "contrast" in self.heads else {}  # type: ignore[operator]

    @property
    def cluster_head_count(self) -> int:
        """H, the number of cluster heads of each modality; 0 if there are none."""
        return next((heads.heads for heads in self.cluster_heads.values()), 0)

    @property
    def clusters(self) -> int:
        """K, the number of outputs of a cluster head; 0 if there is none."""
        return next((heads.outputs for heads in self.cluster_heads.values()), 0)

    def freeze(self, modalities: Iterable[str]) -> None:
        """Freeze exactly these encoders: no gradients, and evaluation mode even in training."""
        self.frozen = {*modalities}
        for name, encoder in self.encoders.items():
            if name in self.frozen and name not in self._thawed:
                self._thawed[name] = [p for p in encoder.parameters() if p.requires_grad]
                encoder.requires_grad_(False)
            elif name not in self.frozen:
                for parameter in self._thawed.pop(name, []):
                    parameter.requires_grad_(True)
        self.train(self.training)

    def train(self, mode: bool = True) -> "MultiStream":
        super().train(mode)
        for name in self.frozen:
            self.encoders[name].eval()
        return self

    def _gradients(self, modality: str) -> torch.set_grad_enabled:
        """A context without gradients for a frozen encoder."""
        return torch.set_grad_enabled(torch.is_grad_enabled() and modality not in self.frozen)

    def encode(self, clips: ByModality) -> ByModality:
        """Clips [B, …] by modality → features [B, D] of the modalities that have encoders."""
        return self.adapt(self.encode_raw(clips))

    def encode_raw(self, clips: ByModality) -> ByModality:
        """Clips [B, …] by modality → the encoders' own features [B, dim], before the adapters."""
        features = {}
        for name, encoder in self.encoders.items():
            if name in clips:
                with self._gradients(name):
                    features[name] = encoder(clips[name])
        return features

    def adapt(self, features: ByModality) -> ByModality:
        """The encoders' own features [B, dim] → features [B, D]."""
        return {name: self.adapters[name](x) if name in self.adapters else x for name, x in features.items()}

    def encode_with_maps(self, clips: ByModality, modalities: Container[str]) -> tuple[ByModality, ByModality]:
        """Features [B, D], those of `encode`, and the encoders' feature maps, [B, C, …], of some `modalities`.

        Maps are those of the encoders, before the adapters.
        """
        features, maps = {}, {}
        for name, encoder in self.encoders.items():
            with self._gradients(name):
                if name in modalities and name in clips:
                    features[name], maps[name] = encode_with_map(encoder, clips[name])
                elif name in clips:
                    features[name] = encoder(clips[name])
        return self.adapt(features), maps

    def cluster(self, features: ByModality) -> ByModality:
        """Features [B, D] by modality → cluster logits [H, B, K]."""
        return self._through_heads(features, lambda heads, x: heads(x))

    def cluster_by(self, head: int, features: ByModality) -> ByModality:
        """Features [B, D] by modality → the logits [B, K] of one head, as in evaluation."""
        return self._through_heads(features, lambda heads, x: heads.one(x, head))

    def cluster_head(self, modality: str) -> ClusterHead | None:
        """The cluster heads for a modality's features; None if there are none."""
        return self.cluster_heads.get(modality if self.sharing == "per_modality" else SHARED)

    def _through_heads(
        self, features: ByModality, through: Callable[[ClusterHead, torch.Tensor], torch.Tensor]
    ) -> ByModality:
        heads = self.cluster_heads
        if self.sharing == "per_modality":
            return {name: through(heads[name], x) for name, x in features.items()}
        normed = [self.norms[name](x) for name, x in features.items()]
        if self.sharing == "concat":
            return dict.fromkeys(features, through(heads[SHARED], torch.cat(normed, 1)))
        # in one pass, so that the head's batch norm has the same mixture of modalities in training and in evaluation
        by_modality = through(heads[SHARED], torch.cat(normed)).split([len(x) for x in normed], dim=-2)
        return dict(zip(features, by_modality, strict=True))

    @property
    def embeds(self) -> bool:
        """Whether features have embeddings in a space that all modalities share."""
        return "contrast" in self.heads or "jepa" in self.heads

    def embed(self, features: torch.Tensor, modality: str) -> torch.Tensor:
        """Features [N, D] of a modality → embeddings float [N, P], not normalised.

        They are those that contrast compares, or else those that joint-embedding prediction has of a modality alone.
        """
        if "contrast" in self.heads:
            return self.projections[modality](features)[0]
        heads: nn.ModuleDict = self.heads["jepa"]  # type: ignore[assignment]
        return heads["joint"](heads[modality](features)[0])

    def forward(self, clips: ByModality) -> ByModality:
        """Clips [B, …] by modality → cluster logits [H, B, K]."""
        return self.cluster(self.encode(clips))


def current_names(state: Mapping[str, torch.Tensor], sharing: str) -> dict[str, torch.Tensor]:
    """A model's state dict under the present names; older versions named encoders and heads differently."""
    cluster_head = "heads.labelling.video." if sharing == "per_modality" else f"heads.labelling.{SHARED}."
    names = {
        "video.": "encoders.video.", "audio.": "encoders.audio.",
        "head_video.": cluster_head, "head_audio.": "heads.labelling.audio.",
        "projection_video.": "heads.contrast.video.", "projection_audio.": "heads.contrast.audio.",
        "norm_video.": "norms.video.", "norm_audio.": "norms.audio.",
    }  # fmt: skip

    def renamed(key: str) -> str:
        first = key.partition(".")[0] + "."
        return names[first] + key.removeprefix(first) if first in names else key

    return {renamed(key): value for key, value in state.items()}


def _rename(model: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    assert isinstance(model, MultiStream)
    keys = {key.removeprefix(prefix): key for key in [*state] if key.startswith(prefix)}
    renamed = current_names({short: state.pop(key) for short, key in keys.items()}, model.sharing)
    state.update({prefix + key: value for key, value in renamed.items()})
