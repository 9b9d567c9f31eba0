"""`avssl evaluate`: evaluate encoders with the published protocols."""

import csv
import io
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..clips.dataset import describe_failures
from ..config import EvaluateConfig, IndexedDataConfig
from ..config.compose import nearest
from ..config.data import NO_INDEX
from ..core.atomic import read_json, write_json, write_text
from ..core.csv_cells import quoted
from ..core.device import prepare_device, share_cores
from ..core.errors import UserError
from ..core.json_output import prints_json
from ..core.plurals import describe_missing_audio
from ..core.screen import Console
from ..core.verbosity import is_verbose
from ..metrics.fold_means import mean_over_folds
from ..runs.model_card import update_card
from ..runs.open import Source, open_source, output_folder, read_videos
from ..runs.stored import refuse_table
from ..videos.index import splits, tell_if_changed
from ..videos.index_options import root_of
from .feature_shards import process_share
from .finetune_protocol import check_finetune
from .plots import PLOTTED, draw_plots, has_matplotlib
from .protocols import LONG, TASKS, EvaluationContext, drawn
from .report import latex, result_line, show

VERSION = 2
"""Raise it when results change their meaning, because results of different versions are not mixed.

2: intervals of few-shot and k-means are over draws and starts, each the mean over folds; finetuning is as released.
"""


def document(config: EvaluateConfig, figures: dict[str, Any]) -> dict[str, Any]:
    """What `avssl evaluate json=true` prints: the figures of evaluate.json, which are fractions, and their folder."""
    return {"out": str(output_folder(config)), **figures}


@prints_json(document)
def run(config: EvaluateConfig) -> dict[str, Any]:
    """Run the protocols, write `evaluate.json`, `evaluate.tex`, plots and the few-shot draws, and return the results.

    Raises:
        UserError: the model, the features or the labels cannot be read, or the index lacks one of the two splits.
    """
    console = Console(highlight=False)
    context, tasks = opened(config)
    source, videos, data = context.source, context.videos, evaluated_data(config, context.source)
    out = output_folder(config)
    if context.without_audio:
        console.print(f"{describe_missing_audio(context.without_audio)}: evaluating only the video encoder")
    by_fold: dict[int, dict[str, Any]] = {}
    for fold in videos.folds:
        by_fold[fold.number] = {}
        for task in tasks:
            scores = TASKS[task](context, fold)
            if scores is None and tasks == [task]:
                missing = context.without_audio
                raise UserError(
                    f"{task} needs both modalities, but {describe_missing_audio(missing)}"
                    if missing
                    else f"{source.name} has no {_lacks(task)}"
                )
            by_fold[fold.number][task] = scores

    figures: dict[str, Any] = {
        "version": VERSION, "source": source.name, "run": config.run or None, "random": config.random,
        "features": config.features or None,
        "step": source.step, "data": data.name, "root": data.root, "folds": list(by_fold), "columns": config.columns,
        "splits": {"train": data.train_split, "test": data.test_split},
        "k": config.k, "temperature": config.temperature, "videos": {"train": len(videos.folds[0].train),
        "test": len(videos.folds[0].test), "failed": len(context.failures)}, "mute": context.without_audio,
    }  # fmt: skip
    gaps: list[str] = []
    figures |= {task: mean_over_folds([by_fold[n][task] for n in by_fold], gaps, task) for task in tasks}
    if "finetune" in tasks:
        figures["finetune_options"] = asdict(config.finetune)
    if len(by_fold) > 1:
        figures["by_fold"] = by_fold
    name = "evaluate_random" if config.random else "evaluate"
    kept = other_tasks(out / f"{name}.json", figures) | figures
    write_json(out / f"{name}.json", kept)
    write_text(out / f"{name}.tex", latex(kept))
    if "few_shot" in tasks:
        write_text(out / "few_shot_draws.csv", _csv([row for fold in videos.folds for row in drawn(context, fold)]))
    show(figures, console)
    if gaps:
        more = f", and {len(gaps) - 3} more" if len(gaps) > 3 else ""
        console.print(f"no mean, because some folds lack it: {', '.join(gaps[:3])}{more}", soft_wrap=True, markup=False)
    plots = draw_plots(figures, context, out, "_random" if config.random else "")
    if context.failures:
        console.print(f"excluded: {describe_failures(context.failures.items())}")
        write_json(out / "failures.json", context.failures)
    written = [out / f"{name}.json", out / f"{name}.tex", *plots]
    for path in written if is_verbose() else []:
        console.print(str(path), soft_wrap=True, markup=False)
    if config.run and out == Path(config.run) / "evaluate" and not config.random:
        update_card(Path(config.run))
    kinds = "figures, LaTeX tables and plots" if plots else "figures and LaTeX tables"
    missing = not has_matplotlib() and any(figures.get(task) for task in PLOTTED)
    why = "; no plots: matplotlib is not installed" if missing else ""
    console.print(f"{kinds}: {out}{why}", soft_wrap=True, markup=False)
    if result := result_line(figures):
        console.print(result, soft_wrap=True, markup=False)
    return figures


