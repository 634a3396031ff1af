"""Where a result comes from: versions, date, command, machine, and the commit of the user's repository."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Any

from gkd_plugin.space import axes
from gkd_plugin.training.result import RESULT

_PACKAGES = ("gkd_plugin", "torch", "torch-geometric", "pytorch-lightning", "yacs", "numpy", "numba")
_SECONDS = 5  # a repository on a slow disk must not hold up a run


def find_versions() -> dict[str, str]:
    """Versions of everything that decides the numbers."""
    return {"python": platform.python_version(), **{name: _find_version(name) for name in _PACKAGES}}


def describe_versions(versions: Mapping[str, str]) -> str:
    """The versions that say most."""
    return ", ".join(f"{name} {versions.get(name, '-')}" for name in ("gkd_plugin", "torch", "torch-geometric"))


@cache
def _find_version(name: str) -> str:
    """Of a package; what was imported stays the same however long a process lives."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "-"


def find_plugins() -> dict[str, str]:
    """The third-party plugins that registered answers, by name, with distribution and version; ``-`` for one that is not
    installed.
    """
    there = {axis.origin(name) for axis in axes.ALL for name in axis} - {"gkd_plugin"}
    installed = {point.name: point.dist for point in entry_points(group="gkd_plugin")}
    packages = {name: installed.get(name) for name in sorted(there)}
    return {name: f"{dist.name} {dist.version}" if dist is not None else "-" for name, dist in packages.items()}


def find_commit(folder: Path) -> str | None:
    """The commit that is checked out in the repository around a folder, with ``-dirty`` where files differ from it.

    ``None`` where there is no repository or no git.

    Args:
        folder (Path): The folder.
    """
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    env = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}  # we only look
    try:
        done = subprocess.run(
            command, cwd=folder, env=env, capture_output=True, text=True, timeout=_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def read_origin(seed_folder: Path) -> dict[str, Any] | None:
    """What a finished seed recorded of itself (:func:`describe_origin`), as far as it can be read."""
    try:
        found = json.loads((seed_folder / RESULT).read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def describe_origin() -> dict[str, Any]:
    """What ``result.json`` records beside the numbers; ``commit`` only where there is one."""
    program = Path(sys.argv[0]).name if sys.argv else ""
    commit = find_commit(Path.cwd())
    return {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": shlex.join([program, *sys.argv[1:]]),
        "host": platform.node(),
        **({"commit": commit} if commit is not None else {}),
        "versions": find_versions(),
        "plugins": find_plugins(),
    }
