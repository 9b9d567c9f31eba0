"""LARS against its formula, clipping, and a training that a compiler and an optimiser of each kind go through."""

from functools import partial

import pytest
import torch
from torch import nn

from avssl.cli import main
from avssl.runs.checkpoints import load_run_state
from avssl.train.optimizers import Lars, clip_gradients

WORDS = ["experiment=selavi_small", "labelling.clusters=3", "labelling.heads=2", "labelling.passes=2", "optim.epochs=1",
         "labelling.warmup_batches=2", "optim.batch=18", "workers=0", "device=cpu", "log_steps=1"]  # fmt: skip


def test_lars_is_its_formula():
    torch.manual_seed(0)
    w, b = nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(4))
    ours = Lars([w, b], lr=0.5, momentum=0.9, weight_decay=0.1, trust=0.01)
    x, y = w.detach().clone(), b.detach().clone()
    vx, vy = torch.zeros_like(x), torch.zeros_like(y)
    for _ in range(5):
        gx, gy = torch.randn_like(x), torch.randn_like(y)
        w.grad, b.grad = gx.clone(), gy.clone()
        ours.step()
        rate = 0.5 * 0.01 * x.norm() / (gx.norm() + 0.1 * x.norm())
        vx = 0.9 * vx + rate * (gx + 0.1 * x)
        vy = 0.9 * vy + 0.5 * gy
        x, y = x - vx, y - vy
        torch.testing.assert_close(w.detach(), x)
        torch.testing.assert_close(b.detach(), y)


def test_lars_moves_weights_that_are_zero():
    w = nn.Parameter(torch.zeros(2, 2))
    ours = Lars([w], lr=0.1, momentum=0.0)
    w.grad = torch.ones(2, 2)
    ours.step()
    torch.testing.assert_close(w.detach(), torch.full((2, 2), -0.1))


@pytest.mark.parametrize("most", [0.0, 1.0, 1e6])
def test_gradients_are_clipped_to_a_norm(most):
    model = nn.Linear(3, 2)
    for p in model.parameters():
        p.grad = torch.full_like(p, 2.0)
    norm = clip_gradients(model, most)
    assert norm.item() == pytest.approx(2 * 8**0.5)
    after = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).norm()
    assert after.item() == pytest.approx(1.0 if most == 1.0 else norm.item(), rel=1e-4)


@pytest.mark.parametrize("words", [["optim.optimizer=lars", "optim.max_grad_norm=0.5"], ["precision=bfloat16"]])
def test_a_training_goes_through(words, indexed, tmp_path):
    assert main(["train", *indexed, *WORDS, *words, f"out={tmp_path / 'run'}"]) == 0
    assert all(x.isfinite().all() for x in load_run_state(tmp_path / "run")["model"].values())


def test_compiled_encoders_keep_their_keys(indexed, tmp_path, monkeypatch):
    """With autograd's part of the compiler, not inductor, which compiles C++ for minutes."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    whole, compiled = tmp_path / "whole", tmp_path / "compiled"
    # as many videos in every batch, training's and labelling's: each number of them is compiled anew
    plain = ["model.dropout=0", "optim.optimizer=sgd", "optim.lr=0.001", "optim.batch=36", "optim.epochs=2",
             "labelling.warmup_batches=0"]  # fmt: skip
    assert main(["train", *indexed, *WORDS, *plain, f"out={whole}"]) == 0
    assert main(["train", *indexed, *WORDS, *plain, "compile=true", f"out={compiled}"]) == 0
    ours, theirs = (load_run_state(run)["model"] for run in (compiled, whole))
    assert ours.keys() == theirs.keys()
    for name, x in theirs.items():
        torch.testing.assert_close(ours[name], x, rtol=1e-2, atol=1e-2)
