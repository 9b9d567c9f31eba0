"""A part of `avssl label`: the labels of some of the files in a journal of its own, which the command itself reads."""

import os

from ..config import LabelConfig
from ..core.errors import UserError
from ..core.journal import Journal
from ..core.out_folder import folder_lock, write_errors
from ..core.part import Part
from ..core.progress import track
from ..core.screen import Console
from ..videos.journal_entries import is_labelled
from .arriving import in_folder
from .label import JOURNAL, Job, kept_folder, opened, part_folders, refuse_others, version_of


def run_part(config: LabelConfig, part: Part) -> None:
    """Label this part's files; those with current labels are not labelled again.

    A part has every n-th batch of 64 files of the folder, so that the labels are those of the command alone, and of
    the files that have come since, those that `Part.has`.

    Raises:
        UserError: as `avssl label`; or `videos` is no folder, or is watched.
    """
    if config.watch or not os.path.isdir(config.videos):
        how = "watch=true" if config.watch else f"videos={config.videos}"
        raise UserError(f"{how} cannot be done in parts: give a folder of videos, without watch")
    labeller, names, out = opened(config)
    kept, version = kept_folder(out), version_of(labeller)
    own = part_folders(kept, version) / f"{part.number}-of-{part.of}"
    with write_errors(out.parent):
        refuse_others(config, kept)
        own.mkdir(parents=True, exist_ok=True)
        (kept / JOURNAL).touch()
        with (
            folder_lock(own),
            Journal(own / JOURNAL, version, is_labelled) as journal,
            Journal(kept / JOURNAL, version, is_labelled, read_only=True) as before,
        ):
            files, storage = in_folder(config.videos, labeller.data)
            console = Console(highlight=False, soft_wrap=True)
            job = Job(config, labeller, names, out, journal, console, storage, before=before)
            batches = job.missing(files, part)
            for _ in track(job.label_batches(batches), "labelling", sum(map(len, batches))):
                pass
