"""Options by the names that they had: refused with the new name in words and presets, translated in older files."""

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from avssl.assets import assets_root
from avssl.cli import main
from avssl.config import DatasetCard, IndexedDataConfig, TrainConfig
from avssl.config.compose import compose_config
from avssl.config.option import accepted_keys
from avssl.config.renamed import INSTEAD, RENAMED
from avssl.config.run_folder import make_run_folder, read_config, write_config
from avssl.core.errors import UserError
from avssl.videos.index_options import options_of, resolve_for_training

# of a run of the version before the options were renamed: all that has gone or has another name, and no default
BEFORE = """
data:
  root: {root}
  name: talks
  index: {index}
  layout: class
  storage: files
  extensions: [mp4, webm]
  window_seconds: 2.0
  min_seconds: 1.5
  silence_db: -50.0
  probe_timeout: 30.0
  train_split: train
  test_split: val
  annotations: list.csv
  format: vggsound
  fold: 2
  trimmed: never
  keep_classes: [a, b]
  require_sound: false
  card: {{title: VGG-Sound, files: [{{names: [vggsound.csv], split: '', optional: false}}], counts: [{{train: 9}}]}}
clip: {{keep_mb: 1000.0, crop: 100, std: 0.5}}
labelling:
  clusters: 3
  solves: 7
  shuffle_groups: true
  label_at_end: false
  normalise_logits: true
  marginal: {marginal}
  sigma: 0.3
  zipf_exponent: 2.0
  exponential_scale: 5.0
  sizes: {sizes}
  sizes_file: {file}
  empirical_floor: 0.2
contrast: {{own: ['axes:Grey:invariant'], form: released, shifts: independent, reverse: before}}
optim: {{clip: 1.5}}
launch: {{gpus: 4, memory_gb: 100.0, qos: high, constraint: a100, sbatch: [exclusive]}}
task: both
out: {out}
"""
VALUES = {"marginal": "gaussian", "sizes": "[]", "file": "null"}


def open_run(config):
    folder = make_run_folder(config)
    write_config(config)
    return folder


