"""The bench runs what it says and reports it; the transcriptions are what they claim."""

import importlib.util

import pytest

from avssl.plan.timing import random_evidence
from avssl.selflabel.marginals import uniform
from benchmarks.__main__ import main
from benchmarks.options import BenchAlignmentConfig, BenchSinkhornConfig
from benchmarks.sinkhorn import _measure, main_alignment, main_sinkhorn, plain_alternation, published_error


def test_sinkhorn_figures_table_and_plot(tmp_path, monkeypatch):
    """In this process: the next test has one of its own, which takes seconds to import torch."""
    monkeypatch.setattr("benchmarks.sinkhorn._alone", _measure)
    config = BenchSinkhornConfig(sizes=["3000x8"], lam=2.0, stream_rows=2000, out=str(tmp_path))
    found = {f.method.split(",")[0]: f for f in main_sinkhorn(config)}
    assert "streamed" in found["newton"].method
    assert found["newton"].error <= 0.1 + 1e-3
    assert found["plain"].error <= 0.1
    for f in found.values():
        assert f.cost == pytest.approx(found["plain"].cost, rel=1e-3)
        assert f.passes > 1
    assert set(found) == {"newton", "plain"} | ({"pot"} if importlib.util.find_spec("ot") else set())
    assert "| newton, streamed |" in (tmp_path / "sinkhorn.md").read_text()
    assert (tmp_path / "sinkhorn.png").exists() == bool(importlib.util.find_spec("matplotlib"))


def test_a_stopped_alternation_is_marked_and_large_problems_are_skipped(capsys):
    config = BenchSinkhornConfig(sizes=["2000x8"], methods=["plain", "pot"], plain_seconds=0.001, pot_rows=10)
    config.tolerance = 0.0
    (found,) = main_sinkhorn(config)
    assert found.extrapolated
    assert found.passes == pytest.approx(2 * config.alternations)
    said = capsys.readouterr().out
    assert "pot skipped" in said
    assert "extrapolated" in said


def test_the_plain_alternation_solves_the_problem():
    problem = random_evidence(500, 5, seed=0)
    log_alpha, done = plain_alternation(problem.block_of(0, 500), uniform(5), 2.0, 1e-6, 2000, 60)
    assert done < 2000
    assert published_error(problem, log_alpha, uniform(5), 2.0) <= 1e-6


def test_alignment_table(tmp_path, capsys):
    config = BenchAlignmentConfig(videos=500, clusters=20, swaps=3000, out=str(tmp_path))
    none, swaps, exact = main_alignment(config)
    assert exact.agreement >= swaps.agreement - 1e-6
    assert swaps.distance < none.distance
    assert "exact" in (tmp_path / "alignment.md").read_text()
    assert "swaps" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [["sinkhorn", "sizes=[12]"], ["sinkhorn", "methods=[best]"], ["alignment", "swaps=-1"]]
)
def test_a_wrong_option_is_one_line(words, capsys):
    assert main(words) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
