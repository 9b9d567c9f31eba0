"""Parity with the published SeLaVi model: outputs for deterministic weights and inputs."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from avssl.core.errors import UserError
from avssl.models.zoo import load_published

GOLDEN = Path(__file__).parents[1] / "golden"


def fill(key: str, shape: list[int]) -> torch.Tensor:
    """The weights that the golden outputs were made with: a function of the published key and shape alone."""
    n = int(np.prod(shape)) if shape else 1
    wave = torch.sin(torch.arange(n, dtype=torch.float64) * 0.37 + zlib.crc32(key.encode()) % 1000)
    if key.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    if key.endswith("running_mean"):
        wave = 0.05 * wave
    elif key.endswith("running_var"):
        wave = 1 + 0.2 * wave.abs()
    elif len(shape) == 1 and key.endswith("weight"):
        wave = 1 + 0.1 * wave
    elif len(shape) == 1:
        wave = 0.1 * wave
    else:
        wave = wave * (2.0 / (n // shape[0])) ** 0.5
    return wave.reshape(shape).float()


def test_published_weights_give_published_outputs(tmp_path):
    keys = json.loads((GOLDEN / "selavi_state_dict.json").read_text())
    state = {"module." + key: fill(key, shape) for key, shape in keys.items()}
    torch.save({"model": state, "epoch": 3}, tmp_path / "published.pth")
    kind, model = load_published(tmp_path / "published.pth")
    assert kind == "selavi"
    video = torch.sin(torch.arange(2 * 3 * 8 * 64 * 64, dtype=torch.float64) * 0.011).reshape(2, 3, 8, 64, 64).float()
    sound = torch.cos(torch.arange(2 * 257 * 99, dtype=torch.float64) * 0.007).reshape(2, 1, 257, 99).float()
    with torch.no_grad():
        features = model.encode({"video": video, "audio": sound})
        (f_v, f_a), (z_v, z_a) = features.values(), model.cluster(features).values()
    golden = np.load(GOLDEN / "selavi_model.npz")
    for name, ours in (("feat_v", f_v), ("feat_a", f_a), ("head_v", z_v), ("head_a", z_a)):
        assert ours.shape == golden[name].shape
        assert np.abs(ours.numpy() - golden[name]).max() <= 1e-4
    assert sum(p.numel() for p in model.encoders["video"].parameters()) == pytest.approx(31.3e6, rel=0.01)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        load_published(tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(UserError, match="cannot be loaded safely|can be loaded safely"):
        load_published(tmp_path / "text.pth")
    torch.save({"weights": 1}, tmp_path / "other.pth")
    with pytest.raises(UserError, match='no "model"'):
        load_published(tmp_path / "other.pth")
    torch.save({"model": {"a": torch.zeros(1)}}, tmp_path / "other2.pth")
    with pytest.raises(UserError, match="is not a checkpoint of SeLaVi, GDT or torchvision"):
        load_published(tmp_path / "other2.pth")
    heads = {f"mlp_v{head}.block_forward.8.weight": torch.zeros(1) for head in (0, 2)}
    torch.save({"model": heads}, tmp_path / "other3.pth")
    with pytest.raises(UserError, match="not a published SeLaVi"):
        load_published(tmp_path / "other3.pth")
