"""UCF101 and HMDB51 in miniature, end to end: official split files, three folds, every task, finetuning."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avssl.cli import main
from avssl.config import IndexConfig, TrainConfig
from avssl.config.compose import compose_config
from avssl.config.dataset_card import DatasetCard
from avssl.config.run_folder import make_run_folder, write_config
from avssl.core.checkpoint_store import Checkpoints
from avssl.models.build import build_model
from tests.media.make_media import noise, write_media

pytestmark = pytest.mark.slow

COLOURS = ((200, 40, 40), (40, 200, 40), (40, 40, 200))
TESTED = {1: (1, 2), 2: (3, 4), 3: (5, 6)}
"""Which of a class's six videos each fold tests on."""
FINETUNE = [
    "tasks=[finetune]", "finetune=small", "finetune.epochs=6", "finetune.warmup_epochs=1", "finetune.milestones=[5]",
    "finetune.clips_train=3", "finetune.batch=6", "finetune.lr_head=0.0125", "finetune.lr_encoder=0.00025",
]  # fmt: skip


def write_video(path: Path, place: int, seed: int) -> None:
    """1.5 s of a class's colour under noise; the last class has sound, as half of UCF101's have."""
    rng = np.random.default_rng([place, seed])
    frames = [(rng.integers(0, 50, (48, 64, 3)) + COLOURS[place]).astype(np.uint8) for _ in range(15)]
    sound = noise(16000, 1.5, seed=seed) if place == 2 else None
    write_media(path, [i / 10 for i in range(15)], frames, sound, 16000, video_codec="mpeg4")


def write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(f"{line}\r\n" for line in lines).encode())


def make_ucf101(root: Path, lists: Path) -> None:
    names = {"ApplyEyeMakeup": 1, "HandstandPushups": 37, "YoYo": 101}
    write(lists / "classInd.txt", [f"{number} {name}" for name, number in names.items()])
    for place, name in enumerate(names):
        for group in range(1, 7):
            write_video(root / f"UCF-101/{name}/v_{name}_g{group:02d}_c01.avi", place, group)
    for fold, tested in TESTED.items():
        both: dict[bool, list[str]] = {True: [], False: []}
        for name, number in names.items():
            for group in range(1, 7):
                line = f"{name}/v_{name.replace('stand', 'Stand')}_g{group:02d}_c01.avi"
                both[group in tested].append(line if group in tested else f"{line} {number}")
        write(lists / f"trainlist0{fold}.txt", both[False])
        write(lists / f"testlist0{fold}.txt", both[True])


def make_hmdb51(root: Path, lists: Path, card: DatasetCard) -> None:
    names = ("brush_hair", "sit", "wave")
    for name in card.class_names:
        for fold, tested in TESTED.items():
            file = lists / f"{name}_test_split{fold}.txt"
            if name not in names:
                write(file, [])
                continue
            stems = [f"#{group}_It's_[{name};]_{name}_f_nm_np1_le_med_0" for group in range(1, 7)]
            roles = [2 if group in tested else 1 for group in range(1, 7)]
            roles[tested[1] % 6] = 0  # in neither split of this fold
            write(file, [f"{stem}.avi {role} " for stem, role in zip(stems, roles, strict=True)])
            for group, stem in enumerate(stems, 1):
                if fold == 1:
                    write_video(root / name / f"{stem}.avi", names.index(name), group)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    """A run of tiny encoders of both modalities, saved before its training."""
    out = tmp_path_factory.mktemp("runs") / "gdt"
    words = ["experiment=gdt_sample", "data.root=nowhere", f"out={out}", "device=cpu"]
    config = compose_config("train", TrainConfig, words)
    torch.manual_seed(3)
    checkpoints = Checkpoints(make_run_folder(config))
    write_config(config)
    shared = {
        "step": 7, "model": build_model(config).state_dict(), "processes": 1, "videos": {"number": 1, "digest": ""},
        "optimizer": {"param_groups": [], "state": {}},
    }  # fmt: skip
    own = {"rows": [0, 1], "tables": {}, "failures": {}, "rng": torch.get_rng_state(), "rng_device": None}
    checkpoints.save(7, shared, own)
    checkpoints.close()
    return out


def figures_of(folder: Path, name: str = "evaluate") -> dict[str, Any]:
    return json.loads((folder / f"{name}.json").read_text())


def is_mean(figures: dict[str, Any], *keys: str) -> bool:
    """Is a figure the mean of the three folds' own?"""
    found: list[Any] = [figures, *figures["by_fold"].values()]
    for key in keys:
        found = [values[key] for values in found]
    return found[0] == pytest.approx(np.mean(found[1:]))


def index_folds(name: str, root: Path, lists: Path) -> None:
    for fold in TESTED:
        words = [f"data={name}", f"data.root={root}", f"data.annotations={lists}", f"data.fold={fold}"]
        assert main(["index", *words, "workers=1"]) == 0


@pytest.fixture(scope="module")
def ucf101(tmp_path_factory) -> Path:
    """A working folder with the videos, their lists, and the three folds' indices at their usual place."""
    folder = tmp_path_factory.mktemp("ucf101")
    make_ucf101(folder / "videos", folder / "ucfTrainTestlist")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        index_folds("ucf101", folder / "videos", folder / "ucfTrainTestlist")
    return folder


