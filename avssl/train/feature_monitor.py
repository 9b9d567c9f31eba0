"""Measures the features of held-out videos while a run trains, without a change to what it trains."""

import time
from typing import Any

import numpy as np
import torch

from ..config import TrainConfig
from ..core.collectives import gather, rank
from ..core.plurals import many
from ..core.progress import Progress, silent
from ..metrics.collapse import lidar, normalised_deviation, rankme
from ..metrics.retrieval import leave_one_out_neighbours, partner_recall
from ..models import MultiStream
from ..models.multi_stream import ByModality
from .held_out import CLIPS, HeldOut, monitor_steps, open_held_out
from .run_state import RunState

BATCH = 64
"""Most held-out clips that are encoded at once."""

NEIGHBOURS = (5, 20)
NEAREST = (1, 5)

Figures = dict[str, float]


def unmonitored(config: TrainConfig, model: MultiStream, kept: set[str]) -> str:
    """Why the features of a run need no monitor; empty if they need one. `kept`: the frozen encoders."""
    if {*model.encoders} <= {*kept, *(model.encoders if config.data.features else ())} and not model.adapters:
        return "the encoders are frozen, and there is no adapter, so the features never change"
    return ""


class FeatureMonitor:
    """The held-out videos of a run, encoded before some of its training steps.

    Their clips are decoded once, when the run begins or resumes, and stay in memory. Each process encodes its part.
    They are encoded in evaluation mode, so that batch norm, dropout and all random numbers of training stay as they
    are.

    Args:
        state: the run, after `begin` and `load`.
        workers: decoding processes.
        progress: called while clips are decoded.
    """

    def __init__(self, state: RunState, workers: int, progress: Progress = silent):
        self.state, self.context = state, state.weighted.context
        self.steps: set[int] = set()
        self.reason = ""
        """Why nothing is measured, for the log; empty if something is, or if the run is too short."""
        config = state.config
        trained = state.total * state.batch * config.optim.accumulate  # at least as many clips
        times, held_out = open_held_out(config, state.data, trained)
        if held_out is None:
            return
        self.held_out: HeldOut = held_out
        steps = {step for step in monitor_steps(state.total, times) if step >= state.step}
        self.reason = unmonitored(config, state.model, state.kept)
        if self.reason or not steps:
            return
        batch = min(BATCH, config.optim.batch)
        self.batches = held_out.batches(batch, workers, progress)
        self._select()
        if len(self.order) < 2:
            self.reason = f"too few of {many(len(held_out.chosen), 'held-out video')} can be decoded"
            return
        self.steps = steps

    def _select(self) -> None:
        """Find the videos of which all clips were decoded: their places among the clips, and in `held_out`."""
        indices: list[list[torch.Tensor]] = [[torch.empty(0, dtype=torch.int64)] for _ in range(CLIPS)]
        for number, batch in self.batches:
            indices[number].append(batch.index)
        by_clip = [torch.cat(some).numpy() for some in indices]
        whole = by_clip[0]
        for some in by_clip[1:]:
            whole = np.intersect1d(whole, some)
        device = self.state.device
        self.places = [torch.from_numpy(np.searchsorted(some, whole)).to(device) for some in by_clip]
        rows = torch.from_numpy(np.searchsorted(self.held_out.chosen, whole)).to(device)
        self.order = gather(rows).cpu().numpy()

    def describe(self) -> str:
        """Which videos are measured, and how often, for the log."""
        what = f"{len(self.order)} {self.held_out.origin}"
        return f"features of {what} are measured {many(len(self.steps), 'time')}"

    @torch.no_grad()
    def encode(self) -> tuple[ByModality, ByModality]:
        """The features of all processes' held-out clips, [n, CLIPS, D] by modality, and the embeddings of their centre
        clips in which modalities are compared, [n, P]; none if nothing compares them."""
        model, context = self.state.model, self.context
        modalities = self.state.weighted.modalities
        found: list[list[ByModality]] = [[] for _ in range(CLIPS)]
        modes = [(module, module.training) for module in model.modules()]
        model.eval()
        try:
            for number, batch in self.batches:
                if len(batch.index):
                    features = context.encode(batch, modalities)
                    found[number].append({name: x.float() for name, x in features.items()})
            by_clip = [self._joined(some, places) for some, places in zip(found, self.places, strict=True)]
            features = {name: torch.stack([clip[name] for clip in by_clip], 1) for name in modalities}
            with torch.autocast(self.state.device.type, enabled=False):
                embeddings = joint_embeddings(model, by_clip[0], self.state.config)
        finally:
            for module, training in modes:
                module.training = training
        return {k: gather(x) for k, x in features.items()}, {k: gather(x) for k, x in embeddings.items()}

    def _joined(self, batches: list[ByModality], places: torch.Tensor) -> ByModality:
        model = self.state.model
        empty = {name: torch.empty(0, width, device=self.state.device) for name, width in model.widths.items()}
        return {
            name: torch.cat([empty[name], *(batch[name] for batch in batches)])[places]
            for name in self.state.weighted.modalities
        }

    def measure(self) -> Figures:
        """Encode the held-out videos and measure their features. All processes call this together.

        Returns:
            The figures in the first process, by name; in the others none.
        """
        began = time.monotonic()
        features, embeddings = self.encode()
        if rank():
            return {}
        held_out, order = self.held_out, self.order
        classes = None if held_out.classes is None else held_out.classes[order]
        x, z = ({name: x.cpu().numpy() for name, x in some.items()} for some in (features, embeddings))
        figures = measures(x, z, classes, held_out.videos[order])
        return figures | {"seconds": time.monotonic() - began}


