"""Files of true boxes: the sample's boxes.csv, VGG-SS, Flickr-SoundNet, SLAVC, AVSBench, IS3, VPO; and their videos."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ..core.errors import UserError
from ..core.screen import warn
from .box_formats import read_csv, read_json_boxes, read_xml_folder, xml_folder
from .match import possible_ids, same_start, start_in_name
from .true_boxes import Annotations, TrueBoxes

BOXES = "boxes.csv"
"""The file of true boxes in a folder of the sample."""

EXTENSION = re.compile(r"\.(?:3gp|[A-Za-z][A-Za-z0-9]{1,4})$")
"""The extension of a picture or video; an id may itself contain a dot and a time."""

FORMS = (
    "the sample's boxes.csv, VGG-SS's vggss.json, a folder of Flickr-SoundNet's XML files, SLAVC's *_plus_silent.csv, "
    "or the JSON file of AVSBench, IS3 or VPO"
)


def true_boxes(option: str, root: str) -> Annotations | None:
    """The true boxes that an option names, else those in the folder of videos; None without any.

    A file in the folder of videos that cannot be read as true boxes may be another program's. It is not used, with a
    message.

    Raises:
        UserError: as `read_boxes`, for the file that the option names.
    """
    if option:
        return read_boxes(Path(option))
    path = Path(root) / BOXES
    try:
        return read_boxes(path) if path.is_file() else None
    except UserError as error:
        warn(f"nothing is measured: {error}")
        return None


def read_boxes(path: Path) -> Annotations:
    """Read true boxes from a file, or from a folder of Flickr-SoundNet's XML files; the form is found from its content.

    Boxes are cut at the edges of the picture. Those that are no boxes are left out, and counted by the reason. A
    picture whose sounding boxes are all left out is itself left out; published code counts it as missed.

    Raises:
        UserError: the file cannot be read, or has none of the forms.
    """
    path = Path(path)
    try:
        annotations = _read(path)
    except OSError as error:
        what = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        raise UserError(f"{path} {what}: give {FORMS}") from None
    if not annotations.truth:
        counts = ", ".join(f"{count:,} {why}" for why, count in annotations.dropped.items())
        raise UserError(f"{path} has no usable true box" + (f": {counts}" if counts else ""))
    return annotations


def _read(path: Path) -> Annotations:
    if path.is_dir():
        if (path / BOXES).is_file():
            return read_csv(path / BOXES)
        folder = xml_folder(path)
        if folder is None:
            raise UserError(f"the folder {path} has no boxes.csv and no XML files of boxes: give {FORMS}")
        return read_xml_folder(folder)
    suffix = path.suffix.lower()
    if suffix == ".json":
        return read_json_boxes(path)
    if suffix == ".csv":
        return read_csv(path)
    path.stat()  # raises OSError for a missing file
    raise UserError(f"{path} has none of the forms of true boxes: give {FORMS}")


@dataclass
class MatchedBoxes:
    """Which annotations belong to which videos of an index."""

    truth: dict[str, list[TrueBoxes]] = field(default_factory=dict)
    """The annotations of each video that has any, by its path in the index."""
    missing: list[str] = field(default_factory=list)
    """The annotated videos and pictures that the index lacks."""
    ambiguous: list[str] = field(default_factory=list)
    """Those whose name several videos of the index have."""
    unannotated: list[str] = field(default_factory=list)
    """The videos of the index without any annotation."""


def match(annotations: Annotations, paths: Iterable[str]) -> MatchedBoxes:
    """Find the video of each annotation.

    Those of the sample's form are found by their path, which may be below or above that of the index; all others by
    the name of the file without its extension, and those of VGG-SS also by YouTube id and start, in any spelling.

    Args:
        annotations: the true boxes.
        paths: the paths of an index, relative to its folder of videos; windows may repeat them.
    """
    every = list(dict.fromkeys(paths))
    stems: dict[str, list[str]] = {}
    for path in every:
        stems.setdefault(PurePosixPath(path).stem, []).append(path)
    ids = _Ids(every) if annotations.form in ("vggss", "slavc") else None
    result, answers = MatchedBoxes(), {}
    for truth in annotations.truth:
        if truth.path not in answers:
            found = _candidates(truth.path, stems, annotations.form == "sample")
            if not found and ids is not None:
                found = ids.find(truth.path)
            answers[truth.path] = found[0] if len(found) == 1 else None
            if len(found) != 1:
                (result.ambiguous if found else result.missing).append(truth.path)
        place = answers[truth.path]
        if place is not None:
            result.truth.setdefault(place, []).append(truth)
    result.unannotated = [path for path in every if path not in result.truth]
    return result


def _candidates(name: str, stems: dict[str, list[str]], whole_path: bool) -> list[str]:
    """The paths with an annotation's stem that share the most of its folders."""
    name = name.replace("\\", "/")
    parts = PurePosixPath(EXTENSION.sub("", name)).parts
    if not parts:
        return []
    if name in stems.get(PurePosixPath(name).stem, []):
        return [name]
    shared = []
    for path in stems.get(parts[-1], []):
        others = PurePosixPath(path).with_suffix("").parts
        common = 0
        for one, other in zip(reversed(parts), reversed(others), strict=False):
            if one != other:
                break
            common += 1
        if not whole_path or common == min(len(parts), len(others)):
            shared.append((common, path))
    most = max((common for common, _ in shared), default=0)
    return [path for common, path in shared if common == most]


class _Ids:
    """Videos by the YouTube ids that their names may contain."""

    def __init__(self, paths: list[str]):
        self.videos: dict[str, list[str]] = {}
        for path in paths:
            for key in dict.fromkeys(possible_ids(PurePosixPath(path).stem)):
                self.videos.setdefault(key, []).append(path)

    def find(self, name: str) -> list[str]:
        """The videos of `<id>_<start in s>`: those whose name has this start, else those whose name has none."""
        key, mark, start = EXTENSION.sub("", PurePosixPath(name).name).rpartition("_")
        if not mark or not start.isdecimal():
            return []
        starts = [(path, start_in_name(PurePosixPath(path).stem, key)) for path in self.videos.get(key, [])]
        same = [path for path, found in starts if found is not None and same_start(found, float(start))]
        return same or [path for path, found in starts if found is None]
