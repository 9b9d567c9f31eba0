"""`avssl export`: files whose outputs are the encoder's, in any batch, with what their inputs are."""

import json
import sys

import numpy as np
import pytest
import torch

import avssl
from avssl.cli import main
from avssl.config import ExportConfig
from avssl.models import build_multi_stream
from avssl.runs import export as module

WORDS = ["experiment=selavi_small", "labelling.clusters=3", "labelling.heads=2", "labelling.passes=1", "optim.epochs=1",
         "optim.batch=12", "workers=0", "device=cpu"]  # fmt: skip


@pytest.fixture(scope="module")
def trained(indexed, tmp_path_factory):
    """A run with a shared head, and one without heads."""
    out = tmp_path_factory.mktemp("export")
    assert main(["train", *indexed, *WORDS, f"out={out / 'selavi'}"]) == 0
    assert main(["train", *indexed, "experiment=gdt_sample", *WORDS[4:], f"out={out / 'gdt'}"]) == 0
    return out


def test_the_model_card_is_beside_the_file(trained, tmp_path, capsys):
    pytest.importorskip("safetensors")
    path = tmp_path / "it.safetensors"
    assert main(["export", f"run={trained / 'gdt'}", "modality=video", "format=safetensors", f"out={path}"]) == 0
    card = (tmp_path / "it.safetensors.md").read_text()
    assert card == (trained / "gdt" / "model_card.md").read_text()
    assert 'model.features("video.mp4")' in card
    assert f"card    {path}.md" in capsys.readouterr().out


