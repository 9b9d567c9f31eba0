"""A trained model in Python: its encoders, labels for videos, and features of them."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from .clips.dataset import ClipDataset
from .clips.decode import ClipSpec
from .clips.transform import DeviceTransform
from .config import ClipConfig, EvaluateConfig, ReadingConfig
from .config.compose import nearest
from .core.device import autocast, choose_device
from .core.errors import UserError
from .evaluate.centre_clips import centre_clips
from .explore.names import Names, read_names
from .label.arriving import named, storage_of_list
from .label.new_videos import Labelled, VideoLabeller
from .models import MultiStream
from .runs.cards import card_files, weights_of
from .runs.open import Source, open_source
from .videos.index import SCHEMA
from .videos.layout import ALL
from .videos.probe import ProbeRequest, probe

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


class ClusterModel:
    """A trained or published model. Made by `avssl.load`.

    Files are read in this process: one that makes a decoder hang or crash takes it along, which `avssl label` survives.
    """

    def __init__(self, source: Source, device: torch.device):
        assert source.model is not None
        self.source, self.device = source, device
        self.model: MultiStream = source.model.to(device).eval()
        """Encoders and heads, in evaluation mode."""
        self.clip: ClipConfig = source.clip
        """The clips that the encoders take."""

    @property
    def encoders(self) -> dict[str, nn.Module]:
        """By modality: "video", float [B, 3, T, H, W] → [B, D]; "audio", spectrograms [B, 1, M, F] → [B, D]."""
        return dict(self.model.encoders.items())

    @property
    def video(self) -> nn.Module | None:
        """The video encoder; None where there is none."""
        return self.encoders.get("video")

    @property
    def audio(self) -> nn.Module | None:
        """The sound encoder; None where there is none."""
        return self.encoders.get("audio")

    def label(
        self,
        paths: Paths,
        names: str | os.PathLike[str] | None = None,
        head: int | None = None,
        reject: float = 0.05,
        sound: str = "optional",
    ) -> list[Labelled]:
        """Labels of files, in order: one for each, or one for each window of a run that was trained on windows.

        `names` is the explorer's names.json; the rest are options of `avssl label`. A file that cannot be used has
        label -1 and a `reason`. `none_of_these` needs the run's own videos, for its threshold, when it is first asked
        for; `reject=0` does without.

        Raises:
            UserError: the model has no cluster heads; names of other clusters; the run's index is not there; an option
                that is none.
        """
        if not 0 <= reject < 1:
            raise UserError(f"reject={reject} is a share of the run's own videos: give 0 or more, and less than 1")
        if sound not in ("optional", "required"):
            raise UserError(f"sound={sound} is neither optional nor required")
        labeller = VideoLabeller(self.source, self.device, 0, head, sound)
        known = read_names(Path(names)) if names is not None else Names()
        known.check(self.source.step, labeller.head, self.model.clusters)
        given = _given(paths)
        files = {path: named(path) for path in given}
        usable = list({file.path: file for file in files.values() if not isinstance(file, str)}.values())
        found = {file.path: labels for file, labels in labeller.label(usable, storage_of_list())}
        least = labeller.threshold(reject)
        rows = []
        for path in given:
            file = files[path]
            if isinstance(file, str):
                rows.append(Labelled(path, None, -1, None, None, None, "", None, "no file", file))
                continue
            rows += [Labelled.of(label, path, known, least) for label in found[file.path]]
        return rows

    def features(self, paths: Paths, per_second: bool = False) -> dict[str, np.ndarray] | dict[str, list[np.ndarray]]:
        """Features of files by modality, in order: float32 [N, D] of each file's centre clip. What cannot be read, or
        has no sound, is NaN.

        With `per_second`, a list of N arrays [seconds, D] instead: a row for each whole second of a file (one at
        least), of the clip that begins there; none ([0, D]) of a file that cannot be read.

        Raises:
            UserError: none of the files can be read.
        """
        given = _given(paths)
        rows, owners = self._rows(given, per_second)
        if not rows:
            raise UserError(f"none of {len(given)} files can be read, the first {given[0] if given else 'not given'}")
        found = {}
        for name, encoder in self.encoders.items():
            width = int(encoder.dim)  # type: ignore[arg-type]
            x = np.full((len(rows), width), np.nan, np.float32)
            there = [i for i, row in enumerate(rows) if name == "video" or row["audio_rate"]]
            if there:
                x[there] = self._encode([rows[i] for i in there], name, width)
            found[name] = x
        owner = np.array(owners)
        if per_second:
            return {name: [x[owner == i] for i in range(len(given))] for name, x in found.items()}
        places = {name: np.full((len(given), x.shape[1]), np.nan, np.float32) for name, x in found.items()}
        for name, x in found.items():
            places[name][owner] = x
        return places

    def _rows(self, given: Sequence[str], per_second: bool) -> tuple[list[dict], list[int]]:
        """Rows as an index has them, and the number of the file that each is of."""
        seconds = ClipSpec.of(self.clip).seconds
        rows, owners = [], []
        reading = ReadingConfig() if self.source.data is None else self.source.data.reading
        for i, path in enumerate(given):
            file = named(path)
            if isinstance(file, str):
                continue
            probed = probe(ProbeRequest("/" + file.path, False, reading.silence_db))
            if "reason" in probed or probed["duration"] < 0.75 * seconds:
                continue
            begin, length = probed["start"], probed["duration"]
            stretches = [(begin, length)]
            if per_second:
                last = max(0.0, length - seconds)
                stretches = [(begin + min(float(s), last), seconds) for s in range(max(1, int(length + 1e-6)))]
            for start, stretch in stretches:
                row = {"path": file.path, "split": ALL, "class": None, "size": file.size, "mtime_ns": file.mtime_ns}
                rows.append({**probed, **row, "window_start": start, "window_seconds": stretch})
                owners.append(i)
        return rows, owners

    @torch.no_grad()
    def _encode(self, rows: list[dict], name: str, width: int) -> np.ndarray:
        table = pa.Table.from_pylist([{k: row[k] for k in SCHEMA.names} for row in rows], SCHEMA)
        dataset = ClipDataset(table, "/", replace(self.clip), modalities=[name])
        transform = DeviceTransform(self.clip, self.device)
        x = np.full((len(rows), width), np.nan, np.float32)
        for batch in centre_clips(dataset, self.device, 0, "", []):
            with autocast(self.device, self.source.precision):
                encoded = self.model.encode(transform(batch, [name]))[name]
            x[batch.index.numpy()] = encoded.float().cpu().numpy()
        return x


def load(name_or_path: str | os.PathLike[str], device: str = "auto") -> ClusterModel:
    """The model of a run folder, of one checkpoint of a run, of a file of published weights, or of published weights by
    the name that `avssl models` lists.

    `device` is auto, cpu, cuda, cuda:N or mps.

    Raises:
        UserError: nothing is there, or it is something else; or the published weights were not fetched yet.
    """
    path = Path(name_or_path)
    if not path.exists():
        known = weights_of(str(name_or_path))
        if known is None:
            raise UserError(
                f"{path} does not exist{nearest(str(name_or_path), list(card_files()))} "
                f"(a run folder of `avssl train`, a checkpoint, a weights file, or a name that `avssl models` lists)"
            )
        path = known
    if (path / "config.yaml").is_file():
        source = open_source(EvaluateConfig(run=str(path)))
    elif path.is_dir() and not path.name.startswith("step_"):
        raise UserError(f"{path} is not a run folder (no config.yaml): give the folder that `avssl train` wrote")
    else:
        source = open_source(EvaluateConfig(checkpoint=str(path)))
    return ClusterModel(source, choose_device(device))


def _given(paths: Paths) -> list[str]:
    return [os.fspath(paths)] if isinstance(paths, str | os.PathLike) else [os.fspath(path) for path in paths]
