"""Sample videos are real files, the same for the same seed, and hard for clustering that has learnt nothing."""

import csv
import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from scipy.io import wavfile

from avssl.config import SampleConfig
from avssl.core.errors import UserError
from avssl.sample.plan import class_pairs, class_sizes, plan_videos
from avssl.sample.videos import make_sample, make_video

VOICES = Path(__file__).parents[3] / "shared" / "voices"


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def write_voices(folder: Path, names: list[str], digits: int = 10) -> Path:
    """A tone per digit, a little different per voice, with silence around it."""
    folder.mkdir()
    for v, name in enumerate(names):
        for digit in range(digits):
            tone = np.sin(np.arange(2400) * (0.1 + 0.05 * digit + 0.01 * v)) * 12000
            wavfile.write(folder / f"{digit}_{name}_0.wav", 8000, np.pad(tone, 400).astype(np.int16))
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sample(SampleConfig(out=str(tmp_path_factory.mktemp("small") / "s"), train=3, test=2, workers=1))


def test_layout_and_labels(small: Path) -> None:
    listed = rows(small)
    assert len(listed) == 50
    assert Counter(r["split"] for r in listed) == {"train": 30, "test": 20}
    for row in listed:
        path = small / row["path"]
        assert path.is_file()
        assert path.relative_to(small).parts[:2] == (row["split"], f"digit_{row['digit']}")
    assert {p.relative_to(small).as_posix() for p in small.rglob("*.mp4")} == {r["path"] for r in listed}
    assert json.loads((small / "sample.json").read_text())["train"] == 3


def test_streams_are_real(small: Path) -> None:
    for row in rows(small)[::7]:
        with av.open(str(small / row["path"])) as container:
            video, audio = container.streams.video[0], container.streams.audio[0]
            assert (video.codec_context.name, video.codec_context.pix_fmt) == ("h264", "yuv420p")
            assert (audio.codec_context.name, audio.rate, audio.channels) == ("aac", 24000, 1)
            assert (video.width, video.height, video.average_rate) == (64, 64, 15)
            assert 1.45 <= float(row["seconds"]) <= 2.05
            assert float(video.duration * video.time_base) == pytest.approx(float(row["seconds"]), abs=1e-3)
            assert float(audio.duration * audio.time_base) == pytest.approx(float(row["seconds"]), abs=0.05)
            times, pixels = zip(
                *((f.time, f.to_ndarray(format="gray").std()) for f in container.decode(video)), strict=True
            )
        assert times[0] == 0
        assert len(times) == round(float(row["seconds"]) * 15)
        assert min(pixels) > 10