def clip_of(model, modality, size):
    c = model.clip
    shape = (3, c.frames, c.crop, c.crop) if modality == "video" else (1, 40, 63)
    return torch.randn(size, *shape, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("modality", ["video", "audio"])
@pytest.mark.parametrize("heads", [False, True])
def test_onnx_gives_the_encoders_outputs(trained, tmp_path, modality, heads, capsys):
    onnxruntime, onnx = pytest.importorskip("onnxruntime"), pytest.importorskip("onnx")
    path = tmp_path / "made" / "it.onnx"
    words = ["export", f"run={trained / 'selavi'}", f"modality={modality}", f"heads={heads}".lower(), f"out={path}"]
    assert main(words) == 0
    told = capsys.readouterr()
    assert str(path) in told.out
    assert told.err == ""
    assert sorted(p.name for p in path.parent.iterdir()) == ["it.onnx", "it.onnx.json", "it.onnx.md"]
    model = avssl.load(trained / "selavi", device="cpu")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == [modality]
    for size in (1, 5):
        clip = clip_of(model, modality, size)
        with torch.no_grad():
            features = model.encoders[modality](clip)
            logits = model.model.cluster({modality: features})[modality]
        found = session.run(None, {modality: clip.numpy()})
        assert len(found) == 1 + heads
        assert np.abs(found[0] - features.numpy()).max() < 1e-4
        if heads:
            assert np.abs(found[1] - logits.transpose(0, 1).numpy()).max() < 1e-4
    about = json.loads((tmp_path / "made" / "it.onnx.json").read_text())
    inside = json.loads(next(p.value for p in onnx.load(str(path)).metadata_props if p.key == "avssl"))
    assert {**inside, "max_difference": about["max_difference"]} == about
    assert about["input"]["shape"] == ["batch", *clip.shape[1:]]
    assert about["clip"]["mels" if modality == "audio" else "crop"] == (40 if modality == "audio" else 36)
    assert about["max_difference"] < 1e-4


@pytest.mark.parametrize("modality", ["video", "audio"])
def test_torch_export_gives_the_encoders_outputs(trained, tmp_path, modality):
    words = ["export", f"checkpoint={next((trained / 'gdt' / 'checkpoints').glob('step_*'))}", f"modality={modality}"]
    path = tmp_path / "it.pt2"
    assert main([*words, "format=torch_export", f"out={path}"]) == 0
    extra = {"avssl.json": ""}
    loaded = torch.export.load(path, extra_files=extra).module()
    model = avssl.load(trained / "gdt", device="cpu")
    for size in (1, 4):
        clip = clip_of(model, modality, size)
        with torch.no_grad():
            assert torch.allclose(loaded(clip)[0], model.encoders[modality](clip), atol=1e-5)
    assert json.loads(extra["avssl.json"])["encoder"] == type(model.encoders[modality]).__name__


@pytest.mark.parametrize("heads", [False, True])
def test_safetensors_hold_the_weights(trained, heads, tmp_path, monkeypatch):
    safetensors = pytest.importorskip("safetensors")
    monkeypatch.chdir(tmp_path)
    run = trained / "selavi"
    words = ["export", f"run={run}", "modality=audio", "format=safetensors", f"heads={heads}".lower()]
    assert main(words) == 0
    path = run / "export" / "audio.safetensors"
    model = avssl.load(run, device="cpu")
    with safetensors.safe_open(str(path), "pt") as file:
        found = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        assert json.loads(file.metadata()["avssl"])["input"]["name"] == "audio"
    encoder = model.encoders["audio"].state_dict()
    start = "encoder." if heads else ""
    assert all(torch.equal(found[start + key], value) for key, value in encoder.items())
    assert any(key.startswith("heads.") for key in found) == heads
    assert len(found) > len(encoder) if heads else found.keys() == encoder.keys()


@pytest.mark.parametrize("sharing", ["shared", "per_modality"])
def test_heads_are_the_models(sharing):
    torch.manual_seed(0)
    config = avssl.config.ModelConfig(video="tiny", audio="tiny", hidden=16)
    model = build_multi_stream(config, 5, 2, sharing).eval()
    clips = {"video": torch.randn(2, 3, 4, 36, 36), "audio": torch.randn(2, 1, 40, 63)}
    with torch.no_grad():
        expected = model.cluster(model.encode(clips))
        for modality, clip in clips.items():
            _, logits = module.Exported(model, modality, True)(clip)
            assert torch.allclose(logits.transpose(0, 1), expected[modality], atol=1e-5)


def test_a_file_that_differs_is_not_written(trained, tmp_path, monkeypatch, capsys):
    def wrong(exported, clip, path, about):
        path.write_bytes(b"x")
        path.with_name(path.name + ".data").write_bytes(b"x")
        return lambda x: [y.numpy() + 1 for y in exported(x)]

    monkeypatch.setitem(module.WRITERS, "torch_export", wrong)
    words = ["export", f"run={trained / 'selavi'}", "modality=video", "format=torch_export"]
    assert main([*words, f"out={tmp_path / 'it.pt2'}"]) == 2
    assert "differ by 1 from the encoder's" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run=nowhere", "modality=video"], "nowhere"),
        (["modality=video"], "no run in runs: train one first"),
        (["run=RUN", "modality=text"], "video"),
        (["run=RUN"], "modality"),
        (["run=RUN", "modality=video", "format=tflite"], "onnx"),
        (["run=GDT", "modality=video", "heads=true"], "has no cluster heads"),
    ],
)
def test_wrong_words(trained, words, said, capsys):
    given = [w.replace("RUN", str(trained / "selavi")).replace("GDT", str(trained / "gdt")) for w in words]
    assert main(["export", *given]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1


def test_a_missing_package_is_named(trained, monkeypatch, capsys):
    monkeypatch.setattr("avssl.config.check_options.find_spec", lambda name: None if name == "onnxruntime" else sys)
    assert main(["export", f"run={trained / 'selavi'}", "modality=video"]) == 2
    assert "needs onnxruntime: pip install 'avssl[export]'" in capsys.readouterr().err


def test_where_it_goes():
    assert str(module._place(ExportConfig("video", run="r"))) == "r/export/video.onnx"
    assert str(module._place(ExportConfig("audio", "torch_export", checkpoint="a/b.pth"))) == "export/b_audio.pt2"
