"""Ways to choose a run's head without classes, beside the head that the classes would choose."""

from pathlib import Path
from statistics import mean

import numpy as np
import torch

from avssl.clips.dataset import ClipDataset
from avssl.config import EvaluateConfig
from avssl.core.device import choose_device
from avssl.core.errors import UserError
from avssl.core.report import report
from avssl.core.screen import Console
from avssl.evaluate.head_measures import labels_of_passes, opinions_of, stability_of
from avssl.evaluate.predictions import predict
from avssl.metrics.clustering import clustering_metrics
from avssl.metrics.head_choice import AGREEMENT, COST, STABILITY, choose_head
from avssl.runs.open import Source, open_source
from avssl.selflabel.head_opinions import MIN_SPREAD_SHARE
from avssl.videos.index import read_index, splits, training_split
from benchmarks.options import BenchHeadsConfig


def run(config: BenchHeadsConfig) -> dict[str, float]:
    """Print, for each run, the best head's NMI and how much less the head chosen by each measure has, in points; with
    collapsed heads left out, and (after a slash) without that. Returns the means.

    Raises UserError for a run of other than several heads and both modalities, or without its videos and classes.
    """
    device, rows, losses = choose_device(config.device), [], []
    for folder in config.runs:
        source = open_source(EvaluateConfig(run=folder))
        measures, spread = measured(source, device)
        nmi = truth(source, device)
        collapsed = ["few" if s < MIN_SPREAD_SHARE * source.model.clusters else "" for s in spread]  # type: ignore[union-attr]
        loss: dict[str, tuple[float, ...]] = {}
        for name, values in measures.items():
            heads = [choose_head(len(nmi), {name: values}, lost).head for lost in (collapsed, None)]
            loss[name] = tuple(100 * float(nmi[head or 0] - nmi.max()) for head in heads)
        losses.append(loss)
        cells = [f"{loss[name][0]:.1f} / {loss[name][1]:.1f}" for name in measures]
        rows.append([Path(folder).name, str(sum(map(bool, collapsed))), f"{100 * nmi.max():.1f}", *cells])
    means = {name: [mean(loss[name][i] for loss in losses) for i in range(2)] for name in losses[0]}
    rows.append(["mean", "", "", *(f"{means[name][0]:.1f} / {means[name][1]:.1f}" for name in means)])
    about = (
        "NMI of the chosen head minus the best head's, points, of the test videos' joint labels: collapsed heads left "
        "out / not left out"
    )
    report(Console(), "heads", ["run", "collapsed heads", "best NMI", *means], rows, about, config.out)
    return {name: values[0] for name, values in means.items()}


def truth(source: Source, device: torch.device) -> np.ndarray:
    """NMI of each head's joint labels of the test videos, [H]."""
    assert source.model is not None
    assert source.data is not None
    rows = read_index(source.data.index, source.data.test_split)
    classes = np.unique([name or "" for name in rows["class"].to_pylist()], return_inverse=True)[1]
    dataset = ClipDataset(rows, source.data.root, source.clip)
    labels = predict(source.model.to(device), dataset, source.clip, device, source.precision).labels["joint"]
    return np.array([clustering_metrics(x, classes).nmi for x in labels.T])


def measured(source: Source, device: torch.device) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Each measure [H] of the training videos, and the clusters that each head's videos spread over, [H]."""
    model, data = source.model, source.data
    if model is None or data is None or source.costs is None or len(source.costs) < 2:
        raise UserError(f"{source.name} is no run of several heads: train with labelling.heads=2 or more")
    if len(model.encoders) < 2 or model.sharing == "concat":
        raise UserError(f"{source.name} does not label by both modalities, each alone")
    rows = read_index(data.index, training_split(data, splits(data.index)))
    passes = labels_of_passes(source, rows, device)
    opinions = opinions_of(passes[0], model.clusters)
    measures = {COST: source.costs, AGREEMENT: opinions[AGREEMENT], STABILITY: stability_of(passes)}
    return measures, opinions["spread"]
