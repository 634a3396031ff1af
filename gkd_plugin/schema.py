"""Configuration keys and the kinds of value they take.

A key's value arrives as YAML, a grid or a command line read it (``10``, ``10.0``, ``"10"``, ``"true"``);
its kind turns that into the plan's value, or reports what is allowed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from posixpath import normpath
from typing import Any

from gkd_plugin.errors import nearest

LARGEST, LARGEST_WHOLE = 3.4e38, 2**63 - 1  # what a tensor of single precision and one of whole numbers hold
LONGEST_NAME = 200  # of a part of a path, in bytes: disks allow 255, and files beside it have longer names


class BadValue(ValueError):
    """A value that its kind refuses; the text lists what is allowed."""


class Kind:
    """What a key may hold."""

    def describe(self) -> str:
        """The allowed values in words."""
        raise NotImplementedError

    def parse(self, raw: Any) -> Any:
        """The plan's value for what a file or a command line held.

        Raises:
            BadValue: If ``raw`` is not allowed.
        """
        raise NotImplementedError


def _read_word(raw: Any) -> str:
    """The word itself: YAML reads ``on``, ``1`` and ``no`` as other types."""
    if isinstance(raw, bool):
        return str(raw).lower()
    return str(raw)


class Choice(Kind):
    """One word of a list. ``words`` may be a function, for lists that plugins extend."""

    def __init__(self, words: Iterable[str] | Callable[[], Iterable[str]]) -> None:
        self._words = words if callable(words) else tuple(words)

    @property
    def words(self) -> tuple[str, ...]:
        return tuple(self._words()) if callable(self._words) else self._words

    def describe(self) -> str:
        return "one of " + ", ".join(self.words)

    def parse(self, raw: Any) -> str:
        if isinstance(raw, (list, tuple, dict)):
            raise BadValue(f"Allowed: {self.describe()}.")
        word = _read_word(raw)
        if word in self.words:
            return word
        hint = nearest(word, self.words)
        if len(word) == 1:  # a host grid splits an unquoted word into its letters
            hint = "A single letter comes from a grid line with unquoted words: write ['a','b']. "
        raise BadValue(f"{hint}Allowed: {self.describe()}.")


def _show(bound: float) -> str:
    return str(bound) if isinstance(bound, int) else f"{bound:g}"  # a whole one with all its digits


class Number(Kind):
    """A finite number within bounds, or one of ``words`` (``none`` gives ``None``).

    Args:
        low (float, optional): The smallest value.
        above (bool, optional): Whether ``low`` itself is too small.
        below (float, optional): Every value is smaller than this.
        high (float, optional): The largest value.
        integer (bool, optional): Whether only whole numbers are allowed.
        words (tuple of str, optional): Words that may stand for a number.
    """

    def __init__(
        self,
        low: float | None = 0.0,
        *,
        above: bool = False,
        below: float | None = None,
        high: float | None = None,
        integer: bool = False,
        words: tuple[str, ...] = (),
    ) -> None:
        self.low, self.above, self.below, self.high = low, above, below, high
        self.integer, self.words = integer, words

    def describe(self) -> str:
        text = "a whole number" if self.integer else "a number"
        if self.low is not None:
            text += f" above {_show(self.low)}" if self.above else f" of at least {_show(self.low)}"
        if self.below is not None:
            text += f" and below {_show(self.below)}"
        if self.high is not None:
            text += f" and at most {_show(self.high)}"
        return " or ".join([*self.words, text])

    def parse(self, raw: Any) -> float | int | str | None:
        refused = BadValue(f"Allowed: {self.describe()}.")
        if isinstance(raw, str) and raw in self.words:
            return None if raw == "none" else raw
        if isinstance(raw, (bool, list, tuple, dict)):
            raise refused
        try:
            value = float(raw)
        except (TypeError, ValueError, OverflowError):
            raise refused from None
        if not math.isfinite(value) or (self.integer and value != int(value)):
            raise refused
        if abs(value) > (LARGEST_WHOLE if self.integer else LARGEST):
            raise BadValue(f"Allowed: {self.describe()}; that is too large for a tensor.")
        if self.low is not None and (value <= self.low if self.above else value < self.low):
            raise refused
        if self.below is not None and value >= self.below:
            raise refused
        if self.high is not None and value > self.high:
            raise refused
        if not self.integer:
            return value
        return raw if isinstance(raw, int) else int(value)  # a float would round a large one


class Flag(Kind):
    """``true`` or ``false``, also as text."""

    def describe(self) -> str:
        return "true or false"

    def parse(self, raw: Any) -> bool:
        if isinstance(raw, bool):
            return raw
        if isinstance(raw, str) and raw.lower() in ("true", "false"):
            return raw.lower() == "true"
        raise BadValue("Allowed: true or false.")


class Name(Kind):
    """A name (of a run, a file, a pattern) or ``none``; never a path that leaves its folder.

    Args:
        what (str): What it names.
        path (bool): Whether it may lead into folders below, but never out of its own.
        several (bool): Whether a list of names may stand there; it becomes a tuple.
    """

    def __init__(self, what: str, *, path: bool = False, several: bool = False) -> None:
        self.what, self.path, self.several = what, path, several

    def describe(self) -> str:
        return f"none or {self.what}"

    def parse(self, raw: Any) -> str | tuple[str, ...] | None:
        if self.several and isinstance(raw, (list, tuple)):
            names = [self._parse_one(part) for part in raw]
            found = tuple(dict.fromkeys(name for name in names if name is not None))
            if not found or len(found) < len(names):
                raise BadValue(f"Allowed: {self.describe()}; each name once.")
            return found[0] if len(found) == 1 else found
        return self._parse_one(raw)

    def _parse_one(self, raw: Any) -> str | None:
        if raw is None or isinstance(raw, (bool, list, tuple, dict)) or raw == "":
            raise BadValue(f"Allowed: {self.describe()}.")
        name = str(raw)  # YAML reads a run called 123 as a number
        if name == "none":
            return None
        if self.path and any(len(part.encode(errors="replace")) > LONGEST_NAME for part in name.split("/")):
            raise BadValue(f"A name has at most {LONGEST_NAME} bytes.")
        if self.path and (name.startswith(("/", "~")) or ".." in name.split("/") or "\\" in name or "\0" in name):
            raise BadValue("A name must stay in its folder: no leading '/', no '..'.")
        return normpath(name) if self.path else name  # ./a and a/ are a


class Names(Kind):
    """``none`` or names joined by ``+``, as the host's grids need it."""

    def __init__(self, what: str) -> None:
        self.what = what

    def describe(self) -> str:
        return f"none or {self.what} joined by '+'"

    def parse(self, raw: Any) -> tuple[str, ...]:
        if isinstance(raw, (list, tuple)):
            if not all(isinstance(part, (str, int)) and not isinstance(part, bool) for part in raw):
                raise BadValue(f"Allowed: {self.describe()}.")
            raw = "+".join(str(part) for part in raw)
        if isinstance(raw, (bool, dict)):
            raise BadValue(f"Allowed: {self.describe()}.")
        if str(raw) == "none":
            return ()
        single = Name(self.what, path=True)
        names = [single._parse_one(part) for part in str(raw).split("+") if part]
        if not names:
            raise BadValue(f"Allowed: {self.describe()}.")
        return tuple(name for name in names if name is not None)


