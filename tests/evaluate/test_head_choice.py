"""Which head stands for a run; and joint labels of heads whose clusters were numbered apart."""

import json
import shutil

import numpy as np
import pytest
import torch

from avssl.cli import main
from avssl.config import EvaluateConfig
from avssl.evaluate.head_measures import FILE, chosen_head
from avssl.evaluate.predictions import head_labels
from avssl.metrics.clustering import clustering_metrics
from avssl.metrics.head_choice import AGREEMENT, COST, STABILITY, choose_head
from avssl.models.heads import MLPHeads
from avssl.models.multi_stream import MultiStream
from avssl.runs.checkpoints import load_run_state
from avssl.runs.open import number_together, open_source

CPU = torch.device("cpu")


def test_stability_comes_before_agreement_and_cost():
    measures = {COST: [1.0, 2.0, 3.0], AGREEMENT: [0.2, 0.9, 0.3], STABILITY: [0.1, 0.2, 0.8]}
    found = choose_head(3, measures)
    assert (found.head, found.by, found.values) == (2, STABILITY, [0.1, 0.2, 0.8])
    assert choose_head(3, measures | {STABILITY: [np.nan] * 3}).head == 1
    assert choose_head(3, {COST: measures[COST]}).head == 0
    assert choose_head(3, {COST: [np.nan, 3, 4]}).head == 1
    assert choose_head(3, {}).head is None
    assert choose_head(1, {}).head == 0
    assert choose_head(2, {STABILITY: [0.5, 0.5]}).head == 0  # the first of equals


def test_heads_that_are_equally_stable_are_compared_by_agreement_and_then_by_cost():
    measures = {
        STABILITY: [1.0, 1.0, 0.9, 1.0 - 1e-9],
        AGREEMENT: [0.7, 0.95, 1.0, 0.95],
        COST: [0.05, 0.32, 0.01, 0.11],
    }
    assert choose_head(4, measures).head == 3
    found = choose_head(4, measures, ["", "", "", "few clusters"])
    assert (found.head, found.by, found.values) == (1, STABILITY, measures[STABILITY])
    assert choose_head(4, measures | {AGREEMENT: None}).head == 0
    assert choose_head(4, {STABILITY: measures[STABILITY]}).head == 0


def test_a_collapsed_head_is_chosen_only_where_all_are():
    """The figures are of one run: the head of one cluster costs least by far."""
    costs = {COST: [0.877, 1.298]}
    assert choose_head(2, costs).head == 0
    assert choose_head(2, costs, ["one cluster", ""]).head == 1
    assert choose_head(2, {AGREEMENT: [1.0, 0.4]}, ["few clusters", ""]).head == 1
    assert choose_head(2, costs, ["one cluster", "few clusters"]).head == 0


def apart(sure_video=4.0, sure_audio=4.0, clusters=5, videos=400):
    """A model whose heads know the classes, each under numbers of its own; features, classes, and the tables that its
    video and audio heads have learnt."""
    rng = np.random.default_rng(3)
    classes = rng.integers(clusters, size=videos)
    order = rng.permutation(clusters)
    heads = []
    for numbers in (np.arange(clusters), order):
        head = MLPHeads(clusters, clusters, clusters, dropout=0.0)
        with torch.no_grad():
            head.hidden.weight[0] = torch.eye(clusters)
            head.out.weight[0] = torch.eye(clusters)[torch.from_numpy(np.argsort(numbers))]
            head.out.bias.zero_()
        heads.append(head)
    model = MultiStream({}, dict(zip(("video", "audio"), heads, strict=True)), sharing="per_modality").eval()
    features = {
        name: torch.from_numpy(sure * np.eye(clusters)[classes] + rng.exponential(1.5, (videos, clusters))).float()
        for name, sure in (("video", sure_video), ("audio", sure_audio))
    }
    tables = {"labels_audio": torch.from_numpy(classes)[:, None], "labels": torch.from_numpy(order[classes])[:, None]}
    return model, features, classes, tables


def test_labels_numbered_apart_are_joined_by_their_meaning(monkeypatch):
    model, features, classes, tables = apart()

    def labels_of(some):
        monkeypatch.setattr(type(model), "encode", lambda self, clips: some)
        return head_labels(model, {}, CPU, "float32")

    def nmi():
        found = labels_of(features)
        return {name: clustering_metrics(best[0].numpy(), classes).nmi for name, (best, _) in found.items()}

    before = nmi()
    assert before["joint"] < min(before["video"], before["audio"])
    number_together(model, {"labeller": tables})
    after = nmi()
    assert after["joint"] >= max(after["video"], after["audio"])
    assert [after[name] for name in ("video", "audio")] == pytest.approx([before[name] for name in ("video", "audio")])
    one = {name: x[:1] for name, x in features.items()}  # a video alone is numbered as among others
    whole, alone = (labels_of(x)["audio"][0][0, 0] for x in (features, one))
    assert whole == alone


def test_heads_that_learn_one_table_are_left_as_they_are():
    model, _, _, tables = apart()
    before = model.cluster_heads["audio"].out.weight.clone()
    number_together(model, {"labeller": {"labels": tables["labels"]}})
    number_together(model, {"labeller": {"labels": tables["labels"], "labels_audio": tables["labels"]}})
    number_together(model, {})
    assert torch.equal(model.cluster_heads["audio"].out.weight, before)


@pytest.fixture(scope="module")
def run(indexed, tmp_path_factory):
    """A small run with two heads."""
    out = tmp_path_factory.mktemp("heads") / "run"
    words = ["labelling.clusters=3", "labelling.heads=2", "labelling.passes=3", "optim.epochs=1", "optim.batch=8"]
    words += ["workers=0", "device=cpu", "labelling.warmup_batches=1", f"out={out}"]
    assert main(["train", *indexed, "experiment=selavi_sample", *words]) == 0
    return out


def opened(folder):
    return open_source(EvaluateConfig(run=str(folder)))


def test_a_run_is_measured_once_and_its_figures_name_the_measure(run):
    choice = chosen_head(opened(run), CPU)
    assert choice.by == STABILITY
    assert (run / FILE).exists()
    assert main(["clusters", f"run={run}", "workers=0", "previews=0"]) == 0
    figures = json.loads((run / "clusters" / "clustering.json").read_text())["test"]
    assert (figures["chosen_head"], figures["chosen_by"]) == (choice.head, STABILITY)
    assert "stability of the labels" in (run / "clusters/explorer/data/overview.js").read_text()


def test_a_damaged_file_is_made_anew_and_without_videos_the_checkpoint_decides(run, tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    first = chosen_head(opened(copy), CPU)
    with monkeypatch.context() as patched:
        patched.setattr("avssl.evaluate.head_measures.labels_of_passes", None)  # the file does
        assert chosen_head(opened(copy), CPU) == first
    for text in ("[]", (copy / FILE).read_text().replace('"spread"', '"spread", "x"')):
        (copy / FILE).write_text(text)
        assert chosen_head(opened(copy), CPU) == first
    (copy / FILE).unlink()
    gone = opened(copy)
    gone.data.index = str(tmp_path / "none")
    found = chosen_head(gone, CPU)
    assert found.by == AGREEMENT
    assert found.values == pytest.approx(load_run_state(copy)["labeller"]["measures"]["agreement"].tolist())
    del gone.labeller["measures"]  # of an older version
    assert chosen_head(gone, CPU).by == COST
