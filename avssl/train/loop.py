"""`avssl train`: the training loop, in one process or in many."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import torch

from ..config import TrainConfig
from ..config.run_folder import open_run
from ..core.checkpoint_store import Checkpoints
from ..core.collectives import rank
from ..core.device import choose_device, share_cores
from ..videos.index_options import resolve_for_training
from .check_options import check
from .distributed import process_group
from .run_state import RunState
from .signals import StopSignals
from .trainer import Trainer


def run(config: TrainConfig) -> Path:
    """Train as configured, from the run folder's newest checkpoint where there is one. Returns the run folder.

    Raises:
        UserError: options or data that do not fit.
        LostProcessError: another process of the run is gone.
        Stopped: a signal came, and the run was saved: SIGTERM, Ctrl-C, or a scheduler's SIGUSR1 or SIGUSR2.
    """
    check(config)
    config = replace(config, data=resolve_for_training(config.data))
    device = choose_device(config.device)
    share_cores(device, config.workers, config.threads)
    signals = StopSignals()
    try:
        with process_group(device, config.launch.timeout):
            return _train(config, device, signals)
    finally:
        signals.close()


def _train(config: TrainConfig, device: torch.device, signals: StopSignals) -> Path:
    state, folder = RunState(config, device), Path(config.out)
    if rank() == 0:
        open_run(config)  # once all that can be wrong with the options has been found
    with closing(Checkpoints(folder, config.launch.timeout)) as checkpoints:
        trainer = Trainer(state, folder, checkpoints, signals)
        trainer.resume()
        with trainer.running():  # the log is closed, and says how it ended
            for step in trainer.steps():  # ends at the total, or at a signal
                if trainer.labelling_due(step):
                    trainer.relabel()
                for batch in trainer.micro_batches():
                    loss = trainer.forward(batch)
                    trainer.watch(loss, batch)  # before backward: its copy waits for the forward pass alone
                    trainer.backward(loss)
                trainer.update(step)
            trainer.finish()
        return trainer.report()
