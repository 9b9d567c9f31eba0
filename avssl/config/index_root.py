"""The folder of the videos of an index, where a word names the index: `holiday` for `index/holiday`.

This file composes no config, because the command line calls it before anything else.
"""

import os
from pathlib import Path

from ..core.errors import UserError
from ..core.untrusted import read_json

INDEXES = Path("index")
"""The folder where `avssl index` makes indexes."""


def root_of_word(word: str) -> str:
    """The folder of the videos of the index that `word` names; empty if there is none, or if the folder is gone."""
    if os.path.lexists(word) or os.path.basename(word) != word:
        return ""
    try:
        note = read_json(INDEXES / word / "index.json")
    except (OSError, UserError):
        return ""
    root = note.get("root") if isinstance(note, dict) else None
    if not isinstance(root, str) or "${" in root or "\0" in root or not os.path.isdir(root):
        return ""
    return min(root, os.path.relpath(root), key=len)


def made_of(word: str) -> str:
    """The words `index/holiday was made of ../holiday`; empty if `root_of_word` is."""
    root = root_of_word(word)
    return f"{INDEXES / word} was made of {root}" if root else ""
