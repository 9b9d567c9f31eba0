"""What is evaluated: a run, a published checkpoint, or features from a file; and on which videos."""

import dataclasses
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from ..config import ClipConfig, EvaluateConfig, IndexedDataConfig, LabellingConfig, TrainConfig, TrainedDataConfig
from ..config.check_options import one_of
from ..config.compose import compose_config, nearest
from ..config.run_folder import read_config
from ..core.checkpoint_file import load_checkpoint
from ..core.checkpoint_store import MANIFEST, STATE
from ..core.errors import UserError
from ..core.tables import checked_rows, open_table, parquet_errors
from ..core.untrusted import field, is_count, open_arrays
from ..models.build import build_model
from ..models.multi_stream import MultiStream, current_names
from ..selflabel.alignment import common_numbering
from ..train.checkpoint_state import tensor_of
from ..videos.index import read_index, splits
from ..videos.splits import find_split
from .cards import card_files, weights_of
from .checkpoints import load_run_state, load_whole
from .zoo import load_published

MOST_WEIGHTS = 2**32
"""Of a model; the largest published one has 7e7."""

PUBLISHED_CLIPS = {"selavi": ["clip=published", "clip.spectrogram=logfbank", "clip.mels=257"], "gdt": ["clip=gdt"]}
"""The clips that published models were trained on. torchvision's has no sound; its pictures are normed by channel."""


@dataclass
class Source:
    """Encoders and the clips that they take; `model` None stands for features from a file."""

    name: str
    model: MultiStream | None
    clip: ClipConfig
    precision: str
    step: int | None = None
    data: TrainedDataConfig | None = None
    """What a run was trained on."""
    costs: np.ndarray | None = None
    """Transport cost of each head, [H]."""
    marginals: np.ndarray | None = None
    """Cluster sizes that were asked for, as shares, [H, K]."""
    videos: dict[str, Any] | None = None
    """The fingerprint of what a run was trained on."""
    labelling: LabellingConfig | None = None
    """Of a run with cluster heads."""
    labeller: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What a run's checkpoint says of its labellings; empty for published weights, and before training."""


def open_source(config: EvaluateConfig) -> Source:
    """Raises UserError unless exactly one of `run`, `checkpoint` and `features` is given, and can be read."""
    one_of(config)
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
    words = PUBLISHED_CLIPS.get(family, ["clip=published", "clip.short_side_eval=0", "clip.retrieval_frames=0"])
    clip = compose_config("train", TrainConfig, words).clip
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
        state.get("videos"), trained.labelling if "labelling" in trained.objectives else None, labeller,
    )  # fmt: skip


def load_run(checkpoint: Path, trained: TrainConfig, random: bool = False) -> tuple[MultiStream, dict]:
    """The model of a run and its checkpoint; with `random`, the one that its training began with. On the CPU.

    `checkpoint` is the run's folder (the newest), one of its checkpoints, or a file with a model.
    """
    wanted = _shapes(trained, checkpoint)  # of a model that takes no memory yet: config.yaml may ask for any
    state: dict = {"step": 0}
    if not random:
        if (checkpoint / MANIFEST).is_file():
            state = load_whole(checkpoint)
        else:
            state = load_run_state(checkpoint) if checkpoint.is_dir() else _load_file(checkpoint)
        if checkpoint.is_dir() and "labelling" in trained.objectives and "labeller" not in state:
            raise UserError(
                f"the checkpoint of {checkpoint} has no labels, and its config.yaml has task={trained.task}"
            )
        state["model"] = current_names(state["model"], trained.labelling.sharing)
        if {name: x.shape for name, x in state["model"].items()} != wanted or not _are_heads(trained, state):
            raise UserError(f"the checkpoint of {checkpoint} is not of the model in the run's config.yaml: train anew")
    torch.manual_seed(trained.seed)
    model = build_model(trained)
    if not random:
        model.load_state_dict(state["model"])
        number_together(model, state)
    return model, state


def _shapes(trained: TrainConfig, checkpoint: Path) -> dict[str, torch.Size]:
    """Of the weights of a model as configured. UserError for one that no machine of ours could hold."""
    try:
        with torch.device("meta"):
            shapes = {name: x.shape for name, x in build_model(trained).state_dict().items()}
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"the model in {checkpoint}'s config.yaml cannot be made: {str(error).splitlines()[0]}"
        ) from None
    numbers = sum(shape.numel() for shape in shapes.values())
    if numbers > MOST_WEIGHTS:
        raise UserError(f"the model in {checkpoint}'s config.yaml has {numbers:.1e} weights, over {MOST_WEIGHTS:.0e}")
    return shapes


def _load_file(path: Path) -> dict:
    state = load_checkpoint(path)
    field(state, "step", is_count, path)
    field(state, "model", lambda x: isinstance(x, dict) and all(map(tensor_of(), x.values())), path)
    return state


def _are_heads(trained: TrainConfig, state: dict) -> bool:
    """Are the costs and sizes of a checkpoint those of as many heads and clusters as configured?"""
    lab, found = trained.labelling, state.get("labeller", {})
    sizes = {"costs": (lab.heads,), "marginals": (lab.heads, lab.clusters)}
    return all(tuple(found[name].shape) == shape for name, shape in sizes.items() if name in found)


