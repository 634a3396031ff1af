"""Packages that only studies need."""

from __future__ import annotations

import importlib
from typing import Any

from gkd_plugin.errors import UserError


def load_extra(module: str, extra: str = "study") -> Any:
    """A package of an extra, imported where it is used.

    Args:
        module (str): The module's name, e.g. ``pandas``.
        extra (str): The extra that installs it.

    Raises:
        UserError: If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name != package:
            raise
        raise UserError(f"This needs the package {package}: pip install 'gkd_plugin[{extra}]'.") from None
