"""Which names say which split: `Train`, `train_256`, `val_256_new`, `testset`, `k400_train` beside `k400_val`."""

import re
from collections.abc import Iterable
from typing import NamedTuple

ALL = "all"
"""The split of data that has none."""

TRAIN, VAL, TEST = "train", "val", "test"
USUAL = (ALL, TEST, TRAIN, VAL)

_WORDS = {
    **dict.fromkeys(("train", "training", "trn", "trainval"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "validate", "validating", "dev", "devel", "development"), VAL),
    **dict.fromkeys(("test", "testing", "tst"), TEST),
}
EITHER = "either"
_EITHER = {"eval", "evaluation", "evaluate", "heldout", "holdout"}
"""The test split, unless another folder is named as that: then the validation split."""
_FILLERS = {
    *("set", "sets", "split", "splits", "subset", "part", "fold", "data", "dataset", "list", "frames", "v", "p", "px"),
    *("video", "videos", "clip", "clips", "movie", "movies", "file", "files", "sample", "samples", "fps", "s", "x"),
    *("new", "old", "full", "small", "mini", "tiny", "large", "raw", "final", "original", "orig", "org", "resized"),
    *("compressed", "processed"),
}
"""Words beside a split's name that do not change what it says; digits are others."""
_COMPOUND = re.compile(
    f"({'|'.join(sorted([*_WORDS, *_EITHER], key=len, reverse=True))})"
    "(?:sets?|splits?|data|videos?|clips?|files?|list|dir|folder)"
)


_HINT = re.compile("tr|val|dev|te?st|h[eo]ld", re.IGNORECASE)
"""In every name of a split, and in few others: there may be a million folders."""


class Reading(NamedTuple):
    """What a name says: a split (or EITHER of test and val), and the words that say something else."""

    split: str
    rest: tuple[str, ...]


def read_name(name: str) -> Reading | None:
    """The split that a name speaks of; None where it speaks of none, or of two."""
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
    if set(splits) == {TRAIN, VAL}:  # train_val: both for training
        splits = [TRAIN]
    return Reading(splits[0], tuple(rest)) if len(set(splits)) == 1 else None


def _split_of(word: str) -> str | None:
    compound = _COMPOUND.fullmatch(word)
    word = compound[1] if compound else word
    return _WORDS.get(word) or (EITHER if word in _EITHER else None)


def plain_split(name: str) -> str | None:
    """train, val or test, where a name says that and nothing else (`Validation`, `test_2`, `eval`); else None."""
    reading = read_name(name)
    if reading is None or reading.rest:
        return None
    return TEST if reading.split == EITHER else reading.split


def find_split(there: Iterable[str], name: str) -> str | None:
    """The split of those that are `there` which somebody means who says `name`: its own name, or what that says."""
    splits = list(there)
    if name in splits:
        return name
    said = plain_split(name)
    return said if said in splits else None


def reported_split(there: Iterable[str], test: str, train: str) -> str:
    """The split of those that are `there` (one at least) whose figures stand for a run: `test`; where there is none,
    another that is named as a test split, then the validation split, then `train`."""
    splits = list(there)
    trained = find_split(splits, train)
    held_out: dict[str, list[str]] = {}
    for split in splits:
        if split != trained and (reading := read_name(split)):
            held_out.setdefault(TEST if reading.split == EITHER else reading.split, []).append(split)
    named = [*held_out.get(TEST, []), *held_out.get(VAL, [])]
    return find_split(splits, test) or next(iter(named), None) or trained or splits[0]


class Named(NamedTuple):
    """Folders that are named as splits: which split each is, and how far that goes."""

    splits: dict[str, str]
    kinds: set[str]
    """Of train, val and test, those that are named."""
    sure: bool
    """Says a name nothing but the split, or is each named in the same way?"""


def name_splits(names: Iterable[str]) -> Named:
    """The splits that folders side by side are named as; folders of other names are not among them.

    A split has the name train, val or test where one folder is named as that, or several whose names say nothing else
    (`train_1`, `train_2`). Otherwise (`test_seen`, `test_unseen`) each is a split by its own name.
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
"""Names of an index's other tables."""


def own_split(name: str) -> str:
    """A split by a folder's own name, as the index's files are called: short, and none of the other tables' names."""
    name = name[:60]
    return f"{name}_split" if name.casefold() in RESERVED else name
