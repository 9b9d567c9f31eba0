"""IIoU: pictures of several objects, each located with a sound of its own, of which all must be found.

Source: Senocak et al., Aligning Sight and Sound (arXiv 2407.13676). Their pictures come with the audio of each object
(IS3). In videos with true boxes of known classes, an object gets the audio of a video in which its class alone sounds.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa

from ..config import ClipConfig
from ..metrics.localisation import centre_box, interactive_scores, localisation_scores, success_rate, truth_map
from ..videos.box_annotations import TrueBoxes
from .heat_pass import HeatPass, object_map
from .located import Located, locate_split
from .measures import SIZE
from .prior import with_prior
from .truth import Sample, samples_of

OBJECTS = "/objects"
"""The name of the part whose frames have the audio of each object. No split has a slash in its name."""

CLASS_IN_NAME = re.compile(r"(_\d+)_\D+$")
"""The class after the number of a picture of IS3, as in accordion_baby_10467_baby."""


@dataclass
class Pictures:
    """Pictures of several objects of different classes, and the video whose audio each object gets.

    Args:
        rows: the row of the split of each picture, P.
        classes: the classes of its objects, sorted.
        audio: the row whose audio each object gets; the picture's own, if the object sounds alone in it.
        lacking: pictures that are left out, because one of their classes sounds alone in no other video.
    """

    rows: list[int] = field(default_factory=list)
    classes: list[tuple[str, ...]] = field(default_factory=list)
    audio: list[tuple[int, ...]] = field(default_factory=list)
    lacking: int = 0


@dataclass
class Objects:
    """Objects with their heat maps; those of a picture follow each other.

    Args:
        picture: the number of each object's picture, N.
        maps: the heat map with the object's own sound, float32 [h, w].
        truth: the object's true box.
        extents: the part of the picture that the map covers, x0, y0, x1, y1 as fractions.
        lacking: as in `Pictures`.
    """

    picture: list[int] = field(default_factory=list)
    maps: list[np.ndarray] = field(default_factory=list)
    truth: list[TrueBoxes] = field(default_factory=list)
    extents: list[tuple[float, ...]] = field(default_factory=list)
    lacking: int = 0

    def add(self, picture: int, heat: np.ndarray, truth: TrueBoxes, extent: np.ndarray) -> None:
        """Add an object."""
        self.picture.append(picture)
        self.maps.append(heat)
        self.truth.append(truth)
        self.extents.append(tuple(extent.tolist()))


def find_pictures(part: Located, samples: Sequence[Sample], seed: int) -> Pictures:
    """The pictures of a split that show several objects of different classes, one per video, and audio for each object.

    The picture is the moment nearest to the middle of the window. The audio of an object that does not sound alone is
    that of another file of the split in which its class alone sounds and can be heard, drawn by the seed.

    Args:
        part: the located split.
        samples: its moments with true boxes.
        seed: of the draw.
    """
    paths, found = part.paths, Pictures()
    alone = _alone(part, samples)
    rows_of: dict[str, list[int]] = {}
    for row in sorted(alone):
        rows_of.setdefault(alone[row], []).append(row)
    for at, sample in sorted(_middle(part, samples).items()):
        row, classes = int(part.kept[at]), _classes(sample.truth)
        if len(classes) < 2:
            continue
        audio = [
            row if alone.get(row) == name else _another(rows_of.get(name, []), row, paths, [seed, row, number])
            for number, name in enumerate(classes)
        ]
        if None in audio:
            found.lacking += 1
            continue
        found.rows.append(row)
        found.classes.append(classes)
        found.audio.append(tuple(one for one in audio if one is not None))
    return found


def locate_objects(
    part: Located, truth: Mapping[int, Sequence[TrueBoxes]], clip: ClipConfig, seed: int,
    maps_of: Callable[[pa.Table, np.ndarray], HeatPass], beta: float, weight: float,
) -> Objects | None:  # fmt: skip
    """The heat map of each object, in a further pass over the pictures of several objects; None without any.

    Args:
        part: the located split, which kept the audio of its rows with true boxes.
        truth: the true boxes of its rows.
        clip: how clips are cut.
        seed: see `find_pictures`.
        maps_of: makes the pass over rows with the audio of objects, float32 [P, K, C].
        beta, weight: as in `locate_split`.
    """
    pictures = find_pictures(part, samples_of([part], [truth], clip).samples, seed)
    if not pictures.rows:
        return None
    sounds, clips = part.maps["audio"], part.boxes.shape[1]
    given = np.zeros((len(pictures.rows), max(map(len, pictures.audio)), sounds.shape[-1]), np.float32)
    for i, audio in enumerate(pictures.audio):
        given[i, : len(audio)] = sounds[np.searchsorted(part.kept, audio), clips // 2]
    work = maps_of(part.rows.take(pa.array(pictures.rows)), given)
    located = locate_split(work, OBJECTS, beta, weight, np.arange(len(given)))
    return objects_of(located, pictures, [truth[row] for row in pictures.rows], clip, weight)


def objects_of(
    located: Located, pictures: Pictures, truth: Sequence[Sequence[TrueBoxes]], clip: ClipConfig, weight: float
) -> Objects:
    """The objects of located pictures.

    Args:
        located: the pass with the audio of each object.
        pictures: its pictures.
        truth: the true boxes of each.
        clip, weight: as in `locate_objects`.
    """
    found = Objects(lacking=pictures.lacking)
    samples = samples_of([located], [dict(enumerate(truth))], clip).samples
    for picture, s in sorted(_middle(located, samples).items()):
        if _classes(s.truth) != pictures.classes[picture]:
            continue  # with several clips, this moment need not be the one that was chosen
        prior = located.maps["prior"][picture, 0, s.moment] if "prior" in located.maps else None
        for k, name in enumerate(pictures.classes[picture]):
            box = s.truth.boxes[[s.truth.classes.index(name)]]
            alone = replace(s.truth, boxes=box, classes=[name], sounding=np.array([True]))
            heat = located.maps[object_map(k)][picture, 0, s.moment]
            found.add(picture, with_prior(heat, prior, weight), alone, located.extents[picture])
    return found


def objects_of_entries(parts: Sequence[Located], samples: Sequence[Sample], weight: float) -> Objects:
    """The objects of pictures that are annotated with the audio of each object, as those of IS3.

    Args:
        parts: the located splits and pairs.
        samples: their moments with true boxes.
        weight: the weight of the prior, if the maps have one.
    """
    entries: dict[str, dict[tuple[str, str], Sample]] = {}
    for s in samples:
        if s.sounds and not np.isfinite(s.truth.time):
            name = PurePosixPath(s.truth.path)
            picture = str(name.parent / CLASS_IN_NAME.sub(r"\1", name.stem))
            entries.setdefault(picture, {}).setdefault((s.truth.path, s.truth.source), s)
    found = Objects()
    for number, several in enumerate(x for x in entries.values() if len(x) > 1):
        for s in several.values():
            part = parts[s.part]
            prior = part.maps["prior"][s.kept, s.clip, s.moment] if "prior" in part.maps else None
            heat = with_prior(part.maps["heat"][s.kept, s.clip, s.moment], prior, weight)
            found.add(number, heat, s.truth, part.extents[part.kept[s.kept]])
    return found


def interactive_figures(objects: Objects) -> dict[str, Any] | None:
    """IIoU and IAUC of pictures, and cIoU of each object alone, beside controls; None without a picture.

    The controls are `swapped`, the map with the sound of the picture's next object, and `centre`, the middle square.
    """
    number = len(objects.picture)
    if not number:
        return None

    def true_map(i: int) -> np.ndarray:
        return truth_map(objects.truth[i], SIZE, "union", objects.extents[i])  # type: ignore[arg-type]

    def figures(maps: list[np.ndarray]) -> dict[str, float]:
        ious = localisation_scores(maps, true_map).per_sample
        iiou, iauc = interactive_scores(ious, [str(picture) for picture in objects.picture])
        return {"iiou": iiou, "iauc": iauc, "ciou": success_rate(ious)}

    swapped = [objects.maps[i] for i in next_of_picture(objects.picture)]
    result: dict[str, Any] = {"pictures": len({*objects.picture}), "objects": number, **figures(objects.maps)}
    result |= {"swapped": figures(swapped), "centre": figures([centre_box(SIZE)] * number)}
    if objects.lacking:
        result["lacking"] = objects.lacking
    return result


def next_of_picture(picture: Sequence[int]) -> list[int]:
    """The next object of the same picture, and of its last object the first one, N numbers."""
    first: dict[int, int] = {}
    for i, name in enumerate(picture):
        first.setdefault(name, i)
    return [i + 1 if i + 1 < len(picture) and picture[i + 1] == name else first[name] for i, name in enumerate(picture)]


def _classes(truth: TrueBoxes) -> tuple[str, ...]:
    """The classes of a moment's boxes, sorted; none unless each box has a known one of its own."""
    classes = tuple(sorted(truth.classes))
    usable = truth.mask is None and truth.source == "" and len(classes) == len(truth.boxes)
    return classes if usable and all(classes) and len({*classes}) == len(classes) else ()


