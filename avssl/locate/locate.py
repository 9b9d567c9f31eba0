"""`avssl locate`: where in the frames each sound comes from."""

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..clips.dataset import describe_failures
from ..clips.decode import ClipSpec
from ..config import EvaluateConfig, LocateConfig, TrainConfig
from ..config.run_folder import read_config
from ..core.atomic import write_json
from ..core.checkpoint_file import digest
from ..core.device import prepare_device, share_cores
from ..core.errors import UserError
from ..core.json_output import prints_json
from ..core.out_folder import folder_lock, note_videos_of, write_errors
from ..core.plurals import counted, many
from ..core.screen import Console, warn
from ..core.untrusted import read_json
from ..evaluate.feature_shards import process_share
from ..explore.names import DIGEST
from ..explore.open_page import PLACE
from ..explore.overlays import Overlay, write_overlays
from ..explore.previews import read_previews
from ..models.localise import Localiser
from ..runs.open import Source, open_source
from ..runs.sign_of_life import step_words
from ..videos.box_annotations import Annotations, TrueBoxes, match, true_boxes
from ..videos.index import tell_if_changed
from ..videos.splits import reported_split
from .check_options import folder_of, is_own
from .heat_pass import HeatPass
from .interactive import Objects, interactive_figures, locate_objects, objects_of_entries
from .located import Located, locate_split
from .measures import measure
from .new_videos import find_new
from .overlays import clips_of, overlays_of, shown_previews
from .pairs import find_pairs, locate_pairs
from .prior import Prior
from .result import print_measures, result_line
from .silent_objects import PARQUET as SILENT
from .silent_objects import SCHEMA as SILENT_SCHEMA
from .silent_objects import silent_objects, write_silent
from .tables import COCO, PARQUET, write_boxes, write_coco
from .truth import PAIRS, Sample, samples_of
from .work import CACHE, Work

FIGURES = "locate.json"

WEAK = (
    "this run has no localisation objective: its heat maps compare each position with the audio through heads that "
    "were trained on whole clips, and are weak; train with objective=localisation for better ones"
)

NO_AUDIO = "annotations with the audio of a video that is not in the index"

Truth = list[Mapping[int, Sequence[TrueBoxes]]]
"""For each split, the true boxes of its rows."""


def document(config: LocateConfig, out: Path) -> dict[str, Any]:
    """What `avssl locate json=true` prints: the figures, fractions from 0 to 1, and where everything is."""
    files = {"boxes_file": str(out / PARQUET), "coco_file": str(out / COCO)}
    return {**read_json(out / FIGURES), "out": str(out), **files}


@prints_json(document)
def run(config: LocateConfig) -> Path:
    """Locate the sounds of the run's videos, or of new ones.

    It writes `boxes.parquet`, `boxes.coco.json` and `locate.json`.

    The page of clusters, if there is one, gets heat maps and boxes over its previews.

    Returns:
        The output folder.

    Raises:
        UserError: the run cannot compare frames with audio, no video has audio, or true boxes cannot be read.
    """
    console, out = Console(highlight=False, soft_wrap=True), folder_of(config)
    trained = read_config(Path(config.run))
    annotations = true_boxes(config.truth, config.videos or trained.data.root)
    source = open_source(EvaluateConfig(run=config.run, trust=config.trust))
    assert source.model is not None
    localiser = Localiser(source.model)
    device = prepare_device(config.device, fixed_shapes=True)
    config = replace(config, workers=share_cores(device, config.workers, config.threads))
    prior = Prior(config.prior, trained.clip, device) if config.prior else None
    new = find_new(config.videos, source, config.workers) if config.videos else None
    work = Work(config, trained, source, localiser, device, prior, new)
    if new is None:
        tell_if_changed(trained.data, source.videos, config.run)
    console.note(f"{step_words(config.run, source.step)}; writing to {out}")
    if localiser.weak:
        console.print(WEAK, markup=False)

    audible, without_audio = audible_rows(work)
    truth: Truth = []
    unmatched: Counter[str] = Counter()
    try:
        truth, unmatched = matched(annotations, audible, work.where, without_audio)
    except UserError as error:
        if config.truth:
            raise
        warn(f"nothing is measured: {error}")
        annotations = None
    pairs = find_pairs(truth, list(audible.values()), annotations.form if annotations else "")
    kept = [np.array(sorted({*by_row} | pairs.rows_of(n)), np.int64) for n, by_row in enumerate(truth)]
    with write_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    with folder_lock(out, shared=process_share()[1] > 1):  # processes that share the work are one command
        if new is not None:
            note_videos_of(out, config.videos)
        with write_errors(out):
            sounds = work.sounds(audible)
            passes = [
                work.maps_of(rows, config.clips, bool(truth), f"locating ({split})", sounds=sounds.get(split))
                for split, rows in audible.items()
            ]
            parts = [
                locate_split(maps, split, config.beta, config.prior_weight, rows)
                for maps, split, rows in zip(
                    passes, audible, kept or [np.empty(0, np.int64)] * len(passes), strict=True
                )
            ]
            figures = write_tables(work, parts, passes, out)
            paired = locate_pairs(pairs, parts, work.maps_with, config.beta, config.prior_weight)
            objects = several_objects(work, parts, truth)
        figures["without_audio"] = without_audio
        if new is not None:
            figures |= {"new_videos": config.videos, "refused": new.refused}
        tell_left_out(figures, parts, source, console)
        if annotations is not None:
            tell_annotations(annotations, unmatched + Counter({NO_AUDIO: pairs.missing}), console)
            if paired is not None:
                parts, truth = [*parts, paired], [*truth, {i: [x] for i, x in enumerate(pairs.truth)}]
            figures |= measured(parts, truth, annotations, trained, config, console, objects)
        figures["overlays"] = show(work, pa.concat_tables(audible.values()), console)
        write_json(out / FIGURES, figures)
        if process_share()[1] == 1:  # others may still read the files
            shutil.rmtree(out / CACHE, ignore_errors=True)
    console.print(f"boxes    {out / PARQUET}, {out / COCO}", markup=False)
    console.print(f"figures  {out / FIGURES}", markup=False)
    console.print(result_line(figures, work.next_command(bool(figures["overlays"]))), markup=False)
    return out


