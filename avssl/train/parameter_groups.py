"""Groups of parameters with separate learning rates: encoders and heads, early and deep blocks."""

from typing import Any

from torch import nn

from ..models import MultiStream

CONTAINERS = (nn.Sequential, nn.ModuleList)
"""Modules of exactly these types count as the modules that they contain; a subclass, such as torchvision's convolution
with its norm, is one block."""


def parameter_groups(model: MultiStream, encoder_factor: float = 1.0, decay: float = 1.0) -> list[dict[str, Any]]:
    """The trained parameters of a model, grouped by the factor of their learning rate.

    Heads, norms and adapters have the factor 1. Block l of an encoder's L blocks has the factor `encoder_factor` ·
    decay^(L + 1 − l) (Clark et al. 2020; Bao et al. 2022), or `encoder_factor` without decay. Frozen encoders are left
    out.

    Args:
        model: the model; `blocks_of` finds its encoders' blocks.
        encoder_factor: factor on the encoders' learning rate.
        decay: factor from each block to the one before.

    Returns:
        The optimiser's groups, `{"params": […], "factor": …}`; a single group if all factors are 1.
    """
    factors: dict[int, float] = {}
    for name, encoder in model.encoders.items():
        if name not in model.frozen:
            blocks = blocks_of(encoder)
            for place, block in enumerate(blocks):
                factor = encoder_factor * decay ** (len(blocks) - place)
                factors |= {id(parameter): factor for parameter in block}
    frozen = {id(p) for name in model.frozen for p in model.encoders[name].parameters()}
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if id(parameter) not in frozen:
            groups.setdefault(factors.get(id(parameter), 1.0), []).append(parameter)
    return [{"params": parameters, "factor": factor} for factor, parameters in groups.items()]


def blocks_of(encoder: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters of an encoder's top-level blocks, from the input to the output.

    This works for any module that defines its parts in their order of use, as torchvision, timm and transformers do. A
    wrapper counts as its content, a container as its items, and a module with a container of several blocks of one kind
    as what it contains. A norm belongs to the block before it.
    """
    blocks: list[list[nn.Parameter]] = []
    seen: set[int] = set()
    tokens = False  # whether all parameters so far are tokens and positions, which belong to the first block
    for part in _parts(encoder, item=False):
        parameters = [part] if isinstance(part, nn.Parameter) else [*part.parameters()]
        new = [p for p in parameters if id(p) not in seen]
        seen |= {id(p) for p in new}
        own = isinstance(part, nn.Parameter)
        if new and blocks and (own or tokens or all(p.ndim <= 1 for p in new)):
            blocks[-1] += new
        elif new:
            blocks.append(new)
            tokens = own and len(blocks) == 1
        tokens = tokens and own
    return blocks


def _parts(module: nn.Module, item: bool) -> list[nn.Module | nn.Parameter]:
    """The blocks of a module, and its own parameters. `item`: whether it is an item of a container of blocks."""
    parts, container = _trained(module), type(module) in CONTAINERS
    if not container and (item or not parts or not (len(parts) == 1 or _holds_blocks(module))):
        return [module]
    # the items of a container are blocks; a wrapper of another container may be beside it, as in transformers
    several = len(parts) > 1
    blocks: list[nn.Module | nn.Parameter] = [*module.parameters(recurse=False)]
    for part in parts:
        blocks += _parts(part, item or (several and (container or type(part) in CONTAINERS)))
    return blocks


def _trained(module: nn.Module) -> list[nn.Module]:
    """The parts of a module that have parameters."""
    return [part for part in module.children() if any(True for _ in part.parameters())]


def _holds_blocks(module: nn.Module) -> bool:
    """Whether a module, or one of its parts, has a container of several blocks of one kind, or several containers of
    blocks."""
    blocks = [[type(x) for x in _trained(part) if _trained(x)] for part in _trained(module) if type(part) in CONTAINERS]
    if sum(map(bool, blocks)) > 1 or any(len(kinds) > len({*kinds}) for kinds in blocks):
        return True
    return any(_holds_blocks(part) for part in _trained(module) if type(part) not in CONTAINERS)
