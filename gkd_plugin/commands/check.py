"""``gkd check``: every mistake in configurations, without training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape

from gkd_plugin.config.load import Config, Source, read_config
from gkd_plugin.errors import Problem, UserError
from gkd_plugin.printing import Printable
from gkd_plugin.schema import show


@dataclass(frozen=True)
class Checked:
    """One configuration.

    Args:
        name (str): Its file, or ``config``.
        config (Config, optional): The configuration, where nothing is wrong.
        error (UserError, optional): What is wrong.
    """

    name: str
    config: Config | None
    error: UserError | None = None

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The mistakes one by one (none for a file that cannot be read: see ``error``)."""
        return getattr(self.error, "problems", ())

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is legal, but probably a mistake."""
        return self.config.plan.warnings if self.config is not None else ()


class Checks(Printable, list[Checked]):
    """The result of ``gkd check``: one entry for each configuration; prints as text."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong anywhere."""
        return all(checked.error is None for checked in self)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for checked in self:
            if checked.config is None:
                yield f"[bold red]wrong[/]  {escape(checked.name)}"
                lines = [str(problem) for problem in checked.problems] or [str(checked.error)]
                yield from (f"       {escape(line)}" for line in lines)
            else:
                yield f"[bold green]ok[/]     {escape(checked.name)}  {escape(_summarize(checked.config))}"
                yield from (f"       [yellow]warning:[/] {escape(warning)}" for warning in checked.warnings)


def _summarize(config: Config) -> str:
    plan = config.plan
    terms = [f"{show(group.weight)} {group.name}" for group in plan.active]
    students = f"{plan.students} student{'s' if plan.students > 1 else ''}"
    preset = "" if plan["preset"] == "none" else f"{plan['preset']}, "
    return f"({preset}{students}, {' + '.join(['labels', *terms] if plan['label_weight'] else terms)})"


def check(sources: Sequence[Source] | Source, overrides: Sequence[Any] = ()) -> Checks:
    """Checks configurations: the host's keys, ours, and the files they name. Nothing is raised and nothing trained.

    Args:
        sources (sequence): GraphGym YAMLs, or nested values; a single one will do.
        overrides (sequence): ``key value`` pairs for all of them.
    """
    several = isinstance(sources, (list, tuple))
    return Checks(_check(source, overrides) for source in (sources if several else [sources]))  # type: ignore[arg-type, union-attr]


def _check(source: Source, overrides: Sequence[Any]) -> Checked:
    name = source.name if isinstance(source, Config) else "config" if isinstance(source, dict) else str(source)
    try:
        return Checked(name, read_config(source, overrides))
    except UserError as error:
        return Checked(name, None, error)
