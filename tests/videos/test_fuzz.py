"""Damaged files through index and loader: each is usable or a reject, and none crashes or hangs anything.

AVSSL_FUZZ=2000 tries as many files.
"""

import csv
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from avssl.clips.decode import Clip, ClipSpec, read_clips
from avssl.config import DataConfig, IndexConfig
from avssl.core.errors import ClipError
from avssl.videos.index import NothingUsableError, index_videos, read_index, splits
from avssl.videos.workers import Lost, run_isolated
from tests.media.make_media import noise, numbered_frames, talking, write_media

COUNT = int(os.environ.get("AVSSL_FUZZ", "160"))
SPEC = ClipSpec(4, 8.0, 16000, 0.5)
HUGE = ((65535, 65535), (16000, 16000), (8000, 8000), (60000, 64), (1, 1), (0, 0))


def sources(folder: Path) -> list[Path]:
    """Small usable files of different containers and codecs."""
    times = [i / 12 for i in range(14)]
    pictures, wave = numbered_frames(14), noise(16000, 1.2)
    kinds = {
        "a.mp4": {}, "b.mkv": {}, "c.webm": {"video_codec": "libvpx", "audio_codec": "libopus"},
        "d.avi": {"video_codec": "mpeg4", "audio_codec": "pcm_s16le"},
        "e.mov": {"video_codec": "mjpeg", "audio_codec": "pcm_s16le"}, "f.ts": {"bframes": 2},
        "g.avi": {"video_codec": "rawvideo", "audio_codec": "libmp3lame"},
        "h.mpg": {"video_codec": "mpeg2video", "audio_codec": "mp2"},
    }  # fmt: skip
    made = []
    for name, options in kinds.items():
        rate = 48000 if name in ("c.webm", "f.ts", "h.mpg") else 16000
        sound = wave if rate == 16000 else noise(rate, 1.2)
        frames, at = (pictures, times) if name != "h.mpg" else (numbered_frames(30), [i / 25 for i in range(30)])
        made.append(write_media(folder / name, at, frames, sound, rate, **options))  # type: ignore[arg-type]
    return made


def sizes(width: int, height: int) -> list[bytes]:
    """A picture's size as the headers of avi, mp4 (sample entry, track header) and Matroska write it."""
    w, h = width & 0xFFFF, height & 0xFFFF
    matroska = b"\xb0\x82" + w.to_bytes(2, "big") + b"\xba\x82" + h.to_bytes(2, "big")
    if width < 256 and height < 256:
        matroska = b"\xb0\x81" + bytes([width]) + b"\xba\x81" + bytes([height])
    return [
        np.array([width, height], "<i4").tobytes(), w.to_bytes(2, "big") + h.to_bytes(2, "big"),
        (w << 16).to_bytes(4, "big") + (h << 16).to_bytes(4, "big"), matroska,
    ]  # fmt: skip


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """The bytes with some damage of a random kind."""
    kind = rng.integers(7)
    changed = bytearray(data)
    if kind == 0:  # bits, anywhere
        for at in rng.integers(0, len(data), 1 + int(rng.integers(40))):
            changed[at] ^= 1 << int(rng.integers(8))
    elif kind == 1:  # bits of the headers, at either end
        for at in rng.integers(0, min(600, len(data)), 1 + int(rng.integers(6))):
            changed[at if rng.random() < 0.5 else -1 - at] = int(rng.integers(256))
    elif kind == 2:
        return data[: int(rng.integers(len(data)))]
    elif kind == 3:  # a hole
        at, length = int(rng.integers(len(data))), int(rng.integers(1, 4000))
        return data[:at] + data[at + length :]
    elif kind == 4:  # zeros, or the largest numbers, over a stretch
        at, length = int(rng.integers(len(data))), int(rng.integers(1, 2000))
        changed[at : at + length] = (b"\0" if rng.random() < 0.5 else b"\xff") * len(changed[at : at + length])
    elif kind == 5:  # a huge picture is claimed
        width, height = HUGE[int(rng.integers(len(HUGE)))]
        for old, new in zip(sizes(64, 64), sizes(width, height), strict=True):
            data = data.replace(old, new)
        return data
    else:
        return (b"", b"a text\n" * 99, b"\0" * 5000, rng.bytes(5000), data[len(data) // 2 :])[int(rng.integers(5))]
    return bytes(changed)


def read(path: str) -> tuple[str, str]:
    """What a reader makes of a file: clips, or the reason for none."""
    try:
        clips = read_clips(path, [0.0, 0.4], SPEC, 48, limit=5.0)
    except ClipError as error:
        return "clip error", str(error)
    return ("clips", "") if all(map(fits, clips)) else ("wrong clips", str([c.frames.shape for c in clips]))


def fits(clip: Clip) -> bool:
    frames, samples = clip
    shape = len(frames) == SPEC.frames and min(frames.shape[1:3]) == 48 and frames.shape[3] == 3
    return bool(shape and len(samples) == SPEC.samples and np.isfinite(samples).all() and np.abs(samples).max() <= 1)


@pytest.mark.slow
def test_damaged_files_cost_themselves_alone(tmp_path: Path, capfd) -> None:
    rng = np.random.default_rng(20)
    root, index = tmp_path / "root", tmp_path / "index"
    (root / "train/a").mkdir(parents=True)
    originals = [(path.suffix, path.read_bytes()) for path in sources(tmp_path / "sources")]
    for i in range(COUNT):
        suffix, data = originals[i % len(originals)]
        (root / f"train/a/{i:05}{suffix}").write_bytes(damaged(data, rng))
    talking(root / "train/a/good.mp4")
    report = index_videos(IndexConfig(DataConfig(str(root), index=str(index), min_seconds=0.9, probe_timeout=60.0)))
    usable = set(read_index(index, "train")["path"].to_pylist())
    with (index / "rejects.csv").open(newline="") as file:
        rejects = {row["path"]: row for row in csv.DictReader(file)}
    everything = {path.relative_to(root).as_posix() for path in root.rglob("*.*")}
    assert usable | rejects.keys() == everything
    assert not usable & rejects.keys()
    assert "train/a/good.mp4" in usable
    assert all(row["detail"] for row in rejects.values() if row["reason"] not in ("no sound", "no video", "crashed"))
    assert not {"timeout", "crashed"} & report.rejects.keys(), rejects

    # the loader's reader, on every file, whatever the index said of it
    outcome: Counter[str] = Counter()
    for path, result in run_isolated(read, [str(root / path) for path in sorted(everything)], 2, 120.0, 4 << 30):
        kind = result.reason if isinstance(result, Lost) else result[0]
        outcome[f"{kind}, {'usable' if Path(path).relative_to(root).as_posix() in usable else 'rejected'}"] += 1
        assert kind in ("clips", "clip error"), (path, result)
    assert outcome["clip error, usable"] < 0.15 * len(usable), outcome  # damage in the middle, which no probe decodes
    printed = capfd.readouterr()
    assert printed.out == ""
    with capfd.disabled():
        if "AVSSL_FUZZ" in os.environ:
            print(f"\n{report.rows['train']} usable, rejected: {report.rejects}; read: {dict(outcome)}")


def test_a_folder_of_damage_alone(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    for i, data in enumerate((b"", b"\0" * 99, b"a text", b"ftypisom" * 9)):
        (tmp_path / f"root/{i}.mp4").write_bytes(data)
    with pytest.raises(NothingUsableError, match="4 unreadable"):
        index_videos(IndexConfig(DataConfig(str(tmp_path / "root"), index=str(tmp_path / "index")), workers=1))
    assert splits(tmp_path / "index", missing_ok=True) == []
