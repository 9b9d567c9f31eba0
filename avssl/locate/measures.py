"""How well the heat maps find what sounds, beside controls that do not hear it."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..metrics.detection import ImageBoxes, detection_ap
from ..metrics.intervals import Mean, mean_of
from ..metrics.localisation import (
    average_precision,
    centre_box,
    confidence,
    localisation_scores,
    max_f1,
    random_maps,
    success_auc,
    truth_map,
    universal,
)
from .located import Located
from .prior import with_prior
from .truth import CONSTANT, Sample

SIZE = 224
"""Side of the maps that are compared, px, as published."""

OWN, OTHER, CENTRE, RANDOM, PRIOR, HEAT = (
    "own audio", "audio of another video", "centre of the frame", "random", "prior alone", "without the prior",
)  # fmt: skip
"""The rows of the table."""

FIGURES = "ciou", "auc", "ciou_adaptive", "auc_adaptive"

PUBLISHED: dict[str, dict[str, dict[str, float]]] = {
    "vggss": {
        "LVS (arXiv 2104.02691)": {"ciou": 0.344, "auc": 0.382},
        "EZ-VSL (arXiv 2203.09324)": {"ciou": 0.3885, "auc": 0.3954},
    },
    "flickr": {"EZ-VSL (arXiv 2203.09324)": {"ciou": 0.8394, "auc": 0.6360}},
    "slavc": {"SLAVC (arXiv 2209.09634), VGG-SS": {"ap": 0.3295, "max_f1": 0.4000}},
}
"""Published figures on the test sets in these forms, as fractions; ours are comparable only on the same test set."""


def measure(
    parts: Sequence[Located], samples: Sequence[Sample], form: str, weight: float, seed: int = 0
) -> dict[str, Any]:
    """The figures of moments with true boxes.

    Maps and true boxes are compared within the crop that the model sees; what lies wholly outside it counts as missed.

    Args:
        parts: the located splits.
        samples: the moments.
        form: the form of the annotations.
        weight: the weight of the prior, if the maps have one.
        seed: of the random maps.

    Returns:
        By name: `moments`, `videos`, `rows` (the figures of each row of the table, as means over videos with their
        intervals), `audio` (cIoU with the own audio minus cIoU with that of another video), `boxes` (AP), and where
        they can be measured `universal`, `negatives` and `published`. IIoU needs other maps, see
        `avssl.locate.interactive`.
    """
    sounding = [s for s in samples if s.sounds]
    result: dict[str, Any] = {"form": form, "moments": len(sounding), "videos": len(_groups(parts, sounding)[0])}
    if sounding:
        result |= _controls(parts, sounding, form, weight, seed)
        result["boxes"] = _box_precision(parts, sounding)
        result |= _without_sound(parts, sounding, form)
    silent = [s for s in samples if not s.sounds]
    if silent and sounding:
        result["negatives"] = _negatives(parts, sounding, silent, form)
    several = sum(len(s.sounding_boxes) > 1 for s in sounding)
    if several:
        result["several_sounding"] = several
    if form in PUBLISHED:
        result["published"] = PUBLISHED[form]
    return result


def maps_of(parts: Sequence[Located], samples: Sequence[Sample], name: str) -> np.ndarray:
    """The maps of a name at the moments: float32 [n, h, w]."""
    return np.stack([parts[s.part].maps[name][s.kept, s.clip, s.moment] for s in samples])


def true_maps(parts: Sequence[Located], samples: Sequence[Sample], form: str) -> Callable[[int], np.ndarray]:
    """A function that makes the true map of a moment, in the crop: float32 [224, 224]."""

    def make(i: int) -> np.ndarray:
        part = parts[samples[i].part]
        extent = part.extents[part.kept[samples[i].kept]]
        return truth_map(samples[i].truth, SIZE, form, tuple(extent.tolist()))

    return make


def _groups(parts: Sequence[Located], samples: Sequence[Sample]) -> tuple[list[tuple[int, str]], np.ndarray]:
    """The video files of the moments, and the file of each, int [n]."""
    keys: dict[tuple[int, str], int] = {}
    of_row: dict[tuple[int, int], int] = {}
    group = np.empty(len(samples), np.int64)
    for i, s in enumerate(samples):
        if (s.part, s.kept) not in of_row:
            part = parts[s.part]
            path = part.rows["path"][int(part.kept[s.kept])].as_py()
            of_row[s.part, s.kept] = keys.setdefault((s.part, path), len(keys))
        group[i] = of_row[s.part, s.kept]
    return list(keys), group


def over_videos(values: np.ndarray, group: np.ndarray) -> Mean | None:
    """The mean over videos of each video's mean over its moments, with its 95 % interval; None without values."""
    usable = np.isfinite(values)
    if not usable.any():
        return None
    videos, at = np.unique(group[usable], return_inverse=True)
    means = np.bincount(at, values[usable]) / np.bincount(at)
    return mean_of(means.tolist()) if len(videos) else None


