"""`avssl detect`: train a detector from located boxes, and find objects with it."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from ..clips.decode import read_clips
from ..config import DetectConfig, EvaluateConfig, TrainConfig
from ..config.run_folder import read_config
from ..config.run_names import word_for
from ..core.atomic import read_json, write_json
from ..core.checkpoint_file import digest, file_sha256
from ..core.device import decoding_workers, prepare_device, share_cores
from ..core.errors import ClipError, UserError
from ..core.json_output import prints_json
from ..core.out_folder import check_same, claim_folder, folder_lock, note_videos_of, write_errors
from ..core.plurals import many
from ..core.report import report
from ..core.screen import Console, warn
from ..explore.names import DIGEST, Names, read_names
from ..runs.open import open_source
from ..videos.box_annotations import Annotations, read_boxes, true_boxes
from ..videos.index import read_index, splits, training_split
from ..videos.splits import reported_split
from ..videos.storage import Folder, Shards, open_storage
from .check_detect import LOCATED, boxes_of, check_detect, found_folder
from .detections import COCO, PARQUET, SHEET, Report, detect_in, write_failures
from .detector import FILE, Detector, build, load_detector, save_detector, working_side
from .detector_onnx import FILE as ONNX
from .detector_onnx import write_onnx
from .detector_truth import IOUS, Moment, by_path, measure, moments_of, table_of
from .frame_reader import STILL, FrameReader
from .media_frames import Media, find_media
from .silent_objects import PARQUET as SILENT_FILE
from .train_detector import finish, train
from .training_frames import SILENT, TrainingFrames, digest_of, from_located, from_true, read_located, words_of

NOTE, FIGURES = "detector.json", "detect.json"
FAILED = "left_out.txt"
SCORED = pa.schema([("path", pa.string()), ("split", pa.string()), ("time", pa.float64()), *(
    (name, pa.float32()) for name in ("x0", "y0", "x1", "y1", "score")
)])  # fmt: skip
"""The columns of boxes.parquet that are measured."""


@dataclass
class Work:
    """What the parts of the command share."""

    config: DetectConfig
    trained: TrainConfig
    device: torch.device
    storage: Folder | Shards
    console: Console
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def out(self) -> Path:
        return Path(self.config.out)

    def rows(self, split: str) -> pa.Table:
        return read_index(self.trained.data.index, split)


def document(config: DetectConfig, out: Path) -> dict[str, Any]:
    """What `avssl detect json=true` prints: the figures, fractions from 0 to 1, and where everything is."""
    return {**read_json(out / FIGURES), "out": config.out, "detector_file": str(out / FILE)}


@prints_json(document)
def run(config: DetectConfig) -> Path:
    """Train the detector unless it exists, measure it if there are true boxes, and find objects in `videos`.

    Returns:
        The output folder, with `detector.pt`, `detect.json` and, for each `videos`, a folder below `detections`.

    Raises:
        UserError: there are no boxes, they belong to another run, or a file cannot be read.
    """
    check_detect(config)
    console, out = Console(highlight=False, soft_wrap=True), Path(config.out)
    trained = read_config(Path(config.run))
    names = read_names(config.names) if config.names else None
    annotations = true_boxes(config.truth, trained.data.root)
    media = find_media(config.videos, trained.data.reading.extensions) if config.videos else []
    device = prepare_device(config.device)
    share_cores(device, 0, config.threads)
    work = Work(config, trained, device, open_storage(trained.data.root), console)
    with write_errors(out):
        detector = existing(work)
        if detector is not None and (out / FIGURES).is_file():
            work.figures = read_json(out / FIGURES)
        is_measured = "measures" in work.figures and not config.truth
        moments: list[Moment] = []
        located: dict[str, np.ndarray] = {}
        if annotations is not None and not is_measured:
            moments, located = to_measure(work, annotations)
        if detector is None:
            detector = made(work)
        detector.model.to(device).eval()
        if names is not None:
            check_names(names, detector, config)
        if moments:
            measured(work, detector, moments, located)
            write_json(out / FIGURES, work.figures)
        if config.videos:
            found(work, detector, media, names)
            write_json(out / FIGURES, work.figures)
        if config.onnx:
            exported(work, detector)
        write_json(out / FIGURES, work.figures)
    console.print(f"figures  {out / FIGURES}", markup=False)
    if not config.videos:
        words = f"avssl detect {word_for(Path(config.run))} videos=…"
        console.print(f"detector {out / FILE}; to find objects in pictures or silent videos: {words}", markup=False)
    return out


def settings_of(config: DetectConfig) -> dict[str, Any]:
    """What a detector depends on."""
    names = "detector", "steps", "batch", "lr", "min_confidence", "seed"
    path = boxes_of(config)
    known = {"boxes": boxes_digest(path)[:DIGEST]} if path.is_file() else {}
    return {"run": config.run, **{name: getattr(config, name) for name in names}, **known}


def boxes_digest(path: Path) -> str:
    """A digest of the boxes in a file. That of a table is of its values: the same boxes are not written twice in the
    same bytes."""
    if path.suffix != ".parquet":
        return file_sha256(path)
    rows, about = read_located(path)
    silent = read_silent(path, about)
    return digest_of([rows] if silent is None else [rows, silent], about.get("model"))


def existing(work: Work) -> Detector | None:
    """The detector in the output folder, if its training has ended.

    With other training options it is used too, with a message, if it is only to find objects.

    Raises:
        UserError: it is damaged, or was trained with other options and nothing else is to be done.
    """
    config, out = work.config, work.out
    if not (out / FILE).is_file():
        return None
    before, now = read_json(out / NOTE, f"remove {out}"), settings_of(config)
    changed = [name for name in now if before.get(name) != now[name]]
    if changed and not (config.videos or config.truth or config.onnx):
        if changed == ["boxes"]:
            raise UserError(
                f"{out} contains a detector that was trained on other boxes than {boxes_of(config)}: choose another "
                f"folder with out=…, or remove {out}"
            )
        check_same(out, "a detector", before, now, f"choose another folder with out=…, or remove {out}")
    if changed:
        changes = ", ".join("other boxes" if name == "boxes" else f"{name}={before.get(name)}" for name in changed)
        work.console.note(f"using the detector in {out}, which was trained with {changes}")
    finish(out)  # a kill may have left the checkpoint
    return load_detector(out / FILE)


def made(work: Work) -> Detector:
    """Train a detector, or resume its training, and write it."""
    config, out = work.config, work.out
    frames, side, native = training_frames(work)
    settings = settings_of(config)
    claim_folder(out, NOTE, "a detector", settings)
    with folder_lock(out):
        torch.manual_seed(config.seed)
        model = build(config.detector, len(frames.categories), side)
        detector = Detector(model, config.detector, side, frames.categories, frames.titles, frames.about)
        threads = (
            1 if work.device.type == "cpu" and config.workers < 0 else decoding_workers(config.workers, work.device)
        )
        reader = FrameReader(
            frames, work.storage, min(native, side), config.batch, config.seed, work.trained.clip.flip, threads
        )
        told(work, frames, side)
        losses = train(detector, reader, config, work.device, out, json.dumps([settings, side, frames.categories]))
        work.figures = {
            **settings, "side": side, "videos": len(frames.paths), "frames": len(frames.times),
            "boxes": len(frames.boxes),
            "categories": dict(zip(map(str, frames.categories), frames.titles, strict=True)),
            "boxes_left_out": {why: count for why, count in frames.left_out.items() if count},
            "undecodable": dict(reader.failures), "losses": losses,
        }  # fmt: skip
        write_json(out / FIGURES, work.figures)  # before the detector, whose file says that all of this is done
        save_detector(out / FILE, detector)
        finish(out)
    if reader.failures:
        path, why = next(iter(reader.failures.items()))
        many_videos = many(len(reader.failures), "video")
        work.console.print(f"left out: {many_videos} that could not be decoded, such as {path} ({why})", markup=False)
    return detector


def training_frames(work: Work) -> tuple[TrainingFrames, int, int]:
    """The frames to train on, the working side of the detector, and the usual short side of the videos (px)."""
    config, trained = work.config, work.trained
    split = training_split(trained.data, splits(trained.data.index))
    rows = work.rows(split)
    path = boxes_of(config)
    if path.suffix == ".parquet":
        boxes, about = read_located(path)
        check_run(config, about, path)
        frames = from_located(boxes, about, split, config.min_confidence, read_silent(path, about))
    else:
        frames = from_true(read_boxes(path), rows, trained.data.root)
    sides = np.minimum(rows["width"].to_numpy(), rows["height"].to_numpy())
    native = int(np.median(sides)) if len(sides) else 256
    return frames, working_side(native, config.detector), native


def read_silent(path: Path, about: dict[str, Any]) -> pa.Table | None:
    """The silent objects beside a file of boxes; None without any of the same model.

    Args:
        path: the file of boxes.
        about: the description of its run.
    """
    beside = path.with_name(SILENT_FILE)
    if not beside.is_file():
        return None
    rows, of = read_located(beside, SILENT)
    return rows if of.get("model") == about.get("model") else None


def check_run(config: DetectConfig, about: dict[str, Any], path: Path) -> None:
    """Raise UserError for boxes that were located with another model than the run's newest."""
    source = open_source(EvaluateConfig(run=config.run, trust=config.trust))
    assert source.model is not None
    if about.get("model") != digest(source.model)[:DIGEST]:
        of = f" ({about['run']}, step {about.get('step')})" if isinstance(about.get("run"), str) else ""
        raise UserError(
            f"{path} has boxes of another model{of} than {config.run} at step {source.step}: run avssl locate again, "
            "or give the run that located them"
        )


