"""Start a model's encoders from existing weights: `model.init`. Every key is accounted for."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from ..config import ModelConfig
from ..config.run_folder import NON_COMMERCIAL
from ..config.start import PRETRAINED, sources_of, split_source
from ..core.errors import UserError
from .fit_weights import Fit, State, fit
from .multi_stream import MultiStream
from .pretrained import read_pretrained
from .weight_files import Unfit, Weights, finite, read_source

MIN_LOADED = 0.5
"""Smallest fraction of an encoder's parameters that a start must load. Weights of another architecture may match in a
few names and shapes, but would leave the encoder mostly random."""

KEYS_SHOWN = 3


@dataclass
class Started:
    """The weights that an encoder started from."""

    modality: str
    encoder: str
    source: str
    files: dict[str, str]
    licence: str
    fit: Fit

    def line(self) -> str:
        """A line such as "video encoder: 260 of 262 tensors from …, 2 left (classifier), 0 missing"."""
        total = len(self.fit.loaded) + len(self.fit.left)
        loaded = f"{len(self.fit.loaded)} of {total} tensors from {self.source}"
        return f"{self.modality} encoder: {loaded}, {self.fit.counts()}"

    def short(self) -> str:
        """As in "video encoder: weights of selavi_vggsound; licence: …"; with what is missing, if anything is."""
        missing = f" ({self.fit.counts()})" if self.fit.missing else ""
        return f"{self.modality} encoder: weights of {self.source}{missing}; licence: {self.licence}"

    def record(self) -> dict[str, Any]:
        """The entry for init.json."""
        about = {"encoder": self.encoder, "source": self.source, "files": self.files, "licence": self.licence}
        return about | {"line": self.line(), **asdict(self.fit)}


def start(model: MultiStream, config: ModelConfig) -> tuple[list[Started], list[str]]:
    """Load the starting weights into the encoders, in place.

    Args:
        model: the model with random weights, before batch norms are replaced by synchronised ones.
        config: its options; `init` names the sources, see `avssl.config.start`.

    Returns:
        What each encoder started from, and for each encoder that keeps its random weights, a line with the reason.

    Raises:
        UserError: a source cannot be read, or fits no encoder. No encoder is then changed.
    """
    begun: list[tuple[Started, State]] = []
    used: set[str] = set()
    unfit: dict[str, Unfit] = {}
    notes = []
    for modality, encoder in model.encoders.items():
        problems = []
        for text, source in sources_of(config.init, modality):
            try:
                begun.append(_start(encoder, modality, getattr(config, modality), source))
                used.add(text)
                break
            except Unfit as error:
                if split_source(text)[0]:  # it was given for this encoder
                    raise
                problems.append(error)
                unfit.setdefault(text, error)
        else:
            notes += [f"{modality} encoder: random weights ({problem})" for problem in problems[:1]]
    for text in config.init:
        if text not in used:
            raise unfit.get(text) or UserError(f"model.init={text} has no effect: every encoder has another source")
    with torch.no_grad():
        for started, weights in begun:
            own = model.encoders[started.modality].state_dict()
            for key, value in weights.items():
                own[key].copy_(value)
    return [started for started, _ in begun], notes


def _start(encoder: nn.Module, modality: str, name: str, source: str) -> tuple[Started, State]:
    """What an encoder starts from, and the weights to load. Raises Unfit if the source has none for it."""
    with torch.random.fork_rng(devices=[]):  # libraries draw random weights, which must not change those of the run
        found = (
            read_pretrained(modality, name, encoder) if source == PRETRAINED else read_source(source, modality, name)
        )
    weights, report = fit(encoder, found.state, modality)
    if report.share < MIN_LOADED:
        raise Unfit(_unfit(encoder, modality, name, source, found, report))
    finite(weights.items(), source)
    return Started(modality, name, found.source, found.files, found.licence, report), weights


def _unfit(encoder: nn.Module, modality: str, name: str, source: str, found: Weights, report: Fit) -> str:
    def first(state: State) -> str:
        keys = [f"{key[:80]} {[*value.shape]}" for key, value in [*state.items()][:KEYS_SHOWN]]
        return ", ".join(keys) + (", …" if len(state) > KEYS_SHOWN else "")

    share = f"only {100 * report.share:.0f} %" if report.loaded else "nothing"
    return (
        f"model.init={source}: {share} of the {modality} encoder {name} is in these weights: they contain "
        f"{first(found.state)}, but the encoder has {first(encoder.state_dict())}"
    )


def short_lines(started: list[Started]) -> list[str]:
    """A line for each encoder, those whose licence forbids commercial use first."""
    return [s.short() for s in sorted(started, key=lambda s: NON_COMMERCIAL.search(s.licence) is None)]


def licence_lines(started: list[Started]) -> list[str]:
    """A line per licence; those that forbid commercial use come first."""
    by_licence: dict[str, list[str]] = {}
    for s in started:
        by_licence.setdefault(s.licence, []).append(s.source)
    ordered = sorted(by_licence, key=lambda licence: NON_COMMERCIAL.search(licence) is None)
    return [f"licence of {' and '.join(dict.fromkeys(by_licence[licence]))}: {licence}" for licence in ordered]
