"""A run that cannot locate sounds is refused before any work, without torch."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from avssl.config import LocateConfig
from avssl.core.errors import UserError
from avssl.core.out_folder import note_videos_of
from avssl.locate.check_options import check_locate, folder_of

PREFIX = "avssl.locate.check_options."


@pytest.mark.parametrize(
    ("modalities", "video", "objectives", "said"),
    [
        (["video"], "tiny", {"localisation": 1.0}, "does not encode audio"),
        (["audio"], "tiny", {"contrast": 1.0}, "does not encode video"),
        (["video", "audio"], "table:7", {"contrast": 1.0}, "table of features and has no encoders"),
        (["video", "audio"], "tiny", {"labelling": 1.0}, "labelling alone: train with objective=localisation"),
    ],
)
def test_runs_that_cannot_locate(modalities, video, objectives, said, monkeypatch, tmp_path):
    data = SimpleNamespace(root=str(tmp_path), index="none")
    trained = SimpleNamespace(
        data=data, modalities=modalities, objectives=objectives, model=SimpleNamespace(video=video)
    )
    monkeypatch.setattr(f"{PREFIX}read_config", lambda _: trained)
    with pytest.raises(UserError, match=said):
        check_locate(LocateConfig(run="run", out="run/locate"))


def test_outputs_among_the_videos_and_unknown_splits(indexed, tiny_sample, monkeypatch):
    data = SimpleNamespace(root=str(tiny_sample), index=indexed[1].removeprefix("data.index="))
    trained = SimpleNamespace(
        data=data, modalities=["video", "audio"], objectives={"contrast": 1.0}, model=SimpleNamespace(video="tiny")
    )
    monkeypatch.setattr(f"{PREFIX}read_config", lambda _: trained)
    check_locate(LocateConfig(run="run", out="run/locate", split="test"))
    with pytest.raises(UserError, match="lies in the folder of videos"):
        check_locate(LocateConfig(run="run", out=f"{tiny_sample}/locate"))
    with pytest.raises(UserError, match="has no split 'nope': it has test, train"):
        check_locate(LocateConfig(run="run", out="run/locate", split="nope"))


def test_boxes_of_the_index_and_of_new_videos_do_not_replace_each_other(tmp_path, monkeypatch):
    trained = SimpleNamespace(
        data=SimpleNamespace(root=str(tmp_path / "root"), index="none"), modalities=["video", "audio"],
        objectives={"localisation": 1.0}, model=SimpleNamespace(video="tiny"),
    )  # fmt: skip
    monkeypatch.setattr(f"{PREFIX}read_config", lambda _: trained)
    run, new = tmp_path / "run", tmp_path / "new"
    new.mkdir()
    for folder in (run / "locate", tmp_path / "out"):
        folder.mkdir(parents=True)
        (folder / "boxes.parquet").touch()
    check_locate(LocateConfig(run=str(run), out=str(tmp_path / "out")))
    with pytest.raises(UserError, match="out contains the boxes of the videos of an index: choose another folder"):
        check_locate(LocateConfig(run=str(run), videos=str(new), out=str(tmp_path / "out")))
    for own in (run / "locate", run / ".." / "run" / "locate"):  # in other words, it is the same folder
        config = LocateConfig(run=str(run), videos=str(new), out=str(own))
        check_locate(config)
        assert folder_of(config).resolve() == run / "locate" / "videos" / "new"
    note_videos_of(tmp_path / "out", str(new))
    check_locate(LocateConfig(run=str(run), videos=str(new), out=str(tmp_path / "out")))
    with pytest.raises(UserError, match="out contains the boxes of new videos, not of the run's index"):
        check_locate(LocateConfig(run=str(run), out=str(tmp_path / "out")))


def test_the_checks_import_no_torch():
    code = "import sys, avssl.locate.check_options; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
