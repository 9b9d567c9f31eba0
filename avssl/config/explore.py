"""The options of `avssl clusters` and of `avssl label`."""

from dataclasses import dataclass
from typing import ClassVar

from .model import trusted
from .option import DAY, DEVICE, MISSING, json_option, option


@dataclass
class ClustersConfig:
    """avssl clusters"""

    run: str = option(MISSING, "run folder of `avssl train`", path="run")
    split: str = option("", "split to label; empty: every split of the index")
    out: str = option("${run}/clusters", "folder to write", path="new folder")
    details: bool = option(False, "print the figures of every head, not only of the chosen one")
    json: bool = json_option()
    floors: bool = option(False, "also cluster raw pixels and raw spectrograms with k-means, for comparison")
    previews: int = option(
        6,
        "videos of each cluster that the page can play: this many of the most confident, as many of the least "
        "confident, and as many at random",
        "videos",
        minimum=0,
        maximum=1000,
    )
    names: str = option(
        "",
        "names.json as downloaded from the page: names, merges and rejects clusters, and writes the labelled data set",
        path="file",
    )
    labelled: str = option("${out}/labelled", "folder for the labelled data set that names=… makes", path="new folder")
    links: str = option(
        "symbolic",
        "contents of videos/{split}/{name}/ in the labelled data set: links to the videos, copies, or nothing",
        choices="symbolic hard copy none",
    )
    min_confidence: float = option(
        0.0, "leave videos with a lower confidence out of the labelled data set", minimum=0, maximum=1
    )
    only_named: bool = option(False, "leave videos of unnamed clusters out of the labelled data set")
    trust: list[str] = trusted()
    device: str = option("auto", "auto | cpu | cuda | cuda:N | mps", pattern=DEVICE)
    workers: int = option(2, "decoding processes; 0 decodes in this process", minimum=0, maximum=1024)
    threads: int = option(
        0, "threads that compute on a CPU; 0: the cores that decoding leaves free", minimum=0, maximum=1024
    )


@dataclass
class OpenConfig:
    """avssl open"""

    run: str = option(MISSING, "run folder of `avssl train`", path="run")


@dataclass
class LabelConfig:
    """avssl label"""

    one_of: ClassVar[tuple[str, ...]] = ("run", "checkpoint")
    """Options of which a user gives exactly one; on the command line, the newest run without any."""

    videos: str = option(
        MISSING, "folder of videos, one file, or - to read paths from standard input, one per line", path="either"
    )
    run: str = option("", "run folder of `avssl train`", path="run")
    checkpoint: str = option(
        "", "instead of run: one checkpoint of a run, or a file of published weights", path="either"
    )
    out: str = option(
        "",
        "files to write, without their extension, or a folder for them; empty: label/<name of videos> in the run's "
        "folder, or in the working folder",
        path="new",
    )
    names: str = option("", "names.json as downloaded from the explorer page", path="file")
    head: int | None = option(
        None, "the head that labels; none: the head chosen without classes", minimum=0, maximum=999
    )
    reject: float = option(
        0.05,
        "fraction of the run's held-out videos that are marked none_of_these, which sets the threshold; 0: no "
        "threshold",
        minimum=0,
        maximum=0.99,
    )
    sound: str = option(
        "optional",
        "for videos that are silent or have no audio. optional: label them from the frames alone, if the model can; "
        "required: leave them without a label",
        choices="optional required",
    )
    watch: bool = option(False, "keep labelling files that arrive in the folder, until interrupted")
    settle_seconds: float = option(
        5.0, "a file that changed less than this long ago is still being written", "s", minimum=0, maximum=DAY
    )
    watch_seconds: float = option(
        0.0, "stop watching when no file has arrived for this long; 0: never", "s", minimum=0, maximum=365 * DAY
    )
    trust: list[str] = trusted()
    device: str = option("auto", "auto | cpu | cuda | cuda:N | mps", pattern=DEVICE)
    workers: int = option(2, "decoding processes; 0 decodes in this process", minimum=0, maximum=1024)
    threads: int = option(
        0, "threads that compute on a CPU; 0: the cores that decoding leaves free", minimum=0, maximum=1024
    )
