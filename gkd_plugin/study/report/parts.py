"""What a report consists of, whoever writes it down: facts, sentences, tables, figures."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_WIDEST = 24  # characters of a column of text before it is broken


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Args:
        text (str): What is shown.
        value (float or str): What it is sorted by.
    """

    text: str
    value: float | str


@dataclass(frozen=True)
class Table:
    """A table.

    Args:
        name (str): One word, for links.
        title (str): Its heading.
        caption (str): What its columns mean, and the file it comes from.
        columns (sequence of str): The heads.
        rows (sequence of sequence of Cell): The rows.
        numeric (sequence of bool): Whether a column is of numbers, which are set to the right.
        strong (sequence of int): The rows to be set off.
    """

    name: str
    title: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    numeric: Sequence[bool]
    strong: Sequence[int] = ()

    @property
    def widths(self) -> list[int]:
        """The width of each column in characters; longer text is broken."""
        return [
            min(_WIDEST, max((len(row[number].text) for row in self.rows), default=0))
            for number in range(len(self.columns))
        ]


@dataclass(frozen=True)
class Column:
    """How a column of a table is made.

    Args:
        head (str): Its head.
        make (callable): Gives the cell of a row of a frame.
        numeric (bool): Whether it is set to the right.
    """

    head: str
    make: Callable[[Mapping[str, Any]], Cell]
    numeric: bool = True


def make_table(
    name: str,
    title: str,
    caption: str,
    columns: Sequence[Column],
    rows: Sequence[Mapping[str, Any]],
    strong: Sequence[int] = (),
) -> Table:
    """A table of the rows of a frame; see :class:`Table`."""
    cells = [[column.make(row) for column in columns] for row in rows]
    heads, numeric = [column.head for column in columns], [column.numeric for column in columns]
    return Table(name, title, caption, heads, cells, numeric, strong)


@dataclass(frozen=True)
class Picture:
    """A figure.

    Args:
        name (str): One word: its file's name and the beginning of its ids.
        title (str): Its heading.
        caption (str): What it shows and from which file.
        svg (str): The ``<svg>`` element.
    """

    name: str
    title: str
    caption: str
    svg: str

    @property
    def width(self) -> int:
        """Its width in pixels."""
        found = re.search(r'width="(\d+)"', self.svg)
        return int(found[1]) if found else 0


@dataclass(frozen=True)
class Text:
    """Text of a file, shown as it is where a reader opens it.

    Args:
        name (str): One word, for links.
        title (str): Its heading.
        text (str): The text.
    """

    name: str
    title: str
    text: str


@dataclass(frozen=True)
class Section:
    """A part of the page under one heading.

    Args:
        name (str): One word, for links.
        title (str): Its heading.
        text (str): A sentence or two on how to read it.
        parts (sequence): Its tables, figures and texts, in order.
    """

    name: str
    title: str
    text: str = ""
    parts: Sequence[Table | Picture | Text] = ()


@dataclass(frozen=True)
class Report:
    """A whole report.

    Args:
        title (str): Its title.
        subtitle (str): One line under it.
        verdict (sequence of str): The sentences of the first paragraph.
        points (sequence of str): Lines under it.
        facts (sequence of tuple): What was run: names and values.
        sections (sequence of Section): The rest.
        made (str): When and by which version it was written.
    """

    title: str
    subtitle: str
    verdict: Sequence[str]
    points: Sequence[str] = ()
    facts: Sequence[tuple[str, str]] = ()
    sections: Sequence[Section] = field(default=())
    made: str = ""


# ---------------------------------------------------------------------------------------------------- numbers and names
DASH = "–"


def is_missing(value: Any) -> bool:
    """Whether a cell of a frame is empty: ``None``, NaN, pandas' NA."""
    return value is None or value != value or type(value).__name__ == "NAType"


def format_number(value: Any, digits: int = 2, scale: float = 1.0, sign: bool = False) -> str:
    """``81.20``, ``+0.42`` with a sign, a dash where there is nothing."""
    if is_missing(value) or not math.isfinite(float(value)):
        return DASH
    text = f"{float(value) * scale:{'+' if sign else ''}.{digits}f}"
    return text.replace("-", "−") if float(text) else text.lstrip("+-")  # zero has no sign


def format_value(value: Any) -> str:
    """A value as a configuration has it: ``8``, ``0.5``, ``none``."""
    if is_missing(value):
        return DASH
    if isinstance(value, (float, np.floating)):
        return f"{value:g}"
    return str(value)


def format_p(value: Any) -> str:
    """A p-value: ``0.342``, ``0.0496``, ``< 0.001``."""
    if is_missing(value):
        return DASH
    if value < 0.001:
        return "< 0.001"
    text = f"{value:.4f}" if value < 0.1 else f"{value:.3f}"
    return "< 0.05" if value < 0.05 <= float(text) else text  # rounding crosses no level


def format_time(seconds: float) -> str:
    """``42 s``, ``12 min``, ``3.4 h``."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def format_count(count: int, word: str, words: str | None = None) -> str:
    """``1 run``, ``3 runs``."""
    return f"{count:,} {word if count == 1 else words or f'{word}s'}"


def number_cell(value: Any, digits: int = 2, scale: float = 1.0, sign: bool = False) -> Cell:
    """A cell of a number; empty ones are sorted last."""
    missing = is_missing(value) or not math.isfinite(float(value))
    return Cell(format_number(value, digits, scale, sign), "" if missing else float(value))


def value_cell(value: Any) -> Cell:
    """A cell of a configuration's value, sorted as a number where it is one."""
    text = format_value(value)
    try:
        return Cell(text, float(value))
    except (TypeError, ValueError):
        return Cell(text, "" if is_missing(value) else text)


def count_cell(value: Any) -> Cell:
    """A cell of a whole number, ``3,466``."""
    return number_cell(None) if is_missing(value) else Cell(f"{value:,.0f}", float(value))


def text_cell(text: Any) -> Cell:
    """A cell of text."""
    shown = DASH if is_missing(text) or text == "" else str(text)
    return Cell(shown, shown.lower())
