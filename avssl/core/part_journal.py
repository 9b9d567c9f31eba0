"""Journals of the parts of a command: each part writes its own file, and the command takes over all of them."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .journal import Journal
from .out_folder import folder_lock
from .part import Part

Valid = Callable[[dict[str, Any]], bool]


def part_path(path: Path, part: Part) -> Path:
    """The file of a part beside that of the command: `probes_003_of_064.jsonl` for part 3 of 64 of `probes.jsonl`."""
    return path.with_name(f"{path.stem}_{part.number:03d}_of_{part.of:03d}{path.suffix}")


@contextmanager
def part_journal(path: Path, part: Part, version: int, valid: Valid) -> Iterator[tuple[Journal, "PartJournals"]]:
    """A context that opens the journal of a part, locked, and what the command and other partitions have written.

    Raises:
        UserError: the command itself, or another process of this part, is writing to the folder.
    """
    own = part_path(path, part)
    with (
        folder_lock(path.parent, shared=True),
        folder_lock(path.parent, name=own.name),
        Journal(own, version, valid) as journal,
        PartJournals(path, version, valid, part.of) as others,
    ):
        if path.exists():
            others.journals.insert(0, Journal(path, version, valid, read_only=True))
        yield journal, others


class PartJournals:
    """The entries that the parts of a command have written; nothing is changed. Use it as a context.

    Args:
        path: the journal of the command.
        version, valid: as of `Journal`.
        except_of: skip partitions into this many parts: a part has no file of another one's.
    """

    def __init__(self, path: Path, version: int, valid: Valid, except_of: int = 0):
        form = re.compile(rf"{re.escape(path.stem)}_\d+_of_(\d+){re.escape(path.suffix)}")
        found = {p: form.fullmatch(p.name) for p in sorted(path.parent.glob("*_of_*")) if p.is_file()}
        paths = [p for p, match in found.items() if match and int(match[1]) != except_of]
        self.journals = [Journal(p, version, valid, read_only=True) for p in paths]

    def __enter__(self) -> "PartJournals":
        return self

    def __exit__(self, *_: object) -> None:
        for journal in self.journals:
            journal.__exit__()

    def entries(self, path: str) -> Iterator[dict[str, Any]]:
        """The entry of `path` in each journal that has one."""
        for journal in self.journals:
            entry = journal.get(path)
            if entry is not None:
                yield entry

    def remove(self) -> None:
        """Remove the files, once the command's own journal has what they contain."""
        for journal in self.journals:
            journal.path.unlink(missing_ok=True)
