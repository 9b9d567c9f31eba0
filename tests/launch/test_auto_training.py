"""`experiment=auto` from the command line: it says why, trains, resumes as it began, and refuses in one line."""

import json
from pathlib import Path

import pytest

from avssl.cli import main
from avssl.config import TrainConfig
from avssl.config.run_folder import read_config
from avssl.videos.auto import compose_auto, has_gpu, note_decision

QUICK = [
    "optim.clips=200", "labelling.passes=3", "data.views=1", "data.augmented=0", "clip.crop=64",
    "clip.short_side_min=64", "clip.short_side_max=72", "clip.short_side_eval=64", "workers=0", "threads=1",
]  # fmt: skip

SHORT = ["workers=0", "previews=0"]


@pytest.fixture(scope="module")
def run(indexed, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("auto") / "run"
    assert main(["train", *indexed, "experiment=auto", *QUICK, f"out={out}"]) == 0
    return out


def test_the_config_has_what_was_decided(run):
    config = read_config(run)
    assert (config.model.video, config.model.audio, config.model.freeze) == (
        "efficientnet_lite0", "statistics", ["video", "audio"],
    )  # fmt: skip
    assert config.data.features == str(run / "features")
    assert (config.labelling.clusters, config.clip.crop, config.clip.mels) == (4, 64, 64)
    record = json.loads((run / "auto.json").read_text())
    assert config.auto == record["words"]
    assert (
        record["reasons"][0]
        == "36 videos, no GPU: efficientnet_lite0 (ImageNet, frozen) and mel statistics, 4 clusters"
    )
    assert [line.partition(":")[0] for line in record["reasons"][1:]] == [
        "encoder", "sound", "clips", "clusters", "length",
    ]  # fmt: skip


def test_it_resumes_as_it_began_where_a_gpu_and_weights_have_appeared(run, indexed, monkeypatch, capsys):
    monkeypatch.setattr("avssl.videos.auto.has_gpu", lambda device: True)
    monkeypatch.setattr("avssl.videos.auto.is_reachable", lambda: True)
    words = ["train", *indexed, "experiment=auto", *QUICK, "device=cpu"]
    assert main([*words, f"out={run}"]) == 0
    out = capsys.readouterr().out
    assert f"mel statistics, 4 clusters; as {run / 'auto.json'} says\n" in out
    assert "resuming from step" in out
    assert main([*words, f"out={run}", "labelling.clusters=5"]) == 2
    assert "contains a run with labelling.clusters=4, not 5" in capsys.readouterr().err


@pytest.mark.parametrize("where", [["launch.processes=2"], ["launch=slurm", "launch.gpus=0"]])
def test_a_finished_run_starts_neither_processes_nor_a_job(where, run, indexed, capsys, monkeypatch):
    monkeypatch.setattr("avssl.launch.local.run_processes", None)
    monkeypatch.setattr("avssl.launch.slurm.submit", None)
    before = (run / "status.json").read_bytes()
    words = ["train", *indexed, "experiment=auto", *QUICK, "device=cpu", f"out={run}"]
    assert main([*words, *where]) == 0
    assert f"already finished: {run} (step " in capsys.readouterr().out
    assert (run / "status.json").read_bytes() == before
    monkeypatch.undo()
    (run / "status.json").write_text(before.decode().replace('"finished"', '"stopped"'))
    monkeypatch.setattr("avssl.launch.local.run_processes", lambda *_: None)
    monkeypatch.setattr("avssl.launch.slurm.submit", lambda *_: None)
    assert main([*words, *where]) == 0
    assert "already finished" not in capsys.readouterr().out
    (run / "status.json").write_bytes(before)


def test_new_videos_are_labelled_by_the_encoders_where_the_features_are_gone(run, tiny_sample, tmp_path, capsys):
    assert main(["clusters", f"run={run}", *SHORT, f"out={tmp_path / 'clusters'}"]) == 0
    (run / "features").rename(tmp_path / "moved")
    try:
        assert main(["clusters", f"run={run}", *SHORT, f"out={tmp_path / 'again'}"]) == 0
        assert main(["label", f"run={run}", f"videos={tiny_sample / 'test'}", f"out={tmp_path / 'new'}"]) == 0
    finally:
        (tmp_path / "moved").rename(run / "features")
    one, two = (json.loads((tmp_path / x / "clustering.json").read_text()) for x in ("clusters", "again"))
    assert one["test"] == two["test"]


def test_the_statistics_are_exported(run, tmp_path):
    assert main(["export", f"run={run}", "modality=audio", f"out={tmp_path / 'audio.onnx'}"]) == 0
    assert (tmp_path / "audio.onnx").is_file()


def test_several_processes_extract_together_and_share_a_batch(run, indexed, tmp_path):
    words = ["train", *indexed, "experiment=auto", *QUICK, "device=cpu", "launch.processes=2"]
    assert main([*words, f"out={tmp_path / 'run'}"]) == 0
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert (status["state"], status["processes"]) == ("finished", 2)
    assert status["total"] == json.loads((run / "status.json").read_text())["total"]  # the steps of one process
    assert 2 * read_config(tmp_path / "run").optim.batch == read_config(run).optim.batch


def test_small_encoders_for_an_objective_share_their_batch(indexed, tmp_path):
    words = [*indexed, "objective=rotation", "device=cpu", f"out={tmp_path / 'run'}"]
    one, _ = compose_auto("train", TrainConfig, words)
    two, _ = compose_auto("train", TrainConfig, [*words, "launch.processes=2"])
    assert (one.optim.batch, one.optim.scale_lr) == (32, True)
    assert (two.optim.batch, two.optim.scale_lr) == (16, False)
    note_decision(two)
    again, _ = compose_auto("train", TrainConfig, words)  # resumed in one process
    assert again.optim.batch == 16
    given, _ = compose_auto("train", TrainConfig, [*words, "optim.batch=8", "launch.processes=2", f"out={tmp_path}"])
    assert (given.optim.batch, given.optim.scale_lr) == (8, True)


def test_a_plan_says_the_same_and_plans_the_extraction(indexed, tmp_path, capsys):
    assert main(["plan", *indexed, "experiment=auto", *QUICK, "device=cpu", f"out={tmp_path}", "json=true"]) == 0
    said = capsys.readouterr()
    out, found = said.err, json.loads(said.out)
    assert found["total_seconds"] > found["parts_seconds"]["training"] > 0
    assert (found["videos"], found["processes"], found["gpus"]) == (36, 1, 0)
    assert "mel statistics, 4 clusters; reasons: -v\n" in out
    plan = json.loads((tmp_path / "plan.json").read_text())
    parts, extraction = plan["estimate"], plan["costs"]["extraction"]
    assert extraction["clips"] == 1
    assert plan["costs"]["decode"] == 0
    assert parts["seconds"] > parts["training"] + parts["labelling"] + parts["solving"]


def test_a_plan_without_an_index(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["plan", "videos=5000", *QUICK, "device=cpu", "-v"]) == 0
    said = capsys.readouterr().out
    assert "5,000 videos, no GPU: " in said
    assert "clusters: 50, for 5,000 videos" in said  # the reasons


def test_a_sweep_decides_for_each_run(indexed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["train", "--multirun", *indexed, "launch=slurm", "launch.dry=true", "device=cpu"]
    assert main([*words, "seed=0,1"]) == 0
    out = capsys.readouterr().out
    assert out.count("4 clusters; reasons: runs/") == 2  # each run has a record of its own
    assert "#SBATCH --array=0-1" in out


def test_the_doctor_says_what_it_would_take(indexed, capsys):
    assert main(["doctor", indexed[1], "duplicates=false"]) == 0
    assert "efficientnet_lite0, frozen, 4 clusters" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data.root=none"], "no folder none, and no index in index/none: give a folder of videos; run `avssl index`"),
        (["data.root=."], "run `avssl index .` first"),
        (["experiment=auto"], "no videos are given: run `avssl index my_videos`, then `avssl train my_videos`"),
        (["task=gdt"], "no videos are given"),
        (["INDEXED", "experiment=auto", "labelling.clusters=50"], "give at most 36"),
        (["INDEXED", "experiment=frozen", "model.freeze=[audio]"],
         "needs frozen encoders, but model.video=efficientnet_lite0 would be trained: set model.freeze=video,audio"),
        (["INDEXED", "data.features=auto", "model=published"], "but model.video=r2plus1d_18 would be trained"),
        (["INDEXED", "experiment=auto", "clip.mels=40"], "needs 64 mel bands, not 40: omit clip.mels"),
    ],
)  # fmt: skip
def test_one_line_says_what_is_wrong(indexed, tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    words = [*(indexed if words[0] == "INDEXED" else []), *(word for word in words if word != "INDEXED")]
    assert main(["train", *words, "device=cpu", "workers=0", "out=run"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert said in lines[-1]


def test_a_damaged_record_is_refused(indexed, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    for content in ('{"words": ["experiment=auto"]}', '{"words": []}', '{"words": ["experiment=frozen", "--x"]}', "{"):
        (tmp_path / "run" / "auto.json").write_text(content)
        assert main(["train", *indexed, "experiment=auto", "device=cpu", f"out={tmp_path / 'run'}"]) == 2
        assert "auto.json" in capsys.readouterr().err


def test_a_record_of_an_earlier_version_has_no_reasons(indexed, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "auto.json").write_text('{"words": ["experiment=small", "labelling.clusters=5"]}')
    assert main(["train", *indexed, "device=cpu", f"out={tmp_path / 'run'}", "--show-config"]) == 0
    assert "clusters: 5" in capsys.readouterr().out


def test_a_gpu_is_one_that_may_be_used(monkeypatch):
    monkeypatch.setattr("avssl.videos.auto.GPUS", ("/dev/null",))
    monkeypatch.setattr("avssl.videos.auto.version", lambda name: "2.9.0+cu130")
    assert has_gpu("auto")
    assert not has_gpu("cpu")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not has_gpu("auto")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr("avssl.videos.auto.version", lambda name: "2.9.0+cpu")
    assert not has_gpu("auto")


def test_an_objective_gets_small_encoders_where_there_is_no_gpu(indexed, tmp_path, monkeypatch, capsys):
    words = ["train", *indexed, "objective=rotation", "optim.clips=64", "device=cpu", f"out={tmp_path / 'run'}"]
    assert main(words) == 0
    assert "no GPU: small encoders and clips (experiment=tiny)\n" in capsys.readouterr().out
    assert read_config(tmp_path / "run").model.video == "tiny"
    monkeypatch.setattr("avssl.videos.auto.has_gpu", lambda device: True)
    assert compose_auto("train", TrainConfig, words[1:-1])[0].model.video == "r2plus1d_18"
    assert main(words) == 0  # as it began
    assert f"as {tmp_path / 'run' / 'auto.json'} says" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("word", "expected"),
    [("objective=localisation_labels", ("tiny_localisation", 64, 8)), ("loss.jepa=1", ("tiny", 36, 0))],
)
def test_localisation_gets_finer_maps_where_there_is_no_gpu(indexed, tmp_path, word, expected):
    words = [*indexed, "loss.contrast=1", word, "device=cpu", f"out={tmp_path / 'run'}"]
    config, _ = compose_auto("train", TrainConfig, words)
    recipe, crop, stride = expected
    assert config.auto == [f"experiment={recipe}"]
    assert (config.clip.crop, config.model.video_stride) == (crop, stride)
