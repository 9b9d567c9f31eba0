"""`avssl plan` on the tiny sample and on nothing at all."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from avssl.cli import main
from avssl.config import PlanConfig, TrainConfig
from avssl.config.compose import compose_config
from avssl.objectives.contrast import Contrast
from avssl.plan.inputs import with_workers
from avssl.plan.measure import line_and_square
from avssl.plan.table import duration, size
from avssl.plan.videos import sample_rows
from avssl.videos.index import read_index
from benchmarks.memory import process_memory

SMALL = ["experiment=selavi_sample", "labelling.clusters=3", "optim.batch=8", "workers=1", "device=cpu"]


def values(folder) -> dict:
    return json.loads((folder / "plan.json").read_text())


def rows(folder) -> dict[str, tuple[str, str]]:
    return {row["what"]: (row["value"], row["how"]) for row in values(folder)["table"]}


def test_a_plan_for_this_machine_measures_the_indexed_videos(indexed, tmp_path, capsys):
    assert main(["plan", *indexed, *SMALL, "optim.epochs=3", f"out={tmp_path}"]) == 0
    out, plan, table = capsys.readouterr().out, values(tmp_path), rows(tmp_path)
    assert "what helps most" in out
    assert "total" in (tmp_path / "plan.md").read_text()
    assert plan["work"]["videos"] == 36
    assert plan["estimate"]["steps"] == 14  # 3 epochs of 36 videos, 8 a step
    assert plan["target"]["nodes"] == plan["target"]["processes"] == 1
    assert plan["measured"]["decode"]["items"] == 36
    assert 0 < plan["costs"]["decode"] < 5
    assert table["decoding a training item"][1].startswith("measured here")
    decode = plan["measured"]["decode"]
    assert 30e3 < decode["kept"] < 1e6  # 15 frames or so of 64 x 64 pixels, and the sound
    assert decode["again"] < decode["mean"]
    # in three epochs, the one worker decodes each file once
    assert plan["costs"]["decode"] == pytest.approx((decode["mean"] + 2 * decode["again"]) / 3)
    assert "67% of the items" in table["… from a cached file"][0]
    assert plan["estimate"]["label_bytes"] == 36 * 6 * 4
    parts = plan["estimate"]
    assert parts["seconds"] == pytest.approx(parts["training"] + parts["labelling"] + parts["solving"])
    assert {p.name for p in tmp_path.iterdir()} == {"plan.md", "plan.json"}  # what the disk was timed with is gone


def test_what_does_not_fit_is_decoded_anew(indexed, tmp_path):
    words = ["plan", *indexed, *SMALL, "optim.epochs=100"]
    assert main([*words, "clip.cache_mb=0", f"out={tmp_path / 'none'}"]) == 0
    assert main([*words, "clip.cache_mb=1", f"out={tmp_path / 'some'}"]) == 0
    none, some = values(tmp_path / "none"), values(tmp_path / "some")
    assert none["measured"]["decode"]["kept"] == none["measured"]["decode"]["again"] == 0
    assert none["costs"]["decode"] == none["measured"]["decode"]["mean"]
    assert "… from a cached file" not in rows(tmp_path / "none")
    decode = some["measured"]["decode"]
    share = 0.99 * 1e6 / (36 * decode["kept"])
    assert 0 < share < 0.9
    expected = (1 - share) * decode["mean"] + share * decode["again"]
    assert some["costs"]["decode"] == pytest.approx(expected)


def test_the_index_alone_says_where_its_videos_are(indexed, capsys):
    assert main(["plan", indexed[1], *SMALL]) == 0
    assert "items" in capsys.readouterr().out


def test_a_hundred_million_videos_on_512_gpus_without_an_index(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["videos=100000000", "launch.nodes=64", "launch.gpus=8", "labelling.heads=10", "labelling.passes=100"]
    before = process_memory("VmHWM")
    assert main(["plan", *SMALL, *words, "optim.epochs=200", "out=plan", "gpu_speed=50"]) == 0
    after = process_memory("VmHWM")
    assert before is None or after is None or after - before < 1e9  # the label table has 4 GB
    plan, table = values(tmp_path / "plan"), rows(tmp_path / "plan")
    assert plan["estimate"]["label_bytes"] == 4 * 10**9
    assert plan["estimate"]["passes"] == 100
    assert plan["target"]["speed"] == 50
    assert table["batch of a process: compute"][1] == "measured here, assumed gpu_speed=50"
    assert table["decoding a training item"] == ("25 ms", "assumed decode_ms=25 a clip")
    assert "assumed scaling=0.9" in table["total"][1]
    assert "This machine has no GPU: the plan assumes that a GPU is" in " ".join(capsys.readouterr().out.split())


def test_contrast_decodes_its_views_and_labels_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["experiment=gdt_sample", "contrast=preset_7", "videos=1000", "optim.batch=4", "out=plan", "device=cpu"]
    assert main(["plan", *words]) == 0
    plan, table = values(tmp_path / "plan"), rows(tmp_path / "plan")
    assert plan["costs"]["decode"] == pytest.approx(2 * 0.025)  # two shifts; their reversals are made on the device
    assert plan["estimate"]["passes"] == plan["estimate"]["solving"] == 0
    assert "labelling passes" not in table


@pytest.mark.parametrize(
    "words",
    [
        ["labelling=xdc"],
        ["labelling.mode=batch", "labelling.queue=32"],
        ["labelling.mode=bank", "labelling.memory=stream", "optim.accumulate=2"],
        ["experiment=both_sample", "contrast=preset_4"],
        ["labelling=sela_video", "launch=slurm", "launch.gpus=0", "launch.cpus=4"],
        ["crops.small=2", "loss.contrast=1", "contrast.axes.augmentation=invariant"],
    ],
)
def test_every_kind_of_training_can_be_planned(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = SMALL[1:] if words[0].startswith("experiment=") else SMALL
    assert main(["plan", *small, "videos=500", *words, "out=plan"]) == 0
    plan = values(tmp_path / "plan")
    assert plan["estimate"]["seconds"] > 0
    assert plan["estimate"]["passes"] > 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give the number of training videos"),
        (["videos=5", "labelling.clusters=10"], "labelling.clusters=10 is more than the 5 training videos"),
        (["videos=-1"], "videos=-1 is below the minimum 0 videos"),
        (["videos=100", "clip.crop=200"], "clip.crop=200"),
        (["videos=100", "device=cuda:77"], "device=cuda:77"),
        (["videos=100", "gpu_speed=0"], "gpu_speed=0"),
        (["video=100"], "did you mean videos?"),
    ],
)
def test_what_cannot_be_planned_is_one_line(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["plan", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_videos_that_are_not_here_are_told(indexed, tmp_path, capsys):
    assert main(["plan", indexed[1], f"data.root={tmp_path / 'gone'}", *SMALL]) == 2
    assert "give data.root=" in capsys.readouterr().err


def test_rows_are_taken_from_all_over_an_index(indexed, tmp_path):
    table = read_index(indexed[1].removeprefix("data.index="), "train")
    many = pa.concat_tables([table] * 10)
    pq.write_table(many, tmp_path / "train.parquet", row_group_size=60)
    taken = sample_rows(tmp_path / "train.parquet", 50)
    assert len(taken) == 50
    assert taken.schema.equals(table.schema)
    assert len(sample_rows(tmp_path / "train.parquet", 10_000)) == 240  # four of six groups


def test_the_two_terms_of_a_pass():
    assert line_and_square({10: 10 * 3.0 + 100 * 0.5, 20: 20 * 3.0 + 400 * 0.5}) == pytest.approx((3.0, 0.5))
    assert line_and_square({10: 7.0}) == (0.7, 0.0)
    assert line_and_square({10: 30.0, 20: 50.0}) == (2.5, 0.0)  # K² cannot save time
    assert line_and_square({10: 1.0, 20: 50.0}) == (0.0, pytest.approx(50.0 / 400))


def test_a_plan_does_not_write_to_the_run_folder_of_a_preset():
    words = ["objective=simclr", "data.root=x"]
    assert compose_config("train", TrainConfig, words).out.startswith("runs/")
    assert compose_config("plan", PlanConfig, words).out == ""
    assert compose_config("plan", PlanConfig, [*words, "out=plan"]).out == "plan"


def test_units():
    assert [duration(x) for x in (5e-6, 0.0123, 3, 300, 10_000, 1e6)] == [
        "5 µs", "12.3 ms", "3 s", "5 min", "2.78 h", "11.6 days",
    ]  # fmt: skip
    assert [size(x) for x in (12, 3400, 4e9)] == ["12 B", "3.4 kB", "4 GB"]


@pytest.mark.parametrize(
    ("words", "device", "workers"),
    [
        (["workers=3"], "cuda", 3),
        ([], "cpu", 2),
        ([], "cuda", 15),
        (["launch.processes=4"], "cuda", 3),
        (["launch.where=slurm", "launch.cpus=12"], "cpu", 11),
        (["launch.where=slurm", "launch.cpus=12", "launch.gpus=0"], "cpu", 2),
    ],
)
def test_automatic_workers_are_those_of_the_planned_machine(monkeypatch, words, device, workers):
    for module in ("core.device", "plan.inputs"):
        monkeypatch.setattr(f"avssl.{module}.available_cores", lambda: 16)
    monkeypatch.setattr("avssl.core.device.process_cores", lambda: 16)
    config = compose_config("plan", PlanConfig, ["data.root=x", *words])
    assert with_workers(config, torch.device(device)).workers == workers


def test_a_plan_counts_what_objectives_keep_and_what_small_clips_cost(tmp_path, monkeypatch):
    """With a made-up objective that has a teacher, a queue, a bank and passes of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(TrainConfig, "has_teacher", property(lambda self: True))
    monkeypatch.setattr(Contrast, "shared_state", lambda self: {"queue": torch.zeros(50, 4)})
    monkeypatch.setattr(Contrast, "rank_state", lambda self: {"bank": torch.zeros(self.context.videos, 8)})
    monkeypatch.setattr(Contrast, "further_passes", staticmethod(lambda config, steps, per_epoch: steps // 10))
    called = []
    monkeypatch.setattr(Contrast, "after_step", lambda self, step: called.append(step))
    words = ["experiment=gdt_sample", "videos=1000", "optim.batch=4", "optim.clips=400", "out=plan", "device=cpu"]
    assert main(["plan", *words, "crops.small=2"]) == 0
    plan, table = values(tmp_path / "plan"), rows(tmp_path / "plan")
    assert table["step of a process: clips"][0] == ("4 clips decoded, 24 encoded (8 whole, 16 small), 8 by the teacher")
    assert table["contrast: kept from step to step, in every process"][0] == "800 B"
    assert table["contrast: kept of every video"][0] == "32 kB (32 kB a process)"
    assert table["passes for prototypes"][0].startswith("10 of ")
    assert {"prototype passes", "decoding an item for prototypes"} <= table.keys()
    assert not table.keys() & {"labelling passes", "decoding an item to label"}
    assert plan["work"]["further_passes"] == 10
    assert plan["estimate"]["prototypes"] > plan["estimate"]["labelling"] == 0
    teacher = plan["measured"]["step"]["teacher"]
    assert teacher > 100_000
    assert plan["costs"]["state"] > 3 * teacher  # the model, its copy, and an optimiser of two moments
    assert plan["estimate"]["checkpoint_bytes"] == plan["costs"]["state"] + 32_000
    assert len(called) > 2
