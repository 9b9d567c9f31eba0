"""The checkpoints of a run: folders `checkpoints/step_…`, written while the run continues; the last two are kept.

A folder contains `state.ckpt`, the state that all processes share, and for each process a `process_….ckpt` with its
random state and its rows of the labels. `manifest.json`, with the size and SHA-256 of each file, is written last. Only
then is the folder renamed to its final name, so that a folder with that name is complete.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import torch

from .atomic import write_json
from .checkpoint_file import save_hashed
from .collectives import broadcast_from_rank0, rank, world_size
from .errors import UserError
from .screen import warn
from .untrusted import check_file, field, is_count, open_lock, read_json

FOLDER, STATE, MANIFEST, LOCK = "checkpoints", "state.ckpt", "manifest.json", ".lock"
KEPT_CHECKPOINTS = 2
MAX_PROCESSES = 100_000
POLL = 0.02
"""Time between two checks of the first process for the files of the others, s."""

State = dict[str, Any]


class Checkpoints:
    """The checkpoints of the run in `folder`. One command at a time can open them; all its processes open and close
    them.

    Args:
        folder: the run folder.
        patience: how long the first process waits for the files of the others, s.

    Raises:
        UserError: another command is training in this folder.
    """

    def __init__(self, folder: Path, patience: float = 600.0):
        self.folder, self.patience = folder / FOLDER, patience
        self.thread = ThreadPoolExecutor(1)
        self.saving: Future[None] | None = None
        self.step = -1
        """The step of the newest complete checkpoint; -1 if there is none."""
        self.say: Callable[[str], None] = warn
        self.lock: IO[bytes] | None = None
        if rank() == 0:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.lock = _lock(self.folder / LOCK)
            for unfinished in self.folder.glob(".step_*"):  # left by a process that was killed
                shutil.rmtree(unfinished, ignore_errors=True)
        # the same number in all processes of this command, and in no other command
        self.attempt = int(broadcast_from_rank0(torch.tensor([uuid4().int >> 66])))

    def newest(self) -> Path | None:
        """The folder of the newest complete checkpoint, or None. Damaged ones are renamed, with a warning.

        Raises:
            UserError: all checkpoints are damaged.
        """
        newest = torch.tensor([-1])
        if rank() == 0:
            steps = steps_of(self.folder)
            for step in reversed(steps):
                path = self.folder / name_of(step)
                problem = damage(path)
                if problem is None:
                    newest[0] = step
                    break
                self.say(f"the checkpoint {path} is damaged ({problem}): using the one before it")
            if steps and newest[0] < 0:
                newest[0] = -2  # all are damaged: every process must raise
            elif steps:
                for step in steps:
                    if step > newest[0]:
                        damaged = self.folder / f"damaged_{name_of(step)}"
                        shutil.rmtree(damaged, ignore_errors=True)
                        os.replace(self.folder / name_of(step), damaged)
        step = int(broadcast_from_rank0(newest))
        if step == -2:
            raise UserError(
                f"all checkpoints in {self.folder} are damaged: remove {self.folder.parent} to start the run again"
            )
        self.step = step
        return self.folder / name_of(step) if step >= 0 else None

    def save(self, step: int, shared: State, rank_state: State) -> None:
        """Wait for the previous checkpoint, then write one from a copy of the tensors while the run continues.

        `shared` is the state that is the same in all processes, `rank_state` that of this process.
        """
        self.wait()
        copied = (_copy(shared) if rank() == 0 else None), _copy(rank_state)
        self.saving = self.thread.submit(self._write, step, *copied)

    def wait(self) -> bool:
        """Wait until the checkpoint is on the disk. If that failed, print a message and return False; the run
        continues."""
        if self.saving is None:
            return True
        saving, self.saving = self.saving, None
        try:
            saving.result()
        except OSError as error:
            last_good = f"the last good one is of step {self.step}" if self.step >= 0 else "there is none yet"
            self.say(f"no checkpoint could be written to {self.folder} ({error.strerror or error}): {last_good}")
            return False
        return True

    def close(self) -> None:
        self.wait()
        self.thread.shutdown()
        if self.lock is not None:
            (self.folder / LOCK).unlink(missing_ok=True)
            self.lock.close()
            self.lock = None

    def _write(self, step: int, shared: State | None, rank_state: State) -> None:
        temporary = self.folder / f".{name_of(step)}.{self.attempt:x}"
        temporary.mkdir(exist_ok=True)
        name = f"process_{rank():04d}"
        try:
            digests = {f"{name}.ckpt": save_hashed(temporary / f"{name}.ckpt", rank_state)}
            if shared is not None:
                digests[STATE] = save_hashed(temporary / STATE, shared)
            if rank() > 0:
                write_json(temporary / f"{name}.json", digests)
            else:
                self._finish(step, temporary, digests)
        except BaseException as error:
            if rank() == 0:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
            (temporary / f"{name}.failed").write_bytes(b"")  # an empty file fits on a full disk
            raise error

    def _finish(self, step: int, temporary: Path, digests: dict[str, Any]) -> None:
        """Wait for the files of the other processes, then give the folder its name."""
        deadline = time.monotonic() + self.patience
        waiting = {f"process_{other:04d}" for other in range(1, world_size())}
        while waiting:
            for name in sorted(waiting):
                if (temporary / f"{name}.failed").exists():
                    raise OSError(f"{name} could not write its part")
                if (temporary / f"{name}.json").exists():
                    digests |= json.loads((temporary / f"{name}.json").read_text())
                    (temporary / f"{name}.json").unlink()
                    waiting.discard(name)
            if waiting and time.monotonic() > deadline:
                raise OSError(f"{', '.join(sorted(waiting))} did not write within {self.patience:g} s")
            if waiting:
                time.sleep(POLL)
        write_json(temporary / MANIFEST, {"step": step, "processes": world_size(), "files": digests})
        final = self.folder / name_of(step)
        if final.exists():  # a finished run saves its last step again
            _remove(final)
        os.replace(temporary, final)
        _sync(self.folder)
        self.step = step
        for old in steps_of(self.folder)[:-KEPT_CHECKPOINTS]:
            _remove(self.folder / name_of(old))


def name_of(step: int) -> str:
    """The name of the checkpoint folder of a step."""
    return f"step_{step:010d}"


def steps_of(folder: Path) -> list[int]:
    """The steps of the checkpoints in a folder, ascending."""
    named = (re.fullmatch(r"step_([0-9]{10,18})", path.name) for path in folder.glob("step_*"))
    return sorted(step for match in named if match and name_of(step := int(match[1])) == match[0])


def damage(path: Path) -> str | None:
    """How a checkpoint is damaged, in a few words, or None. No file is read before all sizes agree with the
    manifest."""
    try:
        files = read_manifest(path)["files"]
        for name, expected in files.items():
            if check_file(path / name) != expected["bytes"]:
                return f"{name} has changed"
        for name, expected in files.items():
            with (path / name).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256") if sys.version_info >= (3, 11) else _digest(file)
            if digest.hexdigest() != expected["sha256"]:
                return f"{name} has changed"
    except OSError as error:
        return f"{Path(str(error.filename)).name}: {error.strerror}"
    except UserError as error:
        return str(error)
    return None


def read_manifest(path: Path) -> dict[str, Any]:
    """The checked manifest of the checkpoint folder `path`: "step", "processes", and "files" with "bytes" and "sha256".

    Raises:
        OSError: there is no manifest.
        UserError: a field is missing or invalid, or the files are not exactly those that the processes write.
    """
    where = path / MANIFEST
    manifest = read_json(where)
    field(manifest, "step", is_count, where)
    processes = field(manifest, "processes", lambda n: is_count(n) and 0 < n <= MAX_PROCESSES, where)
    files = field(manifest, "files", dict, where)
    if files.keys() != {STATE, *(part_of(number) for number in range(processes))}:
        raise UserError(f"{where}: the files must be {STATE} and one for each of {processes} processes")
    for name, entry in files.items():
        field(entry, "bytes", is_count, f"{where}, {name}")
        field(entry, "sha256", lambda x: bool(re.fullmatch("[0-9a-f]{64}", str(x))), f"{where}, {name}")
    return manifest


def part_of(number: int) -> str:
    """The name of the file of process `number`."""
    return f"process_{number:04d}.ckpt"


def _copy(value: Any) -> Any:
    """A copy of a container with its tensors copied to the CPU."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {k: _copy(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_copy(v) for v in value]
    return value


def _remove(folder: Path) -> None:
    """Remove a checkpoint. It is hidden first, so that nobody reads half of it."""
    hidden = folder.with_name(f".{folder.name}.removed")
    os.replace(folder, hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(file: IO[bytes]) -> Any:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest


def _lock(path: Path) -> IO[bytes] | None:
    """A lock that ends with this process, not with its forked children; None on file systems without locks."""
    file = open_lock(path)
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        file.close()
        raise UserError(
            f"another command is training in {path.parents[1]}: wait for it, or choose another out=…"
        ) from None
    except OSError:
        file.close()
        return None
    return file
