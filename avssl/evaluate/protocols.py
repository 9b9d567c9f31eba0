"""The protocols, which share one extraction of features. Each returns the results of one fold."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import torch

from ..clips.dataset import ClipDataset, Failure
from ..clips.stored_clips import StoredClips
from ..config import EvaluateConfig
from ..core.errors import UserError
from ..core.part import Part
from ..core.plurals import describe_missing_audio
from ..metrics.clustering import clustering_metrics, clustering_table
from ..metrics.few_shot import draw, few_shot
from ..metrics.head_choice import HeadChoice
from ..metrics.intervals import mean_of
from ..metrics.kmeans import kmeans
from ..metrics.probe import linear_probe, nearest_neighbours
from ..metrics.retrieval import KS, cross_modal, recall_at, weighted_neighbours
from ..models import MultiStream
from ..runs.open import Fold, Source, Videos, output_folder, read_features
from ..runs.stored import of_table, stored_clips
from ..train.finetune import Place
from .attributes import read_attributes
from .features import Features, Sampling, extract_features, from_stored, write_features
from .finetune_protocol import LabelledRows, finetune
from .head_measures import agreement_choice, chosen_head
from .prediction_shards import LabellingPass
from .predictions import Predictions
from .robustness import damaged_labels

Scores = dict[str, Any]

METRICS = ("nmi", "ami", "ari", "accuracy", "purity", "entropy")

CENTRE = Sampling()

Pair = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Training features and labels, test features and labels."""