class Pairs(Kind):
    """Layer pairs ``3~2+4~2`` (learner~source, from 1 or negative from the last) or a YAML list of pairs."""

    def describe(self) -> str:
        return "learner~source pairs such as 3~2+4~2, or a list of pairs"

    def parse(self, raw: Any) -> tuple[tuple[int, int], ...] | None:
        refused = BadValue(f"Allowed: {self.describe()}; layers count from 1, negative ones from the last.")
        if raw == "none":
            return None
        if isinstance(raw, str):
            parts: list[Any] = [part.split("~") for part in raw.split("+")]
        elif isinstance(raw, (list, tuple)):
            parts = [part.split("~") if isinstance(part, str) else part for part in raw]
        else:
            raise refused
        pairs = []
        for part in parts:
            if not isinstance(part, (list, tuple)) or len(part) != 2:
                raise refused
            if not all(isinstance(end, int) or re.fullmatch(r"-?\d+", str(end).strip()) for end in part):
                raise refused
            pair = (int(part[0]), int(part[1]))
            if any(isinstance(end, bool) for end in part) or 0 in pair:
                raise refused
            pairs.append(pair)
        if not pairs:
            raise refused
        return tuple(pairs)


@dataclass(frozen=True)
class Key:
    """One configuration key.

    Args:
        name (str): The key inside its group.
        default (Any): The plan's value where neither the user nor the preset names it.
        kind (Kind): What it may hold.
        meaning (str): One line for ``gkd list`` and the docs.
        unless (callable, optional): ``unless(values)`` with the group's values returns why the key does not apply
            there, or ``None``. Such a key is refused where the user wrote it and dropped elsewhere.
    """

    name: str
    default: Any
    kind: Kind
    meaning: str
    unless: Callable[[Mapping[str, Any]], str | None] | None = None


def show(value: Any) -> str:
    """A value as the user may have written it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        parts = ["~".join(map(str, part)) if isinstance(part, tuple) else str(part) for part in value]
        return "+".join(parts) or "none"
    return str(value)
