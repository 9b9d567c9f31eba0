"""Checks that the options of a run fit together. This file does not import torch, so that errors come quickly."""

import shlex
from dataclasses import replace
from importlib.util import find_spec
from math import prod
from pathlib import Path

from ..config import LabellingConfig, LaunchConfig, OptimConfig, PlanConfig, TrainConfig
from ..config.check_options import check_clip
from ..config.contrast import ContrastConfig
from ..config.data import AUTO, NO_INDEX, TrainedDataConfig
from ..config.encoder_names import OF_IMAGES, OUR_CLIPS, OURS, check_encoder_name
from ..config.model import MODALITIES
from ..config.start import check_start
from ..core.cores import check_memory
from ..core.errors import UserError
from ..core.plurals import counted, out_of
from .check_crops import check_crops
from .check_distillation import check_distillation
from .check_effects import check_effects
from .check_jepa import check_jepa
from .check_localisation import check_localisation
from .check_predicted import check_predicted

PROCESS_BYTES = 256e6
"""Least memory of a process that has imported torch, bytes."""


def check_clusters(config: TrainConfig, rows: int, videos: int | None = None) -> None:
    """Raise UserError if a run has more clusters than training items.

    Args:
        config: the options of the run.
        rows: number of training items, which are rows of the index: videos or windows.
        videos: number of files that these rows belong to; by default each row is a file.
    """
    if "labelling" in config.objectives and rows < config.labelling.clusters:
        raise UserError(
            f"labelling.clusters={config.labelling.clusters} is more than the "
            f"{counted(rows, videos or rows, 'training video')}: "
            f"give at most {rows}"
        )
    most = max(config.contrast.prototypes, default=0)
    if "contrast" in config.objectives and rows < most:
        raise UserError(
            f"contrast.prototypes: {most} clusters are more than the "
            f"{counted(rows, videos or rows, 'training video')}: give at most {rows}"
        )
    if "distillation" in config.objectives and rows < config.distillation.prototypes:
        raise UserError(
            f"distillation.prototypes={config.distillation.prototypes} is more than the "
            f"{counted(rows, videos or rows, 'training video')}: give at most {rows}"
        )


LEVELS = {"time_shift": 2, "reversal": 2, "augmentation": 2, "crop": 2, "rotation": 4}
"""The levels of the axes that have a fixed number of them."""


def check_keys(config: TrainConfig, rows: int) -> None:
    """Raise UserError if contrast stores or draws more keys than an epoch's clips.

    Args:
        config: the options of the run.
        rows: number of training items.
    """
    contrast, roles = config.contrast, vars(config.contrast.axes)
    if "contrast" not in config.objectives:
        return
    used = [name for name, role in roles.items() if role in ("distinct", "invariant")]
    clips = rows * prod(len(contrast.speeds) if name == "speed" else LEVELS.get(name, 1) for name in used)
    if contrast.queue is not None and contrast.queue > clips and not contrast.custom_axes:
        raise UserError(
            f"contrast.queue={contrast.queue} is more than the {clips} clips of an epoch, so it would have keys of "
            f"each video several times: give at most {clips}, or omit it"
        )
    if contrast.negatives >= rows:
        raise UserError(
            f"contrast.negatives={contrast.negatives} draws from {rows} training videos: give fewer, or omit it for "
            f"all others"
        )


def _check_stored_keys(contrast: ContrastConfig) -> None:
    """Raise UserError for options of a queue or a bank that have no effect."""
    if contrast.queue is not None and contrast.keys != "queue":
        raise UserError(f"contrast.queue={contrast.queue} has no effect with contrast.keys={contrast.keys}: omit it")
    if contrast.negatives and contrast.keys != "bank":
        raise UserError(
            f"contrast.negatives={contrast.negatives} has no effect with contrast.keys={contrast.keys}: omit it"
        )
    if "nce" in contrast.released and not contrast.negatives:
        raise UserError(
            "contrast.released=[nce] needs drawn negatives: set contrast.keys=bank and contrast.negatives=4096, or "
            "remove nce from contrast.released"
        )


def encoder_names(config: TrainConfig) -> dict[str, str]:
    """The names of the encoders by modality."""
    return {name: getattr(config.model, name) for name in config.modalities if hasattr(config.model, name)}


def with_encoders_clip(config: TrainConfig) -> TrainConfig:
    """The config with the clips that its encoders were trained with. torch is imported only if an encoder has any.

    Raises:
        UserError: an encoder does not exist.
    """
    names = encoder_names(config)
    for modality, name in names.items():
        check_encoder_name(f"model.{modality}", name)
    if not any(":" in name or (modality, name) in OUR_CLIPS for modality, name in names.items()):
        return config
    from ..models.taken_clip import take_over

    return take_over(config)


