"""The training data of a run: clips of indexed videos, or stored features of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from torch import nn

from ..clips.dataset import ClipDataset
from ..clips.decode import ClipSpec
from ..clips.feature_store import WEIGHTS, StoredSplit, describe_missing, is_store, open_store
from ..clips.feature_table import read_feature_table
from ..clips.stored_clips import StoredClips
from ..config import TrainConfig
from ..config.run_folder import INIT
from ..contrast.composition import Composition
from ..contrast.view_plan import ViewPlan
from ..core.atomic import atomic_path, write_json
from ..core.checkpoint_file import digest, load_checkpoint
from ..core.errors import UserError
from ..core.untrusted import read_json
from ..core.verbosity import is_verbose
from ..models import MultiStream
from ..videos.index import read_index, splits, training_split
from ..videos.index_options import NOTE, difference, fingerprint
from .take_features import has_own_index


@dataclass
class TrainingData:
    """The training rows of a run.

    Args:
        splits: the names of the index's splits.
        rows: the training rows of the index.
        dataset: the clips of these rows, or their stored features.
        features: for stored features, what must not change when the run resumes: a digest of the encoders' weights or
            of the table, and the widths; None for videos.
        lines: the lines to print when a run begins.
        index: the rows of an index to write into the run's folder, by split.
    """

    splits: list[str]
    rows: pa.Table
    dataset: ClipDataset | StoredClips
    features: dict[str, Any] | None = None
    lines: list[str] = field(default_factory=list)
    index: dict[str, pa.Table] = field(default_factory=dict)

    def load_encoders(self, model: MultiStream, config: TrainConfig) -> dict[str, Any] | None:
        """Load the weights that the features were made with, and return their origin, for init.json.

        Raises:
            UserError: the store's weights do not match its description.
        """
        if self.features is None or not is_store(config.data.features):
            return None
        store = open_store(config.data.features)
        path = store.folder / WEIGHTS
        weights = load_checkpoint(path).get("model")
        try:
            by_modality = nn.ModuleDict(
                {name: model.encoders[name] for name in store.encoders if name in model.encoders}
            )
            wanted = {k: x for k, x in weights.items() if k.partition(".")[0] in by_modality}  # type: ignore[union-attr]
            by_modality.load_state_dict(wanted)
        except (AttributeError, RuntimeError, TypeError) as error:
            why = " ".join(str(error).split())[:200]
            raise UserError(
                f"{path} does not fit the encoders of {store.folder} ({why}): extract the features again"
            ) from None
        for name, encoder in by_modality.items():
            if digest(encoder) != store.weights[name]:
                raise UserError(
                    f"{path} contains other weights of the {name} encoder than {store.folder} was made with: extract "
                    "the "
                    f"features again"
                )
        try:
            return read_json(store.folder / INIT)
        except OSError:
            return None


def open_training_data(
    config: TrainConfig, plan: Composition | ViewPlan | None, modalities: Sequence[str]
) -> TrainingData:
    """The training rows that `config.data` names.

    Raises:
        UserError: the index, the videos or the features are missing, damaged, or do not fit the options.
    """
    if not config.data.features:
        names = splits(config.data.index)
        rows = read_index(config.data.index, training_split(config.data, names))
        dataset = ClipDataset(rows, config.data.root, config.clip, config.seed, plan, modalities)
        return TrainingData(names, rows, dataset)
    if isinstance(plan, ViewPlan):
        raise UserError(
            f"data.features contains encoded clips, but {plan.groups[0].name} needs clips of its own: train on the "
            f"videos"
        )
    composition = plan
    if is_store(config.data.features):
        return _of_store(config, composition, modalities)
    return _of_table(config, composition, modalities)


def _of_store(config: TrainConfig, composition: Composition | None, modalities: Sequence[str]) -> TrainingData:
    store = open_store(config.data.features)
    names = splits(config.data.index)
    split = training_split(config.data, names)
    rows = read_index(config.data.index, split)
    changed = f"no split {split}" if split not in store.splits else difference(store.splits[split], fingerprint(rows))
    if changed:
        raise UserError(
            f"{store.folder} was extracted from another state of the index {config.data.index} ({changed}): extract "
            "them "
            f"again, with another out=…"
        )
    stored = store.split(split)
    missing = describe_missing(stored)
    said = [f"features of {store.folder}: {store.source}"] if is_verbose() else []
    lines = [*said, *([missing] if missing else [])]
    identity = {
        "weights": {m: store.weights[m] for m in modalities},
        "widths": {m: store.widths[m] for m in modalities},
    }
    return TrainingData(names, rows, _stored_clips(config, stored, composition, modalities), identity, lines)


def _of_table(config: TrainConfig, composition: Composition | None, modalities: Sequence[str]) -> TrainingData:
    table = read_feature_table(config.data.features)
    lines: list[str] = []
    index: dict[str, pa.Table] = {}
    if has_own_index(config):
        by_split = table.alone()
        index = {name: stored.rows for name, stored in by_split.items()}
        names = list(by_split)
    else:
        names = splits(config.data.index)
        by_split, lines = table.of_index({name: read_index(config.data.index, name) for name in names})
    stored = by_split[training_split(config.data, names)]
    if table.unused:
        lines.append(f"{table.path}: unused columns: {', '.join(table.unused[:5])} (features are in video and audio)")
    identity = {"weights": {m: table.digest(m) for m in modalities}, "widths": {m: table.widths[m] for m in modalities}}
    clips = _stored_clips(config, stored, composition, modalities)
    return TrainingData(names, stored.rows, clips, identity, lines, index)


def _stored_clips(
    config: TrainConfig, stored: StoredSplit, composition: Composition | None, modalities: Sequence[str]
) -> StoredClips:
    shift = next((axis for axis in composition.views if axis.name == "time_shift"), None) if composition else None
    if composition is None or shift is None:
        return StoredClips(stored, modalities, config.seed)
    distinct = composition.role("time_shift") == "distinct" and "shifts" not in config.contrast.released
    apart = ClipSpec.of(config.clip).seconds + config.contrast.min_gap if distinct else None
    return StoredClips(stored, modalities, config.seed, shift.levels, apart)


def write_index(index: dict[str, pa.Table], folder: Path) -> None:
    """Write the rows of a table of features as an index for `avssl clusters` and `avssl evaluate`."""
    if not index:
        return
    for name, rows in index.items():
        with atomic_path(folder / f"{name}.parquet") as path:
            pq.write_table(rows, path)
    counts = {name: rows.num_rows for name, rows in index.items()}
    write_json(folder / NOTE, {"root": "", "rows": counts, "videos": counts})


def check_features(before: dict[str, Any] | None, now: dict[str, Any] | None, config: TrainConfig) -> None:
    """Raise UserError if a run would resume with other features than it began with."""
    if before == now:
        return
    features, out = config.data.features, config.out
    if before is None or now is None:
        kind = ("videos", "features") if before is None else ("features", "videos")
        why = f"{out} began on {kind[0]}, not on {kind[1]}"
    elif before.get("widths") != now["widths"]:
        why = f"{out} began on features of width {_widths(before)}, but {features} has {_widths(now)}"
    else:
        why = f"{out} began on other features than {features} contains now"
    raise UserError(f"{why}: resume with those, or start a new run with another out=…")


def _widths(features: dict[str, Any]) -> str:
    widths = features.get("widths")
    return ", ".join(f"{k} {x}" for k, x in widths.items()) if isinstance(widths, dict) else "unknown"
