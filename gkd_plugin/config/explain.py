"""What a configuration means, readable in a terminal and a notebook."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from gkd_plugin.config import kd_keys
from gkd_plugin.config.formula import Formula, write_formula
from gkd_plugin.config.load import Config
from gkd_plugin.groups import DEFAULT, YOU
from gkd_plugin.plan import Plan
from gkd_plugin.printing import Printable
from gkd_plugin.schema import show
from gkd_plugin.space import axes
from gkd_plugin.space.sources import stand_ins

_WIDE = 80  # columns of a terminal in which all groups have their columns below each other
UPDATES = {
    "epoch_alternate": "one after the other, each for a whole epoch",
    "step_alternate": "one after the other in every step",
    "joint": "all at once; every target is read before any step",
}
PREDICTS = {"best": "the best student by validation", "first": "student 1", "ensemble": "the mean of all probabilities"}


@dataclass(frozen=True, repr=False)
class Explanation(Printable):
    """A plan with its loss as a formula and every key with its value and its origin.

    Args:
        name (str): The configuration's name.
        plan (Plan): The resolved plan.
        loss (Formula): Its loss.
    """

    name: str
    plan: Plan
    loss: Formula

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self._write_head()
        yield ""
        yield Padding(self._make_formula(), (0, 0, 1, 2))
        yield Padding(self._make_symbols(), (0, 0, 1, 2))
        for group, keys in kd_keys.groups().items():
            rows = list(self._list_rows(group, keys))
            if rows:
                yield Padding(self._make_table(group, rows, options.max_width >= _WIDE), (0, 0, 1, 0))
        yield from self._write_foot()

    # -------------------------------------------------------------------------------------------------------- head
    def _write_head(self) -> Iterator[str]:
        preset, students = self.plan["preset"], self.plan.students
        title = f"[bold]{escape(self.name)}[/]"
        if preset != "none":
            answer = axes.presets[preset]
            title += f"  preset [cyan]{preset}[/]: {escape(answer.summary)} [dim]({escape(answer.reference)})[/]"
        yield title
        if students == 1:
            yield "1 student" + ("" if self.plan.active else ", labels only: nothing is distilled")
        else:
            alike = f"the others {', '.join(self.plan['cohort'])}" if self.plan["cohort"] else "of one architecture"
            begin = ", copies of the first" if self.plan["init"] == "same" else ""
            yield f"{students} students, {alike}{begin}, trained {UPDATES[self.plan['update']]}"
        if students > 1 or self.plan["predict"] in stand_ins():
            yield f"prediction: {self._describe_predict()}"
        if self.plan["shuffle_sources"]:
            yield "a placebo: each item is taught by what the sources say of another item (kd.shuffle_sources)"

    def _describe_predict(self) -> str:
        word = self.plan["predict"]
        return PREDICTS.get(word) or f"the best student by validation, each with its {word} in its place"

    def _make_formula(self) -> Table:
        grid = Table.grid(padding=(0, 1))
        grid.add_column(style="bold")
        grid.add_column()
        grid.add_column(overflow="fold")
        for number, part in enumerate(self.loss.parts):
            grid.add_row(self.loss.left if number == 0 else "", "+" if number else "=", escape(part))
        return grid

    def _make_symbols(self) -> Table:
        grid = Table.grid(padding=(0, 2))
        grid.add_column(no_wrap=True, style="dim")
        grid.add_column(overflow="fold", style="dim")
        for symbol, meaning in self.loss.symbols:
            grid.add_row(escape(symbol), escape(meaning))
        return grid

    # -------------------------------------------------------------------------------------------------------- keys
    def _list_rows(self, group: str, keys: tuple[Any, ...]) -> Iterator[tuple[str, str, str, str]]:
        values = self._find_values(group)
        meanings = {key.name: key.meaning for key in keys}
        for key, value in values.items():
            settled = self.plan.origins.get(f"{group}.{key}", DEFAULT)
            by_task = value is None and meanings.get(key, "").startswith("by task")
            yield key, "by task" if by_task else show(value), settled, meanings.get(key, "")

    def _find_values(self, group: str) -> Mapping[str, Any]:
        """The keys of a group that the user or a preset mentions; those of ``kd`` always."""
        if group == kd_keys.SCHEME:
            return self.plan.kd
        named = {f"kd_{part.name}": part.values for part in self.plan.groups.values() if part.named}
        maps = {f"kd_{name}": values for name, values in self.plan.used_maps.items()}
        return named.get(group) or maps.get(group) or {}

    def _make_table(self, group: str, rows: list[tuple[str, str, str, str]], aligned: bool) -> Table:
        found = self.plan.groups.get(group.removeprefix("kd_"))
        off = found is not None and found.weight == 0
        grid = Table(box=None, pad_edge=False, padding=(0, 1), title=group + (" (off)" if off else ""))
        grid.title_justify, grid.title_style, grid.show_header = "left", "bold", False
        for number, width in enumerate((17, 17, 20)):
            grid.add_column(min_width=width if aligned else None, overflow="fold", no_wrap=number == 0)
        grid.add_column(style="dim", overflow="fold")
        for key, value, origin, meaning in rows:
            style = {YOU: "bold green", DEFAULT: "dim"}.get(origin, "cyan")
            grid.add_row(f"  {key}", escape(value), f"[{style}]{escape(origin)}[/]", escape(meaning))
        return grid

    def _write_foot(self) -> Iterator[str]:
        unused = [f"kd_{group.name}" for group in self.plan.groups.values() if not group.named]
        if unused:
            yield f"[dim]not used: {', '.join(unused)}[/]"
        for warning in self.plan.warnings:
            yield f"[yellow]warning:[/] {escape(warning)}"


def make_explanation(config: Config) -> Explanation:
    """The explanation of a checked configuration."""
    return Explanation(config.name, config.plan, write_formula(config.plan, config.cfg))
