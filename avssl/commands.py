"""The table of commands: their options, what runs them, and what their help says."""

from dataclasses import dataclass, field
from pathlib import Path

from . import config as configs


@dataclass(frozen=True)
class Command:
    """A sub-command: `run` is "module:function", imported when it is called, so that `avssl --help` stays quick."""

    schema: type
    run: str
    summary: str
    about: str
    examples: tuple[tuple[str, str], ...]
    lines_out: bool = False
    """Is each line on standard output a result, for other programs? What else is said goes to standard error then."""
    run_all: str = ""
    """As `run`, of a list of configs: for --multirun, where the command has it."""
    check: str = ""
    """As `run`, called before it, where `avssl.config.check_options` does not know the command."""


@dataclass(frozen=True)
class Program:
    """Commands, and how they are given: `name` is what stands before each of them."""

    name: str
    about: str
    commands: dict[str, Command]
    configs: Path | None = None
    """The folder of the commands' primary configs; None is `configs/`."""
    hints: tuple[str, ...] = ()
    """Lines below the overview."""
    moved: dict[str, str] = field(default_factory=dict)
    """Commands of before, and how they are given now."""

    @property
    def short(self) -> str:
        """Its last word, which begins an error's line."""
        return self.name.split()[-1]


COMMANDS: dict[str, Command] = {
    "sample": Command(
        configs.SampleConfig,
        "avssl.sample.videos:make_sample",
        "make a small labelled set of real video files to try everything on",
        "Handwritten digits that move over clutter, each class with its own sound: H.264 and AAC in mp4 files, laid "
        "out as {split}/{class}/{video}. The same seed makes the same videos.",
        (("avssl sample out=sample", "800 videos"), ("avssl sample out=long longtail=1.0 seed=3", "long-tailed")),
    ),
    "index": Command(
        configs.IndexConfig,
        "avssl.videos.index_report:run",
        "probe a folder of videos: what is usable, and why the rest is not",
        "Every file is opened, its first and last frames and its sound are decoded. Usable ones go into one Parquet "
        "file a split, the others into rejects.parquet with the reason. Run it again after adding or replacing "
        "files: only what changed is probed.",
        (
            ("avssl index data.root=/data/my_videos", "any folder"),
            ("avssl index data.root=talks data.window_seconds=2", "long videos, cut into windows of 2 s"),
        ),
    ),
    "doctor": Command(
        configs.DoctorConfig,
        "avssl.videos.doctor_page:run",
        "the state of a folder of videos: what to mend before training, and how",
        "Indexes what is new, compares the contents of files of equal size, and tells per split and class what is "
        "usable, rejected or unusual, with the option that mends it. Writes doctor.html, and doctor.csv with every "
        "file that has a finding, beside the index. With data.index alone the index is taken as it is.",
        (
            ("avssl doctor data.root=my_videos", "index first, if need be"),
            ("avssl doctor data.index=index/my_videos duplicates=false", "an index that is there; opens no video"),
        ),
    ),
    "prepare": Command(
        configs.PrepareConfig,
        "avssl.videos.prepare:run",
        "write every video once more, small and quick to read, before a long training",
        "H.264 pictures of a short side of 160 pixels with a key frame every 12, and mono sound at 24 kHz, in mp4 "
        "files at the same relative paths: clips start at the same instants as in the originals. A run that was "
        "stopped goes on, and later runs write only what is new or changed.",
        (
            ("avssl prepare data.root=my_videos out=small", "then: avssl index data.root=small"),
            ("avssl prepare data.root=my_videos out=small crf=18 short_side=256", "larger and better"),
        ),
    ),
    "shard": Command(
        configs.ShardConfig,
        "avssl.videos.shards:run",
        "pack videos into a few large tar files, for network file systems",
        "Members are read in place, by an index of their offsets: `avssl index` and `avssl train` take the folder as "
        "data.root. The shards are WebDataset's too: <key>.mp4 with <key>.json, split by split.",
        (("avssl shard data.root=small out=shards", "then: avssl index data.root=shards"),),
    ),
    "train": Command(
        configs.TrainConfig,
        "avssl.launch.command:run",
        "learn clusters from an indexed folder",
        "Trains the encoders and cluster heads, labelling all videos by optimal transport as it goes. A run that was "
        "stopped goes on when the same command is given again. With --multirun, words with several values make a "
        "training of every combination.",
        (
            ("avssl train experiment=sample data.root=sample", "the sample, in minutes on a laptop"),
            ("avssl train experiment=small data.root=my_videos labelling.clusters=20", "a folder of your own"),
            ("avssl train data.root=my_videos launch.processes=4", "on four GPUs of this machine"),
            (
                "avssl train data.root=my_videos launch=slurm launch.nodes=2 launch.dry=true",
                "what SLURM would be given",
            ),
            (
                "avssl train --multirun data.root=my_videos launch=slurm seed=0,1,2",
                "three trainings, as an array of jobs",
            ),
        ),
        run_all="avssl.launch.command:run_all",
    ),
    "plan": Command(
        configs.PlanConfig,
        "avssl.plan.command:run",
        "before a long training: what it will take, and what to change first",
        "Takes the options of `avssl train`. Times a step, decoding, the solver and a checkpoint on this machine, for "
        "a minute or less, and computes the training from that: days, cores, memory, and the bottleneck. Every "
        "line says whether it was measured here, computed or assumed.",
        (
            ("avssl plan data.root=my_videos launch=slurm launch.nodes=8 launch.gpus=8", "64 GPUs"),
            ("avssl plan experiment=gdt_kinetics videos=100000000 launch.nodes=64 launch.gpus=8", "no index needed"),
            ("avssl plan experiment=sample data.root=sample", "this machine"),
        ),
        check="avssl.train.check_options:check_plan",
    ),
    "clusters": Command(
        configs.ClustersConfig,
        "avssl.explore.clusters:run",
        "label every video with a trained run; write labels, metrics and a page to open",
        "Writes assignments.parquet and .csv (label and confidence of every video), clustering.json (the table that "
        "is printed) and explorer/index.html: the clusters in a browser, from the file system, with picture and sound. "
        "There they are named, merged and rejected; the names are downloaded, and given back here with names=….",
        (
            ("avssl clusters run=runs/sample_selavi_seed0", "all splits of the run's own data"),
            ("avssl clusters run=runs/sample_selavi_seed0 split=test", "held-out videos only"),
            ("avssl clusters run=runs/sample_selavi_seed0 names=names.json", "a labelled data set of named clusters"),
        ),
    ),
    "label": Command(
        configs.LabelConfig,
        "avssl.label.label:run",
        "label new videos by a trained run: a folder, a file, or a list; once, or as they come",
        "Label, name, confidence, what pictures and sound say alone, and whether it is none of the run's clusters, as "
        "Parquet and CSV. What was labelled before, and has not changed, is not labelled again.",
        (
            ("avssl label run=runs/my_videos_selavi_seed0 videos=new", "a folder"),
            ("avssl label run=runs/my_videos_selavi_seed0 videos=new names=names.json", "with names of the explorer"),
            ("avssl label run=runs/my_videos_selavi_seed0 videos=inbox watch=true", "videos as they come"),
            ("find new -name '*.mp4' | avssl label run=runs/my_videos_selavi_seed0 videos=-", "a list"),
        ),
        lines_out=True,
        check="avssl.label.check_options:check_label",
    ),
    "evaluate": Command(
        configs.EvaluateConfig,
        "avssl.evaluate.command:run",
        "what encoders are good for by the published protocols: clusters, retrieval, few-shot, probes, finetuning",
        "Features are extracted once and kept. Classifiers and galleries are of the training split, figures of the "
        "test split. Writes evaluate.json, LaTeX tables and plots beside the run.",
        (
            ("avssl evaluate run=runs/sample_gdt_seed0", "all but robustness and finetuning, against the classes"),
            ("avssl evaluate checkpoint=gdt.pth data=ucf101 data.root=UCF-101 folds=[1,2,3]", "published weights"),
            ("avssl evaluate run=runs/sample_gdt_seed0 tasks=[knn] columns=[digit,direction]", "other labels"),
            ("avssl evaluate run=runs/sample_gdt_seed0 tasks=[finetune] finetune=small", "training on, with labels"),
        ),
    ),
    "export": Command(
        configs.ExportConfig,
        "avssl.runs.export:run",
        "an encoder as a file for other tools: ONNX, torch.export, safetensors",
        "Any batch size. The file is run beside the encoder itself before it is put in place, and what its inputs are "
        "is written into it and beside it.",
        (
            ("avssl export run=runs/my_videos_selavi_seed0 modality=video", "ONNX, in the run's folder"),
            ("avssl export checkpoint=selavi_vggsound modality=audio format=safetensors", "published weights"),
        ),
    ),
    "models": Command(
        configs.ModelsConfig,
        "avssl.runs.models:run",
        "the published weights of SeLaVi and GDT: what there is, and what is here",
        "Lists the cards in models/. Weights that were fetched or converted are taken by name: "
        "avssl.load('selavi_vggsound'), checkpoint=selavi_vggsound.",
        (("avssl models", "all of them"),),
    ),
    "models show": Command(
        configs.ModelsShowConfig,
        "avssl.runs.models:show",
        "one published model: encoders, clips, figures, licence, where it comes from",
        "Figures are as published.",
        (("avssl models show name=selavi_vggsound", "its card"),),
    ),
    "models fetch": Command(
        configs.ModelsFetchConfig,
        "avssl.runs.models:fetch",
        "fetch published weights, check and convert them",
        "Shows the licence first. A fetch that broke off goes on. Nothing is kept whose checksum is another one.",
        (
            (
                "avssl models fetch name=selavi_vggsound accept_licence=true sha256=…",
                "to ~/.cache/avssl, or $AVSSL_CACHE",
            ),
        ),
    ),
    "models convert": Command(
        configs.ModelsConvertConfig,
        "avssl.runs.models:convert",
        "take published weights from a file that is here, without a network",
        "Checks that the file is of that model, and keeps its encoders and heads alone. Files with code are refused.",
        (
            (
                "avssl models convert name=selavi_vggsound file=selavi_vgg_sound_150.pth",
                "then: avssl.load('selavi_vggsound')",
            ),
        ),
    ),
    "runs": Command(
        configs.RunsConfig,
        "avssl.runs.status:run",
        "the trainings in a folder: state, step, loss and best figures of each",
        "A run that says it is running, and is not, is lost: repeat the command to resume from its last checkpoint.",
        (("avssl runs", "those in runs"), ("avssl runs folder=sweeps/seeds", "those of another folder")),
    ),
    "summary": Command(
        configs.SummaryConfig,
        "avssl.runs.summary:run",
        "several runs side by side: min, median and max NMI",
        "Reads what `avssl clusters` wrote into each run folder. The NMI is of the joint labels of the head chosen "
        "without classes, on the reported split.",
        (("avssl summary runs=[runs/sample_selavi_seed0,runs/sample_selavi_seed1]", "two seeds"),),
    ),
}


AVSSL = Program(
    "avssl",
    "clusters and representations from unlabelled video with its sound",
    COMMANDS,
    hints=(
        "From a folder of videos to clusters you can open:\n",
        "  avssl index data.root=my_videos",
        "  avssl train data.root=my_videos experiment=small",
        "  avssl clusters run=runs/my_videos_selavi_seed0",
        "\nNo videos at hand? avssl sample out=sample makes some.",
    ),
    moved={
        "bench": "python -m benchmarks",
        "reproduce": "python -m experiments reproduce",
        "hypotheses": "python -m experiments hypotheses",
    },
)
