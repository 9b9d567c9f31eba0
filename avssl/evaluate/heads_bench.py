"""`avssl bench heads`: ways to choose a run's head without classes, beside the head that the classes would choose."""

from pathlib import Path
from statistics import mean

import numpy as np
import torch
from rich.console import Console

from ..config import BenchHeadsConfig, EvaluateConfig
from ..data.clips import ClipDataset, Pass
from ..data.index import read_index, training_split
from ..data.index import splits as splits_of
from ..data.loader import load, pass_requests
from ..data.transform import DeviceTransform
from ..errors import UserError
from ..report import report
from ..selflabel.opinions import FEW, adjusted_information
from ..selflabel.sinkhorn import joint_evidence, sinkhorn
from ..train.device import autocast, choose_device
from .clustering import clustering_metrics
from .heads import AGREEMENT, COST, STABILITY, choose_head
from .information import contingency
from .measured import opinions_of
from .predict import predict
from .source import Source, open_source

BATCH = 64

FRESH = 1_000_000
"""Labelling passes of no training have this number, and more: clips that the model has not been labelled by."""


def run(config: BenchHeadsConfig) -> dict[str, float]:
    """Print, for each run, the best head's NMI and how much less the head chosen by each measure has, in points; with
    collapsed heads left out, and (after a slash) without that. Returns the means.

    Raises UserError for a run of other than several heads and both modalities, or without its videos and classes.
    """
    device, rows, losses, moved = choose_device(config.device), [], [], 0
    if not config.runs:
        raise UserError("runs is needed: the run folders, as runs=[runs/a,runs/b]")
    for folder in config.runs:
        source = open_source(EvaluateConfig(run=folder))
        nmi = truth(source, device)
        measures, spread, changes = measured(source, device)
        collapsed = ["few" if s < FEW * source.model.clusters else "" for s in spread]  # type: ignore[union-attr]
        loss: dict[str, tuple[float, ...]] = {}
        for name, values in measures.items():
            heads = [choose_head(len(nmi), {name: values}, lost).head for lost in (collapsed, None)]
            loss[name] = tuple(100 * float(nmi[head or 0] - nmi.max()) for head in heads)
        losses.append(loss)
        moved += changes
        cells = [f"{loss[name][0]:.1f} / {loss[name][1]:.1f}" for name in measures]
        rows.append([Path(folder).name, str(sum(map(bool, collapsed))), f"{100 * nmi.max():.1f}", *cells])
    means = {name: [mean(loss[name][i] for loss in losses) for i in range(2)] for name in losses[0]}
    rows.append(["mean", "", "", *(f"{means[name][0]:.1f} / {means[name][1]:.1f}" for name in means)])
    about = (
        f"NMI of the chosen head minus the best head's, points, of the test videos' joint labels: collapsed heads left "
        f"out / not left out. With the logits of one head ten times as large, the cost chooses another head in {moved} "
        f"of {len(config.runs)} runs, the others in none: they look at most probable clusters alone."
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


@torch.no_grad()
def measured(source: Source, device: torch.device) -> tuple[dict[str, np.ndarray], np.ndarray, bool]:
    """Each measure [H] of the training videos, in which higher costs are worse; the clusters that each head's videos
    spread over, [H]; and whether the cost chooses another head when one's logits are ten times as large."""
    model, data, labelling = source.model, source.data, source.labelling
    if model is None or data is None or labelling is None or source.costs is None or len(source.costs) < 2:
        raise UserError(f"{source.name} is no run of several heads: train with labelling.heads=2 or more")
    if len(model.encoders) < 2 or model.sharing == "concat":
        raise UserError(f"{source.name} does not label by both modalities, each alone")
    rows = read_index(data.index, training_split(data, splits_of(data.index)))
    dataset = ClipDataset(rows, data.root, source.clip)
    transform = DeviceTransform(source.clip, device)
    passes = []
    for number in (FRESH, FRESH + 1):
        parts = []
        for batch in load(dataset, pass_requests(len(dataset), BATCH, Pass.LABEL, number), 0):
            with autocast(device, source.precision):
                parts.append(model.cluster(model.encode(transform(batch, list(model.encoders)))))
        passes.append({name: torch.cat([part[name].float() for part in parts], 1) for name in parts[0]})
    labels = [
        {name: x.argmax(-1).T.cpu().numpy() for name, x in {**z, "joint": joint_evidence(*z.values())}.items()}
        for z in passes
    ]
    opinions = opinions_of(labels[0], model.clusters)
    pairs = zip(*(found["joint"].T for found in labels), strict=True)
    stability = np.array([adjusted_information(contingency(one, other)) for one, other in pairs])
    measures = {COST: source.costs, AGREEMENT: opinions[AGREEMENT], STABILITY: stability}
    return measures, opinions["spread"], _moves(source, passes[0])


def _moves(source: Source, logits: dict[str, torch.Tensor]) -> bool:
    costs = np.array([[_cost(source, logits, head, scale) for scale in (1, 10)] for head in range(len(source.costs))])  # type: ignore[arg-type]
    best = costs[:, 0].argmin()
    scaled = [np.where(np.arange(len(costs)) == head, costs[:, 1], costs[:, 0]).argmin() for head in range(len(costs))]
    return any(head != best for head in scaled)


def _cost(source: Source, logits: dict[str, torch.Tensor], head: int, scale: float) -> float:
    assert source.marginals is not None
    log_p = joint_evidence(*(scale * z[head] for z in logits.values()))
    masses = torch.from_numpy(source.marginals[head]).to(log_p.device)
    return sinkhorn(log_p, masses / masses.sum()).cost
