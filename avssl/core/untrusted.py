"""Files that somebody else may have written: their size is bounded before they are read, and their contents checked.

Text, JSON and YAML here, Parquet in `avssl.core.tables`, checkpoints in `avssl.core.checkpoint_file`. Nothing is
resolved, no alias is followed, and what does not fit is a UserError that names the file and the field.
"""

import json
import math
import os
import re
import stat
import struct
import tokenize
import zlib
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from zipfile import BadZipFile

from .errors import UserError

MOST_BYTES = 8 << 20
"""Of a file of settings or figures."""

MOST_VALUES = 400_000
"""In such a file: as Python objects they take some 100 bytes each."""

MOST_DEPTH = 40
LARGEST = 2**63 - 1

DAMAGED = (
    ValueError, KeyError, TypeError, AttributeError, IndexError, EOFError, OverflowError, MemoryError, RecursionError,
    NotImplementedError, SyntaxError, struct.error, tokenize.TokenError, BadZipFile, zlib.error,
)  # fmt: skip
"""What NumPy and zipfile raise on an .npz file that is damaged, or made to harm."""

Fields = dict[str, Any]


def read_bytes(path: str | Path, most: int = MOST_BYTES) -> bytes:
    """A regular file's bytes. OSError where it is not there; UserError for a folder, a device, a pipe, or a file of
    more than `most` bytes: none of them is read."""
    try:
        file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # a pipe would be waited for
    except ValueError:
        raise UserError(f"{str(path)!r} is no path") from None
    try:
        _check_regular(path, os.fstat(file), most)
    except UserError:
        os.close(file)
        raise
    with os.fdopen(file, "rb") as opened:
        found = opened.read(most + 1)
    if len(found) > most:  # it grew
        raise UserError(f"{path} has more than {most} bytes")
    return found


def check_file(path: str | Path, most: int | None = None) -> int:
    """The size (bytes) of a regular file. OSError where it is not there; UserError for what `read_bytes` refuses."""
    try:
        about = os.stat(path)
    except ValueError:
        raise UserError(f"{str(path)!r} is no path") from None
    _check_regular(path, about, most)
    return about.st_size


def _check_regular(path: str | Path, about: os.stat_result, most: int | None) -> None:
    if not stat.S_ISREG(about.st_mode):
        raise UserError(f"{path} is {'a folder, not a file' if stat.S_ISDIR(about.st_mode) else 'no regular file'}")
    if most is not None and about.st_size > most:
        raise UserError(f"{path} has {about.st_size} bytes, more than the {most} that such a file may have")


