"""Batch norm with statistics over all processes."""

from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F
from torch.nn.modules._functions import SyncBatchNorm
from torch.nn.modules.batchnorm import _BatchNorm

from ..core.collectives import world_size


class _Sum(torch.autograd.Function):
    """The sum over processes. Its backward pass sums the gradients of all processes, which is the gradient of the sum
    of their losses."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        total = grads[0].contiguous().clone()
        dist.all_reduce(total)
        return total


class SyncNorm(_BatchNorm):
    """Batch norm of [B, C, …] with training statistics over the rows of all processes.

    It is for CPUs, where torch's SyncBatchNorm does not run. Processes may have different numbers of rows.
    """

    def _check_input_dim(self, input: torch.Tensor) -> None:
        pass

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )  # fmt: skip
        x = input.float()
        dims = [d for d in range(x.dim()) if d != 1]
        shape = [1, -1] + [1] * (x.dim() - 2)
        count = torch.tensor([x.numel() / x.shape[1]], dtype=torch.float64)
        dist.all_reduce(count)
        n = float(count)
        mean = _Sum.apply(x.sum(dims)) / n
        centred = x - mean.view(shape)
        var = _Sum.apply(centred.square().sum(dims)) / n
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            assert self.num_batches_tracked is not None
            self.num_batches_tracked += 1
            with torch.no_grad():
                weight = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), weight)
                self.running_var.lerp_((var * (n / max(1.0, n - 1))).to(self.running_var.dtype), weight)
        y = centred * (var + self.eps).rsqrt().view(shape)
        if self.weight is not None and self.bias is not None:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        return y.to(input.dtype)


class _JointNorm(SyncBatchNorm):
    """torch's synchronised batch norm, without its check for processes that have no rows.

    That check is a boolean mask, whose length the host must know: it would stop every step at each norm. All processes
    of a run have rows. The backward pass is torch's.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: Any, bias: Any, mean: Any, var: Any, eps: float, momentum: float, group: Any,
        processes: int,
    ) -> torch.Tensor:  # type: ignore[override]  # fmt: skip
        last = any(
            x.is_contiguous(memory_format=kind) for kind in (torch.channels_last, torch.channels_last_3d)
        )  # fmt: skip
        x = x if last else x.contiguous()
        own_mean, own_scale = torch.batch_norm_stats(x, eps)
        rows = torch.full((1,), x.numel() // x.shape[1], dtype=own_mean.dtype, device=x.device)
        mine = torch.cat([own_mean, own_scale, rows])
        everyone = mine.new_empty(processes, len(mine))
        if group._get_backend_name() == "gloo":  # which has no gather into one tensor
            dist.all_gather(list(everyone.unbind()), mine, group)
        else:
            dist.all_gather_into_tensor(everyone.view(-1), mine, group)
        means, scales, counts = everyone.split(x.shape[1], 1)
        counts = counts.flatten()
        joint, scale = torch.batch_norm_gather_stats_with_counts(
            x, means.contiguous(), scales.contiguous(), mean, var, momentum, eps,
            counts if mean is None else counts.to(mean.dtype),
        )  # fmt: skip
        ctx.save_for_backward(x, weight, joint, scale, counts.to(torch.int32))
        ctx.process_group = group
        return torch.batch_norm_elemt(x, weight, bias, joint, scale, eps)


class DeviceSyncNorm(nn.SyncBatchNorm):
    """torch's synchronised batch norm for GPUs, without its waiting for the GPU."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not self.training or world_size() == 1 or self.momentum is None:
            return super().forward(input)
        mean, var = (self.running_mean, self.running_var) if self.track_running_stats else (None, None)
        if self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        group = self.process_group or dist.group.WORLD
        return _JointNorm.apply(
            input, self.weight, self.bias, mean, var, self.eps, self.momentum, group, world_size()
        )  # fmt: skip


def _activate(norm: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
    return norm.act(norm.drop(output))  # type: ignore[operator]


def synchronise(model: nn.Module, device: torch.device) -> None:
    """Replace every batch norm in `model`, in place, by one over all processes, with the same parameters and
    buffers."""
    for parent in [*model.modules()]:
        for name, norm in [*parent.named_children()]:
            if isinstance(norm, _BatchNorm) and not isinstance(norm, SyncNorm | nn.SyncBatchNorm):
                kind = DeviceSyncNorm if device.type == "cuda" else SyncNorm
                new = kind(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
                new._parameters, new._buffers = norm._parameters, norm._buffers
                if hasattr(norm, "drop") and hasattr(norm, "act"):  # timm's includes an activation
                    new.drop, new.act = norm.drop, norm.act
                    new.register_forward_hook(_activate)
                setattr(parent, name, new.train(norm.training))