def test_every_task_on_three_folds(ucf101, run_folder, monkeypatch, capsys):
    monkeypatch.chdir(ucf101)
    words = ["data=ucf101", "data.root=videos", "folds=[1,2,3]", f"run={run_folder}", "random=true", "seeds=2",
             "shots=[1,4]", "clips=3", "k=3", "workers=1", "device=cpu", "out=all"]  # fmt: skip
    assert main(["evaluate", *words]) == 0
    said = capsys.readouterr().out
    assert "12 videos have no audio: evaluating only the video encoder" in said
    assert "no cross-modal retrieval: videos have no audio" in said
    figures = figures_of(ucf101 / "all", "evaluate_random")
    assert (figures["data"], figures["folds"], figures["random"], figures["step"]) == ("ucf101", [1, 2, 3], True, 0)
    assert figures["videos"] == {"train": 12, "test": 6, "failed": 0}
    assert set(figures["linear"]) == set(figures["knn"]) == {"video", "video embedding"}
    assert is_mean(figures, "linear", "video", "class")
    assert is_mean(figures, "knn", "video embedding", "class")
    assert is_mean(figures, "retrieval", "class", "1")
    assert figures["retrieval"]["class"]["1"] > 0.9  # colours are told apart without training
    assert len(figures["few_shot"]["video"]["class"]["4"]["values"]) == 2
    assert is_mean(figures, "few_shot", "video", "class", "1", "mean")
    assert figures["cross_modal"] is None
    assert set(figures["clustering"]["class"]) == {"kmeans"}  # there are no cluster heads
    assert is_mean(figures, "clustering", "class", "kmeans", "video", "nmi", "mean")
    assert "finetune" not in figures
    drawn = (ucf101 / "all/few_shot_draws.csv").read_text().splitlines()
    assert len(drawn) == 1 + 3 * 2 * (3 + 12)


def test_finetuning_on_three_folds(ucf101, run_folder, monkeypatch, capsys):
    monkeypatch.chdir(ucf101)
    words = ["evaluate", "data=ucf101", "data.root=videos", "folds=[1,2,3]", f"run={run_folder}", "random=true",
             "workers=1", "device=cpu", "out=tuned", *FINETUNE]  # fmt: skip
    assert main(words) == 0
    said = capsys.readouterr().out
    for name, figure in {"SeLaVi, VGG-Sound": "86.1", "GDT, Kinetics-400": "90.9", "GDT, IG65M": "95.2"}.items():
        (line,) = [line for line in said.splitlines() if f"{name} (published, best epoch)" in line]
        assert figure in line
    figures = figures_of(ucf101 / "tuned", "evaluate_random")
    assert figures["finetune_options"]["epochs"] == 6
    assert is_mean(figures, "finetune", "class", "video")
    assert is_mean(figures, "finetune", "class", "clip")
    assert figures["finetune"]["class"]["video"] == 1.0
    assert [figures["by_fold"][fold]["finetune"]["class"]["tested"] for fold in "123"] == [6, 6, 6]
    assert "95.2" in (ucf101 / "tuned/evaluate_random.tex").read_text()
    trained = {path: path.stat().st_mtime_ns for path in (ucf101 / "tuned/finetune").glob("*/metrics.jsonl")}
    assert {path.parent.name for path in trained} == {f"class_fold{fold}_random" for fold in (1, 2, 3)}
    assert main(words) == 0  # nothing is done again
    assert figures_of(ucf101 / "tuned", "evaluate_random") == figures
    assert all(path.stat().st_mtime_ns == time for path, time in trained.items())


def test_a_data_set_needs_its_videos(ucf101, run_folder, monkeypatch, capsys):
    monkeypatch.chdir(ucf101)
    assert main(["evaluate", "data=hmdb51", f"run={run_folder}"]) == 2
    assert "no index in index/hmdb51_fold1" in capsys.readouterr().err
    assert main(["evaluate", "data=ucf101", f"run={run_folder}", "tasks=[cross_modal]"]) == 2  # the index says where
    assert "cross_modal needs both modalities" in capsys.readouterr().err
    assert main(["evaluate", "data=ucf101", "data.root=videos", f"run={run_folder}", "tasks=[cross_modal]"]) == 2
    assert "cross_modal needs both modalities, but 12 videos have no audio" in capsys.readouterr().err
    assert main(["evaluate", "data=ucf101", "data.root=videos", f"run={run_folder}", "folds=[1,4]"]) == 2
    error = capsys.readouterr().err
    assert "index/ucf101_fold4" in error
    assert len(error.strip().splitlines()) == 1


def test_hmdb51(run_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    root, lists = tmp_path / "fold1_videos", tmp_path / "testTrainMulti_7030_splits"
    make_hmdb51(root, lists, compose_config("index", IndexConfig, ["data=hmdb51", "data.root=x"]).data.card)
    index_folds("hmdb51", root, lists)
    checkpoint = run_folder / "checkpoints" / "step_0000000007"
    words = ["data=hmdb51", f"data.root={root}", "folds=[1,2,3]", f"checkpoint={checkpoint}",
             "device=cpu", "workers=1", "out=out"]  # fmt: skip
    few = ["seeds=2", "shots=[1]", "clips=2", "k=3"]
    assert main(["evaluate", *words, *few]) == 0
    figures = figures_of(tmp_path / "out")
    assert (figures["data"], figures["step"]) == ("hmdb51", 7)
    assert figures["videos"] == {"train": 9, "test": 6, "failed": 0}
    assert is_mean(figures, "linear", "video", "class")
    assert is_mean(figures, "retrieval", "class", "5")
    capsys.readouterr()
    one = [word.replace("folds=[1,2,3]", "folds=[1]") for word in words if word != "out=out"]
    assert main(["evaluate", *one, *FINETUNE, "out=tuned"]) == 0
    said = capsys.readouterr().out
    assert any("GDT, HowTo100M (published, best epoch)" in line and "67.4" in line for line in said.splitlines())
    figures = figures_of(tmp_path / "tuned")
    assert figures["finetune"]["class"]["video"] == 1.0
    assert figures["finetune"]["class"]["classes"] == 3