def joint_embeddings(model: MultiStream, features: ByModality, config: TrainConfig) -> ByModality:
    """Embeddings in which the modalities of a video are compared: projections, those of JEPA, or the clusters'
    probabilities.

    Args:
        model: the model of the run.
        features: the heads' inputs, [n, D] by modality.
        config: the options of the run.

    Returns:
        [n, P] by modality; empty if there are fewer than two modalities, or no heads that compare them.
    """
    if len(features) < 2:
        return {}
    if {*features} <= {*model.projections}:
        return {name: model.embed(x, name) for name, x in features.items()}
    jepa: Any = dict(model.heads.items()).get("jepa", {})
    if "joint" in jepa and {*features} <= {*jepa}:
        return {name: jepa["joint"](jepa[name](x)[0]) for name, x in features.items()}
    separate = model.sharing == "concat" or config.labelling.method == "xdc"
    if not model.cluster_heads or separate:
        return {}
    # square roots, so that a cosine is the mean over heads of the probabilities' Bhattacharyya coefficient
    return {name: z.softmax(-1).sqrt().transpose(0, 1).flatten(1) for name, z in model.cluster(features).items()}


def measures(
    features: dict[str, np.ndarray],
    embeddings: dict[str, np.ndarray],
    classes: np.ndarray | None,
    videos: np.ndarray,
) -> Figures:
    """The figures of held-out videos, rounded to six digits.

    Args:
        features: the centre clip and the augmented clips of n videos, float [n, CLIPS, D] by modality.
        embeddings: of the centre clips, [n, P] by modality; empty if nothing compares modalities.
        classes: classes of the videos, [n]; None if they are unknown.
        videos: the file of each, [n].

    Returns:
        For each modality `rankme_*`, `rank_*` (RankMe of centred features), `deviation_*`, and `lidar_*` if there are
        enough clips for its covariances. With classes, `knn5_*` and `knn20_*`, and the share of the most frequent class
        as `chance`. With embeddings, `recall1` and `recall5` of a video's own audio, and the reverse, in the mean. And
        the number of `videos`.
    """
    figures: Figures = {"videos": len(videos)}
    for name, x in features.items():
        centre, augmented = x[:, 0], x[:, 1:]
        figures[f"rankme_{name}"] = rankme(centre)
        figures[f"rank_{name}"] = rankme(centre - centre.mean(0, dtype=np.float64))
        figures[f"deviation_{name}"] = normalised_deviation(centre)
        if len(x) * (augmented.shape[1] - 1) >= x.shape[2]:  # otherwise the covariance within videos is singular
            figures[f"lidar_{name}"] = lidar(augmented)
        if classes is not None and np.isfinite(centre).all():
            for k, accuracy in leave_one_out_neighbours(centre, classes, videos, NEIGHBOURS).items():
                figures[f"knn{k}_{name}"] = accuracy
    if classes is not None:
        figures["chance"] = float(np.unique(classes, return_counts=True)[1].max() / len(classes))
    if len(embeddings) == 2 and all(np.isfinite(x).all() for x in embeddings.values()):
        one, two = embeddings.values()
        recalls = [partner_recall(one, two, NEAREST), partner_recall(two, one, NEAREST)]
        figures |= {f"recall{k}": sum(recall[k] for recall in recalls) / 2 for k in NEAREST}
    return {name: float(f"{value:.6g}") for name, value in figures.items()}


def short_line(figures: Figures, widths: dict[str, int]) -> str:
    """The figures in a few words. `widths`: of the features, by modality."""
    ranks = [f"{name} {figures[f'rankme_{name}']:.1f} of {width}" for name, width in widths.items()]
    said = [f"RankMe {', '.join(ranks)}"]
    if neighbours := [
        f"{name} {figures[key]:.0%}" for name in widths if (key := f"knn{NEIGHBOURS[0]}_{name}") in figures
    ]:
        said.append(f"k-NN {', '.join(neighbours)} (chance {figures['chance']:.0%})")
    if "recall5" in figures:
        said.append(f"own audio in the nearest five {figures['recall5']:.0%} (chance {5 / figures['videos']:.1%})")
    return "; ".join(said)
