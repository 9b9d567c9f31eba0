"""Published results of the methods. They are shown beside ours and marked as published."""

from typing import Any

from omegaconf import OmegaConf

from ..assets import assets_root


def published_figures(data: str, task: str) -> dict[str, dict[str, Any]]:
    """Published results of a task on a data set, by method, as fractions; empty if there are none.

    They come from `data/published/figures.yaml`.
    """
    path = assets_root() / "data" / "published" / "figures.yaml"
    figures = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(figures, dict)
    return figures.get(data, {}).get(task, {})