def _alone(part: Located, samples: Sequence[Sample]) -> dict[int, str]:
    """The class of each row in which it alone sounds, as far as this can be heard in the middle clip."""
    heard: dict[int, set[str]] = {}
    for s in samples:
        truth, names = s.truth, heard.setdefault(int(part.kept[s.kept]), set())
        if s.sounds:
            known = truth.mask is None and len(truth.classes) == len(truth.boxes)
            sounds = truth.sounding if len(truth.sounding) == len(truth.boxes) else np.ones(len(truth.boxes), bool)
            names |= {name for name, one in zip(truth.classes, sounds, strict=True) if one} if known else {""}
    middle = part.boxes.shape[1] // 2
    single = {row: next(iter(names)) for row, names in heard.items() if len(names) == 1}
    return {row: name for row, name in single.items() if name and not part.silent[row, middle]}


def _another(rows: Sequence[int], own: int, paths: Sequence[str], seed: Sequence[int]) -> int | None:
    """A row of another file, drawn by the seed; None without one."""
    start = int(np.random.default_rng(seed).integers(len(rows))) if rows else 0
    turned = (rows[(start + i) % len(rows)] for i in range(len(rows)))
    return next((row for row in turned if paths[row] != paths[own]), None)


def _middle(part: Located, samples: Sequence[Sample]) -> dict[int, Sample]:
    """The moment nearest to the middle of the window, by the place of its kept row."""
    starts, seconds = (part.rows[name].to_numpy() for name in ("window_start", "window_seconds"))
    nearest: dict[int, tuple[float, Sample]] = {}
    for s in samples:
        row = int(part.kept[s.kept])
        away = abs(float(part.times[row, s.clip, s.moment]) - (starts[row] + seconds[row] / 2))
        if s.kept not in nearest or away < nearest[s.kept][0]:
            nearest[s.kept] = away, s
    return {at: s for at, (_, s) in nearest.items()}
