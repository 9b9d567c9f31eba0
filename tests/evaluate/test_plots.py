"""What the plots draw: lines over an order, and bars over kinds that have none."""

from itertools import pairwise

import pytest

from avssl.evaluate.plots import _recall, _robustness

figure = pytest.importorskip("matplotlib.figure")


def test_kinds_of_damage_are_groups_of_bars_that_do_not_overlap():
    axes = figure.Figure().add_subplot()
    found = {
        "none": {"joint": {"nmi": 0.9}, "video": {"nmi": 0.5}},
        "no sound": {"joint": {"nmi": 0.4}, "video": {"nmi": None}},
        "picture / 2": {"joint": {"nmi": 0.8}, "video": {"nmi": 0.2}},
    }
    _robustness(axes, found)
    assert not axes.lines  # a line would say that one kind lies between two others
    bars = [bar for group in axes.containers for bar in group.patches]
    assert [round(bar.get_height()) for bar in bars if bar.get_height() == bar.get_height()] == [90, 40, 80, 50, 20]
    sides = sorted((bar.get_x(), bar.get_x() + bar.get_width()) for bar in bars)
    assert all(left[1] <= right[0] + 1e-9 for left, right in pairwise(sides))
    assert [tick.get_text() for tick in axes.get_xticklabels()] == list(found)


def test_recall_over_k_is_a_line():
    axes = figure.Figure().add_subplot()
    _recall(axes, {"digit": {"1": 0.5, "5": 0.8}})
    assert len(axes.lines) == 1
    assert not axes.patches
