"""Grid files: GraphGym's own format, with comments anywhere, bare words, ranges and rows under a condition."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from gkd_plugin.config import host_keys
from gkd_plugin.config.alone import find_problem_alone
from gkd_plugin.errors import Problem, UserError, nearest

_KEY = re.compile(r"[A-Za-z_]\w*(\.\w+)*", re.ASCII)
_ALIAS = re.compile(r"[A-Za-z0-9_.]+", re.ASCII)
_COMMENT = re.compile(r"""("(?:\\.|[^"\\])*"|'[^']*')|(?:^|(?<=\s))#.*""")
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\s*~\s*({_NUMBER})(\s+log)?")
_SHOWN = 20


class _FlowLoader(yaml.SafeLoader):
    """YAML as the host's grids mean it: ``1e-3`` is a number, ``None`` is nothing."""


_FlowLoader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+[eE][-+]?\d+$"), list("-+0123456789"))
_FlowLoader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"None$"), ["N"])


@dataclass(frozen=True)
class Range:
    """All numbers between two, for a search; whole numbers where both ends are.

    Args:
        low (int or float): The smallest.
        high (int or float): The largest.
        log (bool): Whether their logarithms are spread evenly.
    """

    low: int | float
    high: int | float
    log: bool = False

    def __str__(self) -> str:
        return f"{self.low}~{self.high}{' log' if self.log else ''}"


@dataclass(frozen=True)
class Condition:
    """What an earlier dimension must be.

    Args:
        alias (str): The dimension.
        values (tuple): The values that it may have.
    """

    alias: str
    values: tuple[Any, ...]

    def holds(self, choices: Mapping[str, Any]) -> bool:
        """Whether it holds for these choices; not where the dimension itself does not apply."""
        return self.alias in choices and any(is_same(choices[self.alias], value) for value in self.values)


@dataclass(frozen=True)
class Row:
    """One dimension of a block.

    Args:
        key (str): The configuration's key.
        alias (str): The short name that it has in names and tables.
        values (tuple or Range): What it may be; each value once.
        line (int): Its line in the file.
        when (tuple of Condition): It applies where all of them hold.
        repeated (int): How many values of its list were there already.
    """

    key: str
    alias: str
    values: tuple[Any, ...] | Range
    line: int
    when: tuple[Condition, ...] = ()
    repeated: int = 0

    def applies(self, choices: Mapping[str, Any]) -> bool:
        """Whether the row counts where the earlier dimensions are ``choices``."""
        return all(condition.holds(choices) for condition in self.when)


@dataclass(frozen=True)
class Grid:
    """What a grid file says.

    Args:
        path (Path): The file.
        text (str): Its content.
        blocks (tuple): The blocks, each a tuple of :class:`Row`; the space is their union.
    """

    path: Path
    text: str
    blocks: tuple[tuple[Row, ...], ...]

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def dimensions(self) -> dict[str, str]:
        """The key of each alias, in the file's order."""
        return {row.alias: row.key for block in self.blocks for row in block}


def is_same(one: Any, other: Any) -> bool:
    """Equality that tells ``1``, ``1.0`` and ``true`` apart."""
    return type(one) is type(other) and bool(one == other)


def read_grid(path: str | Path, *, ranges: bool = False) -> Grid:
    """Reads a grid file.

    Args:
        path (str or Path): The file.
        ranges (bool): Whether ``lo~hi`` may stand for a list, as in a search.

    Raises:
        UserError: If the file cannot be read, or with all its mistakes, each with its line.
    """
    try:
        return parse_grid(_read_text(Path(path)), Path(path), ranges=ranges)
    except GridError as error:
        raise error.with_values() from None


class GridError(UserError):
    """All mistakes in the lines of a grid.

    Args:
        path (Path): The file.
        mistakes (iterable): Lines, each with what is wrong with it.
        rows (sequence of Row): The rows that could be read.
    """

    def __init__(self, path: Path, mistakes: Iterable[tuple[int, str]], rows: Sequence[Row] = ()) -> None:
        self.path, self.mistakes, self.rows = path, sorted(set(mistakes)), tuple(rows)
        lines = [f"  line {number}: {text}" for number, text in self.mistakes]
        if len(lines) > _SHOWN:
            lines[_SHOWN:] = [f"  and {len(lines) - _SHOWN} more"]
        count = len(self.mistakes)
        super().__init__("\n".join([f"{count} mistake{'s' if count > 1 else ''} in the grid {path}:", *lines]))

    def with_values(self) -> GridError:
        """The same with the mistakes in keys and values of the rows that could be read: they are reported together."""
        found = [(row.line, str(problem)) for row in self.rows for problem in _find_bad_values(row)]
        return GridError(self.path, [*self.mistakes, *found])


def _find_bad_values(row: Row) -> Iterator[Problem]:
    values = (row.values.low, row.values.high) if isinstance(row.values, Range) else row.values
    for value in values:
        problem = find_problem_alone(row.key, value)
        if problem is not None:
            yield problem