def opened(config: EvaluateConfig) -> tuple[EvaluationContext, list[str]]:
    """The model, the videos and the features in progress, and the tasks. Raises UserError as `run` does."""
    if not config.columns:
        raise UserError("columns is empty: name the labels to evaluate against, such as columns=class")
    device = prepare_device(config.device, fixed_shapes=True)
    config = replace(config, workers=share_cores(device, config.workers, config.threads))
    tasks = chosen_tasks(config)
    source = open_source(config)
    if long := [task for task in tasks if task in LONG]:
        refuse_table(source, f"run {', '.join(long)}")
    if "finetune" in tasks:
        if process_share()[1] > 1:
            raise UserError(
                "tasks=finetune runs in one process: start it once, or each fold separately with its own out=…"
            )
        encoders = {} if source.model is None else dict(source.model.encoders.items())
        check_finetune(config.finetune, encoders.get("video"), source.clip, source.name)
    data = evaluated_data(config, source)
    videos = read_videos(data, config.folds)
    if source.data is not None and data.index == source.data.index:
        tell_if_changed(source.data, source.videos, source.name)
    cache = Path(config.cache) if config.cache else output_folder(config) / "features"
    return EvaluationContext(source, videos, config, device, cache), tasks


def chosen_tasks(config: EvaluateConfig) -> list[str]:
    """The tasks to run: `config.tasks`, or the default ones. Raises UserError for an unknown task."""
    if not config.tasks:
        return [task for task in TASKS if task not in LONG]
    for task in config.tasks:
        if task not in TASKS:
            raise UserError(f"tasks={task} is not one of {', '.join(TASKS)}{nearest(task, list(TASKS))}")
    return list(dict.fromkeys(config.tasks))


def evaluated_data(config: EvaluateConfig, source: Source) -> IndexedDataConfig:
    """The index in `config.data`, or else the one that the run was trained on."""
    data = config.data
    if data.index == NO_INDEX:
        if source.data is None:
            raise UserError(
                "an index is needed, because a checkpoint names none: give the folder of videos that was indexed, as "
                "data.root=my_videos, or data.index=index/my_videos"
            )
        default = IndexedDataConfig()
        given = {k: getattr(data, k) for k in ("train_split", "test_split") if getattr(data, k) != getattr(default, k)}
        return replace(source.data, **given)
    if data.root:
        return data
    root = root_of(data.index)
    if root is None:
        splits(data.index)  # raises UserError if there is no index
        raise UserError(f"{data.index} does not record the folder of its videos: give data.root=my_videos")
    return replace(data, root=str(root))


def _lacks(task: str) -> str:
    return {
        "cross_modal": "embedding of both modalities: train with task=gdt, task=both or objective=jepa",
        "robustness": "cluster heads for the modalities that these videos have: train with task=selavi or task=both",
    }.get(task, "video encoder, whose features this task needs")


def other_tasks(path: Path, figures: dict[str, Any]) -> dict[str, Any]:
    """The results of other tasks in `path`, if an earlier call evaluated the same model on the same videos."""
    try:
        before = read_json(path)
    except UserError:
        return {}
    same = ("version", "source", "random", "step", "data", "root", "splits", "folds", "columns", "k", "temperature")
    defaults = {"splits": {"train": "train", "test": "test"}}  # older versions did not write these
    if any(before.get(key, defaults.get(key)) != figures[key] for key in same):
        return {}
    others = {key: before[key] for key in (*TASKS, "finetune_options") if key in before}
    try:
        latex(others | figures)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, StopIteration):
        return {}  # the earlier results are damaged
    return others


def _csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, ["fold", "column", "shots", "seed", "path"], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: quoted(x) if isinstance(x, str) else x for name, x in row.items()} for row in rows)
    return text.getvalue()
