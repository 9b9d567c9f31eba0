"""Earlier names of options. On the command line they are errors that give the new name; in files they are
translated."""

import math
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import fields
from importlib import import_module
from typing import Any

from .data import DataConfig, ReadingConfig

RENAMED = {
    "contrast.own": "contrast.custom_axes",
    "labelling.solves": "labelling.passes",
    "optim.clip": "optim.max_grad_norm",
    "clip.keep_mb": "clip.cache_mb",
    "contrast.weight": "loss.contrast",
    "labelling.weight": "loss.labelling",
}
"""The new name of each renamed option."""

INSTEAD = {
    "labelling.sizes_file": "write the file as labelling.sizes=[sizes.csv]",
    "labelling.shuffle_groups": "write labelling.released=[shuffle_groups]",
    "labelling.normalise_logits": "write labelling.released=[normalise_logits]",
    "labelling.label_at_end": "for false write labelling.released=[no_last_pass]",
    "labelling.sigma": "write labelling.marginal_parameter=…",
    "labelling.zipf_exponent": "write labelling.marginal_parameter=…",
    "labelling.exponential_scale": "write labelling.marginal_parameter=…",
    "labelling.empirical_floor": "write labelling.marginal_parameter=…",
    "contrast.form": "for released write contrast.released=[loss]",
    "contrast.shifts": "for independent write contrast.released=[shifts]",
    "contrast.reverse": "for before write contrast.released=[reversal]",
    "clip.mean": "frames are normalised as the encoder was trained, else by the mean 0.45 and the deviation 0.225",
    "clip.std": "frames are normalised as the encoder was trained, else by the mean 0.45 and the deviation 0.225",
    "data.storage": "a folder with the tar files of `avssl shard` is recognised by its shards.parquet",
    "launch.memory_gb": "write \"launch.sbatch=['mem=200G']\"",
    "launch.qos": "write \"launch.sbatch=['qos=…']\"",
    "launch.constraint": "write \"launch.sbatch=['constraint=…']\"",
    "min_fps": "the usual frame rates are fixed, 10 to 60 per second",
    "max_fps": "the usual frame rates are fixed, 10 to 60 per second",
    "min_audio_rate": "the lowest usual sampling rate is fixed, 16 kHz",
    "min_side": "the smallest usual side is fixed, 64 px",
    "patience": "a file may take one minute plus 20 times its duration",
}
"""Removed options, with what to write or know instead."""

OF_INDEX = {f"data.{f.name}" for f in fields(DataConfig)}
"""The options of `avssl index` about the videos, which other commands read from the index."""

PARAMETERS = {
    "gaussian": ("sigma", 0.1), "zipf": ("zipf_exponent", 1.0), "exponential": ("exponential_scale", 0.0),
    "empirical": ("empirical_floor", 0.1),
}  # fmt: skip
"""The earlier option of each distribution of cluster sizes, and its default."""


MOVED_MODULES = {"avssl.contrast.config": "avssl.config.contrast", "avssl.data.datasets": "avssl.config.dataset_card"}
"""The present module of each earlier module whose classes occur in queued jobs."""


def alias_moved_modules() -> None:
    """Let `pickle` find config classes under their earlier modules."""
    for before, now in MOVED_MODULES.items():
        sys.modules.setdefault(before, import_module(now))


def refusal(key: str, command: str = "", value: Any = None) -> str:
    """What to write instead of an option that `command` does not have; empty if the name was never an option."""
    if key in RENAMED:
        return f"{key} is now called {RENAMED[key]}: write {RENAMED[key]}=…"
    if key in INSTEAD:
        return f"{key} was removed: {INSTEAD[key]}"
    if command == "evaluate" and key == "task":
        tasks = ",".join(map(str, value)) if isinstance(value, list) else value
        return f"task is now called tasks: write tasks=[{'knn' if tasks is None else tasks}]"
    if command == "evaluate" and key == "data.fold":
        return "data.fold belongs to `avssl index`: write folds=[2]"
    if command in ("train", "plan") and key == "data.fold":
        return "data.fold belongs to `avssl index`: write data.index=…, such as data.index=index/ucf101_fold2"
    if command == "prepare" and key == "data.probe_timeout":
        return "data.probe_timeout belongs to `avssl index`: omit it"
    if key in OF_INDEX - {"data.root", "data.index", "data.name"}:
        return f"{key} belongs to `avssl index`: run `avssl index my_videos {key}=…` first, and omit it here"
    if key in ("data.train_split", "data.test_split"):
        return f"{key} belongs to `avssl train` and `avssl evaluate`: omit it here"
    return ""


