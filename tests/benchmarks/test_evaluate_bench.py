"""The bench's transcriptions give what ours does, and its table says what was scaled."""

import numpy as np
import pytest

from avssl.metrics.clustering import clustering_metrics
from avssl.metrics.retrieval import recall_at
from benchmarks.__main__ import main
from benchmarks.evaluate import loop_accuracy, loop_retrieval, run
from benchmarks.options import BenchEvaluateConfig


def test_the_loops_are_right():
    rng = np.random.default_rng(0)
    gallery, queries = rng.standard_normal((80, 5)), rng.standard_normal((30, 5))
    labels, truth = rng.integers(9, size=80), rng.integers(9, size=30)
    assert loop_retrieval(gallery, labels, queries, truth) == recall_at(gallery, labels, queries, truth)
    found, classes = rng.integers(7, size=500), rng.integers(7, size=500)
    assert loop_accuracy(found, classes, 7) == pytest.approx(clustering_metrics(found, classes, 7).accuracy, abs=1e-12)


def test_the_table(tmp_path, capsys):
    small = ["gallery=60", "queries=20", "dim=8", "loop_queries=5", "videos=900", "clusters=8", "loop_clusters=4"]
    assert main(["evaluate", *small, f"out={tmp_path}"]) == 0
    assert "scaled up from 5 queries and 4 clusters" in " ".join(capsys.readouterr().out.split())
    assert (tmp_path / "evaluate.md").read_text().count("\n| ") == 3
    ratios = run(BenchEvaluateConfig(60, 20, 8, 5, 900, 8, 4))
    assert all(r > 0 for r in ratios.values())
