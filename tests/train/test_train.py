"""Training end to end on files, small: the outputs of a run, exact resume, and what stops it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from avssl.cli import main
from avssl.config import OptimConfig
from avssl.core.checkpoint_file import load_checkpoint
from avssl.core.errors import UserError
from avssl.runs.checkpoints import load_run_state
from avssl.train.schedule import learning_rate
from avssl.train.trainer import batch_words
from tests.processes import Started

SMALL = [
    "experiment=selavi_sample", "labelling.clusters=3", "labelling.heads=2", "labelling.passes=4",
    "labelling.warmup_batches=2", "optim.batch=8", "workers=0", "threads=1", "device=cpu", "log_steps=1",
    "save_seconds=0",
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(indexed, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert main(["train", *indexed, *SMALL, "optim.epochs=3", f"out={out}"]) == 0
    return out


def losses(run: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if line["kind"] == "train"}


def test_a_run_holds_all_that_is_promised(trained, capsys):
    card = (trained / "model_card.md").read_text()
    assert "2 heads of 3 clusters" in card
    assert "14 of 14 steps" in card
    assert "Figures\n\nNone yet" in card
    assert str(trained.parent) not in card
    assert (trained / "config.yaml").exists()
    assert json.loads((trained / "versions.json").read_text())["packages"]["torch"]
    assert list(trained.glob("events.out.tfevents.*"))
    assert len(losses(trained)) == 14  # 36 videos, 3 epochs of 4.5 batches of 8
    capsys.readouterr()
    assert main(["clusters", f"run={trained}", "floors=true", "workers=0"]) == 0
    out = trained / "clusters"
    said = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        r"\d of 3 clusters used · NMI [\d.]+ \(raw k-means [\d.]+\) · open the page: avssl open .*", said[-1]
    )
    assert sum("joint" in line for line in said) == 1  # one table, of the chosen head
    assert all(len(line) <= 80 for line in said if str(trained) not in line)
    assert "| NMI of labels and classes | test |" in (trained / "model_card.md").read_text()
    rows = pq.read_table(out / "assignments.parquet").to_pylist()
    assert len(rows) == 3 * 16
    assert {row["split"] for row in rows} == {"train", "test"}
    for head in range(2):
        assert {row[f"label_{head}"] for row in rows} <= {0, 1, 2}
        assert all(0 < row[f"confidence_{e}_{head}"] <= 1 for row in rows for e in ("joint", "video", "audio"))
    figures = json.loads((out / "clustering.json").read_text())
    assert figures["reported"] == "test"
    assert set(figures["test"]["floors"]) == {"pixels", "log_mel", "both"}
    assert (out / "assignments.csv").read_text().count("\n") == 1 + 48
    assert (out / "explorer/index.html").is_file()
    assert len(list((out / "explorer/previews").rglob("*.mp4"))) >= 3
    overview = (out / "explorer/data/overview.js").read_text()
    clusters = json.loads(overview[overview.index(",") + 1 : overview.rindex(")")])["cluster"]
    assert all((c["sound"] is not None) == (c["size"] > 0) for c in clusters)
    assert main(["summary", f"runs=[{trained}]"]) == 0
    assert "median" in capsys.readouterr().out


def test_every_labelling_met_its_marginal(trained):
    labels = load_run_state(trained)["labeller"]["labels"]
    assert labels.dtype == torch.int32
    assert labels.shape == (36, 2)
    solves = [json.loads(line) for line in _lines(trained) if '"labelling"' in line]
    assert len(solves) == 4
    assert all(error <= 0.1 for solve in solves for error in solve["errors"])
    # the plan's masses are even; its argmax need not be, while the evidence is near uniform
    assert all(set(labels[:, head].tolist()) == {0, 1, 2} for head in range(2))


def test_a_killed_run_goes_on_bit_for_bit(trained, indexed, tmp_path):
    out = tmp_path / "killed"
    words = ["train", *indexed, *SMALL, "optim.epochs=3", f"out={out}"]
    process = Started(words[1:])
    while process.running and not (out.exists() and len(_lines(out)) > 6):
        time.sleep(0.01)
    process.send(signal.SIGKILL)
    process.end()
    assert 0 < load_run_state(out)["step"] < 14
    assert main(words) == 0
    assert losses(out) == losses(trained)
    ours, theirs = (load_run_state(run) for run in (out, trained))
    assert (ours["labeller"]["labels"] == theirs["labeller"]["labels"]).all()
    assert all((ours["model"][key] == theirs["model"][key]).all() for key in theirs["model"])


def _lines(run: Path) -> list[str]:
    path = run / "metrics.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def test_sigterm_saves_and_says_so(indexed, tmp_path):
    out = tmp_path / "stopped"
    words = [*indexed, *SMALL, "optim.epochs=200", "workers=2", "save_seconds=9999", f"out={out}"]
    process = Started(words, tmp_path / "said", alone=True)
    while process.running and len(_lines(out)) < 4:
        time.sleep(0.05)
    os.killpg(process.process.pid, signal.SIGTERM)  # the workers too, as a terminal or a scheduler does
    assert process.end() == 130
    assert "repeat the command to resume" in process.text()
    assert load_run_state(out)["step"] > 0


def test_another_config_does_not_overwrite_a_run(trained, indexed, capsys):
    assert main(["train", *indexed, *SMALL, "optim.epochs=4", f"out={trained}"]) == 2
    assert "optim.epochs=3, not 4" in capsys.readouterr().err


def test_a_training_of_few_steps_is_told_of(indexed, tmp_path, capsys):
    assert main(["train", *indexed, *SMALL, "optim.epochs=1", f"out={tmp_path / 'run'}"]) == 0
    assert (
        "warning: a model learns little in fewer than 50 steps: raise optim.epochs (now 1)" in capsys.readouterr().out
    )


def test_too_short_for_two_clips_is_told_before_torch_is_imported(indexed, tmp_path):
    words = ["train", *indexed, "experiment=gdt_sample", "contrast.axes.time_shift=distinct", f"out={tmp_path / 'run'}"]
    code = "import sys; from avssl.cli import main; sys.exit(main(sys.argv[1:]) + ('torch' in sys.modules))"
    quiet = {**os.environ, "AVSSL_VERBOSITY": "quiet"}  # a busy machine adds no line
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False, env=quiet)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "shorter than the 2 s of two clips" in line
    assert "data.min_seconds=2, or set contrast.axes.time_shift=invariant" in line
    assert not (tmp_path / "run").exists()


def test_more_clusters_than_videos_is_an_error(indexed, capsys, tmp_path):
    assert main(["train", *indexed, *SMALL, "labelling.clusters=37", f"out={tmp_path / 'run'}"]) == 2
    assert "36 training videos" in capsys.readouterr().err


def test_videos_that_break_after_indexing_do_not_stop_a_run(tiny_sample, tmp_path):
    import shutil

    root = tmp_path / "broken"
    shutil.copytree(tiny_sample, root)
    data = [f"data.root={root}", f"data.index={tmp_path / 'index'}"]
    assert main(["index", *data, "workers=1"]) == 0
    videos = sorted((root / "train").glob("*/*.mp4"))
    for path in videos[:3]:
        path.write_bytes(path.read_bytes()[:500])
    out = tmp_path / "run"
    assert main(["train", *data, *SMALL, "optim.epochs=1", f"out={out}"]) == 0
    assert len(json.loads((out / "failures.json").read_text())) == 3
    labels = load_run_state(out)["labeller"]["labels"]
    assert (labels[:3] == -1).all()
    assert (labels[3:] >= 0).all()


def test_a_checkpoint_with_code_inside_is_refused(tmp_path):
    class Code:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    torch.save({"model": Code()}, tmp_path / "bad.ckpt")
    with pytest.raises(UserError, match="cannot be read"):
        load_checkpoint(tmp_path / "bad.ckpt")
    assert not (tmp_path / "ran").exists()


def test_published_warm_up():
    config = OptimConfig(lr=0.01, warmup_epochs=10, schedule="constant")
    rates = [learning_rate(config, step, 100, 20_000, processes=64) for step in (0, 499, 999, 1000, 19_999)]
    assert rates == pytest.approx([0.01 + 0.63 / 1000, 0.325, 0.64, 0.64, 0.64])
    cosine = OptimConfig(lr=0.1, warmup_epochs=0, schedule="cosine")
    assert learning_rate(cosine, 50, 10, 100) == pytest.approx(0.05)


def test_figures_for_a_service_that_is_not_installed_are_refused_at_once(indexed, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("avssl.train.check_options.find_spec", lambda name: None)
    assert main(["train", *indexed, *SMALL, "wandb=mine", f"out={tmp_path / 'run'}"]) == 2
    assert "pip install wandb" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_named_clusters_become_a_data_set(trained, indexed, tmp_path, capsys):
    out = tmp_path / "clusters"
    capsys.readouterr()
    assert (
        main(["clusters", f"run={trained}", f"out={out}", "workers=0", "previews=0", "json=true", "details=true"]) == 0
    )
    said = capsys.readouterr()
    result = json.loads(said.out)
    assert (result["run"], result["step"], result["split"], result["videos"]) == (str(trained), 14, "test", 12)
    assert (result["page"], result["labelled"]) == (str(out / "explorer/index.html"), None)
    assert 0 <= result["nmi"] <= 1
    assert "entropy" in said.err  # the table of every head
    about = pq.read_schema(out / "assignments.parquet").metadata[b"avssl"]
    step, head = (json.loads(about)[key] for key in ("step", "chosen_head"))
    names = tmp_path / "names.json"
    said = {"0": {"name": "a/b"}, "1": {"into": 0}}
    names.write_text(json.dumps({"avssl_names": 1, "step": step, "head": head, "clusters": said}))
    labelled = (out / "assignments.parquet").stat().st_mtime_ns
    assert main(["clusters", f"run={trained}", f"out={out}", f"names={names}"]) == 0
    assert (out / "assignments.parquet").stat().st_mtime_ns == labelled  # nothing was labelled again
    rows = pq.read_table(out / "labelled/labelled.parquet").to_pylist()
    assert len(rows) == 48
    assert {(row["label"], row["name"]) for row in rows} <= {(0, "a/b"), (2, "cluster_002")}
    assert {p.name for p in (out / "labelled/videos").glob("*/*")} <= {"a_b", "cluster_002"}
    assert '"a/b"' in (out / "explorer/data/overview.js").read_text()
    # it is a folder of videos by class, as any other
    assert main(["index", f"data.root={out / 'labelled/videos'}", f"data.index={tmp_path / 'index'}", "workers=1"]) == 0
    assert pq.read_table(tmp_path / "index/train.parquet")["class"].to_pylist().count("a_b") > 0
    # of one split alone
    words = ["clusters", f"run={trained}", f"out={out}", f"names={names}"]
    assert main([*words, "split=test"]) == 0
    part = pq.read_table(out / "labelled/labelled.parquet").to_pylist()
    assert part == [row for row in rows if row["split"] == "test"]
    assert 0 < len(part) < len(rows)
    capsys.readouterr()
    assert main([*words, "split=tset"]) == 2
    assert "has no split 'tset': it has test, train" in capsys.readouterr().err
    names.write_text(json.dumps({"avssl_names": 1, "step": step + 1, "head": head, "clusters": said}))
    assert main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("batch", "rows", "windows", "processes", "words"),
    [
        (16, 300, False, 1, "16 videos per step"),
        (16, 16, True, 2, "16 windows per step in 2 processes"),
        (16, 7, False, 1, "16 clips per step, several of a video"),
        (16, 7, True, 2, "16 clips per step, several of a window in 2 processes"),
    ],
)
def test_a_batch_of_more_clips_than_there_are_videos_says_so(batch, rows, windows, processes, words):
    assert batch_words(batch, rows, windows, processes) == words
