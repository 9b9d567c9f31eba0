"""A run without a preset, or with `experiment=auto`: examine the index and this machine, and choose a recipe.

This file does not import torch. The run's folder records the decision, so that repeating the command resumes the run
even if a GPU or weights have been added meanwhile.
"""

import os
import shlex
import socket
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from omegaconf import OmegaConf

from ..assets import assets_root
from ..config.auto import KINETICS, Facts, decide, is_free, is_left_open, shared_batch
from ..config.compose import compose_config
from ..config.data import AUTO, NO_INDEX, ExaminedDataConfig, TrainedDataConfig
from ..config.start import package_file
from ..config.train import TrainConfig
from ..core.atomic import write_json
from ..core.cores import available_cores
from ..core.device import GPUS
from ..core.errors import UserError
from ..core.tables import check_paths, checked_rows, open_table, parquet_errors
from ..core.untrusted import field, read_json
from ..core.verbosity import is_verbose
from .index import LIMITS, NEEDED, SCHEMA, splits, training_split

WORD = f"experiment={AUTO}"

OBJECTIVE_RECIPE = "tiny"
"""The recipe of `objective=…` without a GPU."""

LOCALISATION_RECIPE = "tiny_localisation"
"""The recipe of localisation without a GPU, whose feature maps are finer."""

RECORD = "auto.json"
"""The file of a run folder with the decision and its reasons."""

DOWNLOADS = ("download.pytorch.org", 443)
"""The address of torchvision's weights."""

CONNECTION_SECONDS = 1.0


def compose_auto(command: str, schema: type, words: list[str], suffix: str = "") -> tuple[Any, list[str]]:
    """The config of `avssl <command> <words>`, and lines to print, if `experiment=auto` or no preset is given.

    Args:
        command: the command.
        schema: the schema of its options.
        words: the user's words; their options are not changed.
        suffix: appended to the run folder's name.

    Raises:
        UserError: a word is invalid, or there is no index.
    """
    if WORD not in words and not is_left_open(words):
        return _with_suffix(compose_config(command, schema, words), suffix), []
    rest = [word for word in words if word != WORD]
    if "task=none" in rest or any(word.startswith(("objective=", "loss.")) for word in rest):
        return _of_objective(command, schema, rest, suffix)
    given = dict(word.partition("=")[::2] for word in rest if "=" in word)
    decision = decide(facts_for(compose_config(command, schema, [WORD, *rest]), given))
    config = _composed(command, schema, rest, decision.recipe, decision.words, suffix)
    record = Path(config.out) / RECORD
    before = _decided_before(config) if schema is TrainConfig else None
    if before is None:
        config.auto = [f"experiment={decision.recipe}", *decision.words]
        config.auto_reasons = [decision.line, *decision.lines]
        where = f"{record}, or -v" if schema is TrainConfig else "-v"
        return config, _shown(f"{decision.line}; reasons: {where}", decision.lines, decision.advice)
    words, reasons = before
    recipe, kept = words[0].partition("=")[2], [word for word in words[1:] if is_free(word.partition("=")[0], given)]
    config = _composed(command, schema, rest, recipe, kept, suffix)
    config.auto, config.auto_reasons = before
    line = reasons[0] if reasons else " ".join([words[0], *kept])
    return config, _shown(f"{line}; as {record} says", reasons[1:], [])


