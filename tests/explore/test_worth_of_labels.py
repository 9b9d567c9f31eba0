"""The worth of a run's labels, in clustering.json, in the table and in plain lines."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from avssl.evaluate.predictions import Predictions
from avssl.explore.table import print_table, table_rows
from avssl.explore.worth import usable, with_floors, worth_lines, worth_of_labels
from avssl.metrics.clustering import clustering_table

K, N = 4, 200
TRUTH = np.arange(N) % K


def predictions(joint: np.ndarray, audio_distance: float = 6.0, seed: int = 0, raw: bool = False) -> Predictions:
    rng = np.random.default_rng(seed)
    made = {
        name: (d * np.eye(K, 8)[TRUTH] + rng.standard_normal((N, 8))).astype(np.float32)
        for name, d in (("video", 6.0), ("audio", audio_distance))
    }
    made["video"][3] = np.nan  # a video that failed
    labels = {name: np.stack([joint, joint], 1).astype(np.int32) for name in ("joint", "video", "audio")}
    for x in labels.values():
        x[3] = -1
    inputs = rng.random((N - 1, 2, 32, 32)) if raw else None
    return Predictions(labels, {}, [], inputs, inputs, features=made, kept=np.arange(N))


def found_for(joint: np.ndarray, ids: np.ndarray | None = None, audio: float = 6.0, raw: bool = False) -> dict:
    return worth_of_labels(predictions(joint, audio, 1, raw), predictions(joint, audio, 2), ids, 0, K, 0.5)


def test_good_labels_stand_beside_their_floors():
    found = found_for(TRUTH, TRUTH, raw=True)
    table = clustering_table(predictions(TRUTH).labels, TRUTH, None, K)
    shown = with_floors(table, found, TRUTH, usable(predictions(TRUTH))[1])
    json.dumps(found, allow_nan=False)
    json.dumps(shown.to_dict(), allow_nan=False)
    assert found["looks_better"] == []
    assert found["agreement"] == pytest.approx(1)
    assert found["videos"] == found["fitted_on"] == N - 1
    by_name = {(row["kind"], row["from"]): row for row in found["labellings"]}
    assert by_name["heads", "joint"]["nmi"] == pytest.approx(1)
    assert by_name["k-means", "both"]["accuracy"] == pytest.approx(1)
    assert by_name["raw", "pixels"]["nmi"] < 0.2
    headings, rows = table_rows(shown)
    assert [row[:2] for row in rows[-6:]] == [
        *(["k-means", name] for name in ("video", "audio", "both")),
        *(["raw", name] for name in ("pixels", "log_mel", "both")),
    ]
    assert {len(row) for row in rows} == {len(headings)}
    out = io.StringIO()
    print_table(shown, Console(file=out, width=80))
    assert max(map(len, out.getvalue().splitlines())) <= 80
    assert "…" not in out.getvalue()
    assert not any("warning" in line or "apart little" in line for line in worth_lines(found, ["equal"]))


def test_a_floor_that_looks_better_is_a_warning_without_classes():
    found = found_for(np.random.default_rng(5).integers(0, K, N))
    assert ["k-means", "both"] in found["looks_better"]
    assert "nmi" not in found["labellings"][0]
    assert any("looks better than these labels" in line for line in worth_lines(found, ["equal"]))


def test_a_modality_that_says_little_is_named_with_what_to_do():
    found = found_for(TRUTH, audio=0.0)
    line = worth_lines(found, ["equal"])[-1]
    assert line.startswith("the audio says little about your videos")
    assert "labelling.modality_weights=auto" in line
    assert "label_video" in line
    assert "gives it little weight" in worth_lines(found, ["auto"])[-1]


def test_nothing_to_compare():
    nobody = Predictions({"joint": np.full((2, 1), -1)}, {}, [])
    assert worth_of_labels(nobody, nobody, None, 0, 3) is None
    assert worth_of_labels(predictions(TRUTH), predictions(TRUTH), None, 0, 1) is None
