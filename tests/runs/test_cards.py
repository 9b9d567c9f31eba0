"""Model cards, and the weights they are of: fetched from a server, or converted from a file."""

import hashlib
import json
import pickle
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

import avssl
from avssl.cli import main
from avssl.config import EvaluateConfig, ModelConfig
from avssl.config.model_card import cached, card_files, find_card
from avssl.core.errors import UserError
from avssl.models import build_multi_stream
from avssl.runs.open import PUBLISHED_CLIPS, open_source

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of the test's own."""
    monkeypatch.setenv("AVSSL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def published(path, family, prefix="module.", heads=10, clusters=28, sound=True):
    """A checkpoint as published: every key of the golden list, random values, and what else such files hold."""
    shapes = json.loads((GOLDEN / f"{family}_state_dict.json").read_text())
    if family == "selavi":
        of_one = {k: s for k, s in shapes.items() if k.startswith(("mlp_v0.", "mlp_a0."))}
        shapes = {k: s for k, s in shapes.items() if not k.startswith("mlp_")}
        for head in range(heads):
            for key, shape in of_one.items():
                wide = [clusters, *shape[1:]] if ".8." in key else shape
                shapes[key.replace("v0.", f"v{head}.").replace("a0.", f"a{head}.")] = wide
    generator = torch.Generator().manual_seed(0)
    state = {}
    for key, shape in shapes.items():
        if not sound and key.startswith(("audio_network", "mlp_a")):
            continue
        whole = key.endswith("num_batches_tracked")
        value = torch.zeros(shape, dtype=torch.int64) if whole else 0.05 * torch.randn(shape, generator=generator)
        state[prefix + key] = value.abs() + 0.5 if key.endswith("running_var") else value
    torch.save({"model": state, "epoch": 7, "optimizer": {"lr": 0.1}}, path)
    return state


class Handler(BaseHTTPRequestHandler):
    """A server of one file, which knows ranges, and breaks off after `broken` bytes once."""

    content, broken, asked = b"", 0, []

    def do_GET(self):
        begin = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        type(self).asked.append(begin)
        if self.path != "/weights.pth":
            return self.send_error(404)
        if begin >= len(self.content):
            return self.send_error(416)
        self.send_response(206 if begin else 200)
        part = self.content[begin:]
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        cut, type(self).broken = self.broken or len(part), 0
        self.wfile.write(part[:cut])
        return None

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("weights") / "weights.pth"
    published(path, "gdt")
    return path.read_bytes()


@pytest.fixture
def server(weights):
    Handler.content, Handler.broken, Handler.asked = weights, 0, []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()
        thread.join()


def fetch(server, *words, name="gdt_kinetics", path="weights.pth"):
    return main(["models", "fetch", f"name={name}", f"url='{server}/{path}'", *words])


def checksum():
    return f"sha256={hashlib.sha256(Handler.content).hexdigest()}"


@pytest.mark.parametrize("name", card_files())
def test_every_card_is_whole(name):
    card = find_card(name)
    assert card.family in PUBLISHED_CLIPS
    assert card.url.startswith("https://")
    assert card.page.startswith("https://")
    assert "NonCommercial" in card.licence
    assert card.figures
    assert all(1 < value < 100 for value in card.figures.values())
    assert card.sha256 is None or len(card.sha256) == 64
    assert bool(card.heads and card.clusters) != bool(card.projection)
    config = ModelConfig(video=card.video, audio=card.audio if card.audio != "none" else "resnet9")
    with torch.device("meta"):
        build_multi_stream(config, card.clusters, max(1, card.heads), "per_modality", card.projection)


def test_every_published_model_has_a_card():
    assert {(c.method, c.data) for c in map(find_card, card_files())} == {
        ("SeLaVi", "VGG-Sound"), ("SeLaVi", "Kinetics-400"), ("SeLaVi", "Kinetics-Sound"), ("SeLaVi", "AVE"),
        ("GDT", "Kinetics-400"), ("GDT", "HowTo100M"), ("GDT", "IG65M"),
    }  # fmt: skip


def test_they_are_listed_and_shown(capsys):
    assert main(["models"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in card_files())
    assert main(["models", "show", "name=selavi_vggsound"]) == 0
    shown = capsys.readouterr().out
    assert "10 heads of 309" in shown
    assert "NonCommercial" in shown
    assert "NMI of these weights 54.6 %" in shown
    assert main(["models", "show", "name=selavi_vgsound"]) == 2
    assert "did you mean selavi_vggsound?" in capsys.readouterr().err


@pytest.mark.parametrize("prefix", ["module.", ""])
@pytest.mark.parametrize(
    ("name", "family", "sound"),
    [("selavi_ave", "selavi", True), ("gdt_kinetics", "gdt", True), ("gdt_howto100m", "gdt", False)],
)
def test_a_file_converts_to_the_same_model(tmp_path, capsys, name, family, sound, prefix):
    state = published(tmp_path / "theirs.pth", family, prefix, sound=sound)
    assert main(["models", "convert", f"name={name}", f"file={tmp_path / 'theirs.pth'}"]) == 0
    assert "NonCommercial" in capsys.readouterr().out
    kept = torch.load(cached(name), weights_only=True)
    fc = ("video_network.base.fc.", "audio_network.base.fc.")
    plain = {key.removeprefix("module."): value for key, value in state.items()}
    assert {k: v.shape for k, v in kept["model"].items() if not k.startswith(fc)} == {
        k: v.shape for k, v in plain.items() if not k.startswith(fc)
    }
    assert all((kept["model"][k] == plain[k]).all() for k in kept["model"])
    assert kept.keys() == {"model", "epoch", "name"}
    by_name, by_file = avssl.load(name, device="cpu"), avssl.load(tmp_path / "theirs.pth", device="cpu")
    assert [*by_name.encoders] == (["video", "audio"] if sound else ["video"])
    for mine, other in zip(by_name.model.state_dict().items(), by_file.model.state_dict().items(), strict=True):
        assert mine[0] == other[0]
        assert torch.equal(mine[1], other[1])
    assert open_source(EvaluateConfig(checkpoint=name)).clip == by_file.clip


def test_features_by_name(tmp_path, tiny_sample):
    published(tmp_path / "theirs.pth", "gdt")
    assert main(["models", "convert", "name=gdt_ig65m", f"file={tmp_path / 'theirs.pth'}"]) == 0
    video = next(tiny_sample.glob("test/*/*.mp4"))
    found = avssl.load("gdt_ig65m", device="cpu").features(video)
    assert {m: x.shape for m, x in found.items()} == {"video": (1, 512), "audio": (1, 512)}
    assert all(np.isfinite(x).all() for x in found.values())


def test_another_models_file_is_refused(tmp_path, capsys):
    published(tmp_path / "theirs.pth", "selavi", clusters=28)
    words = [f"file={tmp_path / 'theirs.pth'}"]
    assert main(["models", "convert", "name=selavi_vggsound", *words]) == 2
    assert "10 heads of 28 clusters, not selavi for video and audio with 10 heads of 309" in capsys.readouterr().err
    assert main(["models", "convert", "name=gdt_kinetics", *words]) == 2
    assert not cached("gdt_kinetics").exists()
    assert main(["models", "convert", "name=selavi_ave", f"file={tmp_path / 'none.pth'}"]) == 2
    assert "none.pth does not exist" in capsys.readouterr().err


class Code:
    """Runs when it is unpickled, where that is allowed."""

    def __reduce__(self):
        return Path.touch, (Path("ran"),)


def test_a_pickle_with_code_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Code(), "epoch": 0}, "zip.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"model": Code()}))
    for name in ("zip.pth", "plain.pth"):
        assert main(["models", "convert", "name=selavi_ave", f"file={name}"]) == 2
        assert "loaded safely" in capsys.readouterr().err
        with pytest.raises(UserError, match="loaded safely"):
            avssl.load(name)
    assert not (tmp_path / "ran").exists()


def test_weights_are_fetched(server, capsys):
    assert fetch(server, "accept_licence=true", checksum()) == 0
    path = cached("gdt_kinetics")
    assert str(path) in capsys.readouterr().out
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert avssl.load("gdt_kinetics", device="cpu").audio is not None
    asked = len(Handler.asked)
    assert fetch(server, "accept_licence=true", checksum()) == 0
    assert "already fetched" in capsys.readouterr().out
    assert len(Handler.asked) == asked


def test_progress_without_a_terminal(server, capsys, monkeypatch):
    monkeypatch.setattr("avssl.core.progress.SAY_EVERY", 0.0)
    assert fetch(server, "accept_licence=true", checksum()) == 0
    assert f"of {len(Handler.content) >> 20} MiB" in capsys.readouterr().out


def test_a_fetch_that_broke_off_goes_on(server, capsys, cache):
    Handler.broken = 3_000_000
    assert fetch(server, "accept_licence=true", checksum()) == 2
    assert "broke after 3000000 of" in capsys.readouterr().err
    (part,) = (cache / "models").iterdir()
    assert part.name.startswith(".gdt_kinetics.")
    assert fetch(server, "accept_licence=true", checksum()) == 0
    assert Handler.asked == [0, 3_000_000]
    whole = Handler.content
    part.write_bytes(whole)  # it ended just before it was converted
    cached("gdt_kinetics").unlink()
    assert fetch(server, "accept_licence=true", checksum()) == 0


def test_another_file_is_not_kept(server, capsys, cache):
    assert fetch(server, "accept_licence=true", f"sha256={'0' * 64}") == 2
    assert "it is not the expected file, and was removed" in capsys.readouterr().err
    assert not any((cache / "models").iterdir())
    assert fetch(server, "accept_licence=true", checksum(), name="gdt_howto100m") == 2
    assert "is not gdt_howto100m" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sha256=" + "0" * 64], "accept_licence=true"),
        (["accept_licence=true"], "without which nothing is fetched"),
        (["accept_licence=true", "sha256=" + "0" * 64, "url='file:///etc/hostname'"], "http or https"),
        (["accept_licence=true", "sha256=" + "0" * 64, "url='http://[::1/weights'"], "is not the address of a file"),
        (
            ["accept_licence=true", "sha256=" + "0" * 64, "url='http://127.0.0.1:port/weights'"],
            "is not the address of a file",
        ),
        (
            ["accept_licence=true", "sha256=" + "0" * 64, "url='http://127.0.0.1/two words'"],
            "is not the address of a file",
        ),
    ],
)
def test_what_is_not_fetched(server, capsys, words, said):
    assert fetch(server, *words) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert told.err.count("\n") == 1
    assert "NonCommercial" in told.out  # it is shown before anything else
    assert Handler.asked == []