def audible_rows(work: Work) -> tuple[dict[str, pa.Table], int]:
    """The rows of the splits whose videos have audio, and the number of the others. Raises UserError without any."""
    found, others = {}, 0
    for split, rows in work.tables():
        audible = rows.filter(pc.greater(rows["audio_rate"], 0))
        others += len(rows) - len(audible)
        if len(audible):
            found[split] = audible
    if not found:
        where = work.trained.data.index if work.new is None else work.config.videos
        raise UserError(f"none of the videos of {where} has audio, so no sound can be located in them")
    return found, others


def matched(
    annotations: Annotations | None, tables: Mapping[str, pa.Table], where: str = "the index", without_audio: int = 0
) -> tuple[Truth, Counter[str]]:
    """The true boxes of the rows of each split, and counts of annotations and videos that have no counterpart.

    Args:
        annotations: the true boxes.
        tables: the rows of each split, of videos with audio.
        where: what the rows are of, in words.
        without_audio: how many videos are not in the rows because they have no audio.

    Raises:
        UserError: none of the annotated videos is among the rows.
    """
    if annotations is None:
        return [], Counter()
    paths = [path for rows in tables.values() for path in rows["path"].to_pylist()]
    found = match(annotations, paths)
    if not found.truth:
        example = annotations.truth[0].path if annotations.truth else "none"
        raise UserError(
            f"none of the {many(len(annotations.truth), 'annotation')} belongs to a video of {where} (the first is "
            f"of {example}): give the true boxes of these videos"
        )
    truth: Truth = []
    for rows in tables.values():
        own = rows["path"].to_pylist()
        truth.append({row: found.truth[path] for row, path in enumerate(own) if path in found.truth})
    missing = 0 if where.startswith("the split ") else len(found.missing)  # of a chosen split, others are expected
    counts = Counter({
        f"annotated videos that are not in {where}{' or have no audio' if without_audio else ''}": missing,
        f"annotated videos whose name several videos of {where} have": len(found.ambiguous),
        "videos without an annotation": len(found.unannotated),
    })  # fmt: skip
    return truth, counts


def write_tables(work: Work, parts: Sequence[Located], passes: Sequence[HeatPass], out: Path) -> dict[str, Any]:
    """Write the boxes and the silent objects, and return the figures about them."""
    model, config = work.model, work.config
    about = {
        "run": config.run, "step": work.source.step, "model": digest(model)[:DIGEST],
        "clusters": model.clusters if work.head is not None else 0, "chosen_head": work.head, "beta": config.beta,
        "weak": work.localiser.weak, "prior": config.prior,
    }  # fmt: skip
    titles = work.titles()
    tracks = write_boxes(out / PARQUET, parts, {**about, "names": {str(k): name for k, name in titles.items()}})
    write_coco(out / COCO, parts, titles, about)
    silent: dict[str, int] = {}
    if work.new is None:
        pairs = zip(passes, parts, strict=True)
        tables = [silent_objects(maps, part, config.beta) for maps, part in pairs if maps.sounds is not None]
        write_silent(out / SILENT, pa.concat_tables([SILENT_SCHEMA.empty_table(), *tables]), about)
        silent = {"silent_objects": sum(map(len, tables))}
    boxes = np.concatenate([part.boxes[part.found] for part in parts])
    heard = [part.decoded[:, None] & ~part.silent for part in parts]
    used = np.unique(np.concatenate([part.label[at] for part, at in zip(parts, heard, strict=True)]))
    return {
        **about,
        "prior_weight": config.prior_weight if config.prior else None,
        "splits": [part.split for part in parts],
        "videos": len({(part.split, path) for part, at in zip(parts, heard, strict=True)
                       for path, any_heard in zip(part.paths, at.any(1), strict=True) if any_heard}),
        "clips": sum(int(at.sum()) for at in heard),
        "moments": sum(int(at.sum()) * part.boxes.shape[2] for part, at in zip(parts, heard, strict=True)),
        "boxes": len(boxes),
        "tracks": tracks,
        "mean_area": float(np.prod(boxes[:, 2:] - boxes[:, :2], 1, dtype=np.float64).mean()) if len(boxes) else None,
        "used_clusters": int((used >= 0).sum()) if work.head is not None else None,
        "silent_clips": sum(int((part.silent & part.decoded[:, None]).sum()) for part in parts),
        "undecodable": sum(len({f.path for f in part.failures}) for part in parts),
        **silent,
    }  # fmt: skip


