"""The norm of several GPUs is the norm of their joint batch, and waits for nothing."""

import pytest
import torch
import torch.distributed as dist
from torch import nn

from avssl.train.sync_norm import DeviceSyncNorm, synchronise
from tests.train.step_recorder import DEVICE, WAITING, device_recorder


@pytest.mark.parametrize("affine", [True, False])
def test_the_norm_of_two_gpus_is_that_of_both_batches(affine, monkeypatch):
    torch.manual_seed(0)
    x, target = torch.randn(4, 3, 2, 5, 5), torch.randn(4, 3, 2, 5, 5)
    plain = nn.BatchNorm3d(3, affine=affine)
    joint = nn.Sequential(nn.BatchNorm3d(3, affine=affine))
    whole = torch.cat([x, x]).requires_grad_()
    y = plain(whole)
    (y * torch.cat([target, target])).sum().backward()
    with device_recorder(processes=2) as recorder:
        monkeypatch.setattr(dist, "all_reduce", lambda total, *_, **__: total.mul_(2))  # the other one has as much
        synchronise(joint, DEVICE)
        assert isinstance(joint[0], DeviceSyncNorm)
        joint.to(DEVICE)
        mine = x.to(DEVICE).requires_grad_()
        recorder.counts.clear()
        found = joint(mine)
        (found * target.to(DEVICE, non_blocking=True)).sum().backward()
        assert recorder.total(*set(WAITING) - {"pageable"}) == 0, recorder.describe(*WAITING)
        torch.testing.assert_close(found.cpu(), y[:4])
        torch.testing.assert_close(mine.grad.cpu(), whole.grad[:4], rtol=1e-4, atol=1e-5)
        state = {name: value.cpu() for name, value in joint[0].state_dict().items()}
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(state[name], value)
