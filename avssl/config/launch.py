"""The options `launch.*`: where a run, or the parts of another long command, compute, and in how many processes."""

from dataclasses import dataclass
from typing import Any

from .option import DAY, option, other, section

GPUS = 8
"""The default number of GPUs on each machine of a cluster."""


@dataclass
class LaunchConfig:
    where: str = option(
        "local", "local: on this machine; slurm: submitted with sbatch; launch=local and launch=slurm set it",
        choices="local slurm",
    )  # fmt: skip
    processes: int = option(
        0,
        "training processes on each machine; 0: one for launch=local, one per GPU for launch=slurm",
        minimum=0,
        maximum=1024,
    )
    timeout: float = option(
        600.0,
        "the run ends with an error if a process keeps the others waiting for longer than this",
        "s",
        minimum=1,
        maximum=30 * DAY,
    )
    nodes: int = option(1, "number of machines, for launch=slurm", minimum=1, maximum=10_000)
    gpus: int = option(
        -1,
        "GPUs on each machine, for launch=slurm and `avssl plan`; 0: train on CPUs; -1: 8 for launch=slurm",
        minimum=-1,
        maximum=64,
    )
    cpus: int = option(8, "CPU cores of each process, for launch=slurm", minimum=1, maximum=1024)
    partition: str = option("", "SLURM partition; empty: the cluster's default")
    account: str = option("", "SLURM account; empty: your default")
    minutes: int = option(
        1440,
        "time limit of a job, for launch=slurm; an unfinished run is saved, requeued and resumed",
        "min",
        minimum=1,
        maximum=525_600,
    )
    warn_seconds: int = option(
        120,
        "time before the limit at which SLURM signals the job to save and requeue, for launch=slurm",
        "s",
        minimum=10,
        maximum=DAY,
    )
    restarts: int = option(
        3,
        "how many times in a row a failed job is requeued without a new checkpoint in between, for launch=slurm",
        minimum=0,
        maximum=1000,
    )
    setup: list[str] = option([], "shell lines to execute before the run, such as 'module load cuda', for launch=slurm")
    sbatch: list[str] = option([], "further options of sbatch, such as exclusive,mem=200G, for launch=slurm")
    dry: bool = option(False, "print the batch script without submitting it, for launch=slurm")

    def gpus_of_node(self) -> int:
        """GPUs on each machine of a cluster."""
        return GPUS if self.gpus < 0 else self.gpus

    def all_processes(self) -> int:
        """Training processes on all machines."""
        cluster = self.where == "slurm" or self.nodes > 1 or self.gpus > 0
        return self.nodes * (self.processes or (self.gpus_of_node() if cluster else 0) or 1)


@dataclass
class PartsConfig:
    """The parts of a long command, other than `avssl train`: how many, and where they run."""

    where: str = other(LaunchConfig, "where", "local")
    processes: int = other(
        LaunchConfig, "processes", 0, "processes on this machine, each with a part of the work; 0: this process alone"
    )
    parts: int = option(16, "parts of the work, each a job of an array, for launch=slurm", minimum=1, maximum=10_000)
    timeout: float = other(
        LaunchConfig,
        "timeout",
        600.0,
        "with torchrun or srun, the command ends with an error if another part shows no sign of life for this long",
    )
    gpus: int = option(
        -1, "GPUs of each job, for launch=slurm; -1: 1 for commands that use encoders, else 0", minimum=-1, maximum=64
    )
    cpus: int = other(LaunchConfig, "cpus", 8, "CPU cores of each job, for launch=slurm")
    partition: str = other(LaunchConfig, "partition", "")
    account: str = other(LaunchConfig, "account", "")
    minutes: int = other(
        LaunchConfig, "minutes", 1440, "time limit of each job, for launch=slurm; repeat the command to resume"
    )
    setup: list[str] = other(LaunchConfig, "setup", [], "shell lines to execute before the command, for launch=slurm")
    sbatch: list[str] = other(LaunchConfig, "sbatch", [])
    dry: bool = other(LaunchConfig, "dry", False, "print the batch scripts without submitting them, for launch=slurm")


def parts_section() -> Any:
    """The section `launch` of a command whose work several processes or jobs can share."""
    return section(PartsConfig, "on a cluster, or in several processes: the parts of the work")
