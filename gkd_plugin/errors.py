"""The errors, by who can fix them.

``UserError`` ends a command with exit code 2 and one message; ``RunFailed`` is recorded in the run's folder and ends it
with exit code 1. Anything else is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import json
import sysconfig
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from reprlib import Repr
from typing import Any

OF_YOUR_OWN = "One of your own must be registered first: --import MODULE, in Python import MODULE (docs/run.md)."

_PACKAGE, _PYTHON = Path(__file__).resolve().parent, Path(sysconfig.get_path("stdlib"))
_LONGEST = 300  # characters of what a user wrote that a message repeats
_repr = Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = _LONGEST


class _Plain:
    """An error whose message says all: a notebook shows it without our frames."""

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


class UserError(_Plain, ValueError):
    """A mistake that the user can fix: what was found, where, what is allowed, what to do."""


@dataclass(frozen=True)
class Problem:
    """One configuration mistake.

    Args:
        key (str): The key as the user writes it, e.g. ``kd_structure.kernel``.
        found (str): What was found.
        allowed (str): What is allowed, or what to do.
    """

    key: str
    found: str
    allowed: str

    def __str__(self) -> str:
        return f"{cut(self.key)}: {cut(self.found)}. {self.allowed}"


class ConfigError(UserError):
    """All configuration mistakes of one file at once.

    Args:
        problems (iterable of Problem): The mistakes, in the order of the keys.
        where (str, optional): Their file.
    """

    def __init__(self, problems: Iterable[Problem], where: str | None = None) -> None:
        self.problems = tuple(problems)
        self.where = where
        count = len(self.problems)
        head = f"{count} mistake{'s' if count != 1 else ''} in the configuration{f' {where}' if where else ''}:"
        super().__init__("\n".join([head, *(f"  {problem}" for problem in self.problems)]))


class RunFailed(_Plain, RuntimeError):
    """A run that cannot go on (a loss that is not finite, say); what was finished before stays."""


class Diverged(RunFailed):
    """Training that is not finite any more: going on from a checkpoint would end in the same place."""


def describe_error(error: BaseException) -> str:
    """Type and first sentence of a foreign error: the rest is often advice to trust the file nevertheless."""
    first = next(iter(str(error).splitlines()), "").partition(". ")[0][:200]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def describe_damage(error: Exception) -> str:
    """What is wrong with a file of ours that could not be read, in plain words; a ``ValueError`` of ours says it itself."""
    if isinstance(error, json.JSONDecodeError):
        return "it is incomplete JSON"
    if isinstance(error, UnicodeDecodeError):
        return "it is not text"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if isinstance(error, KeyError):
        return f"it lacks {error}"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, (TypeError, AttributeError)):
        return "a value in it is of another kind than was written"
    return str(error)


def find_place(error: BaseException) -> str:
    """File and line in the user's own code: the innermost frame outside Python, installed packages and this one."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not is_installed(frame.filename)]
    users = [frame for frame in own if not is_ours(frame.filename)]
    frame = next(reversed(users or own or list(frames)), None)
    return f"{frame.filename}, line {frame.lineno}" if frame else "nowhere"


def is_installed(file: str) -> bool:
    """Whether a frame's file belongs to Python or an installed package."""
    path = Path(file)
    installed = {"site-packages", "dist-packages", "importlib"} & set(path.parts)
    return bool(installed) or file.startswith("<frozen ") or path.is_relative_to(_PYTHON)


def is_ours(file: str) -> bool:
    """Whether a frame's file is this program's."""
    path = Path(file)
    return path.is_relative_to(_PACKAGE) or path.is_relative_to(_PACKAGE.parent / "gkd_cli")


def cut(text: str) -> str:
    """A text of any length as a message repeats it: beginning and end."""
    half = _LONGEST // 2
    return text if len(text) <= 2 * _LONGEST else f"{text[:half]} ... {text[-half:]}"


def quote(value: Any) -> str:
    """What a user wrote as a message repeats it; long and deeply nested values are cut before they are spelled out."""
    return _repr.repr(value)


def nearest(word: str, known: Iterable[str]) -> str:
    """``"Did you mean 'x'? "`` for the closest known word, or nothing."""
    if len(str(word)) > _LONGEST:  # no name, and slow to compare
        return ""
    match = get_close_matches(str(word), [str(k) for k in known], n=1, cutoff=0.6)
    return f"Did you mean '{match[0]}'? " if match else ""
