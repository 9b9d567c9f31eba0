"""What a user made of the clusters: their names, which are one, and which are to be left out."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.errors import UserError
from ..core.untrusted import read_json

VERSION = 1
MARKS = ("star", "reject")
REJECTED = "of a rejected cluster"
MOST = 10**9
"""Clusters have smaller numbers."""


@dataclass
class Names:
    """The names file that the explorer gives to download, as `read_names` checked it.

    `clusters` holds a dict for each cluster that something was said of: `name`, `into` (the cluster that it is merged
    into), `mark` (star or reject) and `note`, as far as they were given.
    """

    clusters: dict[int, dict[str, Any]] = field(default_factory=dict)
    run: str = ""
    step: int | None = None
    head: int | None = None

    def target(self, cluster: int) -> int:
        """The cluster that this one is merged into, itself where it is not."""
        while "into" in (said := self.clusters.get(cluster, {})):
            cluster = said["into"]
        return cluster

    def name(self, cluster: int) -> str | None:
        """Its name, or that of the cluster that it is merged into."""
        return self.clusters.get(self.target(cluster), {}).get("name")

    def title(self, cluster: int) -> str:
        """Its name, or one that is made of its number."""
        return self.name(cluster) or f"cluster_{self.target(cluster):03d}"

    def rejected(self, cluster: int) -> bool:
        """Is it, or what it is merged into, to be left out?"""
        return "reject" in (self.clusters.get(c, {}).get("mark") for c in (cluster, self.target(cluster)))

    def to_dict(self) -> dict[str, Any]:
        """As the file holds it."""
        said = {str(cluster): value for cluster, value in sorted(self.clusters.items())}
        return {"avssl_names": VERSION, "run": self.run, "step": self.step, "head": self.head, "clusters": said}

    def check(self, step: int | None, head: int, clusters: int) -> None:
        """UserError where the names were given to clusters of another step or head, or to ones that are not there."""
        for what, ours, theirs in (("step", self.step, step), ("head", self.head, head)):
            if ours is not None and ours != theirs:
                raise UserError(
                    f"the names are of {what} {ours}, and these clusters of {what} {theirs}, where numbers mean other "
                    f"things: name these in the explorer"
                )
        named = {c for cluster, said in self.clusters.items() for c in (cluster, said.get("into", 0))}
        beyond = sorted(c for c in named if c >= clusters)
        if beyond:
            raise UserError(
                f"the names are of cluster {beyond[0]}, and there are {clusters} (from 0): another run's file?"
            )


def read_names(path: str | Path) -> Names:
    """A names file. UserError for one that is missing, is something else, or whose merges go round in a circle."""
    try:
        found = read_json(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): download it in the explorer") from None
    except UserError as error:
        raise UserError(f"{error}: download it in the explorer") from None
    if (
        not isinstance(found, dict)
        or found.get("avssl_names") != VERSION
        or not isinstance(found.get("clusters"), dict)
    ):
        raise UserError(f'{path} is no names file: it needs "avssl_names": {VERSION} and "clusters"')
    clusters = {}
    for key, said in found["clusters"].items():
        if not re.fullmatch(r"0|[1-9]\d{0,8}", key, re.ASCII):
            raise UserError(f"{path}: {key[:40]!r} is no cluster number")
        clusters[int(key)] = _checked(path, key, said)
    for field_name in ("step", "head"):
        value = found.get(field_name)
        if value is not None and type(value) is not int:
            raise UserError(f"{path}: {field_name} is {repr(value)[:60]}, which is no number")
    names = Names(clusters, str(found.get("run", "")), found.get("step"), found.get("head"))
    _refuse_circles(path, names)
    return names


def _checked(path: str | Path, key: str, said: Any) -> dict[str, Any]:
    kinds: dict[str, type] = {"name": str, "note": str, "mark": str, "into": int}
    if not isinstance(said, dict):
        raise UserError(f'{path}: cluster {key} must be an object, as {{"name": …}}')
    said = {k: v for k, v in said.items() if v is not None and v != ""}
    for field_name, value in said.items():
        if field_name not in kinds:
            raise UserError(f"{path}: cluster {key} has {field_name[:60]!r}, which is none of {', '.join(kinds)}")
        kind = kinds[field_name]
        if type(value) is not kind or (isinstance(value, int) and not 0 <= value < MOST):  # True is no number
            raise UserError(f"{path}: {field_name} of cluster {key} is {repr(value)[:60]}")
        if isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value):
            raise UserError(f"{path}: {field_name} of cluster {key} is {repr(value)[:60]}, which is no text")
    if said.get("mark", MARKS[0]) not in MARKS:
        raise UserError(f"{path}: mark of cluster {key} is {said['mark'][:60]!r}: one of {', '.join(MARKS)}")
    if "name" in said:
        said["name"] = " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", said["name"]).split())
    return {k: v for k, v in said.items() if v != "" and not (k == "into" and v == int(key))}


def _refuse_circles(path: str | Path, names: Names) -> None:
    for start in names.clusters:
        seen, at = {start}, start
        while "into" in (said := names.clusters.get(at, {})):
            at = said["into"]
            if at in seen:
                raise UserError(f"{path}: cluster {start} is merged into others in a circle: take one of them out")
            seen.add(at)
