"""The figures tell a model that hears from one that does not, beside controls that cannot."""

import numpy as np

from avssl.locate.measures import CENTRE, OTHER, OWN, RANDOM, audio_sentence, measure
from avssl.locate.result import measure_lines, result_line
from avssl.locate.truth import samples_of
from tests.locate.made import CLIP, LEFT, RIGHT, boxes_at, located, peak

SIDES = [LEFT, RIGHT, LEFT, RIGHT, RIGHT, LEFT]


def figures(hears: bool, negatives: int = 0, form: str = "sample") -> dict:
    """Six videos whose sound is on a side; the maps with another video's audio are high on the other one, or on the
    same one if the model does not hear. The last `negatives` do not sound."""
    other = [(RIGHT if side == LEFT else LEFT) if hears else side for side in SIDES]
    heat = [peak(side) for side in SIDES]
    for i in range(len(heat) - negatives, len(heat)):
        heat[i] = heat[i] * 0.1
    part = located(heat, [peak(side) for side in other])
    truth = {
        i: [boxes_at(f"{i}.mp4", time, side, sounding=(i < len(SIDES) - negatives,)) for time in part.times[i, 0]]
        for i, side in enumerate(SIDES)
    }
    return measure([part], samples_of([part], [truth], CLIP).samples, form, 0.6)


def test_a_model_that_hears():
    found = figures(hears=True)
    assert (found["moments"], found["videos"]) == (12, 6)
    rows = found["rows"]
    assert rows[OWN]["ciou"]["mean"] == 1
    assert rows[OWN]["auc"]["mean"] > 0.95
    assert rows[OTHER]["ciou"]["mean"] == 0
    assert rows[CENTRE]["ciou"]["mean"] == 0  # the middle square covers half of a side: IoU 1/3
    assert rows[RANDOM]["ciou"]["mean"] < 0.5
    assert found["boxes"] == {"ap30": 1, "ap50": 1}
    assert found["audio"]["mean"] == 1
    assert audio_sentence(found).startswith("the audio is used: cIoU is 100.0 ± 0.0 with")
    assert found["universal"]["pia"]["silence"] == 0
    assert found["universal"]["overlap"]["other"] < 0.1
    assert "published" not in found
    line = result_line({"boxes": 12, "videos": 6, "measures": found}, "next")
    assert line.startswith("12 boxes in 6 videos · cIoU 100.0 (audio of another video 0.0, centre of the frame 0.0)")


def test_a_model_that_does_not_hear():
    found = figures(hears=False)
    assert found["audio"] == {"mean": 0, "half": 0}
    assert audio_sentence(found).startswith("the audio is not shown to be used: cIoU is 100.0")


def test_worse_than_the_centre_is_said():
    found = figures(hears=True)
    assert "centre" not in audio_sentence(found)
    found["rows"][CENTRE]["ciou"] = {"mean": 0.78, "half": 0.01}
    found["rows"][OWN]["ciou"] = {"mean": 0.402, "half": 0.02}
    sentence = audio_sentence(found)
    assert sentence.startswith("the audio is used: cIoU is 40.2 ± 2.0 with")
    assert ", a difference of " in sentence
    assert sentence.endswith("; the centre of the frame alone is better: 78.0 ± 1.0")


def test_negatives_and_published_figures():
    found = figures(hears=True, negatives=2, form="vggss")
    assert (found["moments"], found["negatives"]["moments"]) == (8, 4)
    assert 0 < found["negatives"]["ap"] <= 1
    assert found["negatives"]["max_f1"] > 0.8  # the maps of what does not sound are lower
    assert found["published"]["LVS (arXiv 2104.02691)"]["ciou"] == 0.344
    assert any(line.startswith("with 4 moments in which nothing sounds: AP") for line in measure_lines(found))


def test_several_sounding_objects_and_videos_without_another():
    part = located([peak(LEFT)], [np.full((8, 8), np.nan, np.float32)])
    truth = {0: [boxes_at("0.mp4", np.nan, LEFT, RIGHT)]}
    found = measure([part], samples_of([part], [truth], CLIP).samples, "sample", 0.6)
    assert OTHER not in found["rows"]
    assert "universal" not in found
    assert found["rows"][OWN]["ciou"]["half"] == np.inf
    assert audio_sentence(found) == ""
    assert any("IIoU is not measured" in line for line in measure_lines(found))


def test_a_sound_outside_the_crop_is_missed():
    part = located([peak(LEFT)], [peak(RIGHT)])
    part.extents[:] = (0.5, 0, 1, 1)
    found = measure([part], samples_of([part], [{0: [boxes_at("0.mp4", np.nan, LEFT)]}], CLIP).samples, "sample", 0.6)
    assert found["rows"][OWN]["ciou"]["mean"] == 0
