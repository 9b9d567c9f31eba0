"""One clear line and status 2 for whatever is wrong; help that helps."""

import errno
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from avssl.cli import main
from avssl.config import IndexConfig, SampleConfig, TrainConfig, TrainedDataConfig
from avssl.config.compose import compose_config


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trian"], "did you mean train?"),
        (["train", "optim.lrr=1"], "did you mean optim.lr?"),
        (["train", "lr=1"], "did you mean optim.lr?"),
        (["train", "experiment=sampel"], "did you mean sample?"),
        (["train", "data=1"], "no data=1"),
        (["train", "experiment=selavi_sample"], "an index is needed"),
        (["train", "data.root=x", "optim.lr=fast"], "optim.lr"),
        (["train", "data.root=x", "model.video=tiyn"], "did you mean tiny?"),
        (["train", "data.root=x", "optim.batch=0"], "below the minimum 1 videos"),
        (["train", "data.root=x", "clip=published", "clip.crop=200"], "clip.crop=200"),
        (["sample", "digits", "longtail=20"], "longtail=20 is above the maximum 10"),
        (["train", "foo"], "no folder foo"),
        (["train", "optim.lr=["], "cannot read"),
        (["train", "data.root=nowhere", "data.index=nowhere"], "run `avssl index"),
        (["index", "data.root=/no/such/folder"], "does not exist"),
        (["clusters"], "no run in runs: train one first"),
        (["clusters", "run=/no/such/run"], "not a run folder"),
        (["sample", "classes=99"], "classes"),
        (["evaluate"], "no run in runs: train one first"),
        (["evaluate", "run=x", "features=y"], "run and features are given"),
        (["evaluate", "run=/no/such/run"], "not a run folder"),
        (["evaluate", "checkpoint=x", "tasks=liner"], "did you mean linear?"),
        (["models", "fetsh"], "'fetsh' is not a command of avssl models; did you mean fetch?"),
        (["bench"], "in a checkout of avssl, run python -m benchmarks"),
        (["bench", "loader", "items=3"], "run python -m benchmarks loader items=3"),
        (["reproduce", "out=a b"], "run python -m experiments reproduce 'out=a b'"),
        (["hypotheses", "--help"], "run python -m experiments hypotheses --help"),
        (["summary"], "run folders"),
        (["summary", "runs=[nowhere]"], "nowhere is not a run folder"),
    ],
)
def test_wrong_words_are_one_line_with_status_2(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_module_runs():
    done = subprocess.run([sys.executable, "-m", "avssl", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("avssl ")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EFBIG])
def test_a_disk_that_is_full_or_read_only_is_one_line(number: int, capsys, monkeypatch, tmp_path: Path) -> None:
    def fail(config: object) -> None:
        raise OSError(number, os.strerror(number), "index/x/probes.jsonl")

    monkeypatch.setattr("avssl.videos.index_report.run", fail)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").mkdir()
    assert main(["index", "data.root=x"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"index/x/probes.jsonl: {os.strerror(number)}" in line


def test_a_folder_that_cannot_be_written_is_one_line(indexed, tmp_path: Path, capsys) -> None:
    words = ["index", indexed[0], f"data.index={tmp_path / 'index'}", "workers=1"]
    assert main(words) == 0
    (tmp_path / "index").chmod(0o555)
    try:
        if os.access(tmp_path / "index", os.W_OK):
            pytest.skip("this user may write everywhere")
        capsys.readouterr()
        assert main(words) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    finally:
        (tmp_path / "index").chmod(0o700)


def test_configs_are_composed_side_by_side() -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda seed: compose_config("sample", SampleConfig, [f"seed={seed}"]), range(24)))
    assert [config.seed for config in found] == list(range(24))


@pytest.mark.parametrize("path", ["vidéos", "日本/語", "#1", "=x", 'a "b"', "a\\", 'a\\"', "it's é", "(x", "a\nb"])
def test_paths_are_taken_as_they_are(path: str) -> None:
    assert compose_config("index", IndexConfig, [f"data.root={path}"]).data.root == path


def test_show_config_prints_the_resolved_options_and_does_nothing(indexed, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", *indexed, "--show-config", "--seed", "7", "experiment=auto", "device=cpu"]) == 0
    text = capsys.readouterr().out
    shown = yaml.safe_load(text)
    assert (shown["seed"], shown["data"]["root"]) == (7, indexed[0].partition("=")[2])
    assert shown["out"] == "runs/tiny_both_seed7"
    assert shown["data"]["features"] == "auto"  # decided by experiment=auto, which says so above
    assert text.startswith("# ")
    assert main(["train", "--multirun", "experiment=small", "data.root=x", "seed=0,1", "--show-config"]) == 0
    assert [x["seed"] for x in yaml.safe_load_all(capsys.readouterr().out)] == [0, 1]
    assert [*tmp_path.iterdir()] == []


def test_quiet_and_verbose_are_read_anywhere_and_end_with_the_command(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("AVSSL_VERBOSITY", "verbose")
    sizes = ["classes=2", "train=1", "test=0", "workers=1"]
    assert main(["-q", "sample", str(tmp_path / "a"), *sizes]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert "written" in line
    assert os.environ["AVSSL_VERBOSITY"] == "verbose"
    assert main(["sample", str(tmp_path / "b"), *sizes]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 1
    assert main(["sample", "-v", "x", "--quiet"]) == 2
    assert capsys.readouterr().err == "avssl: -q and -v are both given: give one of them\n"


@pytest.mark.parametrize("line", ["train --help all", "--version", "sample x --show-config"])
def test_a_reader_that_ends_is_no_error(line: str) -> None:
    """Nothing is said, not even when the interpreter ends."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "avssl", *line.split()], stdout=write, stderr=subprocess.PIPE, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr.replace(b"avssl sample: at work \xe2\x80\xa6\n", b"")) == (0, b"")


def test_a_run_by_name_is_said_on_standard_error(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AVSSL_VERBOSITY", raising=False)
    (tmp_path / "runs" / "talks").mkdir(parents=True)
    config = OmegaConf.structured(TrainConfig(data=TrainedDataConfig(root="no", name="my_talks", index="i"), out="x"))
    (tmp_path / "runs" / "talks" / "config.yaml").write_text(OmegaConf.to_yaml(config))
    asked = []
    monkeypatch.setattr("avssl.explore.clusters.run", asked.append)
    assert main(["clusters", "my_talks"]) == 0
    assert capsys.readouterr() == ("", "run: runs/talks\n")
    assert (asked[0].run, asked[0].out) == ("runs/talks", "runs/talks/clusters")
    assert main(["clusters", "-q"]) == 0
    assert capsys.readouterr() == ("", "")