def parse_grid(text: str, path: Path, *, ranges: bool = False) -> Grid:
    """Reads the text of a grid file.

    Args:
        text (str): The text.
        path (Path): The file that it is from, for messages.
        ranges (bool): Whether ``lo~hi`` may stand for a list, as in a search.

    Raises:
        GridError: With all its mistakes, each with its line.
    """
    reader = _Reader(ranges)
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        reader.read(number, line)
    blocks = reader.finish()
    if reader.mistakes:
        raise GridError(path, reader.mistakes, [row for block in blocks for row in block])
    if not blocks:
        raise UserError(f"the grid {path} has no rows. Write lines like 'gnn.dim_inner width [16, 32]'.")
    return Grid(path, text, blocks)


def _read_text(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        there = sorted(file.name for file in path.parent.glob("*.txt")) if path.parent.is_dir() else []
        hint = f" {nearest(path.name, there)}In {path.parent}: {', '.join(there[:10])}." if there else ""
        raise UserError(f"the grid {path} does not exist.{hint}") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder, where the grid should be. Name a grid file.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text file, so it cannot be the grid. Save it as UTF-8 text.") from None
    except OSError as error:
        raise UserError(f"the grid {path} cannot be read: {error}.") from None
    if "\0" in text:
        raise UserError(f"{path} is not a text file, so it cannot be the grid. Save it as UTF-8 text.")
    return text


class _Mistake(Exception):
    """What is wrong with one line."""


class _Reader:
    """Takes a grid file line by line; mistakes are collected."""

    def __init__(self, ranges: bool) -> None:
        self.ranges = ranges
        self.mistakes: list[tuple[int, str]] = []
        self.blocks: list[tuple[Row, ...]] = []
        self.rows: list[Row] = []
        self.open: list[tuple[int, int, Condition | None]] = []  # indentation, line and condition of each open `when`
        self.used: set[int] = set()  # lines of those that have rows
        self.keys: dict[str, tuple[str, int]] = {}  # of each alias, with the line that said so
        self.host: CfgNode | None = None

    def read(self, number: int, line: str) -> None:
        content = _COMMENT.sub(lambda match: match[1] or "", line).strip()
        if not content:
            if not line.strip():
                self._end_block()
            return
        spaces = line.expandtabs()
        self._close(len(spaces) - len(spaces.lstrip()))
        self.used.update(opened for _, opened, _ in self.open)
        word, *rest = content.split(None, 1)
        try:
            if word == "when":
                self.open.append((len(spaces) - len(spaces.lstrip()), number, None))
                condition = self._read_condition(rest[0] if rest else "")
                self.open[-1] = (*self.open[-1][:2], condition)
            else:
                self.rows.append(self._read_row(number, content))
        except _Mistake as mistake:
            self.mistakes.append((number, str(mistake)))

    def finish(self) -> tuple[tuple[Row, ...], ...]:
        self._end_block()
        return tuple(self.blocks)

    def _close(self, indentation: int) -> None:
        """Ends the conditions that the line of this indentation does not stand under."""
        while self.open and self.open[-1][0] >= indentation:
            _, number, condition = self.open.pop()
            if condition is not None and number not in self.used:
                self.mistakes.append((number, "no row stands under this 'when'. Indent the rows that it is about."))

    def _end_block(self) -> None:
        self._close(-1)
        if self.rows:
            self.blocks.append(tuple(self.rows))
        self.rows = []

    def _find_row(self, name: str) -> Row | None:
        return next((row for row in self.rows if name in (row.alias, row.key)), None)

    def _read_condition(self, text: str) -> Condition:
        name, _, rest = text.replace("\t", " ").partition(" ")
        if not rest.strip():
            raise _Mistake("'when' needs a dimension and its values. Write 'when ALIAS VALUE, VALUE'.")
        row = self._find_row(name)
        if row is None:
            known = [word for row in self.rows for word in (row.alias, row.key)]
            raise _Mistake(
                f"'when {name}': no earlier row of this block has that name. {nearest(name, known)}"
                + (f"There are: {', '.join(row.alias for row in self.rows)}." if known else "Write its row first.")
            )
        if isinstance(row.values, Range):
            raise _Mistake(f"'when {name}': a condition needs a dimension with a list, and {name} is a range.")
        rest = rest.strip()
        wanted = _parse_values(rest if rest.startswith("[") else f"[{rest}]")
        for value in wanted:
            if not any(is_same(value, known) for known in row.values):
                raise _Mistake(f"'when {name}': {value!r} is not among its values{_list_allowed(row, value)}")
        return Condition(row.alias, tuple(wanted))

    def _read_row(self, number: int, content: str) -> Row:
        fields = content.split(None, 2)
        if len(fields) < 3:
            raise _Mistake(
                f"{len(fields)} of 3 fields: {content!r}. Write 'KEY ALIAS [VALUE, VALUE]', such as "
                "'gnn.dim_inner width [16, 32]'."
            )
        key, alias, text = fields
        if not _KEY.fullmatch(key):
            raise _Mistake(f"{key!r} is not a key. Keys look like gnn.dim_inner.")
        if key == "out_dir":
            raise _Mistake("out_dir cannot be a dimension: all runs of a grid lie in one folder.")
        self._check_depth(key)
        if not _ALIAS.fullmatch(alias):
            raise _Mistake(
                f"{alias!r} cannot be an alias, as it becomes part of names. Use letters, digits, _ and dots."
            )
        values, repeated = self._read_values(text)
        self._check_twice(key, alias, number)
        when = tuple(condition for _, _, condition in self.open if condition is not None)
        return Row(key, alias, values, number, when, repeated)

    def _check_depth(self, key: str) -> None:
        parts = key.split(".")
        if len(parts) <= 2:
            return
        if self.host is None:
            self.host = host_keys.fresh()
        node: Any = self.host
        for part in parts:
            if not isinstance(node, CfgNode) or part not in node:
                raise _Mistake(f"{key} has {len(parts)} levels, and the configuration has no such key. Most have two.")
            node = node[part]

    def _check_twice(self, key: str, alias: str, number: int) -> None:
        for row in self.rows:
            if alias == row.alias or key == row.key:
                what = f"the alias {alias!r}" if alias == row.alias else key
                raise _Mistake(
                    f"{what} is there already (line {row.line}). Put all values in one row, or start a block."
                )
        known, line = self.keys.setdefault(alias, (key, number))
        if known != key:
            raise _Mistake(
                f"the alias {alias!r} stands for {known} in line {line}, here for {key}. Take another alias."
            )
        for other, (_, line) in self.keys.items():
            if other != alias and other.lower() == alias.lower():
                raise _Mistake(
                    f"the alias {alias!r} differs from {other!r} (line {line}) in upper case only. Rename one."
                )

    def _read_values(self, text: str) -> tuple[tuple[Any, ...] | Range, int]:
        found = _RANGE.fullmatch(text)
        if found:
            span = _parse_range(*found.groups())
            if not self.ranges:
                raise _Mistake(
                    f"{text} is a range, and a grid needs a list. Write its values, such as {_suggest(span)}, or "
                    "search it with 'gkd search'."
                )
            return span, 0
        values: list[Any] = []
        given = _parse_values(text)
        for value in given:
            if not any(is_same(value, known) for known in values):
                values.append(value)
        if not values:
            raise _Mistake("the list is empty. Write at least one value.")
        return tuple(values), len(given) - len(values)


def _list_allowed(row: Row, wanted: Any) -> str:
    """What a condition may ask of a row: of its own values not those that are mistakes themselves."""
    assert not isinstance(row.values, Range)
    wrong = [value for value in row.values if find_problem_alone(row.key, value) is not None]
    sound = [str(value) for value in row.values if value not in wrong]
    if wrong and find_problem_alone(row.key, wanted) is None:
        return f", for {', '.join(map(repr, wrong))} in line {row.line} is itself invalid. Fix that first."
    return f". {nearest(str(wanted), sound)}Allowed: {', '.join(sound) or f'none, until line {row.line} is fixed'}."


def _parse_range(low: str, high: str, log: str | None) -> Range:
    first, last = (int(end) if re.fullmatch(r"[-+]?\d+", end) else float(end) for end in (low, high))
    if not first < last:
        raise _Mistake(f"the range {low}~{high} is empty. Write the smaller number first.")
    if log and first <= 0:
        raise _Mistake(f"the range {low}~{high} log has no logarithms. Begin above 0.")
    return Range(first, last, bool(log))


def _suggest(span: Range) -> str:
    low, high = span.low, span.high
    middle = (low * high) ** 0.5 if span.log else (low + high) / 2
    middle = round(middle) if isinstance(low, int) and isinstance(high, int) else float(f"{middle:.3g}")
    return f"[{low}, {middle}, {high}]" if low < middle < high else f"[{low}, {high}]"


def _parse_values(text: str) -> list[Any]:
    """A list as Python or as YAML writes it; anything else is a list of one."""
    if re.fullmatch(r'"\[.*\]"', text):  # the host's reader takes a field in quotes, so that spaces may stand in it
        text = text[1:-1].replace('""', '"')
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        try:
            found = yaml.load(text, Loader=_FlowLoader)
        except (yaml.YAMLError, ValueError, RecursionError):
            raise _Mistake(f"{text!r} is not a list of values. Write [1, 2] or [one, two].") from None
    values = list(found) if isinstance(found, (list, tuple)) else [found]
    for value in _list_leaves(values):
        if not isinstance(value, (type(None), bool, int, float, str)):
            raise _Mistake(
                f"{text!r} holds a {type(value).__name__}. Allowed: numbers, words, true, false, None, lists."
            )
    return values


def _list_leaves(values: list[Any] | tuple[Any, ...]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from _list_leaves(value)
        else:
            yield value