def told(work: Work, frames: TrainingFrames, side: int) -> None:
    """Print what the detector is trained on."""
    number = len(frames.categories)
    kind = "cluster" if frames.about else "class"
    work.console.print(
        f"training on {many(len(frames.boxes), 'box')} of {many(number, kind)} in {many(len(frames.times), 'frame')} "
        f"of {many(len(frames.paths), 'video')}, scaled to a short side of {side} px",
        markup=False,
    )
    if words := words_of(frames.left_out):
        work.console.print(f"boxes left out: {words}", markup=False)
    if number == 1 and frames.about.get("clusters", 0) > 1:
        warn("all boxes are of one cluster: the detector will find objects, but cannot tell them apart")


def check_names(names: Names, detector: Detector, config: DetectConfig) -> None:
    """Raise UserError for names of other clusters than the detector's."""
    about = detector.about
    if not about:
        raise UserError("names=… names clusters, but this detector was trained on true classes: leave names out")
    head, clusters, model = about.get("chosen_head") or 0, about.get("clusters") or 0, about.get("model") or ""
    names.check(about.get("step"), head, clusters, model, config.run)


def split_of(work: Work) -> str:
    """The split that is measured."""
    data = work.trained.data
    return reported_split(splits(data.index), data.test_split, data.train_split)