def _of_objective(command: str, schema: type, words: list[str], suffix: str) -> tuple[Any, list[str]]:
    """The config of a run with `objective=…`, and a line to print: small encoders where there is no GPU, else those of
    the default, so that the objective alone decides what is learned."""
    config = compose_config(command, schema, words)
    before = _decided_before(_with_suffix(config, suffix)) if schema is TrainConfig else None
    if before is None and _will_have_gpu(config):
        return config, []
    recipe = LOCALISATION_RECIPE if "localisation" in config.objectives else OBJECTIVE_RECIPE
    recipe = recipe if before is None else before[0][0].partition("=")[2]
    line = f"no GPU: small encoders and clips (experiment={recipe})"
    given, shared = dict(word.partition("=")[::2] for word in words), {}
    if processes_of(config) > 1 and is_free("optim.batch", given):
        shared = shared_batch(_length(recipe)[1], processes_of(config))
    kept = [f"{key}={value}" for key, value in shared.items()] if before is None else before[0][1:]
    config = _composed(command, schema, words, recipe, [x for x in kept if is_free(x.partition("=")[0], given)], suffix)
    config.auto, config.auto_reasons = before or ([f"experiment={recipe}", *kept], [line])
    return config, [line if before is None else f"{line}; as {Path(config.out) / RECORD} says"]


def processes_of(config: TrainConfig) -> int:
    """The processes that train a run together; another launcher, such as torchrun, gives their number."""
    world = os.environ.get("WORLD_SIZE", "") if "RANK" in os.environ else ""
    return int(world) if world.isdecimal() and int(world) else config.launch.all_processes()


def _will_have_gpu(config: TrainConfig) -> bool:
    """Whether the run computes on a GPU, on this machine or another."""
    launch = config.launch
    if launch.where == "slurm" or launch.nodes > 1 or launch.gpus >= 0:
        return launch.gpus_of_node() > 0 and config.device != "cpu"
    return has_gpu(config.device)


def _shown(line: str, reasons: list[str], advice: list[str]) -> list[str]:
    """The lines to print: the reasons with -v alone, advice always."""
    return [line, *(reasons if is_verbose() else advice)]


def _composed(command: str, schema: type, rest: list[str], recipe: str, words: list[str], suffix: str) -> Any:
    return _with_suffix(compose_config(command, schema, [f"experiment={recipe}", *words, *rest]), suffix)


def _with_suffix(config: Any, suffix: str) -> Any:
    if suffix:
        config.out += suffix
    return config


def _decided_before(config: TrainConfig) -> tuple[list[str], list[str]] | None:
    """The recipe and options that were chosen when the run began, and the reasons; None for a new run.

    Records of earlier versions have no reasons.
    """
    path = Path(config.out) / RECORD
    try:
        note = read_json(path)
    except OSError:
        return None
    words = field(note, "words", _are_texts, path)
    reasons = field(note, "reasons", _are_texts, path) if "reasons" in note else []
    recipes = {p.stem for p in _recipes().glob("*.yaml")}
    if words[0] not in {f"experiment={name}" for name in recipes - {AUTO}} or any("=" not in word for word in words):
        raise UserError(f"{path} is damaged: remove {config.out}, or choose another folder with out=…")
    return words, reasons


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(text, str) for text in value)


def note_decision(config: TrainConfig) -> None:
    """Record the decision of `experiment=auto` in the run's folder, unless it is recorded."""
    path = Path(config.out) / RECORD
    if config.auto and not path.is_file():
        write_json(path, {"words": config.auto, "reasons": config.auto_reasons})


def facts_for(config: TrainConfig, given: dict[str, str]) -> Facts:
    """The facts about a run: its videos, its machine, and the installed weights.

    Args:
        config: a config with any recipe, for its index and its machine.
        given: the options that the user gave.

    Raises:
        UserError: there is no index.
    """
    launch = config.launch
    elsewhere = launch.where == "slurm" or launch.nodes > 1 or launch.gpus >= 0
    gpu = _will_have_gpu(config)
    kinetics = _in_cache(KINETICS)
    return Facts(
        **video_facts(config), cores=launch.cpus if elsewhere else available_cores(), gpu=gpu,
        imagenet=package_file() is not None, kinetics=kinetics, fetchable=gpu and not kinetics and is_reachable(),
        lengths={name: _length(name) for name in ("frozen", "frozen_video", "small", "selavi_small")},
        processes=processes_of(config), given=given,
    )  # fmt: skip


