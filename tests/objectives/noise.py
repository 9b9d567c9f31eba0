"""Videos of noise, in which no level of an axis can be known, and encoders that would find a shortcut to it."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from avssl.cli import main
from avssl.clips.loader import load
from avssl.config import TrainConfig
from avssl.config.compose import compose_config
from avssl.train.run_state import RunState
from tests.media.make_media import write_media

FPS, SIDE, RATE = 10, 64, 24000


def write_noise(folder: Path, files: int, seconds: float, suffix: str = "mkv", **codecs: str) -> list[str]:
    """The words that name an index of white noise: every pixel and every sample is drawn by itself."""
    for number in range(files):
        rng = np.random.default_rng(number)
        count = round(seconds * FPS)
        frames = rng.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
        samples = (0.2 * rng.standard_normal(round(seconds * RATE))).astype(np.float32)
        path = folder / "noise" / "train" / "a" / f"{number}.{suffix}"
        write_media(path, [i / FPS for i in range(count)], list(frames), samples, RATE, **codecs)
    words = [f"data.root={folder / 'noise'}", f"data.index={folder / 'index'}"]
    assert main(["index", *words, "workers=1"]) == 0
    return words


class Video(nn.Module):
    """Frames [B, 3, T, H, W] → [B, 64], which depend on the place in the frame and in time."""

    dim = 64

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(3, 8, (2, 3, 3), padding=(0, 1, 1))
        self.pool = nn.AdaptiveAvgPool3d((2, 4, 4))
        self.norm = nn.BatchNorm1d(8 * 32)
        self.out = nn.Linear(8 * 32, self.dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.pool(self.convolution(x).abs()).flatten(1)
        return torch.relu(self.out(self.norm(y)))


class Audio(nn.Module):
    """Spectrograms [B, 1, M, F] → [B, 64], which depend on the band and on the time."""

    dim = 64

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d((10, 8))
        self.norm = nn.BatchNorm1d(2 * 80 + 80)
        self.out = nn.Linear(2 * 80 + 80, self.dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.float()
        # the level, its spread, and the edges of the spectrogram frame by frame
        edges = torch.cat([x[..., :1], x[..., -1:]], -1)[:, :, :40].flatten(1)
        edges = nn.functional.pad(edges, (0, 80 - edges.shape[1]))
        y = torch.cat([self.pool(x).flatten(1), self.pool(x.square()).flatten(1), edges.square()], 1)
        return torch.relu(self.out(self.norm(y)))


def accuracies(words: list[str], steps: int, measured: int) -> tuple[dict[str, float], int]:
    """The accuracies of the last `measured` of `steps` training steps, each on clips that were never trained on, and
    the number of videos that they are a mean of."""
    encoders = [f"model.{name.lower()}=tests.objectives.noise:{name}" for name in ("Video", "Audio")]
    config = compose_config("train", TrainConfig, [
        "experiment=tiny", *words, *encoders, "clip.frames=4", "clip.fps=8", "clip.audio_seconds=0.5", "optim.batch=32",
        "workers=0", "threads=1", "device=cpu", "precision=float32", "optim.lr=0.003", "optim.schedule=constant",
        "optim.warmup_epochs=0", "clip.cache_mb=200", f"optim.clips={32 * steps}",
    ])  # fmt: skip
    torch.manual_seed(0)
    state = RunState(config, torch.device("cpu"))
    state.begin({}, Path())
    batches, found = load(state.dataset, state.requests(), 0), []
    for step in range(steps):
        state.begin_step()
        loss, logged = state.forward(next(batches), False)
        state.backward(loss)
        state.update(False)
        if step >= steps - measured:
            found.append({key: float(value) for key, value in logged.items() if "accuracy" in key})
    return {key: sum(x[key] for x in found) / measured for key in found[0]}, measured * 32
