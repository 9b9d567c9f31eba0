"""What is evaluated: a run, a published checkpoint, or features from a file; and on which videos."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from ..cards.card import card_files, weights_of
from ..compose import compose_config, nearest
from ..config import ClipConfig, DataConfig, EvaluateConfig, LabellingConfig, TrainConfig
from ..data.index import read_index, splits
from ..errors import UserError
from ..models import TwoStream
from ..models.zoo import load_published
from ..selflabel.alignment import common_numbering
from ..train.checkpoint import load_checkpoint
from ..train.checkpoints import MANIFEST, STATE, load_run_state, load_whole
from ..train.run_folder import read_config
from ..train.task import build_model

PUBLISHED_CLIPS = {"selavi": ["clip=published", "clip.spectrogram=logfbank", "clip.mels=257"], "gdt": ["clip=gdt"]}
"""The clips that published models were trained on. torchvision's has no sound; its pictures are normed by channel."""


@dataclass
class Source:
    """Encoders and the clips that they take; `model` None stands for features from a file."""

    name: str
    model: TwoStream | None
    clip: ClipConfig
    precision: str
    step: int | None = None
    data: DataConfig | None = None
    """What a run was trained on."""
    costs: np.ndarray | None = None
    """Transport cost of each head, [H]."""
    marginals: np.ndarray | None = None
    """Cluster sizes that were asked for, as shares, [H, K]."""
    labelling: LabellingConfig | None = None
    """Of a run with cluster heads."""
    labeller: dict[str, Any] = field(default_factory=dict)
    """What a run's checkpoint says of its labellings; empty for published weights, and before training."""


def open_source(config: EvaluateConfig) -> Source:
    """Raises UserError unless exactly one of `run`, `checkpoint` and `features` is given, and can be read."""
    given = [name for name in ("run", "checkpoint", "features") if getattr(config, name)]
    if len(given) != 1:
        what = "one of run, checkpoint, features is needed" if not given else f"{' and '.join(given)} are given"
        raise UserError(f"{what}: give run=<folder of avssl train>, checkpoint=<file>, or features=<file>")
    if config.features:
        return Source(config.features, None, ClipConfig(), "float32")
    path = Path(config.run or config.checkpoint)
    if config.checkpoint and not path.exists():
        known = weights_of(config.checkpoint)
        if known is None:
            raise UserError(
                f"no checkpoint {config.checkpoint}{nearest(config.checkpoint, list(card_files()))} "
                f"(a file, a run's step folder, or a name that avssl models lists)"
            )
        path = known
    path = _step(path)
    folder = Path(config.run) if config.run else run_of(path)
    if folder is not None:
        return _run(folder, path, config.random)
    if (path / "config.yaml").is_file():
        raise UserError(f"checkpoint={path} is a run: give run={path}")
    family, model = load_published(path)
    words = PUBLISHED_CLIPS.get(family, ["clip=published"])
    clip = compose_config("train", TrainConfig, ["data.root=x", *words]).clip
    if config.random:
        torch.manual_seed(0)
        for module in model.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()  # type: ignore[operator]
    return Source(str(path), model, clip, "auto")


def _step(checkpoint: Path) -> Path:
    """The step folder of a run that a state file stands for; of others, the checkpoint itself."""
    return checkpoint.parent if checkpoint.name == STATE else checkpoint


def run_of(checkpoint: str | Path) -> Path | None:
    """The folder of the run that a checkpoint is of; None for one of no run."""
    path = _step(Path(checkpoint))
    folder = path.parents[1] if (path / MANIFEST).is_file() else path.parent
    if not (folder / "config.yaml").is_file():
        return None
    try:
        read_config(folder)
    except UserError:
        if (path / MANIFEST).is_file():
            raise
        return None  # another program's config.yaml beside a file of weights
    return folder


def output_folder(config: EvaluateConfig) -> Path:
    """Where an evaluation writes."""
    if config.out:
        return Path(config.out)
    if config.run:
        return Path(config.run) / "evaluate"
    if config.checkpoint and (folder := run_of(config.checkpoint)):
        return folder / "evaluate" / _step(Path(config.checkpoint)).stem
    return Path("evaluate") / Path(config.checkpoint or config.features).stem


def _run(folder: Path, checkpoint: Path, random: bool) -> Source:
    trained = read_config(folder)
    model, state = load_run(checkpoint, trained, random)
    labeller = {k: x for k, x in state.get("labeller", {}).items() if k in ("costs", "marginals", "measures", "labels")}
    costs, marginals = (None if (x := labeller.get(k)) is None else x.numpy() for k in ("costs", "marginals"))
    return Source(
        str(folder), model, trained.clip, trained.precision, int(state["step"]), trained.data, costs, marginals,
        trained.labelling if trained.task != "gdt" else None, labeller,
    )  # fmt: skip


def load_run(checkpoint: Path, trained: TrainConfig, random: bool = False) -> tuple[TwoStream, dict]:
    """The model of a run and its checkpoint; with `random`, the one that its training began with. On the CPU.

    `checkpoint` is the run's folder (the newest), one of its checkpoints, or a file with a model.
    """
    torch.manual_seed(trained.seed)
    model = build_model(trained)
    if random:
        return model, {"step": 0}
    if (checkpoint / MANIFEST).is_file():
        state = load_whole(checkpoint)
    else:
        state = load_run_state(checkpoint) if checkpoint.is_dir() else load_checkpoint(checkpoint)
    try:
        model.load_state_dict(state["model"])
    except RuntimeError:
        raise UserError(
            f"the checkpoint of {checkpoint} is not of the model in the run's config.yaml: train anew"
        ) from None
    number_together(model, state)
    return model, state


