"""Checkpoints that somebody else may have made: what their manifest may name, and what is read of them when."""

import hashlib
import json
import os
import shutil
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from avssl.core.checkpoint_store import FOLDER, MANIFEST, STATE, Checkpoints, damage, name_of, steps_of
from avssl.core.errors import UserError
from avssl.runs.checkpoints import load_run_state

STEP = name_of(7)
SHARED = {
    "step": 7, "model": {"w": torch.ones(2)}, "optimizer": {"state": {}, "param_groups": []},
    "videos": {"number": 3, "digest": "d"}, "batch": 2, "processes": 1, "begun": 1,
    "labeller": {"costs": torch.zeros(1), "done": 1},
}  # fmt: skip
OWN = {
    "rows": [0, 3], "tables": {"labels": torch.zeros(3, 1, dtype=torch.int32)}, "failures": {},
    "rng": torch.get_rng_state(), "rng_device": None,
}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    with closing(Checkpoints(tmp_path)) as checkpoints:
        checkpoints.save(7, SHARED, OWN)
    return tmp_path


def test_a_whole_one_is_read(run):
    assert damage(run / FOLDER / STEP) is None
    state = load_run_state(run)
    assert state["step"] == 7
    assert state["tables"]["labels"].shape == (3, 1)


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: {}, "step is missing"),
        (lambda m: [], "a list"),
        (lambda m: {**m, "files": {}}, "files must be"),
        (lambda m: {**m, "files": {STATE: m["files"][STATE]}}, "files must be"),
        (lambda m: {**m, "files": {**m["files"], "../../secret": m["files"][STATE]}}, "files must be"),
        (lambda m: {**m, "files": {**m["files"], "/dev/zero": m["files"][STATE]}}, "files must be"),
        (lambda m: {**m, "processes": 2}, "files must be"),
        (lambda m: {**m, "processes": 10**12}, "processes is "),
        (lambda m: {**m, "files": {**m["files"], STATE: None}}, "null"),
        (lambda m: {**m, "files": {**m["files"], STATE: {**m["files"][STATE], "bytes": -1}}}, "bytes is -1"),
        (lambda m: {**m, "files": {**m["files"], STATE: {**m["files"][STATE], "bytes": 1}}}, "has changed"),
        (lambda m: {**m, "files": {**m["files"], STATE: {**m["files"][STATE], "sha256": "ab"}}}, "sha256 is"),
        (lambda m: {**m, "files": {**m["files"], STATE: {**m["files"][STATE], "sha256": "0" * 64}}}, "has changed"),
    ],
)
def test_a_manifest_that_names_others_is_of_no_whole_checkpoint(change, said, run):
    path = run / FOLDER / STEP / MANIFEST
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    problem = damage(path.parent)
    assert problem is not None
    assert said in problem
    with pytest.raises(UserError, match="damaged"):
        load_run_state(run)


def test_nothing_is_read_of_what_is_no_file_or_of_another_size(run):
    folder = run / FOLDER / STEP
    for make in (
        lambda path: path.symlink_to("/dev/zero"),
        os.mkfifo,
        os.mkdir,
        lambda path: os.truncate(path.touch() or path, 1 << 40),
    ):
        part = folder / "process_0000.ckpt"
        part.unlink(missing_ok=True)
        make(part)
        began = time.process_time()
        assert damage(folder) is not None
        assert time.process_time() - began < 30  # reading it all takes minutes, or has no end
        part.rmdir() if part.is_dir() and not part.is_symlink() else part.unlink()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("step", "7", "step is '7'"),
        ("step", -1, "step is -1"),
        ("step", 1e23, "step is"),
        ("model", [1], "model is a list"),
        ("model", {"w": [1]}, "model is"),
        ("model", {1: torch.ones(1)}, "model is"),
        ("optimizer", {}, "param_groups is missing"),
        ("videos", {"number": 10**12, "digest": "d"}, "rows of its processes"),
        ("videos", None, "a number|videos"),
        ("processes", 2, "it is from 2"),
        ("processes", 0, "processes is 0"),
        ("batch", None, "batch is None"),
        ("labeller", {"costs": [0.5], "done": 1}, "costs is a list"),
        ("labeller", {"done": 1}, "costs is missing"),
        ("labeller", {"costs": torch.zeros(1, 1), "done": 1}, "costs is"),
        ("labeller", 3, "labeller is 3"),
        ("memory", [], "memory is a list"),
        ("model", None, "model is None"),
    ],
)
def test_a_state_of_other_shape_names_its_field(name, value, said, run):
    signed(run / FOLDER / STEP, STATE, {**SHARED, name: value})
    with pytest.raises(UserError, match=said) as caught:
        load_run_state(run)
    assert STEP in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("rows", [0, 2], "shape"),
        ("rows", [1, 4], "rows of its processes"),
        ("rows", [0], "rows is"),
        ("rows", "ab", "rows is"),
        ("rows", [0, 1e3], "rows is"),
        ("tables", {"labels": [1]}, "tables is"),
        ("tables", {"labels": torch.zeros(())}, "shape"),
        ("failures", ["x"], "failures is"),
        ("failures", {"a": 1}, "failures is"),
        ("rng", None, "rng is None"),
        ("rng", torch.zeros(3), "rng is"),
    ],
)
def test_a_part_of_other_shape_names_its_field(name, value, said, run):
    signed(run / FOLDER / STEP, "process_0000.ckpt", {**OWN, name: value})
    with pytest.raises(UserError, match=said):
        load_run_state(run)


def signed(folder: Path, name: str, state: Any) -> None:
    """Put another state in the place of a file, and into the manifest that it is right."""
    torch.save(state, folder / name)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][name] = {"bytes": (folder / name).stat().st_size, "sha256": sha(folder / name)}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_folders_of_other_names_are_no_checkpoints(run):
    for name in ("step_²", "step_7", "step_00000000007", "step_-000000001", "step_" + "9" * 30, "step_x", "step_"):
        shutil.copytree(run / FOLDER / STEP, run / FOLDER / name)
    assert steps_of(run / FOLDER) == [7]
    with closing(Checkpoints(run)) as checkpoints:
        assert checkpoints.newest() == run / FOLDER / STEP
