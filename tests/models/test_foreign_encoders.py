"""Encoders of others through index, train, clusters, feature map and export, on the smallest videos."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import avssl
from avssl.cli import main
from avssl.clips.transform import clip_shape
from avssl.config import ClipConfig, ModelConfig, TrainConfig
from avssl.config.run_folder import read_config
from avssl.core.errors import UserError
from avssl.models.build import build_model
from avssl.models.encoder import encode_with_map
from avssl.runs.open import load_run
from avssl.train.new_model import freeze_unused

WORDS = ["experiment=selavi_small", "labelling.clusters=2", "labelling.heads=1", "labelling.passes=1", "optim.epochs=1",
         "optim.batch=8", "workers=0", "device=cpu", "threads=1"]  # fmt: skip

FILE = """
import torch
from torch import nn

class Encoder(nn.Module):
    dim = 24
    clip = {"frames": 4, "fps": 4, "crop": 32, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.2, 0.2]}

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv3d(3, 24, 5, stride=4, padding=2), nn.ReLU())

    def feature_map(self, x):
        return self.net(x)

    def forward(self, x):
        return self.net(x).mean((2, 3, 4))
"""


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> list[str]:
    """The words that name 8 training and 2 test videos, and their index."""
    folder = tmp_path_factory.mktemp("few")
    words = [f"data.root={folder / 'videos'}", f"data.index={folder / 'index'}"]
    assert main(["sample", f"out={folder / 'videos'}", "classes=2", "train=4", "test=1", "workers=1"]) == 0
    assert main(["index", *words, "workers=1"]) == 0
    return words


def through(few: list[str], out: Path, words: list[str], modality: str, trust: list[str] | None = None,
            export: str = "onnx", clusters: bool = True) -> tuple:  # fmt: skip
    """Train, label, look at the map and export; returns the model, its features and its map of noise."""
    run, more = out / "run", [f"trust=[{','.join(trust)}]"] if trust else []
    assert main(["train", *few, *WORDS, *words, f"out={run}"]) == 0
    if clusters:
        assert main(["clusters", f"run={run}", "workers=0", "previews=0", "device=cpu", *more]) == 0
        assert json.loads((run / "clusters" / "clustering.json").read_text())
    model = avssl.load(run, device="cpu", trust=trust or ())
    clip = torch.randn(2, *clip_shape(model.clip, modality), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features, maps = model.model.encode_with_maps({modality: clip}, (modality,))
        assert torch.allclose(features[modality], model.model.encode({modality: clip})[modality], atol=1e-5)
    assert features[modality].shape == (2, model.model.widths[modality])
    assert maps[modality].ndim == (5 if modality == "video" else 4)
    if export:
        words = ["export", f"run={run}", f"modality={modality}", f"format={export}", *more]
        assert main(words) == 0
    return model, features[modality], maps[modality]


@pytest.fixture
def own(tmp_path, monkeypatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("fifteen_lines.py").write_text(FILE)
    yield "fifteen_lines:Encoder"
    sys.modules.pop("fifteen_lines", None)


def test_the_users_own(few, tmp_path, own, capsys) -> None:
    pytest.importorskip("onnxruntime")
    words = [f"model.video={own}"]
    model, _, maps = through(few, tmp_path, words, "video", [own])
    clip = model.clip
    assert (clip.frames, clip.crop, clip.mean, clip.std) == (4, 32, [0.4, 0.5, 0.6], [0.2] * 3)
    assert (clip.short_side_min, clip.short_side_max, clip.retrieval_frames) == (37, 46, 0)
    assert maps.shape == (2, 24, 1, 8, 8)
    assert model.model.encoder_widths == {"video": 24, "audio": 128}
    assert model.model.widths == {"video": 128, "audio": 128}
    run, capture = tmp_path / "run", capsys.readouterr()
    assert f"trust=[{own}]" in capture.out  # the next command, as a user should copy it
    assert main(["train", *few, *WORDS, *words, f"out={run}"]) == 0  # it is finished: resumed, with the same clip
    tasks = ["tasks=[retrieval,clustering]", "clips=1"]
    assert main(["evaluate", f"run={run}", *tasks, "workers=0", "device=cpu", f"trust=[{own}]"]) == 0
    capsys.readouterr()
    for command in (["clusters"], ["evaluate", *tasks], ["export", "modality=video"], ["label", "videos=."]):
        assert main([*command, f"run={run}"]) == 2
        assert f"model.video={own}, which is code: if you trust it, add trust={own}" in capsys.readouterr().err
    with pytest.raises(UserError, match="which is code"):
        avssl.load(run, device="cpu")


def test_an_encoder_that_memory_free_building_does_not_suit(few, tmp_path, own) -> None:
    """Its constructor reads a value, so that it cannot be built without memory; opening it builds it for real."""
    text = FILE.replace("super().__init__()", "super().__init__()\n        float(torch.ones(1).sum())")
    (tmp_path / "fifteen_lines.py").write_text(text)
    words = [*few, *WORDS, f"model.video={own}", "optim.epochs=1", f"out={tmp_path / 'run'}"]
    assert main(["train", *words]) == 0
    config = read_config(tmp_path / "run")
    model, state = load_run(tmp_path / "run", config, trust=[own])
    assert state["step"] == 1
    assert isinstance(model.encoders["video"].net, nn.Sequential)


def test_a_clip_option_of_the_user_stays(few, tmp_path, own) -> None:
    words = ["clip.crop=24", "labelling.modalities=[video]", f"model.video={own}", f"out={tmp_path / 'run'}"]
    assert main(["train", *few, *WORDS, *words]) == 0
    clip = read_config(tmp_path / "run").clip
    assert (clip.crop, clip.frames, clip.given) == (24, 4, ["crop"])
    assert clip.mean == [0.4, 0.5, 0.6]


def test_torchvision_mvit(few, tmp_path) -> None:
    clip = ["clip.frames=2", "clip.fps=2", "clip.crop=32", "clip.short_side_min=32", "clip.short_side_max=32",
            "clip.short_side_eval=0"]  # fmt: skip
    words = ["model.video=torchvision:mvit_v2_s", "labelling.modalities=[video]", *clip]
    model, features, maps = through(few, tmp_path, words, "video", export="safetensors", clusters=False)
    assert (features.shape, maps.shape) == ((2, 768), (2, 768, 1, 1, 1))
    assert model.clip.std == [0.225] * 3


def test_timm_frame_by_frame_beside_an_image_network_on_spectrograms(few, tmp_path) -> None:
    pytest.importorskip("timm")
    words = ["model.video=timm:test_convnext", "model.audio=efficientnet_lite0", "model.temporal_pooling=attention",
             "clip.crop=64", "clip.short_side_min=64", "clip.short_side_max=64", "clip.short_side_eval=0",
             "clip.frames=2", "clip.fps=2"]  # fmt: skip
    model, features, maps = through(few, tmp_path, words, "video", export="torch_export")
    assert (features.shape, maps.shape) == ((2, 1280), (2, 64, 2, 2, 2))
    assert model.clip.mean == [0.5] * 3  # timm says so
    assert main(["export", f"run={tmp_path / 'run'}", "modality=audio"]) == 0  # ours, as ONNX
    assert model.model.encoders["video"].pooling.query.abs().max() > 0  # it was trained


def test_transformers_from_a_folder(few, tmp_path) -> None:
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    transformers.VideoMAEConfig(image_size=32, num_frames=4, **small).save_pretrained(tmp_path / "mae")
    transformers.ASTConfig(num_mel_bins=32, max_length=64, **small).save_pretrained(tmp_path / "ast")
    words = [f"model.video=hf:{tmp_path / 'mae'}", f"model.audio=hf:{tmp_path / 'ast'}", "clip.audio_seconds=0.5"]
    model, features, maps = through(few, tmp_path, words, "video")
    assert (features.shape, maps.shape) == ((2, 16), (2, 16, 2, 2, 2))
    clip = model.clip
    assert (clip.frames, clip.fps, clip.crop) == (4, 7.5, 32)
    assert (clip.spectrogram, clip.audio_rate, clip.mels, clip.audio_seconds) == ("kaldi", 16000, 32, 0.5)
    assert clip.audio_std == pytest.approx(9.138, abs=1e-3)
    assert main(["export", f"run={tmp_path / 'run'}", "modality=audio"]) == 0


def test_an_onnx_file(few, tmp_path, own, capsys) -> None:
    """The file that one run exports is the frozen encoder of another."""
    pytest.importorskip("onnxruntime")
    through(few, tmp_path, [f"model.video={own}", "labelling.modalities=[video]"], "video", [own])
    file = tmp_path / "run" / "export" / "video.onnx"
    model, features, maps = through(few, tmp_path / "next", [f"model.video=onnx:{file}"], "video", export="")
    assert model.clip.mean == [0.4, 0.5, 0.6]  # the file says it
    assert (model.model.encoder_widths["video"], features.shape, maps.shape) == (24, (2, 128), (2, 24, 1, 1, 1))
    before = avssl.load(tmp_path / "run", device="cpu", trust=[own]).video
    clip = torch.randn(3, 3, 4, 32, 32)
    with torch.no_grad():
        assert torch.allclose(model.video(clip), before(clip), atol=1e-5)
    assert not [*model.video.parameters()]
    capsys.readouterr()
    assert main(["export", f"run={tmp_path / 'next' / 'run'}", "modality=video"]) == 2
    assert "is already an ONNX file" in capsys.readouterr().err
    file.write_bytes(file.read_bytes().replace(b"avssl", b"avssm"))  # another file at the same place
    assert main(["clusters", f"run={tmp_path / 'next' / 'run'}", "workers=0", "device=cpu"]) == 2
    assert "not the file that the run was trained with" in capsys.readouterr().err


def test_plan_takes_the_clip_over(few, tmp_path, own, capsys) -> None:
    words = [*few, *WORDS, f"model.video={own}", f"out={tmp_path / 'plan'}"]
    assert main(["plan", *words]) == 0
    assert (tmp_path / "plan" / "plan.json").is_file()


def test_maps_of_our_own_are_what_they_were() -> None:
    config = TrainConfig(model=ModelConfig(video="tiny", audio="tiny", hidden=16))
    model = build_model(config).eval()
    for name, shape in {"video": (2, 3, 4, 36, 36), "audio": (2, 1, 40, 63)}.items():
        x = torch.randn(shape)
        with torch.no_grad():
            features, maps = encode_with_map(model.encoders[name], x)
            assert torch.allclose(features, model.encoders[name](x), atol=1e-6)
        assert np.allclose(features.numpy(), maps.flatten(2).mean(2).numpy(), atol=1e-6)
    assert not [key for key in model.state_dict() if key.startswith("adapters.")]


def test_weights_that_no_feature_depends_on_are_frozen_in_several_processes(tmp_path) -> None:
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28}
    transformers.Dinov2Config(**small).save_pretrained(tmp_path)
    config = TrainConfig(model=ModelConfig(video=f"hf:{tmp_path}", audio="tiny", hidden=16))
    config = replace(config, clip=ClipConfig(frames=2, crop=28))
    model = build_model(config)
    random = torch.get_rng_state()
    freeze_unused(config, model, set())
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert frozen == ["encoders.video.image.base.embeddings.mask_token"]
    assert model.training
    assert torch.equal(torch.get_rng_state(), random)