def translated_run(options: dict[str, Any]) -> dict[str, Any]:
    """The options of a run's config.yaml, of any version, under their present names.

    Values are moved unchecked; the caller checks them. An option that appears under both its names is not translated,
    so that this check reports it. Options that were merged into one are dropped if that one is set.
    """
    options = deepcopy(options)
    for old, new in RENAMED.items():
        (section, before), (to, name) = old.split("."), new.split(".")
        values = options.get(section)
        if not isinstance(values, dict) or before not in values:
            continue
        if to == "loss" and options.get("task") != "both":  # it had no effect
            values.pop(before)
        elif isinstance(there := options.setdefault(to, {}), dict) and name not in there:
            there[name] = values.pop(before)
    for section, translate in TRANSLATED.items():
        if isinstance(options.get(section), dict):
            translate(options[section])
    return options


def translated_index(data: dict[str, Any]) -> dict[str, Any]:
    """The options of an index.json, of any version, under their present names."""
    return {name: value for name, value in data.items() if name not in ("train_split", "test_split", "storage")}


def _labelling(section: dict[str, Any]) -> None:
    released = [name for name in ("shuffle_groups", "normalise_logits") if section.get(name) is True]
    released += ["no_last_pass"] if section.get("label_at_end") is False else []
    for name in ("shuffle_groups", "normalise_logits", "label_at_end"):
        section.pop(name, None)
    if released:
        section.setdefault("released", released)
    name, default = PARAMETERS.get(str(section.get("marginal")), ("", None))
    if name in section and section[name] != default:
        section.setdefault("marginal_parameter", section[name])
    for name, _ in PARAMETERS.values():
        section.pop(name, None)
    if isinstance(section.get("sizes"), list):
        section["sizes"] = [_text(size) for size in section["sizes"]]
    if (file := section.pop("sizes_file", None)) is not None and not section.get("sizes"):
        section["sizes"] = [file]


def _contrast(section: dict[str, Any]) -> None:
    switches = {"form": ("loss", "released"), "shifts": ("shifts", "independent"), "reverse": ("reversal", "before")}
    released = [name for old, (name, value) in switches.items() if section.pop(old, None) == value]
    if released:
        section.setdefault("released", released)


def _text(size: Any) -> Any:
    """A size as a user would write it: 50 for 50.0."""
    if not isinstance(size, float) or not math.isfinite(size):
        return size
    return str(int(size)) if size == int(size) else str(size)


def _launch(section: dict[str, Any]) -> None:
    words = [f"{name}={section[name]}" for name in ("qos", "constraint") if section.get(name)]
    memory = section.get("memory_gb")
    if isinstance(memory, int | float) and memory > 0 and math.isfinite(memory):
        words.append(f"mem={math.ceil(memory * 1024)}M")
    for name in ("qos", "constraint", "memory_gb"):
        section.pop(name, None)
    if words and isinstance(section.get("sbatch", []), list):
        section["sbatch"] = [*section.get("sbatch", []), *words]


def _data(section: dict[str, Any]) -> None:
    reading = {f.name: section.pop(f.name) for f in fields(ReadingConfig) if f.name in section}
    if reading:
        section.setdefault("reading", reading)
    for name in {"data.storage"} | OF_INDEX - {"data.root", "data.name", "data.index"}:
        section.pop(name.partition(".")[2], None)


def _clip(section: dict[str, Any]) -> None:
    for name in ("mean", "std"):  # one number for all channels
        if isinstance(section.get(name), int | float):
            section[name] = [section[name]] * 3


TRANSLATED: dict[str, Callable[[dict[str, Any]], None]] = {
    "labelling": _labelling, "contrast": _contrast, "launch": _launch, "data": _data,
    "clip": _clip,
}  # fmt: skip
"""The function that translates a section in place, for each section whose options were merged, moved or removed."""
