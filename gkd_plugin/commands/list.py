"""``gkd list``: the answers to each question of the design space, and the keys of each group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from gkd_plugin.config import kd_keys
from gkd_plugin.errors import UserError, nearest
from gkd_plugin.printing import Printable
from gkd_plugin.schema import Key, show
from gkd_plugin.space import axes
from gkd_plugin.space.axes import Axis

OURS = "gkd_plugin"


@dataclass(frozen=True)
class Row:
    """One answer of an axis, or one key of a group.

    Args:
        section (str): The axis or the group.
        name (str): The answer or the key.
        meaning (str): One line.
        source (str): The publication and, for third-party answers, the plugin; for keys, values and default.
    """

    section: str
    name: str
    meaning: str
    source: str


@dataclass(frozen=True, repr=False)
class Listing(Printable):
    """What ``gkd list`` shows; ``rows`` for programs, text for people.

    Args:
        sections (tuple): Name, question and rows of each axis or group.
    """

    sections: tuple[tuple[str, str, tuple[Row, ...]], ...]

    @property
    def rows(self) -> tuple[Row, ...]:
        """All rows."""
        return tuple(row for _, _, rows in self.sections for row in rows)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = max(len(row.name) for row in self.rows)
        for number, (name, question, rows) in enumerate(self.sections):
            if number:
                yield ""
            yield f"[bold]{name}[/]  {escape(question)}"
            grid = Table.grid(padding=(0, 2))
            grid.add_column(min_width=width, style="cyan", no_wrap=True)
            grid.add_column(overflow="fold")
            grid.add_column(overflow="fold", style="dim")
            for row in rows:
                grid.add_row(escape(row.name), escape(row.meaning), escape(row.source))
            yield Padding(grid, (0, 0, 0, 2))


def list_answers(axis: str | None = None) -> Listing:
    """The registered answers, third-party ones included.

    Args:
        axis (str, optional): One axis (``kernels``, also ``kernel``) or the keys of one group (``kd_structure``).
            (default: all axes)

    Raises:
        UserError: If there is no such axis or group.
    """
    known: dict[str, Axis[Any]] = {each.name: each for each in axes.ALL}
    groups = kd_keys.groups()
    if axis is None:
        return Listing(tuple(_list_axis(each) for each in axes.ALL))
    for word in (axis, f"{axis}s"):
        if word in known:
            return Listing((_list_axis(known[word]),))
    if axis in groups:
        return Listing((_list_group(axis, groups[axis]),))
    names = [*known, *groups]
    raise UserError(
        f"'{axis}' is neither an axis nor a group of keys. {nearest(axis, names)}Allowed: {', '.join(names)}."
    )


def _list_axis(axis: Axis[Any]) -> tuple[str, str, tuple[Row, ...]]:
    rows = []
    for name in axis:
        answer, origin = axis[name], axis.origin(name)
        plugin = "" if origin == OURS else f"  [plugin {origin}]"
        rows.append(Row(axis.name, name, answer.summary, f"{answer.reference}{plugin}"))
    more = "  (keys: gkd list kd_<name>)" if axis is axes.knowledge else ""
    return axis.name, f"{axis.question}{more}", tuple(rows)


def _list_group(group: str, keys: tuple[Key, ...]) -> tuple[str, str, tuple[Row, ...]]:
    rows = tuple(Row(group, key.name, key.meaning, f"{key.kind.describe()}{_show_default(key)}") for key in keys)
    return group, "its keys with their values and defaults", rows


def _show_default(key: Key) -> str:
    return "" if key.default is None else f" (default: {show(key.default)})"