def video_facts(config: TrainConfig) -> dict[str, Any]:
    """The number and the durations of an index's training rows, as arguments of `Facts`."""
    data, planned = config.data, getattr(config, "videos", 0)
    names = [] if data.index == NO_INDEX else splits(data.index, missing_ok=True)
    if not names and planned:
        return {"rows": planned, "files": planned}
    if not names:
        number = ", or give the number of training videos, such as videos=1000000"
        raise UserError(_no_index(data) + (number if hasattr(config, "videos") else ""))
    path = Path(data.index) / f"{training_split(data, names)}.parquet"
    try:
        with open_table(path, SCHEMA) as file, parquet_errors(path):
            rows = checked_rows(file.read(SCHEMA.names), SCHEMA, path, NEEDED, LIMITS)
        check_paths(rows["path"], path)
    except (OSError, UserError) as error:
        raise UserError(f"{error}: run `avssl index` again") from None
    if not rows.num_rows:
        raise UserError(f"{path} has no rows: run `avssl index` again")
    seconds = rows["window_seconds"].to_numpy()
    number, files = rows.num_rows, pc.count_distinct(rows["path"]).as_py()
    silent = int((rows["audio_rate"].to_numpy() == 0).sum())
    return {
        "rows": planned or number, "files": planned or files, "shortest": float(seconds.min()),
        "median": float(np.median(seconds)), "silent": silent, "windows": number > files,
    }  # fmt: skip


def _no_index(data: TrainedDataConfig) -> str:
    """What to do if there is no index to read."""
    if data.index == NO_INDEX:
        return "no videos are given: run `avssl index my_videos`, then `avssl train my_videos`"
    if data.root and not Path(data.root).is_dir():
        return f"no folder {data.root}, and no index in {data.index}: give a folder of videos; run `avssl index` first"
    root = shlex.quote(data.root or "my_videos")
    return f"there is no index in {data.index}: run `avssl index {root}` first"


def has_gpu(device: str) -> bool:
    """Whether this machine clearly has a usable GPU. Importing torch to ask would take seconds."""
    if device == "cpu" or os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return False
    if device == "mps":
        return True
    with suppress(PackageNotFoundError):
        if version("torch").endswith("+cpu"):  # this build cannot use a GPU
            return False
    return any(map(os.path.exists, GPUS))


def _in_cache(name: str) -> bool:
    """Whether torchvision's weights of a network are in torch's cache."""
    cache = os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))
    home = os.environ.get("TORCH_HOME", os.path.join(cache, "torch"))
    return any(Path(home, "hub", "checkpoints").glob(f"{name}-*.pth"))


def is_reachable() -> bool:
    """Whether torchvision's weights can be fetched. The check takes at most a second."""
    with suppress(OSError), socket.create_connection(DOWNLOADS, CONNECTION_SECONDS):
        return True
    return False


def _recipes() -> Path:
    return assets_root() / "configs" / "experiment"


def _length(recipe: str) -> tuple[int, int]:
    """The clips of a run and the videos of a batch, from a recipe."""
    found = OmegaConf.load(_recipes() / f"{recipe}.yaml")
    optim = OmegaConf.select(found, "optim", default={})
    batch = int(optim.get("batch", 16))
    return int(optim.get("clips", 600 * batch)), batch


def sentence(data: ExaminedDataConfig) -> str:
    """What `avssl train` would do with an index, in one line; empty if the index cannot be used."""
    words = [f"data.root={data.root}"] if data.root else []
    words += [f"data.index={data.index}"] if not data.root or data.index != f"index/{data.name}" else []
    with suppress(UserError):
        config = compose_config("train", TrainConfig, [WORD, *words])
        decision = decide(facts_for(config, {}))
        shown = " ".join(map(shlex.quote, [data.root, *words[1:]] if data.root else words))
        return f"`avssl train {shown}` would use {decision.short}; `avssl plan {shown}` estimates the time"
    return ""
