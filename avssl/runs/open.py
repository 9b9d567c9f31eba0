"""Open a run, a published checkpoint or a file of features, and the videos for its evaluation."""

import dataclasses
import re
from collections.abc import Sequence
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
from ..config.encoder_names import is_own
from ..config.model_card import card_files, find_card, weights_of
from ..config.run_folder import licences, read_config
from ..core.checkpoint_file import load_checkpoint
from ..core.checkpoint_store import MANIFEST, STATE
from ..core.errors import UserError
from ..core.tables import checked_rows, open_table, parquet_errors
from ..core.untrusted import field, is_count, open_arrays
from ..models.build import modalities_of
from ..models.heads import MLPHeads
from ..models.multi_stream import MultiStream, current_names
from ..models.zoo import load_published
from ..objectives.build import build_model
from ..selflabel.alignment import common_numbering
from ..train.checkpoint_state import tensor_of
from ..videos.index import read_index, splits
from ..videos.splits import find_split
from .checkpoints import load_run_state, load_whole

MAX_WEIGHTS = 2**32
"""Most weights of a model; the largest published one has 7e7."""

PUBLISHED_CLIPS = {"selavi": ["clip=published", "clip.spectrogram=logfbank", "clip.mels=257"], "gdt": ["clip=gdt"]}
"""The clips that published models were trained on. torchvision's have no audio, and normalise frames per channel."""


@dataclass
class Source:
    """Encoders and their clips; `model` is None for features from a file."""

    name: str
    model: MultiStream | None
    clip: ClipConfig
    precision: str
    step: int | None = None
    data: TrainedDataConfig | None = None
    """The index and splits that a run was trained on."""
    costs: np.ndarray | None = None
    """Transport cost of each head, [H]."""
    marginals: np.ndarray | None = None
    """Target sizes of the clusters, as fractions, [H, K]."""
    videos: dict[str, Any] | None = None
    """The fingerprint of the videos that a run was trained on."""
    labelling: LabellingConfig | None = None
    """The options of self-labelling, of a run with cluster heads."""
    labeller: dict[str, Any] = dataclasses.field(default_factory=dict)
    """The labeller's state in a run's checkpoint; empty for published weights, and before training."""
    licences: dict[str, str] = dataclasses.field(default_factory=dict)
    """By modality, the licence of published weights, or of the weights that a run's encoder started from."""


def open_source(config: EvaluateConfig) -> Source:
    """Open the run, the checkpoint or the file of features that `config` names.

    Raises:
        UserError: not exactly one of `run`, `checkpoint` and `features` is given, or it cannot be read.
    """
    one_of(config)
    if config.features:
        return Source(config.features, None, ClipConfig(), "float32")
    path = Path(config.run or config.checkpoint)
    if config.checkpoint and not path.exists():
        weights = weights_of(config.checkpoint)
        if weights is None:
            raise UserError(
                f"the checkpoint {config.checkpoint} does not exist"
                f"{nearest(config.checkpoint, list(card_files()))}: give a file, a run's step folder, or a name that "
                f"`avssl models` lists"
            )
        path = weights
    path = _step(path)
    folder = Path(config.run) if config.run else run_of(path)
    if folder is not None:
        return _run(folder, path, config.random, config.trust)
    if (path / "config.yaml").is_file():
        raise UserError(f"checkpoint={path} is a run folder: give run={path}")
    family, model = load_published(path)
    words = PUBLISHED_CLIPS.get(family, ["clip=published", "clip.short_side_eval=0", "clip.retrieval_frames=0"])
    clip = compose_config("train", TrainConfig, words).clip
    if config.random:
        torch.manual_seed(0)
        for module in model.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()  # type: ignore[operator]
    card = find_card(config.checkpoint) if config.checkpoint in card_files() else None
    terms = dict.fromkeys(model.encoders, card.licence) if card else {}
    return Source(str(path), model, clip, "auto", licences=terms)