def check(config: TrainConfig) -> None:
    """Raise UserError for options that contradict each other."""
    config = with_encoders_clip(config)
    check_clip(config.clip)
    check_crops(config)
    _check_objectives(config)
    _check_stored_keys(config.contrast)
    check_jepa(config)
    check_localisation(config)
    check_predicted(config)
    check_distillation(config)
    check_effects(config)
    _check_optim(config.optim)
    _check_phases(config)
    _check_prototypes(config)
    if config.wandb and find_spec("wandb") is None:
        raise UserError(f"wandb={config.wandb} needs Weights & Biases: pip install wandb")
    other_machine = isinstance(config, PlanConfig) and config.launch.gpus > 0
    if config.launch.where == "local" and config.launch.nodes == 1 and not other_machine:
        _check_machine(config)
    _check_labelling(config)
    check_start(config.model, _encoded(config), exists=False)
    _check_rates(config)
    _check_pooling(config)


def _check_objectives(config: TrainConfig) -> None:
    """Raise UserError for a run that trains nothing, or whose objectives do not fit together."""
    objectives = config.objectives
    if not objectives:
        raise UserError(
            f"task={config.task} with these loss.* trains nothing: give a weight above 0, such as loss.contrast=1, or "
            f"choose objective=…"
        )
    if objectives.keys() == {"labelling"} and config.contrast != ContrastConfig():
        raise UserError("contrast.* has no effect with task=selavi: set task=gdt, or task=both")
    if "labelling" in objectives and len(objectives) > 1:
        modalities = ",".join(name for name in ("video", "audio") if name in config.labelling.modalities)
        if set(config.contrast.modalities) != set(config.labelling.modalities):
            raise UserError(f"all objectives encode the same clips: set contrast.modalities=[{modalities}]")


def _encoded(config: TrainConfig) -> list[str]:
    """The modalities that the run encodes."""
    return [name for name in MODALITIES.split() if name in config.modalities]


def _check_rates(config: TrainConfig) -> None:
    """Raise UserError for a learning rate of encoders in a run that freezes all encoders."""
    if not {*_encoded(config)} <= {*config.model.freeze}:
        return
    for name, default in (("encoder_lr", 1.0), ("layer_decay", 1.0), ("encoder_start", 0.0)):
        if (value := getattr(config.optim, name)) != default:
            raise UserError(f"optim.{name}={value:g} has no effect: model.freeze freezes every encoder")


def _check_pooling(config: TrainConfig) -> None:
    """Raise UserError for a pooling of frames without frames to pool; `build_encoder` checks encoders of others."""
    pooling, video = config.model.temporal_pooling, config.model.video
    if pooling == "mean":
        return
    if "video" not in _encoded(config):
        raise UserError(f"model.temporal_pooling={pooling} has no effect: the run does not encode video")
    if video in OURS["video"] and video not in OF_IMAGES:
        raise UserError(
            f"model.temporal_pooling={pooling} pools frames, but model.video={video} encodes whole clips: omit it"
        )


def check_training(config: TrainConfig) -> None:
    """Run `check`, and raise UserError if the videos or the index do not exist. This does not import torch."""
    from ..config.check_paths import check_inside
    from ..config.run_folder import check_run_folder
    from ..videos.index import splits, training_split
    from ..videos.index_options import read_note, resolve_for_training
    from .take_features import has_own_index, take_features

    _check_extraction(config)
    config = take_features(config)
    check(config)
    if has_own_index(config):
        check_run_folder(with_encoders_clip(config))
        return
    if config.data.index == NO_INDEX:
        raise UserError(
            "an index is needed: run `avssl index my_videos`, then give the same folder of videos here, or the index "
            "as "
            "data.index=index/my_videos"
        )
    split = training_split(config.data, splits(config.data.index))
    counts = read_note(config.data.index)
    rows, videos = (counts.get(name, {}).get(split) for name in ("rows", "videos"))
    if isinstance(rows, int):
        check_clusters(config, rows, videos if isinstance(videos, int) else None)
        check_keys(config, rows)
    resolved = replace(with_encoders_clip(config), data=resolve_for_training(config.data))
    root = resolved.data.root
    if not root:
        raise UserError(f"{config.data.index} does not record the folder of its videos: give data.root=my_videos")
    if config.launch.where == "local" and config.data.features in ("", AUTO) and not Path(root).is_dir():
        folder = f"data.root={root}" if config.data.root else f"the folder {root} of the videos in {config.data.index}"
        raise UserError(f"{folder} does not exist: give the folder that was indexed, data.root=…")
    check_inside("out", config.out, root)
    check_run_folder(resolved)
    check_time_shifts(resolved, split)
    if not any((Path(config.out) / "checkpoints").glob("step_*")):  # a resumed run has its weights
        check_start(config.model, _encoded(config))


