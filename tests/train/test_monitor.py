"""A NaN loss is found late, without waiting for the GPU, but before anything is saved."""

import math

import pytest
import torch

from avssl.core.host_copy import HostCopy
from avssl.train.monitor import LossMonitor
from tests.train.step_recorder import DEVICE, device_recorder


def test_a_loss_of_a_cpu_is_known_before_the_next_step():
    monitor = LossMonitor(["a.mp4", "b.mp4", "c.mp4"])
    monitor.watch(4, torch.tensor(1.0), torch.tensor([0]))
    assert not monitor.has_nonfinite(5)
    monitor.watch(5, torch.tensor(math.inf), torch.tensor([2, 1]))
    assert monitor.has_nonfinite(6)
    assert monitor.files() == [(5, math.inf, ["c.mp4", "b.mp4"])]


@pytest.mark.parametrize("saves", [False, True])
def test_a_loss_of_a_gpu_is_waited_for_after_another_step_or_before_saving(saves):
    with device_recorder() as recorder:
        monitor = LossMonitor(["a.mp4", "b.mp4"])
        found = []
        for step, loss in enumerate([math.nan, 1.0, 1.0]):
            recorder.now = step
            found.append(monitor.has_nonfinite(step))
            recorder.now = step + 0.3
            monitor.watch(step, torch.full((), loss, device=DEVICE), torch.tensor([step % 2]))
            if saves:
                found.append(monitor.has_nonfinite())
        assert found == [False, True] + 4 * [True] if saves else found == [False, False, True]
        assert recorder.total("read", "collective") == 0
        assert recorder.total("wait") == (3 if saves else 0)
    assert monitor.nonfinite[0][0] == 0
    assert monitor.files()[0][2] == ["a.mp4"]


def test_a_copy_to_the_host_is_no_read():
    with device_recorder() as recorder:
        copy = HostCopy(torch.arange(3, device=DEVICE))
        assert not copy.ready()
        recorder.now += 1
        assert copy.ready()
        assert copy.wait().tolist() == [0, 1, 2]
    assert recorder.total("read", "wait") == 0