def _step(checkpoint: Path) -> Path:
    """The step folder of a state file; any other checkpoint unchanged."""
    return checkpoint.parent if checkpoint.name == STATE else checkpoint


def run_of(checkpoint: str | Path) -> Path | None:
    """The run folder of a checkpoint; None for a checkpoint outside a run."""
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
    """The output folder of an evaluation."""
    if config.out:
        return Path(config.out)
    if config.run:
        return Path(config.run) / "evaluate"
    if config.checkpoint and (folder := run_of(config.checkpoint)):
        return folder / "evaluate" / _step(Path(config.checkpoint)).stem
    return Path("evaluate") / Path(config.checkpoint or config.features).stem


def _run(folder: Path, checkpoint: Path, random: bool, trust: Sequence[str]) -> Source:
    trained = read_config(folder)
    model, state = load_run(checkpoint, trained, random, trust)
    labeller = {k: x for k, x in state.get("labeller", {}).items() if k in ("costs", "marginals", "measures", "labels")}
    costs, marginals = (None if (x := labeller.get(k)) is None else x.numpy() for k in ("costs", "marginals"))
    return Source(
        str(folder), model, trained.clip, trained.precision, int(state["step"]), trained.data, costs, marginals,
        state.get("videos"), trained.labelling if "labelling" in trained.objectives else None, labeller,
        licences(folder),
    )  # fmt: skip


def load_run(
    checkpoint: Path, trained: TrainConfig, random: bool = False, trust: Sequence[str] = ()
) -> tuple[MultiStream, dict]:
    """The model of a run, on the CPU, and its checkpoint.

    Args:
        checkpoint: the run folder (for its newest checkpoint), one of its checkpoints, or a file with a model.
        trained: the run's config.
        random: True: return the run's initial weights, without a checkpoint.
        trust: the user's own encoders that may be imported, "package.module:callable".

    Raises:
        UserError: the run needs an encoder that `trust` does not name, or the checkpoint is missing, damaged, or does
            not match config.yaml.
    """
    check_trusted(trained, checkpoint, trust)
    shapes = _shapes(trained, checkpoint)  # before the model takes memory, because config.yaml may ask for any size
    state: dict = {"step": 0}
    if not random:
        if (checkpoint / MANIFEST).is_file():
            state = load_whole(checkpoint)
        else:
            state = load_run_state(checkpoint) if checkpoint.is_dir() else _load_file(checkpoint)
        if checkpoint.is_dir() and "labelling" in trained.objectives and "labeller" not in state:
            raise UserError(
                f"the checkpoint of {checkpoint} has no labels, but its config.yaml has task={trained.task}"
            )
        state["model"] = current_names(state["model"], trained.labelling.sharing)
        if {name: x.shape for name, x in state["model"].items()} != shapes or not _are_heads(trained, state):
            raise UserError(
                f"the checkpoint of {checkpoint} does not fit the model in the run's config.yaml: train the run again"
            )
    torch.manual_seed(trained.seed)
    model = build_model(trained)
    if not random:
        model.load_state_dict(state["model"])
        model.modality_weights = state.get("labeller", {}).get("modality_weights")
        number_together(model, state)
    return model, state


def check_trusted(trained: TrainConfig, where: Path, trust: Sequence[str]) -> None:
    """Reject a run whose encoder is code that the user has not named, because an untrusted config.yaml must run no
    code.

    Raises:
        UserError: it names the encoder, and how to trust it.
    """
    for modality in modalities_of(trained):
        name = getattr(trained.model, modality)
        if is_own(name) and name not in trust:
            raise UserError(
                f"{where} was trained with model.{modality}={name}, which is code: if you trust it, add trust={name}"
            )