def open_lock(path: str | Path) -> IO[bytes]:
    """A file to lock, made where it is missing; its content stays. UserError for a link, which may lead to anything,
    and what `read_bytes` refuses."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    if os.path.islink(path):
        raise UserError(f"{path} is a link, where a file that locks the folder is needed: remove it")
    file = os.fdopen(os.open(path, flags, 0o666), "r+b", buffering=0)
    try:
        _check_regular(path, os.fstat(file.fileno()), None)
    except UserError as error:
        file.close()
        raise UserError(f"{error}: remove it") from None
    return file


@contextmanager
def open_arrays(path: str | Path) -> Iterator[Any]:
    """An .npz file, open: a mapping of names to arrays, which are read as they are asked for.

    OSError where it is not there; UserError for what `read_bytes` refuses, for a file that is damaged or holds objects,
    and for one that is far larger inside than out.
    """
    import numpy as np

    size = check_file(path)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            inside = sum(member.file_size for member in arrays.zip.infolist())
            if inside > max(64 << 20, 20 * size):
                raise ValueError(f"{inside} bytes in a file of {size}")
            yield arrays
    except DAMAGED as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} is damaged ({why[:100]})") from None


def read_text(path: str | Path, most: int = MOST_BYTES) -> str:
    """A file's text, UTF-8 with or without a mark. Raises what `read_bytes` does, and UserError for other text."""
    try:
        return read_bytes(path, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no UTF-8 text (byte {error.start})") from None


def read_json(path: str | Path, most: int = MOST_BYTES, values: int = MOST_VALUES) -> Any:
    """What a JSON file holds. Raises what `read_text` does, and UserError for what `parse_json` refuses."""
    text = read_text(path, most)
    try:
        return parse_json(text, values)
    except ValueError as error:
        raise UserError(f"{path} is no JSON that can be read: {error}") from None


def parse_json(text: str | bytes, values: int = MOST_VALUES) -> Any:
    """What a JSON text holds: finite numbers, no more than `values` values, nested no deeper than `MOST_DEPTH`.

    Raises ValueError, in a few words, for all else.
    """
    try:
        text = text.decode("utf-8") if isinstance(text, bytes) else text
    except UnicodeDecodeError as error:
        raise ValueError(f"no UTF-8 text (byte {error.start})") from None
    # each value has a comma before it, or is the first of a list or an object
    if text.count(",") + text.count("[") + text.count("{") > values:
        raise ValueError(f"it has more than {values} values")
    try:
        found = json.loads(text, parse_constant=_no_number, parse_float=_finite)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(str(error)) from None
    _check_depth(found)
    return found


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number")


def _finite(word: str) -> float:
    value = float(word)
    if not math.isfinite(value):
        raise ValueError(f"{word[:40]} is too large a number")
    return value


def _check_depth(value: Any) -> None:
    """Level by level, so that depth costs no stack."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MOST_DEPTH:
            raise ValueError("it is nested too deeply")
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(v for v in item.values() if isinstance(v, dict | list))
            elif isinstance(item, list):
                below.extend(v for v in item if isinstance(v, dict | list))
        level = below


def read_yaml(path: str | Path, most: int = 1 << 20, values: int = 50_000) -> Fields:
    """The mapping in a YAML file, of plain mappings, lists and scalars; `${…}` is refused, not resolved.

    Raises what `read_text` does, and UserError for tags, anchors, aliases, several documents, keys that are there
    twice, and more than `values` values.
    """
    import yaml

    text = read_text(path, most)
    try:
        _check_events(yaml, text, values)
        found = yaml.load(text, Loader=_loader(yaml))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f" (line {mark.line + 1})"
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UserError(f"{path} cannot be read: {what}{where}") from None
    except (ValueError, RecursionError) as error:  # the loader's own, of an impossible number
        raise UserError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} cannot be read: it holds no mapping of options")
    return found


def _check_events(yaml: Any, text: str, values: int) -> None:
    depth = documents = 0
    for count, event in enumerate(yaml.parse(text, Loader=_base(yaml)), 1):
        documents += isinstance(event, yaml.DocumentStartEvent)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ValueError(f"it has an anchor or alias (line {event.start_mark.line + 1})")
        if getattr(event, "tag", None):
            raise ValueError(f"it has a tag, {event.tag[:40]} (line {event.start_mark.line + 1})")
        if isinstance(event, yaml.ScalarEvent) and "${" in event.value:
            raise ValueError(f"it has ${{…}} where a value is needed (line {event.start_mark.line + 1})")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MOST_DEPTH or count > values or documents > 1:
            raise ValueError("it is nested too deeply, too long, or several documents")


def _base(yaml: Any) -> Any:
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _loader(yaml: Any) -> Any:
    """YAML as OmegaConf writes and reads it: 1e-5 is a number, and a date a text."""

    class Loader(_base(yaml)):  # type: ignore[misc]
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
            seen = set()
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode) or key.value in seen or key.value == "<<":
                    raise ValueError(f"a key is there twice, or no name (line {key.start_mark.line + 1})")
                seen.add(key.value)
            return super().construct_mapping(node, deep)

    Loader.yaml_implicit_resolvers = {
        first: [(tag, regexp) for tag, regexp in known if tag != "tag:yaml.org,2002:timestamp"]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    number = r"^[-+]?([0-9][0-9_]*\.[0-9_]*([eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+|\.[0-9_]+([eE][-+]?[0-9]+)?"
    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(number + r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"),
        [*"-+0123456789."],
    )
    return Loader


def kind_of(value: Any) -> str:
    """What a value is, in a word of JSON."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)


def is_number(value: Any) -> bool:
    """A finite number, true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_count(value: Any) -> bool:
    """A whole number of 0 or more that other programs' integers can hold."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST


def field(found: Any, name: str, fits: Callable[[Any], bool] | type, where: str | Path) -> Any:
    """`found[name]`. UserError naming the file `where` and the field where it is missing, or does not fit."""
    if not isinstance(found, dict):
        raise UserError(f"{where}: {kind_of(found)} where an object with {name} is needed")
    if name not in found:
        raise UserError(f"{where}: {name} is missing")
    value = found[name]
    good = isinstance(value, fits) if isinstance(fits, type) else fits(value)
    if not good:
        shown = kind_of(value) if isinstance(value, dict | list) else repr(value)[:60]
        raise UserError(f"{where}: {name} is {shown}")
    return value
