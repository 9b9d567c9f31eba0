"""Processes forked from one that has imported the trainings already: a new one would import torch for seconds."""

import os
import signal
import socket
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch.multiprocessing import start_processes

from avssl.cli import main

FORKSERVER = get_context("forkserver")
FORKSERVER.set_forkserver_preload(["avssl.train.loop", "tests.processes"])


def run_together(function: Callable[..., None], args: tuple, count: int) -> None:
    """function(rank, *args) in `count` processes at once; an error of one is raised here."""
    start_processes(function, args, nprocs=count, start_method="forkserver")


class Started:
    """`avssl train <words>` as a process, in one thread; `env` is added to its environment.

    With `alone` it leads a group of processes, as what a terminal or a scheduler starts does. What it says goes to the
    file `said`, or what it says on standard error to `errors`. `command` is another `avssl` than the real one.
    """

    def __init__(
        self,
        words: list[str],
        said: Path | None = None,
        env: dict[str, str] | None = None,
        alone: bool = False,
        file_size: int = 0,
        errors: Path | None = None,
        command: Callable[[list[str]], int] = main,
    ):
        self.said, self.errors = said, errors
        told = (said, errors or said)
        self.process: Any = FORKSERVER.Process(target=_train, args=(words, told, env or {}, alone, file_size, command))
        self.process.start()

    @property
    def running(self) -> bool:
        return self.process.is_alive()

    def send(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    def end(self, seconds: float | None = 600) -> int:
        """Its exit status, once it has ended; fails where that takes longer."""
        self.process.join(seconds)
        assert not self.process.is_alive(), f"still running after {seconds} s"
        return self.process.exitcode

    def text(self) -> str:
        assert self.said is not None
        return self.said.read_text()

    def error_text(self) -> str:
        assert self.errors is not None
        return self.errors.read_text()


def start_together(
    words: list[str], folder: Path, count: int = 2, command: Callable[[list[str]], int] = main
) -> list[Started]:
    """A training in `count` processes, started as a launcher does; what rank k says is in folder/said_k."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    place = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    return [
        Started(words, folder / f"said_{rank}", place | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, command=command)
        for rank in range(count)
    ]


def _train(
    words: list[str],
    told: tuple[Path | None, Path | None],
    env: dict[str, str],
    alone: bool,
    file_size: int,
    command: Callable[[list[str]], int],
) -> None:
    torch.set_num_threads(1)
    os.environ.update(env)
    if alone:
        os.setsid()
    for number, path in zip((1, 2), told, strict=True):
        if path is not None:
            with path.open("ab") as file:
                os.dup2(file.fileno(), number)
    if file_size:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    raise SystemExit(command(["train", *words]))