def check_time_shifts(config: TrainConfig, split: str) -> None:
    """Raise UserError if videos are too short for two clips that do not overlap, and the contrast needs two.

    The data set checks every axis once torch is there; this reports the usual case at once.
    """
    contrast, axes = config.contrast, config.contrast.axes
    distinct = axes.time_shift == "distinct" and "shifts" not in contrast.released
    if "contrast" not in config.objectives or not distinct or config.data.features:
        return
    from ..clips.decoders.span import ClipSpec
    from ..videos.index import lengths_of

    clip = ClipSpec.of(config.clip).seconds * (1.0 if axes.speed == "off" else max(contrast.speeds))
    needed = 2 * clip + contrast.min_gap
    seconds, videos = lengths_of(config.data.index, split)
    if short := sum(x < needed - 1e-6 for x in seconds):
        root = shlex.quote(config.data.root)
        raise UserError(
            f"{out_of(short, len(seconds), videos)} are shorter than the {needed:g} s of two clips, which "
            f"contrast.axes.time_shift=distinct needs: leave them out with avssl index {root} "
            f"data.min_seconds={needed:g}, or set contrast.axes.time_shift=invariant"
        )


def _check_extraction(config: TrainConfig) -> None:
    """Raise UserError for options of extraction in a run that extracts nothing."""
    for name in ("views", "augmented"):
        value = getattr(config.data, name)
        if config.data.features != AUTO and value != TrainedDataConfig.__dataclass_fields__[name].default:
            raise UserError(f"data.{name}={value} has no effect without data.features=auto: omit it")


def check_plan(config: PlanConfig) -> None:
    """Run `check`, and raise UserError if there is neither an index nor a number of videos."""
    from ..videos.index import splits

    if config.data.features not in ("", AUTO):
        raise UserError("a run on data.features decodes and encodes nothing: omit it to plan a run on the videos")
    if config.data.features:
        from .take_features import frozen_for_features

        config = frozen_for_features(config)
    check(config)
    if not config.videos and (config.data.index == NO_INDEX or not splits(config.data.index, missing_ok=True)):
        where = "" if config.data.index == NO_INDEX else f" in {config.data.index}"
        raise UserError(
            f"there is no index{where}, and no videos=…: run `avssl index my_videos`, or give the number of training "
            f"videos, such as videos=1000000"
        )


def check_launch(launch: LaunchConfig) -> None:
    """Raise UserError for launch.dry without a job to show."""
    if launch.dry and launch.where != "slurm":
        raise UserError("launch.dry=true prints the batch script of a job: add launch=slurm")


def _check_optim(optim: OptimConfig) -> None:
    if optim.batch < 2:
        raise UserError(
            "optim.batch=1 is too small, because batch norm and contrast compare the videos of a batch: give at least 2"
        )


def _check_phases(config: TrainConfig) -> None:
    """Raise UserError for parts of a run that train nothing, or lack labels or embeddings to begin with."""
    labelling, contrast, both = config.labelling, config.contrast, len(config.objectives) > 1
    for option, name in (("labelling.start", "labelling"), ("contrast.end", "contrast")):
        value, default = (labelling.start, 0.0) if name == "labelling" else (contrast.end, 1.0)
        if both and value != default and name not in config.objectives:
            raise UserError(f"{option}={value:g} has no effect without {name}: omit it, or add loss.{name}=1")
    if labelling.start and not both:
        raise UserError(
            f"labelling.start={labelling.start:g}: nothing would be trained until then: add another term, such as "
            f"loss.contrast=1, or omit it"
        )
    if contrast.end < 1 and not both:
        raise UserError(
            f"contrast.end={contrast.end:g}: nothing would be trained from then on: add another term, such as "
            f"loss.labelling=1, or omit it"
        )
    if contrast.end < labelling.start and config.objectives.keys() <= {"contrast", "labelling"}:
        raise UserError(
            f"contrast.end={contrast.end:g} is before labelling.start={labelling.start:g}, so nothing would be "
            f"trained in between: set contrast.end={labelling.start:g}"
        )
    if "labelling" not in config.objectives:
        return
    if labelling.stop_gradient and config.model.adapter and not both:
        raise UserError(
            f"model.adapter={config.model.adapter} would stay random, because nothing trains it with "
            f"labelling.stop_gradient=true and task=selavi: omit it, or set task=both"
        )
    if labelling.first_from == "embeddings" and ("contrast" not in config.objectives or labelling.first == "heads"):
        raise UserError(
            "labelling.first_from=embeddings clusters the embeddings of contrast: set task=both and "
            "labelling.first=kmeans"
        )
    given = {
        f"labelling.first={labelling.first}": labelling.first != "heads",
        f"labelling.soft={labelling.soft:g}": labelling.soft > 0,
        f"labelling.lam_start={labelling.lam_start}": labelling.lam_start is not None,
    }
    for option in (option for option, is_given in given.items() if is_given):
        if labelling.method != "transport":
            raise UserError(f"{option} needs labelling.method=transport, not {labelling.method}")
        if labelling.mode == "batch":
            raise UserError(
                f"{option} needs labelling.mode=offline or bank, because mode=batch gives every batch new labels"
            )


