"""The results of an evaluation as tables, on the terminal and in LaTeX."""

import math
from collections.abc import Iterable
from typing import Any

from rich import box
from rich.table import Table

from ..core.screen import Console, unsigned_zero
from ..core.verbosity import is_verbose
from .published import published_figures

PROBES = {"linear": "linear probe", "knn": "{k}-NN"}
"""Column headings of tasks whose name needs an explanation."""
CLUSTERING = {"nmi": "NMI", "ami": "AMI", "ari": "ARI", "accuracy": "accuracy", "purity": "purity"}
FEW = {"nmi": "NMI", "ami": "AMI", "accuracy": "accuracy"}
"""The columns of the clustering tables in a terminal of 80 columns; -v prints all of `CLUSTERING`."""


def show(figures: dict[str, Any], console: Console) -> None:
    """Print a table, in percent, for every task with results."""
    for table in tables(figures, CLUSTERING if is_verbose() else FEW):
        title, table.title = str(table.title), None  # apart: rich would wrap it at the table's width
        console.print(f"\n{title}", style="italic", markup=False)
        console.print(table)
    if same := every_video(figures):
        console.print(f"no ± for {same}: every draw is the same, because no class has more videos")
    console.print()
    if figures.get("cross_modal", 0) is None:
        why = "the model has no embeddings of both modalities (contrast and joint-embedding prediction have)"
        console.print(f"no cross-modal retrieval: {'videos have no audio' if figures.get('mute') else why}")
    for column, scores in (figures.get("cross_modal") or {}).items():
        for name, text in (("video_audio", "video → audio"), ("audio_video", "audio → video")):
            overall, others, own = (_percent(scores[name + kind]) or "–" for kind in ("", "_others", "_instance"))
            console.print(
                f"{text}: the nearest neighbour has the same {column} for {overall} % (P@1; {others} % among other "
                f"videos), and belongs to the same video for {own} %"
            )


def result_line(figures: dict[str, Any]) -> str:
    """The main figures in one line, in percent, for the first column of labels; empty if there are none."""
    column, parts = figures["columns"][0], []
    for task, name in (("linear", "linear probe"), ("knn", f"{figures['k']}-NN")):
        by_view = figures.get(task) or {}
        view = next((view for view in ("both", "video", "audio", "features") if view in by_view), None)
        if view is not None and (value := _percent(by_view[view].get(column))):
            parts.append(f"{name} {value} ({view})")
    recalls = (figures.get("retrieval") or {}).get(column) or {}
    for k, recall in list(recalls.items())[:1]:
        parts.append(f"R@{k} {_percent(recall)} ({'features' if figures.get('features') else 'video'})")
    result = (figures.get("clustering") or {}).get(column) or {}
    joint = (result.get("labels") or {}).get("evidence", {}).get("joint") or {}
    if joint.get("chosen"):
        parts.append(f"NMI of the clusters {_percent(joint['chosen']['metrics']['nmi'])}")
    tuned = (figures.get("finetune") or {}).get(column) or {}
    if tuned.get("video") is not None:
        parts.append(f"finetuned {_percent(tuned['video'])} (video)")
    return " · ".join(parts)


def tables(figures: dict[str, Any], clustering: dict[str, str] | None = None) -> list[Table]:
    """A table for every task with results.

    Args:
        figures: the results of an evaluation.
        clustering: the columns of the clustering tables; by default all of `CLUSTERING`.
    """
    clustering = CLUSTERING if clustering is None else clustering
    made, columns = [], figures["columns"]
    split = f"the {(figures.get('splits') or {}).get('test', 'test')} split"
    # one column of labels stands in the title, several above their figures
    of, above = (f" of the {columns[0]}", "") if len(columns) == 1 else ("", "{column}\n")
    shown = [name for name, scores in figures.items() if _by_view(scores, columns)]
    probes = {name: PROBES.get(name, name).format(k=figures["k"]) for name in shown}
    if probes:
        heads = [above.format(column=c) + text for c in columns for text in probes.values()]
        grid = _grid(f"accuracy{of} on {split}, %", ["features", *heads])
        for view in figures[next(iter(probes))]:
            grid.add_row(view, *(_percent(figures[p][view][c]) for c in columns for p in probes))
        made.append(grid)
    if figures.get("few_shot"):
        shots = list(next(iter(figures["few_shot"].values()))[columns[0]])
        draws = _repeats(figures, next(iter(figures["few_shot"].values()))[columns[0]][shots[0]], "draws of them")
        grid = _grid(
            f"accuracy{of} on {split} from a few labelled videos per class, %, ± half of the 95 % interval {draws}",
            ["features", *(f"{above.format(column=c)}{n}-shot" for c in columns for n in shots)],
        )
        for view, by_column in figures["few_shot"].items():
            cells = [by_column[c][n] for c in columns for n in shots]
            grid.add_row(view, *(_interval(cell) for cell in cells))
        made.append(grid)
    if figures.get("retrieval"):
        published = published_figures(figures["data"], "retrieval")
        ks = list(next(iter(figures["retrieval"].values())))
        by = "these features" if figures.get("features") else "the video encoder"
        title = f"retrieval by {by}: recall at k on {split}, %"
        grid = _grid(title, ["one of k neighbours has", *(f"R@{k}" for k in ks)])
        for column, recalls in figures["retrieval"].items():
            grid.add_row(f"the same {column}", *(_percent(recalls[k]) for k in ks))
        for name, values in published.items():
            grid.add_row(f"{name} (published)", *(_percent(values.get(k)) for k in ks))
        made.append(grid)
    for column, result in (figures.get("clustering") or {}).items():
        first: dict[str, Any] = next(iter(result["kmeans"].values()), {"nmi": {}})["nmi"]
        starts = f"; of k-means ± half of the 95 % interval {_repeats(figures, first, 'starts')}" if first else ""
        grid = _grid(
            f"clustering of {split} against {column}, %{starts}", ["clusters", *clustering.values()], whole=True
        )
        for name, values in _clusterings(result):
            grid.add_row(name, *(values.get(m, "") for m in clustering))
        for name, numbers in published_figures(figures["data"], "clustering").items():
            grid.add_row(f"{name} (published)", *(_percent(numbers.get(m)) for m in clustering))
        made.append(grid)
    if figures.get("robustness"):
        made += _robustness(figures["robustness"])
    if figures.get("finetune"):
        grid = _grid(
            f"video encoder, finetuned: accuracy on {split}, %; ours after the last epoch, published ones at the best "
            "epoch on that split",
            ["accuracy of the", "per video", "per clip"],
        )
        for column, values in figures["finetune"].items():
            grid.add_row(column, _percent(values["video"]), _percent(values["clip"]))
        for name, numbers in published_figures(figures["data"], "finetune").items():
            grid.add_row(f"{name} (published, best epoch)", _percent(numbers.get("video")), "")
        made.append(grid)
    return made