def to_measure(work: Work, annotations: Annotations) -> tuple[list[Moment], dict[str, np.ndarray]]:
    """The moments with true boxes and the located boxes of the reported split, known before any training.

    Without any such moment, true boxes that were not asked for are not used, with a message.

    Raises:
        UserError: the true boxes that the option names are of other videos, or the located boxes cannot be read.
    """
    split, path = split_of(work), Path(work.config.run) / LOCATED
    located: dict[str, np.ndarray] = {}
    if path.is_file():
        boxes, _ = read_located(path, SCORED)
        located = by_path(boxes.filter(pc.equal(boxes["split"], split)))
    try:
        return moments_of(annotations, work.rows(split), located), located
    except UserError as error:
        if work.config.truth:
            raise
        warn(f"the detector is not measured: {error}")
        return [], {}


def measured(work: Work, detector: Detector, moments: list[Moment], located: dict[str, np.ndarray]) -> None:
    """Measure the detector and the located boxes at the moments, and print the table."""
    split = split_of(work)
    figures = measure(detector, moments, work.storage, located, work.config.batch, work.device)
    work.figures["measures"] = {"split": split, **figures}
    head = ["average precision, %", *(f"IoU {iou:g}" for iou in IOUS)]
    about = f"{many(figures['pictures'], 'picture')} of the {split} split, {many(figures['true_boxes'], 'true box')}"
    if silent := figures["silent_boxes"]:
        about += f"; {silent:,} of them do not sound, so avssl locate has no box for them"
    report(work.console, "detector", head, table_of(figures), about, None)


