"""`avssl features`: encode all videos of an index once, and store the features."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from ..clips.feature_store import WEIGHTS, FeatureStore, describe_missing, is_complete_store, open_store
from ..clips.transform import clip_shape
from ..clips.write_features import exclusive
from ..config import ClipConfig, EvaluateConfig, FeaturesConfig, ModelConfig, PlacedDataConfig, TrainedDataConfig
from ..config.check_options import check_clip, check_features
from ..config.check_paths import check_inside
from ..config.data import NO_INDEX
from ..config.encoder_names import check_encoder_name
from ..config.run_folder import INIT, read_config
from ..config.start import check_start
from ..core.atomic import read_json, write_json
from ..core.checkpoint_file import digest, save_checkpoint
from ..core.device import precision_warning, prepare_device, share_cores
from ..core.errors import UserError
from ..core.out_folder import check_same, write_errors
from ..core.part import Part
from ..core.plurals import counted, many
from ..core.screen import Console
from ..core.verbosity import is_verbose
from ..models import MultiStream
from ..models.build import build_multi_stream
from ..models.encoder import check_encoder
from ..models.start import licence_lines, short_lines, start
from ..models.taken_clip import taken_over
from ..runs.open import open_source
from ..runs.stored import refuse_table
from ..videos.index import read_index, splits
from ..videos.index_options import difference, fingerprint, root_of
from .feature_shards import process_share
from .store_features import Extraction

CLAIM = "extraction.json"
"""The file that describes the features in a folder, written before the first of them."""


def run(config: FeaturesConfig, hint: bool = True) -> Path:
    """Write the features of all splits, and return their folder.

    Args:
        config: the options.
        hint: print the next command.

    Raises:
        UserError: the encoders, the weights or the videos cannot be read, or the folder contains other features.
    """
    console = Console(highlight=False, soft_wrap=True, quiet=process_share()[0] > 0)
    store = extract(config, console)
    _report(console, open_store(store.folder), hint)
    return store.folder


def extract(config: FeaturesConfig, console: Console, part: Part | None = None) -> FeatureStore:
    """Write the features of all splits, unless they exist; or only the files of a part, which are not yet a store.

    Raises:
        UserError: as `run`.
    """
    check_features(config)
    device = prepare_device(config.device, fixed_shapes=not config.every)
    config = replace(config, workers=share_cores(device, config.workers, config.threads))
    found, store, by_split = prepared(config)
    with write_errors(store.folder):
        _claim(store, found)
        if not is_complete_store(store.folder):
            _announce(console, store, by_split, device, found.short, part)
            model = found.model.eval().to(device)
            if slow := precision_warning(model, device, store.precision):
                console.note(f"warning: {slow}")
            extraction = Extraction(store, model, store.data["root"], device, config.workers)
            for name, rows in by_split.items():
                extraction.split(name, rows, part)
            if part is None:
                extraction.finish(by_split)
    return store


@dataclass
class _Encoders:
    """The encoders, and what a store records about them."""

    model: MultiStream
    options: ModelConfig
    clip: ClipConfig
    precision: str
    init: list[str]
    source: str
    record: dict[str, Any]
    """What each encoder started from, for init.json; empty for random weights."""
    data: TrainedDataConfig | None = None
    """The index that a run was trained on."""
    short: list[str] = field(default_factory=list)
    """Lines on what each encoder started from."""


def _encoders(config: FeaturesConfig) -> _Encoders:
    """The encoders of a run, or those in `model.*` with their starting weights."""
    if config.run:
        source, trained = open_source(EvaluateConfig(run=config.run, trust=config.trust)), read_config(Path(config.run))
        assert source.model is not None
        refuse_table(source, "encode videos")
        path = Path(config.run) / INIT
        return _Encoders(
            source.model, trained.model, source.clip, source.precision, [config.run],
            f"the run {config.run}, step {source.step}", read_json(path) if path.is_file() else {}, source.data,
        )  # fmt: skip
    for name in config.modalities:
        check_encoder_name(f"model.{name}", getattr(config.model, name))
    check_start(config.model, config.modalities)
    clip = taken_over(config.clip, config.model, config.modalities)
    check_clip(clip)
    torch.manual_seed(config.seed)
    model = build_multi_stream(config.model, modalities=config.modalities)
    for name, encoder in model.encoders.items():
        if ":" in (named := getattr(config.model, name)):
            check_encoder(encoder, name, named, clip_shape(clip, name))
    started, random = start(model, config.model)
    kept = [
        name for name, x in model.encoders.items()
        if name not in {s.modality for s in started} and any(True for _ in x.parameters())
    ]  # fmt: skip
    random = random or [f"{name} encoder: random weights, seed {config.seed}" for name in kept]
    lines = [*(s.line() for s in started), *random, *licence_lines(started)]
    record = {"encoders": {s.modality: s.record() for s in started}} if started else {}
    return _Encoders(model, config.model, clip, config.precision, config.model.init, "; ".join(lines), record, None,
                     [*short_lines(started), *random])  # fmt: skip


def prepared(config: FeaturesConfig) -> tuple[_Encoders, FeatureStore, dict[str, pa.Table]]:
    """The encoders, the description of their store, and the rows of each split."""
    found = _encoders(config)
    model = found.model
    wanted = [name for name in model.encoders if name in config.modalities]
    if not wanted:
        raise UserError(
            f"modalities={','.join(config.modalities)}: there are encoders only for {', '.join(model.encoders)}"
        )
    data = config.data
    if data.index == NO_INDEX and found.data is not None:
        data = PlacedDataConfig(found.data.root, found.data.name, found.data.index)
    by_split = {split: read_index(data.index, split) for split in splits(data.index)}
    root = data.root or str(root_of(data.index) or "")
    if not Path(root).is_dir():
        raise UserError(f"data.root={root} does not exist: give the folder that was indexed")
    out = Path(config.out or f"features/{data.name}")
    check_inside("out", str(out), root)
    widths = model.encoder_widths
    store = FeatureStore(
        folder=out,
        encoders={name: getattr(found.options, name) for name in wanted},
        temporal_pooling=found.options.temporal_pooling,
        init=found.init,
        weights={name: digest(model.encoders[name]) for name in wanted},
        source=found.source,
        clip=found.clip,
        precision=found.precision,
        views=config.views,
        every=config.every,
        augmented=config.augmented,
        seed=config.seed,
        widths={name: widths[name] for name in wanted},
        data={"root": str(Path(root).resolve()), "name": data.name, "index": str(Path(data.index).resolve())},
        splits={split: fingerprint(rows) for split, rows in by_split.items()},
        video_stride=found.options.video_stride if "video" in wanted else 0,
    )
    return found, store, by_split


def _claim(store: FeatureStore, found: _Encoders) -> None:
    """Make the folder, with its description and the weights, or check that it has these."""
    now = _settings(store)
    with exclusive(store.folder):
        path = store.folder / CLAIM
        if path.is_file():
            before = read_json(path, f"remove {store.folder}, or choose another with out=…")
            _check_videos(store, before.get("splits"))
            check_same(store.folder, "features", before, now)
            return
        # another job's temporary file, on a file system without locks, is not in the way
        others = [p.name for p in store.folder.iterdir() if not p.name.startswith(".")]
        if others:
            raise UserError(f"{store.folder} contains {others[0]}, but no features: choose another folder with out=…")
        encoders = torch.nn.ModuleDict({name: found.model.encoders[name] for name in store.encoders})
        save_checkpoint(store.folder / WEIGHTS, {"model": encoders.state_dict()})
        if found.record:
            write_json(store.folder / INIT, found.record)
        write_json(path, now)


def _settings(store: FeatureStore) -> dict[str, Any]:
    settings: dict[str, Any] = {f"model.{name}": encoder for name, encoder in store.encoders.items()}
    clips = {f"clip.{name}": x for name, x in store.clip.identity().items() if name not in ("keep_mb", "timeout")}
    settings |= {"modalities": list(store.encoders), **clips, "precision": store.precision}
    settings |= {"model.video_stride": store.video_stride} if store.video_stride else {}
    settings |= {"views": store.views, "every": store.every, "augmented": store.augmented, "seed": store.seed}
    return settings | {"weights": store.weights, "splits": store.splits}


def _check_videos(store: FeatureStore, before: Any) -> None:
    """Raise UserError if the features in the folder belong to other videos."""
    changed = "other splits" if not isinstance(before, dict) or before.keys() != store.splits.keys() else ""
    with _named(store.folder):
        for split, videos in store.splits.items():
            changed = changed or difference(before[split], videos)
    if changed:
        raise UserError(
            f"{store.folder} contains features of another state of the index {store.data['index']} ({changed}): remove "
            f"it, or choose another folder with out=…"
        )


@contextmanager
def _named(folder: Path) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, AttributeError):
        raise UserError(f"{folder / CLAIM} is damaged: remove {folder}, or choose another with out=…") from None


def _announce(
    console: Console, store: FeatureStore, by_split: dict[str, pa.Table], device: torch.device, short: list[str],
    part: Part | None,
) -> None:  # fmt: skip
    rows = sum(x.num_rows for x in by_split.values())
    files = len({path for x in by_split.values() for path in x["path"].to_pylist()})
    clips = f"a clip every {store.every:g} s" if store.every else f"{many(store.views, 'clip')} each"
    clips += f" and {store.augmented} augmented" if store.augmented else ""
    encoders = ", ".join(f"{name} {encoder} ({store.widths[name]})" for name, encoder in store.encoders.items())
    for line in [encoders, store.source] if is_verbose() or not short else short:
        console.note(line)
    of = "" if part is None else f"part {part.number + 1} of {part.of} of "
    console.note(f"encoding {of}{counted(rows, files)}, {clips}, on {device}, into {store.folder}")


def _report(console: Console, store: FeatureStore, hint: bool) -> None:
    size = sum(p.stat().st_size for p in store.folder.glob("*.npy"))
    for name in store.splits:
        if not (hint or is_verbose() or describe_missing(store.split(name))):
            continue
        split = store.split(name)
        missing = describe_missing(split)
        console.print(
            f"{name:10} {many(int((split.clips > 0).sum()), 'row')}, {many(int(split.entries.sum()), 'clip')}"
            + (f"; {missing}" if missing else ""),
            markup=False,
        )
    if hint or is_verbose():
        console.print(f"features  {store.folder} ({size / 1e6:.1f} MB)", markup=False)
    if hint:
        # auto reads the index
        words = f"{store.data['root']} " if "audio" in store.widths else ""
        recipe = "auto" if words else "frozen_video"
        console.note(f"next: avssl train {words}data.features={store.folder} experiment={recipe}")