@dataclass
class EvaluationContext:
    """The model, the videos and the options of an evaluation. Features and predictions are computed at first use."""

    source: Source
    videos: Videos
    config: EvaluateConfig
    device: torch.device
    cache: Path
    labels: dict[str, np.ndarray] = field(init=False)
    """Labels by column, str [N], "" for a video without one."""
    failures: dict[str, str] = field(default_factory=dict)
    """Videos that could not be decoded, with the reason."""

    def __post_init__(self) -> None:
        table = self.config.labels or Path(self.videos.root) / "labels.csv"
        self.labels = read_attributes(self.videos.rows, self.config.columns, table)
        self._features: dict[Sampling, Features] = {}
        self._labelled: Predictions | None = None
        self._choice: HeadChoice | None = None
        rows = self.videos.rows
        without_audio = len(set(rows.filter(rows["audio_rate"].to_numpy() == 0)["path"].to_pylist()))
        encoded = [] if self.source.model is None else list(self.source.model.encoders)
        self.modalities = [name for name in encoded if name == "video" or not without_audio]
        self.without_audio = without_audio if "audio" in encoded else 0
        if encoded and not self.modalities:
            raise UserError(f"{describe_missing_audio(without_audio)}, but the model has only an audio encoder")

    def features(self, sampling: Sampling = CENTRE) -> Features:
        """The features of all videos of all folds."""
        if sampling not in self._features:
            features = self._extract(sampling)
            self._check_finite(features)
            self._features[sampling] = features
            self.note(features.failures)
        return self._features[sampling]

    def _extract(self, sampling: Sampling) -> Features:
        source, config = self.source, self.config
        if source.model is None:
            rows, values = read_features(config.features, self.videos.rows)
            return Features(rows, {"features": values}, {}, [], values)
        stored = self._stored(sampling)
        if stored is not None:
            return from_stored(source.model, stored, self.device, source.precision, sampling)
        return extract_features(**self._extraction(source.model, sampling))

    def write_part(self, sampling: Sampling, part: Part) -> None:
        """Extract a part of the features that `features` then finds."""
        model = self.source.model
        if model is not None and self._stored(sampling) is None:
            write_features(**self._extraction(model, sampling), part=part)

    def _stored(self, sampling: Sampling) -> StoredClips | None:
        """The stored features of the encoders that hold what is sampled."""
        if sampling == CENTRE or of_table(self.source):
            return stored_clips(self.source, self.videos.rows, self.modalities)
        return None

    def _extraction(self, model: MultiStream, sampling: Sampling) -> dict[str, Any]:
        """The arguments of `extract_features`."""
        source, videos = self.source, self.videos
        frames = source.clip.retrieval_frames if sampling.maps else 0
        clip = replace(source.clip, frames=frames or source.clip.frames)
        return {
            "model": model, "rows": videos.rows, "root": videos.root, "config": clip, "device": self.device,
            "cache": self.cache, "precision": source.precision, "workers": self.config.workers, "sampling": sampling,
            "modalities": self.modalities,
        }  # fmt: skip

    def _check_finite(self, features: Features) -> None:
        parts = [*features.encoded.values(), *features.embedded.values(), features.maps]
        wrong = np.logical_or.reduce([~np.isfinite(x).all(1) for x in parts if x is not None])
        if wrong.any():
            first = self.videos.rows["path"][int(features.rows[wrong][0])].as_py()
            source, fix = (
                (self.config.features, "remove these from the file") if self.source.model is None
                else (self.source.name, "the run has diverged: give an earlier checkpoint")
            )  # fmt: skip
            raise UserError(
                f"{source}: the features of {wrong.sum()} videos are NaN or infinite; the first is {first}: {fix}"
            )

    def labelled(self) -> Predictions | None:
        """The labels of all videos; None if the model has no heads, or the videos lack a modality that they need."""
        if self._labelled is None and (work := self.labelling_pass()) is not None:
            self._labelled = work.predict()
            self.note(self._labelled.failures)
        return self._labelled

    def labelling_pass(self) -> LabellingPass | None:
        """The pass that labels all videos; None as for `labelled`. Nothing is computed yet."""
        model, source, videos = self.source.model, self.source, self.videos
        if model is None or not model.clusters or len(self.modalities) < len(model.encoders):
            return None
        dataset = stored_clips(source, videos.rows, self.modalities) or ClipDataset(
            videos.rows, videos.root, source.clip, modalities=self.modalities
        )
        return LabellingPass(
            model, videos.rows, dataset, source.clip, self.device, source.precision, self.cache,
            workers=self.config.workers,
        )  # fmt: skip

    def choice(self, fold: Fold) -> HeadChoice:
        """The head that represents the model; for published weights, by agreement on the fold's training videos."""
        if self._choice is None:
            self._choice = chosen_head(self.source, self.device, self.config.workers)
        labelled = self.labelled()
        several = self._choice.head is None and not self.config.random and labelled is not None
        if several and {"video", "audio"} <= labelled.labels.keys():  # type: ignore[union-attr]
            return agreement_choice({k: x[fold.train] for k, x in labelled.labels.items()})  # type: ignore[union-attr]
        return self._choice

    def note(self, failures: list[Failure]) -> None:
        self.failures |= {f.path: f.reason for f in failures}

    def pair(self, x: np.ndarray, rows: np.ndarray, fold: Fold, column: str) -> Pair:
        """Features and labels of the fold's training and test videos that have both.

        Args:
            x: features [n, D].
            rows: the n videos of these features.
        """
        at = np.full(self.videos.rows.num_rows, -1, np.int64)
        at[rows] = np.arange(len(rows))
        train, test = (part[(at[part] >= 0) & (self.labels[column][part] != "")] for part in (fold.train, fold.test))
        labels, truth = self.labels[column][train], self.labels[column][test]
        for values in (labels, truth):
            check_labels(column, values)
        return x[at[train]], labels, x[at[test]], truth

    def classes(self, fold: Fold, column: str) -> tuple[np.ndarray, int]:
        """Classes int64 [N], -1 for videos without one or outside the fold's test split, and the number of classes."""
        labels = self.labels[column]
        labelled = fold.test[labels[fold.test] != ""]
        names, class_ids = np.unique(labels[labelled], return_inverse=True)
        check_labels(column, names)
        ids = np.full(len(labels), -1, np.int64)
        ids[labelled] = class_ids
        return ids, len(names)


def check_labels(column: str, labels: np.ndarray) -> None:
    """Raise UserError for fewer than two different labels."""
    if len(set(labels)) < 2:
        raise UserError(
            f"columns={column}: the videos of a split have fewer than two labels: arrange them in class folders, or "
            f"give a table of labels and paths with labels=…"
        )


