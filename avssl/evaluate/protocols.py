"""The protocols over one extraction of features, and their figures by fold."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import torch

from ..clips.dataset import ClipDataset, Failure
from ..config import EvaluateConfig
from ..core.errors import UserError
from ..core.plurals import describe_missing_audio
from ..metrics.clustering import clustering_metrics, clustering_table
from ..metrics.few_shot import draw, few_shot
from ..metrics.head_choice import HeadChoice
from ..metrics.intervals import mean_of
from ..metrics.kmeans import kmeans
from ..metrics.probe import linear_probe, nearest_neighbours
from ..metrics.retrieval import KS, cross_modal, recall_at, weighted_neighbours
from ..runs.open import Fold, Source, Videos, output_folder, read_features
from ..train.finetune import Place
from .attributes import read_attributes
from .features import Features, Sampling, extract_features
from .finetune_protocol import LabelledRows, finetune
from .head_measures import agreement_choice, chosen_head
from .predictions import Predictions, predict
from .robustness import damaged_labels

Scores = dict[str, Any]

METRICS = ("nmi", "ami", "ari", "accuracy", "purity", "entropy")

CENTRE = Sampling()

Pair = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Training features and labels, test features and labels."""


@dataclass
class EvaluationContext:
    """What the protocols look at. Features and labels are found when they are first asked for."""

    source: Source
    videos: Videos
    config: EvaluateConfig
    device: torch.device
    cache: Path
    labels: dict[str, np.ndarray] = field(init=False)
    """str [N] by column; "" for a video without."""
    failures: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        table = self.config.labels or Path(self.videos.root) / "labels.csv"
        self.labels = read_attributes(self.videos.rows, self.config.columns, table)
        self._features: dict[Sampling, Features] = {}
        self._labelled: Predictions | None = None
        self._choice: HeadChoice | None = None
        rows = self.videos.rows
        without_audio = len(set(rows.filter(rows["audio_rate"].to_numpy() == 0)["path"].to_pylist()))
        there = [] if self.source.model is None else list(self.source.model.encoders)
        self.modalities = [name for name in there if name == "video" or not without_audio]
        self.without_audio = without_audio if "audio" in there else 0
        if there and not self.modalities:
            raise UserError(f"{describe_missing_audio(without_audio)}, and the encoder takes nothing else")

    def features(self, sampling: Sampling = CENTRE) -> Features:
        """Of all videos of all folds."""
        if sampling not in self._features:
            found = self._extract(sampling)
            self._check_finite(found)
            self._features[sampling] = found
            self.note(found.failures)
        return self._features[sampling]

    def _extract(self, sampling: Sampling) -> Features:
        source, config = self.source, self.config
        if source.model is None:
            rows, values = read_features(config.features, self.videos.rows)
            return Features(rows, {"features": values}, {}, [], values)
        frames = source.clip.retrieval_frames if sampling.maps else 0
        clip = replace(source.clip, frames=frames or source.clip.frames)
        return extract_features(
            source.model, self.videos.rows, self.videos.root, clip, self.device, self.cache,
            source.precision, config.workers, sampling, modalities=self.modalities,
        )  # fmt: skip

    def _check_finite(self, features: Features) -> None:
        parts = [*features.encoded.values(), *features.embedded.values(), features.maps]
        wrong = np.logical_or.reduce([~np.isfinite(x).all(1) for x in parts if x is not None])
        if wrong.any():
            first = self.videos.rows["path"][int(features.rows[wrong][0])].as_py()
            source, fix = (
                (self.config.features, "leave those out of the file") if self.source.model is None
                else (self.source.name, "its training has diverged: choose an earlier checkpoint")
            )  # fmt: skip
            raise UserError(
                f"{source}: the features of {wrong.sum()} videos are NaN or infinite, the first {first}; {fix}"
            )

    def labelled(self) -> Predictions | None:
        """What the model's heads make of all videos; None without heads, or without the modalities that they need."""
        model = self.source.model
        if model is None or not model.clusters:
            return None
        if len(self.modalities) < len(model.encoders):
            return None
        if self._labelled is None:
            dataset = ClipDataset(self.videos.rows, self.videos.root, self.source.clip, modalities=self.modalities)
            model.to(self.device)
            self._labelled = predict(
                model, dataset, self.source.clip, self.device, self.source.precision, self.config.workers
            )
            self.note(self._labelled.failures)
        return self._labelled

    def choice(self, fold: Fold) -> HeadChoice:
        """The head that stands for the model: of published weights, by agreement on the fold's training videos."""
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
        """Features and labels of the fold's training and test videos that have both: x [n, D] of the videos `rows`."""
        at = np.full(self.videos.rows.num_rows, -1, np.int64)
        at[rows] = np.arange(len(rows))
        train, test = (part[(at[part] >= 0) & (self.labels[column][part] != "")] for part in (fold.train, fold.test))
        labels, truth = self.labels[column][train], self.labels[column][test]
        for found in (labels, truth):
            check_labels(column, found)
        return x[at[train]], labels, x[at[test]], truth

    def classes(self, fold: Fold, column: str) -> tuple[np.ndarray, int]:
        """Class of every video, int64 [N], and how many there are; -1 outside of the fold's test videos, or without."""
        labels = self.labels[column]
        known = fold.test[labels[fold.test] != ""]
        names, found = np.unique(labels[known], return_inverse=True)
        check_labels(column, names)
        ids = np.full(len(labels), -1, np.int64)
        ids[known] = found
        return ids, len(names)


