"""`python -m benchmarks evaluate`: retrieval and clustering accuracy beside the published loops, transcribed."""

from collections.abc import Callable
from time import perf_counter
from typing import TypeVar

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.neighbors import NearestNeighbors

from avssl.core.report import report
from avssl.core.screen import Console
from avssl.metrics.clustering import clustering_metrics
from avssl.metrics.retrieval import KS, recall_at
from benchmarks.options import BenchEvaluateConfig

Result = TypeVar("Result")


def loop_retrieval(
    gallery: np.ndarray, gallery_labels: np.ndarray, queries: np.ndarray, query_labels: np.ndarray
) -> dict[int, float]:
    """The published protocol, transcribed: one nearest-neighbour query for each video and each k."""
    found = {}
    for k in KS:
        neighbours = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(gallery)
        hits = 0
        for query, label in zip(queries, query_labels, strict=True):
            near = neighbours.kneighbors(query[None], return_distance=False)[0]
            hits += int(label in gallery_labels[near])
        found[k] = hits / len(queries)
    return found


def loop_accuracy(labels: np.ndarray, classes: np.ndarray, clusters: int) -> float:
    """The published accuracy, transcribed: K² passes over the labels count the pairs, then they are matched."""
    counts = np.zeros((clusters, clusters))
    for i in range(clusters):
        for j in range(clusters):
            counts[i, j] = int(((labels == i) & (classes == j)).sum())
    rows, columns = linear_sum_assignment(-counts)
    return float(counts[rows, columns].sum() / len(labels))


def run(config: BenchEvaluateConfig) -> dict[str, float]:
    """Both beside ours on the same random features and labels, in turns; prints a table and returns the ratios.

    The loops' time grows with the queries and with K²: they are run for `loop_queries` queries and `loop_clusters`
    clusters, and their time is scaled up, which the table says.
    """
    rng = np.random.default_rng(config.seed)
    n, k = config.gallery, 101
    labels, truth = rng.integers(k, size=n), rng.integers(k, size=config.queries)
    centres = rng.standard_normal((k, config.dim), np.float32)
    gallery = centres[labels] + 6 * rng.standard_normal((n, config.dim), np.float32)
    queries = centres[truth] + 6 * rng.standard_normal((config.queries, config.dim), np.float32)
    few = min(config.loop_queries, config.queries)
    seconds, ours = _timed(lambda: recall_at(gallery, labels, queries, truth), config.repeats)
    some = recall_at(gallery, labels, queries[:few], truth[:few])
    loop_seconds, theirs = _timed(lambda: loop_retrieval(gallery, labels, queries[:few], truth[:few]), 1)
    loop_seconds *= config.queries / few
    if some != theirs:
        raise RuntimeError(f"the recalls differ: {some}, and {theirs} of the loop")
    retrieval = loop_seconds / seconds

    classes = rng.integers(config.clusters, size=config.videos)
    found = np.where(rng.random(config.videos) < 0.5, classes, rng.integers(config.clusters, size=config.videos))
    once, metrics = _timed(lambda: clustering_metrics(found, classes, config.clusters), config.repeats)
    some_clusters = min(config.loop_clusters, config.clusters)
    kept = (classes < some_clusters) & (found < some_clusters)
    loop_once, accuracy = _timed(lambda: loop_accuracy(found, classes, some_clusters), 1)
    matched = clustering_metrics(found[kept], classes[kept], some_clusters).accuracy * kept.sum() / config.videos
    if abs(matched - accuracy) > 1e-9:
        raise RuntimeError(f"the accuracies differ: {matched}, and {accuracy} of the loop")
    loop_once *= (config.clusters / some_clusters) ** 2
    counting = loop_once / once
    rows = [
        [f"retrieval, {n} gallery x {config.queries} queries x {config.dim}", f"{seconds:.3g}", f"{loop_seconds:.3g}",
         f"{retrieval:.0f}", f"R@1 {100 * ours[1]:.1f} %"],
        [f"clustering metrics, {config.videos} videos, {config.clusters} clusters", f"{once:.3g}", f"{loop_once:.3g}",
         f"{counting:.0f}", f"accuracy {100 * metrics.accuracy:.1f} %"],
    ]  # fmt: skip
    about = (
        f"the loops' times are scaled up from {few} queries and {some_clusters} clusters; ours include NMI, AMI, ARI, "
        "accuracy, purity and entropy"
    )
    report(Console(), "evaluate", ["what", "ours, s", "loop, s", "ratio", "result"], rows, about, config.out)
    return {"retrieval": retrieval, "accuracy": counting}


def _timed(what: Callable[[], Result], repeats: int) -> tuple[float, Result]:
    """The shortest of several times (s), and the result."""
    best = float("inf")
    for _ in range(max(1, repeats)):
        begun = perf_counter()
        result = what()
        best = min(best, perf_counter() - begun)
    return best, result
