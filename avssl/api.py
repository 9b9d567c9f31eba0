"""Trained models in Python: their encoders, and the labels and features of videos."""

import os
from collections.abc import Iterable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from .clips.dataset import ClipDataset
from .clips.decode import ClipSpec
from .clips.transform import DeviceTransform
from .config import ClipConfig, EvaluateConfig, FilesConfig, ReadingConfig
from .config.compose import nearest
from .config.model_card import card_files, weights_of
from .config.run_names import resolve_run
from .core.checkpoint_file import digest
from .core.device import autocast, choose_device, exact_float32
from .core.errors import UserError
from .core.plurals import many
from .core.printable import one_line
from .evaluate.centre_clips import centre_clips
from .explore.names import DIGEST, Names, read_names
from .label.arriving import in_folder, named, storage_of_list
from .label.label_rows import LabelRows
from .label.new_videos import Labelled, VideoLabeller
from .locate.files import FileLocator
from .locate.tables import boxes_table
from .models import MultiStream
from .runs.open import Source, open_source
from .runs.stored import refuse_table
from .videos.index import SCHEMA
from .videos.layout import ALL
from .videos.probe import ProbeRequest, probe

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


class ClusterModel:
    """A trained or published model, as `avssl.load` returns it.

    Files are decoded in this process, so a file that makes the decoder hang or crash affects it. `avssl label` decodes
    in separate processes.
    """

    def __init__(self, source: Source, device: torch.device):
        assert source.model is not None
        self.source, self.device = source, device
        self.model: MultiStream = source.model.to(device).eval()
        """Encoders and heads, in evaluation mode."""
        self.clip: ClipConfig = source.clip
        """The options of the clips that the encoders expect."""

    def __repr__(self) -> str:
        step = "" if self.source.step is None else f", step {self.source.step:,}"
        heads, model = self.model.cluster_head_count, self.model
        clusters = f"{model.clusters:,} clusters, {many(heads, 'head')}" if heads else "no clusters"
        lines = [f"{name}: {encoder!r}, embedding of {model.widths[name]}" for name, encoder in self.encoders.items()]
        return "\n  ".join(
            [f"ClusterModel({one_line(self.source.name)}{step})", *lines, f"{clusters}; on {self.device}"]
        )

    @property
    def encoders(self) -> dict[str, nn.Module]:
        """The encoders by modality: "video", float [B, 3, T, H, W] → [B, D]; "audio", spectrograms [B, 1, M, F] → [B,
        D]."""
        return dict(self.model.encoders.items())

    @property
    def video(self) -> nn.Module | None:
        """The video encoder; None if the model has none."""
        return self.encoders.get("video")

    @property
    def audio(self) -> nn.Module | None:
        """The audio encoder; None if the model has none."""
        return self.encoders.get("audio")

    def label(
        self,
        paths: Paths,
        names: str | os.PathLike[str] | None = None,
        head: int | None = None,
        reject: float = 0.05,
        sound: str = "optional",
    ) -> LabelRows:
        """Label video files.

        Args:
            paths: a path, several, or a folder of videos.
            names: names.json from the page of clusters, for names in place of cluster numbers.
            head, reject, sound: the options of `avssl label`. The threshold that `reject` sets is computed once from
                the run's held-out videos, which must exist; `reject=0` needs no videos.

        Returns:
            Labels in the order of the paths: one for each file, or one for each window if the run was trained on
            windows. A file that cannot be used has label -1 and a `reason`. The list prints as a table.

        Raises:
            UserError: the model has no cluster heads, the names belong to other clusters, the run's index is missing,
                or an argument is out of range.
        """
        if not 0 <= reject < 1:
            raise UserError(
                f"reject={reject} must be a fraction of the run's held-out videos: give 0 or more, and less than 1"
            )
        if sound not in ("optional", "required"):
            raise UserError(f"sound={sound} is not one of optional, required")
        labeller = VideoLabeller(self.source, self.device, 0, head, sound)
        cluster_names = read_names(Path(names)) if names is not None else Names()
        cluster_names.check(self.source.step, labeller.head, self.model.clusters, labeller.digest[:DIGEST])
        given = _given(paths)
        files = {path: named(path) for path in given}
        usable = list({file.path: file for file in files.values() if not isinstance(file, str)}.values())
        labels_of = {file.path: labels for file, labels in labeller.label(usable, storage_of_list())}
        threshold = labeller.threshold(reject)
        rows = []
        for path in given:
            file = files[path]
            if isinstance(file, str):
                rows.append(Labelled(path, None, -1, None, None, None, "", None, "no file", file))
                continue
            rows += [Labelled.of(label, path, cluster_names, threshold) for label in labels_of[file.path]]
        return LabelRows(rows)

    def features(self, paths: Paths, per_second: bool = False) -> dict[str, np.ndarray] | dict[str, list[np.ndarray]]:
        """Features of video files, in the order of the paths.

        Args:
            paths: a path, several, or a folder of videos: N files in all.
            per_second: False: one clip in the middle of each file; True: one clip at each whole second.

        Returns:
            Per modality, float32 [N, D]; a row is NaN if the file cannot be read or lacks the modality. With
            `per_second`, a list of N arrays [seconds, D] with at least one row each, or [0, D] for an unreadable file.

        Raises:
            UserError: none of the files can be read.
        """
        given = _given(paths)
        rows, owners = self._rows(given, per_second)
        if not rows:
            raise UserError(
                f"none of the {len(given)} files can be read; the first is {given[0] if given else 'not given'}"
            )
        features = {}
        for name in self.encoders:
            width = self.model.widths[name]
            x = np.full((len(rows), width), np.nan, np.float32)
            having = [i for i, row in enumerate(rows) if name == "video" or row["audio_rate"]]
            if having:
                x[having] = self._encode([rows[i] for i in having], name, width)
            features[name] = x
        owner = np.array(owners)
        if per_second:
            return {name: [x[owner == i] for i in range(len(given))] for name, x in features.items()}
        by_file = {name: np.full((len(given), x.shape[1]), np.nan, np.float32) for name, x in features.items()}
        for name, x in features.items():
            by_file[name][owner] = x
        return by_file

    def locate(
        self,
        paths: Paths,
        names: str | os.PathLike[str] | None = None,
        clips: int = 1,
        beta: float = 0.3,
        cache: str | os.PathLike[str] | None = None,
    ) -> pa.Table:
        """Locate the sounds of video files: the boxes that `avssl locate` writes for new videos.

        Args:
            paths: a path, several, or a folder of videos.
            names: names.json from the page of clusters, for names in place of cluster numbers.
            clips, beta: the options of `avssl locate`.
            cache: a folder that keeps the heat maps of an interrupted call, which the same call then resumes; None: no
                call is resumed.

        Returns:
            A row for each box: `path`; `window_start` and `time`, s; `clip`; `x0`, `y0`, `x1` and `y1`, fractions of
            the picture; `score`, the largest cosine; `cluster` (-1 without clusters), its `confidence` and `name`;
            `track`. Files that cannot be used, and those in which nothing is heard, have no row.

        Raises:
            UserError: the model cannot locate sounds, none of the files can be used or has audio, or an argument is out
                of range.
        """
        if not (1 <= clips <= 1000 and 0 <= beta < 1):
            raise UserError(f"clips={clips} must be from 1 to 1000, and beta={beta} from 0 to less than 1")
        titles = read_names(Path(names)) if names is not None else Names()
        refuse_table(self.source, "locate sounds")
        given = _given(paths)
        files = {path: named(path) for path in given}
        usable = list({file.path: file for file in files.values() if not isinstance(file, str)}.values())
        shown = {file.path: path for path, file in reversed(files.items()) if not isinstance(file, str)}
        locator = FileLocator(self.source, self.device)
        if locator.head is not None:
            titles.check(self.source.step, locator.head, self.model.clusters, digest(self.model)[:DIGEST])
        with TemporaryDirectory() if cache is None else nullcontext(str(cache)) as folder:
            located = locator.locate(usable, storage_of_list(), Path(folder), clips, beta)
        found = boxes_table(located, [titles.title(k) for k in range(self.model.clusters)])
        at = found.schema.get_field_index("path")
        return found.set_column(at, "path", pa.array([shown[path] for path in found["path"].to_pylist()], pa.string()))

    def _rows(self, given: Sequence[str], per_second: bool) -> tuple[list[dict], list[int]]:
        """Rows like those of an index, and for each row the position of its file in `given`."""
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
            windows = [(begin, length)]
            if per_second:
                last = max(0.0, length - seconds)
                windows = [(begin + min(float(s), last), seconds) for s in range(max(1, int(length + 1e-6)))]
            for start, window_length in windows:
                row = {"path": file.path, "split": ALL, "class": None, "size": file.size, "mtime_ns": file.mtime_ns}
                rows.append({**probed, **row, "window_start": start, "window_seconds": window_length})
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


