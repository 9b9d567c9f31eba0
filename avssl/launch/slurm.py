"""Submit a run as a SLURM job with submitit.

submitit writes the batch script and starts a task per training process. It could also requeue jobs, but from a signal
handler in one task, at an arbitrary moment. Instead, the run saves and stops in all tasks at once, and
`avssl.launch.requeue` decides at the end of the script.
"""

import io
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape
from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.helpers import TorchDistributedEnvironment, clean_env
from submitit.slurm.slurm import SlurmExecutor

from ..config import LaunchConfig, TrainConfig
from ..config.renamed import alias_moved_modules
from ..core.errors import UserError
from ..core.screen import Console
from .ending import FOLDER, TRAINING, hard_exit, print_error, run_and_record_exit
from .sbatch import check_sbatch, check_values, further_options, rejected

alias_moved_modules()  # a queued job is unpickled as its class in this module, then its config

RENAMED = {
    "time": "launch.minutes", "nodes": "launch.nodes", "gpus-per-node": "launch.gpus",
    "cpus-per-task": "launch.cpus", "ntasks-per-node": "launch.processes", "signal": "launch.warn_seconds",
    "partition": "launch.partition", "account": "launch.account", "array": "--multirun", "requeue": "launch.restarts",
    "no-requeue": "launch.restarts", "output": "out", "error": "out",
}  # fmt: skip
"""Options of sbatch that have an option of avssl."""


class Executor(SlurmExecutor):
    """submitit's executor, which can also print the script on machines without SLURM."""

    @classmethod
    def affinity(cls) -> int:
        return 2

    def script(self, jobs: int) -> str:
        """The script for sbatch, for `jobs` runs."""
        if jobs > 1:
            self.parameters["map_count"] = jobs
        return self._make_submission_file_text(self._submitit_command_str, "")


@dataclass
class Job:
    """One task of a job: one training process."""

    config: TrainConfig
    training: str

    def __call__(self) -> None:
        # all GPUs stay visible, because each process chooses its own by LOCAL_RANK
        TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
        status = run_and_record_exit(self.config, self.training)
        print_error()
        hard_exit(status)


def submit(configs: list[TrainConfig], training: str = TRAINING) -> None:
    """Submit runs; several become a job array. Raises UserError for options that SLURM or avssl rejects."""
    launch, runs = configs[0].launch, [Path(config.out).absolute() for config in configs]
    # the logs of an array are together, beside its run folders
    folder = runs[0] / "slurm" if len(runs) == 1 else runs[0].parent / "slurm"
    executor = Executor(folder)
    executor.update_parameters(**parameters(launch, runs, folder))
    console = Console(highlight=False, soft_wrap=True)
    if launch.dry:
        console.print(executor.script(len(runs)), markup=False, end="")
        return
    check_sbatch(shutil.which("sbatch"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for run in runs:
            run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make {error.filename} ({error.strerror}): choose another folder with out=…") from None
    messages = io.StringIO()
    try:
        with _without_job_variables(), redirect_stderr(messages), executor.batch():
            jobs = [executor.submit(Job(config, training)) for config in configs]
    except (FailedJobError, FailedSubmissionError) as error:
        raise rejected(str(error)) from None
    sys.stderr.write(messages.getvalue())  # the cluster's messages to its users
    first = jobs[0].job_id
    job_number = first.partition("_")[0]
    log = folder / (f"{first}_0_log.out" if len(jobs) == 1 else f"{job_number}_*_0_log.out")
    many = f"{len(jobs)} jobs, each " if len(jobs) > 1 else ""
    tasks = processes(launch)
    size = f"{launch.nodes} machine{'s' * (launch.nodes > 1)} x {tasks} process{'es' * (tasks > 1)}"
    console.print(f"submitted job {job_number}: {many}{size}, {launch.minutes} min at a time")
    console.print(f"  logs    {escape(str(folder))}")
    console.print(f"  follow  tail -F {escape(shlex.quote(str(log)) if len(jobs) == 1 else str(log))}")
    console.print(f"  state   squeue --job {job_number}")
    console.print(f"  cancel  scancel {job_number}")


@contextmanager
def _without_job_variables() -> Iterator[None]:
    """Hide the variables of a job in which this command may run, so that the new job does not inherit them. The address
    of SLURM's configuration stays."""
    slurm_conf = os.environ.get("SLURM_CONF")
    with clean_env():
        if slurm_conf is not None:
            os.environ["SLURM_CONF"] = slurm_conf
        yield


def processes(launch: LaunchConfig) -> int:
    """The number of training processes on each machine."""
    return launch.processes or launch.gpus_of_node() or 1


def parameters(launch: LaunchConfig, runs: list[Path], folder: Path) -> dict[str, Any]:
    """submitit's parameters for the options of a launch, for runs in the folders `runs` with logs in `folder`."""
    further: dict[str, Any] = {"requeue": True}  # allow a requeue, even if the cluster's default forbids it
    further |= further_options(launch.sbatch, RENAMED)
    if launch.warn_seconds >= 60 * launch.minutes:
        raise UserError(
            f"launch.warn_seconds={launch.warn_seconds} is not shorter than launch.minutes={launch.minutes}: "
            "raise launch.minutes, or lower launch.warn_seconds"
        )
    standard: dict[str, Any] = {
        "job_name": runs[0].name if len(runs) == 1 else f"{runs[0].parent.name}_sweep",
        "partition": launch.partition, "account": launch.account,
        "time": launch.minutes, "nodes": launch.nodes, "ntasks_per_node": processes(launch),
        "gpus_per_node": launch.gpus_of_node(), "cpus_per_task": launch.cpus,
        "signal_delay_s": launch.warn_seconds,
    }  # fmt: skip
    check_values({**standard, **further, "out": folder})
    return {key: value for key, value in standard.items() if value} | {
        "additional_parameters": further,
        "setup": [*_requeue_at_exit(launch, runs, folder), *launch.setup],
        "stderr_to_stdout": True,
        # since SLURM 22.05, srun does not inherit the cores of a task from sbatch; a task that dies ends the others
        "srun_args": [f"--cpus-per-task={launch.cpus}", "--kill-on-bad-exit=1", "--wait=0"],
    }


def _requeue_at_exit(launch: LaunchConfig, runs: list[Path], folder: Path) -> list[str]:
    """Lines of the batch script that call `avssl.launch.requeue` when it exits."""
    run_folders = " ".join(shlex.quote(str(run)) for run in runs)
    endings = f"{shlex.quote(str(folder))}/endings_$SLURM_JOB_ID"
    decide = f'{shlex.quote(sys.executable)} -m avssl.launch.requeue "$run" "$status" --restarts {launch.restarts}'
    return [
        f"runs=({run_folders})",
        'run="${runs[${SLURM_ARRAY_TASK_ID:-0}]}"',
        f"export {FOLDER}={endings}",
        f'rm -rf "${FOLDER}"; mkdir -p "${FOLDER}"',
        f"at_the_end() {{ status=$?; {decide}; exit $?; }}",
        "trap at_the_end EXIT",
    ]
