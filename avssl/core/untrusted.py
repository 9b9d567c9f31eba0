"""Untrusted files: their size is checked before they are read, and then their contents.

This file reads text, JSON and YAML; `avssl.core.tables` reads Parquet, and `avssl.core.checkpoint_file` checkpoints.
Nothing is resolved, and no alias is followed. An invalid value is a UserError that names the file and the field.
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

MAX_BYTES = 8 << 20
"""Largest file of settings or results."""

MAX_VALUES = 400_000
"""Most values in such a file; as Python objects they take about 100 bytes each."""

MAX_DEPTH = 40
"""Deepest nesting of lists and objects in a file."""

LARGEST = 2**63 - 1

DAMAGED = (
    ValueError, KeyError, TypeError, AttributeError, IndexError, EOFError, OverflowError, MemoryError, RecursionError,
    NotImplementedError, SyntaxError, struct.error, tokenize.TokenError, BadZipFile, zlib.error,
)  # fmt: skip
"""The errors that NumPy and zipfile raise on an .npz file that is damaged or malicious."""

Fields = dict[str, Any]


def read_bytes(path: str | Path, max_bytes: int = MAX_BYTES) -> bytes:
    """The bytes of a regular file.

    Raises:
        OSError: there is no such file.
        UserError: it is a folder, a device, a pipe, or larger than `max_bytes`; it is then not read.
    """
    try:
        file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # opening a pipe would wait for its writer
    except ValueError:
        raise UserError(f"{str(path)!r} is not a path") from None
    try:
        _check_regular(path, os.fstat(file), max_bytes)
    except UserError:
        os.close(file)
        raise
    with os.fdopen(file, "rb") as opened:
        data = opened.read(max_bytes + 1)
    if len(data) > max_bytes:  # it has grown since the check
        raise UserError(f"{path} has more than {max_bytes} bytes")
    return data


def check_file(path: str | Path, max_bytes: int | None = None) -> int:
    """The size of a regular file, in bytes. Raises the errors of `read_bytes`."""
    try:
        status = os.stat(path)
    except ValueError:
        raise UserError(f"{str(path)!r} is not a path") from None
    _check_regular(path, status, max_bytes)
    return status.st_size


def _check_regular(path: str | Path, status: os.stat_result, max_bytes: int | None) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder, not a file" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise UserError(f"{path} is {kind}")
    if max_bytes is not None and status.st_size > max_bytes:
        raise UserError(f"{path} has {status.st_size} bytes; such a file may have at most {max_bytes}")


def open_lock(path: str | Path) -> IO[bytes]:
    """A file to lock, created if it is missing; its content stays.

    Raises:
        UserError: it is a link, which may lead anywhere, or a file that `read_bytes` rejects.
    """
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    if os.path.islink(path):
        raise UserError(f"{path} is a link, but the lock of the folder must be a file: remove it")
    file = os.fdopen(os.open(path, flags, 0o666), "r+b", buffering=0)
    try:
        _check_regular(path, os.fstat(file.fileno()), None)
    except UserError as error:
        file.close()
        raise UserError(f"{error}: remove it") from None
    return file


@contextmanager
def open_arrays(path: str | Path) -> Iterator[Any]:
    """An open .npz file: a mapping from names to arrays, each of which is read when it is requested.

    Raises:
        OSError: there is no such file.
        UserError: `read_bytes` rejects it, it is damaged, contains objects, or unpacks to far more than its size.
    """
    import numpy as np

    size = check_file(path)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            unpacked = sum(member.file_size for member in arrays.zip.infolist())
            if unpacked > max(64 << 20, 20 * size):
                raise ValueError(f"{unpacked} bytes in a file of {size}")
            yield arrays
    except DAMAGED as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} is damaged ({why[:100]})") from None


def read_text(path: str | Path, max_bytes: int = MAX_BYTES) -> str:
    """The text of a UTF-8 file, with or without a byte-order mark. Raises the errors of `read_bytes`, and UserError
    for other encodings."""
    try:
        return read_bytes(path, max_bytes).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start})") from None


def read_json(path: str | Path, max_bytes: int = MAX_BYTES, max_values: int = MAX_VALUES) -> Any:
    """The value in a JSON file. Raises the errors of `read_text`, and UserError for JSON that `parse_json` rejects."""
    text = read_text(path, max_bytes)
    try:
        return parse_json(text, max_values)
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON: {error}") from None


def parse_json(text: str | bytes, max_values: int = MAX_VALUES, finite: bool = True) -> Any:
    """The value in a JSON text.

    Args:
        text: the text.
        max_values: most values.
        finite: whether NaN and infinite numbers are errors.

    Raises:
        ValueError: it is not JSON, has a NaN or infinite number, more than `max_values` values, or is nested
            deeper than `MAX_DEPTH`. The message gives the reason in a few words.
    """
    try:
        text = text.decode("utf-8") if isinstance(text, bytes) else text
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 text (byte {error.start})") from None
    # each value has a comma before it, or is the first of a list or an object
    if text.count(",") + text.count("[") + text.count("{") > max_values:
        raise ValueError(f"it has more than {max_values} values")
    try:
        checks: dict[str, Any] = {"parse_constant": _refuse_constant, "parse_float": _finite} if finite else {}
        value = json.loads(text, **checks)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(str(error)) from None
    _check_depth(value)
    return value


def _refuse_constant(word: str) -> float:
    raise ValueError(f"{word} is not a number")


def _finite(word: str) -> float:
    value = float(word)
    if not math.isfinite(value):
        raise ValueError(f"{word[:40]} is too large")
    return value


def _check_depth(value: Any) -> None:
    """Raise ValueError for a value that is nested too deeply. It proceeds by level, because recursion needs stack."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError("it is nested too deeply")
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(v for v in item.values() if isinstance(v, dict | list))
            elif isinstance(item, list):
                below.extend(v for v in item if isinstance(v, dict | list))
        level = below


