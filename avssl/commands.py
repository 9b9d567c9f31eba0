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
    lines_out: bool = False
    """Is each line on standard output a result for other programs? Other messages go to standard error then."""
    run_all: str = ""
    """The function for --multirun, in the form of `run`; it takes a list of configs. Empty: no --multirun."""
    compose: str = ""
    """A function in the form of `run` that composes the config where experiment=auto is among the words. It takes the
    command, its schema, the words and a suffix of the run folder's name, and returns lines to print too."""
    check: str = ""
    """A check in the form of `run`, called before it, where `avssl.config.check_options` has none for the command."""


@dataclass(frozen=True)
class Program:
    """Commands, and the words before each of them, `name`."""

    name: str
    about: str
    commands: dict[str, Command]
    configs: Path | None = None
    """The folder of the commands' primary configs; None is `configs/`."""
    hints: tuple[str, ...] = ()
    """Lines below the overview of commands."""
    moved: dict[str, str] = field(default_factory=dict)
    """Earlier commands, each with the command that replaces it."""

    @property
    def short(self) -> str:
        """The last word of `name`, which error messages begin with."""
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
        "probe a folder of videos: which are usable, and why the others are not",
        "Opens every file and decodes its first and last frames and its audio. Usable videos go into one Parquet file "
        "per split, the others into rejects.parquet with the reason. Run it again after you add or replace files: it "
        "probes only files that changed.",
        (
            ("avssl index data.root=/data/my_videos", "any folder"),
            ("avssl index data.root=talks data.window_seconds=2", "long videos, cut into windows of 2 s"),
        ),
    ),
    "doctor": Command(
        configs.DoctorConfig,
        "avssl.videos.doctor_page:run",
        "examine a folder of videos: what to fix before training, and how",
        "Indexes new files, compares the contents of files of equal size, and reports for each split and class which "
        "videos are usable, rejected or unusual, and how to fix it. Writes doctor.html, and doctor.csv with every "
        "file that has a finding, beside the index. With data.index alone it uses the index as it is.",
        (
            ("avssl doctor data.root=my_videos", "indexes new files first"),
            ("avssl doctor data.index=index/my_videos duplicates=false", "an existing index; opens no video"),
        ),
    ),
    "prepare": Command(
        configs.PrepareConfig,
        "avssl.videos.prepare:run",
        "transcode videos to small, fast-to-decode copies before a long run",
        "Writes mp4 files at the same relative paths: H.264 with a short side of 160 pixels and a key frame every 12 "
        "frames, and mono audio at 24 kHz. Clips start at the same times as in the originals. Repeat the command to "
        "resume it, or to transcode new and changed videos.",
        (
            ("avssl prepare data.root=my_videos out=small", "then: avssl index data.root=small"),
            ("avssl prepare data.root=my_videos out=small crf=18 short_side=256", "larger and better"),
        ),
    ),
    "shard": Command(
        configs.ShardConfig,
        "avssl.videos.shards:run",
        "pack videos into a few large tar files, for network file systems",
        "The videos are read in place, by an index of their offsets: give the folder as data.root to `avssl index` and "
        "`avssl train`. WebDataset can read the shards too: they hold <key>.mp4 with <key>.json, split by split.",
        (("avssl shard data.root=small out=shards", "then: avssl index data.root=shards"),),
    ),
    "features": Command(
        configs.FeaturesConfig,
        "avssl.evaluate.features_command:run",
        "encode all videos once, and keep the features: heads are then trained on them in minutes",
        "Runs the encoders over every video of the index and writes what they give: a folder for "
        "`avssl train data.features=…`. Repeat the command to resume it; several processes share the work (torchrun, "
        "srun). A video that cannot be decoded is recorded with the reason.",
        (
            ("avssl features data.root=my_videos model=tiny clip=tiny", "one clip of each video"),
            ("avssl features data.root=my_videos views=3 augmented=2", "three clips, and two augmented ones"),
            ("avssl features run=runs/my_videos_gdt_seed0", "the encoders of a run, on its own videos"),
        ),
    ),
    "train": Command(
        configs.TrainConfig,
        "avssl.launch.command:run",
        "learn clusters from an indexed folder",
        "Trains the encoders and cluster heads, and labels all videos by optimal transport at regular intervals. To "
        "resume an interrupted run, repeat the command. With --multirun, options with several values make a run of "
        "every combination.",
        (
            ("avssl train experiment=sample data.root=sample", "the sample, in minutes on a laptop"),
            ("avssl train data.root=my_videos experiment=auto", "a folder of your own, once it is indexed"),
            ("avssl train data.root=my_videos experiment=small", "small encoders from scratch"),
            ("avssl train data.root=my_videos launch.processes=4", "on four GPUs of this machine"),
            (
                "avssl train data.root=my_videos launch=slurm launch.nodes=2 launch.dry=true",
                "print the batch script only",
            ),
            (
                "avssl train --multirun data.root=my_videos launch=slurm seed=0,1,2",
                "three runs, as an array of jobs",
            ),
        ),
        run_all="avssl.launch.command:run_all",
        compose="avssl.videos.auto:compose_auto",
    ),
    "plan": Command(
        configs.PlanConfig,
        "avssl.plan.command:run",
        "estimate the time, memory and bottleneck of a run before you start it",
        "Takes the options of `avssl train`. Measures a step, decoding, the solver and a checkpoint on this machine, "
        "for a minute or less, and computes from that the days, cores and memory of the run, and its bottleneck. "
        "Every line says whether it was measured here, computed or assumed.",
        (
            ("avssl plan data.root=my_videos launch=slurm launch.nodes=8 launch.gpus=8", "64 GPUs"),
            ("avssl plan experiment=gdt_kinetics videos=100000000 launch.nodes=64 launch.gpus=8", "no index needed"),
            ("avssl plan experiment=auto data.root=my_videos", "this machine"),
        ),
        check="avssl.train.check_options:check_plan",
        compose="avssl.videos.auto:compose_auto",
    ),
    "clusters": Command(
        configs.ClustersConfig,
        "avssl.explore.clusters:run",
        "label every video with a trained run; write labels, metrics and a browser page",
        "Writes assignments.parquet and .csv (label and confidence of every video), clustering.json (the printed "
        "table) and explorer/index.html: a page that shows the clusters with video and audio, and needs no server. On "
        "the page you name, merge and reject clusters; download the names, and pass the file as names=….",
        (
            ("avssl clusters run=runs/sample_selavi_seed0", "all splits of the run's own data"),
            ("avssl clusters run=runs/sample_selavi_seed0 split=test", "held-out videos only"),
            ("avssl clusters run=runs/sample_selavi_seed0 names=names.json", "a labelled data set of named clusters"),
        ),
    ),
    "open": Command(
        configs.OpenConfig,
        "avssl.explore.open_page:run",
        "open the page of a run's clusters in the browser",
        "Opens the page that `avssl clusters` wrote, and prints its path. Without a word it takes the newest run.",
        (("avssl open", "the newest run"), ("avssl open my_videos", "the newest run on these videos")),
    ),
    "watch": Command(
        configs.WatchConfig,
        "avssl.runs.watch:run",
        "show the curves of a run while it trains, in the terminal and as a page",
        "Shows the loss, the labels that changed, and the speed, until the run ends. Ctrl-C ends the watch, not the "
        "run. The page is watch.html in the run folder; it needs no server.",
        (("avssl watch", "the newest run"), ("avssl watch my_videos", "the newest run on these videos")),
    ),
    "label": Command(
        configs.LabelConfig,
        "avssl.label.label:run",
        "label new videos with a trained run: a folder, a file, or a list; once, or as they arrive",
        "Writes for each video its label, name and confidence, the labels from video and audio alone, and whether it "
        "fits none of the run's clusters, as Parquet and CSV. Unchanged videos that were labelled before are skipped.",
        (
            ("avssl label run=runs/my_videos_both_seed0 videos=new", "a folder"),
            ("avssl label run=runs/my_videos_both_seed0 videos=new names=names.json", "with names of the explorer"),
            ("avssl label run=runs/my_videos_both_seed0 videos=inbox watch=true", "videos as they arrive"),
            ("find new -name '*.mp4' | avssl label run=runs/my_videos_both_seed0 videos=-", "a list"),
        ),
        lines_out=True,
        check="avssl.label.check_options:check_label",
    ),
    "evaluate": Command(
        configs.EvaluateConfig,
        "avssl.evaluate.command:run",
        "evaluate encoders by the published protocols: clusters, retrieval, few-shot, probes, finetuning",
        "Extracts features once and keeps them. Classifiers and galleries use the training split; figures are of the "
        "test split. Writes evaluate.json, LaTeX tables and plots beside the run.",
        (
            ("avssl evaluate run=runs/sample_gdt_seed0", "all but robustness and finetuning, against the classes"),
            ("avssl evaluate checkpoint=gdt.pth data=ucf101 data.root=UCF-101 folds=[1,2,3]", "published weights"),
            ("avssl evaluate run=runs/sample_gdt_seed0 tasks=[knn] columns=[digit,direction]", "other labels"),
            ("avssl evaluate run=runs/sample_gdt_seed0 tasks=[finetune] finetune=small", "finetuning, with labels"),
        ),
    ),
    "export": Command(
        configs.ExportConfig,
        "avssl.runs.export:run",
        "write an encoder as a file for other tools: ONNX, torch.export, safetensors",
        "The file takes any batch size. Its outputs are compared with the encoder's before it is kept. A description "
        "of its inputs is written into it and beside it.",
        (
            ("avssl export run=runs/my_videos_both_seed0 modality=video", "ONNX, in the run's folder"),
            ("avssl export checkpoint=selavi_vggsound modality=audio format=safetensors", "published weights"),
        ),
    ),
    "models": Command(
        configs.ModelsConfig,
        "avssl.runs.models:run",
        "list the published weights of SeLaVi and GDT, and which of them are on this machine",
        "Lists the cards in models/. Use weights by name once they are fetched or converted: "
        "avssl.load('selavi_vggsound'), checkpoint=selavi_vggsound.",
        (("avssl models", "all of them"),),
    ),
    "models show": Command(
        configs.ModelsShowConfig,
        "avssl.runs.models:show",
        "describe one published model: encoders, clips, figures, licence, source",
        "The figures are those that its authors published.",
        (("avssl models show name=selavi_vggsound", "its card"),),
    ),
    "models fetch": Command(
        configs.ModelsFetchConfig,
        "avssl.runs.models:fetch",
        "fetch published weights, check and convert them",
        "Shows the licence first. Repeat the command to resume an interrupted fetch. A file with another checksum is "
        "removed.",
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
        "convert published weights from a file on this machine, without a network",
        "Checks that the file is of that model, and keeps only its encoders and heads. A file that contains code is "
        "refused.",
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
        "show the progress of every run in a folder: state, step, loss and best figures",
        "`lost` means that the process died without updating its status: repeat the command of the run to resume from "
        "its last checkpoint.",
        (("avssl runs", "the folder runs"), ("avssl runs folder=sweeps/seeds", "another folder")),
    ),
    "summary": Command(
        configs.SummaryConfig,
        "avssl.runs.summary:run",
        "compare several runs: min, median and max NMI",
        "Reads the results of `avssl clusters` in each run folder. The NMI compares classes with the joint labels "
        "of the head that was chosen without classes, on the reported split.",
        (("avssl summary runs=[runs/sample_selavi_seed0,runs/sample_selavi_seed1]", "two seeds"),),
    ),
}


AVSSL = Program(
    "avssl",
    "learns clusters and representations from unlabelled videos and their audio",
    COMMANDS,
    hints=(
        "From a folder of videos to clusters you can open:\n",
        "  avssl index data.root=my_videos",
        "  avssl train data.root=my_videos experiment=auto",
        "  avssl clusters run=runs/my_videos_both_seed0",
        "\nNo videos at hand? avssl sample out=sample makes some.",
    ),
    moved={
        "bench": "python -m benchmarks",
        "reproduce": "python -m experiments reproduce",
        "hypotheses": "python -m experiments hypotheses",
    },
)
