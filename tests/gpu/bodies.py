"""What the tests of this folder do on a device. `test_bodies_on_cpu.py` runs the same on a CPU, so that a mistake in a
body is found without a GPU."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from avssl.cli import main
from avssl.clips.dataset import Batch
from avssl.clips.loader import load
from avssl.config import TrainConfig
from avssl.config.compose import compose_config
from avssl.core.checkpoint_store import FOLDER, steps_of
from avssl.core.device import prepare_device
from avssl.plan.timing import random_evidence
from avssl.runs.checkpoints import load_run_state
from avssl.selflabel.marginals import uniform
from avssl.selflabel.sinkhorn import assign, sinkhorn
from avssl.train.run_state import RunState
from avssl.train.take_features import take_features
from tests.conftest import made_once
from tests.processes import Started, start_together

LABELS = ["labelling.clusters=3", "labelling.heads=2", "labelling.passes=2", "labelling.warmup_batches=1"]
SMALL = ["model=tiny", "clip=tiny", "model.dropout=0", "workers=0", "threads=1", "optim.epochs=1", "optim.batch=8"]
OBJECTIVES = {
    "labels": ["labelling.sharing=shared"],
    "labels per modality": ["labelling.sharing=per_modality", "labelling.groups=2"],
    "soft labels": ["labelling.sharing=shared", "labelling.soft=1"],
    "bank": ["labelling.mode=bank", "labelling.sharing=shared"],
    "contrast": ["task=gdt", "contrast=preset_1", "clip.fps=8"],
    "contrast in blocks": ["task=gdt", "contrast=preset_3", "clip.fps=8", "contrast.block=4"],
    "both": ["task=both", "contrast=preset_3", "labelling.sharing=shared", "clip.fps=8"],
    "accumulated": ["optim.accumulate=2", "labelling.sharing=shared"],
    "augmented": ["labelling.sharing=shared", "clip.noise=1", "clip.shift=0.1"],
    "frozen": ["labelling.sharing=shared", "model.freeze=[video]"],
    "heads alone": ["task=both", "contrast=preset_1", "clip.fps=8", "labelling.stop_gradient=true"],
    "features": ["data.features={features}", "labelling.sharing=shared"],
}
"""Words of runs whose steps differ in what they do on the device. `labelling.mode=batch` is not one of them: it solves
in every step."""

STEPS = 3


def words_of(case: str, data: list[str], *further: str) -> list[str]:
    """The words of a run of `case` on the sample that `data` names."""
    store = store_of(data)
    labels = [] if "task=gdt" in OBJECTIVES[case] else LABELS
    return [*data, *SMALL, *labels, *(word.format(features=store) for word in OBJECTIVES[case]), *further]


def store_of(data: list[str]) -> Path:
    """The folder of the features, one for each of several pytest processes."""
    return Path(data[0].removeprefix("data.root=") + f"_one_clip_{os.environ.get('PYTEST_XDIST_WORKER', '')}")


def videos(factory: pytest.TempPathFactory) -> list[str]:
    """The words of 36 training videos long enough for two clips apart, with the features of a clip of each."""
    words = made_once(factory, "apart", "min_seconds=2.2", "max_seconds=2.4")
    store = store_of(words)
    if not store.is_dir():
        options = ["model=tiny", "clip=tiny", "workers=0", "threads=1", "device=cpu"]
        assert main(["features", *words, *options, f"out={store}"]) == 0
    return words


@contextmanager
def nothing_waits(device: torch.device) -> Iterator[None]:
    """On a GPU, a value that is read back, or a copy that waits for the device, is an error here."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


class Run:
    """A run of these words on `device`, labelled once, with the batches of its first steps at hand."""

    def __init__(self, words: list[str], device: str):
        config = take_features(compose_config("train", TrainConfig, words))
        self.device = prepare_device(device, fixed_shapes=True)
        self.state = RunState(config, self.device)
        self.state.begin({}, Path())
        loaded = load(self.state.dataset, self.state.requests(), 0, pin=self.device.type == "cuda")
        if self.state.labelling(0):
            self.state.relabel(loaded)
        self.batches = [next(loaded) for _ in range(STEPS * config.optim.accumulate)]
        self.steps = 0

    def step(self) -> torch.Tensor:
        """The loss of a training step; no value is read back from the device."""
        state, number = self.state, self.state.config.optim.accumulate
        state.begin_step()
        for place in range(number):
            batch = self.batches[self.steps % STEPS * number + place]
            loss, _ = state.forward(batch, False, place + 1 == number)
            state.backward(loss)
        state.update(False)
        self.steps += 1
        return loss.detach()


def no_step_waits(words: list[str], device: str) -> list[float]:
    """Steps of a run: the first may set up libraries, the others must not wait for the device. Returns the losses."""
    run = Run(words, device)
    losses = [run.step()]
    for _ in range(STEPS - 1):
        with nothing_waits(run.device):
            losses.append(run.step())
    values = [float(loss) for loss in losses]
    assert all(torch.isfinite(torch.tensor(values)))
    return values


