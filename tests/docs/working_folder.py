"""The folder that the commands of the docs run in: sample videos under the name `my_videos`, their run, its clusters.

It is made once. Each page starts from a copy of it at the same place, so that no page depends on another. What a
command of the preparation printed is kept: a page that shows the same command has this output without running it again.
"""

import contextlib
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from unittest import mock

from avssl.cli import main
from tests.docs.pages import ROOT

VIDEOS = "my_videos"

PREPARATION = (
    f"avssl index {VIDEOS}",
    f"avssl train {VIDEOS}",
    f"avssl clusters {VIDEOS}",
)
"""The commands whose files every page finds, and whose outputs it may show."""

EXTRA = {
    "sample": ["classes=4", "train=10", "test=5", "workers=1"],
    "index": ["workers=1"],
    "doctor": ["workers=1"],
    "prepare": ["workers=1"],
    "train": ["workers=0", "threads=1"],
    "clusters": ["workers=0"],
    "label": ["workers=0"],
    "evaluate": ["workers=0"],
    "features": ["workers=0"],
}
"""Options that make a command of a page shorter, or keep it to one core; one that the page gives itself stays."""

STEPS, CROP = 120, 64
"""Steps of a run, and the side of its frames (px)."""

PLAIN = set("|<>;&$*~`(){}\\")
"""A command with one of these characters is given to a shell."""


