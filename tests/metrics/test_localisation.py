"""Measures of localisation against those of published code, and their properties."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avssl.metrics.heat_maps import enlarged
from avssl.metrics.localisation import (
    adaptive,
    average_precision,
    centre_box,
    confidence,
    consensus_iou,
    interactive_scores,
    localisation_scores,
    max_f1,
    normalised,
    random_maps,
    size_subsets,
    success_auc,
    success_rate,
    top_half,
    truth_map,
    universal,
    universal_threshold,
    upsample,
)

GOLDEN = np.load(Path(__file__).parent.parent / "golden" / "localisation.npz")
GRIDS = ["g7", "g14"]
PIXELS = 1e-4  # an IoU may differ by a pixel whose value is that of the threshold


def boxes_of(boxes: np.ndarray) -> SimpleNamespace:
    boxes = np.asarray(boxes, float).reshape(-1, 4)
    return SimpleNamespace(boxes=boxes, sounding=np.ones(len(boxes), bool), mask=None)


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    found = (boxes[:n] for boxes, n in zip(GOLDEN["boxes"], GOLDEN["n_boxes"], strict=True))
    return np.stack([truth_map(boxes_of(boxes)) for boxes in found])


def test_true_maps_have_the_published_areas(truth):
    assert np.array_equal(truth.sum((1, 2)), GOLDEN["gt_area_pixels"])


@pytest.mark.parametrize("grid", GRIDS)
def test_half_of_the_pixels_are_predicted_as_published(grid, truth):
    scores = localisation_scores(GOLDEN[f"{grid}_similarity"][:200], truth[:200])
    published, found = GOLDEN[f"{grid}_lvs_iou"], np.abs(scores.per_sample - GOLDEN[f"{grid}_lvs_iou"])
    assert found.max() < PIXELS
    assert np.mean(found > 1e-6) <= 0.02
    assert scores.ciou == pytest.approx(float(GOLDEN[f"{grid}_lvs_ciou"]), abs=1e-6)
    assert scores.auc == pytest.approx(float(GOLDEN[f"{grid}_lvs_auc"]), abs=1e-6)
    assert success_auc(published) == pytest.approx(float(GOLDEN[f"{grid}_lvs_auc"]), abs=1e-12)
    assert np.abs(scores.per_sample_adaptive - GOLDEN[f"{grid}_ssla_iou_adaptive"]).max() < PIXELS
    _, adapted, iiou, iiou_adaptive = GOLDEN[f"{grid}_ssla_ciou_ciouadap_iiou_iiouadap"]
    assert scores.ciou_adaptive == pytest.approx(adapted, abs=1e-6)
    assert scores.auc_adaptive == pytest.approx(GOLDEN[f"{grid}_ssla_auc_aucadap"][1], abs=1e-6)
    pictures = [str(name).rpartition("_")[0] for name in GOLDEN["iiou_name"]]
    expected = (iiou, float(GOLDEN[f"{grid}_ssla_iauc"])), (iiou_adaptive, float(GOLDEN[f"{grid}_ssla_iaucadap"]))
    for ious, (rate, area) in zip((scores.per_sample, scores.per_sample_adaptive), expected, strict=True):
        assert interactive_scores(ious, pictures) == pytest.approx((rate, area), abs=1e-6)


@pytest.mark.parametrize("grid", GRIDS)
def test_confidence_and_average_precision_are_slavcs(grid, truth):
    maps, positive = GOLDEN[f"{grid}_similarity"], np.arange(250) < 200
    scores = localisation_scores(maps, truth, "slavc")
    assert np.abs(scores.per_sample - GOLDEN[f"{grid}_slavc_ciou"]).max() < PIXELS
    located = success_rate(scores.per_sample[:200], strict=True)
    assert located == pytest.approx(float(GOLDEN[f"{grid}_slavc_locacc_precision_at_50"]), abs=1e-6)
    sure = confidence(maps)
    assert np.abs(sure - GOLDEN[f"{grid}_slavc_conf"]).max() < 1e-6
    ap, f1 = (f(sure, scores.per_sample, positive) for f in (average_precision, max_f1))
    assert ap == pytest.approx(float(GOLDEN[f"{grid}_slavc_ap_at_50"]), abs=1e-6)
    assert f1 == pytest.approx(float(GOLDEN[f"{grid}_slavc_F1_max"]), abs=1e-6)

    names, values = GOLDEN[f"{grid}_slavc_stats_names"], GOLDEN[f"{grid}_slavc_stats_values"]
    published = dict(zip(map(str, names), values, strict=True))
    for name, subset in size_subsets(truth.sum((1, 2))).items():
        subset &= positive
        for iou in (50, 75):
            found = average_precision(sure[subset], scores.per_sample[subset], positive[subset], iou / 100)
            assert found == pytest.approx(published[f"AP-{name}@{iou}"], abs=1e-6), (name, iou)
        assert success_auc(scores.per_sample[subset]) == pytest.approx(published[f"AUC-{name}@50"], abs=1e-6)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("number", range(3))
def test_one_threshold_for_all_samples_gives_the_published_figures(grid, number, truth):
    maps, threshold = GOLDEN[f"{grid}_similarity"], float(GOLDEN[f"{grid}_neg_thresholds"][number])
    if number == 0:
        assert universal_threshold(maps[200:]) == pytest.approx(threshold, abs=1e-7)
    found = universal(maps[:200], truth[:200], {"other": maps[200:]}, threshold)
    assert np.abs(found.per_sample - GOLDEN[f"{grid}_neg_pos_iou"][number]).max() < PIXELS
    published = {
        name: GOLDEN[f"{grid}_neg_{name}"][number] / 100
        for name in ("pIA_mean_percent", "AUC_N_percent", "pos_iou_mean_percent", "pos_auc_percent", "F_loc", "F_auc")
    }
    ours = [found.pia["other"], found.auc_n["other"], found.iou, found.auc, found.f_loc["other"], found.f_auc["other"]]
    assert ours == pytest.approx(list(published.values()), abs=1e-6)
    if number == 1:
        assert found.overlap["other"] == pytest.approx(GOLDEN[f"{grid}_neg_iou_maps_pos_vs_neg"].mean(), abs=PIXELS)


def test_flickrs_map_is_the_consensus_of_its_annotators():
    maps = []
    for text, published in zip(GOLDEN["flickr_xml"], GOLDEN["flickr_gt_map_times2"], strict=True):
        numbers = [int(n) for n in re.findall(r"<[xy]m\w+>(-?\d+)<", str(text))]
        maps.append(truth_map(boxes_of(np.array(numbers) / 256), form="flickr"))
        assert np.array_equal(2 * maps[-1], published)
    scores = localisation_scores(GOLDEN["flickr_similarity"], maps)
    assert np.abs(scores.per_sample - GOLDEN["flickr_lvs_iou"]).max() < PIXELS
    assert [scores.ciou, scores.auc] == pytest.approx(
        [float(GOLDEN["flickr_lvs_ciou"]), float(GOLDEN["flickr_lvs_auc"])], abs=1e-6
    )


@pytest.mark.parametrize(("kind", "corners"), [("bilinear", False), ("bicubic", True)])
@pytest.mark.parametrize("shape", [(7, 7), (14, 9), (1, 3), (224, 224), (300, 224)])
def test_maps_are_enlarged_as_torch_does(kind, corners, shape):
    maps = np.random.default_rng(3).standard_normal((2, *shape)).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(maps)[:, None], (224, 224), mode=kind, align_corners=corners
    )
    assert np.abs(upsample(maps, kind=kind) - expected[:, 0].numpy()).max() < 1e-3  # torch rounds the places


def test_maps_of_several_sizes_are_enlarged_one_by_one():
    maps = [*random_maps(3, (7, 7)), *random_maps(2, (4, 9))]
    found = np.stack(list(enlarged(maps, block=4)))
    assert np.allclose(found, np.concatenate([upsample(np.stack(maps[:3])), upsample(np.stack(maps[3:]))]))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 100), st.floats(-50, 50))
def test_scale_and_offset_change_no_prediction_of_the_upper_half(seed, scale, offset):
    heat = np.random.default_rng(seed).permutation(32 * 32).reshape(32, 32).astype(np.float64)
    truth = np.zeros((32, 32))
    truth[3:20, 5:9] = 1
    changed = heat * scale + offset
    for first, second in ((top_half(heat), top_half(changed)), (adaptive(heat, truth), adaptive(changed, truth))):
        assert np.array_equal(first, second)
    assert top_half(heat).sum() == 32 * 32 // 2 - 1
    assert adaptive(heat, truth).sum() == truth.sum() - 1
    assert normalised(changed).min() == 0
    assert normalised(changed).max() == pytest.approx(1)


def test_a_perfect_map_is_perfect_and_the_middle_is_no_answer_to_a_corner():
    truth = np.zeros((2, 224, 224), np.float32)
    truth[:, :150, :167] = 1  # half of the picture
    perfect = truth + np.linspace(0, 0.1, 224, dtype=np.float32)
    assert localisation_scores(perfect, truth).ciou_adaptive == 1
    assert localisation_scores(perfect, truth).per_sample.min() > 0.99
    middle = localisation_scores(centre_box()[None].repeat(2, 0), truth)
    assert middle.ciou == 0
    assert top_half(centre_box()).sum() == 158**2
    corner = np.zeros((224, 224), bool)
    corner[:79, :79] = True
    assert consensus_iou(top_half(centre_box()), corner) == pytest.approx(46**2 / (158**2 + 79**2 - 46**2))


def test_random_maps_repeat_with_their_seed():
    assert np.array_equal(random_maps(3, seed=1), random_maps(3, seed=1))
    assert not np.array_equal(random_maps(3, seed=1), random_maps(3, seed=2))


def test_nothing_to_compare_is_no_success():
    empty = localisation_scores(np.empty((0, 7, 7)), [])
    assert np.isnan([empty.ciou, empty.auc, empty.ciou_adaptive, empty.auc_adaptive]).all()
    flat = localisation_scores(np.zeros((1, 7, 7)), np.ones((1, 224, 224)))
    assert flat.ciou == flat.per_sample[0] == 0
    assert localisation_scores(random_maps(1), np.zeros((1, 224, 224))).per_sample[0] == 0
    with pytest.raises(ValueError, match="2 heat maps, but 1 true maps"):
        localisation_scores(random_maps(2), np.zeros((1, 224, 224)))
    assert average_precision(np.ones(1), np.ones(1), np.ones(1)) == 0
    with pytest.raises(ValueError, match="equally long"):
        max_f1(np.ones(2), np.ones(1), np.ones(1))


def test_every_confidence_may_be_a_threshold():
    sure, ious, positive = np.array([0.9, 0.8, 0.7, 0.6]), np.array([0.6, 0.0, 0.9, 0.2]), np.array([1, 0, 1, 1])
    # TP, FP, FN at 0.9: 1, 0, 2; at 0.8: 1, 1, 2; at 0.7: 2, 1, 1; at 0.6: 2, 2, 0
    assert max_f1(sure, ious, positive, points=None) == pytest.approx(4 / 6)
    # without the largest threshold: precision 1/2, 2/3, 1/2, made monotone, at recall 1/3, 2/3, 1
    assert average_precision(sure, ious, positive, points=None) == pytest.approx((2 / 3 + 2 / 3) / 3)


@pytest.mark.parametrize("extent", [(0.25, 0.0, 0.75, 1.0), (0.0, 0.1, 1.0, 0.9)])
def test_a_true_map_of_a_part_of_the_picture_is_that_part(extent):
    left, top, right, bottom = extent
    true = boxes_of([[0.5, 0.5, 0.75, 0.9]])
    found = truth_map(true, 80, extent=extent)
    x, y = np.meshgrid(
        left + (np.arange(80) + 0.5) / 80 * (right - left), top + (np.arange(80) + 0.5) / 80 * (bottom - top)
    )
    expected = (x > 0.5) & (x < 0.75) & (y > 0.5) & (y < 0.9)
    assert np.array_equal(found, expected)
    whole = np.zeros((100, 100))
    whole[50:90, 50:75] = 1
    true.mask = whole
    assert np.abs(truth_map(true, 80, extent=extent) - expected).sum() <= 80


def test_silent_boxes_are_not_in_the_true_map():
    true = boxes_of([[0, 0, 0.5, 1], [0.5, 0, 1, 1]])
    true.sounding = np.array([False, True])
    assert np.array_equal(truth_map(true, 4), [[0, 0, 1, 1]] * 4)
