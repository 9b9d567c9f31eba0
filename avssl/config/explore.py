"""The options of `avssl clusters` and of `avssl label`."""

from dataclasses import dataclass
from typing import ClassVar

from .launch import PartsConfig, parts_section
from .model import trusted
from .option import DAY, MISSING, device_option, json_option, option, threads_option, workers_option

PAGE = "clusters/explorer/index.html"
"""The page of clusters in a run folder, unless `avssl clusters` was given another `out`."""


@dataclass
class ClustersConfig:
    """avssl clusters"""

    run: str = option(MISSING, "run folder that `avssl train` wrote", path="run")
    split: str = option("", "split to assign to clusters; empty: every split of the index")
    out: str = option("${run}/clusters", "folder for the clusters and their page", path="new folder")
    details: bool = option(False, "print the figures of every head, not only of the chosen one")
    json: bool = json_option()
    floors: bool = option(False, "also cluster raw pixels and raw spectrograms with k-means, as a baseline")
    previews: int = option(
        6,
        "playable videos per cluster on the page: this many with the highest confidence, as many with the lowest, and "
        "as many at random",
        "videos",
        minimum=0,
        maximum=1000,
    )
    names: str = option(
        "",
        "names.json, downloaded from the page: apply its names, merges and rejections, and write the labelled data set",
        path="file",
    )
    labelled: str = option("${out}/labelled", "folder for the labelled data set; used with names=…", path="new folder")
    links: str = option(
        "symbolic",
        "contents of videos/{split}/{name}/ in the labelled data set: symbolic links, hard links, copies, or nothing",
        choices="symbolic hard copy none",
    )
    min_confidence: float = option(
        0.0, "leave videos below this confidence out of the labelled data set", minimum=0, maximum=1
    )
    only_named: bool = option(False, "leave the videos of unnamed clusters out of the labelled data set")
    trust: list[str] = trusted()
    device: str = device_option()
    workers: int = workers_option()
    threads: int = threads_option()
    launch: PartsConfig = parts_section()


@dataclass
class OpenConfig:
    """avssl open"""

    run_file: ClassVar[str] = PAGE
    """The newest run that has this file is opened."""

    run: str = option(MISSING, "run folder that `avssl train` wrote", path="run")


@dataclass
class LabelConfig:
    """avssl label"""

    one_of: ClassVar[tuple[str, ...]] = ("run", "checkpoint")
    """Options of which a user gives exactly one; on the command line, the newest run if none is given."""

    videos: str = option(
        MISSING,
        "what to label: a folder of videos, one file, or - to read paths from standard input, one per line",
        path="either",
    )
    run: str = option("", "run folder that `avssl train` wrote", path="run")
    checkpoint: str = option(
        "", "instead of run: one checkpoint of a run, or published weights (their file or their name)", path="either"
    )
    out: str = option(
        "",
        "name of the output files, without extension, or a folder for them; empty: label/<name of videos> in the "
        "run's folder, or in the working folder",
        path="new",
    )
    names: str = option(
        "", "names.json, downloaded from the page of clusters, for names in place of cluster numbers", path="file"
    )
    head: int | None = option(
        None,
        "head that assigns the labels; none: the head that `avssl clusters` chooses without classes",
        minimum=0,
        maximum=999,
    )
    reject: float = option(
        0.05,
        "fraction of the run's held-out videos that the threshold marks as none_of_these; 0: no threshold, "
        "so every video gets a cluster",
        minimum=0,
        maximum=0.99,
    )
    sound: str = option(
        "optional",
        "videos that are silent or have no audio. optional: label them from the frames alone, if the model can; "
        "required: give them no label",
        choices="optional required",
    )
    watch: bool = option(False, "keep labelling files as they arrive in the folder, until interrupted")
    settle_seconds: float = option(
        5.0, "a file counts as complete when it has not changed for this long", "s", minimum=0, maximum=DAY
    )
    watch_seconds: float = option(
        0.0, "stop watching when no file has arrived for this long; 0: never", "s", minimum=0, maximum=365 * DAY
    )
    trust: list[str] = trusted()
    device: str = device_option()
    workers: int = workers_option()
    threads: int = threads_option()
    launch: PartsConfig = parts_section()