def number_together(model: TwoStream, state: dict) -> None:
    """Renumber the audio heads' clusters as the video heads', where the two learnt labels that were numbered apart.

    That is XDC alone: each modality learns the other's k-means clusters, and cluster k of one has nothing to do with
    cluster k of the other. The numbers are found from the training videos' labels, which a checkpoint holds, so that a
    video is numbered alike with whatever others it is labelled. Heads that learn one table of labels (all other
    methods) have its numbers already.
    """
    labeller = state.get("labeller", {})
    if model.head_audio is None or not {"labels", "labels_audio"} <= labeller.keys():
        return
    # the video heads learn the audio's clusters, and the audio heads the video's
    order = common_numbering(labeller["labels_audio"], labeller["labels"], model.clusters)
    for head, permutation in enumerate(order):
        model.head_audio.renumber(head, permutation)


@dataclass
class Fold:
    """A split to fit on and one to test on: rows of `Videos.rows`."""

    number: int
    train: np.ndarray
    test: np.ndarray


@dataclass
class Videos:
    """The videos of all folds, once each, by path: folds of the same videos have the same rows. `root` is where paths
    start."""

    rows: pa.Table
    root: str
    folds: list[Fold]
    data: DataConfig


def read_videos(data: DataConfig, folds: list[int]) -> Videos:
    """The training and test split of each fold's index. UserError where one is missing.

    With several folds, the index of each is the one whose name has its number: `index/ucf101_fold2`.
    """
    where = {}
    for fold in folds or [data.fold]:
        where[fold] = fold_index(data, fold) if folds else data.index
    if len(set(where.values())) < len(where):
        raise UserError(f"folds={folds} need an index each: name it data.index=…fold{data.fold}…, as avssl index does")
    tables = {}
    for fold, index in where.items():
        there = splits(index)
        for split in (data.train_split, data.test_split):
            if split not in there:
                raise UserError(
                    f"the index {index} has no split {split} (it has {', '.join(there)}): evaluation fits on one split "
                    f"and tests on another; arrange the videos as {{split}}/{{class}}/{{video}}, or give "
                    f"data.annotations"
                )
            tables[fold, split] = read_index(index, split)
    union = pa.concat_tables(tables.values())
    first = {key: i for i, key in reversed(list(enumerate(_keys(union))))}
    place = {key: row for row, key in enumerate(sorted(first))}
    rows = union.take(pa.array([first[key] for key in place], pa.int64()))
    found = [
        Fold(fold, *(np.array([place[key] for key in _keys(tables[fold, s])], np.int64) for s in _splits(data)))
        for fold in where
    ]
    return Videos(rows, data.root, found, data)


def fold_index(data: DataConfig, fold: int) -> str:
    """The index's name with another fold's number: the last that is there, which folders above do not have."""
    *_, last = [None, *re.finditer(rf"fold{data.fold}(?!\d)", data.index)]
    return data.index if last is None else f"{data.index[: last.start()]}fold{fold}{data.index[last.end() :]}"


def _splits(data: DataConfig) -> tuple[str, str]:
    return data.train_split, data.test_split


def _keys(table: pa.Table) -> list[tuple[str, float, str]]:
    classes = (c or "" for c in table["class"].to_pylist())  # a stretch may be annotated twice, as different things
    return list(zip(table["path"].to_pylist(), table["window_start"].to_pylist(), classes, strict=True))


def read_features(path: str | Path, rows: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Rows int64 [n] of an index that a file has features of, and the features, float32 [n, D].

    The file is Parquet with the columns `path` and `features` (lists of D numbers), or .npz with arrays of these names,
    `features` [N, D]. UserError for another file, or where no path is of the index.
    """
    try:
        if str(path).endswith(".npz"):
            with np.load(path) as arrays:
                paths, values = arrays["path"].tolist(), np.asarray(arrays["features"], np.float32)
        else:
            table = pq.read_table(path, columns=["path", "features"])
            paths, values = table["path"].to_pylist(), np.array(table["features"].to_pylist(), np.float32)
    except FileNotFoundError:
        raise UserError(f"no features {path}") from None
    except Exception as error:  # Parquet, zip and NumPy errors share no base class
        raise UserError(
            f"{path} cannot be read as features ({str(error).splitlines()[0]}): give .parquet or .npz with `path` and "
            f"`features`"
        ) from None
    if values.ndim != 2 or len(values) != len(paths):
        raise UserError(f"{path} has features of shape {list(values.shape)} for {len(paths)} paths: give [paths, D]")
    place = {p: i for i, p in enumerate(paths)}
    found = [(row, place[p]) for row, p in enumerate(rows["path"].to_pylist()) if p in place]
    if not found:
        raise UserError(f"{path} has features of no video of the index: its paths are as {paths[:1]}")
    at = np.array(found, np.int64)
    return at[:, 0], values[at[:, 1]]