def _by_view(context: EvaluationContext, fold: Fold, score: Callable[..., Any]) -> Scores:
    """`score` of the fold's features and labels, by view and column."""
    features = context.features()
    scores: Scores = {}
    for name, x in features.views().items():
        scores[name] = {c: score(*context.pair(x, features.rows, fold, c)) for c in context.config.columns}
    return scores


def linear(context: EvaluationContext, fold: Fold) -> Scores:
    """Accuracy of a logistic regression on frozen features, by view and column."""
    return _by_view(context, fold, linear_probe)


def knn(context: EvaluationContext, fold: Fold) -> Scores:
    """Accuracy of the nearest neighbours' vote, by view and column."""
    config = context.config

    def score(train: np.ndarray, labels: np.ndarray, test: np.ndarray, truth: np.ndarray) -> float:
        if config.temperature == 0:
            return nearest_neighbours(train, labels, test, truth, config.k)
        return weighted_neighbours(train, labels, test, truth, config.k, config.temperature)

    return _by_view(context, fold, score)


def few_shots(context: EvaluationContext, fold: Fold) -> Scores:
    """Accuracy with a few labelled videos per class: the value of each draw, their mean and its 95 % interval."""
    config = context.config

    def score(train: np.ndarray, labels: np.ndarray, test: np.ndarray, truth: np.ndarray) -> Scores:
        by_shots = few_shot(train, labels, test, truth, config.shots, range(config.seeds))
        largest = int(np.unique(labels, return_counts=True)[1].max(initial=0))
        return {str(n): _over_draws(values, same=largest <= n) for n, values in by_shots.items()}

    return _by_view(context, fold, score)


def _over_draws(values: list[float], same: bool = False) -> Scores:
    """The mean, its interval and the values. With `same`, all draws are the same videos, so there is no interval."""
    return {**mean_of(values).to_dict(), **({"half": None} if same else {}), "values": values}


def drawn(context: EvaluationContext, fold: Fold) -> list[dict[str, Any]]:
    """The videos of every few-shot draw of a fold: column, shots, seed and path."""
    rows = context.features().rows
    paths = context.videos.rows["path"].to_pylist()
    draws = []
    for column in context.config.columns:
        labels = context.labels[column]
        labelled = fold.train[np.isin(fold.train, rows) & (labels[fold.train] != "")]
        for shots in context.config.shots:
            for seed in range(context.config.seeds):
                for row in labelled[draw(labels[labelled], shots, seed)]:
                    draws.append({"fold": fold.number, "column": column, "shots": shots, "seed": seed,
                                  "path": paths[row]})  # fmt: skip
    return draws


def retrieval(context: EvaluationContext, fold: Fold) -> Scores | None:
    """Recall at 1, 5, 10, 20 and 50 of test videos among training videos, by column; None without a video encoder.

    It uses the maps of several clips (`Features.maps`), or the features in a file.
    """
    features = context.features(Sampling(clips=context.config.clips, maps=True))
    if features.maps is None:
        return None
    scores: Scores = {}
    for column in context.config.columns:
        train, labels, test, truth = context.pair(features.maps, features.rows, fold, column)
        scores[column] = {str(k): r for k, r in recall_at(train, labels, test, truth, KS).items()}
    return scores


def cross_modal_retrieval(context: EvaluationContext, fold: Fold) -> Scores | None:
    """Precision at 1 from one modality to the other in the embedding space, among test videos, by column."""
    features = context.features()
    if len(features.embedded) < 2:
        return None
    scores = {}
    for column in context.config.columns:
        both = [context.pair(x, features.rows, fold, column)[2:] for x in features.embedded.values()]
        scores[column] = cross_modal(both[0][0], both[1][0], both[0][1])
    return scores


