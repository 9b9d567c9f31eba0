"""Published figures of the methods, to stand beside ours: quoted, marked as published, never mixed with ours."""

from typing import Any

from omegaconf import OmegaConf

from ..assets import assets_root


def published_figures(data: str, task: str) -> dict[str, dict[str, Any]]:
    """Figures of a task on a data set, by method, as fractions; empty where none is known.

    From `data/published/figures.yaml`.
    """
    path = assets_root() / "data" / "published" / "figures.yaml"
    known = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(known, dict)
    return known.get(data, {}).get(task, {})
