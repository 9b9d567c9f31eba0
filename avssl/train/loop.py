"""`avssl train`: the training loop, in one process or several."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import torch

from ..config import TrainConfig
from ..config.run_folder import make_run_folder, write_config
from ..core.checkpoint_store import Checkpoints
from ..core.collectives import rank
from ..core.device import prepare_device, say_if_busy, share_cores
from ..models.taken_clip import take_over
from ..videos.index_options import resolve_for_training
from .check_options import check
from .distributed import process_group
from .run_state import RunState
from .signals import StopSignals
from .take_features import take_features
from .trainer import Trainer
from .training_data import write_index


def run(config: TrainConfig) -> Path:
    """Train as configured, from the newest checkpoint of the run folder if there is one.

    Returns:
        The run folder.

    Raises:
        UserError: the options contradict each other or do not fit the data.
        LostProcessError: another process of the run has ended.
        Stopped: SIGTERM, Ctrl-C, or a scheduler's SIGUSR1 or SIGUSR2 came, and the run was saved.
    """
    config = take_features(config)
    check(config)
    config = take_over(replace(config, data=resolve_for_training(config.data)))
    device = prepare_device(config.device, fixed_shapes=True)
    share_cores(device, config.workers, config.threads)
    say_if_busy(device, config.threads)
    signals = StopSignals()
    try:
        with process_group(device, config.launch.timeout):
            return _train(config, device, signals)
    finally:
        signals.close()


def _train(config: TrainConfig, device: torch.device, signals: StopSignals) -> Path:
    state, folder = RunState(config, device), Path(config.out)
    if rank() == 0:
        make_run_folder(config)  # only now, so that invalid options leave no run folder behind
    with closing(Checkpoints(folder, config.launch.timeout)) as checkpoints:  # no other command has the folder open
        if rank() == 0:
            write_config(config)
            write_index(state.data.index, Path(config.data.index))
        trainer = Trainer(state, folder, checkpoints, signals)
        trainer.resume()
        with trainer.running():  # logs how the run ended
            for step in trainer.steps():  # ends at the total, or at a signal
                while trainer.labelling_due(step):  # several objectives may have a pass
                    trainer.relabel()
                if trainer.monitor_due(step):
                    trainer.measure_features()
                for batch in trainer.micro_batches():
                    loss = trainer.forward(batch)
                    trainer.watch(
                        loss, batch
                    )  # before backward, so that the copy of the loss waits only for the forward pass
                    trainer.backward(loss)
                trainer.update(step)
            trainer.finish()
        return trainer.report()