def _shapes(trained: TrainConfig, checkpoint: Path) -> dict[str, torch.Size]:
    """The shapes of the configured model's weights. Raises UserError for a model of more than `MAX_WEIGHTS`."""
    try:
        with torch.device("meta"):
            shapes = _shapes_of(trained)
    except Exception as error:
        if not _is_bounded(trained):
            why = " ".join(str(error).split())[:200]
            raise UserError(f"the model in {checkpoint}'s config.yaml cannot be built: {why}") from None
        shapes = _shapes_of(trained)  # other people's code may need real tensors
    weights = sum(shape.numel() for shape in shapes.values())
    if weights > MAX_WEIGHTS:
        raise UserError(
            f"the model in {checkpoint}'s config.yaml has {weights:.1e} weights, more than {MAX_WEIGHTS:.0e}"
        )
    return shapes


def _shapes_of(trained: TrainConfig) -> dict[str, torch.Size]:
    return {name: x.shape for name, x in build_model(trained).state_dict().items()}


def _is_bounded(trained: TrainConfig) -> bool:
    """Whether an encoder of the model may need memory to build, while no option or file determines its size."""
    names = [getattr(trained.model, modality) for modality in modalities_of(trained)]
    return any(is_own(x) or x.startswith(("timm:", "torchvision:")) for x in names) and (
        trained.model.hidden * max(1, trained.labelling.clusters) * max(1, trained.labelling.heads) < MAX_WEIGHTS
    )


def _load_file(path: Path) -> dict:
    state = load_checkpoint(path)
    field(state, "step", is_count, path)
    field(state, "model", lambda x: isinstance(x, dict) and all(map(tensor_of(), x.values())), path)
    return state


def _are_heads(trained: TrainConfig, state: dict) -> bool:
    """Whether a checkpoint's costs and cluster sizes have the configured numbers of heads and clusters."""
    lab, labeller = trained.labelling, state.get("labeller", {})
    sizes = {"costs": (lab.heads,), "marginals": (lab.heads, lab.clusters)}
    fits = all(tuple(labeller[name].shape) == shape for name, shape in sizes.items() if name in labeller)
    weights = labeller.get("modality_weights", {})
    return fits and all(name in lab.modalities and x.shape == (lab.heads,) for name, x in weights.items())


def number_together(model: MultiStream, state: dict) -> None:
    """Renumber the audio heads' clusters to match the video heads', if they learned separate labels.

    Only XDC needs this, because each modality learns the other's k-means clusters, so that cluster k of one is
    unrelated to cluster k of the other. All other methods learn one table of labels. The matching uses the training
    videos' labels in the checkpoint, so a video's label does not depend on the videos that are labelled with it.
    """
    labeller = state.get("labeller", {})
    heads = model.cluster_heads.get("audio")
    if not isinstance(heads, MLPHeads) or not {"labels", "labels_audio"} <= labeller.keys():
        return
    # the video heads learned the audio's clusters, and the audio heads the video's
    order = common_numbering(labeller["labels_audio"], labeller["labels"], model.clusters)
    for head, permutation in enumerate(order):
        heads.renumber(head, permutation)


@dataclass
class Fold:
    """A split to fit on and a split to test on, as positions in `Videos.rows`."""

    number: int
    train: np.ndarray
    test: np.ndarray


@dataclass
class Videos:
    """The distinct videos of all folds, sorted by path. Paths are relative to `root`."""

    rows: pa.Table
    root: str
    folds: list[Fold]
    data: IndexedDataConfig


