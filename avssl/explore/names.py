"""The user's names, merges and rejections of clusters."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.errors import UserError
from ..core.printable import warn
from ..core.untrusted import read_json

VERSION = 1
MARKS = ("star", "reject")
REJECTED = "of a rejected cluster"
DIGEST = 16
"""Characters of a model's digest that names and assignments keep."""

MAX_CLUSTER = 10**9
"""Largest number of a cluster."""


@dataclass
class Names:
    """A names.json from the explorer, checked by `read_names`.

    `clusters` has a dict for each cluster with an entry: `name`, `into` (the cluster that it is merged into), `mark`
    (star or reject) and `note`, as far as they are given.
    """

    clusters: dict[int, dict[str, Any]] = field(default_factory=dict)
    run: str = ""
    step: int | None = None
    head: int | None = None
    model: str = ""
    """The digest of the model whose clusters are named; empty in files of earlier versions."""

    def target(self, cluster: int) -> int:
        """The cluster that this one is merged into; itself if it is not merged."""
        while "into" in (entry := self.clusters.get(cluster, {})):
            cluster = entry["into"]
        return cluster

    def name(self, cluster: int) -> str | None:
        """The cluster's name, or that of the cluster that it is merged into."""
        return self.clusters.get(self.target(cluster), {}).get("name")

    def title(self, cluster: int) -> str:
        """The cluster's name, or a name made from its number."""
        return self.name(cluster) or f"cluster_{self.target(cluster):03d}"

    def rejected(self, cluster: int) -> bool:
        """Whether the cluster, or the cluster that it is merged into, is rejected."""
        return "reject" in (self.clusters.get(c, {}).get("mark") for c in (cluster, self.target(cluster)))

    def to_dict(self) -> dict[str, Any]:
        """The contents of names.json."""
        entries = {str(cluster): value for cluster, value in sorted(self.clusters.items())}
        about = {"run": self.run, "model": self.model, "step": self.step, "head": self.head}
        return {"avssl_names": VERSION, **about, "clusters": entries}

    def check(self, step: int | None, head: int, clusters: int, model: str = "", run: str = "") -> None:
        """Raise UserError if the names belong to clusters of another model, step or head, or to clusters beyond K.

        Args:
            step, head, clusters: of the present clusters.
            model: the digest of their model.
            run: their run folder. Names of an earlier version, without a digest, are only warned about.
        """
        if self.model and model and self.model != model:
            of_run = f" ({self.run})" if self.run else ""
            raise UserError(
                f"names.json names the clusters of another model{of_run}: name these clusters on their page, or give "
                f"the run that was named"
            )
        if self.run and run and not self.model and Path(self.run).name != Path(run).name:
            warn(f"names.json was made for the clusters of {self.run}: are these the same clusters?")
        for what, named_at, current in (("step", self.step, step), ("head", self.head, head)):
            if named_at is not None and named_at != current:
                raise UserError(
                    f"names.json is from {what} {named_at}, but these clusters are from {what} {current}, which "
                    f"numbers clusters differently: name these clusters on their page"
                )
        named = {c for cluster, entry in self.clusters.items() for c in (cluster, entry.get("into", 0))}
        beyond = sorted(c for c in named if c >= clusters)
        if beyond:
            raise UserError(
                f"names.json names cluster {beyond[0]}, but there are only {clusters}, counted from 0: is it another "
                "run's file?"
            )


def read_names(path: str | Path) -> Names:
    """Read a names.json.

    Raises:
        UserError: the file is missing, is not a names file, or merges clusters in a circle.
    """
    try:
        content = read_json(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): download it from the page of clusters") from None
    except UserError as error:
        raise UserError(f"{error}: download it from the page of clusters") from None
    if (
        not isinstance(content, dict)
        or content.get("avssl_names") != VERSION
        or not isinstance(content.get("clusters"), dict)
    ):
        raise UserError(f'{path} is not a names file: it needs "avssl_names": {VERSION} and "clusters"')
    clusters = {}
    for key, entry in content["clusters"].items():
        if not re.fullmatch(r"0|[1-9]\d{0,8}", key, re.ASCII):
            raise UserError(f"{path}: {key[:40]!r} is not a cluster number")
        clusters[int(key)] = _checked(path, key, entry)
    for field_name in ("step", "head"):
        value = content.get(field_name)
        if value is not None and type(value) is not int:
            raise UserError(f"{path}: {field_name} is {repr(value)[:60]}, which is not a number")
    run, model = (str(content.get(name) or "") for name in ("run", "model"))
    names = Names(clusters, run, content.get("step"), content.get("head"), model)
    _refuse_circles(path, names)
    return names


def _checked(path: str | Path, key: str, entry: Any) -> dict[str, Any]:
    kinds: dict[str, type] = {"name": str, "note": str, "mark": str, "into": int}
    if not isinstance(entry, dict):
        raise UserError(f'{path}: cluster {key} must be an object, as {{"name": …}}')
    entry = {k: v for k, v in entry.items() if v is not None and v != ""}
    for field_name, value in entry.items():
        if field_name not in kinds:
            raise UserError(f"{path}: cluster {key} has {field_name[:60]!r}, which is not one of {', '.join(kinds)}")
        kind = kinds[field_name]
        # the exact type, because True is also an int
        if type(value) is not kind or (isinstance(value, int) and not 0 <= value < MAX_CLUSTER):
            raise UserError(f"{path}: {field_name} of cluster {key} is {repr(value)[:60]}")
        if isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value):
            raise UserError(f"{path}: {field_name} of cluster {key} is {repr(value)[:60]}, which is not valid Unicode")
    if entry.get("mark", MARKS[0]) not in MARKS:
        raise UserError(f"{path}: mark of cluster {key} is {entry['mark'][:60]!r}, not one of {', '.join(MARKS)}")
    if "name" in entry:
        entry["name"] = " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", entry["name"]).split())
    return {k: v for k, v in entry.items() if v != "" and not (k == "into" and v == int(key))}


def _refuse_circles(path: str | Path, names: Names) -> None:
    for start in names.clusters:
        seen, at = {start}, start
        while "into" in (entry := names.clusters.get(at, {})):
            at = entry["into"]
            if at in seen:
                raise UserError(f"{path}: cluster {start} is merged in a circle: remove one of the merges")
            seen.add(at)
