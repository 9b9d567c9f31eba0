"""Recognise names of splits: `Train`, `train_256`, `val_256_new`, `testset`, `k400_train` beside `k400_val`."""

import re
from collections.abc import Iterable
from typing import NamedTuple

ALL = "all"
"""The split of all videos in data without splits."""

TRAIN, VAL, TEST = "train", "val", "test"
USUAL = (ALL, TEST, TRAIN, VAL)

_WORDS = {
    **dict.fromkeys(("train", "training", "trn", "trainval"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "validate", "validating", "dev", "devel", "development"), VAL),
    **dict.fromkeys(("test", "testing", "tst"), TEST),
}
EITHER = "either"
_EITHER = {"eval", "evaluation", "evaluate", "heldout", "holdout"}
"""Names of the test split, or of the validation split if another folder is the test split."""
_FILLERS = {
    *("set", "sets", "split", "splits", "subset", "part", "fold", "data", "dataset", "list", "frames", "v", "p", "px"),
    *("video", "videos", "clip", "clips", "movie", "movies", "file", "files", "sample", "samples", "fps", "s", "x"),
    *("new", "old", "full", "small", "mini", "tiny", "large", "raw", "final", "original", "orig", "org", "resized"),
    *("compressed", "processed"),
}
"""Words beside a split's name that do not change its meaning. Digits do not change it either."""
_COMPOUND = re.compile(
    f"({'|'.join(sorted([*_WORDS, *_EITHER], key=len, reverse=True))})"
    "(?:sets?|splits?|data|videos?|clips?|files?|list|dir|folder)"
)


_HINT = re.compile("tr|val|dev|te?st|h[eo]ld", re.IGNORECASE)
"""A quick test that all names of splits pass, and few others, because there may be a million folders."""


class Reading(NamedTuple):
    """The meaning of a name: a split (or EITHER of test and val), and the words with another meaning."""

    split: str
    rest: tuple[str, ...]


def read_name(name: str) -> Reading | None:
    """The split in a name; None if it contains none, or two."""
    if not _HINT.search(name):
        return None
    name = re.sub(r"h([eo])ld[\W_]*out", r"h\1ldout", name, flags=re.IGNORECASE)
    splits: list[str] = []
    rest: list[str] = []
    for chunk in re.findall(r"[^\W\d_]+", name):
        whole = _split_of(chunk.casefold())
        words = [chunk] if whole else re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[^\W\d_A-Za-z]+", chunk)
        for word in words:
            split = _split_of(word.casefold())
            if split:
                splits.append(split)
            elif word.casefold() not in _FILLERS:
                rest.append(word.casefold())
    if set(splits) == {TRAIN, VAL}:  # train_val: all of it is for training
        splits = [TRAIN]
    return Reading(splits[0], tuple(rest)) if len(set(splits)) == 1 else None


def _split_of(word: str) -> str | None:
    compound = _COMPOUND.fullmatch(word)
    word = compound[1] if compound else word
    return _WORDS.get(word) or (EITHER if word in _EITHER else None)


def plain_split(name: str) -> str | None:
    """train, val or test if a name means only that (`Validation`, `test_2`, `eval`); else None."""
    reading = read_name(name)
    if reading is None or reading.rest:
        return None
    return TEST if reading.split == EITHER else reading.split


def find_split(names: Iterable[str], name: str) -> str | None:
    """The split among `names` that `name` means: the same name, or train, val or test by its meaning; None if none."""
    splits = list(names)
    if name in splits:
        return name
    meant = plain_split(name)
    return meant if meant in splits else None


def reported_split(names: Iterable[str], test: str, train: str) -> str:
    """The split among `names` (at least one) whose results represent a run.

    It is `test`; if that is missing, another test split by its name, then the validation split, then `train`.
    """
    splits = list(names)
    trained = find_split(splits, train)
    held_out: dict[str, list[str]] = {}
    for split in splits:
        if split != trained and (reading := read_name(split)):
            held_out.setdefault(TEST if reading.split == EITHER else reading.split, []).append(split)
    named = [*held_out.get(TEST, []), *held_out.get(VAL, [])]
    return find_split(splits, test) or next(iter(named), None) or trained or splits[0]


class Named(NamedTuple):
    """Folders whose names are names of splits."""

    splits: dict[str, str]
    """The split of each folder."""
    kinds: set[str]
    """Which of train, val and test occur."""
    sure: bool
    """Whether a name means nothing but a split, or all splits are named in the same way."""


def name_splits(names: Iterable[str]) -> Named:
    """The splits in the names of sibling folders, without the folders that have other names.

    A split is called train, val or test if one folder has that meaning, or several whose names mean nothing else
    (`train_1`, `train_2`). Otherwise (`test_seen`, `test_unseen`) each folder is a split under its own name.
    """
    read = {name: reading for name in names if (reading := read_name(name)) is not None}
    strict = {r.split for r in read.values() if not r.rest}
    either = TEST if not any(r.split == TEST for r in read.values()) else VAL
    by_kind: dict[str, dict[tuple[str, ...], list[str]]] = {}
    for name, reading in read.items():
        kind = either if reading.split == EITHER else reading.split
        by_kind.setdefault(kind, {}).setdefault(reading.rest, []).append(name)
    splits: dict[str, str] = {}
    for kind, by_rest in by_kind.items():
        for rest, same in by_rest.items():
            plainly = not rest or len(by_rest) == 1
            splits |= {name: kind if plainly else own_split(name) for name in same}
    rests = [set(by_rest) for by_rest in by_kind.values()]
    alike = len(rests) > 1 and all(r == rests[0] for r in rests)
    return Named(splits, set(by_kind), bool(strict) or alike)


RESERVED = ("rejects", "doctor", "missing", "unlisted", "shards")
"""Names of the other tables in an index's folder."""


def own_split(name: str) -> str:
    """A folder's name as the name of a split and of its table: shortened, and unlike the names in `RESERVED`."""
    name = name[:60]
    return f"{name}_split" if name.casefold() in RESERVED else name