def read_videos(data: IndexedDataConfig, folds: list[int]) -> Videos:
    """The training and test split of each fold's index.

    With several folds, the index of each is found by the fold's number in its name, such as `index/ucf101_fold2`.

    Raises:
        UserError: an index or one of the two splits is missing, or two folds have the same index.
    """
    index_of = {fold: fold_index(data.index, fold) for fold in folds} or {fold_of(data.index): data.index}
    if len(set(index_of.values())) < len(index_of):
        raise UserError(f"folds={folds} need an index each: give data.index=…fold1…, as `avssl index` names it")
    tables = {}
    for fold, index in index_of.items():
        names = splits(index)
        for option, split in (("train_split", data.train_split), ("test_split", data.test_split)):
            if find_split(names, split) is None:
                others = [x for x in names if x not in map(partial(find_split, names), _splits(data))]
                fix = (
                    f"choose one with data.{option}={others[0] if len(others) == 1 else '…'}" if len(names) > 1
                    else "arrange the videos as {split}/{class}/{video}, or give data.annotations"
                )  # fmt: skip
                raise UserError(
                    f"the index {index} has no split {split} (it has {', '.join(names)}): evaluation fits on one split "
                    f"and tests on another: {fix}"
                )
            tables[fold, split] = read_index(index, split)
    union = pa.concat_tables(tables.values())
    first = {key: i for i, key in reversed(list(enumerate(_keys(union))))}
    position = {key: row for row, key in enumerate(sorted(first))}
    rows = union.take(pa.array([first[key] for key in position], pa.int64()))
    read = [
        Fold(fold, *(np.array([position[key] for key in _keys(tables[fold, s])], np.int64) for s in _splits(data)))
        for fold in index_of
    ]
    return Videos(rows, data.root, read, data)


def _fold_in(index: str) -> re.Match[str] | None:
    """The last `fold<number>` in an index's path, because the names of folders above may contain others."""
    *_, last = [None, *re.finditer(r"fold(\d+)", index)]
    return last


def fold_of(index: str) -> int:
    """The number of the fold in an index's name; 1 if there is none."""
    match = _fold_in(index)
    return 1 if match is None else int(match[1])


def fold_index(index: str, fold: int) -> str:
    """The index's name with the number of another fold."""
    match = _fold_in(index)
    return index if match is None else f"{index[: match.start(1)]}{fold}{index[match.end(1) :]}"


def _splits(data: IndexedDataConfig) -> tuple[str, str]:
    return data.train_split, data.test_split


def _keys(table: pa.Table) -> list[tuple[str, float, str]]:
    classes = (c or "" for c in table["class"].to_pylist())  # a segment may be annotated twice with different classes
    return list(zip(table["path"].to_pylist(), table["window_start"].to_pylist(), classes, strict=True))


def read_features(path: str | Path, rows: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Read features of the videos of an index from a file.

    Args:
        path: Parquet with the columns `path` and `features` (lists of D numbers), or .npz with arrays of these names,
            `features` [N, D].
        rows: rows of the index.

    Returns:
        The positions in `rows` of the videos with features, int64 [n], and their features, float32
        [n, D].

    Raises:
        UserError: the file is missing, has the wrong form, or contains no video of the index.
    """
    try:
        paths, values = (_npz_features if str(path).endswith(".npz") else _parquet_features)(path)
    except FileNotFoundError:
        raise UserError(f"the file of features {path} does not exist") from None
    except Exception as error:  # Parquet, zip and NumPy errors share no base class
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{path} cannot be read as features ({why[:200]}): give .parquet or .npz with `path` and `features`"
        ) from None
    if values.ndim != 2 or len(values) != len(paths):
        raise UserError(f"{path} has features of shape {list(values.shape)} for {len(paths)} paths: give [paths, D]")
    position = {p: i for i, p in enumerate(paths)}
    pairs = [(row, position[p]) for row, p in enumerate(rows["path"].to_pylist()) if p in position]
    if not pairs:
        raise UserError(f"{path} matches no video of the index: its first path is {paths[:1]}")
    at = np.array(pairs, np.int64)
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
    numbers = features.flatten()  # without rows that are null
    if features.null_count or numbers.null_count or len(numbers) % max(1, len(paths)):
        raise UserError("some numbers are missing, or the lists have different lengths")
    lengths = pc.list_value_length(features)
    if len(paths) and pc.min(lengths).as_py() != pc.max(lengths).as_py():
        raise UserError("the lists have different lengths")
    return paths, numbers.to_numpy(zero_copy_only=False).astype(np.float32).reshape(len(paths), -1)
