"""The model card: made of the run's own files, whoever wrote them, without the folders of the machine."""

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from avssl.config import TrainConfig
from avssl.config.compose import compose_config
from avssl.runs.model_card import CARD, model_card, update_card, without_folders


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "my|run"
    folder.mkdir()
    words = ["experiment=frozen", "data.root=/home/me/secret", "data.name=cats", "model.video=onnx:/home/me/net.onnx"]
    config = compose_config("train", TrainConfig, words)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.structured(config)))
    return folder


def test_a_card_without_any_other_file(run):
    card = model_card(run)
    assert card.startswith("# my|run\n")
    assert "| data | cats |" in card
    assert "| video encoder | onnx:net.onnx; started from random weights; not trained further |" in card
    assert "/home" not in card
    assert 'avssl.load("path/to/my|run")  # the path of this folder' in card
    sentence = (
        "A video encoder and an audio encoder, and clusters of videos, learned by contrast (GDT) and self-labelling"
    )
    assert sentence in card or "self-labelling (SeLaVi) and contrast (GDT), without labels" in card


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"test": 10, "train": 20}, "10 videos in test, 20 videos in train; trained on the split train |"),
        ({"all": 7}, "cats: 7 videos, all of them for training |"),
    ],
)
def test_the_card_says_what_the_run_was_trained_on(run, tmp_path, monkeypatch, counts, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "index" / "cats").mkdir(parents=True)
    (tmp_path / "index" / "cats" / "index.json").write_text(json.dumps({"root": "/home/me/secret", "videos": counts}))
    assert said in model_card(run)


def test_figures_licences_and_hostile_texts(run):
    entry = {"source": "/home/me/a.pt", "licence": "CC BY-NC 4.0 <script>"}
    (run / "init.json").write_text(json.dumps({"encoders": {"video": entry}}))
    result = {"split": "te|st\n", "used_clusters": 7, "clusters": 8, "nmi": 0.756, "accuracy": None, "agreement": "x"}
    (run / "clusters").mkdir()
    (run / "clusters" / "clustering.json").write_text(json.dumps({"result": result}))
    (run / "versions.json").write_text(json.dumps({"avssl": "1", "packages": {"torch": "2", "x": None}}))
    card = model_card(run)
    assert "started from a.pt; licence of these weights: CC BY-NC 4.0 \\<script\\>" in card
    assert "Not for commercial use: the video encoder" in card
    assert "| clusters used | te\\\\|st\\\\n | 7 of 8 |" in card or "7 of 8 |" in card
    assert "75.6 %" in card
    assert "accuracy" not in card
    assert card.endswith("avssl 1, torch 2\n")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"result": 1}', '{"encoders": 1}', '{"columns": ["class"]}'])
def test_damaged_files_do_not_matter(run, text):
    for name in ("init.json", "versions.json", "status.json", "clusters/clustering.json", "evaluate/evaluate.json"):
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text(text)
    assert "| data | cats |" in model_card(run)


def test_a_card_that_cannot_be_written_is_a_warning(run, capsys):
    (run / CARD).mkdir()
    update_card(run)
    assert "could not be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("onnx:/home/me/net.onnx", "onnx:net.onnx"), ("/a b/c.pt", "c.pt"), ("~/x/y.pt", "y.pt"),
        ("the run /home/me/runs/a, step 5", "the run a, step 5"), ("timm:hf/model", "timm:hf/model"),
        ("the package x (ImageNet)", "the package x (ImageNet)"), ("runs/a", "runs/a"),
    ],
)  # fmt: skip
def test_folders_are_left_out(text, shown):
    assert without_folders(text) == shown
