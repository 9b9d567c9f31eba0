"""`clusters.html`: one file that shows the clusters, opens from disk and asks the network for nothing."""

import base64
import hashlib
import io
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

import numpy as np
from PIL import Image

from avssl.atomic import write_text
from avssl.evaluate.clustering import ClusteringTable
from avssl.evaluate.table import table_notes, table_rows
from avssl.export.assignments import Assignments


@dataclass
class Member:
    """A video shown on a card."""

    path: Path  # of the video file; a relative one is taken from the current folder
    class_name: str | None = None
    window_start: float = 0.0  # seconds; the link opens the video there
    confidence: float = float("nan")  # joint
    frames: np.ndarray | None = None  # uint8 [frames, height, width, 3]; None shows an empty tile


@dataclass
class ClusterCard:
    """A cluster with its most confident videos."""

    cluster: int
    size: int
    confidence: dict[str, float] = field(default_factory=dict)  # mean by evidence: joint, video, audio
    classes: dict[str, int] = field(default_factory=dict)  # videos by class; empty on unlabelled data
    members: list[Member] = field(default_factory=list)

    @property
    def majority(self) -> str | None:
        return max(self.classes, key=lambda name: (self.classes[name], name)) if self.classes else None

    @property
    def purity(self) -> float | None:
        """Share of the largest class among the videos that have one."""
        return max(self.classes.values()) / sum(self.classes.values()) if self.classes else None


@dataclass
class Page:
    run: str
    data: str
    clusters: int  # K
    cards: list[ClusterCard]
    table: ClusteringTable | None = None
    marginal: np.ndarray | None = None  # [K], sums to 1: the sizes asked for, in any order
    undecodable: int = 0
    notes: list[str] = field(default_factory=list)  # more facts for the header, as "head 3 of 10"


def make_cards(
    assignments: Assignments,
    head: int,
    thumbnails: int,
    frames: Callable[[int], np.ndarray | None],
    root: str | Path = "",
) -> list[ClusterCard]:
    """Cards of a head's non-empty clusters, in the order of their numbers.

    Args:
        thumbnails: most confident videos to show on a card; of several windows of one video only the best.
        frames: gives uint8 [frames, height, width, 3] (or None) for a row of the assignments; called per thumbnail.
        root: folder that the assignments' relative paths start from.
    """
    label, joint = assignments.label[:, head], assignments.confidence_joint[:, head]
    by_label = np.argsort(label, kind="stable")
    bounds = np.searchsorted(label[by_label], np.arange(assignments.clusters + 1))
    cards = []
    for cluster in range(assignments.clusters):
        rows = by_label[bounds[cluster] : bounds[cluster + 1]]
        if not len(rows):
            continue
        best: dict[str, int] = {}
        for row in rows[np.argsort(-joint[rows], kind="stable")].tolist():
            best.setdefault(assignments.path[row], row)
            if len(best) >= thumbnails:
                break
        evidence = {"joint": joint, "video": assignments.confidence_video[:, head]}
        evidence["audio"] = assignments.confidence_audio[:, head]
        cards.append(
            ClusterCard(
                cluster=cluster,
                size=len(rows),
                confidence={name: float(np.mean(values[rows])) for name, values in evidence.items()},
                classes=dict(Counter(c for row in rows if (c := assignments.classes[row]) is not None)),
                members=[
                    Member(
                        path=Path(root) / path,
                        class_name=assignments.classes[row],
                        window_start=float(assignments.window_start[row]),
                        confidence=float(joint[row]),
                        frames=frames(row),
                    )
                    for path, row in list(best.items())[:thumbnails]
                ],
            )
        )
    return cards


