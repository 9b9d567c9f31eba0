"""Pictures of several objects: each is located with the audio of a video in which its class alone sounds."""

import json
from dataclasses import replace

import numpy as np
import pytest

from avssl.locate.heat_pass import object_map
from avssl.locate.interactive import (
    Objects,
    find_pictures,
    interactive_figures,
    next_of_picture,
    objects_of,
    objects_of_entries,
)
from avssl.locate.measures import measure
from avssl.locate.result import measure_lines
from avssl.locate.truth import PAIRS, samples_of
from avssl.videos.box_annotations import read_boxes
from tests.locate.made import CLIP, LEFT, RIGHT, boxes_at, located, peak


def picture(name: str, *classes: str, sounding: tuple[bool, ...]):
    """The true boxes of a whole video: its objects from left to right."""
    found = boxes_at(name, np.nan, *(LEFT, RIGHT)[: len(classes)], sounding=sounding)
    found.classes = [*classes]
    return found


VIDEOS = [
    picture("0.mp4", "cat", "dog", sounding=(True, False)),
    picture("1.mp4", "dog", "cat", sounding=(True, False)),
    picture("2.mp4", "cat", "dog", sounding=(True, True)),
    picture("3.mp4", "dog", "cat", sounding=(True, False)),
    picture("4.mp4", "cat", "", sounding=(True, False)),  # a box of an unknown class
    picture("5.mp4", "cow", "dog", sounding=(False, False)),  # no cow is heard anywhere
    picture("6.mp4", "dog", "dog", sounding=(True, True)),
    picture("7.mp4", "cat", sounding=(True,)),
]


def made():
    part = located([peak(LEFT)] * len(VIDEOS), [peak(RIGHT)] * len(VIDEOS))
    truth = {row: [boxes] for row, boxes in enumerate(VIDEOS)}
    return part, truth, samples_of([part], [truth], CLIP).samples


def test_each_object_gets_a_sound_of_its_class_alone():
    part, _, samples = made()
    alone = {"cat": {0, 4, 7}, "dog": {1, 3, 6}}
    chosen = set()
    for seed in range(20):
        found = find_pictures(part, samples, seed)
        assert (found.rows, found.lacking) == ([0, 1, 2, 3], 1)
        assert found.classes == [("cat", "dog")] * 4
        for row, audio in zip(found.rows, found.audio, strict=True):
            assert [one in alone[name] for one, name in zip(audio, ("cat", "dog"), strict=True)] == [True, True]
            if row in alone["cat"] | alone["dog"]:
                assert row in audio  # what sounds alone is heard with its own audio
            assert row != 2 or row not in audio  # neither of two sounds is heard alone in their mixture
            chosen |= {*audio}
        assert find_pictures(part, samples, seed) == found
    assert chosen == {0, 4, 7, 1, 3, 6}


def test_a_silent_clip_and_another_window_of_the_same_file_give_no_audio():
    part, truth, samples = made()
    part.silent[[1, 6]] = True
    assert find_pictures(part, samples, 0).audio[0] == (0, 3)
    part.rows = part.rows.set_column(0, "path", [["a.mp4", *part.paths[1:3], "a.mp4", *part.paths[4:]]])
    found = find_pictures(part, samples, 0)
    assert 0 not in found.rows  # the dog of its other window is the same file
    assert found.lacking == 2
    part.decoded[:] = False
    assert not find_pictures(part, samples_of([part], [truth], CLIP).samples, 0).rows


def test_the_picture_is_the_moment_nearest_to_the_middle():
    part, truth, _ = made()
    part.rows = part.rows.set_column(2, "window_seconds", [[2.6] * len(VIDEOS)])  # nearer to the second moment
    early, late = part.times[0, 0]
    for row, boxes in enumerate(VIDEOS):
        truth[row] = [replace(boxes, time=time) for time in (early, late)]
    truth[0][1].classes = ["cat", "cat"]
    assert 0 not in find_pictures(part, samples_of([part], [truth], CLIP).samples, 0).rows
    truth[0][1].classes, truth[0][0].classes = ["cat", "dog"], ["cat", "cat"]
    assert 0 in find_pictures(part, samples_of([part], [truth], CLIP).samples, 0).rows