class Folder:
    """`place/work`, where commands run, and `place/ready`, the copy that each page starts from.

    Args:
        full: do the pages run as for a user, with all videos and all steps, in minutes? The figures of a page come from
            this; the test compares all but the figures. The preparation is short either way.
    """

    def __init__(self, place: Path, full: bool = False):
        self.work, self.ready, self.full = place / "work", place / "ready", full
        self.printed: dict[str, str] = {}
        self.fresh: set[str] = set()
        self.seconds: dict[str, float] = {}

    def prepare(self) -> None:
        """Make the videos, the index, the run, its clusters, names, new videos and one longer video."""
        self.work.mkdir(parents=True)
        full, self.full = self.full, False
        self._avssl(["sample", VIDEOS])
        for command in PREPARATION:
            began = time.monotonic()
            status, self.printed[command] = self._avssl(shlex.split(command)[1:])
            self.seconds[command] = time.monotonic() - began
            assert status == 0, f"{command}: {self.printed[command]}"
        self._names()
        self._new_videos()
        self.work.rename(self.ready)
        self.full = full

    def start(self) -> None:
        """Begin a page: the folder as it was prepared."""
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self.ready, self.work, symlinks=True)
        self.fresh = set(self.printed)

    def run(self, command: str) -> tuple[int, str]:
        """Run a command of a page; returns its exit status and what it prints, on both streams."""
        words = shlex.split(command, comments=True)
        said = " ".join(words)
        if said in self.fresh:
            self.fresh.discard(said)
            return 0, self.printed[said]
        if words[0] == "avssl" and not PLAIN & {*said}:
            return self._avssl(words[1:])
        return self._shell(command)

    def python(self, code: str, place: str) -> str:
        """Run Python code by itself; returns what it prints on standard output."""
        printed = io.StringIO()
        known = {*sys.modules}
        with self._inside(), contextlib.redirect_stdout(printed), mock.patch.object(sys, "path", ["", *sys.path]):
            try:
                exec(compile(code, place, "exec"), {"__name__": "__main__"})
            finally:
                for name in {*sys.modules} - known:  # a page's own files are not those of the next page
                    if str(self.work) in (getattr(sys.modules[name], "__file__", None) or ""):
                        del sys.modules[name]
        return self._relative(printed.getvalue())

    def _avssl(self, words: list[str]) -> tuple[int, str]:
        printed = io.StringIO()
        keys = {word.lstrip("-").partition("=")[0] for word in words}
        wanted = not self.full and not {"help", "--help", "-h", "--show-config"} & {*words}
        extra = [x for x in EXTRA.get(words[0], []) if x.partition("=")[0] not in keys] if wanted else []
        with self._inside(), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            try:
                status = main([*words, *extra])
            except SystemExit as ended:
                status = int(ended.code or 0)
        text = self._relative(printed.getvalue())
        if not self.full:  # a short run may be warned about where a whole one is not
            text = "\n".join(line for line in text.splitlines() if not line.startswith("warning: "))
        return status, text

    def _shell(self, command: str) -> tuple[int, str]:
        """Run a command by bash, where `avssl` and `python` are those of this checkout."""
        bin_folder = self.work.parent / "bin"
        bin_folder.mkdir(exist_ok=True)
        for name, words in (("avssl", "-m avssl"), ("python", "")):
            (bin_folder / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {words} "$@"\n')
            (bin_folder / name).chmod(0o755)
        paths = {"PATH": f"{bin_folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        with self._inside():
            done = subprocess.run(
                ["bash", "-c", command], env={**os.environ, **paths}, stdin=subprocess.DEVNULL, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
            )  # fmt: skip
        passing = ": at work …", "threads=1 is then often faster"
        lines = [line for line in done.stdout.splitlines() if not line.endswith(passing)]
        return done.returncode, self._relative("\n".join(lines))

    def _relative(self, text: str) -> str:
        """Paths below the working folder as that folder sees them; spaces at the ends of lines go."""
        text = text.replace(f"{self.work.resolve()}/", "").replace(f"{self.work}/", "")
        return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")

    @contextlib.contextmanager
    def _inside(self) -> Iterator[None]:
        """In the working folder, on one core, without a network, a browser, and lines that depend on the time."""
        environment = {
            "AVSSL_CACHE": str(self.work / ".cache"), "COLUMNS": "80", "HF_HUB_OFFLINE": "1", "BROWSER": "true",
        }  # fmt: skip
        before = os.getcwd()
        os.chdir(self.work)
        try:
            with contextlib.ExitStack() as stack:
                stack.enter_context(mock.patch.dict(os.environ, environment))
                stack.enter_context(mock.patch("avssl.cli.QUIET", 1e6))
                stack.enter_context(mock.patch("avssl.core.progress.SAY_EVERY", 1e6))
                stack.enter_context(mock.patch("webbrowser.open", return_value=True))
                if not self.full:
                    stack.enter_context(mock.patch("avssl.core.cores.available_cores", return_value=1))
                    stack.enter_context(_shorter_runs())
                yield
        finally:
            os.chdir(before)

    def _names(self) -> None:
        """names.json, as the page of clusters would save it: the class that most videos of a cluster have."""
        spec = spec_from_file_location("real_videos", ROOT / "examples" / "real_videos.py")
        example = module_from_spec(spec)
        spec.loader.exec_module(example)
        with self._inside():
            example.name_clusters(next(Path("runs").iterdir()), Path("names.json"))
        path = self.work / "names.json"
        named = json.loads(path.read_text())
        for entry in named["clusters"].values():
            if "name" in entry:
                entry["name"] = entry["name"].replace("_", " ")
        path.write_text(json.dumps(named, indent=2))

    def _new_videos(self) -> None:
        """new/ with three videos of the same kind, and talk.mp4, a longer one."""
        with self._inside(), contextlib.redirect_stdout(io.StringIO()):
            main(["sample", "out=more", "classes=3", "train=1", "test=0", "seed=7", "workers=1"])
            main(["sample", "out=long", "classes=2", "train=1", "test=0", "seed=8", "workers=1", "min_seconds=5",
                  "max_seconds=6"])  # fmt: skip
        (self.work / "new").mkdir()
        for name, video in zip(("a", "b", "holiday"), sorted((self.work / "more").rglob("*.mp4")), strict=True):
            video.rename(self.work / "new" / f"{name}.mp4")
        next((self.work / "long").rglob("*.mp4")).rename(self.work / "talk.mp4")
        for folder in ("more", "long"):
            shutil.rmtree(self.work / folder)


@contextlib.contextmanager
def _shorter_runs() -> Iterator[None]:
    """Every run takes `STEPS` steps at most, on small frames; nothing that it prints about its options changes."""
    from avssl.launch import command

    real = command.run_all

    def run_all(configs: list, *more: str) -> None:
        for config in configs:
            config.labelling.passes = min(config.labelling.passes, 4)
            if config.optim.clips:
                config.optim.clips = min(config.optim.clips, STEPS * config.optim.batch)
            if config.data.features == "auto":
                config.data.views, config.data.augmented = 1, min(config.data.augmented, 1)
                sides = dict.fromkeys(("crop", "short_side_min", "short_side_max", "short_side_eval"), CROP)
                config.clip = replace(config.clip, **sides)
        real(configs, *more)

    with mock.patch.object(command, "run_all", run_all):
        yield
