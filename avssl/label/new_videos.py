"""Label new videos: probe them, label them with a model's heads, and mark those that fit no cluster."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from ..clips.dataset import ClipDataset
from ..clips.decode import ClipSpec
from ..clips.stored_clips import StoredClips
from ..config import TrainedDataConfig
from ..core.atomic import write_json
from ..core.checkpoint_file import digest
from ..core.errors import UserError
from ..core.untrusted import field, is_number, read_json
from ..evaluate.head_measures import chosen_head
from ..evaluate.predictions import Predictions, predict
from ..explore.names import REJECTED, Names
from ..runs.open import Source
from ..runs.stored import refuse_table, stored_clips
from ..videos.index import SCHEMA, read_index, splits, tell_if_changed
from ..videos.index_options import fingerprint
from ..videos.layout import File
from ..videos.splits import reported_split
from ..videos.storage import Folder, Shards
from .probed import probed_rows, reading_of

CALIBRATION = "calibration.json"
CALIBRATED = 2000
"""Most videos that a threshold is computed from."""

BOTH, VIDEO = "both", "video"


@dataclass
class VideoLabel:
    """The label of a video, or of a window of one.

    A video that cannot be used has label -1, confidence None and a `reason`, as in `avssl index`. `label_video` and
    `label_audio` are the labels from one modality alone; None if the video or the model has no such label.
    """

    path: str
    window_start: float | None  # s; None if no window could be read
    label: int
    confidence: float | None  # probability of the label
    label_video: int | None
    label_audio: int | None
    labelled_by: str  # both, video or audio; empty without a label
    score: float | None  # see `agreement_score`
    reason: str = ""
    detail: str = ""

    @property
    def agreement(self) -> bool | None:
        """Whether video alone and audio alone give the same label. None if one of them gives none."""
        if self.label_video is None or self.label_audio is None:
            return None
        return self.label_video == self.label_audio

    def below(self, threshold: float | None) -> bool | None:
        """Whether the video fits no cluster. None without a threshold, or if only one modality gave the label."""
        return None if threshold is None or self.labelled_by != BOTH else (self.score or 0.0) < threshold


@dataclass
class Labelled(VideoLabel):
    """A `VideoLabel` with its cluster's name, and whether the video fits no cluster (see `VideoLabel.below`)."""

    name: str | None = None
    none_of_these: bool | None = None

    @classmethod
    def of(cls, label: VideoLabel, path: str, names: Names, threshold: float | None) -> "Labelled":
        """The label after merging, naming and rejecting clusters according to `names`."""
        labelled = cls(**{**vars(label), "path": path})
        if label.label >= 0:
            labelled.label, labelled.name = names.target(label.label), names.title(label.label)
            labelled.none_of_these = label.below(threshold)
            labelled.reason = REJECTED if names.rejected(label.label) else label.reason
        return labelled


