"""`avssl train`: launch a run in this process, in several processes on this machine, or as a SLURM job."""

import os
from pathlib import Path

from ..config import TrainConfig
from ..core.errors import UserError
from ..core.part import VARIABLE
from ..core.screen import Console, one_line
from ..core.untrusted import is_count
from ..runs.sign_of_life import read
from ..train.check_options import check_launch, check_training
from ..videos.auto import note_decision
from .ending import FOLDER, TRAINING, hard_exit, print_error, run_and_record_exit
from .features_first import train


def run(config: TrainConfig, training: str = TRAINING) -> None:
    """Launch a run according to `config.launch`.

    Args:
        config: the options of the run.
        training: the function that trains, as "module:function".

    Raises:
        UserError: options, paths or data are invalid.
        FailedError: a process died.
        Stopped: a signal ended the run, which was saved.
    """
    run_all([config], training)


def run_all(configs: list[TrainConfig], training: str = TRAINING) -> None:
    """Launch several runs: one after another on this machine, or as a SLURM job array. Raises the errors of `run`."""
    if VARIABLE in os.environ:
        raise UserError(f"{VARIABLE}={os.environ[VARIABLE][:60]}: `avssl train` has no parts: unset it")
    if "RANK" in os.environ and FOLDER in os.environ:  # a launcher started this process, such as slurm/train.sbatch
        status = run_and_record_exit(configs[0], training)
        print_error()
        hard_exit(status)
    if "RANK" in os.environ:  # the launcher, such as torchrun, reads no endings
        if os.environ["RANK"] == "0":
            note_decision(configs[0])
        train(configs[0], training)
        hard_exit(0)
    if training == TRAINING:
        for config in configs:
            check_training(config)
    launch = configs[0].launch
    if training == TRAINING and not launch.dry and (launch.where == "slurm" or launch.processes > 1):
        configs = [config for config in configs if not _was_finished(config)]
        if not configs:
            return
    for config in configs:
        if not config.launch.dry:
            note_decision(config)
    if launch.where == "slurm":
        from .slurm import submit

        submit(configs, training)
        return
    check_launch(launch)
    for number, config in enumerate(configs, 1):
        if len(configs) > 1:
            Console(highlight=False).note(f"run {number} of {len(configs)}: {config.out}")
        if config.launch.processes > 1:
            from .local import run_processes

            run_processes(config, training)
        else:
            train(config, training)


def _was_finished(config: TrainConfig) -> bool:
    """Whether a run has made all its steps, which is said: processes need not start, nor a job wait, to find that."""
    folder, status = Path(config.out), read(Path(config.out) / "status.json")
    step, total = status.get("step"), status.get("total")
    if status.get("state") != "finished" or not is_count(step) or step != total:
        return False
    if not any((folder / "checkpoints").glob(f"step_*{step}")):
        return False
    text = f"already finished: {one_line(folder)} (step {step:,} of {total:,}); for another run, give out=… or seed=…"
    Console(highlight=False, soft_wrap=True).print(text, markup=False)
    return True
