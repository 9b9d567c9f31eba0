"""`avssl label` in parts: the command finds the labels, and writes the same bytes."""

import os
import shutil
from pathlib import Path

import pytest

from avssl.cli import main
from avssl.config import LabelConfig
from avssl.config.compose import compose_config
from avssl.core.errors import UserError
from avssl.core.part import Part
from avssl.label import probed as probing
from avssl.label.label_parts import run_part

TRAIN = ["experiment=selavi_small", "labelling.clusters=3", "labelling.heads=2", "labelling.passes=2",
         "optim.epochs=1", "optim.batch=12", "workers=0", "device=cpu"]  # fmt: skip


@pytest.fixture(scope="module")
def run(indexed, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("parts") / "run"
    assert main(["train", *indexed, *TRAIN, f"out={out}"]) == 0
    return out


@pytest.fixture
def folder(tiny_sample, tmp_path) -> Path:
    """Twelve videos, and a file that is none."""
    found = tmp_path / "videos"
    shutil.copytree(tiny_sample / "test", found)
    (found / "text.mp4").write_text("no video")
    return found


@pytest.fixture
def probed(monkeypatch) -> list[str]:
    """The names of the files that were probed."""
    names: list[str] = []
    real = probing.probe

    def counted(request):
        names.append(Path(request.path).name)
        if len(names) == 5 and "stop" in names:
            raise KeyboardInterrupt
        return real(request)

    monkeypatch.setattr(probing, "probe", counted)
    return names


def test_parts_label_what_the_command_then_writes(run, folder, probed, tmp_path, monkeypatch):
    """Three jobs, of which one is stopped and repeated; then new and changed files in parts too."""
    monkeypatch.setattr("avssl.label.label.BATCH", 3)
    words = [f"run={run}", f"videos={folder}", "workers=0", "device=cpu"]
    assert main(["label", *words, f"out={tmp_path}/whole"]) == 0
    config = compose_config("label", LabelConfig, [*words, f"out={tmp_path}/parts"])
    names = sorted(probed)
    probed[:] = ["stop"]
    with pytest.raises(KeyboardInterrupt):
        run_part(config, Part(0, 3))
    probed.remove("stop")
    assert len(probed) == 4  # a batch of three, and the first of the next
    for number in (1, 0, 2):
        run_part(config, Part(number, 3))
    assert not (tmp_path / "parts.csv").exists()
    assert sorted(probed[:3] + probed[4:]) == names
    probed.clear()
    assert main(["label", *words, f"out={tmp_path}/parts"]) == 0
    assert probed == []
    for kind in ("csv", "parquet"):
        assert (tmp_path / f"parts.{kind}").read_bytes() == (tmp_path / f"whole.{kind}").read_bytes()
    assert not [*tmp_path.glob(".parts/parts/*/*")]

    good = next(folder.rglob("*.mp4"))
    new = [folder / f"new{i}.mp4" for i in range(5)]
    for path in new:
        shutil.copy(good, path)
    os.utime(folder / "text.mp4")
    for number in range(3):
        run_part(config, Part(number, 3))
    changed = sorted([*(path.name for path in new), "text.mp4"])
    assert sorted(probed) == changed
    assert main(["label", *words, f"out={tmp_path}/parts"]) == 0
    assert sorted(probed) == changed
    assert len((tmp_path / "parts.csv").read_text().splitlines()) == 1 + 13 + 5


def test_a_batch_that_was_half_written_is_completed_by_its_part(run, folder, probed, tmp_path, monkeypatch):
    monkeypatch.setattr("avssl.label.label.BATCH", 4)
    words = [f"run={run}", f"videos={folder}", "workers=0", "device=cpu", f"out={tmp_path}/x"]
    config = compose_config("label", LabelConfig, words)
    run_part(config, Part(1, 2))
    (journal,) = tmp_path.glob(".x/parts/*/1-of-2/labels.jsonl")
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:2]) + lines[2][:20])
    probed.clear()
    run_part(config, Part(1, 2))
    assert len(probed) == len(lines) - 2


@pytest.mark.parametrize("words", [["videos=-"], ["watch=true"]])
def test_what_comes_later_cannot_be_done_in_parts(run, folder, words):
    config = compose_config("label", LabelConfig, [f"run={run}", f"videos={folder}", *words])
    with pytest.raises(UserError, match="cannot be done in parts: give a folder of videos"):
        run_part(config, Part(0, 2))
