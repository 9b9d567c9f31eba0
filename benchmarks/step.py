"""`python -m benchmarks step`: what a step of a run costs beside its parts, made bare on the same data."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any
from unittest.mock import patch

import torch
from threadpoolctl import threadpool_limits

from avssl.clips import dataset
from avssl.clips.dataset import Batch
from avssl.clips.decode import ClipSpec, read_clips
from avssl.clips.decoders.span import ClipSpan
from avssl.config import DataConfig, IndexConfig, TrainConfig
from avssl.config.compose import compose_config
from avssl.contrast.view_plan import Encodable
from avssl.core.report import report
from avssl.core.screen import Console
from avssl.selflabel import transport_labeller
from avssl.train import loop
from avssl.train.run_state import RunState
from avssl.train.trainer import Trainer
from avssl.videos.index import index_videos
from benchmarks.bare import record, replay
from benchmarks.loader_files import make_files
from benchmarks.options import BenchStepConfig

PARTS = ("decode", "inputs", "model", "solver")
"""The bare parts. decode: FFmpeg's calls for the same clips, and nothing else; inputs: augmentation and spectrograms;
model: forward, loss, backward and optimiser on resident inputs; solver: the labels, from the same evidence."""


SMALL = ["labelling.clusters=4", "labelling.heads=2", "labelling.passes=4"]
"""Labels for few videos."""


@dataclass
class Times:
    """The times of one step or labelling pass, (s on the clock, s of CPU) by part; `whole` is the run's own, and `read`
    the share of it that `read_clips` took."""

    labelling: bool
    parts: dict[str, tuple[float, float]] = field(default_factory=dict)

    def add(self, part: str, work: Callable[[], Any]) -> Any:
        """Do the work, add its time to a part, and return its result."""
        clock, cpu = perf_counter(), process_time()
        result = work()
        before = self.parts.get(part, (0.0, 0.0))
        self.parts[part] = (before[0] + perf_counter() - clock, before[1] + process_time() - cpu)
        return result

    def bare(self, which: int) -> float:
        """The sum of the bare parts: of the clock (0) or the CPU (1), s."""
        return sum(self.parts[part][which] for part in PARTS if part in self.parts)


class _Timed(Trainer):
    """A trainer that makes the bare parts of each step and labelling pass after it, in turns with the run."""

    found: list[Times]
    asked: list[tuple[Path, list[ClipSpan], int]]
    """The clips that the step has read."""

    def resume(self) -> None:
        self.now, self.began = Times(False), (0.0, 0.0)
        self.seen: list[Batch] = []
        self.solved: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        super().resume()
        self.batches = self._noted(self.batches)
        self.bare = RunState(self.config, self.state.device)
        self.bare.begin({}, self.folder)

    def _noted(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        for batch in batches:
            self.seen.append(batch)
            yield batch

    def steps(self) -> Iterator[int]:
        for step in super().steps():
            self.now = Times(False)
            self.began = perf_counter(), process_time()
            yield step
            self.now.parts["whole"] = (perf_counter() - self.began[0], process_time() - self.began[1])
            self._make_bare(self._train)

    def relabel(self) -> None:
        step, self.now = self.now, Times(True)
        self.now.add("whole", super().relabel)
        self._make_bare(self._label)
        for ours, theirs in zip(self.bare.objectives, self.state.objectives, strict=True):
            ours[1].load_shared_state(theirs[1].shared_state())
            ours[1].load_rank_state(theirs[1].rank_state())
        self.now, self.began = step, (perf_counter(), process_time())  # the step that follows has its own time

    def _make_bare(self, model: Callable[[Batch, Encodable], None]) -> None:
        now = self.now
        recorded = [record(*arguments) for arguments in self.asked]
        for calls in recorded:
            now.add("decode", lambda calls=calls: replay(calls))  # type: ignore[misc]
        for batch in self.seen:
            clips = now.add("inputs", lambda batch=batch: self.bare.weighted.clips(batch))  # type: ignore[misc]
            now.add("model", lambda batch=batch, clips=clips: model(batch, clips))  # type: ignore[misc]
        for given, named in self.solved:
            now.add("solver", lambda given=given, named=named: _solve(*given, **named))  # type: ignore[misc]
        self.found.append(now)
        for recorded_things in (self.asked, self.seen, self.solved):
            recorded_things.clear()

    def _train(self, batch: Batch, clips: Encodable) -> None:
        state = self.bare
        state.model.train()
        state.optimizer.zero_grad(set_to_none=True)
        with patch.object(state.weighted, "clips", lambda _: clips):
            loss, _ = state.weighted(batch, False)
        loss.backward()
        state.optimizer.step()

    def _label(self, batch: Batch, clips: Encodable) -> None:
        self.bare.model.eval()
        with torch.no_grad():
            self.bare.model.encode(clips.main)


_solve = transport_labeller.sinkhorn


def main(config: BenchStepConfig) -> list[Times]:
    """Bench as configured, and print the tables."""
    console = Console(highlight=False, soft_wrap=True)
    threads = torch.get_num_threads()
    with TemporaryDirectory() as folder:
        files = make_files(Path(folder), [config.source], config.files, config.seconds, config.seed)[config.source]
        root = Path(folder) / "videos"
        root.mkdir()
        for path in files:
            path.rename(root / path.name)
        try:
            with threadpool_limits(1):
                found = {task: measure(root, Path(folder), task, config) for task in config.tasks}
        finally:
            torch.set_num_threads(threads)
    for task, times in found.items():
        _report(console, task, [t for t in times if not t.labelling][1:], "step", config)
        if passes := [t for t in times if t.labelling]:
            _report(console, task, passes[1:] or passes, "labelling", config)
    return [t for times in found.values() for t in times]


def measure(root: Path, folder: Path, task: str, config: BenchStepConfig) -> list[Times]:
    """Train on the videos in `root`, and time each step and labelling pass beside its parts."""
    data = DataConfig(root=str(root), name="step", index=str(folder / "index"), require_sound=True)
    index_videos(IndexConfig(data, workers=1))
    epochs = -(-config.steps * config.batch // config.files)
    words = [
        f"data.root={root}", f"data.index={folder / 'index'}", f"task={task}", f"model={config.model}",
        f"optim.batch={config.batch}", f"optim.epochs={epochs}", "seed=0", "workers=0", "threads=1",
        "device=cpu", f"out={folder / task}", *(SMALL if task == "selavi" else []), *config.words,
    ]  # fmt: skip
    train = compose_config("train", TrainConfig, words)
    found: list[Times] = []
    asked: list[tuple[Path, list[ClipSpan], int]] = []
    timed = type("_Timed", (_Timed,), {"found": found, "asked": asked})
    trainers: list[_Timed] = []

    def trainer(*given: Any) -> _Timed:
        trainers.append(timed(*given))
        return trainers[0]

    def read(
        path: Any, starts: Any, spec: ClipSpec, short_side: int, speeds: Any = None, *more: Any, **named: Any
    ) -> Any:
        spans = [ClipSpan(s, spec.played(v)) for s, v in zip(starts, speeds or [1.0] * len(starts), strict=True)]
        asked.append((path, spans, short_side))
        return trainers[0].now.add("read", lambda: read_clips(path, starts, spec, short_side, speeds, *more, **named))

    def solve(*given: Any, **named: Any) -> Any:
        trainers[0].solved.append((given, named))
        return _solve(*given, **named)

    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(StringIO()))
        stack.enter_context(patch.object(loop, "Trainer", trainer))
        stack.enter_context(patch.object(dataset, "read_clips", read))
        stack.enter_context(patch.object(transport_labeller, "sinkhorn", solve))
        loop.run(train)
    return found


def _report(console: Console, task: str, times: list[Times], what: str, config: BenchStepConfig) -> None:
    def middle(of: Callable[[Times, int], float]) -> list[str]:
        return [f"{1e3 * median(of(t, which) for t in times):.1f}" for which in (0, 1)]

    names = {"whole": f"the run's {what}", "read": "of it, reading clips"}
    names |= {part: f"bare {part}" for part in PARTS}
    rows = [
        [name, *middle(lambda t, which, part=part: t.parts[part][which])]  # type: ignore[misc]
        for part, name in names.items()
        if all(part in t.parts for t in times)
    ]
    rows.append(["sum of the bare parts", *middle(Times.bare)])
    ratios = [median(t.parts["whole"][which] / t.bare(which) for t in times) for which in (0, 1)]
    rows.append([f"{what} / sum", *(f"{ratio:.3f}" for ratio in ratios)])
    decode = [median(t.parts["read"][which] / t.parts["decode"][which] for t in times) for which in (0, 1)]
    rows.append(["reading / bare decode", *(f"{ratio:.3f}" for ratio in decode)])
    beyond = [median(_beyond(t, which) for t in times) for which in (0, 1)]
    rows.append([f"beyond reading, inputs, model and solver: share of the {what}", *(f"{b:.1%}" for b in beyond)])
    about = (
        f"{task}, {config.batch} videos a step, {config.source} files of {config.seconds:g} s, model={config.model}; "
        f"medians over {len(times)}, one thread, the bare parts of each {what} after it. Ratios are medians of ratios."
    )
    report(console, f"{what}_{task}", [what, "ms", "CPU ms"], rows, about, config.out)


def _beyond(times: Times, which: int) -> float:
    """The share of a step that is neither reading clips nor a bare part."""
    parts = sum(times.parts[part][which] for part in ("read", *PARTS[1:]) if part in times.parts)
    return 1 - parts / times.parts["whole"][which]
