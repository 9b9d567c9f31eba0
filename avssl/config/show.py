"""The resolved options of a command as YAML, for --show-config."""

from typing import Any

import yaml

from .option import accepted_keys


def as_yaml(config: Any) -> str:
    """The options that a user can set, with their values, as one YAML document.

    Args:
        config: an instance of a schema.
    """
    tree: dict[str, Any] = {}
    for key in accepted_keys(type(config)):
        *sections, name = key.name.split(".")
        value, place = config, tree
        for section in sections:
            value, place = getattr(value, section), place.setdefault(section, {})
        place[name] = getattr(value, name)
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=1000)
