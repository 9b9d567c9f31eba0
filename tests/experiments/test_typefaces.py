"""The second data set, and the parts and forms of videos."""

import csv
from pathlib import Path

import av
import numpy as np
import pytest

from avssl.config import SampleConfig
from avssl.sample.plan import Handwriting, plan_videos
from avssl.sample.sound import read_wav
from avssl.sample.videos import Picture
from avssl.videos.index import read_index
from experiments.__main__ import main
from experiments.typefaces import BENDS, FONTS, SIDE, Typefaces, glyph, write_words
from experiments.videos import Videos, make_videos

pytest.importorskip("matplotlib")


def test_digits_are_drawn_and_differ():
    for font in FONTS:
        images = np.stack([glyph(font, digit) for digit in range(10)])
        assert images.shape == (10, SIDE, SIDE)
        assert (images > 128).mean(axis=(1, 2)).min() > 0.03
        assert len(np.unique(images, axis=0)) == 10


def test_the_test_split_has_other_typefaces():
    faces = Typefaces(3)
    train, test = (faces.pool(7, split) // (10 * BENDS) for split in ("train", "test"))
    assert len({*train}) + len({*test}) == len(FONTS)
    assert not {*train} & {*test}
    assert {*faces.pool(7, "train") // BENDS % 10} == {7}
    assert np.array_equal(faces.image(50), Typefaces(3).image(50))
    assert not np.array_equal(faces.image(50), faces.image(51))  # bent differently
    assert Typefaces(4).pool(7, "train").tolist() != faces.pool(7, "train").tolist()


def test_words_are_heard_and_repeat(tmp_path):
    one = write_words(tmp_path / "one", 5, digits=2)
    two = write_words(tmp_path / "two", 5, digits=2)
    noisy = write_words(tmp_path / "noisy", 5, digits=1, noise_db=10)
    names = sorted(path.name for path in one.iterdir())
    assert (names[0], len(names)) == ("0_v00.wav", 32)
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in names)
    clean, rate = read_wav(one / "0_v00.wav")
    assert rate == 16_000
    assert 0.3 < len(clean) / rate < 0.9
    drowned, _ = read_wav(noisy / "0_v00.wav")
    assert abs(np.corrcoef(clean, drowned)[0, 1]) < 0.5


def test_handwriting_is_as_it_was():
    config = SampleConfig(train=1, test=0, classes=2, seed=1)
    video = plan_videos(config, Path("x"))[0]
    assert video.background == "shapes"
    assert plan_videos(config, Path("x"), Handwriting(1))[0].source == video.source
    printed = plan_videos(config, Path("x"), Typefaces(1))[0]
    assert (printed.background, printed.image.shape) == ("noise", (SIDE, SIDE))
    assert printed.seed == video.seed
    frames = Picture(printed, config).frames()
    assert frames.shape == (printed.frames, 64, 64, 3)
    assert not np.array_equal(frames[0], Picture(video, config).frames()[0])


def test_a_command_writes_it(tmp_path):
    out = tmp_path / "videos"
    assert main(["typefaces", f"out={out}", "train=1", "test=0", "workers=1"]) == 0
    rows = [*csv.DictReader((out / "labels.csv").open())]
    assert [row["digit"] for row in rows] == [*"0123456789"]
    assert all(row["voice"] for row in rows)
    with av.open(str(out / rows[0]["path"])) as file:
        assert len(file.streams) == 2


def test_parts_and_forms_of_videos(tmp_path):
    sample = (("max_seconds", 1.2), ("min_seconds", 1.1), ("test", 1), ("train", 2))
    few = Videos("sample", sample, 1, digits=(5, 6), few=1)
    train, same = make_videos(tmp_path, few, "", 1)
    assert train == same
    assert len(read_index(train.index, "train")) == 2
    assert len(read_index(train.index, "test")) == 2
    joined = Videos("sample", sample, 1, joined=True)
    long, held_out = make_videos(tmp_path, joined, "", 1)
    windows = read_index(long.index, "train")
    assert len({*windows["path"].to_pylist()}) == 1
    assert 16 <= len(windows) <= 20  # 20 videos of 1.1 to 1.2 s in windows of 1.2 s
    assert len(read_index(held_out.index, "test")) == 10
    assert joined.whole.name == few.whole.name
    assert joined.name != few.name
