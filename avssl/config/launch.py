"""Where a run computes, and in how many processes."""

from dataclasses import dataclass

from .option import DAY, option

GPUS = 8
"""GPUs on each machine of a cluster, unless `launch.gpus` is given."""


@dataclass
class LaunchConfig:
    where: str = option(
        "local", "local: on this machine; slurm: submitted with sbatch; set by launch=local or launch=slurm",
        choices="local slurm",
    )  # fmt: skip
    processes: int = option(
        0,
        "training processes on each machine; 0: one per GPU for launch=slurm, one for launch=local",
        minimum=0,
        maximum=1024,
    )
    timeout: float = option(
        600.0, "the run ends if a process keeps the others waiting longer than this", "s", minimum=1, maximum=30 * DAY
    )
    nodes: int = option(1, "machines, for launch=slurm", minimum=1, maximum=10_000)
    gpus: int = option(
        -1,
        "GPUs on each machine, for launch=slurm and avssl plan; 0: train on CPUs; -1: 8 on a cluster",
        minimum=-1,
        maximum=64,
    )
    cpus: int = option(8, "cores of each process, for launch=slurm", minimum=1, maximum=1024)
    partition: str = option("", "SLURM partition; empty: the cluster's default")
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
        "time before the limit at which SLURM signals a job to save and requeue, for launch=slurm",
        "s",
        minimum=10,
        maximum=DAY,
    )
    restarts: int = option(
        3,
        "how often in a row a failed job is requeued without a new checkpoint, for launch=slurm",
        minimum=0,
        maximum=1000,
    )
    setup: list[str] = option([], "shell lines to run before training, for launch=slurm, as 'module load cuda'")
    sbatch: list[str] = option([], "more options of sbatch, for launch=slurm, as [exclusive,'mem=200G']")
    dry: bool = option(False, "print the batch script and submit nothing, for launch=slurm")

    def gpus_of_node(self) -> int:
        """GPUs on each machine of a cluster."""
        return GPUS if self.gpus < 0 else self.gpus
