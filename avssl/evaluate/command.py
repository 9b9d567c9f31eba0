"""`avssl evaluate`: what encoders are good for, by the published protocols."""

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
from ..core.device import choose_device, share_cores
from ..core.errors import UserError
from ..core.plurals import describe_missing_audio
from ..core.screen import Console
from ..metrics.fold_means import mean_over_folds
from ..runs.open import Source, open_source, output_folder, read_videos
from ..videos.index import splits, tell_if_changed
from ..videos.index_options import root_of
from .features import process_share
from .finetune_protocol import check_finetune
from .plots import draw_plots
from .protocols import LONG, TASKS, EvaluationContext, drawn
from .report import latex, show

VERSION = 2
"""Of what the figures mean: those of another version are not kept beside new ones. 2: few-shot's and k-means' intervals
are over draws and starts, each the mean over folds; finetuning is as released."""


def run(config: EvaluateConfig) -> dict[str, Any]:
    """Evaluate as configured; writes `evaluate.json`, `evaluate.tex`, plots and the few-shot draws, and returns the
    figures.

    Raises UserError for what cannot be read, an index without the two splits, or labels that are missing.
    """
    console = Console(highlight=False)
    if not config.columns:
        raise UserError("columns=[]: name the labels to evaluate against, as columns=[class]")
    device = choose_device(config.device)
    share_cores(device, config.workers, config.threads)
    wanted = wanted_tasks(config)
    source = open_source(config)
    if "finetune" in wanted:
        if process_share()[1] > 1:
            raise UserError(
                "tasks=[finetune] runs in one process: start it once, or each fold by itself with its out=…"
            )
        encoders = {} if source.model is None else dict(source.model.encoders.items())
        check_finetune(config.finetune, encoders.get("video"), source.clip, source.name)
    data = evaluated_data(config, source)
    videos = read_videos(data, config.folds)
    if source.data is not None and data.index == source.data.index:
        tell_if_changed(source.data, source.videos, source.name)
    out = output_folder(config)
    cache = Path(config.cache) if config.cache else out / "features"
    subject = EvaluationContext(source, videos, config, device, cache)
    if subject.without_audio:
        console.print(f"{describe_missing_audio(subject.without_audio)}: the video encoder alone is evaluated")
    by_fold: dict[int, dict[str, Any]] = {}
    for fold in videos.folds:
        by_fold[fold.number] = {}
        for task in wanted:
            found = TASKS[task](subject, fold)
            if found is None and wanted == [task]:
                missing = subject.without_audio
                raise UserError(
                    f"{task} needs both modalities, and {describe_missing_audio(missing)}"
                    if missing
                    else f"{source.name} has no {_lacks(task)}"
                )
            by_fold[fold.number][task] = found

    figures: dict[str, Any] = {
        "version": VERSION, "source": source.name, "run": config.run or None, "random": config.random,
        "step": source.step, "data": data.name, "root": data.root, "folds": list(by_fold), "columns": config.columns,
        "splits": {"train": data.train_split, "test": data.test_split},
        "k": config.k, "temperature": config.temperature, "videos": {"train": len(videos.folds[0].train),
        "test": len(videos.folds[0].test), "failed": len(subject.failures)}, "mute": subject.without_audio,
    }  # fmt: skip
    gaps: list[str] = []
    figures |= {task: mean_over_folds([by_fold[n][task] for n in by_fold], gaps, task) for task in wanted}
    if "finetune" in wanted:
        figures["finetune_options"] = asdict(config.finetune)
    if len(by_fold) > 1:
        figures["by_fold"] = by_fold
    name = "evaluate_random" if config.random else "evaluate"
    kept = other_tasks(out / f"{name}.json", figures) | figures
    write_json(out / f"{name}.json", kept)
    write_text(out / f"{name}.tex", latex(kept))
    if "few_shot" in wanted:
        write_text(out / "few_shot_draws.csv", _csv([row for fold in videos.folds for row in drawn(subject, fold)]))
    show(figures, console)
    if gaps:
        more = f", and {len(gaps) - 3} more" if len(gaps) > 3 else ""
        console.print(f"no mean of what not every fold has: {', '.join(gaps[:3])}{more}", soft_wrap=True, markup=False)
    plots = draw_plots(figures, subject, out, "_random" if config.random else "")
    if subject.failures:
        console.print(f"left out: {describe_failures(subject.failures.items())}")
        write_json(out / "failures.json", subject.failures)
    made = [("figures", out / f"{name}.json"), ("LaTeX", out / f"{name}.tex"), *(("plot", path) for path in plots)]
    for text, path in made:
        console.print(f"{text:8}{path}", soft_wrap=True, markup=False)
    return figures


def wanted_tasks(config: EvaluateConfig) -> list[str]:
    """UserError for a task that is none."""
    if not config.tasks:
        return [task for task in TASKS if task not in LONG]
    for task in config.tasks:
        if task not in TASKS:
            raise UserError(f"no task {task}{nearest(task, list(TASKS))} ({', '.join(TASKS)})")
    return list(dict.fromkeys(config.tasks))


def evaluated_data(config: EvaluateConfig, source: Source) -> IndexedDataConfig:
    """The index that is asked for, or else what the run was trained on."""
    data = config.data
    if data.index == NO_INDEX:
        if source.data is None:
            raise UserError(
                "data.index is needed: the index to evaluate on, or data.root=<folder of videos> that it was made of "
                "(a checkpoint does not tell)"
            )
        default = IndexedDataConfig()
        asked = {k: getattr(data, k) for k in ("train_split", "test_split") if getattr(data, k) != getattr(default, k)}
        return replace(source.data, **asked)
    if data.root:
        return data
    root = root_of(data.index)
    if root is None:
        splits(data.index)  # UserError where there is none
        raise UserError(f"{data.index} does not say where its videos are: give data.root=…")
    return replace(data, root=str(root))


def _lacks(task: str) -> str:
    return {
        "cross_modal": "embedding of both modalities: train with task=gdt or task=both",
        "robustness": "cluster heads for the modalities that these videos have: train with task=selavi or task=both",
    }.get(task, "video encoder, whose features this is about")


def other_tasks(path: Path, figures: dict[str, Any]) -> dict[str, Any]:
    """The figures of the tasks of an earlier evaluation of the same, on the same."""
    try:
        before = read_json(path)
    except UserError:
        return {}
    same = ("version", "source", "random", "step", "data", "root", "splits", "folds", "columns", "k", "temperature")
    unsaid = {"splits": {"train": "train", "test": "test"}}  # by older versions
    if any(before.get(key, unsaid.get(key)) != figures[key] for key in same):
        return {}
    found = {key: before[key] for key in (*TASKS, "finetune_options") if key in before}
    try:
        latex(found | figures)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, StopIteration):
        return {}  # damaged: what is asked for now is whole
    return found


def _csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, ["fold", "column", "shots", "seed", "path"], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: quoted(x) if isinstance(x, str) else x for name, x in row.items()} for row in rows)
    return text.getvalue()
