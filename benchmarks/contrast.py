"""What the generality of the composed loss costs: `python -m benchmarks contrast`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import torch
import torch.nn.functional as F

from avssl.contrast.composition import Composition, preset
from avssl.contrast.loss import contrastive_loss
from avssl.core.device import choose_device
from avssl.core.report import report
from avssl.core.screen import Console
from benchmarks.options import BenchContrastConfig


@dataclass
class Cost:
    """Median seconds per step (codes, loss and gradient) of a batch of `videos`, and the median ratio of pairs."""

    videos: int
    dim: int
    composed: float
    two_view: float
    ratio: float


def two_view_info_nce(z: torch.Tensor, temperature: float = 0.07) -> torch.Tensor:
    """InfoNCE by hand between the first half of `z`, float [2B, D], and the second: both directions, averaged."""
    video, audio = F.normalize(z, dim=1).chunk(2)
    logits = video @ audio.T / temperature
    target = torch.arange(len(video), device=z.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def main(config: BenchContrastConfig) -> list[Cost]:
    """Time as configured, and print the table."""
    device = choose_device(config.device)
    costs = run(config.videos, config.dim, config.repeats, str(device), config.block)
    rows = [[str(c.videos), f"{1e3 * c.composed:.2f}", f"{1e3 * c.two_view:.2f}", f"{c.ratio:.2f}"] for c in costs]
    about = f"embeddings of {config.dim} on {device}, loss and gradient; medians of {config.repeats} pairs of steps"
    head = ["videos", "composed, ms", "two-view InfoNCE, ms", "ratio"]
    report(Console(), "contrast", head, rows, about, config.out)
    return costs


def run(
    videos: Sequence[int] = (512, 2048), dim: int = 256, repeats: int = 40, device: str = "cpu", block: int = 0
) -> list[Cost]:
    """Time preset 1 against `two_view_info_nce` on the same embeddings, in turns, for each number of videos."""
    composition = Composition(**preset(1))
    costs = []
    for count in videos:
        generator = torch.Generator().manual_seed(count)
        z = torch.randn(2 * count, dim, generator=generator).to(device).requires_grad_()

        def composed(z: torch.Tensor = z, count: int = count) -> torch.Tensor:
            return contrastive_loss(z, composition.codes(torch.arange(count)), composition, block=block)

        def by_hand(z: torch.Tensor = z) -> torch.Tensor:
            return two_view_info_nce(z)

        pairs = [(_seconds(composed, z), _seconds(by_hand, z)) for _ in range(repeats + 3)][3:]
        ours, theirs = zip(*pairs, strict=True)
        ratio = median(a / b for a, b in pairs)
        costs.append(Cost(count, dim, median(ours), median(theirs), ratio))
    return costs


def _seconds(loss: Callable[[], torch.Tensor], z: torch.Tensor) -> float:
    z.grad = None
    if z.is_cuda:
        torch.cuda.synchronize()
    start = perf_counter()
    loss().backward()
    if z.is_cuda:
        torch.cuda.synchronize()
    return perf_counter() - start
