"""The bench of the loader compares like with like, and reports it."""

import importlib.util
import shutil
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from avssl.clips.dataset import ClipDataset
from avssl.clips.loader import load, train_requests
from avssl.config import ClipConfig
from avssl.config.compose import compose_config
from avssl.core.errors import UserError
from avssl.videos.index import read_index
from benchmarks.__main__ import BENCHMARKS, main
from benchmarks.loader import measure
from benchmarks.loader_files import KINDS, make_files
from benchmarks.loader_profile import profile
from benchmarks.loader_steps import load_in_threads, soak, waiting
from benchmarks.loader_ways import Way, make_way
from benchmarks.options import BenchLoaderConfig

CONFIGS = BENCHMARKS.configs


def config(*words: str) -> BenchLoaderConfig:
    return compose_config("loader", BenchLoaderConfig, ["seconds=4", "files=1", "items=1", *words], folder=CONFIGS)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    return make_files(tmp_path_factory.mktemp("files"), [*KINDS, "prepared"], 1, 4.0, 0)


def test_the_files_are_what_they_are_called(files) -> None:
    def keys(path: Path) -> list[int]:
        with av.open(str(path)) as container:
            return [i for i, p in enumerate(q for q in container.demux(video=0) if q.size) if p.is_keyframe]

    with av.open(str(files["h264"][0])) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, video.width, video.height, video.frames) == ("h264", 320, 240, 120)
        assert (audio.codec_context.name, audio.codec_context.layout.name) == ("aac", "stereo")
        kinds = [f.pict_type for f in container.decode(video)]
    assert kinds.count(av.video.frame.PictureType.B) > len(kinds) / 4
    assert len(keys(files["h264"][0])) <= 3
    assert keys(files["prepared"][0]) == list(range(0, 120, 12))


@pytest.mark.parametrize("kind", [*KINDS, "prepared"])
def test_every_way_gives_the_same_clips(files, kind: str) -> None:
    clip = replace(config().clip, spectrogram="logfbank")
    ways = ["pyav", "whole"]
    if shutil.which("ffmpeg") and importlib.util.find_spec("python_speech_features"):
        ways.append("published")
    views = {way: make_way(way, clip)(files[kind][0], [0.5, 2.4], 128) for way in ways}
    for way in ways[1:]:
        for ours, theirs in zip(views["pyav"], views[way], strict=True):
            assert ours.frames.shape == theirs.frames.shape == (30, 112, 112, 3)
            assert np.abs(ours.frames.astype(int) - theirs.frames).mean() < 3
            assert ours.spectrogram.shape == theirs.spectrogram.shape == (1, 40, 99)
            if kind not in ("mpeg4", "vp9"):  # the others count sound from its first sample, the file does not
                assert np.corrcoef(ours.spectrogram.flatten(), theirs.spectrogram.flatten())[0, 1] > 0.95


def test_costs_of_each_way_and_kind(files) -> None:
    c = config()
    clip = replace(c.clip, frames=4, fps=4.0)
    some = {kind: files[kind] for kind in ("h264", "prepared")}
    costs = measure(some, {way: make_way(way, clip) for way in ("pyav", "whole")}, replace(c, clip=clip))
    by = {(cost.source, cost.way): cost for cost in costs}
    assert set(by) == {(kind, way) for kind in some for way in ("pyav", "whole")}
    assert all(cost.cpu > 0 and cost.seconds > 0 for cost in costs)


def test_the_tables(tmp_path: Path, capsys, monkeypatch) -> None:
    """One of the ways cannot be run here."""

    def make(name: str, clip: ClipConfig) -> Way:
        if name == "decord":
            raise UserError("it is not installed")
        return make_way(name, clip)

    monkeypatch.setattr("benchmarks.loader.make_way", make)
    words = ["seconds=3", "files=1", "items=1", "sources=[prepared]", "ways=[pyav,whole,decord]", "steps=0"]
    assert main(["loader", f"out={tmp_path}", *words]) == 0
    said = capsys.readouterr().out
    assert "decord skipped: it is not installed" in said
    text = (tmp_path / "loader.md").read_text()
    assert "| prepared |" in text
    assert "x published" in text


def test_the_share_of_ffmpeg(files) -> None:
    c = config("items=2")
    (share,) = profile({"prepared": files["prepared"]}, c)
    assert share.source == "prepared"
    assert 0 < share.ffmpeg < share.whole
    assert share.overhead > 0.8


@pytest.mark.slow
def test_what_a_step_waits(files, tmp_path: Path) -> None:
    found = waiting({"prepared": files["prepared"]}, tmp_path, config("steps=2", "batch=2"))
    assert [(w.kind, w.workers) for w in found] == [
        ("processes", 0), ("processes", 1), ("processes", 2), ("threads", 1), ("threads", 2),
    ]  # fmt: skip
    assert all(0 < w.share < 1 and w.seconds > 0 for w in found)


def test_threads_load_what_processes_do(indexed) -> None:
    root, index = (word.split("=", 1)[1] for word in indexed)
    clip = compose_config("loader", BenchLoaderConfig, ["clip=tiny"], folder=CONFIGS).clip
    dataset = ClipDataset(read_index(index, "train"), root, clip)
    asked = [train_requests(len(dataset), 4, 0, step) for step in range(7)]
    a, b = list(load_in_threads(dataset, asked, 2)), list(load(dataset, asked, 0))
    assert len(a) == len(b) == 7
    for x, y in zip(a, b, strict=True):
        assert x.index.tolist() == y.index.tolist()
        assert (x.clips["video"] == y.clips["video"]).all()


def test_soak_tells_the_memory(capsys) -> None:
    from rich.console import Console

    seen = soak(Console(), config("soak=160", "clip=tiny"))
    assert [count for count, _ in seen][-1] == 160
    assert all(memory > 1e6 for _, memory in seen)
    assert "growth" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("word", "said"),
    [("ways=[best]", "ways=best is not one of pyav"), ("sources=[film]", "sources=film is not one of")],
)
def test_a_wrong_option_is_one_line(word: str, said: str, capsys) -> None:
    words = ["loader", "ways=[pyav]", "files=1", "items=1", "steps=0", "sources=[h264]", "seconds=3", word]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1


def test_videos_too_short_for_two_clips_are_one_line(files) -> None:
    c = config()
    with pytest.raises(UserError, match="too short"):
        measure(files, {}, replace(c, seconds=2.0))
