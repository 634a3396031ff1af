"""``gkd check``: every mistake in configurations and all that a run would refuse at its start, without training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape

from gkd_plugin.commands.start import find_run_folder, require_data, require_name, require_teachers
from gkd_plugin.config.load import Config, Source, read_config
from gkd_plugin.data.samplers import find_uncertain_samplers
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
        found (tuple of str): Warnings about the data.
    """

    name: str
    config: Config | None
    error: UserError | None = None
    found: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The mistakes one by one (none for a file that cannot be read: see ``error``)."""
        return getattr(self.error, "problems", ())

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is legal, but probably a mistake."""
        return (*self.config.plan.warnings, *self.found) if self.config is not None else ()


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


def check(sources: Sequence[Source] | Source, overrides: Sequence[Any] = (), *, data: bool = False) -> Checks:
    """Checks configurations: the host's keys, ours, the files they name, and the teachers. Nothing is raised or trained.

    Args:
        sources (sequence): GraphGym YAMLs, or nested values; a single one will do. A teacher that one of them trains need
            not be there for the others.
        overrides (sequence): ``key value`` pairs for all of them.
        data (bool): Also loads the data, and looks at splits, labels and classes.
    """
    several = sources if isinstance(sources, (list, tuple)) else [sources]
    read = [_read(source, overrides) for source in several]  # type: ignore[arg-type]
    planned = {find_run_folder(checked.config) for checked in read if checked.config is not None}
    return Checks(_check_start(checked, planned, data) for checked in read)


def _read(source: Source, overrides: Sequence[Any]) -> Checked:
    name = source.name if isinstance(source, Config) else "config" if isinstance(source, dict) else str(source)
    try:
        return Checked(name, read_config(source, overrides))
    except UserError as error:
        return Checked(name, None, error)


def _check_start(checked: Checked, planned: set[Path], data: bool) -> Checked:
    """What a run of this configuration would refuse at its start."""
    config = checked.config
    if config is None:
        return checked
    try:
        require_name(Path(config.cfg.out_dir), config.name)
        require_teachers(config, planned - {find_run_folder(config)})
        found = require_data(config) if data else find_uncertain_samplers(config.cfg)
        return replace(checked, found=tuple(found))
    except UserError as error:
        return replace(checked, config=None, error=error)
