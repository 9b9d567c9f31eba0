"""`model.init=pretrained`: files by checksum, the hub's cache, and clear lines where there is no network."""

import hashlib
import http.server
import json
import threading
from pathlib import Path

import pytest
import torch
import torchvision

from avssl.config import ModelConfig
from avssl.core.errors import UserError
from avssl.models import build_multi_stream
from avssl.models.by_name import build_encoder
from avssl.models.fit_weights import fit
from avssl.models.pretrained import check_blob, fetch_named, read_pretrained
from avssl.models.start import start


def named(folder: Path, stem: str, state: dict) -> Path:
    """A file of weights whose name ends in the beginning of its checksum, as torchvision's."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / "weights")
    digest = hashlib.sha256((folder / "weights").read_bytes()).hexdigest()
    return (folder / "weights").rename(folder / f"{stem}-{digest[:8]}.pth")


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


def test_a_file_is_fetched_by_its_checksum(tmp_path):
    path = named(tmp_path / "server", "net", {"a": torch.ones(3)})
    found = fetch_named(path.as_uri(), tmp_path / "here")
    assert found == tmp_path / "here" / path.name
    path.unlink()
    assert fetch_named(path.as_uri(), tmp_path / "here") == found  # it is here
    found.write_bytes(found.read_bytes()[:-1])
    with pytest.raises(UserError, match="is damaged: its sha256 does not begin with"):
        fetch_named(path.as_uri(), tmp_path / "here")


def test_another_file_than_the_checksum_says_is_not_kept(tmp_path):
    path = tmp_path / "net-0123abcd.pth"
    torch.save({"a": torch.ones(3)}, path)
    with pytest.raises(UserError, match=r"cannot be fetched \(invalid hash value"):
        fetch_named(path.as_uri(), tmp_path / "here")
    assert [*(tmp_path / "here").iterdir()] == []
    with pytest.raises(UserError, match="contains no checksum"):
        fetch_named((tmp_path / "net.pth").as_uri(), tmp_path / "here")


def test_without_a_network_the_address_and_the_folder_are_named(tmp_path):
    with pytest.raises(UserError) as error:
        fetch_named("http://127.0.0.1:9/net-0123abcd.pth", tmp_path / "here")
    assert "http://127.0.0.1:9/net-0123abcd.pth cannot be fetched" in str(error.value)
    assert str(error.value).endswith(f"put the file into {tmp_path / 'here'}")


def test_torchvisions_weights_of_our_encoders(hub, monkeypatch):
    theirs = torchvision.models.resnet18(weights=None)
    path = named(hub, "resnet18", theirs.state_dict())

    class Found:
        class DEFAULT:
            url, name = f"https://example.org/{path.name}", "IMAGENET1K_V1"

    monkeypatch.setattr("torchvision.models.get_model_weights", lambda name: {"resnet18": Found}[name])
    encoder = build_encoder("audio", "resnet18")
    read = read_pretrained("audio", "resnet18", encoder)
    assert read.licence == "BSD-3-Clause (torchvision); the training data, IMAGENET1K, have their own terms"
    _, report = fit(encoder, read.state, "audio")
    assert report.share == 1
    assert report.missing == []


def test_encoders_that_nobody_trained():
    for modality, name in (("audio", "resnet9"), ("video", "tiny"), ("video", "r2plus1d_34"), ("video", "mine:Net")):
        with pytest.raises(UserError, match=f"there are no pretrained weights for model.{modality}={name}"):
            read_pretrained(modality, name, torch.nn.Linear(1, 1))
    with pytest.raises(UserError, match="torchvision has no weights for no_such_net"):
        read_pretrained("video", "torchvision:no_such_net", torch.nn.Linear(1, 1))


@pytest.fixture
def hf(tmp_path, monkeypatch):
    """An empty cache of Hugging Face's hub, and no network."""
    pytest.importorskip("huggingface_hub")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "hf"


def in_cache(hf: Path, repo: str, files: dict[str, Path]) -> Path:
    """Put files into the cache as the hub's client does: blobs by checksum, and links to them."""
    root = hf / f"models--{repo.replace('/', '--')}"
    folder = root / "snapshots" / ("0" * 40)
    for path in (folder, root / "blobs", root / "refs"):
        path.mkdir(parents=True, exist_ok=True)
    (root / "refs" / "main").write_text("0" * 40)
    for name, file in files.items():
        blob = root / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        blob.write_bytes(file.read_bytes())
        (folder / name).symlink_to(blob)
    return folder


def test_timms_weights_from_the_cache(hf, tmp_path):
    timm = pytest.importorskip("timm")
    from safetensors.torch import save_file

    torch.manual_seed(3)
    theirs = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    save_file(theirs.state_dict(), tmp_path / "w.safetensors")
    in_cache(hf, "timm/tf_efficientnet_lite0.in1k", {"model.safetensors": tmp_path / "w.safetensors"})
    read = read_pretrained("video", "timm:tf_efficientnet_lite0", torch.nn.Linear(1, 1))
    assert read.licence == "apache-2.0"
    assert all(torch.equal(x, theirs.state_dict()[key]) for key, x in read.state.items())
    (tmp_path / "w.safetensors").write_bytes(b"12345678")
    in_cache(hf, "timm/resnet18.a1_in1k", {"model.safetensors": tmp_path / "w.safetensors"})
    with pytest.raises(UserError, match="is not a valid safetensors file"):
        read_pretrained("video", "timm:resnet18", torch.nn.Linear(1, 1))