def _controls(
    parts: Sequence[Located], samples: Sequence[Sample], form: str, weight: float, seed: int
) -> dict[str, Any]:
    group = _groups(parts, samples)[1]
    has_prior = "prior" in parts[samples[0].part].maps
    heat, other = (maps_of(parts, samples, name) for name in ("heat", "other"))
    prior = maps_of(parts, samples, "prior") if has_prior else None
    maps: dict[str, np.ndarray | list[np.ndarray]] = {OWN: with_prior(heat, prior, weight)}
    if prior is not None:
        maps |= {HEAT: heat, PRIOR: prior}
    maps[OTHER] = with_prior(other, prior, weight)
    maps[CENTRE] = [centre_box(SIZE)] * len(samples)
    maps[RANDOM] = random_maps(len(samples), heat.shape[1:], seed)
    ious: dict[str, np.ndarray] = {}
    rows: dict[str, Any] = {}
    for name, x in maps.items():
        known = np.array([bool(np.isfinite(one).all()) for one in x])
        kept = np.flatnonzero(known)
        if not len(kept):
            continue
        scores = localisation_scores([x[i] for i in kept], true_maps(parts, [samples[int(i)] for i in kept], form))
        values = {
            "ciou": scores.per_sample >= 0.5, "auc": _each_auc(scores.per_sample),
            "ciou_adaptive": scores.per_sample_adaptive >= 0.5, "auc_adaptive": _each_auc(scores.per_sample_adaptive),
        }  # fmt: skip
        ious[name] = np.full(len(samples), np.nan)
        ious[name][kept] = values["ciou"]
        rows[name] = {key: _as_dict(over_videos(np.asarray(v, float), group[kept])) for key, v in values.items()}
    found: dict[str, Any] = {"rows": rows}
    if OTHER in ious:
        found["audio"] = _as_dict(over_videos(ious[OWN] - ious[OTHER], group))
    return found


def _each_auc(ious: np.ndarray) -> np.ndarray:
    """The area under the success curve of each IoU alone, whose mean is that of all."""
    values, at = np.unique(ious, return_inverse=True)
    return np.array([success_auc(np.array([value])) for value in values])[at]


def _as_dict(mean: Mean | None) -> dict[str, float] | None:
    return None if mean is None else mean.to_dict()


def _box_precision(parts: Sequence[Located], samples: Sequence[Sample]) -> dict[str, float]:
    """AP of the boxes, whatever their cluster, against the boxes that sound, in the whole picture."""
    detected, truth = [], []
    for s in samples:
        part = parts[s.part]
        at = int(part.kept[s.kept]), s.clip, s.moment
        number = int(not np.isnan(part.score[at]))  # one box or none
        detected.append(ImageBoxes(part.boxes[at][None][:number], part.score[at][None][:number]))
        truth.append(ImageBoxes(s.sounding_boxes))
    return {f"ap{round(100 * iou)}": float(detection_ap(detected, truth, iou)) for iou in (0.3, 0.5)}


def _without_sound(parts: Sequence[Located], samples: Sequence[Sample], form: str) -> dict[str, Any]:
    """The share of the picture above one threshold for all moments, under silence, noise and another video's audio."""
    names = [name for name in (*CONSTANT, "other") if name in parts[samples[0].part].maps]
    negatives = {name: maps_of(parts, samples, name) for name in names}
    known = np.ones(len(samples), bool)
    for maps in negatives.values():
        known &= np.isfinite(maps).all((1, 2))
    if not known.any() or len(names) < 2:
        return {}
    kept = [s for s, usable in zip(samples, known, strict=True) if usable]
    scores = universal(
        maps_of(parts, kept, "heat"), true_maps(parts, kept, form), {name: x[known] for name, x in negatives.items()}
    )
    values = {name: getattr(scores, name) for name in ("pia", "auc_n", "f_loc", "f_auc", "overlap")}
    return {"universal": {"threshold": scores.threshold, "iou": scores.iou, "auc": scores.auc, **values}}


def _negatives(
    parts: Sequence[Located], sounding: Sequence[Sample], silent: Sequence[Sample], form: str
) -> dict[str, Any]:
    """AP and max-F1 of SLAVC: whether the maps also tell that nothing in a picture sounds."""
    heat = np.concatenate([maps_of(parts, sounding, "heat"), *(maps_of(parts, [s], _heard(s)) for s in silent)])
    scores = localisation_scores(heat[: len(sounding)], true_maps(parts, sounding, form), "slavc")
    ious = np.concatenate([scores.per_sample, np.zeros(len(silent))])
    positive = np.arange(len(heat)) < len(sounding)
    sure = confidence(heat)
    return {
        "moments": len(silent),
        "ap": average_precision(sure, ious, positive),
        "max_f1": max_f1(sure, ious, positive),
    }


def _heard(sample: Sample) -> str:
    """The name of the maps of what is heard in a moment; in the part of pairs, that is the audio of another video."""
    return sample.truth.source if sample.truth.source in CONSTANT else "heat"


UNUSED = "if localisation_retrieval in the run's metrics.jsonl is still rising, train for longer"
"""What to do if the maps do not follow the audio."""


def audio_sentence(found: dict[str, Any]) -> str:
    """Whether the audio decides where the maps are high, in a sentence; empty if it is not measured."""
    difference, rows = found.get("audio"), found.get("rows", {})
    if difference is None or OTHER not in rows:
        return ""
    own, other = (Mean(rows[name]["ciou"]["mean"], rows[name]["ciou"]["half"]) for name in (OWN, OTHER))
    figures = f"cIoU is {own.percent()} with a video's own audio and {other.percent()} with that of another video"
    if math.isfinite(difference["half"]):
        figures += f", a difference of {Mean(difference['mean'], difference['half']).percent()}"
    if CENTRE in rows and rows[CENTRE]["ciou"]["mean"] > own.value:
        centre = Mean(rows[CENTRE]["ciou"]["mean"], rows[CENTRE]["ciou"]["half"]).percent()
        figures += f"; the {CENTRE} alone is better: {centre}"
    if not math.isfinite(difference["half"]):
        return f"too few videos to say whether the audio is used: {figures}"
    if difference["mean"] - difference["half"] > 0:
        return f"the audio is used: {figures}"
    return f"the audio is not shown to be used: {figures}; {UNUSED}"
