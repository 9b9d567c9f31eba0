"""`avssl summary`: several runs side by side, such as several seeds."""

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.markdown import Markdown

from ..config import SummaryConfig
from ..core.atomic import write_text
from ..core.columns import columns
from ..core.errors import UserError
from ..core.report import markdown_table
from ..core.screen import Console, one_line, warn
from ..core.untrusted import is_number, read_json
from ..metrics.intervals import mean_of


def run(config: SummaryConfig) -> dict[str, float]:
    """Print each run's NMI (joint labels of the head chosen without classes), and the minimum, median and maximum.

    Returns:
        The minimum, median and maximum, as fractions.

    Raises:
        UserError: no run has a `clusters/clustering.json` of videos with classes. Other runs are left out, with a
            message, if there is one.
    """
    if not config.runs:
        raise UserError("give the run folders: `avssl summary runs/a runs/b`")
    if config.of == "evaluate":
        compare(config)
        return {}
    console = Console(highlight=False, soft_wrap=True)
    nmi, rows, left_out = {}, [], []
    for folder in config.runs:
        try:
            figures = _figures(Path(folder))
            nmi[folder] = _chosen_nmi(figures, folder)
        except UserError as error:
            left_out.append(error)
            continue
        floors: dict[str, float] = figures.get("floors") or {}
        raw = f"{100 * max(floors.values()):.1f}" if floors else ""
        rows.append([one_line(folder), f"{100 * nmi[folder]:.1f}", raw])
    if not nmi:
        raise left_out[0]
    for missing in left_out:
        warn(f"left out: {missing}")
    if any(row[2] for row in rows):
        head = ["run", "NMI %", "raw k-means %"]
    else:
        head, rows = ["run", "NMI %"], [row[:2] for row in rows]
    console.print(columns(head, rows, right=(1, 2)), markup=False)
    values = list(nmi.values())
    result = {"min": min(values), "median": statistics.median(values), "max": max(values)}
    console.print("NMI: " + " · ".join(f"{name} {100 * value:.1f} %" for name, value in result.items()))
    return result


def compare(config: SummaryConfig) -> str:
    """Print every result of `avssl evaluate`, beside that of the untrained encoders, as a Markdown table.

    A cell has the mean and half of the 95 % interval over runs, and the number of runs if some lack the result.

    Raises:
        UserError: a run has no `evaluate.json`, or it is damaged.
    """
    figures: dict[str, tuple[list[float], list[float]]] = {}
    for place, name in enumerate(("evaluate_random.json", "evaluate.json")):
        for folder in config.runs:
            path = Path(folder) / "evaluate" / name
            try:
                with figures_of(path):
                    rows = rows_of(read_json(path))
            except FileNotFoundError:
                if place == 0:
                    continue
                raise UserError(f"{path} does not exist: run `avssl evaluate {folder}` first") from None
            except UserError as error:
                raise UserError(f"{error}: run `avssl evaluate {folder}` again") from None
            for row, value in rows.items():
                figures.setdefault(row, ([], []))[place].append(value)
    table = [[row, *(_over_runs(values, len(config.runs)) for values in pair)] for row, pair in figures.items()]
    text = "\n".join(markdown_table(["task", "before training", "trained"], table)) + "\n"
    console = Console(highlight=False)
    console.print(Markdown(text))
    if config.out:
        write_text(config.out, text)
        console.print(f"table {config.out}", soft_wrap=True, markup=False)
    return text


def _over_runs(values: list[float], runs: int) -> str:
    """The mean over the runs that have the result, in percent, and their number if some runs lack it."""
    if not values:
        return ""
    return mean_of(values).percent() + (f" ({len(values)} of {runs} runs)" if len(values) < runs else "")


def rows_of(figures: dict[str, Any]) -> dict[str, float]:
    """The results of an `evaluate.json` for its first column of labels: one number per task and view, by name."""
    column = figures["columns"][0]
    rows: dict[str, float] = {}
    for task, text in (("linear", "linear probe"), ("knn", f"{figures['k']}-NN")):
        rows |= {f"{text}, {view}": by[column] for view, by in (figures.get(task) or {}).items()}
    for view, by in (figures.get("few_shot") or {}).items():
        rows |= {f"{n}-shot, {view}": cell["mean"] for n, cell in by[column].items()}
    for k, recall in (figures.get("retrieval") or {}).get(column, {}).items():
        rows[f"video retrieval, R@{k}"] = recall
    across = (figures.get("cross_modal") or {}).get(column, {})
    for key, text in (("video_audio_others", "video → audio"), ("audio_video_others", "audio → video")):
        if key in across:
            rows[f"{text}, P@1"] = across[key]
    clusters = (figures.get("clustering") or {}).get(column, {"kmeans": {}})
    for name, evidence in clusters.get("labels", {}).get("evidence", {}).items():
        if evidence["chosen"] is not None:
            rows[f"cluster labels, {name}, NMI"] = evidence["chosen"]["metrics"]["nmi"]
    rows |= {f"k-means, {view}, NMI": metrics["nmi"]["mean"] for view, metrics in clusters["kmeans"].items()}
    for damage, by_evidence in (figures.get("robustness") or {}).get(column, {}).items():
        rows |= {f"NMI with {damage}, {name}": metrics["nmi"] for name, metrics in by_evidence.items()}
    tuned = (figures.get("finetune") or {}).get(column, {})
    rows |= {f"finetuned, per {name}": tuned[name] for name in ("video", "clip") if name in tuned}
    measured = {row: value for row, value in rows.items() if value is not None}
    for name, value in measured.items():
        if not is_number(value):
            raise TypeError(f"{name} is not a number")
    return measured


def _figures(folder: Path) -> dict[str, Any]:
    path = folder / "clusters" / "clustering.json"
    try:
        with figures_of(path):
            figures = read_json(path)
            reported = figures[figures["reported"]]
            metrics, floors = chosen_metrics(reported), reported.get("floors") or {}
            if not all(map(is_number, [*floors.values(), *([metrics["nmi"]] if metrics else [])])):
                raise TypeError("NMI is not a number")
            return reported
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: run `avssl clusters {folder}` first") from None
    except UserError as error:
        raise UserError(f"{error}: run `avssl clusters {folder}` again") from None


@contextmanager
def figures_of(path: Path) -> Iterator[None]:
    """Turn errors about a missing or invalid field of the results file `path` into a UserError that names the file."""
    try:
        yield
    except KeyError as error:
        raise UserError(f"{path} is damaged: it has no {str(error)[:100]}") from None
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        raise UserError(f"{path} is damaged ({str(error)[:100]})") from None


def chosen_metrics(figures: dict[str, Any]) -> dict[str, Any] | None:
    """The metrics of the joint labels of the head chosen without classes; None without classes.

    Args:
        figures: one split of `clustering.json`.
    """
    return figures["evidence"]["joint"]["heads"][figures["chosen_head"] or 0].get("metrics")


def _chosen_nmi(figures: dict[str, Any], folder: str) -> float:
    metrics = chosen_metrics(figures)
    if metrics is None:
        raise UserError(f"{folder} has no NMI, because its videos have no classes")
    return float(metrics["nmi"])
