"""`avssl train`: in this process, in several of this machine, or as a job of SLURM."""

import os
from pkgutil import resolve_name

from ..config import TrainConfig
from ..core.screen import Console
from ..train.check_options import check_launch, check_training
from .ending import FOLDER, TRAINING, hard_exit, run_and_record_exit, tell_error


def run(config: TrainConfig, training: str = TRAINING) -> None:
    """Train as configured, where `config.launch` says.

    Raises UserError for options, paths or data that do not fit; FailedError when a process died; and Stopped when a
    signal ended the training, after it has saved.
    """
    run_all([config], training)


def run_all(configs: list[TrainConfig], training: str = TRAINING) -> None:
    """Several trainings: one after another on this machine, one array of jobs on SLURM. Raises what `run` does."""
    if "RANK" in os.environ and FOLDER in os.environ:  # started by a launcher already, slurm/train.sbatch for one
        status = run_and_record_exit(configs[0], training)
        tell_error()
        hard_exit(status)
    if "RANK" in os.environ:  # by one that reads no endings
        resolve_name(training)(configs[0])
        hard_exit(0)
    if training == TRAINING:
        for config in configs:
            check_training(config)
    launch = configs[0].launch
    if launch.where == "slurm":
        from .slurm import submit

        submit(configs, training)
        return
    check_launch(launch)
    for number, config in enumerate(configs, 1):
        if len(configs) > 1:
            Console(highlight=False, soft_wrap=True).print(f"training {number} of {len(configs)}: {config.out}")
        if config.launch.processes > 1:
            from .local import run_processes

            run_processes(config, training)
        else:
            resolve_name(training)(config)