@pytest.mark.parametrize(("hears", "iiou", "swapped"), [(True, 1, 0), (False, 0, 0)])
def test_a_model_that_hears_finds_both_objects(hears, iiou, swapped):
    part, truth, samples = made()
    before = measure([part], samples, "sample", 0.6)
    pictures = find_pictures(part, samples, 0)
    shown = located([peak(LEFT)] * len(pictures.rows), [peak(LEFT)] * len(pictures.rows))
    sides = {(row, VIDEOS[row].classes[i]): side for row in pictures.rows for i, side in enumerate((LEFT, RIGHT))}
    for k in range(2):
        names = [classes[k] for classes in pictures.classes]
        maps = [peak(sides[of] if hears else LEFT) for of in zip(pictures.rows, names, strict=True)]
        shown.maps[object_map(k)] = np.stack([np.stack([x, x])[None] for x in maps])
    objects = objects_of(shown, pictures, [truth[row] for row in pictures.rows], CLIP, 0.6)
    found = interactive_figures(objects)
    assert found is not None
    assert (found["pictures"], found["objects"], found["lacking"]) == (4, 8, 1)
    assert (found["iiou"], found["swapped"]["iiou"], found["centre"]["iiou"]) == (iiou, swapped, 0)
    assert found["ciou"] == (1 if hears else 0.5)  # each object alone
    assert found["iauc"] > 0.9 or not hears
    assert measure([part], samples, "sample", 0.6) == before
    lines = measure_lines({**before, "interactive": found})
    said = f"each of two objects with a sound of its class: IIoU {100 * iiou:.1f} % (sounds swapped 0.0 %, centre of "
    assert any(line.startswith(said) and "4 pictures; 1 more lack" in line for line in lines)
    assert not any("IIoU is not measured" in line for line in lines)
    assert any("IIoU is not measured" in line for line in measure_lines(before))


def test_pictures_that_are_annotated_with_the_audio_of_each_object(tmp_path):
    """IS3 has an entry, and a file, for each object; others name the picture several times, with other audio."""
    entries = [
        ("cat_baby_laughter_12_cat", "cat_baby_laughter_12_cat", [0, 0, 112, 224]),
        ("cat_baby_laughter_12_baby", "cat_baby_laughter_12_baby", [112, 0, 224, 224]),
        ("000_13", "one", [0, 0, 112, 224]), ("000_13", "two", [112, 0, 224, 224]),
        ("cow_dog_14_cow", "cow_dog_14_cow", [0, 0, 112, 224]),  # alone
    ]  # fmt: skip
    named = [{"image": f"{image}.jpg", "audio": f"{audio}.wav", "gt_box": box} for image, audio, box in entries]
    (tmp_path / "is3.json").write_text(json.dumps(named))
    truth = read_boxes(tmp_path / "is3.json").truth
    own = located([peak(LEFT), peak(RIGHT), peak(LEFT)], [peak(LEFT)] * 3)
    pairs = located([peak(LEFT), peak(LEFT)], [peak(LEFT)] * 2, PAIRS)  # the second one is missed
    rows = [{0: [truth[0]], 1: [truth[1]], 2: [truth[4]]}, {0: [truth[2]], 1: [truth[3]]}]
    samples = samples_of([own, pairs], rows, CLIP).samples
    found = interactive_figures(objects_of_entries([own, pairs], samples, 0.6))
    assert found is not None
    assert (found["pictures"], found["objects"], found["iiou"], found["ciou"]) == (2, 4, 0.5, 0.75)
    assert found["swapped"]["iiou"] == 0


def test_the_next_object_of_a_picture():
    assert next_of_picture([3, 3, 5, 5, 5, 9]) == [1, 0, 3, 4, 2, 5]
    assert interactive_figures(Objects()) is None
