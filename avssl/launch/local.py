"""A training in several processes of this machine, by torch's elastic agent.

The agent starts the processes, tells each its place (RANK, WORLD_SIZE, MASTER_ADDR, …) and ends them all when one dies.
Signals do not go through it: it would send them to the decoding processes too, and kill a training that takes more
than half a minute to save. They are passed on to the training processes alone, which end when they have saved.
"""

import logging
import os
import pickle
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from torch.distributed.elastic.agent.server.api import RunResult, WorkerSpec
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure
from torch.distributed.elastic.rendezvous import RendezvousParameters
from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler

from ..config import TrainConfig
from ..core.errors import FailedError, UserError
from ..train.signals import REQUEUE as REQUEUING
from ..train.signals import Stopped
from .ending import FAILED, FOLDER, REFUSED, REQUEUE, Ending, planned, read_endings
from .worker import JOB

TOGETHER = 5.0
"""Processes that ended within this of the first may have ended by themselves; later ones were ended, s."""


def run_processes(config: TrainConfig, training: str) -> None:
    """Train in `config.launch.processes` processes. Raises UserError, Stopped, or FailedError when one died."""
    with TemporaryDirectory(prefix="avssl_") as temporary:
        folder = Path(temporary)
        (folder / JOB).write_bytes(pickle.dumps((config, training)))
        agent, found, signals = _agent(config.launch.processes, folder), _Found(), _Signals()
        thread = threading.Thread(target=_run, args=(agent, found, folder))
        try:  # signals come to the main thread; the agent is in another, and takes none
            thread.start()
            while thread.is_alive():
                thread.join(0.1)
                signals.pass_on([worker.id for worker in agent.get_worker_group().workers if worker.id])
        finally:
            signals.close()
        if found.error is not None:
            raise found.error
        endings = read_endings(folder)
    status = planned(endings)
    if status == REFUSED:
        raise UserError(next(ending.text for ending in endings if ending.status == REFUSED))
    if status is not None:
        raise Stopped(status == REQUEUE)
    assert found.result is not None
    if not found.result.is_failed():
        return
    failures = found.result.failures
    come = signals.come
    if come and all(-failure.exitcode in come for failure in failures.values()):  # before they could answer signals
        raise Stopped(any(number in REQUEUING for number in come))
    raise FailedError(f"{_cause(failures, endings)}: repeat the command to resume from the last checkpoint")


class _Found:
    """What the agent's thread found: a result, or an error of its own."""

    result: RunResult | None = None
    error: BaseException | None = None


def _agent(processes: int, folder: Path) -> LocalElasticAgent:
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # what it would say is said in a line
    meeting = RendezvousParameters(
        backend="c10d", endpoint="localhost:0", run_id=uuid4().hex, min_nodes=1, max_nodes=1, local_addr="localhost"
    )
    spec = WorkerSpec(
        role="training",
        local_world_size=processes,
        rdzv_handler=get_rendezvous_handler(meeting),
        entrypoint=sys.executable,
        args=("-m", "avssl.launch.worker", str(folder)),
        max_restarts=0,
        local_addr="localhost",
    )
    return LocalElasticAgent(spec, DefaultLogsSpecs(log_dir=str(folder / "logs")))


def _run(agent: LocalElasticAgent, found: _Found, folder: Path) -> None:
    os.environ[FOLDER] = str(folder)
    try:
        found.result = agent.run()
    except BaseException as error:
        found.error = error
    finally:
        del os.environ[FOLDER]
        agent.get_worker_group().spec.rdzv_handler.shutdown()


class _Signals:
    """Signals that came, until `close`, to be passed on to processes. A terminal that is closed is SIGTERM to them."""

    def __init__(self) -> None:
        self.come: list[int] = []
        self.passed = 0
        sorts = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, *REQUEUING)
        self.before = {sort: signal.signal(sort, self._note) for sort in sorts}

    def _note(self, number: int, _: object) -> None:
        self.come.append(signal.SIGTERM if number == signal.SIGHUP else number)

    def pass_on(self, processes: list[int]) -> None:
        """Send those that were not sent yet; they wait while there is no process."""
        if not processes:
            return
        while self.passed < len(self.come):
            for process in processes:
                with suppress(ProcessLookupError):
                    os.kill(process, self.come[self.passed])
            self.passed += 1

    def close(self) -> None:
        """Signals are again what they were."""
        for sort, handler in self.before.items():
            signal.signal(sort, handler)


def _cause(failures: dict[int, ProcessFailure], endings: list[Ending]) -> str:
    """What ended first, in a few words; the traceback of an error is printed."""
    first = min(failure.timestamp for failure in failures.values())
    early = {rank: failure for rank, failure in failures.items() if failure.timestamp <= first + TOGETHER}
    told = {ending.rank for ending in endings}
    for rank, failure in early.items():  # those that lost it end with errors too; SIGTERM is the agent's
        if rank not in told and failure.exitcode < 0 and failure.exitcode != -signal.SIGTERM:
            return f"process {rank} died of {failure.signal_name()}"
    for ending in endings:
        if ending.status == FAILED:
            print(ending.text, file=sys.stderr)
            return f"process {ending.rank} failed ({ending.text.strip().splitlines()[-1][:200]})"
    rank, failure = next(iter(early.items()))
    how = f"died of {failure.signal_name()}" if failure.exitcode < 0 else f"ended with status {failure.exitcode}"
    return f"process {rank} {how}"
