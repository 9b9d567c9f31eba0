"""The table of a clustering as it is printed."""

import io
import json

import numpy as np
from rich.console import Console

from avssl.core.screen import unsigned_zero
from avssl.explore.table import print_table, table_notes, table_rows
from avssl.metrics.clustering import clustering_table


def test_printed_table_fits_a_terminal():
    rng = np.random.default_rng(1)
    classes = np.repeat(np.arange(5), 40)
    shares = rng.permutation(np.linspace(0.1, 0.7, 10))
    arrays = {
        name: np.stack([np.where(rng.random(200) < p, rng.integers(0, 5, 200), classes) for p in shares], 1)
        for name in ("joint", "video", "audio")
    }
    best = int(shares.argmin())
    table = clustering_table(arrays, classes, np.linspace(1, 2, 10) * 10, 5)
    headings, rows = table_rows(table)
    assert len(rows) == 3 * (10 + 2)
    assert {len(row) for row in rows} == {len(headings)}
    out = io.StringIO()
    print_table(table, Console(file=out, width=80))
    text = out.getvalue()
    assert "…" not in text
    assert "0*" in text
    assert f"{best}†" in text
    assert "oracle" in text
    assert max(map(len, text.splitlines())) <= 80


def test_each_number_has_a_plain_form():
    labels = np.array([[0, 0], [0, 1], [1, 2], [1, 0]])
    headings, rows = table_rows(clustering_table({"joint": labels}, np.array([0, 1, 0, 1]), None, 3))
    used = [row[headings.index("used")] for row in rows]
    assert used == ["2", "3", "2.5", "0.7"]
    assert [unsigned_zero(x) for x in ("-0.0", "-0.4", "0.0", "-10.0", "–")] == ["0.0", "-0.4", "0.0", "-10.0", "–"]


def test_the_notes_speak_of_figures_that_are_there():
    labels = {"joint": np.array([[0], [1]])}
    assert table_notes(clustering_table(labels)).startswith("shares in %, entropies in nats")
    assert table_notes(clustering_table(labels, np.array([0, 1]))).startswith("NMI, AMI, ARI and shares in %")


def test_nobody_decodable_still_prints():
    table = clustering_table({"joint": np.full((2, 1), -1)}, np.array([0, 1]), None, 3)
    json.dumps(table.to_dict(), allow_nan=False)
    out = io.StringIO()
    print_table(table, Console(file=out, width=80))
    assert "–" in out.getvalue()