@pytest.fixture
def before(tmp_path: Path) -> Callable[..., Path]:
    """Makes a run folder of that version, and the index that it was trained on."""

    def make(**values: str) -> Path:
        run, index = tmp_path / "run", tmp_path / "index"
        text = BEFORE.format(root=tmp_path / "videos", index=index, out=run, **{**VALUES, **values})
        for folder in (run, index):
            folder.mkdir()
        (run / "config.yaml").write_text(text)
        data = OmegaConf.to_container(OmegaConf.create(text).data)
        (index / "index.json").write_text(json.dumps({"root": str(tmp_path / "videos"), "probe": 1, "data": data}))
        return run

    return make


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "labelling.solves=4"], "labelling.solves is now called labelling.passes"),
        (["plan", "contrast.own=[a:B:distinct]"], "contrast.own is now called contrast.custom_axes"),
        (["train", "optim.clip=1"], "optim.clip is now called optim.max_grad_norm"),
        (["train", "clip.keep_mb=100"], "clip.keep_mb is now called clip.cache_mb"),
        (["train", "--multirun", "labelling.solves=4,5"], "labelling.solves is now called labelling.passes"),
        (["train", "labelling.sigma=1"], "labelling.marginal_parameter="),
        (["train", "labelling.sizes_file=x.csv"], "labelling.sizes=[sizes.csv]"),
        (["train", "labelling.label_at_end=false"], "labelling.released=[no_last_pass]"),
        (["train", "contrast.form=released"], "contrast.released=[loss]"),
        (["train", "clip.mean=0"], "the mean 0.45"),
        (["index", "data.storage=tar"], "recognised by its shards.parquet"),
        (["train", "launch.qos=high"], "launch.sbatch=['qos=…']"),
        (
            ["train", "data.window_seconds=2"],
            "run `avssl index my_videos data.window_seconds=…`",
        ),
        (["plan", "data.min_seconds=2"], "data.min_seconds belongs to `avssl index`"),
        (["doctor", "data.layout=flat"], "data.layout belongs to `avssl index`"),
        (["prepare", "data.require_sound=false"], "data.require_sound belongs to `avssl index`"),
        (["evaluate", "data.fold=2"], "write folds=[2]"),
        (["train", "data.fold=2"], "data.index=index/ucf101_fold2"),
        (["evaluate", "task=knn"], "write tasks=[knn]"),
        (["index", "data.test_split=val"], "data.test_split belongs to `avssl train`"),
        (["doctor", "min_fps=1"], "the usual frame rates are fixed"),
        (["prepare", "patience=1"], "20 times its duration"),
    ],
)
def test_an_old_word_is_refused_with_the_new_one(words: list[str], said: str, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_every_old_name_is_known_and_no_new_one_is_old() -> None:
    keys = {key.name for key in accepted_keys(TrainConfig)}
    assert set(RENAMED.values()) <= keys
    assert not keys & (RENAMED.keys() | INSTEAD.keys())


@pytest.mark.parametrize("name", ["labelling.solves", "optim.clip", "labelling.sigma"])
def test_an_old_name_in_a_preset_is_refused_with_the_new_one(name: str, tmp_path: Path, monkeypatch) -> None:
    for folder in ("configs", "data"):
        shutil.copytree(assets_root() / folder, tmp_path / folder)
    section, _, key = name.partition(".")
    mine = f"# @package _global_\n{section}:\n  {key}: 1\n"
    (tmp_path / "configs" / "experiment" / "mine.yaml").write_text(mine)
    monkeypatch.setattr("avssl.config.compose.assets_root", lambda: tmp_path)
    monkeypatch.setattr("avssl.config.presets.assets_root", lambda: tmp_path)
    with pytest.raises(UserError, match=rf"^{name} (is|was) "):
        compose_config("train", TrainConfig, ["data.root=x", "experiment=mine"])


def test_a_run_of_the_version_before_opens_with_the_same_settings(before: Callable[..., Path]) -> None:
    run = before()
    found = read_config(run)
    assert (found.labelling.passes, found.clip.cache_mb, found.optim.max_grad_norm) == (7, 1000.0, 1.5)
    assert found.contrast.custom_axes == ["axes:Grey:invariant"]
    assert found.contrast.released == ["loss", "shifts", "reversal"]
    assert found.clip.std == [0.5] * 3  # one number then
    assert found.labelling.released == ["shuffle_groups", "normalise_logits", "no_last_pass"]
    assert (found.labelling.marginal, found.labelling.marginal_parameter) == ("gaussian", 0.3)
    assert found.launch.sbatch == ["exclusive", "qos=high", "constraint=a100", "mem=102400M"]
    assert (found.data.name, found.data.test_split) == ("talks", "val")
    reading = found.data.reading
    assert (reading.window_seconds, reading.min_seconds, reading.silence_db) == (2.0, 1.5, -50.0)
    assert (reading.extensions, reading.probe_timeout) == (["mp4", "webm"], 30.0)


@pytest.mark.parametrize(
    ("values", "parameter", "sizes"),
    [
        ({"marginal": "zipf"}, 2.0, []),
        ({"marginal": "exponential"}, 5.0, []),
        ({"marginal": "empirical"}, 0.2, []),
        ({"marginal": "uniform"}, None, []),
        ({"marginal": "given", "sizes": "[50.0, 30.0, 2.5]"}, None, ["50", "30", "2.5"]),
        ({"marginal": "given", "file": "sizes.csv"}, None, ["sizes.csv"]),
    ],
)
def test_cluster_sizes_of_the_version_before(before: Callable[..., Path], values, parameter, sizes) -> None:
    labelling = read_config(before(**values)).labelling
    assert (labelling.marginal_parameter, labelling.sizes) == (parameter, sizes)


def test_options_as_they_were_by_default_are_as_they_are_now(tmp_path: Path) -> None:
    text = "data: {root: r, name: n, index: i}\nlabelling: {marginal: gaussian, sigma: 0.1, shuffle_groups: false, "
    text += "label_at_end: true, normalise_logits: false}\nout: o\n"
    text += "contrast: {form: composed, shifts: apart, reverse: after}\n"
    (tmp_path / "config.yaml").write_text(text)
    found = read_config(tmp_path)
    assert (found.labelling.released, found.labelling.marginal_parameter) == ([], None)
    assert found.contrast.released == []


def test_a_run_of_the_version_before_is_resumed_by_the_new_words(before: Callable[..., Path]) -> None:
    run = before()
    found = read_config(run)
    found.data = resolve_for_training(found.data)
    assert open_run(found) == run
    assert "solves" not in (run / "config.yaml").read_text()
    assert open_run(read_config(run)) == run
    found.labelling.passes = 8
    with pytest.raises(UserError, match=r"labelling\.passes=7, not 8"):
        open_run(found)


def test_a_run_whose_videos_have_moved_is_resumed(before: Callable[..., Path]) -> None:
    run = before()
    found = read_config(run)
    found.data.root = "elsewhere"
    assert open_run(found) == run
    found.data.reading.min_seconds = 9.0
    with pytest.raises(UserError, match=r"data\.min_seconds=1.5, not 9.0"):
        open_run(found)


def test_a_job_that_the_version_before_queued_is_run_with_its_settings() -> None:
    queued = TrainConfig(IndexedDataConfig("r", name="n", index="i"), out="o")  # type: ignore[arg-type]
    for name in ("passes", "released"):
        vars(queued.labelling).pop(name)
    vars(queued.labelling).update(solves=7, shuffle_groups=True)
    vars(queued.data).pop("reading", None)
    vars(queued.data).update(window_seconds=2.0, layout="auto", card=DatasetCard("title"))
    found = pickle.loads(pickle.dumps(queued))
    assert (found.labelling.passes, found.labelling.released) == (7, ["shuffle_groups"])
    assert (found.data.root, found.data.reading.window_seconds) == ("r", 2.0)
    assert pickle.loads(pickle.dumps(found)) == found


def test_an_index_of_the_version_before(before: Callable[..., Path], tmp_path: Path) -> None:
    before()
    options = options_of(tmp_path / "index")
    assert options is not None
    assert (options.window_seconds, options.fold, options.format) == (2.0, 2, "vggsound")
    assert options.card.title == "VGG-Sound"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("labelling: {solves: x}", "labelling.passes"),
        ("labelling: {solves: 0}", "labelling.passes=0 is below"),
        ("labelling: {solves: 3, passes: 4}", "labelling.solves is not an option"),
        ("labelling: 7", "labelling is a section"),
        ("data: {root: r, name: n, index: i, min_seconds: -1}", "data.reading.min_seconds=-1 is below"),
        ("launch: {sbatch: 3, qos: high}", "launch.sbatch"),
        ("clip: {std: 0}", "clip.std=0 is below"),
        ("data: {root: r, name: n, index: i, reading: 7}", "reading"),
    ],
)
def test_what_is_wrong_in_an_older_file_is_still_one_line(text: str, said: str, tmp_path: Path) -> None:
    base = "" if text.startswith("data") else "data: {root: r, name: n, index: i}\n"
    (tmp_path / "config.yaml").write_text(f"{base}{text}\nout: o\n")
    with pytest.raises(UserError) as error:
        read_config(tmp_path)
    assert said in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_job_that_an_earlier_version_queued_is_unpickled() -> None:
    config = compose_config("train", TrainConfig, ["data.root=x", "data.index=i", "contrast=preset_3", "task=gdt"])
    now, before = b"avssl.config.contrast\n", b"avssl.contrast.config\n"
    queued = pickle.dumps(config, protocol=0)
    assert now in queued
    code = "import pickle, sys, avssl.launch.slurm; print(pickle.load(sys.stdin.buffer).contrast.axes.reversal)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, input=queued.replace(now, before), capture_output=True, check=True)
    assert done.stdout.decode().strip() == "invariant"


def test_a_preset_may_not_set_what_is_gone(tmp_path, monkeypatch, capsys) -> None:
    import shutil

    from avssl.assets import assets_root
    from avssl.config import compose, presets

    shutil.copytree(assets_root() / "configs", tmp_path / "configs")
    shutil.copytree(assets_root() / "data", tmp_path / "data")
    monkeypatch.setattr(compose, "assets_root", lambda: tmp_path)
    monkeypatch.setattr(presets, "assets_root", lambda: tmp_path)
    for text, said in (
        ("clip: {mean: 0.5}", "clip.mean was removed"),
        ("labelling: 3", "LabellingConfig"),
        ("foo: [", "mine"),
    ):
        (tmp_path / "configs" / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{text}\n")
        with pytest.raises(UserError) as error:
            compose_config("train", TrainConfig, ["data.root=x", "experiment=mine"])
        assert said in str(error.value)
        assert len(str(error.value).splitlines()) == 1
