"""The tests marked `gpu` are skipped where there are too few GPUs; the videos of this folder."""

import pytest

from tests.gpu import bodies


def pytest_runtest_setup(item: pytest.Item) -> None:
    """`gpu` asks for one GPU, `gpu(2)` for two."""
    mark = item.get_closest_marker("gpu")
    if mark is None:
        return
    needed, there = (mark.args or (1,))[0], bodies.visible_gpus()
    if there == 0:
        pytest.skip("needs a CUDA GPU, and torch finds none on this machine")
    if there < needed:
        pytest.skip(f"needs {needed} GPUs, and this machine has {there} (NCCL refuses two processes on one)")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return bodies.videos(tmp_path_factory)