def check_labels(column: str, labels: np.ndarray) -> None:
    """UserError where there is nothing to tell apart."""
    if len(set(labels)) < 2:
        raise UserError(
            f"columns={column}: the videos of a split have fewer than two labels; arrange them in class folders, or "
            f"give a table of labels with their paths (labels=…)"
        )


def _by_view(subject: EvaluationContext, fold: Fold, score: Callable[..., Any]) -> Scores:
    """`score` of the fold's features and labels, by view and column."""
    features = subject.features()
    found: Scores = {}
    for name, x in features.views().items():
        found[name] = {c: score(*subject.pair(x, features.rows, fold, c)) for c in subject.config.columns}
    return found


def linear(subject: EvaluationContext, fold: Fold) -> Scores:
    """Accuracy of a logistic regression on frozen features, by view and column."""
    return _by_view(subject, fold, linear_probe)


def knn(subject: EvaluationContext, fold: Fold) -> Scores:
    """Accuracy of the nearest neighbours' vote, by view and column."""
    config = subject.config

    def score(train: np.ndarray, labels: np.ndarray, test: np.ndarray, truth: np.ndarray) -> float:
        if config.temperature == 0:
            return nearest_neighbours(train, labels, test, truth, config.k)
        return weighted_neighbours(train, labels, test, truth, config.k, config.temperature)

    return _by_view(subject, fold, score)


def few_shots(subject: EvaluationContext, fold: Fold) -> Scores:
    """Accuracy after a few labelled videos of each class: one value a draw of them, their mean, and half of its 95 %
    interval over draws."""
    config = subject.config

    def score(train: np.ndarray, labels: np.ndarray, test: np.ndarray, truth: np.ndarray) -> Scores:
        found = few_shot(train, labels, test, truth, config.shots, range(config.seeds))
        largest = int(np.unique(labels, return_counts=True)[1].max(initial=0))
        return {str(n): _over_draws(values, same=largest <= n) for n, values in found.items()}

    return _by_view(subject, fold, score)


def _over_draws(values: list[float], same: bool = False) -> Scores:
    """With `same`, every draw is of the same videos: there is no spread to tell."""
    return {**mean_of(values).to_dict(), **({"half": None} if same else {}), "values": values}


def drawn(subject: EvaluationContext, fold: Fold) -> list[dict[str, Any]]:
    """The videos of every few-shot draw of a fold: column, shots, seed and path."""
    rows = subject.features().rows
    paths = subject.videos.rows["path"].to_pylist()
    found = []
    for column in subject.config.columns:
        labels = subject.labels[column]
        known = fold.train[np.isin(fold.train, rows) & (labels[fold.train] != "")]
        for shots in subject.config.shots:
            for seed in range(subject.config.seeds):
                for row in known[draw(labels[known], shots, seed)]:
                    found.append({"fold": fold.number, "column": column, "shots": shots, "seed": seed,
                                  "path": paths[row]})  # fmt: skip
    return found