def _check_prototypes(config: TrainConfig) -> None:
    """Raise UserError for a start of prototypes without prototypes, or after the end of contrast."""
    contrast, start = config.contrast, f"contrast.prototype_start={config.contrast.prototype_start:g}"
    if not contrast.prototypes and contrast.prototype_start != ContrastConfig().prototype_start:
        raise UserError(f"{start} has no effect without prototypes: give contrast.prototypes=[…], or omit it")
    if contrast.prototypes and contrast.prototype_start >= contrast.end:
        raise UserError(f"{start} is not before contrast.end={contrast.end:g}: lower it")


def _check_machine(config: TrainConfig) -> None:
    """Raise UserError for options that need far more memory than this machine has."""
    clip, model, labelling, optim = config.clip, config.model, config.labelling, config.optim
    processes = max(1, config.launch.processes)
    clip_bytes = 3 * clip.frames * clip.crop**2 + 4 * clip.audio_seconds * clip.audio_rate
    check_memory(f"optim.batch={optim.batch}", processes * optim.batch * clip_bytes, "the clips of a batch")
    side = clip.short_side_max
    check_memory(f"clip.frames={clip.frames}", 3 * clip.frames * side**2, f"a clip of a short side of {side} px")
    if "labelling" in config.objectives:
        outputs = labelling.heads * labelling.clusters
        heads = f"labelling.heads={labelling.heads} of labelling.clusters={labelling.clusters}"
        check_memory(heads, processes * 12 * outputs * model.hidden, "the heads' weights, gradients and momentum")
    workers = processes * config.workers  # -1 follows the number of cores, and is not checked
    if workers > 64:
        check_memory(f"workers={config.workers}", workers * PROCESS_BYTES, "as many processes")


def _check_labelling(config: TrainConfig) -> None:
    labelling = config.labelling
    if labelling.groups > labelling.heads:
        raise UserError(
            f"labelling.groups={labelling.groups} exceeds labelling.heads={labelling.heads}: each group needs a head"
        )
    if labelling.mode != "offline" and labelling.groups > 1:
        raise UserError(
            f"labelling.groups={labelling.groups} needs labelling.mode=offline, where each group has its own pass"
        )
    if labelling.method != "transport" and labelling.mode == "batch":
        raise UserError(
            f"labelling.method={labelling.method} clusters all videos at once: set labelling.mode=offline or bank"
        )
    if labelling.method == "xdc" and len(labelling.modalities) < 2:
        raise UserError("labelling.method=xdc labels each modality by the other: set labelling.modalities=video,audio")
    if labelling.method == "xdc" and labelling.sharing != "per_modality":
        raise UserError("labelling.method=xdc gives each modality its own labels: set labelling.sharing=per_modality")
    if labelling.sharing == "concat" and len(labelling.modalities) < 2:
        raise UserError("labelling.sharing=concat needs both modalities: set labelling.modalities=video,audio")
    _check_weights(labelling)
    given = labelling.marginal == "given" or labelling.sizes or labelling.marginal_parameter is not None
    if "labelling" in config.objectives and given:
        from ..selflabel.marginals import make_marginal  # imports torch

        make_marginal(labelling)


def _check_weights(labelling: LabellingConfig) -> None:
    """Raise UserError for weights of modalities that would have no effect."""
    if not labelling.given_weights():
        return
    fix = "set labelling.modality_weights=equal"
    if len(labelling.modalities) < 2:
        raise UserError(f"labelling.modality_weights needs two modalities, not only {labelling.modalities[0]}: {fix}")
    if labelling.method != "transport":
        raise UserError(
            f"labelling.modality_weights weighs the heads' evidence, which labelling.method={labelling.method} "
            f"does not use: {fix}"
        )
    if labelling.sharing == "concat":
        raise UserError(f"labelling.modality_weights needs evidence by modality, not labelling.sharing=concat: {fix}")
    if labelling.weighs_by_itself and labelling.mode == "batch":
        raise UserError(
            "labelling.modality_weights=auto needs passes over all videos: set labelling.mode=offline or bank, or "
            "give numbers"
        )