def test_a_server_that_fails(server, capsys):
    assert fetch(server, "accept_licence=true", checksum(), path="other.pth") == 2
    assert "the server answered 404" in capsys.readouterr().err
    assert fetch("http://127.0.0.1:1", "accept_licence=true", checksum()) == 2
    assert "refused" in capsys.readouterr().err


def test_a_name_whose_weights_are_not_here(capsys):
    with pytest.raises(UserError, match="avssl models fetch selavi_vggsound"):
        avssl.load("selavi_vggsound")
    assert main(["evaluate", "checkpoint=selavi_vggsound", "data.root=x"]) == 2
    assert "are not on this machine" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"did you mean selavi_vggsound\?"):
        avssl.load("selavi_vgsound")


def test_a_config_of_something_else_beside_the_file_does_not_matter(tmp_path):
    published(tmp_path / "weights.pth", "gdt")
    (tmp_path / "config.yaml").write_text("project: mine")
    assert avssl.load(tmp_path / "weights.pth", device="cpu").audio is not None


def test_the_file_itself_is_left_as_it_is(tmp_path, capsys):
    published(tmp_path / "weights.pth", "gdt")
    before = (tmp_path / "weights.pth").read_bytes()
    words = [f"file={tmp_path}/weights.pth", f"out={tmp_path}/weights.pth"]
    assert main(["models", "convert", "name=gdt_kinetics", *words]) == 2
    assert "is the input file" in capsys.readouterr().err
    assert (tmp_path / "weights.pth").read_bytes() == before


def test_a_cache_that_cannot_be_made(server, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("AVSSL_CACHE", str(tmp_path / "file"))
    assert fetch(server, "accept_licence=true", checksum()) == 2
    assert "set AVSSL_CACHE to another folder" in capsys.readouterr().err


def test_a_file_of_the_right_checksum_that_is_no_model(server, monkeypatch, capsys, cache):
    monkeypatch.setattr(Handler, "content", b"a page of the web")
    digest = hashlib.sha256(Handler.content).hexdigest()
    assert fetch(server, "accept_licence=true", f"sha256={digest}") == 2
    error = capsys.readouterr().err
    assert "has the expected sha256, but" in error
    assert "weights_only" not in error
    assert [*(cache / "models").iterdir()] == []