def _by_view(scores: Any, columns: list[str]) -> bool:
    """Whether a task has one number per view of the features and column of labels, like a probe."""
    if not scores or not isinstance(scores, dict):
        return False
    return all(
        isinstance(row, dict) and list(row) == columns and not any(isinstance(x, dict) for x in row.values())
        for row in scores.values()
    )


def every_video(figures: dict[str, Any]) -> str:
    """The numbers of shots for which all draws are the same videos, in words."""
    by_column: dict[str, Any] = next(iter((figures.get("few_shot") or {}).values()), {})
    cells = by_column.get(figures["columns"][0]) or {}
    return ", ".join(f"{n}-shot" for n, cell in cells.items() if cell["mean"] is not None and cell["half"] is None)


def _clusterings(result: dict[str, Any]) -> Iterable[tuple[str, dict[str, str]]]:
    for name, evidence in result.get("labels", {}).get("evidence", {}).items():
        if len(evidence["heads"]) > 1 and evidence["mean"].get("nmi") is not None:
            spread = {m: {"mean": evidence["mean"].get(m), "half": evidence["sd"].get(m)} for m in CLUSTERING}
            yield f"{len(evidence['heads'])} heads ± sd, {name}", {m: _interval(cell) for m, cell in spread.items()}
        if evidence["chosen"] is not None:
            metrics = evidence["chosen"]["metrics"]
            yield f"chosen head, {name}", {m: _percent(metrics[m]) for m in CLUSTERING}
    for name, metrics in result["kmeans"].items():
        yield f"k-means, {name}", {m: _interval(metrics[m]) for m in CLUSTERING}


def _robustness(by_column: dict[str, Any]) -> list[Table]:
    made = []
    for column, by_damage in by_column.items():
        evidence = list(next(iter(by_damage.values())))
        grid = _grid(f"clustering of degraded clips, NMI against {column}, %", ["degradation", *evidence])
        for damage, values in by_damage.items():
            grid.add_row(damage, *(_percent(values[e]["nmi"]) for e in evidence))
        made.append(grid)
    return made


def _repeats(figures: dict[str, Any], cell: dict[str, Any], what: str) -> str:
    """What an interval is over, in words."""
    folds = f", each the mean over {len(figures['folds'])} folds" if len(figures["folds"]) > 1 else ""
    return f"over {len(cell.get('values') or [])} {what}{folds}"


def _grid(title: str, heads: list[str], whole: bool = False) -> Table:
    """An empty table. With `whole`, only the cells of the first column may wrap."""
    grid = Table(box=box.SIMPLE_HEAD, show_edge=False, title=title, title_justify="left", padding=(0, 1 - whole, 0, 1))
    for i, head in enumerate(heads):
        grid.add_column(head, justify="right" if i else "left", no_wrap=whole and i > 0)
    return grid


def _percent(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else unsigned_zero(f"{100 * value:.1f}")


def _interval(cell: dict[str, Any]) -> str:
    half = cell.get("half")
    return _percent(cell["mean"]) + (f" ± {100 * half:.1f}" if half is not None and half < float("inf") else "")


def latex(figures: dict[str, Any]) -> str:
    """All tables as LaTeX `tabular`s with booktabs rules."""
    parts = []
    for table in tables(figures):
        heads = [str(c.header).replace("\n", " ") for c in table.columns]
        rows = zip(*(list(c.cells) for c in table.columns), strict=True)
        lines = [" & ".join(_tex(str(cell)) for cell in row) + r" \\" for row in rows]
        parts.append(
            f"% {table.title}\n\\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}\n\\toprule\n"
            + " & ".join(map(_tex, heads)) + " \\\\\n\\midrule\n" + "\n".join(lines)
            + "\n\\bottomrule\n\\end{tabular}\n"
        )  # fmt: skip
    return "\n".join(parts)


TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}", "{": r"\{", "}": r"\}", "±": r"$\pm$", "→": r"$\to$",
}  # fmt: skip


def _tex(text: str) -> str:
    return "".join(TEX.get(c, c) for c in text)