def load(name_or_path: str | os.PathLike[str], device: str = "auto", trust: Sequence[str] = ()) -> ClusterModel:
    """Load a trained or published model.

    Args:
        name_or_path: a run folder, the name of a run or of its videos (their newest finished run), one checkpoint of
            a run, a file of published weights, or the name of published weights as `avssl models` lists it.
        device: auto, cpu, cuda, cuda:N or mps.
        trust: your own encoders, "package.module:callable", that the run uses and that may be imported.

    Raises:
        UserError: there is no such file, folder or name, it is not a model, it needs code that `trust` does not name,
            or the published weights have not been fetched.
    """
    path = _path_of(str(name_or_path))
    if (path / "config.yaml").is_file():
        source = open_source(EvaluateConfig(run=str(path), trust=[*trust]))
    elif path.is_dir() and not path.name.startswith("step_"):
        raise UserError(f"{path} is not a run folder (no config.yaml): give the folder that `avssl train` wrote")
    else:
        source = open_source(EvaluateConfig(checkpoint=str(path), trust=[*trust]))
    place = choose_device(device)
    if place.type == "cuda":  # the same labels as the commands'; the current GPU stays the caller's choice
        exact_float32()
    return ClusterModel(source, place)


def _path_of(word: str) -> Path:
    """The run folder, checkpoint or weights file that a word means."""
    path = Path(word)
    if path.is_file() or (path / "config.yaml").is_file() or path.name.startswith("step_"):
        return path
    with suppress(UserError):
        return resolve_run(word)
    weights = weights_of(word)
    if weights is None and not path.exists():
        raise UserError(
            f"{path} does not exist{nearest(word, list(card_files()))}: give a run folder, the name of its videos, a "
            f"checkpoint, a weights file, or a name that `avssl models` lists"
        )
    return weights or path


def _given(paths: Paths) -> list[str]:
    """The paths of files; those in a folder, if one folder is given."""
    if not isinstance(paths, str | os.PathLike):
        return [os.fspath(path) for path in paths]
    path = os.fspath(paths)
    if not os.path.isdir(path):
        return [path]
    files, _ = in_folder(path, FilesConfig())
    return [os.path.join(path, file.path) for file in files]
