from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from avssl.explore.previews import Preview, make_previews, spectrogram_image, stretch
from tests.conftest import write_video


def wanted(folder: Path, **sources) -> tuple[dict, dict]:
    previews = {
        f"00000/{name}": Preview(path, start, seconds, sound, str(folder / f"00000/{name}"))
        for name, (path, start, seconds, sound) in sources.items()
    }
    return previews, {name: [str(p.source), 1, 1] for name, p in previews.items()}


def test_a_preview_is_the_stretch_with_its_sound(tmp_path):
    video = write_video(tmp_path / "a \"'<b>#%?.mp4", seconds=3.0)  # frame k has brightness 10 k, at 15 a second
    previews, stamps = wanted(tmp_path / "p", x=(video, 0.4, 1.0, True), mute=(video, 0.0, 1.0, False))
    assert make_previews(tmp_path / "p", previews, stamps, 1) == {}
    with av.open(str(tmp_path / "p/00000/x.mp4")) as container:
        frames = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
        assert len(frames) == 15
        assert frames[0].mean() == pytest.approx(60, abs=4)
        container.seek(0)
        sound = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
        assert len(sound) == pytest.approx(24000, abs=2048)
        assert np.abs(sound).max() > 0.1
    assert Image.open(tmp_path / "p/00000/x.jpg").size == (144, 144)
    assert Image.open(tmp_path / "p/00000/x.png").size[1] == 64
    with av.open(str(tmp_path / "p/00000/mute.mp4")) as container:
        assert not container.streams.audio
    assert not (tmp_path / "p/00000/mute.png").exists()


def test_what_is_there_is_kept_and_what_changed_is_made_anew(tmp_path):
    video, folder = write_video(tmp_path / "a.mp4", seconds=3.0), tmp_path / "p"
    (tmp_path / "bad.mp4").write_text("no video")
    bad = tmp_path / "bad.mp4"
    files = {"x": (video, 0.0, 1.0, True), "y": (video, 1.0, 1.0, True), "bad": (bad, 0.0, 1.0, True)}
    previews, stamps = wanted(folder, **files)
    missing = make_previews(folder, previews, stamps, 1)
    assert list(missing) == ["00000/bad"]
    made = {p: p.stat().st_mtime_ns for p in folder.rglob("*.mp4")}
    assert len(made) == 2
    assert make_previews(folder, previews, stamps, 1) == missing  # nothing is made, what failed is still told
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*.mp4")} == made
    stamps["00000/x"][2] = 2  # the source has changed
    del previews["00000/y"]
    make_previews(folder, previews, stamps, 1)
    assert [p.name for p in folder.rglob("*.mp4")] == ["x.mp4"]
    assert next(folder.rglob("*.mp4")).stat().st_mtime_ns > made[folder / "00000/x.mp4"]


def test_a_stretch_is_in_the_middle_of_its_window():
    assert stretch(10.0, 6.0, 1.0) == (12.0, 2.0)
    assert stretch(10.0, 6.0, 4.0) == (11.0, 4.0)
    assert stretch(10.0, 1.5, 4.0) == (10.0, 1.5)


def test_a_spectrogram_has_low_tones_at_the_bottom():
    time = np.arange(24000) / 24000
    picture = np.asarray(spectrogram_image(np.sin(2 * np.pi * 200 * time).astype(np.float32)).convert("L"), float)
    assert picture.mean(1).argmax() > 48
    assert np.asarray(spectrogram_image(np.zeros(24000, np.float32))).shape[0] == 64  # silence
