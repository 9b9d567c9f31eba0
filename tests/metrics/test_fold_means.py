"""The mean over folds: of what all folds have, with intervals over independent draws, and never of fewer folds."""

import io
import math

import numpy as np
import pytest
from rich.console import Console

from avssl.evaluate.plots import draw_plots
from avssl.evaluate.report import show, tables
from avssl.metrics.fold_means import mean_over_folds
from avssl.metrics.intervals import mean_of


def draws(*values):
    return {**mean_of(values).to_dict(), "values": list(values)}


def test_figures_are_averaged_and_draws_one_by_one():
    folds = [
        {"linear": {"video": 0.5}, "few": draws(0.4, 0.6, 0.5), "none": None, "name": "x"},
        {"linear": {"video": 0.7}, "few": draws(0.7, 0.9, 0.5), "none": None, "name": "x"},
    ]
    gaps = []
    found = mean_over_folds(folds, gaps)
    assert found["linear"]["video"] == pytest.approx(0.6)
    assert found["few"]["values"] == pytest.approx([0.55, 0.75, 0.5])
    assert found["few"]["mean"] == pytest.approx(0.6)
    assert found["few"]["half"] == pytest.approx(4.303 * np.std([0.55, 0.75, 0.5], ddof=1) / math.sqrt(3), rel=1e-3)
    assert (found["none"], found["name"], gaps) == (None, "x", [])
    assert mean_over_folds(folds[:1]) is folds[0]


def test_the_interval_of_draws_covers_their_mean():
    """Ten draws of three folds, where a draw is good or bad in all folds alike: as their training videos overlap. The
    thirty values taken as independent cover the mean in about 55 % of the cases."""
    rng = np.random.default_rng(0)
    cases, covered, pooled = 1000, 0, 0
    for _ in range(cases):
        values = rng.standard_normal(10) + [[-0.2], [0.0], [0.2]] + 0.3 * rng.standard_normal((3, 10))
        found = mean_over_folds([{"few": draws(*fold)} for fold in values])["few"]
        covered += abs(found["mean"]) < found["half"]
        pooled += abs(found["mean"]) < mean_of(values.ravel().tolist()).half
    assert covered / cases == pytest.approx(0.95, abs=0.02)
    assert pooled / cases < 0.8


@pytest.mark.parametrize("nothing", [None, float("nan")])
@pytest.mark.parametrize("lacking", [0, 1, 2])
def test_a_figure_that_a_fold_lacks_has_no_mean(lacking, nothing):
    folds = [{"linear": {"video": 0.5, "audio": 0.1 * i}, "few": draws(0.4, 0.6)} for i in range(3)]
    folds[lacking]["linear"]["video"] = nothing
    gaps = []
    found = mean_over_folds(folds, gaps, "all")
    assert found["linear"] == {"video": None, "audio": pytest.approx(0.1)}
    assert gaps == ["all/linear/video"]


@pytest.mark.parametrize("lacking", [0, 1])
def test_what_is_nested_and_not_there_at_all(lacking):
    whole = {"linear": {"video": {"class": 0.5}}, "few": {"5": draws(0.4, 0.6)}, "heads": [{"nmi": 0.2}, {"nmi": 0.4}]}
    without = {key: value for key, value in whole.items() if key != "linear"}
    parts = [
        ({**whole, "linear": None}, {"linear": {"video": {"class": None}}}, ["linear/video/class"]),
        (without, {"linear": {"video": {"class": None}}}, ["linear/video/class"]),
        ({**whole, "few": {"5": None}}, {"few": {"5": {"mean": None, "half": None, "values": None}}}, ["few/5"]),
        ({**whole, "few": {"5": draws(0.4)}}, {"few": {"5": {"mean": None, "half": None, "values": None}}}, ["few/5"]),
        ({**whole, "heads": [{"nmi": 0.3}]}, {"heads": [{"nmi": pytest.approx(0.25)}, {"nmi": None}]}, ["heads/1/nmi"]),
    ]  # fmt: skip
    for part, expected, names in parts:
        folds, gaps = [whole, whole], []
        folds[lacking] = part
        found = mean_over_folds(folds, gaps)
        assert gaps == names
        assert {key: found[key] for key in expected} == expected
        for key in whole.keys() - expected.keys():
            assert found[key] is not None


def test_folds_keep_the_names_of_heads():
    """A head's number is no quantity to be averaged."""
    folds = [{"chosen_head": 3, "clusters": 10, "head": h, "nmi": float(h)} for h in (1, 2)]
    gaps = []
    found = mean_over_folds(folds, gaps)
    assert (found["chosen_head"], found["clusters"], found["head"], found["nmi"]) == (3, 10, None, 1.5)
    assert isinstance(found["chosen_head"], int)
    assert mean_over_folds([{"head": 0}, {}])["head"] is None
    assert mean_over_folds([{"done": True}, {"done": False}])["done"] is None
    assert not gaps


def test_a_column_may_have_any_name():
    assert mean_over_folds([{"values": 0.5}, {"values": 0.7}])["values"] == pytest.approx(0.6)


def test_tables_say_what_an_interval_is_of_and_leave_gaps_empty():
    folds = [{"few_shot": {"video": {"class": {"1": draws(0.4, 0.6), "5": draws(0.5, 0.7)}}}} for _ in range(3)]
    folds[2]["few_shot"]["video"]["class"]["5"] = None
    figures = {"folds": [1, 2, 3], "columns": ["class"], "k": 20, "data": "mine", **mean_over_folds(folds)}
    (table,) = tables(figures)
    assert "over 2 draws of them, each the mean over 3 folds" in str(table.title)
    assert [list(column.cells) for column in table.columns] == [["video"], ["50.0 ± 127.1"], [""]]


def test_what_has_no_mean_is_shown_and_plotted_as_a_gap(tmp_path):
    recall = [{"class": {"1": 0.5, "5": 0.7}}, {"class": {"1": None, "5": 0.9}}]
    modal = {f"{a}{b}": 0.5 for a in ("video_audio", "audio_video") for b in ("", "_others", "_instance")}
    across = [{"class": modal}, {"class": modal | {"video_audio": math.nan}}]
    figures = {"folds": [1, 2], "columns": ["class"], "k": 20, "data": "mine",
               "retrieval": mean_over_folds(recall), "cross_modal": mean_over_folds(across)}  # fmt: skip
    console = Console(width=120, record=True, file=io.StringIO())
    show(figures, console)
    text = console.export_text()
    assert "80.0" in text
    assert "video → audio: the nearest neighbour has the same class for – % (P@1" in text
    assert "audio → video: the nearest neighbour has the same class for 50.0 % (P@1" in text
    (plot,) = draw_plots(figures, None, tmp_path)
    assert plot.stat().st_size > 1000
