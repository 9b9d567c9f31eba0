"""The videos that are to be probed."""

import tracemalloc

from avssl.videos.layout import Video
from avssl.videos.missing import Missing


def test_files_are_probed_once_each_in_order():
    paths = ["a", "b", "b", "b", "c", "d", "e", "e"]
    videos = [Video(path, "train", f"class {number}", 1, 1) for number, path in enumerate(paths)]
    missing = Missing(videos)
    assert not missing
    new = [missing.add(number, video) for number, video in enumerate(videos) if video.path != "c"]
    assert new == [True, True, False, False, True, True, False]
    assert [video.class_name for video in missing] == [f"class {number}" for number in (0, 3, 5, 7)]
    assert len(missing) == 4
    assert len([*missing]) == 4  # again, from the start


def test_a_video_takes_one_byte():
    videos = [Video("a", "train", None, 1, 1), Video("b", "train", None, 1, 1)] * 50_000
    tracemalloc.start()
    missing = Missing(videos)
    for number, video in enumerate(videos):
        missing.add(number, video)
    assert tracemalloc.get_traced_memory()[0] < 150_000
    tracemalloc.stop()
    assert len(missing) == 100_000
