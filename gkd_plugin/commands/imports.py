"""``--import MODULE``: modules of the user's that register loaders, layers, networks or terms before a command begins."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable

from gkd_plugin.commands.blame import describe_own_code
from gkd_plugin.errors import UserError, describe_error, find_place

imported: list[str] = []  # what this process was asked for: workers of a study need the same


def import_modules(names: Iterable[str]) -> None:
    """Imports modules by name, from the working folder or from what is installed, as ``python -m`` finds them.

    Args:
        names (iterable of str): Names as in an import line (``custom_graphgym``).

    Raises:
        UserError: If there is no such module, or it raises.
    """
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    for name in names:
        try:
            importlib.import_module(name)
            if name not in imported:
                imported.append(name)
        except ModuleNotFoundError as error:
            if not _is_part(error.name, name):
                raise UserError(f"--import {name}: {describe_error(error)} ({find_place(error)}).") from error
            raise UserError(
                f"--import {name}: there is no such module in {folder}, nor is one installed. Write its name as in an import "
                "line: custom_graphgym, or my_package.layers for my_package/layers.py."
            ) from None
        except Exception as error:  # the user's own code
            text = f"--import {name}: {describe_error(error)} ({find_place(error)})."
            raise UserError("\n".join([text, describe_own_code(error)]).rstrip()) from error


def _is_part(missing: str | None, name: str) -> bool:
    return missing is not None and f"{name}.".startswith(f"{missing}.")
