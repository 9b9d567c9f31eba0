"""The checkpoints of a run: folders `checkpoints/step_…`, written beside the training, the last two kept.

A folder holds `state.ckpt`, what all processes share, and `process_….ckpt`, what each holds alone: its random state and
its rows of the labels. `manifest.json` comes last, with the size and SHA-256 of each; the folder then takes its name,
so that one with that name is whole.
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
KEPT = 2
MOST_PROCESSES = 100_000
POLL = 0.02
"""How often the first process looks for the files of the others, s."""

State = dict[str, Any]


class Checkpoints:
    """Those of the run in `folder`, for one training at a time. Made by all its processes, and closed.

    Raises UserError where another training has the run open.
    """

    def __init__(self, folder: Path, patience: float = 600.0):
        self.folder, self.patience = folder / FOLDER, patience
        self.thread = ThreadPoolExecutor(1)
        self.saving: Future[None] | None = None
        self.step = -1
        """Of the last that is whole."""
        self.say: Callable[[str], None] = warn
        self.lock: IO[bytes] | None = None
        if rank() == 0:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.lock = _lock(self.folder / LOCK)
            for left in self.folder.glob(".step_*"):  # from a process that was killed
                shutil.rmtree(left, ignore_errors=True)
        # the same in all processes of this training, and in no other
        self.attempt = int(broadcast_from_rank0(torch.tensor([uuid4().int >> 66])))

    def newest(self) -> Path | None:
        """The newest that is whole; damaged ones are put aside, with a warning. None where there is none.

        Raises UserError where all are damaged.
        """
        found = torch.tensor([-1])
        if rank() == 0:
            there = steps_of(self.folder)
            for step in reversed(there):
                path = self.folder / name_of(step)
                problem = damage(path)
                if problem is None:
                    found[0] = step
                    break
                self.say(f"the checkpoint {path} is damaged ({problem}): it is put aside, and the one before it taken")
            if there and found[0] < 0:
                found[0] = -2
            elif there:
                for step in there:
                    if step > found[0]:
                        aside = self.folder / f"damaged_{name_of(step)}"
                        shutil.rmtree(aside, ignore_errors=True)
                        os.replace(self.folder / name_of(step), aside)
        step = int(broadcast_from_rank0(found))
        if step == -2:
            raise UserError(f"all checkpoints in {self.folder} are damaged: remove {self.folder.parent} to start anew")
        self.step = step
        return self.folder / name_of(step) if step >= 0 else None

    def save(self, step: int, shared: State, own: State) -> None:
        """Write a checkpoint while the training goes on, from a copy of the tensors; waits for the one before it."""
        self.wait()
        copied = (_copy(shared) if rank() == 0 else None), _copy(own)
        self.saving = self.thread.submit(self._write, step, *copied)

    def wait(self) -> bool:
        """Until what is being saved is on the disk. False, and said, where that failed: the training can go on."""
        if self.saving is None:
            return True
        saving, self.saving = self.saving, None
        try:
            saving.result()
        except OSError as error:
            kept = f"the last good one is of step {self.step}" if self.step >= 0 else "there is none yet"
            self.say(f"no checkpoint could be written to {self.folder} ({error.strerror or error}): {kept}")
            return False
        return True

    def close(self) -> None:
        self.wait()
        self.thread.shutdown()
        if self.lock is not None:
            (self.folder / LOCK).unlink(missing_ok=True)
            self.lock.close()
            self.lock = None

    def _write(self, step: int, shared: State | None, own: State) -> None:
        temporary = self.folder / f".{name_of(step)}.{self.attempt:x}"
        temporary.mkdir(exist_ok=True)
        mine = f"process_{rank():04d}"
        try:
            digests = {f"{mine}.ckpt": save_hashed(temporary / f"{mine}.ckpt", own)}
            if shared is not None:
                digests[STATE] = save_hashed(temporary / STATE, shared)
            if rank() > 0:
                write_json(temporary / f"{mine}.json", digests)
            else:
                self._finish(step, temporary, digests)
        except BaseException as error:
            if rank() == 0:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
            (temporary / f"{mine}.failed").write_bytes(b"")  # an empty file finds room on a full disk
            raise error

    def _finish(self, step: int, temporary: Path, digests: dict[str, Any]) -> None:
        """Wait for the files of the others; then the folder takes its name."""
        until = time.monotonic() + self.patience
        waiting = {f"process_{other:04d}" for other in range(1, world_size())}
        while waiting:
            for name in sorted(waiting):
                if (temporary / f"{name}.failed").exists():
                    raise OSError(f"{name} could not write its part")
                if (temporary / f"{name}.json").exists():
                    digests |= json.loads((temporary / f"{name}.json").read_text())
                    (temporary / f"{name}.json").unlink()
                    waiting.discard(name)
            if waiting and time.monotonic() > until:
                raise OSError(f"{', '.join(sorted(waiting))} did not write within {self.patience:g} s")
            if waiting:
                time.sleep(POLL)
        write_json(temporary / MANIFEST, {"step": step, "processes": world_size(), "files": digests})
        final = self.folder / name_of(step)
        if final.exists():  # saved already, as by the last step of a training that has ended
            _remove(final)
        os.replace(temporary, final)
        _sync(self.folder)
        self.step = step
        for old in steps_of(self.folder)[:-KEPT]:
            _remove(self.folder / name_of(old))


def name_of(step: int) -> str:
    return f"step_{step:010d}"


def steps_of(folder: Path) -> list[int]:
    """The steps of the checkpoints in a folder `checkpoints`, ascending."""
    named = (re.fullmatch(r"step_([0-9]{10,18})", path.name) for path in folder.glob("step_*"))
    return sorted(step for match in named if match and name_of(step := int(match[1])) == match[0])


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint, whoever made it; None where it is whole: no file is read before the sizes of
    all are as its manifest says."""
    try:
        files = read_manifest(path)["files"]
        for name, asked in files.items():
            if check_file(path / name) != asked["bytes"]:
                return f"{name} has changed"
        for name, asked in files.items():
            with (path / name).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256") if sys.version_info >= (3, 11) else _digest(file)
            if digest.hexdigest() != asked["sha256"]:
                return f"{name} has changed"
    except OSError as error:
        return f"{Path(str(error.filename)).name}: {error.strerror}"
    except UserError as error:
        return str(error)
    return None


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of the checkpoint folder `path`: its step, its processes, and of each of their files, no more and
    no fewer, "bytes" and "sha256". OSError where there is none, UserError where it is something else."""
    where = path / MANIFEST
    found = read_json(where)
    field(found, "step", is_count, where)
    processes = field(found, "processes", lambda n: is_count(n) and 0 < n <= MOST_PROCESSES, where)
    files = field(found, "files", dict, where)
    if files.keys() != {STATE, *(part_of(number) for number in range(processes))}:
        raise UserError(f"{where}: files are not {STATE} and one of each of {processes} processes")
    for name, asked in files.items():
        field(asked, "bytes", is_count, f"{where}, {name}")
        field(asked, "sha256", lambda x: bool(re.fullmatch("[0-9a-f]{64}", str(x))), f"{where}, {name}")
    return found


def part_of(number: int) -> str:
    """The name of the file of what a process holds alone."""
    return f"process_{number:04d}.ckpt"


def _copy(value: Any) -> Any:
    """Containers of tensors, the tensors copied to the CPU."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {k: _copy(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_copy(v) for v in value]
    return value


def _remove(folder: Path) -> None:
    """Out of sight first, so that no half of it is taken for a checkpoint."""
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
    """A lock that ends with this process, whatever has been forked from it. None on file systems without."""
    file = open_lock(path)
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        file.close()
        raise UserError(
            f"another training is at work in {path.parents[1]}: wait for it, or choose another out=…"
        ) from None
    except OSError:
        file.close()
        return None
    return file