def number_together(model: MultiStream, state: dict) -> None:
    """Renumber the audio heads' clusters as the video heads', where the two learnt labels that were numbered apart.

    That is XDC alone: each modality learns the other's k-means clusters, and cluster k of one has nothing to do with
    cluster k of the other. The numbers are found from the training videos' labels, which a checkpoint holds, so that a
    video is numbered alike with whatever others it is labelled. Heads that learn one table of labels (all other
    methods) have its numbers already.
    """
    labeller = state.get("labeller", {})
    heads = model.cluster_heads.get("audio")
    if heads is None or not {"labels", "labels_audio"} <= labeller.keys():
        return
    # the video heads learn the audio's clusters, and the audio heads the video's
    order = common_numbering(labeller["labels_audio"], labeller["labels"], model.clusters)
    for head, permutation in enumerate(order):
        heads.renumber(head, permutation)


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
    data: IndexedDataConfig


def read_videos(data: IndexedDataConfig, folds: list[int]) -> Videos:
    """The training and test split of each fold's index. UserError where one is missing.

    With several folds, the index of each is the one whose name has its number: `index/ucf101_fold2`.
    """
    where = {fold: fold_index(data.index, fold) for fold in folds} or {fold_of(data.index): data.index}
    if len(set(where.values())) < len(where):
        raise UserError(f"folds={folds} need an index each: name it data.index=…fold1…, as avssl index does")
    tables = {}
    for fold, index in where.items():
        there = splits(index)
        for option, split in (("train_split", data.train_split), ("test_split", data.test_split)):
            if find_split(there, split) is None:
                others = [x for x in there if x not in map(partial(find_split, there), _splits(data))]
                fix = (
                    f"choose one with data.{option}={others[0] if len(others) == 1 else '…'}" if len(there) > 1
                    else "arrange the videos as {split}/{class}/{video}, or give data.annotations"
                )  # fmt: skip
                raise UserError(
                    f"the index {index} has no split {split} (it has {', '.join(there)}): evaluation fits on one split "
                    f"and tests on another; {fix}"
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


def _fold_in(index: str) -> re.Match[str] | None:
    """Where an index's name has the number of a fold: the last that is there, which folders above do not have."""
    *_, last = [None, *re.finditer(r"fold(\d+)", index)]
    return last


def fold_of(index: str) -> int:
    """The fold that an index is named after; 1 where it is named after none."""
    match = _fold_in(index)
    return 1 if match is None else int(match[1])


def fold_index(index: str, fold: int) -> str:
    """The index's name with another fold's number."""
    match = _fold_in(index)
    return index if match is None else f"{index[: match.start(1)]}{fold}{index[match.end(1) :]}"


def _splits(data: IndexedDataConfig) -> tuple[str, str]:
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
        paths, values = (_npz_features if str(path).endswith(".npz") else _parquet_features)(path)
    except FileNotFoundError:
        raise UserError(f"no features {path}") from None
    except Exception as error:  # Parquet, zip and NumPy errors share no base class
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{path} cannot be read as features ({why[:200]}): give .parquet or .npz with `path` and `features`"
        ) from None
    if values.ndim != 2 or len(values) != len(paths):
        raise UserError(f"{path} has features of shape {list(values.shape)} for {len(paths)} paths: give [paths, D]")
    place = {p: i for i, p in enumerate(paths)}
    found = [(row, place[p]) for row, p in enumerate(rows["path"].to_pylist()) if p in place]
    if not found:
        raise UserError(f"{path} has features of no video of the index: its paths are as {paths[:1]}")
    at = np.array(found, np.int64)
    return at[:, 0], values[at[:, 1]]


def _npz_features(path: str | Path) -> tuple[list[str], np.ndarray]:
    with open_arrays(path) as arrays:
        paths, values = arrays["path"], arrays["features"]
    if paths.dtype.kind != "U" or paths.ndim != 1 or values.dtype.kind not in "fiu":
        raise ValueError("`path` must be texts, and `features` numbers")
    return paths.tolist(), values.astype(np.float32)


def _parquet_features(path: str | Path) -> tuple[list[str], np.ndarray]:
    schema = pa.schema([("path", pa.string())])
    with open_table(path, schema) as file, parquet_errors(path):
        kind = file.schema_arrow.field("features").type if "features" in file.schema_arrow.names else pa.null()
        inner = getattr(kind, "value_type", pa.null())
        if not (pa.types.is_floating(inner) or pa.types.is_integer(inner)):
            raise UserError("`features` must be lists of numbers")
        table = file.read(["path", "features"], use_threads=False)
    paths = checked_rows(table, schema, path, ("path",))["path"].to_pylist()
    features = table["features"].combine_chunks()
    numbers = features.flatten()  # without those of rows that are null
    if features.null_count or numbers.null_count or len(numbers) % max(1, len(paths)):
        raise UserError("there are numbers missing, or lists of different lengths")
    lengths = pc.list_value_length(features)
    if len(paths) and pc.min(lengths).as_py() != pc.max(lengths).as_py():
        raise UserError("the lists have different lengths")
    return paths, numbers.to_numpy(zero_copy_only=False).astype(np.float32).reshape(len(paths), -1)
