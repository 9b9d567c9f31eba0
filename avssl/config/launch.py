"""Where a run computes, in how many processes."""

from dataclasses import dataclass

from .option import DAY, option

GPUS = 8
"""On each machine of a cluster, unless stated otherwise."""


@dataclass
class LaunchConfig:
    where: str = option(
        "local", "local: on this machine; slurm: submitted by sbatch; launch=local and launch=slurm set it",
        choices="local slurm",
    )  # fmt: skip
    processes: int = option(
        0,
        "training processes on each machine; 0 is one per GPU for launch=slurm, and one for launch=local",
        minimum=0,
        maximum=1024,
    )
    timeout: float = option(
        600.0, "a process that the others wait for longer than this ends the run", "s", minimum=1, maximum=30 * DAY
    )
    nodes: int = option(1, "machines, for launch=slurm", minimum=1, maximum=10_000)
    gpus: int = option(
        -1,
        "GPUs on each machine, for launch=slurm and plan; 0 trains on CPUs; -1 is 8 on a cluster",
        minimum=-1,
        maximum=64,
    )
    cpus: int = option(8, "cores of each process, for launch=slurm", minimum=1, maximum=1024)
    partition: str = option("", "SLURM partition; empty is the cluster's default")
    account: str = option("", "SLURM account")
    minutes: int = option(
        1440,
        "time limit of a job, for launch=slurm; a run that needs longer is requeued",
        "min",
        minimum=1,
        maximum=525_600,
    )
    warn_seconds: int = option(
        120,
        "how long before its time limit a job is told to save and requeue, for launch=slurm",
        "s",
        minimum=10,
        maximum=DAY,
    )
    restarts: int = option(
        3,
        "times in a row that a job which failed is requeued without a checkpoint in between, for launch=slurm",
        minimum=0,
        maximum=1000,
    )
    setup: list[str] = option([], "shell lines before the run, for launch=slurm, as 'module load cuda'")
    sbatch: list[str] = option([], "further options of sbatch, for launch=slurm, as [exclusive,'mem=200G']")
    dry: bool = option(False, "print what sbatch would be given, for launch=slurm, and submit nothing")

    def gpus_of_node(self) -> int:
        """GPUs on each machine of a cluster."""
        return GPUS if self.gpus < 0 else self.gpus
