"""The simulated index: its phases in this process, at a small size."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from avssl.core.errors import UserError
from avssl.core.part import part_of
from avssl.videos import index
from benchmarks import scale
from benchmarks.options import BenchScaleConfig


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks, and the threshold of mapped tables, which phases lower, as it was."""
    monkeypatch.setattr(scale, "BLOCK", 700)
    monkeypatch.setattr(index, "MAPPED_ROWS", index.MAPPED_ROWS)


def here(name: str, phase: scale.Phase, config: BenchScaleConfig, folder: Path) -> scale.Figures:
    return scale.Figures(name, 1.0, 2e8, 3e8, phase(config, folder))


def test_all_phases_of_a_small_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(scale, "_phase", here)
    monkeypatch.setattr(scale, "PHASES", {k: x for k, x in scale.PHASES.items() if k != "the same in new processes"})
    found = scale.run(BenchScaleConfig(rows=2000, parts=3, batch=10, folder=str(tmp_path)))
    results = {f.phase: f.result for f in found}
    own = sum(part_of(path, 3) == 0 for path in scale.simulated_paths(0, 2000, 2000).to_pylist())
    assert results["a job finds its files"] == f"{own:,} files of part 1"
    assert results["open, and make a data set"] == "2,000 rows"
    assert results["fingerprint"] == "2,000 files"
    assert results["order of an epoch"] == "2,000 different rows in 200 batches"
    assert [*tmp_path.iterdir()] == []  # its files are removed
    assert "2,000 simulated videos in 3 parts" in " ".join(capsys.readouterr().out.split())


def test_simulated_rows_are_those_of_an_index_in_its_order():
    rows = scale.simulated_rows(1300, 1500, 2000)
    assert rows.schema == index.SCHEMA
    paths = rows["path"].to_pylist()
    assert paths == sorted(paths)
    assert paths[0] == "class_0260/video_0000001300_000010.mp4"
    assert rows["class"][0].as_py() == "class_0260"


def test_a_disk_that_is_too_small_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scale.shutil, "disk_usage", lambda _: SimpleNamespace(free=10**9))
    with pytest.raises(UserError, match=r"rows=100000000 needs 28 GB of disk space, but .* has 1 GB free"):
        scale.run(BenchScaleConfig(rows=10**8, folder=str(tmp_path)))
    with pytest.raises(UserError, match=r"is no folder"):
        scale.run(BenchScaleConfig(folder=str(tmp_path / "missing")))


def test_a_phase_in_a_process_of_its_own_is_measured_and_its_error_is_raised(tmp_path: Path):
    config = BenchScaleConfig(rows=1000, parts=2)
    found = scale._phase("files", scale._own_files, config, tmp_path)
    assert found.seconds > 0
    assert 10e6 < found.memory < found.mapped
    with pytest.raises(UserError, match="there is no index"):
        scale._phase("open", scale._open, config, tmp_path)