def write_page(path: str | Path, page: Page) -> Path:
    """Write the page as one HTML file.

    Every string from the data is escaped, and a content security policy allows no script but the page's own and no
    network at all, so that a file's name cannot become code.

    Raises:
        UserError: the folder cannot be made.
    """
    assets = files("avssl.export")
    style, script, document = ((assets / f"page.{kind}").read_text("utf-8") for kind in ("css", "js", "html"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    cards = sorted((card for card in page.cards if card.size), key=lambda card: (-card.size, card.cluster))
    has_classes = any(card.classes for card in cards)
    videos = sum(card.size for card in cards)
    facts = [f"{videos:,} videos", f"{page.clusters:,} clusters"]
    if len(cards) < page.clusters:
        facts.append(f"{page.clusters - len(cards):,} of them empty")
    facts += page.notes
    if page.undecodable:
        facts.append(f"{page.undecodable:,} files could not be decoded")
    sorts = ["size", "confidence", *(["purity"] if has_classes else []), "number"]
    text = Template(document).substitute(
        csp=f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
        style=style,
        script=script,
        run=_text(page.run),
        data=_text(page.data),
        facts="".join(f"<li>{_text(fact)}</li>" for fact in facts),
        table=_table(page.table) if page.table else "",
        sizes=_sizes(cards, page, videos),
        marginal_key='<span class="key marginal">asked for</span>' if page.marginal is not None else "",
        sorts="".join(f'<option value="{name}">{name}</option>' for name in sorts),
        shown=f"{len(cards):,}",
        cards="\n".join(_card(card) for card in cards),
    )
    path = Path(path)
    write_text(path, text.encode("utf-8", "replace").decode("utf-8"))  # a name that is not Unicode must not stop it
    return path


def _text(value: object) -> str:
    return escape(str(value), quote=True)


def _table(table: ClusteringTable) -> str:
    headings, rows = table_rows(table)
    head = "".join(f'<th scope="col">{_text(heading)}</th>' for heading in headings)
    body, some_plain = "", False
    for evidence in table.evidence:
        ranked = []  # the chosen head, the oracle, mean and sd, then the rest, which the page folds away
        for row in (row for row in rows if row[0] == evidence):
            chosen, oracle, summary = "*" in row[1], "†" in row[1], row[1] in ("mean", "sd")
            plain = len(table.evidence[evidence]) > 1 and not (chosen or oracle or summary)
            kind = "chosen" if chosen else "summary" if summary else "plain" if plain else ""
            ranked.append((0 if chosen else 1 if oracle else 2 if summary else 3, kind, row))
        for i, (_, kind, row) in enumerate(sorted(ranked, key=lambda entry: entry[0])):
            some_plain |= kind == "plain"
            cells = "".join(f"<td>{_text(cell)}</td>" for cell in row[1:])
            label = f'<th scope="row">{_text(row[0])}</th>' if i == 0 else "<td></td>"
            body += f'<tr class="{"starts " if i == 0 else ""}{kind}">{label}{cells}</tr>'
    fold = '<details class="all"><summary>every head</summary></details>' if some_plain else ""
    return (
        f'<section aria-labelledby="figures"><h2 id="figures">Figures</h2>{fold}<div class="scroll" tabindex="0">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        f'<p class="note">{_text(table_notes(table))}</p></section>'
    )


def _sizes(cards: list[ClusterCard], page: Page, videos: int) -> str:
    """Bars of the sizes, largest first, under the sorted marginal. The x unit is a cluster, the y unit the tallest."""
    asked = [] if page.marginal is None else (np.sort(np.asarray(page.marginal, dtype=float))[::-1] * videos).tolist()
    top = max([card.size for card in cards] + asked, default=1) or 1
    bars = "".join(
        f'<a href="#cluster-{card.cluster}" tabindex="-1"><rect x="{i + 0.08}" y="{100 - 100 * card.size / top:.2f}" '
        f'width="0.84" height="{100 * card.size / top:.2f}"><title>cluster {card.cluster}: {card.size:,} videos</title>'
        "</rect></a>"
        for i, card in enumerate(cards)
    )
    steps = " ".join(f"{x},{100 - 100 * y / top:.2f}" for i, y in enumerate(asked) for x in (i, i + 1))
    line = f'<polyline points="{steps}"/>' if asked else ""
    span = f"{cards[0].size:,} to {cards[-1].size:,}" if cards else "none"
    return (
        f'<svg viewBox="0 -2 {max(page.clusters, 1)} 102" preserveAspectRatio="none" role="img" '
        f'aria-label="Videos in a cluster, largest first: {span}">{bars}{line}</svg>'
    )


def _card(card: ClusterCard) -> str:
    purity = f"{card.purity:.0%}" if card.purity is not None else ""
    top = sorted(card.classes.items(), key=lambda item: (-item[1], item[0]))[:3]
    total = sum(card.classes.values())
    classes = "".join(
        f'<li style="--share:{count / total:.3f}"><span>{_text(name)}</span> <b>{count / total:.0%}</b></li>'
        for name, count in top
    )
    meters = "".join(
        f'<div title="mean confidence, {name}"><dt>{name}</dt><dd style="--share:{value:.3f}">{value:.2f}</dd></div>'
        for name, value in card.confidence.items()
        if value == value
    )
    joint = card.confidence.get("joint", 0.0)
    members = "".join(_member(member, card.majority) for member in card.members)
    return (
        f'<article class="card" id="cluster-{card.cluster}" data-number="{card.cluster}" '
        f'data-size="{card.size}" data-confidence="{joint:.6f}" data-purity="{card.purity or 0:.6f}" '
        f'data-classes="{_text(" ".join(name for name, _ in top).lower())}" aria-labelledby="name-{card.cluster}">'
        f'<header><h3 id="name-{card.cluster}"><span class="number">{card.cluster}</span> '
        f"{_text(card.majority) if card.majority is not None else ''}</h3>"
        f"<p>{f'<b>{purity}</b> pure · ' if purity else ''}{card.size:,} video{'s' * (card.size != 1)}</p></header>"
        f"<dl>{meters}</dl>"
        + (f'<ul class="classes">{classes}</ul>' if classes else "")
        + f'<ul class="members">{members}</ul></article>'
    )


def _member(member: Member, majority: str | None) -> str:
    name = member.path.name
    link = Path(os.path.abspath(member.path)).as_uri()
    if member.window_start > 0:
        link += f"#t={member.window_start:g}"
    caption = [name, *([member.class_name] if member.class_name is not None else [])]
    if member.window_start > 0:
        caption.append(f"from {member.window_start:g} s")
    if member.confidence == member.confidence:
        caption.append(f"confidence {member.confidence:.2f}")
    other = majority is not None and member.class_name is not None and member.class_name != majority
    search = " ".join([name, member.class_name or ""]).lower()
    return (
        f'<li data-search="{_text(search)}"{" class=other" if other else ""}>'
        f'<a href="{_text(link)}" title="{_text(" · ".join(caption))}">{_strip(member.frames, name)}'
        f'<span class="name">{_text(name)}</span></a></li>'
    )


def _strip(frames: np.ndarray | None, name: str) -> str:
    """The frames side by side in one JPEG, of which the tile shows one; the style plays the others on hover."""
    if frames is None or len(frames) == 0:
        return '<span class="strip none">no preview</span>'
    count, height, width, _ = frames.shape
    with io.BytesIO() as buffer:
        strip = np.ascontiguousarray(frames.transpose(1, 0, 2, 3).reshape(height, count * width, 3))
        Image.fromarray(strip).save(buffer, "JPEG", quality=80, optimize=True)
        data = base64.b64encode(buffer.getvalue()).decode()
    return (
        f'<span class="strip{" plays" if count > 1 else ""}" style="--frames:{count};--middle:{count // 2};'
        f'--aspect:{width}/{height}"><img src="data:image/jpeg;base64,{data}" alt="{_text(name)}"></span>'
    )
