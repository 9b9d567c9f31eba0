"""The short result of `avssl clusters`."""

import io
import json
import os

import numpy as np
import pytest

from avssl.config.auto import Facts, decide, too_few
from avssl.core.screen import Console
from avssl.explore.clusters import unsaid
from avssl.explore.result import known_floors, print_short, result_of
from avssl.metrics.clustering import clustering_table

LABELS = np.array([0, 0, 1, 1, 3, -1])
CLASSES = np.array([0, 0, 1, 1, 1, 1])


def table(classes=CLASSES):
    video = np.where(LABELS == 3, 0, LABELS)
    return clustering_table(
        {"joint": LABELS[:, None], "video": video[:, None], "audio": LABELS[:, None]}, classes, None, 4
    )


def test_the_line_with_classes():
    result = result_of(table(), "test", {"pixels": 0.1, "log_mel": 0.21, "both": 0.2}, None)
    assert result.used_clusters == 3
    assert result.line("open it") == f"3 of 4 clusters used · NMI {100 * result.nmi:.1f} (raw k-means 21.0) · open it"
    assert result_of(table(), "test", None, None).line("x").count("raw") == 0


def test_the_line_without_classes():
    confidence = np.array([0.5, 0.7, np.nan])
    result = result_of(table(None), "all", None, confidence)
    assert result.nmi is None
    assert result.line("x") == "3 of 4 clusters used · mean confidence 60.0 % · video and audio agree on 80.0 % · x"


def test_the_table_is_short_and_fits():
    for classes, lines in ((CLASSES, 7), (None, 2)):
        out = io.StringIO()
        print_short(table(classes), Console(file=out, width=80), "a_split_with_a_name")
        printed = out.getvalue().splitlines()
        assert len(printed) == lines
        assert max(map(len, printed)) <= 80
        assert "1 of 6 videos could not be decoded" in out.getvalue()


def test_the_raw_figure_of_an_earlier_call_is_kept(tmp_path):
    index, path = tmp_path / "test.parquet", tmp_path / "clustering.json"
    index.touch()
    floors = {"pixels": 0.1, "log_mel": 0.2, "both": 0.3}
    figures = {"run": "runs/a", "test": {"videos": 6, "undecodable": 1, "floors": floors}}
    path.write_text(json.dumps(figures))
    assert known_floors(path, "runs/a", "test", table(), index) == floors
    assert known_floors(path, "runs/b", "test", table(), index) is None
    assert known_floors(path, "runs/a", "train", table(), index) is None
    assert known_floors(path, "runs/a", "test", table(None), index) is None
    os.utime(index, (path.stat().st_mtime + 9,) * 2)  # indexed again since
    assert known_floors(path, "runs/a", "test", table(), index) is None


SAME = '{"run": "runs/a", "test": {"videos": 6, "undecodable": 1'
FLOORS = ', "floors": {"pixels": "x", "log_mel": 1, "both": 1}}}'


@pytest.mark.parametrize("text", ["", "{", "[]", '{"run": "runs/a"}', SAME + "}}", SAME + FLOORS])
def test_damaged_figures_are_ignored(text, tmp_path):
    (tmp_path / "test.parquet").touch()
    (tmp_path / "clustering.json").write_text(text)
    assert known_floors(tmp_path / "clustering.json", "runs/a", "test", table(), tmp_path / "test.parquet") is None


def test_advice_that_training_gave_is_not_repeated():
    few = too_few(7, 7)
    given = decide(Facts(7, 7, shortest=2.0, median=6.0)).lines
    assert unsaid(few, []) == few
    assert unsaid(few, given) == ""
    assert unsaid("", given) == ""
