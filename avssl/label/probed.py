"""New videos as rows of an index, without an index."""

from collections.abc import Iterator, Sequence
from typing import Any

from ..clips.decode import ClipSpec
from ..config import DataConfig, ReadingConfig
from ..runs.open import Source
from ..videos.index import PROBE_MEMORY, verdicts
from ..videos.layout import ALL, File, Video
from ..videos.probe import ProbeRequest, probe
from ..videos.storage import Folder, Shards
from ..videos.workers import Lost, run_isolated


def reading_of(source: Source) -> DataConfig:
    """How the run's index read its videos, for new ones: they need no audio, and may be as short as its clips."""
    reading = ReadingConfig() if source.data is None else source.data.reading
    shortest = max(reading.min_seconds, 0.75 * ClipSpec.of(source.clip).seconds)
    return DataConfig(**{**vars(reading), "min_seconds": shortest}, require_sound=False)


def probed_rows(
    files: Sequence[File], storage: Folder | Shards, data: DataConfig, workers: int = 0
) -> Iterator[dict[str, Any]]:
    """The rows of files, in their order: of an index, or with a `reason` and a `detail` why a file cannot be used.

    Args:
        files: their paths are relative to `storage`.
        storage: the folder of the files.
        data: how they are read.
        workers: processes that probe; 0: this process, which a crash of the decoder would end.
    """
    probed_of = dict(_probed(files, storage, data, workers))
    for file in files:  # in their order, and not as probes finish: the clips of a batch decide its last digits
        probed = probed_of[file]
        video = Video(file.path, ALL, None, file.size, file.mtime_ns)
        if probed.get("channels") and probed["duration"] >= data.min_seconds:  # as an index requires of audio
            span = {"video_start": probed["start"], "video_end": probed["start"] + probed["duration"]}
            probed = {**probed, **span}
        yield from verdicts(video, probed, data)


def _probed(
    files: Sequence[File], storage: Folder | Shards, data: DataConfig, workers: int
) -> Iterator[tuple[File, dict[str, Any]]]:
    whole, level = data.window_seconds is not None, data.silence_db
    requests = {ProbeRequest(storage.locate(file.path), whole, level): file for file in files}
    if workers == 0:
        yield from ((file, probe(request)) for request, file in requests.items())
        return
    workers = min(workers, 1 + len(files) // 16)
    for request, probed in run_isolated(probe, requests, workers, data.probe_timeout, PROBE_MEMORY):
        detail = f"longer than {data.probe_timeout:g} s"
        if isinstance(probed, Lost):
            probed = {"reason": probed.reason, "detail": detail if probed.reason == "timeout" else ""}
        yield requests[request], probed