def test_sound_fills_every_window(small: Path) -> None:
    """No stretch of 0.4 s is without sound, and the sound starts with the picture."""
    for row in rows(small)[::7]:
        with av.open(str(small / row["path"])) as container:
            blocks = list(container.decode(audio=0))
        samples = np.concatenate([b.to_ndarray()[0] for b in blocks])
        assert blocks[0].time <= 0.0
        windows = samples[: len(samples) // 9600 * 9600].reshape(-1, 9600)
        assert (20 * np.log10(windows.std(axis=1)) > -55).all()


def test_same_seed_same_files_whatever_the_number_of_processes(small: Path, tmp_path: Path) -> None:
    again = make_sample(SampleConfig(out=str(tmp_path / "again"), train=3, test=2, workers=2))
    first, second = files(small), files(again)
    assert first == second


def test_a_video_does_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    few, many = (plan_videos(SampleConfig(train=n, test=2), tmp_path) for n in (3, 5))
    of_many = {v.path: v for v in many}
    for video in few[::5]:
        assert video.seed == of_many[video.path].seed
        config = SampleConfig()
        ours, theirs = make_video(video, config), make_video(of_many[video.path], config)
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_another_seed_makes_other_videos(tmp_path: Path) -> None:
    (one, *_), (two, *_) = (plan_videos(SampleConfig(seed=seed), tmp_path) for seed in (0, 1))
    frames = [make_video(v, SampleConfig())[0][:20] for v in (one, two)]
    assert not np.array_equal(*frames)


@pytest.mark.parametrize(
    ("options", "pixels", "samples"),
    [
        (
            {},
            [[140, 126, 139, 135], [108, 239, 143, 146], [102, 34, 134, 149], [140, 209, 122, 121]],
            [-0.0015, -0.0008, -0.0, -0.002, -0.0224, -0.0076, 0.0065, -0.0021, -0.0003, 0.0107],
        ),
        (
            {"direction": True},
            [[140, 127, 139, 135], [104, 238, 144, 146], [81, 195, 142, 149], [140, 144, 122, 121]],
            [-0.0005, -0.0077, 0.0022, 0.0031, -0.0052, -0.0003, 0.0111, -0.0088, -0.0644, -0.0018, -0.0047, 0.0007],
        ),
    ],
)
def test_the_videos_of_version_1(options: dict, pixels: list, samples: list, tmp_path: Path) -> None:
    """Points of a video, as the first release of the sample made it: a folder of that time can be completed."""
    video = plan_videos(SampleConfig(**options), tmp_path)[245]
    frames, audio = make_video(video, SampleConfig(**options))
    assert np.abs(frames[9, 8::16, 8::16, 0].astype(int) - pixels).max() <= 1
    assert np.abs(audio[2000::4000] - samples).max() < 2e-4


@pytest.mark.parametrize("options", [{}, {"ambiguous": True}, {"longtail": 1.0}, {"train": 200}])
def test_splits_share_no_handwriting(options: dict, tmp_path: Path) -> None:
    videos = plan_videos(SampleConfig(**{"train": 90, **options}), tmp_path)
    sources = {split: {v.source for v in videos if v.split == split} for split in ("train", "test")}
    assert not sources["train"] & sources["test"]
    if not options:
        assert len(sources["train"]) == 900


def test_long_tail_sizes(tmp_path: Path) -> None:
    config = SampleConfig(train=60, test=20, longtail=1.0)
    assert class_sizes(config, 60) == [60, 30, 20, 15, 12, 10, 9, 8, 7, 6]
    assert class_sizes(SampleConfig(longtail=3.0), 60)[-1] == 2
    videos = plan_videos(config, tmp_path)
    assert Counter(v.kind for v in videos if v.split == "test")["digit_9"] == 2


def test_ambiguous_classes_need_both_modalities(tmp_path: Path) -> None:
    config = SampleConfig(ambiguous=True, train=60, test=20)
    pairs = class_pairs(config)
    digits, sounds = Counter(d for d, _ in pairs), Counter(s for _, s in pairs)
    assert len(set(pairs)) == 10
    assert sorted(digits.values()).count(2) == 2
    assert sorted(sounds.values()).count(2) == 3
    assert all(digits[d] == 2 or sounds[s] == 2 for d, s in pairs)
    videos = plan_videos(config, tmp_path)
    assert len({v.kind for v in videos}) == 10
    assert {(v.kind, v.digit, v.sound) for v in videos} == {(f"digit_{d}_sound_{s}", d, s) for d, s in pairs}
    images = {kind: {v.source for v in videos if v.kind == kind} for kind in ("digit_2_sound_2", "digit_2_sound_3")}
    assert not set.intersection(*images.values())


def test_direction_is_seen_and_heard(tmp_path: Path) -> None:
    """The bright-or-dark digit's centre and the pitch move with the label."""
    config = SampleConfig(direction=True, train=6, test=0)
    videos = plan_videos(config, tmp_path)
    assert {v.backwards for v in videos} == {True, False}
    assert Counter(v.direction for v in videos) == {"rises": 30, "falls": 30}
    for video in [v for v in videos if v.sound == 0]:  # the flute: its strongest frequency is its pitch
        frames, samples = make_video(video, config)
        far = np.abs(frames.astype(float).mean(axis=-1) - 128) > 75
        rows_ = np.array([np.nonzero(f)[0].mean() for f in far])
        pieces = np.array_split(samples, 3)
        peaks = [np.abs(np.fft.rfft(p, 48000))[200:4000].argmax() for p in (pieces[0], pieces[2])]
        sign = 1 if video.direction == "rises" else -1
        assert sign * (rows_[0] - rows_[-1]) > 8
        assert sign * np.log2(peaks[1] / peaks[0]) > 0.3


def test_a_reversed_video_is_one_of_the_other_direction(tmp_path: Path) -> None:
    """What tells a rising video from a falling one is the direction alone: each holds the other's reverses."""
    config = SampleConfig(direction=True, train=8, test=0)
    for video in plan_videos(config, tmp_path)[:8]:
        direction = "rises" if video.direction == "falls" else "falls"
        frames, samples = make_video(video, config)
        there, heard = make_video(replace(video, direction=direction, backwards=not video.backwards), config)
        assert np.array_equal(frames[::-1], there)
        assert np.array_equal(samples[::-1], heard)


def test_an_interrupted_run_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = SampleConfig(out=str(tmp_path / "s"), classes=2, train=2, test=1)
    root = make_sample(config)
    before = files(root)
    kept, lost = sorted(root.rglob("*.mp4"))[:2]
    kept.write_bytes(b"kept as it is")
    lost.unlink()
    (lost.parent / f".{lost.stem}.half.mp4").write_bytes(b"half")
    (root / "labels.csv").unlink()
    capsys.readouterr()
    assert make_sample(config) == root
    assert re.search(rf"1 video written in \d+ s, 5 existed: {re.escape(str(root))}", capsys.readouterr().out)
    assert kept.read_bytes() == b"kept as it is"
    after = files(root)
    assert {**after, kept.relative_to(root).as_posix(): b""} == {**before, kept.relative_to(root).as_posix(): b""}


def test_another_sample_is_not_overwritten(tmp_path: Path) -> None:
    make_sample(SampleConfig(out=str(tmp_path / "s"), classes=2, train=1, test=0))
    with pytest.raises(UserError, match="contains a sample with seed=.*: choose another folder with out="):
        make_sample(SampleConfig(out=str(tmp_path / "s"), classes=2, train=2, test=0, seed=3))
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "thesis.txt").write_text("")
    with pytest.raises(UserError, match="does not contain a sample: choose another folder with out="):
        make_sample(SampleConfig(out=str(tmp_path / "t")))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"classes": 1}, "classes=1"),
        ({"classes": 11}, "classes=11"),
        ({"classes": 3, "ambiguous": True}, "classes=3"),
        ({"train": 0}, "train=0"),
        ({"test": -1}, "test=-1"),
        ({"size": 63}, "size=63"),
        ({"fps": 0.0}, "fps=0"),
        ({"min_seconds": 3.0}, "min_seconds=3"),
        ({"fps": 1.0, "min_seconds": 0.5}, "fps=1 leaves no frame"),
        ({"audio_rate": 12345}, "audio_rate=12345"),
        ({"longtail": -1.0}, "longtail=-1"),
        ({"seed": -1}, "seed=-1"),
        ({"distractors": 2}, "distractors=2"),
        ({"sources": 0}, "sources=0"),
        ({"negatives": 1.5}, "negatives=1.5"),
        ({"distractors": 1, "sources": 2}, "distractors=1 with sources=2"),
        ({"distractors": 0.6, "sources": 1.5}, "distractors=0.6 with sources=1.5"),
        ({"distractors": 1, "classes": 2}, "distractors=1 with classes=2"),
        ({"sources": 2, "classes": 2}, "sources=2 with classes=2"),
        ({"distractors": 1, "ambiguous": True}, "distractors=1 with ambiguous=true"),
        ({"sources": 2, "direction": True}, "sources=2 with direction=true"),
        ({"workers": -1}, "workers=-1"),
        ({"voices": "no/such/folder"}, "voices=no/such/folder"),
    ],
)
def test_wrong_options_are_one_line(options: dict, named: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        make_sample(SampleConfig(out=str(tmp_path / "s"), **options))
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "s").exists()