def test_libraries_networks_on_videos_and_spectrograms(hf, tmp_path):
    timm = pytest.importorskip("timm")
    from safetensors.torch import save_file

    theirs = timm.create_model("resnet18", pretrained=False).eval()
    save_file(theirs.state_dict(), tmp_path / "w.safetensors")
    in_cache(hf, "timm/resnet18.a1_in1k", {"model.safetensors": tmp_path / "w.safetensors"})
    config = ModelConfig(video="timm:resnet18", audio="timm:resnet18", init=["pretrained"])
    model = build_multi_stream(config).eval()
    started, _ = start(model, config)
    assert [s.fit.share for s in started] == [1, 1]
    assert [[*s.fit.changed.values()] for s in started] == [
        [],
        ["summed over colours: [64, 3, 7, 7] to [64, 1, 7, 7]"],
    ]
    images, grey = torch.randn(2, 3, 2, 64, 64), torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        frames = theirs.forward_head(theirs.forward_features(images.transpose(1, 2).flatten(0, 1)), pre_logits=True)
        torch.testing.assert_close(model.encoders["video"](images), frames.unflatten(0, (2, 2)).mean(1))
        sounds = theirs.forward_head(theirs.forward_features(grey.expand(-1, 3, -1, -1)), pre_logits=True)
        torch.testing.assert_close(model.encoders["audio"](grey), sounds, rtol=1e-4, atol=1e-4)


def test_without_a_network_the_hubs_repository_and_the_cache_are_named(hf):
    pytest.importorskip("timm")
    with pytest.raises(UserError) as error:
        read_pretrained("video", "timm:resnet18", torch.nn.Linear(1, 1))
    text = str(error.value)
    assert f"model.safetensors of https://huggingface.co/timm/resnet18.a1_in1k is not in {hf} and cannot be" in text
    assert "hf download timm/resnet18.a1_in1k" in text


def test_non_commercial_weights_are_not_fetched_unasked(hf):
    timm = pytest.importorskip("timm")
    name = next(n for n in timm.list_pretrained() if "nc" in (timm.get_pretrained_cfg(n).license or "").split("-"))
    with pytest.raises(UserError, match=r"are not for commercial use \(cc-by-nc-4.0\): if you accept this, fetch them"):
        read_pretrained("video", f"timm:{name}", torch.nn.Linear(1, 1))


def test_a_folder_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.VideoMAEConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=32, num_frames=4,
        num_labels=3,
    )  # fmt: skip
    theirs = transformers.VideoMAEForVideoClassification(config)
    theirs.save_pretrained(tmp_path / "net")
    (tmp_path / "net" / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n# A net\n")
    encoder = build_encoder("video", f"hf:{tmp_path / 'net'}")
    read = read_pretrained("video", f"hf:{tmp_path / 'net'}", encoder)
    assert read.licence == "cc-by-nc-4.0"
    weights, report = fit(encoder, read.state, "video")
    inner = theirs.videomae.state_dict()
    assert all(torch.equal(x, inner[key.removeprefix("base.")]) for key, x in weights.items())
    assert {key.removeprefix("base.") for key in weights} == {*inner}
    assert report.missing == []
    (tmp_path / "net" / "model.safetensors").write_bytes(b"{}")
    with pytest.raises(UserError, match="is not a valid safetensors file"):
        read_pretrained("video", f"hf:{tmp_path / 'net'}", encoder)


def test_a_fetched_file_has_the_checksum_of_its_name(tmp_path):
    data = b"weights"
    for digest in (hashlib.sha256(data), hashlib.sha1(b"blob 7\0" + data)):
        path = tmp_path / digest.hexdigest()
        path.write_bytes(data)
        check_blob(path)
        path.write_bytes(b"another")
        with pytest.raises(UserError, match="is damaged"):
            check_blob(path)
    (tmp_path / "abc").write_bytes(data)
    with pytest.raises(UserError, match="is not named by a checksum"):
        check_blob(tmp_path / "abc")


class Server(http.server.BaseHTTPRequestHandler):
    """Answers as the hub does, with one file of a repository."""

    files: dict[str, bytes] = {}

    def do_GET(self) -> None:
        data = self.files.get(self.path)
        if data is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Repo-Commit", "1" * 40)
        self.send_header("X-Linked-Etag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Linked-Size", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    do_HEAD = do_GET

    def log_message(self, *args: object) -> None:
        pass


def test_a_file_of_the_hub_is_fetched_and_checked(hf, tmp_path, monkeypatch):
    timm = pytest.importorskip("timm")
    from huggingface_hub import constants
    from safetensors.torch import save

    theirs = timm.create_model("resnet18", pretrained=False)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    Server.files = {"/timm/resnet18.a1_in1k/resolve/main/model.safetensors": save(theirs.state_dict())}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    try:
        read = read_pretrained("video", "timm:resnet18", torch.nn.Linear(1, 1))
    finally:
        server.shutdown()
        server.server_close()
    assert all(torch.equal(x, theirs.state_dict()[key]) for key, x in read.state.items())
    assert json.dumps([*read.files]).count(str(hf)) == 1