def found(work: Work, detector: Detector, media: list[Media], names: Names | None) -> Report:
    """Find objects in files, and print what was found."""
    config = work.config
    folder = found_folder(config)
    note_videos_of(folder, config.videos)
    with folder_lock(folder):
        result = detect_in(detector, media, names, config.min_score, config.batch, work.device, folder)
        write_failures(folder / FAILED, result.failures)
    shown = ", ".join(f"{name} {count:,}" for name, count in result.by_name.most_common(8))
    console = work.console
    console.print(
        f"{many(result.objects, 'object')} in {many(result.pictures, 'picture')} of {many(result.files, 'file')}"
        f"{f': {shown}' if shown else ''}",
        markup=False,
    )
    if not result.objects and result.pictures:
        console.print(
            f"no object has a score of {config.min_score:g}: lower min_score, or train with more steps", markup=False
        )
    if result.failures:
        first, why = next(iter(result.failures.items()))
        left = many(len(result.failures), "file")
        console.print(f"left out: {left} that cannot be read, such as {first} ({why}): {folder / FAILED}", markup=False)
    if result.rejected:
        console.print(f"left out: {many(result.rejected, 'object')} of rejected clusters", markup=False)
    console.print(f"objects  {folder / PARQUET}, {folder / COCO}", markup=False)
    if (folder / SHEET).is_file():
        console.print(f"pictures {folder / SHEET}", markup=False)
    work.figures["found"] = {
        "videos": config.videos, "folder": str(folder), "files": result.files, "pictures": result.pictures,
        "objects": result.objects, "by_name": dict(result.by_name), "left_out": result.failures,
        "rejected": result.rejected, "min_score": config.min_score,
    }  # fmt: skip
    return result


def exported(work: Work, detector: Detector) -> None:
    """Write the detector as ONNX, and print by how much its outputs differ."""
    device = work.device
    detector.model.cpu()
    worst = write_onnx(detector, _some_picture(work, detector.side), work.out / ONNX)
    detector.model.to(device)
    work.figures["onnx"] = {"file": str(work.out / ONNX), "max_difference": worst}
    work.console.print(
        f"onnx     {work.out / ONNX}: its outputs differ from torch's by at most {worst:.1e}", markup=False
    )


def _some_picture(work: Work, side: int) -> np.ndarray:
    """The middle frame of the first video of the training split that can be decoded, uint8 [h, w, 3]."""
    rows = work.rows(training_split(work.trained.data, splits(work.trained.data.index)))
    for row in rows.slice(0, 20).select(["path", "window_start", "window_seconds"]).to_pylist():
        try:
            source, middle = work.storage.locate(row["path"]), row["window_start"] + row["window_seconds"] / 2
            (clip,) = read_clips(source, [middle], STILL, side)
            return np.ascontiguousarray(clip.frames[0])
        except (ClipError, OSError):
            continue
    raise UserError(f"no video of {work.trained.data.root} can be decoded, so the ONNX file cannot be checked")