def tensors_of(value: Any) -> Iterator[torch.Tensor]:
    """The tensors in a batch, in its dictionaries and in its random values."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from tensors_of(part)
    elif is_dataclass(value):
        for field in fields(value):
            yield from tensors_of(getattr(value, field.name))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from tensors_of(part)


def copied_to_the_device(batch: Batch) -> list[torch.Tensor]:
    """The tensors of a batch that a step copies: all but the rows of its videos, which stay here to find labels."""
    return [x for x in tensors_of(batch) if x is not batch.index and x.numel()]


def losses_of(words: list[str], device: str) -> torch.Tensor:
    """The losses of the first steps, float [STEPS]."""
    run = Run(words, device)
    return torch.stack([run.step() for _ in range(STEPS)]).float().cpu()


def kernels(work: Callable[[], Any], device: torch.device) -> set[str]:
    """The names of the operations and kernels of `work`."""
    kinds = [torch.profiler.ProfilerActivity.CPU]
    kinds += [torch.profiler.ProfilerActivity.CUDA] if device.type == "cuda" else []
    with torch.profiler.profile(activities=kinds) as profile:
        work()
    return {event.key for event in profile.key_averages()}


def solved_alike(device: str, rows: int = 4096, clusters: int = 40) -> None:
    """The solver on a device gives the labels of the CPU, but for ties by rounding."""
    problem = random_evidence(rows, clusters, 0)
    log_p, marginal = problem.block_of(0, rows), uniform(clusters)
    here, there = sinkhorn(log_p, marginal), sinkhorn(log_p.to(device), marginal.to(device))
    assert there.error <= 0.1
    torch.testing.assert_close(there.log_alpha.cpu(), here.log_alpha, rtol=1e-2, atol=1e-2)
    labels = [assign(log_p.to(x.log_alpha.device), x.log_alpha, 20.0)[0].cpu() for x in (here, there)]
    assert (labels[0] == labels[1]).float().mean() >= 0.999


def resumed_on(words: list[str], first: str, second: str, folder: Path) -> None:
    """A run that was saved before its last step on one device ends on another as it would have on the first."""
    out = folder / "run"
    assert Started([*words, "log_steps=1", "save_seconds=0", f"device={first}", f"out={out}"]).end() == 0
    whole = last_loss(out)
    before = {name: x.float() for name, x in load_run_state(out)["model"].items()}
    shutil.rmtree(max((out / FOLDER).iterdir(), key=lambda path: path.name))
    assert len(steps_of(out / FOLDER)) == 1
    assert Started([*words, "log_steps=1", "save_seconds=0", f"device={second}", f"out={out}"]).end() == 0
    assert last_loss(out) == pytest.approx(whole, rel=2e-3)
    for name, x in load_run_state(out)["model"].items():
        torch.testing.assert_close(x.float(), before[name], rtol=2e-2, atol=2e-3)


def last_loss(run: Path) -> float:
    """The loss of the last step in a run's log."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return next(line["loss"] for line in reversed(lines) if line["kind"] == "train")


def without_inductor(words: list[str]) -> int:
    """`avssl`, whose compiler stops at autograd's graphs, because inductor compiles C++ for minutes on a CPU."""
    torch.compile = partial(torch.compile, backend="aot_eager")  # type: ignore[assignment]
    return main(words)


def two_are_one(words: list[str], device: str, folder: Path, command: Callable[[list[str]], int] = main) -> None:
    """Two processes, each with half of a batch, end with the loss of one that compiles nothing."""
    alone, pair = folder / "alone", folder / "pair"
    assert (
        Started([*words, "log_steps=1", f"device={device}", "optim.batch=8", "compile=false", f"out={alone}"]).end()
        == 0
    )
    options = [*words, "log_steps=1", f"device={device}", "optim.batch=4", "optim.scale_lr=false", f"out={pair}"]
    both = start_together(options, folder, command=command)
    assert [process.end() for process in both] == [0, 0], both[0].text()
    assert last_loss(pair) == pytest.approx(last_loss(alone), rel=1e-2)


def compiled_alike(words: list[str], device: str) -> None:
    """Compiled encoders, each of one graph, give the losses of those that are not."""
    torch._dynamo.reset()
    plain = losses_of([*words, "compile=false"], device)
    torch._dynamo.utils.counters.clear()
    torch.testing.assert_close(losses_of([*words, "compile=true"], device), plain, rtol=2e-2, atol=1e-3)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert not torch._dynamo.utils.counters["graph_break"]


def visible_gpus() -> int:
    """The number of GPUs that the tests may use."""
    return 0 if os.environ.get("CUDA_VISIBLE_DEVICES") == "" else torch.cuda.device_count()
