"""Between two training steps nothing waits for the GPU: no value is read back from it, no process waits for another,
and a batch is copied to it once, from pinned memory. See `step_recorder` for what is counted."""

import warnings
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.data._utils.pin_memory import pin_memory

from avssl.clips.augment import augment_frames
from avssl.clips.dataset import Batch
from avssl.config import ClipConfig, TrainConfig
from avssl.config.compose import compose_config
from avssl.contrast.prototypes import Prototypes
from avssl.core.checkpoint_store import Checkpoints
from avssl.objectives.contrast import Contrast
from avssl.objectives.labelling import Labelling
from avssl.objectives.prototypes import PrototypePasses, key_of
from avssl.train.run_state import RunState
from avssl.train.signals import StopSignals
from avssl.train.take_features import take_features
from avssl.train.trainer import Trainer
from tests.conftest import made_with_features
from tests.train.step_recorder import DEVICE, WAITING, Recorder, device_recorder

TINY = [
    "model=tiny", "clip=tiny", "workers=0", "threads=1", "precision=float32", "optim.batch=4", "optim.epochs=20",
    "log_steps=2", "labelling.clusters=3", "labelling.heads=2", "labelling.warmup_batches=0",
]  # fmt: skip
AUGMENTED = [
    "clip.noise=0.1",
    "clip.rotate=5",
    "clip.shift=0.1",
    "clip.grey=0.2",
    "clip.audio_shift=0.05",
]
STORED = "data.features={features}"
MOCO = ["objective=moco", "contrast.axes.augmentation=off", "contrast.axes.time_shift=invariant"]
CASES = {
    "labelling": (1, ["labelling.sharing=shared", *AUGMENTED]),
    "labelling per modality": (2, ["labelling.sharing=per_modality", "labelling.groups=2", "optim.optimizer=adamw"]),
    "contrast reversal": (2, ["task=gdt", "contrast=preset_3"]),
    "contrast released": (2, ["task=gdt", "contrast=preset_2", "contrast.released=[loss]", "optim.optimizer=lars"]),
    "both": (1, ["task=both", "contrast=preset_1", "labelling.sharing=shared"]),
    "clipped": (1, ["task=gdt", "contrast=preset_4", "optim.max_grad_norm=1", "optim.accumulate=2"]),
    "swav": (2, ["objective=swav", "distillation.queue=12", "distillation.prototypes=6"]),
    "dino": (1, ["objective=dino", "distillation.prototypes=6"]),
    "small": (2, ["task=both", "contrast=preset_1", "labelling.sharing=shared", "crops.small=2", *AUGMENTED]),
    "predicted": (2, ["objective=arrow", "loss.rotation=1", "loss.context=1", "loss.sync=1", *AUGMENTED]),
    "localisation": (2, ["objective=localisation_labels", "model.video_stride=8", "labelling.start=0"]),
    "stored soft": (2, [STORED, "labelling.soft=1", "labelling.sharing=shared"]),
    "stored bank": (2, [STORED, "labelling.mode=bank", "labelling.sharing=shared"]),
    "stored batch": (2, [STORED, "labelling.mode=batch", "labelling.sharing=shared", "labelling.queue=16"]),
    "stored queue": (2, [STORED, *MOCO]),
    "stored bank of keys": (2, [STORED, "objective=npid", "contrast.axes.time_shift=invariant"]),
    "stored drawn keys": (1, [STORED, "objective=npid", "contrast.negatives=8", "contrast.released=[nce]"]),
    "stored jepa": (
        2, [STORED, "objective=jepa", "contrast.axes.augmentation=off", "contrast.axes.time_shift=invariant"]
    ),
    "stored both": (2, [STORED, "task=both", "contrast=preset_4", "labelling.sharing=shared"]),
    "stored prototypes": (2, [STORED, "task=gdt", "contrast=preset_4", "contrast.prototypes=[3,5]"]),
}  # fmt: skip
"""The number of processes and the options of each case. Those with stored features are cheap."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """36 training videos long enough for two clips apart, and features of three clips of each."""
    return made_with_features(tmp_path_factory)[0]


def test_normalising_by_colour_copies_the_colours_once() -> None:
    config = replace(ClipConfig(), mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.2])
    frames = torch.randint(0, 256, (2, 3, 4, 4, 3), dtype=torch.uint8)
    expected = augment_frames(frames, config, None)
    with device_recorder() as recorder:
        there = frames.to(DEVICE)
        augment_frames(there, config, None)
        recorder.counts.clear()
        x = augment_frames(there, config, None)
        assert not recorder.counts
        assert torch.equal(x.cpu(), expected)


def pinned(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Batches as torch's loader hands them out beside a GPU."""
    for batch in batches:
        yield pin_memory(batch)


def steps_of(words: list[str], folder: Path, processes: int) -> Recorder:
    """The counts of two steps, one of which is logged, after two others."""
    config = take_features(compose_config("train", TrainConfig, [*words, f"out={folder}"]))
    signals = StopSignals()
    with device_recorder(processes) as recorder, closing(signals), closing(Checkpoints(folder, 10.0)) as checkpoints:
        trainer = Trainer(RunState(config, DEVICE), folder, checkpoints, signals)
        trainer.resume()
        trainer.batches = pinned(trainer.batches)
        for _, objective in trainer.state.objectives:
            if isinstance(objective, Labelling):
                labelled(objective)
            if isinstance(objective, Contrast) and objective.prototypes is not None:
                clustered(objective.prototypes)
        for step in range(4):
            recorder.now = step
            if step == 2:
                recorder.counts.clear()
            for batch in trainer.micro_batches():
                loss = trainer.forward(batch)
                recorder.now = step + 0.3
                trainer.watch(loss, batch)
                trainer.backward(loss)
            recorder.now = step + 0.6
            trainer.update(step)
        trainer.log.close()
    return recorder


def labelled(objective: Labelling) -> None:
    """Random labels, as if the labelling passes were over."""
    labeller, generator = objective.labeller, torch.Generator().manual_seed(0)
    labeller.done = len(labeller.steps)
    labeller.labels.random_(0, objective.config.labelling.clusters, generator=generator)


def clustered(passes: PrototypePasses) -> None:
    """Random prototypes, as if the passes that find them were over."""
    passes.done = len(passes.steps)
    generator = torch.Generator().manual_seed(0)
    for modality in passes.modalities:
        for clusters in passes.clusters:
            directions = torch.randn(clusters, passes.contrast.projection, generator=generator)
            phi = torch.full((clusters,), 0.1)
            passes.found[key_of(modality, clusters)] = Prototypes(directions.to(DEVICE), phi.to(DEVICE))
    passes.numbers.random_(0, 3, generator=generator)


@pytest.mark.parametrize("case", CASES)
def test_a_step_waits_for_nothing(case: str, data: list[str], tmp_path: Path) -> None:
    features = data[0].removeprefix("data.root=") + "_features"
    processes, options = CASES[case]
    words = [*data, *TINY, *(word.format(features=features) for word in options)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a loader that finds no GPU to pin memory for
        recorder = steps_of(words, tmp_path, processes)
    print(recorder.describe(*WAITING, "copy"))
    assert recorder.total(*WAITING) == 0, recorder.describe(*WAITING)
    batches = 2 * (2 if case == "clipped" else 1)
    assert recorder.total("copy") == batches, recorder.describe("copy")
