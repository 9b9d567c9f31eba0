"""Figures are fractions in files and percent wherever a person reads them."""

import io
import json
import re

import numpy as np
from rich.console import Console

from avssl.cli import main
from avssl.evaluate.report import latex, result_line, tables
from avssl.explore.table import print_table
from avssl.metrics.clustering import clustering_table

SCORES = {"nmi": 0.934, "ami": 0.934, "ari": 0.934, "accuracy": 0.934, "purity": 0.934}
FRACTION = re.compile(r"\b0\.9\d+")


def text_of(*what) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    for one in what:
        console.print(one)
    return console.export_text()


def test_runs_and_their_summary(tmp_path, capsys):
    run = tmp_path / "runs" / "a"
    (run / "clusters").mkdir(parents=True)
    (run / "evaluate").mkdir()
    (run / "config.yaml").write_text("")
    (run / "status.json").write_text("{}")
    joint = {"heads": [{"metrics": SCORES}]}
    clustering = {"evidence": {"joint": joint}, "chosen_head": 0, "floors": {"raw_pixels": 0.167, "both": 0.21}}
    (run / "clusters" / "clustering.json").write_text(json.dumps({"reported": "test", "test": clustering}))
    evaluated = {"columns": ["class"], "k": 20, "linear": {"video": {"class": 0.956}},
                 "retrieval": {"class": {"1": 0.912}}}  # fmt: skip
    (run / "evaluate" / "evaluate.json").write_text(json.dumps(evaluated))
    young = tmp_path / "runs" / "young"  # has no clusters yet
    young.mkdir()
    (young / "config.yaml").write_text("")
    assert main(["summary", str(run), str(young)]) == 0
    said, warned = capsys.readouterr()
    assert re.search(r"NMI % +raw k-means %\n[^\n]+\n? +93\.4 +21\.0\n", said)
    assert "NMI: min 93.4 % · median 93.4 % · max 93.4 %" in said
    assert "left out" in warned
    assert f"run `avssl clusters {young}` first" in warned
    assert main(["summary", str(young)]) == 2
    capsys.readouterr()
    assert main(["summary", f"runs=['{run}']", "of=evaluate"]) == 0
    more = capsys.readouterr().out
    assert "95.6" in more
    other = tmp_path / "b"  # has no probe
    (other / "evaluate").mkdir(parents=True)
    (other / "config.yaml").write_text("")
    del evaluated["linear"]
    (other / "evaluate" / "evaluate.json").write_text(json.dumps(evaluated))
    table = tmp_path / "table.md"
    assert main(["summary", f"runs=['{run}','{other}']", "of=evaluate", f"out={table}"]) == 0
    assert "| linear probe, video |  | 95.6 (1 of 2 runs) |" in table.read_text()
    assert "| video retrieval, R@1 |  | 91.2 ± 0.0 |" in table.read_text()
    capsys.readouterr()
    assert main(["runs", f"folder={tmp_path}"]) == 0
    table = capsys.readouterr().out
    for part in ("best figure", "93.4"):
        assert part in table
    assert not FRACTION.search(said + more + table)


def test_tables_of_an_evaluation():
    clustering = {"kmeans": {"video": {m: {"mean": v, "half": 0.012, "values": [v] * 3} for m, v in SCORES.items()}}}
    figures = {
        "columns": ["class"], "k": 20, "data": "ucf101", "folds": [1], "linear": {"video": {"class": 0.934}},
        "knn": {"video": {"class": 0.934}}, "retrieval": {"class": {"1": 0.934}}, "clustering": {"class": clustering},
        "few_shot": {"video": {"class": {"1": {"mean": 0.934, "half": 0.012, "values": [0.934] * 3}}}},
        "robustness": {"class": {"none": {"joint": {"nmi": 0.934}}}},
        "finetune": {"class": {"video": 0.934, "clip": 0.934}},
    }  # fmt: skip
    for text in (text_of(*tables(figures)), latex(figures)):
        assert text.count("93.4") >= 12
        assert not FRACTION.search(text)
    titles = " ".join(str(table.title) for table in tables(figures))
    assert titles.count("%") >= 7
    assert "after the last epoch" in titles
    assert "published, best epoch" in text_of(*tables(figures))


def test_one_column_of_labels_stands_in_the_title_and_several_above_their_figures():
    figures = {"columns": ["class"], "k": 20, "data": "mine", "folds": [1], "linear": {"video": {"class": 0.5}},
               "knn": {"video": {"class": 0.5}}, "retrieval": {"class": {"1": 0.64}}}  # fmt: skip
    accuracy, retrieval = tables(figures)
    assert accuracy.title == "accuracy of the class on the test split, %"
    assert [column.header for column in accuracy.columns] == ["features", "linear probe", "20-NN"]
    assert list(retrieval.columns[0].cells) == ["the same class"]
    figures["columns"] = ["class", "digit"]
    for task in ("linear", "knn"):
        figures[task]["video"]["digit"] = 0.4
    accuracy = tables(figures)[0]
    assert [column.header for column in accuracy.columns][1:3] == ["class\nlinear probe", "class\n20-NN"]
    assert accuracy.title == "accuracy on the test split, %"
    assert result_line(figures) == "linear probe 50.0 (video) · 20-NN 50.0 (video) · R@1 64.0 (video)"
    of_file = {"columns": ["class"], "k": 20, "folds": [1], "data": "mine", "features": "mine.npz",
               "knn": {"features": {"class": 0.5}}, "retrieval": {"class": {"1": 0.64}}}  # fmt: skip
    assert result_line(of_file) == "20-NN 50.0 (features) · R@1 64.0 (features)"
    assert tables(of_file)[1].title == "retrieval by these features: recall at k on the test split, %"


def test_the_table_of_a_clustering():
    labels = np.repeat(np.arange(4), 25)[:, None]
    table = clustering_table({name: labels for name in ("joint", "video", "audio")}, labels[:, 0])
    console = Console(width=120, record=True, file=io.StringIO())
    print_table(table, console)
    text = console.export_text()
    assert text.count("100.0") == 3 * 5 + 1  # five figures of each evidence, and agreement
    assert "in %, entropies in nats" in text