def clustering(context: EvaluationContext, fold: Fold) -> Scores:
    """Clustering metrics of the test videos, by column, for the heads' labels and for k-means on each view.

    k-means has as many clusters as the column has labels.
    """
    features, labelled = context.features(), context.labelled()
    scores: Scores = {}
    for column in context.config.columns:
        ids, classes = context.classes(fold, column)
        scores[column] = {"kmeans": {}}
        if labelled is not None:
            clusters = max(int(x.max(initial=-1)) for x in labelled.labels.values()) + 1
            tested = {name: x[fold.test] for name, x in labelled.labels.items()}
            table = clustering_table(
                tested, ids[fold.test], context.source.costs, clusters, context.choice(fold)
            )  # fmt: skip
            scores[column]["labels"] = table.to_dict()
        at = ids[features.rows] >= 0
        for name, x in features.views().items():
            starts = [kmeans(x[at], classes, seed) for seed in range(context.config.seeds)]
            metrics = [clustering_metrics(labels, ids[features.rows[at]], classes) for labels, _ in starts]
            inertia = [squared for _, squared in starts]
            best = metrics[inertia.index(min(inertia))]
            scores[column]["kmeans"][name] = {"inertia": inertia} | {
                m: {**_over_draws([getattr(s, m) for s in metrics]), "lowest_inertia": getattr(best, m)}
                for m in METRICS
            }
    return scores


def robustness(context: EvaluationContext, fold: Fold) -> Scores | None:
    """Clustering metrics of the chosen head on degraded clips of the test videos, by column, degradation and evidence.

    It is None if the model has no heads, or the videos lack a modality that they need.
    """
    model, source = context.source.model, context.source
    if model is None or context.labelled() is None:
        return None
    head = context.choice(fold).head or 0
    dataset = ClipDataset(context.videos.rows, context.videos.root, source.clip, modalities=context.modalities)
    config = context.config
    by_damage, failures = damaged_labels(
        model, dataset, fold.test, head, source.clip, context.device, source.precision, config.workers
    )
    context.note(failures)
    scores: Scores = {}
    for column in config.columns:
        ids, _ = context.classes(fold, column)
        scores[column] = {
            damage: {name: clustering_metrics(labels, ids[fold.test]).to_dict() for name, labels in by_evidence.items()}
            for damage, by_evidence in by_damage.items()
        }
    return scores


def finetuned(context: EvaluationContext, fold: Fold) -> Scores:
    """Accuracy per video and per clip after finetuning the video encoder on the fold's training videos, by column."""
    source, config, videos = context.source, context.config, context.videos
    assert source.model is not None

    def labelled(part: np.ndarray, column: str) -> LabelledRows:
        rows = part[context.labels[column][part] != ""]
        check_labels(column, context.labels[column][rows])
        return LabelledRows(videos.rows.take(rows), context.labels[column][rows])

    scores: Scores = {}
    for column in config.columns:
        name = f"{quote(column, safe='')}_fold{fold.number}{'_random' if config.random else ''}"
        place = Place(
            output_folder(config) / "finetune" / name, context.device, source.precision, config.workers,
            f"{column}, fold {fold.number}",
        )  # fmt: skip
        train, test = labelled(fold.train, column), labelled(fold.test, column)
        result = finetune(source.model.encoders["video"], train, test, videos.root, source.clip, config.finetune, place)
        context.failures |= result.failures
        scores[column] = {
            "video": result.video, "clip": result.clip, "tested": result.tested, "classes": result.classes,
        }  # fmt: skip
    return scores


TASKS: dict[str, Callable[[EvaluationContext, Fold], Scores | None]] = {
    "clustering": clustering,
    "retrieval": retrieval,
    "cross_modal": cross_modal_retrieval,
    "few_shot": few_shots,
    "knn": knn,
    "linear": linear,
    "robustness": robustness,
    "finetune": finetuned,
}


def sampling_of(task: str, config: EvaluateConfig) -> Sampling | None:
    """The clips that a task needs features of; None for a task that needs no features."""
    if task in LONG:
        return None
    return Sampling(clips=config.clips, maps=True) if task == "retrieval" else CENTRE


LONG = ("robustness", "finetune")
"""Tasks that take long, so they run only if `tasks` names them."""