class VideoLabeller:
    """Labels new videos with one head of a model.

    Args:
        source: the model, of a run or of published weights.
        device: the device of the encoders.
        workers: processes that probe and decode; 0: this process, which a crash of the decoder would end.
        head: the head that labels; None: the head chosen without classes (for published weights, the first).
        sound: "optional" labels a video without audio, or a silent one, from its frames alone, if the model has an
            encoder and a head for that; "required" leaves it without a label.

    Raises:
        UserError: the model has no cluster heads, or no such head.
    """

    def __init__(
        self, source: Source, device: torch.device, workers: int = 0, head: int | None = None, sound: str = "optional"
    ):
        model = source.model
        heads = 0 if model is None else model.cluster_head_count
        if model is None or not heads:
            raise UserError(
                f"{source.name} has no clusters to label with, because it was trained with contrast only: measure its "
                f"features with `avssl evaluate`"
            )
        refuse_table(source, "label videos")
        if head is not None and not 0 <= head < heads:
            raise UserError(f"head={head} does not exist: there are {heads}, counted from 0")
        self.source, self.model, self.device, self.workers = source, model.to(device).eval(), device, workers
        self.head = (chosen_head(source, device, workers).head or 0) if head is None else head
        self.modalities = list(model.encoders)
        self.data = reading_of(source)
        self.needs_sound = "video" not in self.modalities or (
            len(self.modalities) > 1 and (sound == "required" or model.sharing == "concat")
        )
        self.digest = digest(model)

    def _weighted_digest(self) -> str:
        """A digest of the model and of the weights of its modalities."""
        weights = self.model.modality_weights
        return self.digest if weights is None else f"{self.digest} {[[*w.tolist()] for w in weights.values()]}"

    def key(self) -> str:
        """A digest of everything that a label depends on, except the video."""
        settings = [2, self._weighted_digest(), self.head, self.source.clip.identity(), self.source.precision]
        settings += [self.data.window_seconds, self.data.min_seconds, self.data.silence_db, self.needs_sound]
        return hashlib.sha256(json.dumps(settings).encode()).hexdigest()

    def label(self, files: Sequence[File], storage: Folder | Shards) -> Iterator[tuple[File, list[VideoLabel]]]:
        """Yield the files in order, each with its label, or with a label per window. Paths are relative to
        `storage`."""
        rows: list[dict[str, Any]] = []  # usable videos and windows, as rows of an index
        labels_of: dict[str, list[VideoLabel]] = {file.path: [] for file in files}
        for row in map(self._refused, probed_rows(files, storage, self.data, self.workers)):
            if "reason" in row:
                labels_of[row["path"]].append(_without(row["path"], row["window_start"], row["reason"], row["detail"]))
            else:
                rows.append(row)
        for modalities in ([VIDEO, "audio"], [VIDEO]):
            selected = [row for row in rows if self._usable(row) == modalities]
            if selected:
                for row, label in zip(selected, self._labelled(selected, storage.root, modalities), strict=True):
                    labels_of[row["path"]].append(label)
        for file in files:
            yield file, sorted(labels_of[file.path], key=lambda label: label.window_start or 0.0)

    def threshold(self, reject: float) -> float | None:
        """The score that a fraction `reject` of the run's held-out videos stays below.

        Videos with a lower score are marked as fitting no cluster. The held-out videos are the split that
        `reported_split` chooses. The threshold is None if `reject` is 0, for published weights, which have no videos,
        and for models that cannot label from each of two modalities.

        Raises:
            UserError: the scores are not yet computed, and the index or all of its videos are missing.
        """
        if reject == 0 or self.source.data is None or len(self.modalities) < 2 or self.model.sharing == "concat":
            return None
        return float(np.quantile(self._calibration(self.source.data), reject))

    def _calibration(self, data: TrainedDataConfig) -> np.ndarray:
        """Scores of the run's held-out videos, float [n]; computed once, and kept in the run's folder."""
        path = Path(self.source.name) / "label" / CALIBRATION
        names = splits(data.index, missing_ok=True)
        rows = self._held_out(data, names) if names else None
        key: list[Any] = [self._weighted_digest(), data.index, None if rows is None else fingerprint(rows)]
        with suppress(OSError, UserError):  # a damaged file is computed again
            kept = read_json(path)
            scores = field(kept, "scores", lambda x: isinstance(x, list) and x != [] and all(map(is_number, x)), path)
            before = kept.get("key")
            if before == key or (rows is None and isinstance(before, list) and before[:2] == key[:2]):
                return np.asarray(scores, float)
        if rows is None:
            raise UserError(
                f"the index {data.index}, on which {self.source.name} was trained, is missing, but the threshold of "
                f"none_of_these is computed from it: run the command in the folder where the run was trained, or "
                f"label without a threshold (reject=0)"
            ) from None
        if rows.num_rows > CALIBRATED:
            rows = rows.take(np.linspace(0, rows.num_rows - 1, CALIBRATED).astype(np.int64))
        scores = self._predict(rows, data.root, self.modalities, "calibrating", indexed=True).score
        scores = np.sort(scores[np.isfinite(scores)])
        if not len(scores):
            raise UserError(
                f"no video of {data.index} below {data.root} can be read, but the threshold of none_of_these is "
                f"computed from them: restore them, or label without a threshold (reject=0)"
            )
        with suppress(OSError, UserError):  # in a read-only run folder, the scores are computed each time
            write_json(path, {"key": key, "scores": scores.tolist()})
        return scores

    def _held_out(self, data: TrainedDataConfig, names: list[str]) -> pa.Table:
        """Rows of the split that `avssl clusters` reports on. A line is printed if the index has changed."""
        tell_if_changed(data, self.source.videos, self.source.name)
        return read_index(data.index, reported_split(names, data.test_split, data.train_split))

    def _usable(self, row: dict[str, Any]) -> list[str]:
        """The modalities that the row can be labelled from; irrelevant for a model with one modality."""
        if len(self.modalities) < 2:
            return [VIDEO, "audio"]
        return [VIDEO, "audio"] if self._is_audible(row) else [VIDEO]

    def _is_audible(self, row: dict[str, Any]) -> bool:
        """Whether the clip in the middle of the row, which gives the label, has audio that is not silent."""
        half = min(ClipSpec.of(self.source.clip).seconds, row["window_seconds"]) / 2
        middle = row["window_start"] + row["window_seconds"] / 2
        under = min(middle + half, row["audio_end"]) - max(middle - half, row["audio_start"])
        return row["audio_rate"] > 0 and under > half and row["loudness"] >= self.data.silence_db

    def _refused(self, row: dict[str, Any]) -> dict[str, Any]:
        if "reason" in row or not self.needs_sound or self._is_audible(row):
            return row
        if not row["audio_rate"]:
            return {**row, "reason": "no sound", "detail": ""}
        return {**row, "reason": "silent", "detail": f"never louder than {row['loudness']:g} dBFS"}

    def _predict(
        self, rows: pa.Table, root: str | Path, modalities: Sequence[str], text: str = "", indexed: bool = False
    ) -> Predictions:
        """Labels of rows; those of `indexed` videos may come from stored features."""
        source = self.source
        dataset: ClipDataset | StoredClips | None = stored_clips(source, rows, modalities) if indexed else None
        if dataset is None:
            dataset = ClipDataset(rows, root, source.clip, modalities=modalities)
        workers = min(self.workers, rows.num_rows)
        return predict(
            self.model, dataset, source.clip, self.device, source.precision, workers, modalities=modalities, text=text
        )

    def _labelled(self, rows: list[dict[str, Any]], root: Path, modalities: list[str]) -> Iterable[VideoLabel]:
        used = [name for name in self.modalities if name in modalities]
        table = pa.Table.from_pylist([{k: row[k] for k in SCHEMA.names} for row in rows], SCHEMA)
        predicted = self._predict(table, root, used)
        by = BOTH if len(used) > 1 else used[0]
        evidence = by if by in predicted.labels and len(self.modalities) > 1 else "joint"
        why = {failure.path: failure.reason for failure in predicted.failures}
        for i, row in enumerate(rows):
            labels = {name: int(x[i, self.head]) for name, x in predicted.labels.items()}
            if labels.get(evidence, -1) < 0:
                yield _without(row["path"], row["window_start"], "unreadable", why.get(row["path"], ""))
                continue
            yield VideoLabel(
                row["path"], row["window_start"], labels[evidence],
                float(predicted.confidence[evidence][i, self.head]), labels.get("video"), labels.get("audio"), by,
                float(predicted.score[i]),
            )  # fmt: skip


def _without(path: str, start: float | None, reason: str, detail: str) -> VideoLabel:
    return VideoLabel(path, start, -1, None, None, None, "", None, reason, detail.removeprefix("unreadable: "))
