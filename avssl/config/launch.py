"""Where a run computes, in how many processes."""

from dataclasses import dataclass

from .option import DAY, option


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
        600.0, "a process that the others wait for longer than this ends the training", "s", minimum=1, maximum=30 * DAY
    )
    nodes: int = option(1, "machines, for launch=slurm", minimum=1, maximum=10_000)
    gpus: int = option(8, "GPUs on each machine, for launch=slurm; 0 trains on CPUs", minimum=0, maximum=64)
    cpus: int = option(8, "cores of each process, for launch=slurm", minimum=1, maximum=1024)
    memory_gb: float = option(
        0.0, "memory of each machine, for launch=slurm; 0 is the partition's default", "GB", minimum=0, maximum=100_000
    )
    partition: str = option("", "SLURM partition; empty is the cluster's default")
    account: str = option("", "SLURM account")
    qos: str = option("", "SLURM quality of service")
    constraint: str = option("", "features that SLURM's nodes must have")
    minutes: int = option(
        1440,
        "time limit of a job, for launch=slurm; a training that needs longer is requeued",
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
    setup: list[str] = option([], "shell lines before the training, for launch=slurm, as 'module load cuda'")
    sbatch: list[str] = option([], "further options of sbatch, for launch=slurm, as [exclusive,'mail-type=END']")
    dry: bool = option(False, "print what sbatch would be given, for launch=slurm, and submit nothing")


@dataclass
class PlannedLaunchConfig(LaunchConfig):
    gpus: int = option(
        -1, "GPUs on each machine; 0 trains on CPUs; -1 is 8 for launch=slurm or several nodes, else what is here",
        minimum=-1, maximum=64,
    )  # fmt: skip