def read_yaml(path: str | Path, max_bytes: int = 1 << 20, max_values: int = 50_000) -> Fields:
    """The mapping in a YAML file of plain mappings, lists and scalars; `${…}` is rejected, not resolved.

    Raises the errors of `read_text`, and UserError for tags, anchors, aliases, several documents, repeated keys, and
    more than `max_values` values.
    """
    import yaml

    text = read_text(path, max_bytes)
    try:
        _check_events(yaml, text, max_values)
        mapping = yaml.load(text, Loader=_loader(yaml))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f" (line {mark.line + 1})"
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UserError(f"{path} cannot be read: {what}{where}") from None
    except (ValueError, RecursionError) as error:  # the loader raises ValueError for an impossible number
        raise UserError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    if not isinstance(mapping, dict):
        raise UserError(f"{path} cannot be read: it contains no mapping of options")
    return mapping


def _check_events(yaml: Any, text: str, max_values: int) -> None:
    depth = documents = 0
    for count, event in enumerate(yaml.parse(text, Loader=_base(yaml)), 1):
        documents += isinstance(event, yaml.DocumentStartEvent)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ValueError(f"it has an anchor or alias (line {event.start_mark.line + 1})")
        if getattr(event, "tag", None):
            raise ValueError(f"it has a tag, {event.tag[:40]} (line {event.start_mark.line + 1})")
        if isinstance(event, yaml.ScalarEvent) and "${" in event.value:
            raise ValueError(f"it has a reference, ${{…}}, in place of a value (line {event.start_mark.line + 1})")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH or count > max_values or documents > 1:
            raise ValueError("it is nested too deeply, is too long, or has several documents")


def _base(yaml: Any) -> Any:
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _loader(yaml: Any) -> Any:
    """A loader that reads YAML as OmegaConf does: 1e-5 is a number, and a date is a text."""

    class Loader(_base(yaml)):  # type: ignore[misc]
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
            seen = set()
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode) or key.value in seen or key.value == "<<":
                    raise ValueError(f"a key is repeated, or is not a name (line {key.start_mark.line + 1})")
                seen.add(key.value)
            return super().construct_mapping(node, deep)

    Loader.yaml_implicit_resolvers = {
        first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    number = r"^[-+]?([0-9][0-9_]*\.[0-9_]*([eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+|\.[0-9_]+([eE][-+]?[0-9]+)?"
    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(number + r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"),
        [*"-+0123456789."],
    )
    return Loader


def kind_of(value: Any) -> str:
    """The JSON type of a value, in words."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)


def is_number(value: Any) -> bool:
    """Whether a value is a finite number that fits into 64 bits. True and false are not numbers."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) <= LARGEST if isinstance(value, int) else math.isfinite(value)


def is_count(value: Any) -> bool:
    """Whether a value is an integer from 0 to `LARGEST`, the largest 64-bit integer."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST


def field(mapping: Any, name: str, fits: Callable[[Any], bool] | type, where: str | Path) -> Any:
    """`mapping[name]`, checked.

    Args:
        mapping: anything; it is checked to be a dict.
        name: the name of the field.
        fits: the type of the value, or a test that it must pass.
        where: the file, for messages.

    Raises:
        UserError: the field is missing or does not fit.
    """
    if not isinstance(mapping, dict):
        raise UserError(f"{where}: an object with {name} is needed, not {kind_of(mapping)}")
    if name not in mapping:
        raise UserError(f"{where}: {name} is missing")
    value = mapping[name]
    valid = isinstance(value, fits) if isinstance(fits, type) else fits(value)
    if not valid:
        shown = kind_of(value) if isinstance(value, dict | list) else repr(value)[:60]
        raise UserError(f"{where}: {name} is {shown}")
    return value
