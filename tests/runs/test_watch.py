"""`avssl watch`: curves that grow with the log, a page that needs nothing, and runs of every state."""

import io
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from avssl.cli import main
from avssl.contrast.prototypes import PrototypeReport
from avssl.core.screen import Console
from avssl.runs import watch
from avssl.runs.watch_curves import BLOCK, KINDS, POINTS, Curve, Curves, limits
from avssl.runs.watch_page import write_page
from avssl.runs.watch_state import Watched

STATUS = {"state": "finished", "why": "", "step": 30, "total": 30, "host": "elsewhere", "pid": 1}
LABELLING = {"kind": "labelling", "changed": 0.5, "nmi": [None, 0.5], "entropy": [0.9, 1.0], "agreement": [None, None]}


def train_line(step: int, loss: float = 1.0, **more: object) -> str:
    return json.dumps({"step": step, "kind": "train", "loss": loss, "videos_per_second": 200.0, **more}) + "\n"


def make_run(folder: Path, text: str = "", **status: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text("task: selavi\n")
    (folder / "metrics.jsonl").write_text(text)
    (folder / "status.json").write_text(json.dumps(STATUS | {"time": time.time()} | status))
    return folder


def loss(curves: Curves) -> list[tuple[float, float]]:
    return curves.curves["train", "loss"].points()


def test_only_what_was_added_is_read_and_a_half_line_waits(tmp_path):
    path = tmp_path / "metrics.jsonl"
    curves = Curves(path)
    assert not curves.read()
    path.write_text(train_line(0, 2.0) + json.dumps({"step": 0} | LABELLING) + "\n" + train_line(10, 1.0)[:-9])
    assert curves.read()
    assert loss(curves) == [(0, 2.0)]
    assert curves.curves["labelling", "nmi"].points() == [(0, 0.5)]
    assert curves.passes == [0]
    with path.open("a") as file:
        file.write(train_line(10, 1.0)[-9:])
    assert curves.read()
    assert not curves.read()
    assert loss(curves) == [(0, 2.0), (10, 1.0)]


def test_a_run_that_resumes_has_replaced_its_log(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(train_line(0, 2.0) + train_line(10, 9.0))
    curves = Curves(path)
    curves.read()
    (tmp_path / "new").write_text(train_line(0, 2.0) + train_line(10, 1.0) + train_line(20, 0.5))
    os.replace(tmp_path / "new", path)
    curves.read()
    assert loss(curves) == [(0, 2.0), (10, 1.0), (20, 0.5)]


def test_damage_is_passed_over(tmp_path):
    lines = ["[1]", "{", '{"step": -1, "kind": "train", "loss": 1}', '{"step": true, "loss": 1}', "\0\udcff",
             '{"step": 1, "kind": "train", "loss": "1"}', '{"step": 1, "kind": "train", "loss": true}',
             f'{{"step": 1, "kind": "train", "loss": 1{"0" * 5000}}}', "[" * 100_000,
             '{"step": 2, "kind": "labelling", "nmi": {"a": 1}}', '{"step": 2, "kind": "prototypes", "inertia": [1]}',
             '{"x": "' + "y" * (1 << 19) + '"}']  # fmt: skip
    path = tmp_path / "metrics.jsonl"
    path.write_bytes("\n".join(lines).encode(errors="surrogateescape") + b"\n" + train_line(3, 0.5).encode())
    curves = Curves(path)
    curves.read()
    assert loss(curves) == [(3, 0.5)]
    os.mkfifo(tmp_path / "pipe")
    assert not Curves(tmp_path / "pipe").read()


def test_a_long_log_is_thinned_and_keeps_its_labelling_passes(tmp_path):
    number, path = 30_000, tmp_path / "metrics.jsonl"
    with path.open("w") as file:
        for i in range(number):
            file.write(train_line(i, i / number, filler="x" * 100))
            if i % 1000 == 0:
                file.write(json.dumps({"step": i} | LABELLING) + "\n")
    assert path.stat().st_size > 4 * BLOCK
    curves = Curves(path)
    curves.read()
    points = loss(curves)
    assert 100 < len(points) <= POINTS + 1
    assert all(value == pytest.approx(step / number) for step, value in points)
    assert curves.passes == list(range(0, number, 1000))
    assert curves.step == number - 1


def test_rank_and_neighbours_of_held_out_videos_are_curves(tmp_path):
    measured = [{"step": 10 * i, "kind": "monitor", "rankme_video": 20.0 + i, "knn5_audio": 0.1 * i} for i in range(4)]
    run = make_run(tmp_path / "run", "".join(json.dumps(line) + "\n" for line in measured))
    watched = Watched(run)
    watched.read()
    assert watched.curves.curves["monitor", "rankme_video"].points() == [(10 * i, 20.0 + i) for i in range(4)]
    line = watch.line_of(watched)
    assert "RankMe, video 23.000" in line
    assert "k-NN, audio 30.0 %" in line
    assert "own audio in five" not in line


def test_passes_that_find_prototypes_are_curves_and_marks(tmp_path):
    """The figures of a pass are lists by number of clusters, by modality, as the run logs them."""
    passes = [
        PrototypeReport([8, 4], {"video": [0.6 - x, 0.8 - x]}, {"video": [0.2, 0.4 + 2 * x]}, {"video": [0, 0]})
        for x in (0.0, 0.1)
    ]
    lines = [json.dumps({"step": 10 * i, "kind": "prototypes", **vars(one)}) + "\n" for i, one in enumerate(passes)]
    run = make_run(tmp_path / "run", train_line(0) + "".join(lines) + train_line(20))
    watched = Watched(run)
    watched.read()
    curves = watched.curves.curves
    assert curves["prototypes", "inertia.video"].points() == [(0, pytest.approx(0.7)), (10, pytest.approx(0.6))]
    assert watched.curves.passes == [0, 10]
    line = watch.line_of(watched)
    assert "spread, video 0.600" in line
    assert "largest, video 40.0 %" in line
    assert "audio" not in line
    write_page(run / "watch.html", watched)
    assert "passes over the data" in (run / "watch.html").read_text()


def test_a_curve_averages_neighbours_and_keeps_the_last_value():
    curve = Curve()
    for step in range(5000):
        curve.add(step, float(step % 2))
    assert len(curve.points()) <= POINTS + 1
    assert curve.last == 1
    assert all(value == 0.5 for _, value in curve.points()[:-1])


def test_noise_does_not_fill_the_axis():
    percent = next(kind for kind in KINDS if kind.percent)
    assert limits(percent, [0.999, 1.0]) == pytest.approx((0.95, 1.0))
    assert limits(KINDS[0], [5.0, math.nan, 1.0]) == (1.0, 5.0)
    low, high = limits(KINDS[0], [2.0, 2.0])
    assert low < 2.0 < high
    assert limits(KINDS[0], []) == (0.0, 0.0)


def test_the_page_escapes_names_and_runs_nothing(tmp_path):
    run = make_run(
        tmp_path / "<img src=x>$& é", train_line(0, math.nan) + train_line(10, 0.5), state="failed", why="<b>"
    )
    watched = Watched(run)
    watched.read()
    write_page(run / "watch.html", watched)
    text = (run / "watch.html").read_text()
    assert "<img" not in text
    assert "&lt;img src=x&gt;$&amp; é" in text
    assert "<b>" not in re.sub(r"<b>[a-zA-Z/ ]+</b>", "", text).replace("&lt;b&gt;", "")
    assert "<script" not in text
    assert 'http-equiv="refresh"' not in text  # it has ended
    assert "NaN or infinite" in text
    assert text.count("<figure") == 2  # no labelling: only what there is


def test_a_running_run_reloads_the_page(tmp_path):
    run = make_run(
        tmp_path / "run", train_line(0) + json.dumps({"step": 0} | LABELLING) + "\n", state="running", step=5
    )
    watched = Watched(run)
    watched.read()
    write_page(run / "watch.html", watched)
    text = (run / "watch.html").read_text()
    assert 'http-equiv="refresh"' in text
    assert "labels changed" in text
    assert "passes over the data" in text
    empty = Watched(make_run(tmp_path / "empty", state="running", step=0))
    empty.read()
    write_page(tmp_path / "empty" / "watch.html", empty)
    assert "No figures yet" in (tmp_path / "empty" / "watch.html").read_text()


ENDED = {
    "finished": "finished, step 30 of 30", "stopped": "to resume it", "failed": "the loss is nan",
    "running": "its process died",
}  # fmt: skip


@pytest.mark.parametrize(("state", "said"), ENDED.items())
def test_a_run_that_has_ended_is_shown_once(state, said, tmp_path, capsys):
    run = make_run(tmp_path / "run", train_line(20, 0.25), state=state, why="the loss is nan\nmore", time=1.0)
    assert main(["watch", str(run)]) == 0
    out = capsys.readouterr().out
    assert said in out
    assert "0.250" in out
    assert str(run / "watch.html") in out.replace("\n", "")
    assert (run / "watch.html").is_file()


def test_it_ends_with_the_run_and_ctrl_c_leaves_the_run_alone(tmp_path, capsys, monkeypatch):
    run = make_run(tmp_path / "run", train_line(0), state="running", step=1)

    def finish(seconds: float) -> None:
        make_run(run, train_line(0) + train_line(20, 0.125))

    monkeypatch.setattr(watch.time, "sleep", finish)
    assert main(["watch", f"run={run}"]) == 0
    out = capsys.readouterr().out
    assert "0.125" in out
    make_run(run, train_line(0), state="running", step=1)

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(watch.time, "sleep", interrupt)
    assert main(["watch", f"run={run}"]) == 0
    assert "the run continues" in capsys.readouterr().out
    assert json.loads((run / "status.json").read_text())["state"] == "running"


def test_the_terminal_has_80_columns(tmp_path):
    run = make_run(tmp_path / ("long_name_" * 12), train_line(0, 1e30, wait_share=0.5, contrast_retrieval=0.1)
                   + json.dumps({"step": 0} | LABELLING | {"agreement": [0.5]}) + "\n")  # fmt: skip
    watched = Watched(run)
    watched.read()
    out = io.StringIO()
    console = Console(file=out, width=80)
    console.print(watch.lines_of(watched, console))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in out.getvalue()
    assert watch.spark([0.0, math.nan, 1.0], (0.0, 1.0)) == "▁×█"
    assert len(watch.spark([float(i) for i in range(500)], (0.0, 499.0))) == watch.WIDTH


def test_it_needs_no_torch():
    rooms = "avssl.runs.watch, avssl.explore.open_page, avssl.runs.model_card"
    code = f"import sys, {rooms}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_large_finite_losses_are_shown_with_an_exponent(tmp_path, capsys):
    for losses in ([1e308, -1e308, 1e308], [1.7e308] * 3000, [-1.7e308, 1.7e308] * 20):
        run = make_run(tmp_path / "runs" / "run", "".join(train_line(i, loss) for i, loss in enumerate(losses)))
        assert main(["watch", str(run)]) == 0
        assert main(["runs", str(tmp_path / "runs")]) == 0
        out = capsys.readouterr().out
        assert "e+308" in out
        assert max(map(len, out.splitlines())) < 200
        assert "inf" not in (run / "watch.html").read_text().replace("-inf", "")


@pytest.mark.parametrize(
    "text",
    ["[1,2]", "null", "\udcff\0", '{"state": "odd"}', '{"state": "running", "step": NaN}', "{}", ""],
)
def test_a_damaged_status_is_one_line(text, tmp_path, capsys):
    run = make_run(tmp_path / "run", train_line(0))
    (run / "status.json").write_bytes(text.encode(errors="surrogateescape"))
    assert main(["watch", str(run)]) == 2
    error = capsys.readouterr().err
    assert "status.json is damaged" in error
    assert len(error.splitlines()) == 1


def test_a_run_that_has_no_status_yet_is_awaited(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run", train_line(0))
    (run / "status.json").unlink()
    monkeypatch.setattr(watch.time, "sleep", lambda seconds: make_run(run, train_line(0)))
    assert main(["watch", str(run)]) == 0


def test_sigterm_leaves_a_page_that_does_not_reload(tmp_path, capsys, monkeypatch):
    run = make_run(tmp_path / "run", train_line(0), state="running", step=1)
    monkeypatch.setattr(watch.time, "sleep", lambda seconds: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    assert main(["watch", str(run)]) == 0
    assert signal.getsignal(signal.SIGTERM) is before
    page = (run / "watch.html").read_text()
    assert "refresh" not in page
    assert re.search(r"as of \d\d:\d\d:\d\d", page)