def retrieval(subject: EvaluationContext, fold: Fold) -> Scores | None:
    """Recall at 1, 5, 10, 20 and 50 of test videos among training videos, by column, from the maps of several clips
    (`Features.maps`) or what a file gives; None without a video encoder."""
    features = subject.features(Sampling(clips=subject.config.clips, maps=True))
    if features.maps is None:
        return None
    found: Scores = {}
    for column in subject.config.columns:
        train, labels, test, truth = subject.pair(features.maps, features.rows, fold, column)
        found[column] = {str(k): r for k, r in recall_at(train, labels, test, truth, KS).items()}
    return found


def cross_modal_retrieval(subject: EvaluationContext, fold: Fold) -> Scores | None:
    """Precision at 1 from one modality to the other in the embedding space, among test videos, by column."""
    features = subject.features()
    if len(features.embedded) < 2:
        return None
    found = {}
    for column in subject.config.columns:
        both = [subject.pair(x, features.rows, fold, column)[2:] for x in features.embedded.values()]
        found[column] = cross_modal(both[0][0], both[1][0], both[0][1])
    return found


def clustering(subject: EvaluationContext, fold: Fold) -> Scores:
    """Of the test videos, by column: the heads' labels, and k-means on each view with as many clusters as labels."""
    features, labelled = subject.features(), subject.labelled()
    found: Scores = {}
    for column in subject.config.columns:
        ids, classes = subject.classes(fold, column)
        found[column] = {"kmeans": {}}
        if labelled is not None:
            clusters = max(int(x.max(initial=-1)) for x in labelled.labels.values()) + 1
            tested = {name: x[fold.test] for name, x in labelled.labels.items()}
            table = clustering_table(
                tested, ids[fold.test], subject.source.costs, clusters, subject.choice(fold)
            )  # fmt: skip
            found[column]["labels"] = table.to_dict()
        at = ids[features.rows] >= 0
        for name, x in features.views().items():
            tried = [kmeans(x[at], classes, seed) for seed in range(subject.config.seeds)]
            scored = [clustering_metrics(labels, ids[features.rows[at]], classes) for labels, _ in tried]
            inertia = [squared for _, squared in tried]
            best = scored[inertia.index(min(inertia))]
            found[column]["kmeans"][name] = {"inertia": inertia} | {
                m: {**_over_draws([getattr(s, m) for s in scored]), "lowest_inertia": getattr(best, m)} for m in METRICS
            }
    return found


def robustness(subject: EvaluationContext, fold: Fold) -> Scores | None:
    """Clustering of the test videos by the chosen head, by column, damage and evidence; None without heads for all
    modalities that the videos have."""
    model, source = subject.source.model, subject.source
    if model is None or subject.labelled() is None:
        return None
    head = subject.choice(fold).head or 0
    dataset = ClipDataset(subject.videos.rows, subject.videos.root, source.clip, modalities=subject.modalities)
    config = subject.config
    by_damage, failures = damaged_labels(
        model, dataset, fold.test, head, source.clip, subject.device, source.precision, config.workers
    )
    subject.note(failures)
    found: Scores = {}
    for column in config.columns:
        ids, _ = subject.classes(fold, column)
        found[column] = {
            damage: {name: clustering_metrics(labels, ids[fold.test]).to_dict() for name, labels in by_evidence.items()}
            for damage, by_evidence in by_damage.items()
        }
    return found


def finetuned(subject: EvaluationContext, fold: Fold) -> Scores:
    """Accuracy per video and per clip after finetuning the video encoder on the fold's training videos, by column."""
    source, config, videos = subject.source, subject.config, subject.videos
    assert source.model is not None

    def labelled(part: np.ndarray, column: str) -> LabelledRows:
        known = part[subject.labels[column][part] != ""]
        check_labels(column, subject.labels[column][known])
        return LabelledRows(videos.rows.take(known), subject.labels[column][known])

    found: Scores = {}
    for column in config.columns:
        name = f"{quote(column, safe='')}_fold{fold.number}{'_random' if config.random else ''}"
        place = Place(
            output_folder(config) / "finetune" / name, subject.device, source.precision, config.workers,
            f"{column}, fold {fold.number}",
        )  # fmt: skip
        train, test = labelled(fold.train, column), labelled(fold.test, column)
        result = finetune(source.model.encoders["video"], train, test, videos.root, source.clip, config.finetune, place)
        subject.failures |= result.failures
        found[column] = {"video": result.video, "clip": result.clip, "tested": result.tested, "classes": result.classes}
    return found


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

LONG = ("robustness", "finetune")
"""Tasks that are left out unless they are named."""