def test_voices_folder_must_hold_voices(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no <digit>_<voice>\.wav file"):
        make_sample(SampleConfig(out=str(tmp_path / "s"), voices=str(tmp_path / "empty")))
    alone = write_voices(tmp_path / "alone", ["anna"])
    with pytest.raises(UserError, match="no train voice says 0"):
        make_sample(SampleConfig(out=str(tmp_path / "s"), voices=str(alone)))
    torn = write_voices(tmp_path / "torn", ["anna", "bert"])
    for wav in torn.iterdir():
        wav.write_bytes(b"not a wav")
    with pytest.raises(UserError, match="not a readable wav"):
        make_sample(SampleConfig(out=str(tmp_path / "t"), voices=str(torn), train=1, workers=1))


def check_voices(folder: Path, out: Path) -> None:
    root = make_sample(SampleConfig(out=str(out), voices=str(folder), train=4, test=2, workers=1))
    listed = rows(root)
    heard = {split: {r["voice"] for r in listed if r["split"] == split} for split in ("train", "test")}
    assert all(heard.values())
    assert not heard["train"] & heard["test"]
    assert all(r["digit"] == r["sound"] for r in listed)
    with av.open(str(root / listed[0]["path"])) as container:
        assert max(np.abs(f.to_ndarray()).max() for f in container.decode(audio=0)) > 0.03


def test_spoken_digits(tmp_path: Path) -> None:
    check_voices(write_voices(tmp_path / "voices", ["anna", "bert", "carla", "dan"]), tmp_path / "s")


def test_recorded_speech(tmp_path: Path) -> None:
    if not VOICES.is_dir():
        pytest.skip(f"no recordings of spoken digits at {VOICES}; test_spoken_digits proves the same with tones")
    check_voices(VOICES, tmp_path / "s")
