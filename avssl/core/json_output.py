"""`json=true`: one JSON document on standard output, and everything else on standard error."""

import json
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import wraps
from typing import Any, TypeVar

from .atomic import plain

Config = TypeVar("Config")
Result = TypeVar("Result")


def prints_json(document: Callable[[Config, Result], dict[str, Any]]) -> Callable[..., Callable[[Config], Result]]:
    """A decorator for the function of a command whose options include `json`.

    Args:
        document: makes the document from the options and from what the function returned. NaN and infinity become null.
    """

    def decorate(run: Callable[[Config], Result]) -> Callable[[Config], Result]:
        @wraps(run)
        def wrapped(config: Config) -> Result:
            if not getattr(config, "json", False):
                return run(config)
            with redirect_stdout(sys.stderr):
                result = run(config)
                text = json.dumps(plain(document(config, result)), indent=2, ensure_ascii=False, allow_nan=False)
            print(text, flush=True)
            return result

        return wrapped

    return decorate
