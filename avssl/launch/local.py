"""Train in several processes on this machine, with torch's elastic agent.

The agent starts the processes, sets RANK, WORLD_SIZE, MASTER_ADDR and so on, and ends all processes when one dies.
Signals bypass the agent, because it would also send them to the decoding processes, and kill a run that needs more than
half a minute to save. They are passed only to the training processes, which end after they have saved.
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

SELF_ENDED_SECONDS = 5.0
"""Processes that end within this time after the first may have ended by themselves; the agent ended later ones, s."""


def run_processes(config: TrainConfig, training: str) -> None:
    """Train in `config.launch.processes` processes. Raises UserError, Stopped, or FailedError if a process died."""
    with TemporaryDirectory(prefix="avssl_") as temporary:
        folder = Path(temporary)
        (folder / JOB).write_bytes(pickle.dumps((config, training)))
        agent, outcome, signals = _agent(config.launch.processes, folder), _Outcome(), _Signals()
        thread = threading.Thread(target=_run, args=(agent, outcome, folder))
        try:  # Python handles signals in the main thread; the agent runs in another thread, and gets none
            thread.start()
            while thread.is_alive():
                thread.join(0.1)
                signals.pass_on([worker.id for worker in agent.get_worker_group().workers if worker.id])
        finally:
            signals.close()
        if outcome.error is not None:
            raise outcome.error
        endings = read_endings(folder)
    status = planned(endings)
    if status == REFUSED:
        raise UserError(next(ending.text for ending in endings if ending.status == REFUSED))
    if status is not None:
        raise Stopped(status == REQUEUE)
    assert outcome.result is not None
    if not outcome.result.is_failed():
        return
    failures = outcome.result.failures
    received = signals.received
    # signals ended the processes before they could handle them
    if received and all(-failure.exitcode in received for failure in failures.values()):
        raise Stopped(any(number in REQUEUING for number in received))
    raise FailedError(f"{_cause(failures, endings)}: repeat the command to resume from the last checkpoint")


class _Outcome:
    """The outcome of the agent's thread: a result, or the agent's own error."""

    result: RunResult | None = None
    error: BaseException | None = None


def _agent(processes: int, folder: Path) -> LocalElasticAgent:
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # `_cause` reports errors in one line
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


def _run(agent: LocalElasticAgent, outcome: _Outcome, folder: Path) -> None:
    os.environ[FOLDER] = str(folder)
    try:
        outcome.result = agent.run()
    except BaseException as error:
        outcome.error = error
    finally:
        del os.environ[FOLDER]
        agent.get_worker_group().spec.rdzv_handler.shutdown()


class _Signals:
    """Collects signals until `close` and passes them on to processes; SIGHUP, from a closed terminal, as SIGTERM."""

    def __init__(self) -> None:
        self.received: list[int] = []
        self.passed = 0
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, *REQUEUING)
        self.handlers = {number: signal.signal(number, self._note) for number in numbers}

    def _note(self, number: int, _: object) -> None:
        self.received.append(signal.SIGTERM if number == signal.SIGHUP else number)

    def pass_on(self, processes: list[int]) -> None:
        """Send the signals that were not yet sent; they are kept while there is no process."""
        if not processes:
            return
        while self.passed < len(self.received):
            for process in processes:
                with suppress(ProcessLookupError):
                    os.kill(process, self.received[self.passed])
            self.passed += 1

    def close(self) -> None:
        """Restore the previous handlers."""
        for number, handler in self.handlers.items():
            signal.signal(number, handler)


def _cause(failures: dict[int, ProcessFailure], endings: list[Ending]) -> str:
    """The process that ended first and the reason, in a few words. The traceback of an error is printed."""
    first = min(failure.timestamp for failure in failures.values())
    early = {rank: failure for rank, failure in failures.items() if failure.timestamp <= first + SELF_ENDED_SECONDS}
    with_ending = {ending.rank for ending in endings}
    for rank, failure in early.items():  # the processes that lost it also end with errors; the agent sends SIGTERM
        if rank not in with_ending and failure.exitcode < 0 and failure.exitcode != -signal.SIGTERM:
            return f"process {rank} died of {failure.signal_name()}"
    for ending in endings:
        if ending.status == FAILED:
            print(ending.text, file=sys.stderr)
            return f"process {ending.rank} failed ({ending.text.strip().splitlines()[-1][:200]})"
    rank, failure = next(iter(early.items()))
    how = f"died of {failure.signal_name()}" if failure.exitcode < 0 else f"ended with status {failure.exitcode}"
    return f"process {rank} {how}"
