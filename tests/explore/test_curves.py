import json
from itertools import pairwise

from avssl.explore.curves import POINTS, read_curves


def log(folder, *lines) -> None:
    (folder / "metrics.jsonl").write_text("".join(x if isinstance(x, str) else json.dumps(x) + "\n" for x in lines))


def test_the_curves_of_a_log(tmp_path):
    first = {"step": 0, "kind": "labelling", "changed": 1.0, "nmi": [None, None], "entropy": [0.9, 0.8]}
    log(
        tmp_path,
        first,
        {"step": 0, "kind": "train", "loss": 2.5},
        {"step": 5, "kind": "collapse", "head": 0},
        {"step": 10, "kind": "train", "loss": 1.5},
        first | {"step": 10, "changed": 0.5, "nmi": [0.25, 0.5]},
    )
    assert read_curves(tmp_path) == {
        "train": {"step": [0, 10], "loss": [2.5, 1.5]},
        "labelling": {"step": [0, 10], "changed": [1.0, 0.5], "nmi": [[None, 0.25], [None, 0.5]],
                      "entropy": [[0.9, 0.9], [0.8, 0.8]]},
    }  # fmt: skip


def test_a_long_log_is_thinned_to_its_first_and_last_line_and_some_between(tmp_path):
    log(tmp_path, *({"step": step, "kind": "train", "loss": float(step)} for step in range(5000)))
    steps = read_curves(tmp_path)["train"]["step"]
    assert len(steps) == POINTS
    assert (steps[0], steps[-1]) == (0, 4999)
    assert max(b - a for a, b in pairwise(steps)) < 20


def test_what_is_no_number_is_left_out(tmp_path):
    log(
        tmp_path,
        {"step": 3, "kind": "train", "loss": "<script>"},
        {"step": "x", "kind": "train", "loss": 1.0},
        {"step": 2, "kind": "train", "loss": 1.0},  # not after step 3
        '{"step": 4, "kind": "train", "loss": NaN}\n',
        {"step": 5, "kind": "labelling", "changed": None, "nmi": "text", "entropy": [True, 1e999]},
        {"step": 6, "kind": "labelling", "nmi": list(range(100))},
        '{"step": 7, "kind": "train", "lo',
    )
    found = read_curves(tmp_path)
    assert found["train"] == {"step": [3, 4], "loss": [None, None]}
    assert found["labelling"]["step"] == [5, 6]
    assert found["labelling"]["changed"] == [None, None]
    assert found["labelling"]["entropy"][:2] == [[None, None], [None, None]]
    assert len(found["labelling"]["nmi"]) == 32
    json.dumps(found, allow_nan=False)


def test_no_log_is_no_curve(tmp_path):
    assert read_curves(tmp_path) is None
    log(tmp_path)
    assert read_curves(tmp_path) is None
    (tmp_path / "metrics.jsonl").unlink()
    (tmp_path / "metrics.jsonl").mkdir()
    assert read_curves(tmp_path) is None
