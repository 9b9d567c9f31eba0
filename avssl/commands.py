"""The table of commands: their options, the functions that run them, and their help."""

from dataclasses import dataclass, field
from pathlib import Path

from . import config as configs


@dataclass(frozen=True)
class Command:
    """A sub-command. `run` is "module:function", imported only when called, so that `avssl --help` stays quick."""

    schema: type
    run: str
    summary: str
    about: str
    examples: tuple[tuple[str, str], ...]
    run_all: str = ""
    """The function for --multirun, in the form of `run`; it takes a list of configs. Empty: no --multirun."""
    compose: str = ""
    """A function in the form of `run` that composes the config if the words contain no preset, or experiment=auto. It
    takes the command, its schema, the words and a suffix of the run folder's name. It also returns lines to print."""
    check: str = ""
    """A check in the form of `run`, called before it, if `avssl.config.check_options` has none for the command."""
    positional: str = ""
    """The option that a word without `=`, such as my_videos, sets; empty: none."""
    otherwise: str = ""
    """The option that such a word sets instead of `run`, if it names no run."""
    common: tuple[str, ...] = ()
    """The options that the help of a command with many options shows; the others are in its sections."""
    light: bool = False
    """Whether its options need no Hydra. Such a command is not in the overview."""


@dataclass(frozen=True)
class Program:
    """Commands, and the word or words before each of them, `name`."""

    name: str
    about: str
    commands: dict[str, Command]
    configs: Path | None = None
    """The folder of the commands' primary configs; None is `configs/`."""
    hints: tuple[str, ...] = ()
    """Lines below the overview of commands."""
    moved: dict[str, str] = field(default_factory=dict)
    """Earlier commands, each with the command that replaces it."""
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The titles of the overview, each with its commands."""

    @property
    def short(self) -> str:
        """The last word of `name`, which error messages begin with."""
        return self.name.split()[-1]


COMMANDS: dict[str, Command] = {
    "sample": Command(
        configs.SampleConfig,
        "avssl.sample.videos:make_sample",
        "make small labelled videos to try it on",
        "Makes videos of handwritten digits that move over clutter. Each class has its own sound. The files are mp4 "
        "(H.264 and AAC), in folders {split}/{class}/{video}. The same seed makes the same videos. boxes.csv says "
        "where each digit is in each frame.",
        (
            ("avssl sample digits", "1,100 videos"),
            ("avssl sample rare longtail=1.0 seed=3", "long-tailed"),
            ("avssl sample pairs distractors=1", "two digits, of which one sounds"),
        ),
        positional="out",
    ),
    "index": Command(
        configs.IndexConfig,
        "avssl.videos.index_report:run",
        "find the usable videos of a folder",
        "Opens every file and decodes its first and last frames and its audio. Usable videos go into one Parquet file "
        "per split, the others into rejects.csv with the reason. Run it again after you add or replace files: it "
        "probes only files that changed.",
        (
            ("avssl index my_videos", "any folder"),
            ("avssl index talks data.window_seconds=2", "long videos, in windows of 2 s"),
            ("avssl index my_videos launch=slurm launch.parts=64", "on a cluster"),
            ("avssl index UCF-101 data=ucf101", "a published data set"),
        ),
        positional="data.root",
    ),
    "doctor": Command(
        configs.DoctorConfig,
        "avssl.videos.doctor_page:run",
        "report what to fix in a folder of videos",
        "Indexes new files, compares the contents of files of equal size, and reports for each split and class which "
        "videos are usable, rejected or unusual, and how to fix them. Writes doctor.html, and doctor.csv with every "
        "file that has a finding, beside the index. With data.index alone, it uses the index as it is.",
        (
            ("avssl doctor my_videos", "indexes new files first"),
            ("avssl doctor data.index=index/my_videos", "an index as it is"),
            ("avssl doctor my_videos duplicates=false", "without comparing contents"),
        ),
        positional="data.root",
    ),
    "prepare": Command(
        configs.PrepareConfig,
        "avssl.videos.prepare:run",
        "transcode videos to small, fast copies",
        "Writes mp4 files at the same relative paths: H.264 with a short side of 160 pixels and a key frame every 12 "
        "frames, and mono audio at 24 kHz. Clips start at the same times as in the originals. Repeat the command to "
        "resume it, or to transcode new and changed videos.",
        (
            ("avssl prepare my_videos out=small", "then: avssl index small"),
            ("avssl prepare my_videos out=small crf=18 short_side=256", "larger and better"),
        ),
        positional="data.root",
    ),
    "shard": Command(
        configs.ShardConfig,
        "avssl.videos.shards:run",
        "pack videos into a few large tar files",
        "Helps on file systems that are slow with many files. Give the folder of shards to `avssl index` and `avssl "
        "train`: they read the videos in place. WebDataset can read the shards too: each video is followed by a JSON "
        "file with its path, split and class.",
        (("avssl shard small out=shards", "then: avssl index shards"),),
        positional="data.root",
    ),
    "features": Command(
        configs.FeaturesConfig,
        "avssl.evaluate.features_command:run",
        "encode all videos once and keep the features",
        "Runs the encoders over every video of the index and writes the features to a folder. `avssl train "
        "data.features=…` then trains heads on them in minutes. Repeat the command to resume it. Several processes "
        "or jobs can share the work (launch.*). A video that cannot be decoded is recorded with the reason.",
        (
            ("avssl features my_videos model=tiny clip=tiny", "one clip of each video"),
            ("avssl features my_videos views=3 augmented=2", "three clips, two augmented"),
            ("avssl features run=runs/my_videos_gdt_seed0", "the encoders of a run"),
        ),
        positional="data.root",
        common=(
            "run",
            "model.video",
            "model.audio",
            "model.init",
            "modalities",
            "views",
            "every",
            "augmented",
            "clip.frames",
            "clip.fps",
            "clip.crop",
            "clip.audio_seconds",
            "data.index",
            "out",
            "seed",
            "device",
            "precision",
            "workers",
            "threads",
        ),
    ),
    "train": Command(
        configs.TrainConfig,
        "avssl.launch.command:run",
        "learn clusters from an indexed folder",
        "Trains encoders and cluster heads, and labels all videos by optimal transport at regular intervals. Without a "
        "preset, avssl chooses encoders, clips and clusters for your videos and your machine; the defaults below are "
        "those of the published recipe. To resume an interrupted run, repeat the command.",
        (
            ("avssl train my_videos", "chosen for your videos"),
            ("avssl train my_videos experiment=small", "small encoders from scratch"),
            ("avssl train my_videos launch.processes=4", "on four GPUs of this machine"),
            ("avssl train my_videos launch=slurm launch.nodes=2", "submitted to a cluster"),
            ("avssl train my_videos seed=0,1,2 --multirun", "three runs"),
        ),
        run_all="avssl.launch.command:run_all",
        compose="avssl.videos.auto:compose_auto",
        positional="data.root",
        common=(
            "task",
            "labelling.clusters",
            "labelling.passes",
            "model.video",
            "model.audio",
            "model.init",
            "model.freeze",
            "clip.frames",
            "clip.fps",
            "clip.crop",
            "data.features",
            "optim.epochs",
            "optim.batch",
            "optim.lr",
            "seed",
            "out",
            "device",
            "workers",
            "launch.processes",
            "wandb",
        ),
    ),
    "plan": Command(
        configs.PlanConfig,
        "avssl.plan.command:run",
        "estimate a run's time, memory and bottleneck",
        "Takes the options of `avssl train`. Measures a step, decoding, the solver and a checkpoint on this machine "
        "for about a minute, and computes the time, the memory and the bottleneck of the run. Every line says "
        "whether it was measured here, computed or assumed.",
        (
            ("avssl plan my_videos", "this machine"),
            ("avssl plan my_videos launch=slurm launch.nodes=8 launch.gpus=8", "64 GPUs"),
            ("avssl plan experiment=gdt_kinetics videos=1000000 launch.gpus=8", "no index needed"),
        ),
        check="avssl.train.check_options:check_plan",
        compose="avssl.videos.auto:compose_auto",
        positional="data.root",
        common=(
            "videos",
            "gpu_speed",
            "decode_ms",
            "network_gbit",
            "read_mb",
            "scaling",
            "out",
            "task",
            "model.video",
            "model.audio",
            "clip.frames",
            "clip.fps",
            "clip.crop",
            "optim.batch",
            "optim.epochs",
            "launch.nodes",
            "launch.gpus",
            "launch.cpus",
            "launch.processes",
            "workers",
        ),
    ),
    "clusters": Command(
        configs.ClustersConfig,
        "avssl.explore.clusters:run",
        "label all videos and write a page of clusters",
        "Writes assignments.parquet and .csv (label and confidence of every video), clustering.json (the printed "
        "table) and explorer/index.html: a page that shows the clusters with video and audio. On the page you "
        "name, merge and reject clusters. Download the names there, and give the file as names=….",
        (
            ("avssl clusters my_videos", "the newest run of my_videos"),
            ("avssl clusters runs/my_videos_both_seed0", "this run"),
            ("avssl clusters my_videos names=names.json", "a labelled data set of named clusters"),
        ),
        check="avssl.explore.check_options:check_clusters",
        positional="run",
    ),
    "open": Command(
        configs.OpenConfig,
        "avssl.explore.open_page:run",
        "show the page of clusters in the browser",
        "Opens the page that `avssl clusters` wrote, and prints its path. Without RUN it opens that of the newest "
        "run that has one.",
        (("avssl open", "the newest run"), ("avssl open my_videos", "the newest run on these videos")),
        positional="run",
    ),
    "watch": Command(
        configs.WatchConfig,
        "avssl.runs.watch:run",
        "show the curves of a run while it trains",
        "Shows the loss, the labels that changed, the rank of the features, and the speed, until the run ends. Ctrl-C "
        "ends only the watching, not the run. It also writes a page, watch.html in the run folder, which needs no "
        "server.",
        (("avssl watch", "the newest run"), ("avssl watch my_videos", "the newest run on these videos")),
        positional="run",
    ),
    "label": Command(
        configs.LabelConfig,
        "avssl.label.label:run",
        "label new videos with a trained run",
        "Labels a folder, a file or a list of videos, once or as they arrive. Writes for each video its label, name "
        "and confidence, the labels from video and audio alone, and whether it fits none of the run's clusters, as "
        "Parquet and CSV. Unchanged videos that were labelled before are skipped.",
        (
            ("avssl label new run=my_videos", "a folder, with the newest run of my_videos"),
            ("avssl label new run=my_videos names=names.json", "with the names from the page"),
            ("avssl label inbox watch=true", "videos as they arrive, with the newest run"),
            ("find new -name '*.mp4' | avssl label -", "a list"),
        ),
        check="avssl.label.check_options:check_label",
        positional="videos",
    ),
    "evaluate": Command(
        configs.EvaluateConfig,
        "avssl.evaluate.command:run",
        "measure encoders by the published protocols",
        "Compares clusters with the classes, and measures retrieval, few-shot classification, probes and finetuning. "
        "Extracts features once and keeps them. Classifiers and galleries use the training split; figures are of the "
        "test split. Writes evaluate.json, LaTeX tables and, with matplotlib, plots to evaluate/ in the run folder.",
        (
            ("avssl evaluate my_videos", "the newest run of my_videos"),
            ("avssl evaluate my_videos tasks=knn,linear columns=digit", "other labels"),
            ("avssl evaluate my_videos tasks=finetune finetune=small", "finetuning"),
            ("avssl evaluate gdt.pth data=ucf101 folds=1,2,3", "published weights"),
        ),
        positional="run",
        otherwise="checkpoint",
        common=(
            "tasks",
            "columns",
            "labels",
            "folds",
            "k",
            "shots",
            "seeds",
            "clips",
            "random",
            "checkpoint",
            "features",
            "data.root",
            "data.index",
            "data.train_split",
            "data.test_split",
            "out",
            "cache",
            "device",
            "workers",
            "threads",
        ),
    ),
    "locate": Command(
        configs.LocateConfig,
        "avssl.locate.locate:run",
        "show where in the frames each sound is",
        "Compares every position of the frames with the audio, draws a box around the part that sounds, and shows heat "
        "maps and boxes over the playing videos on the page of clusters. With true boxes, it measures how often the "
        "sound is found, beside the centre of the frame and the audio of another video. Repeat the command to resume "
        "it.",
        (
            ("avssl locate my_videos", "the newest run of my_videos"),
            ("avssl locate my_videos truth=boxes.csv", "measured against true boxes"),
            ("avssl locate new run=my_videos", "new videos"),
        ),
        check="avssl.locate.check_options:check_locate",
        positional="run",
    ),
    "detect": Command(
        configs.DetectConfig,
        "avssl.locate.detect:run",
        "train a detector from the boxes, and use it",
        "Trains a detector of objects on the boxes of `avssl locate` and the clusters of their videos. No label is "
        "used. The detector then finds the objects in pictures and in silent videos. Repeat the command to resume it.",
        (
            ("avssl detect my_videos", "train it"),
            ("avssl detect my_videos videos=holiday", "find objects in pictures or videos"),
        ),
        check="avssl.locate.check_detect:check_detect",
        positional="run",
    ),
    "export": Command(
        configs.ExportConfig,
        "avssl.runs.export:run",
        "write an encoder for other tools",
        "Writes ONNX, torch.export or safetensors, for any batch size. The file is kept only if its outputs equal the "
        "encoder's, up to `tolerance`. A description of its inputs is in the file and beside it.",
        (
            ("avssl export my_videos modality=video", "ONNX, in the run's folder"),
            ("avssl export selavi_vggsound modality=audio", "published weights"),
        ),
        positional="run",
        otherwise="checkpoint",
    ),
    "models": Command(
        configs.ModelsConfig,
        "avssl.runs.models:run",
        "list the published weights",
        "Lists the published models, and says which weights are on this machine. After you fetch or convert weights, "
        "use them by name: avssl.load('selavi_vggsound'), avssl evaluate selavi_vggsound.",
        (
            ("avssl models", "all of them"),
            ("avssl models show selavi_vggsound", "one of them"),
            ("avssl models fetch --help", "how to fetch one"),
        ),
    ),
    "models show": Command(
        configs.ModelsShowConfig,
        "avssl.runs.models:show",
        "describe a model: encoders, figures, licence",
        "Prints the card of a published model. The figures are those that its authors published.",
        (("avssl models show selavi_vggsound", "its card"),),
        positional="name",
    ),
    "models fetch": Command(
        configs.ModelsFetchConfig,
        "avssl.runs.models:fetch",
        "fetch, check and convert weights",
        "Shows the licence first. Repeat the command to resume an interrupted fetch. A file with another checksum is "
        "removed. The weights go to ~/.cache/avssl, or $AVSSL_CACHE.",
        (
            ("avssl models fetch selavi_vggsound", "shows the licence"),
            ("avssl models fetch selavi_vggsound accept_licence=true sha256=…", "fetches it"),
        ),
        positional="name",
    ),
    "models convert": Command(
        configs.ModelsConvertConfig,
        "avssl.runs.models:convert",
        "convert a file of weights, without a network",
        "Converts the file that the authors published. Checks that it is of that model, and keeps only its encoders "
        "and heads. A file that contains code is refused.",
        (
            (
                "avssl models convert selavi_vggsound file=selavi_vgg_sound_150.pth",
                "then: avssl.load('selavi_vggsound')",
            ),
        ),
        positional="name",
    ),
    "runs": Command(
        configs.RunsConfig,
        "avssl.runs.status:run",
        "show the progress of every run",
        "Prints the state, step, loss and best figures of each run in a folder, the newest first, and the parts of "
        "other commands that are done, failed, running or waiting. `lost` means that the process died without "
        "updating its status: repeat the command to resume.",
        (("avssl runs", "the folder runs"), ("avssl runs sweeps/seeds", "another folder")),
        positional="folder",
    ),
    "summary": Command(
        configs.SummaryConfig,
        "avssl.runs.summary:run",
        "compare runs: min, median and max NMI",
        "Reads the results of `avssl clusters` in each run folder. The NMI compares the classes with the joint labels "
        "of the head that was chosen without classes, on the reported split.",
        (
            ("avssl summary runs/*", "all runs in runs"),
            ("avssl summary runs/*_seed?", "the seeds of a run"),
            ("avssl summary runs/* of=evaluate", "the figures of avssl evaluate"),
        ),
        positional="runs",
    ),
    "completion": Command(
        configs.CompletionConfig,
        "avssl.completion:run",
        "print a script that completes with TAB",
        "Prints a script for your shell. With it, TAB completes commands, options, their choices, presets and paths.",
        (
            ('eval "$(avssl completion bash)"', "in ~/.bashrc"),
            ('eval "$(avssl completion zsh)"', "in ~/.zshrc, after compinit"),
            ("avssl completion fish > ~/.config/fish/completions/avssl.fish", "once"),
        ),
        positional="shell",
        light=True,
    ),
}


AVSSL = Program(
    "avssl",
    "learns clusters and representations from unlabelled video",
    COMMANDS,
    groups={
        "Start": ("sample", "index", "train", "clusters", "open"),
        "Data": ("doctor", "prepare", "shard", "features"),
        "Train": ("plan", "watch", "runs", "summary"),
        "Use": ("label", "locate", "detect", "export"),
        "Evaluate": ("evaluate",),
        "Share": ("models", "models show", "models fetch", "models convert"),
    },
    hints=(
        "From a folder of videos to clusters that you can open:\n",
        "  avssl index my_videos",
        "  avssl train my_videos",
        "  avssl clusters my_videos",
        "  avssl open",
        "\nNo videos at hand? avssl sample digits makes some.",
        '-q prints results only, -v more. TAB completes: eval "$(avssl completion bash)"',
    ),
    moved={
        "bench": "python -m benchmarks",
        "reproduce": "python -m experiments reproduce",
        "hypotheses": "python -m experiments hypotheses",
    },
)
