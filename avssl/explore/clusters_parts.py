"""A part of `avssl clusters`: the labels of some of the videos, which the command itself then finds."""

from dataclasses import replace
from pathlib import Path

from ..config import ClustersConfig, EvaluateConfig
from ..config.run_folder import read_config
from ..core.device import prepare_device, share_cores
from ..core.part import Part
from ..runs.open import open_source
from .clusters import check_clustered, labelled_splits, labelling_pass


def run_part(config: ClustersConfig, part: Part) -> None:
    """Label this part's videos, 256 per file; existing files are not computed again.

    The previews and the descriptions of audio are left to the command: they are a few per cluster, however many videos
    there are.

    Raises:
        UserError: the run has no clusters, or the index is missing.
    """
    trained = read_config(Path(config.run))
    check_clustered(config, trained)
    source = open_source(EvaluateConfig(run=config.run, trust=config.trust))
    device = prepare_device(config.device, fixed_shapes=True)
    config = replace(config, workers=share_cores(device, config.workers, config.threads))
    for split in labelled_splits(config, trained):
        labelling_pass(source, trained, config, split, device).write(part)
