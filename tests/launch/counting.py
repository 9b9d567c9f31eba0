"""A training that learns nothing: it counts `optim.epochs` steps of 0.1 s, in as many processes as there are, saves
every five, stops and goes on as a training does. `python -m tests.launch.counting <words>` is `avssl train` with it.

seed=13 is refused, and seed=14 fails in the last process.
"""

import os
import sys
import time
from pathlib import Path

from avssl import cli
from avssl.config import TrainConfig
from avssl.core.errors import UserError
from avssl.launch import command
from avssl.train.signals import Stopped, StopSignals

TRAINING = "tests.launch.counting:count"


def count(config: TrainConfig) -> None:
    rank, processes = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if config.seed == 13:
        raise UserError("seed=13 is unlucky: choose another")
    signals = StopSignals()
    if processes > 1:
        import torch.distributed as dist  # a single process does without torch, which takes seconds to import

        dist.init_process_group("gloo")
    folder = Path(config.out) / "checkpoints"
    step = max((int(path.name[5:]) for path in folder.glob("step_*")), default=0)
    print(f"rank {rank} of {processes} begins at step {step}, process {os.getpid()}", flush=True)
    Path(config.out).mkdir(parents=True, exist_ok=True)
    (Path(config.out) / f"process_{rank}").write_text(str(os.getpid()))

    def save() -> None:
        if rank == 0:
            (folder / f"step_{step:010d}").mkdir(parents=True, exist_ok=True)  # a stop may follow at once

    while step < config.optim.epochs:
        stop, requeue = _agreed(signals) if processes > 1 else (bool(signals), signals.requeue)
        if stop:
            save()
            print(f"rank {rank} stopped at step {step}", flush=True)
            time.sleep(rank)  # one is slower to end
            signals.close()
            raise Stopped(requeue, since=signals.since)
        if config.seed == 14 and step == 3 and rank == processes - 1:
            raise ValueError("a bug")
        time.sleep(0.1)
        step += 1
        if step % 5 == 0 or step == config.optim.epochs:
            save()
    print(f"rank {rank} finished at step {step}", flush=True)
    signals.close()
    if processes > 1:
        dist.destroy_process_group()


def _agreed(signals: StopSignals) -> tuple[bool, bool]:
    """Whether any process has received a signal to stop, and one to requeue."""
    import torch
    import torch.distributed as dist

    flags = torch.tensor([bool(signals), signals.requeue], dtype=torch.int32)
    dist.all_reduce(flags, dist.ReduceOp.MAX)
    return bool(flags[0]), bool(flags[1])


def run(config: TrainConfig) -> None:
    command.run(config, TRAINING)


def run_all(configs: list[TrainConfig]) -> None:
    command.run_all(configs, TRAINING)


COMMANDS = {"avssl.launch.command:run": run, "avssl.launch.command:run_all": run_all}
"""Instead of those that train."""


def main(words: list[str]) -> int:
    """`avssl <words>` with this training."""
    cli._resolve = COMMANDS.__getitem__
    cli.QUIET = 600.0  # a busy machine adds no line to what tests read
    return cli.main(words)


if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
