"""What a training survives: being killed at any instant, damaged files, a full disk, a loss that is no number."""

import hashlib
import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

from avssl.cli import main
from avssl.core.checkpoint_store import FOLDER, Checkpoints, damage, name_of, steps_of
from avssl.core.errors import UserError
from avssl.runs.checkpoints import load_run_state
from avssl.selflabel.labelling_steps import labelling_steps
from tests.processes import FORKSERVER, Started

WORDS = [
    "experiment=selavi_sample", "labelling.clusters=3", "labelling.heads=2", "labelling.passes=7",
    "labelling.warmup_batches=2", "optim.batch=6", "optim.epochs=4", "workers=0", "threads=1", "device=cpu",
    "log_steps=1", "save_seconds=0",
]  # fmt: skip
STEPS = 24
KILLS = 12


@pytest.fixture(scope="module")
def whole(indexed, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert end([*indexed, *WORDS, f"out={out}"]) == 0
    return out


def end(words: list[str], file_size: int = 0, said: Path | None = None) -> int:
    return Started(words, said, file_size=file_size).end()


def lines_of(run: Path) -> list[dict]:
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def same(run: Path, other: Path) -> None:
    """The same losses, labellings, weights and labels, bit for bit, and no other files."""
    ours, theirs = (
        [{k: v for k, v in line.items() if k in ("step", "kind", "loss", "costs", "gradient_norm")} for line in x]
        for x in (lines_of(run), lines_of(other))
    )
    assert ours == theirs
    one, two = load_run_state(run), load_run_state(other)
    assert all(torch.equal(one["model"][key], two["model"][key]) for key in two["model"])
    assert torch.equal(one["labeller"]["labels"], two["labeller"]["labels"])
    assert torch.equal(one["labeller"]["log_alpha"], two["labeller"]["log_alpha"])
    assert len(steps_of(run / FOLDER)) == 2
    left = [p.name for p in run.rglob("*") if p.is_file() and not p.name.startswith("events.out")]
    assert sorted(left) == sorted(p.name for p in other.rglob("*") if p.is_file() and not p.name.startswith("events"))


@pytest.mark.slow
def test_killed_at_any_instant_it_is_the_same_training(whole, indexed, tmp_path):
    words, run = [*indexed, *WORDS, f"out={tmp_path / 'run'}"], tmp_path / "run"
    instants, draw = {"any": 0, "saving": 0, "solving": 0}, random.Random(0)
    due = labelling_steps(STEPS, 7)
    seconds = 0.0
    for kill in range(KILLS):
        kind = ("any", "saving", "solving")[kill % 3]
        began = time.monotonic()
        process = Started(words).process
        before = len(lines_of(run))
        while process.is_alive():
            lines = lines_of(run)
            at = max((line["step"] for line in lines if line["kind"] == "train"), default=-1) + 1
            labelled = sum(line["kind"] == "labelling" for line in lines)
            moved = len(lines) > before or kill == 0
            if kind == "any" and moved and time.monotonic() - began > seconds:
                break
            if kind == "saving" and moved and [*(run / FOLDER).glob(".step_*/*")]:
                break
            if kind == "solving" and labelled < len(due) and at == due[labelled]:
                time.sleep(draw.uniform(0, 0.03))
                break
        seconds = draw.uniform(0, 1.5)
        instants[kind] += process.is_alive()
        process.kill()
        process.join()
        if process.exitcode == 0:  # done before it was killed: once more from the beginning
            same(run, whole)
            shutil.rmtree(run)
    assert all(count >= 2 for count in instants.values()), instants
    assert end(words) == 0
    same(run, whole)


@pytest.mark.parametrize("harm", ["truncated", "changed", "no manifest", "half a manifest", "gone"])
def test_a_damaged_checkpoint_is_passed_over(harm, whole, indexed, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    newest = run / FOLDER / name_of(STEPS)
    path = newest / ("manifest.json" if "manifest" in harm else "process_0000.ckpt")
    data = path.read_bytes()
    if harm in ("truncated", "half a manifest"):
        path.write_bytes(data[: len(data) // 2])
    elif harm == "changed":
        path.write_bytes(data[:200] + bytes([data[200] ^ 1]) + data[201:])
    else:
        path.unlink()
    assert damage(newest) is not None
    config = (run / "config.yaml").read_text().replace(str(whole), str(run))
    (run / "config.yaml").write_text(config)
    assert load_run_state(run)["step"] < STEPS
    assert end([*indexed, *WORDS, f"out={run}"]) == 0
    assert (run / FOLDER / f"damaged_{name_of(STEPS)}").is_dir()
    shutil.rmtree(run / FOLDER / f"damaged_{name_of(STEPS)}")
    same(run, whole)


def test_nothing_left_to_go_on_from_is_one_line(whole, indexed, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    for step in steps_of(run / FOLDER):
        (run / FOLDER / name_of(step) / "state.ckpt").write_bytes(b"")
    assert main(["train", *indexed, *WORDS, f"out={run}"]) == 2
    assert "all checkpoints" in capsys.readouterr().err.splitlines()[-1]
    assert main(["clusters", f"run={run}"]) == 2
    assert "all checkpoints" in capsys.readouterr().err


def test_a_finished_run_is_left_alone(whole, indexed):
    newest = whole / FOLDER / name_of(STEPS)
    metrics = whole / "metrics.jsonl"

    def kept() -> object:
        hashes = {p: hashlib.sha256(p.read_bytes()).digest() for p in [*newest.iterdir(), metrics]}
        return hashes, newest.stat().st_mtime_ns

    before = kept()
    assert end([*indexed, *WORDS, f"out={whole}"]) == 0
    assert before == kept()


def test_a_full_disk_keeps_the_last_good_checkpoint(whole, indexed, tmp_path):
    run, said = tmp_path / "run", tmp_path / "said"
    words = [*indexed, *WORDS, f"out={run}"]
    size = (whole / FOLDER / name_of(STEPS) / "state.ckpt").stat().st_size
    assert end([*words, "save_seconds=9999", "optim.epochs=4"], size // 2, said) == 2
    assert "free some space" in said.read_text()
    assert not [*(run / FOLDER).glob("*step_*")]
    process = Started(words).process
    while not steps_of(run / FOLDER):
        time.sleep(0.01)
    process.kill()
    process.join()
    good = steps_of(run / FOLDER)
    assert end(words, size // 2, said) == 2
    assert f"the last good one is of step {good[-1]}" in said.read_text()
    assert "File too large" in said.read_text()
    assert steps_of(run / FOLDER) == good
    assert end(words) == 0
    same(run, whole)


def test_two_trainings_do_not_share_a_run(tmp_path):
    held = Checkpoints(tmp_path)
    process = FORKSERVER.Process(target=_hold, args=(str(tmp_path),))
    process.start()
    process.join()
    assert process.exitcode == 3
    held.close()
    Checkpoints(tmp_path).close()
    assert [p.name for p in (tmp_path / FOLDER).iterdir()] == []


def _hold(folder: str) -> None:
    with pytest.raises(UserError, match="another command is training in"):
        Checkpoints(Path(folder))
    raise SystemExit(3)


def test_a_loss_that_is_no_number_names_its_videos(indexed, tmp_path, capsys, monkeypatch):
    run = tmp_path / "run"
    # the loss after the first step is NaN or infinite
    monkeypatch.setattr("avssl.train.run_state.learning_rate", lambda *_: 1e30)
    words = ["optim=published", "labelling.passes=1"]
    assert main(["train", *indexed, *WORDS, *words, f"out={run}"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    found = json.loads((run / "bad_batch.json").read_text())
    assert f"at step {found['step']}" in error
    assert len(found["videos"]) == 6
    assert all(path in error for path in found["videos"][:3])
    for step in steps_of(run / FOLDER):
        state = load_run_state(run) if step else {}
        assert all(x.isfinite().all() for x in state.get("model", {}).values())
    assert json.loads((run / "status.json").read_text())["state"] == "failed"


def test_signals_of_a_scheduler_say_that_it_is_to_go_on(indexed, tmp_path):
    run = tmp_path / "run"
    process = Started([*indexed, *WORDS, "optim.epochs=300", f"out={run}"]).process
    while len(lines_of(run)) < 3:
        time.sleep(0.01)
    time.sleep(0.05)
    os.kill(process.pid, signal.SIGUSR2)
    process.join()
    assert process.exitcode == 75
    assert json.loads((run / "status.json").read_text())["state"] == "stopped"
    assert load_run_state(run)["step"] > 0
