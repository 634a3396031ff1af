"""Names of points: as the host writes them where that is safe, and always so that the host's aggregation reads them."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from torch_geometric.graphgym.utils.io import string_to_python

from gkd_plugin.study.grid_file import Range, Row

LONGEST = 200  # bytes: a folder's name may have 255, and suffixes come to it
_LONGEST_VALUE = 40
_LONGEST_BASE = 60
_UNSAFE = re.compile(r"[^A-Za-z0-9_.+~,@%-]+")
_CHECK = "id"  # the dimension that tells names apart that are too long to hold all choices


def make_base(name: str) -> str:
    """The base configuration's name as the first part of names: the host takes all up to the first ``-`` for it."""
    return _clean(name).replace("-", "_").lstrip(".")[:_LONGEST_BASE] or "config"


class Namer:
    """Gives points their names, ``<base>-<alias>=<value>-...``; all differ, also where upper case does not count.

    The same choices have the same name, whichever points are drawn from a grid.

    Args:
        base (str): The base configuration's name.
        blocks (sequence): The blocks of the grid.
    """

    def __init__(self, base: str, blocks: Sequence[Sequence[Row]] = ()) -> None:
        self.base = make_base(base)
        self.texts: dict[str, dict[str, str]] = {}
        self.names: dict[str, str] = {}  # the choices of each name, in lower case
        for block in blocks:
            for row in block:
                for value in () if isinstance(row.values, Range) else row.values:
                    self._write(row.alias, value)
        self.lonely = _find_lonely(blocks)

    def make_name(self, choices: Mapping[str, Any]) -> str:
        """The name of a point.

        Args:
            choices (mapping): Its choices, by alias.
        """
        written = {alias: self._write(alias, value) for alias, value in choices.items()}
        for alias in self.lonely:
            if alias in written:
                written[alias] = written.pop(alias)
        digest = _digest(written)
        name = _join(self.base, written)
        if len(name) > LONGEST:
            name = _shorten(self.base, written, digest)
        if self.names.setdefault(name.lower(), digest) != digest:
            raise ValueError(f"two points are called {name}")
        return name

    def _write(self, alias: str, value: Any) -> str:
        """The text of a value; two values of one alias have different texts."""
        known = self.texts.setdefault(alias, {})
        key = _make_key(value)
        if key not in known:
            text = write_value(value)
            if text.lower() in (other.lower() for other in known.values()):
                text = f"{text}~{_digest(key)}"
            known[key] = text
        return known[key]


def parse_name(name: str) -> tuple[str, dict[str, Any]]:
    """Base and choices in a name that we or the host's generator wrote; values are read as the host reads them."""
    first, *parts = name.split("=")
    if not parts:
        return name, {}
    base, _, alias = first.rpartition("-")
    choices = {}
    for part in parts[:-1]:
        value, _, following = part.rpartition("-")
        choices[alias] = string_to_python(value)
        alias = following
    choices[alias] = string_to_python(parts[-1])
    return base, choices


def _make_key(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:8]


def write_value(value: Any) -> str:
    """A value for a name: as the host writes it, without what a shell, a folder or the host's reader would trip over."""
    if isinstance(value, (list, tuple)):
        text = "+".join(write_value(part) for part in value) or "none"
    elif isinstance(value, float):
        text = str(value) if len(str(value)) <= 8 else f"{value:.6g}"
    else:
        text = str(value)
    text = _clean(text) or "_"
    if len(text) > _LONGEST_VALUE:
        text = f"{text[: _LONGEST_VALUE - 9]}~{_digest(_make_key(value))}"
    return text


def _clean(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return _UNSAFE.sub("_", plain)


def _join(head: str, written: Mapping[str, str]) -> str:
    return "-".join([head, *(f"{alias}={text}" for alias, text in written.items())])


def _shorten(head: str, written: Mapping[str, str], digest: str) -> str:
    """The first choices, as many as there is room for, and a digest of all of them."""
    check = {_CHECK: digest}
    kept: dict[str, str] = {}
    for alias, text in written.items():
        if len(_join(head, {**kept, alias: text, **check})) > LONGEST:
            break
        kept[alias] = text
    return _join(head, {**kept, **check})


def _find_lonely(blocks: Sequence[Sequence[Row]]) -> list[str]:
    """The dimensions with numbers that some point has alone; they stand last in every name.

    The host's ``agg_batch`` reads the last value of a name as text, and cannot sort by one column of text and numbers.
    """
    return [block[0].alias for block in blocks if all(row.when for row in block[1:]) and _has_numbers(block[0])]


def _has_numbers(row: Row) -> bool:
    """Whether the host reads any of its values as something other than text."""
    if isinstance(row.values, Range):
        return True
    return not all(isinstance(string_to_python(write_value(value)), str) for value in row.values)
