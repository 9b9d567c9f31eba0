"""What cannot go together in the options of a training. No import of torch, so that refusals are quick."""

from importlib.util import find_spec
from pathlib import Path

from ..config import LaunchConfig, OptimConfig, PlanConfig, TrainConfig
from ..config.check_options import check_clip
from ..config.contrast import ContrastConfig
from ..config.data import NO_INDEX
from ..core.cores import check_memory
from ..core.errors import UserError
from ..core.plurals import counted

PROCESS_BYTES = 256e6
"""What a process that has imported torch takes at least."""


def check_clusters(config: TrainConfig, rows: int, videos: int | None = None) -> None:
    """UserError for more clusters than training items: `rows` of the index, of so many `videos` (default: one each)."""
    if "labelling" in config.objectives and rows < config.labelling.clusters:
        raise UserError(
            f"labelling.clusters={config.labelling.clusters} for {counted(rows, videos or rows, 'training video')}: "
            f"ask for at most {rows} clusters"
        )


def check(config: TrainConfig) -> None:
    """UserError for options that do not go together."""
    check_clip(config.clip)
    if "contrast" not in config.objectives and config.contrast != ContrastConfig():
        raise UserError("contrast.* has no part in task=selavi: set task=gdt, or task=both")
    _check_optim(config.optim)
    if len(config.objectives) > 1 and set(config.contrast.modalities) != set(config.labelling.modalities):
        wanted = ",".join(name for name in ("video", "audio") if name in config.labelling.modalities)
        raise UserError(f"task=both encodes the same for both objectives: set contrast.modalities=[{wanted}]")
    if config.wandb and find_spec("wandb") is None:
        raise UserError(f"wandb={config.wandb} needs Weights & Biases: pip install wandb")
    elsewhere = isinstance(config, PlanConfig) and config.launch.gpus > 0
    if config.launch.where == "local" and config.launch.nodes == 1 and not elsewhere:
        _check_machine(config)
    _check_labelling(config)


def check_training(config: TrainConfig) -> None:
    """`check`, and UserError for videos or an index that are not there: before torch is imported."""
    from ..config.check_paths import check_inside
    from ..videos.index import splits, training_split
    from ..videos.index_options import resolve_for_training

    check(config)
    if config.data.index == NO_INDEX:
        raise UserError(
            "data.index is needed: the folder that `avssl index` wrote, as data.index=index/my_videos, or the folder "
            "of videos that it was made of, as data.root=my_videos"
        )
    training_split(config.data, splits(config.data.index))
    root = resolve_for_training(config.data).root
    if not root:
        raise UserError(f"{config.data.index} does not say where its videos are: give data.root=…")
    if config.launch.where == "local" and not Path(root).is_dir():
        asked = f"data.root={root}" if config.data.root else f"the folder {root} of the videos in {config.data.index}"
        raise UserError(f"{asked} does not exist: give the folder that was indexed, as data.root=…")
    check_inside("out", config.out, root)


def check_plan(config: PlanConfig) -> None:
    """`check`, and UserError where there is neither an index nor a number of videos."""
    from ..videos.index import splits

    check(config)
    if not config.videos and (config.data.index == NO_INDEX or not splits(config.data.index, missing_ok=True)):
        where = "" if config.data.index == NO_INDEX else f" in {config.data.index}"
        raise UserError(
            f"no index{where}, and no videos=…: run `avssl index data.root=<folder of videos>`, or "
            f"say how many training videos there will be, as in videos=1000000"
        )


def check_launch(launch: LaunchConfig) -> None:
    """UserError for launch.dry without a job to show."""
    if launch.dry and launch.where != "slurm":
        raise UserError("launch.dry=true shows what sbatch would be given: add launch=slurm")


def _check_optim(optim: OptimConfig) -> None:
    if optim.batch < 2:
        raise UserError(
            "optim.batch=1 leaves batch norm and contrast with no other video to compare with: give at least 2"
        )


def _check_machine(config: TrainConfig) -> None:
    """UserError for what this machine has not the memory for, by a wide margin."""
    clip, model, labelling, optim = config.clip, config.model, config.labelling, config.optim
    processes = max(1, config.launch.processes)
    video = 3 * clip.frames * clip.crop**2 + 4 * clip.audio_seconds * clip.audio_rate
    check_memory(f"optim.batch={optim.batch}", processes * optim.batch * video, "the clips of a batch")
    side = clip.short_side_max
    check_memory(f"clip.frames={clip.frames}", 3 * clip.frames * side**2, f"a clip of a short side of {side} px")
    if "labelling" in config.objectives:
        outputs = labelling.heads * labelling.clusters
        heads = f"labelling.heads={labelling.heads} of labelling.clusters={labelling.clusters}"
        check_memory(heads, processes * 12 * outputs * model.hidden, "the heads' weights, gradients and momentum")
    workers = processes * config.workers
    if workers > 64:
        check_memory(f"workers={config.workers}", workers * PROCESS_BYTES, "as many processes")


def _check_labelling(config: TrainConfig) -> None:
    labelling = config.labelling
    if labelling.groups > labelling.heads:
        raise UserError(
            f"labelling.groups={labelling.groups} of {labelling.heads} heads: ask for at most as many groups"
        )
    if labelling.mode != "offline" and labelling.groups > 1:
        raise UserError(
            f"labelling.groups={labelling.groups}: only mode=offline labels groups from passes of their own"
        )
    if labelling.method != "transport" and labelling.mode == "batch":
        raise UserError(f"labelling.method={labelling.method} clusters all videos: use labelling.mode=offline or bank")
    if labelling.method == "xdc" and len(labelling.modalities) < 2:
        raise UserError(
            "labelling.method=xdc labels each modality by the other: set labelling.modalities=[video,audio]"
        )
    if labelling.method == "xdc" and labelling.sharing != "per_modality":
        raise UserError(
            "labelling.method=xdc gives each modality labels of its own: set labelling.sharing=per_modality"
        )
    if labelling.sharing == "concat" and len(labelling.modalities) < 2:
        raise UserError("labelling.sharing=concat needs both modalities: set labelling.modalities=[video,audio]")
    if "labelling" in config.objectives and (labelling.marginal == "given" or labelling.sizes):
        from ..selflabel.marginals import make_marginal  # imports torch

        make_marginal(labelling)
