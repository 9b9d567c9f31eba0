"""The user's own encoder, package.module:callable, imported from the working folder or an installed package."""

import importlib
import os
import sys
import traceback
from typing import Any

from ..config.option import nearest
from ..core.errors import UserError


def call(option: str, name: str) -> Any:
    """The result of `package.module:callable`: a class is instantiated, a function is called.

    Args:
        option: the option that names the callable, for messages.
        name: the callable, "package.module:callable".

    Raises:
        UserError: the module cannot be imported, has no such callable, or it fails.
    """
    module_name, _, attribute = name.partition(":")
    module = _import(option, name, module_name)
    found = getattr(module, attribute, None)
    if found is None:
        where = getattr(module, "__file__", None) or module_name
        raise UserError(f"{option}={name}: {where} has no {attribute}{nearest(attribute, dir(module))}")
    if not callable(found):
        raise UserError(f"{option}={name} is a {type(found).__name__}: give a class or a function without arguments")
    try:
        return found()
    except (UserError, KeyboardInterrupt):
        raise
    except BaseException as error:  # the user's code may raise anything, even SystemExit, which would end with status 0
        raise UserError(f"{option}={name} cannot be called without arguments: {_where(error)}") from None


def _import(option: str, name: str, module_name: str) -> Any:
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)  # at the end, so that an installed module of the same name comes first, as without avssl
    try:
        return importlib.import_module(module_name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise UserError(f"{option}={name}: cannot import {module_name}: {_where(error)}") from None


def _where(error: BaseException) -> str:
    """The error in one line, with the file and the line number where it was raised."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} ({error.filename}, line {error.lineno})"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    theirs = [frame for frame in frames if "site-packages" not in frame.filename and "importlib" not in frame.filename]
    return f"{text} ({theirs[-1].filename}, line {theirs[-1].lineno})" if theirs else text
