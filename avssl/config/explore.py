"""The clusters of a run, and the labels of new videos."""

from dataclasses import dataclass

from omegaconf import MISSING

from .option import DAY, DEVICE, option


@dataclass
class ClustersConfig:
    """avssl clusters"""

    run: str = option(MISSING, "run folder of `avssl train`", path="run")
    split: str = option("", "split to label; empty is every split of the index")
    out: str = option("${run}/clusters", "folder to write", path="new folder")
    floors: bool = option(False, "also cluster raw pixels and raw spectrograms with k-means, for comparison")
    previews: int = option(
        6,
        "videos of each cluster that the page shows with video and audio: so many of the most confident, of the "
        "least confident, and at random",
        "videos",
        minimum=0,
        maximum=1000,
    )
    names: str = option(
        "", "names.json that was downloaded from the page: name, merge and reject clusters, and export", path="file"
    )
    labelled: str = option("${out}/labelled", "folder for the labelled data set that names=… makes", path="new folder")
    links: str = option(
        "symbolic",
        "what the labelled data set's videos/{split}/{name}/ holds",
        choices="symbolic hard copy none",
    )
    min_confidence: float = option(
        0.0, "leave videos of a lower confidence out of the labelled data set", minimum=0, maximum=1
    )
    only_named: bool = option(False, "leave videos of unnamed clusters out of the labelled data set")
    device: str = option("auto", "auto | cpu | cuda | cuda:N | mps", pattern=DEVICE)
    workers: int = option(2, "decoding processes; 0 decodes in this process", minimum=0, maximum=1024)
    threads: int = option(
        0, "threads that compute on a CPU; 0 is the cores that decoding leaves", minimum=0, maximum=1024
    )


@dataclass
class LabelConfig:
    """avssl label"""

    videos: str = option(
        MISSING, "folder of videos, one file, or - for paths on standard input, one a line", path="either"
    )
    run: str = option("", "run folder of `avssl train`", path="run")
    checkpoint: str = option(
        "", "one checkpoint of a run, or a file of published weights, instead of run", path="either"
    )
    out: str = option(
        "",
        "files to write, without their ending, or a folder for them; empty is label/<name of videos> in the run's "
        "folder, or here",
        path="new",
    )
    names: str = option("", "names.json that was downloaded from the explorer", path="file")
    head: int | None = option(
        None, "the head that labels; none is the one chosen without classes", minimum=0, maximum=999
    )
    reject: float = option(
        0.05,
        "share of the run's own held-out videos that would be none of these: sets the threshold; 0 is no threshold",
        minimum=0,
        maximum=0.99,
    )
    sound: str = option(
        "optional",
        "videos without audio, or silent: optional labels them by the video alone, where the model can; required "
        "leaves them without a label",
        choices="optional required",
    )
    watch: bool = option(False, "go on with what comes into the folder, until interrupted")
    settle_seconds: float = option(
        5.0, "a file that was changed more lately than this is still being written", "s", minimum=0, maximum=DAY
    )
    watch_seconds: float = option(
        0.0, "stop watching when nothing has come for so long; 0 is never", "s", minimum=0, maximum=365 * DAY
    )
    device: str = option("auto", "auto | cpu | cuda | cuda:N | mps", pattern=DEVICE)
    workers: int = option(2, "decoding processes; 0 decodes in this process", minimum=0, maximum=1024)
    threads: int = option(
        0, "threads that compute on a CPU; 0 is the cores that decoding leaves", minimum=0, maximum=1024
    )
