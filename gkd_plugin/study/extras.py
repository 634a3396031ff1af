"""Packages that only studies need."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from importlib.util import find_spec
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


def require_extras(packages: Iterable[str] = ("pandas", "matplotlib", "jinja2"), extra: str = "study") -> None:
    """Refuses to begin what could not be brought to its end without some packages.

    Args:
        packages (iterable of str): Their names; none is imported.
        extra (str): The extra that installs them.

    Raises:
        UserError: If some are not installed.
    """
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise UserError(f"This needs {', '.join(missing)}: pip install 'gkd_plugin[{extra}]'. Nothing was started.")