def several_objects(work: Work, parts: Sequence[Located], truth: Truth) -> Objects | None:
    """The objects of the reported split's pictures of several objects, each with a sound of its own; None without."""
    data, config = work.trained.data, work.config
    reported = reported_split([part.split for part in parts], data.test_split, data.train_split)
    for part, boxes in zip(parts, truth, strict=False):
        if part.split == reported and boxes:
            return locate_objects(
                part, boxes, work.trained.clip, work.trained.seed, work.maps_of_objects, config.beta,
                config.prior_weight,
            )  # fmt: skip
    return None


def tell_left_out(figures: dict[str, Any], parts: Sequence[Located], source: Source, console: Console) -> None:
    """Print what was left out, and warn about a single cluster or no box at all."""
    failed = describe_failures(failure for part in parts for failure in part.failures)
    if failed:
        console.print(f"left out: {failed}", markup=False)
    if count := figures["without_audio"]:
        rows = counted(count, count)
        console.print(f"left out: {rows} without audio", markup=False)
    if count := figures["silent_clips"]:
        console.print(f"left out: {many(count, 'clip')} in which nothing can be heard", markup=False)
    if count := figures.get("silent_objects"):
        console.print(
            f"silent objects: {count:,}, found with the sounds of their clusters in other videos", markup=False
        )
    if refused := figures.get("refused"):
        path, why = next(iter(refused.items()))
        console.print(
            f"left out: {many(len(refused), 'file')} that cannot be used, such as {path} ({why})", markup=False
        )
    if not figures["boxes"]:
        warn("no heat map has a box: every map is the same everywhere, or nothing can be heard")
    elif "new_videos" not in figures and figures["clusters"] > 1 and figures["used_clusters"] == 1:
        warn(
            f"all boxes have the same cluster, although {source.name} has {figures['clusters']}: the clusters have "
            "collapsed, so a detector could not tell objects apart"
        )


def tell_annotations(annotations: Annotations, unmatched: Mapping[str, int], console: Console) -> None:
    """Print which true boxes are not used."""
    for why, count in annotations.dropped.items():
        console.print(f"true boxes not used: {count:,} {why}", markup=False)
    for why, count in unmatched.items():
        if count:
            console.print(f"{why}: {count:,}", markup=False)


def measured(
    parts: Sequence[Located], truth: Truth, annotations: Annotations, trained: TrainConfig, config: LocateConfig,
    console: Console, objects: Objects | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Measure the reported split if it has true boxes, else all, and print the figures.

    Args:
        objects: objects of that split with their own sounds; None: those whose audio the annotations name, as IS3's.
    """
    found = samples_of(parts, truth, trained.clip)
    for why, count in found.unused.items():
        console.print(f"true boxes not used: {count:,} {why}", markup=False)
    names = [part.split for part in parts if part.split != PAIRS]
    reported = reported_split(names, trained.data.test_split, trained.data.train_split)
    samples: list[Sample] = [s for s in found.samples if parts[s.part].split in (reported, PAIRS)]
    split = reported
    if not any(s.sounds for s in samples):
        samples, split = found.samples, " and ".join(names)
    figures = measure(parts, samples, annotations.form, config.prior_weight, trained.seed)
    if objects is None and annotations.form == "is3":
        objects = objects_of_entries(parts, samples, config.prior_weight)
    if objects is not None and (interactive := interactive_figures(objects)) is not None:
        figures["interactive"] = interactive
    print_measures(figures, split, console)
    return {"measured_split": split, "measures": figures}


def show(work: Work, rows: pa.Table, console: Console) -> int:
    """Write heat maps and boxes over the previews of the run's page of clusters, unless the output folder is another
    than the run's own. Returns how many previews have them."""
    folder = Path(work.config.run)
    explorer = (folder / PLACE).parent
    if not is_own(work.config) or not (explorer / PLACE.name).is_file():
        return 0
    there, (previews, previewed) = len(read_previews(explorer / "previews")), shown_previews(explorer, rows)
    if not there:
        return 0
    overlays: dict[str, Overlay] = {}
    if previews:
        clips = clips_of(previewed, ClipSpec.of(work.trained.clip).seconds)
        maps = work.maps_of(previewed, clips, constant=False, text="locating (previews)")
        overlays = overlays_of(maps, previews, work.config.beta, work.config.prior_weight)
    split = work.config.split
    shown = write_overlays(explorer, overlays, WEAK if work.localiser.weak else "", split)
    why = f": only the split {split} is located" if split and shown < there else ""
    of = f"{shown:,} of {many(there, 'preview')}"
    console.print(f"heat maps and boxes over {of} on the page of clusters{why}", markup=False)
    return shown
