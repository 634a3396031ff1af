"""``gkd reproduce``: runs a recipe as studies, and sets what came out beside what was printed."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.table import Table

from gkd_plugin.config.load import read_values
from gkd_plugin.errors import UserError, nearest
from gkd_plugin.papers.compare import Compared, compare_study, require_rows
from gkd_plugin.papers.page import make_page
from gkd_plugin.papers.recipe import FILE, Recipe, RecipeStudy, find_recipe, flatten, list_papers, read_recipe
from gkd_plugin.printing import Printable
from gkd_plugin.study.estimate import DryRun
from gkd_plugin.study.execute import Resources
from gkd_plugin.study.extras import require_extras
from gkd_plugin.study.grid import run_grid
from gkd_plugin.study.ledger import Entry
from gkd_plugin.study.outcome import Outcome
from gkd_plugin.study.records import STUDY, SUFFIX, read_study
from gkd_plugin.study.report import parts
from gkd_plugin.study.report.markdown import write_markdown
from gkd_plugin.study.report.page import write_page
from gkd_plugin.study.study import find_out_dir
from gkd_plugin.training.provenance import describe_versions, find_commit, find_versions
from gkd_plugin.training.run_folder import write_text

QUICK, _CONFIGS = "quick", "configs"


@dataclass(frozen=True, repr=False)
class Papers(Printable):
    """The papers that there are recipes for.

    Args:
        recipes (tuple of Recipe): Their recipes.
    """

    recipes: tuple[Recipe, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for recipe in self.recipes:
            yield f"[bold]{recipe.name}[/]  {escape(recipe.claim)}"
            yield f"  {escape(', '.join(study.name for study in recipe.studies))}"
        yield "gkd reproduce PAPER --quick shows in minutes that a recipe runs; without --quick it trains in full."


@dataclass(frozen=True, repr=False)
class Reproduction(Printable):
    """What ``gkd reproduce`` returns.

    Args:
        recipe (Recipe): The recipe.
        compared (tuple of Compared): Its studies that were run.
        skipped (dict): Why others were not, by name.
        failed (dict): The runs that failed, by the study's name.
        report (Report): All of it, as a page.
        page, markdown (Path): Where the page lies.
    """

    recipe: Recipe
    compared: tuple[Compared, ...]
    skipped: dict[str, str]
    failed: dict[str, list[Entry]]
    report: parts.Report
    page: Path
    markdown: Path

    @property
    def complete(self) -> bool:
        """Whether everything that was asked for was run."""
        return not self.failed and not self.skipped

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield f"[bold]{escape(self.recipe.title)}[/]"
        yield escape(self.recipe.claim)
        for section in self.report.sections:
            yield ""
            yield f"[bold]{escape(section.title)}[/]"
            for part in section.parts:
                if isinstance(part, parts.Table):
                    yield _show_table(part)
            if section.text:
                yield escape(section.text)
        yield ""
        yield escape(" ".join(self.report.verdict))
        for name, why in self.skipped.items():
            yield f"[yellow]not run:[/] {escape(name)}: {escape(why)}"
        for name, entries in self.failed.items():
            count = parts.format_count(len(entries), "run")
            yield f"[red]failed:[/] {escape(name)}: {count}, such as {escape(entries[0].name)}: {escape(str(entries[0].reason))}"
        yield f"page: {escape(str(self.page))}"
        yield f"Markdown: {escape(str(self.markdown))}"


@dataclass(frozen=True, repr=False)
class Estimates(Printable):
    """What ``gkd reproduce --dry-run`` returns.

    Args:
        estimates (dict): What each study would take, by its name.
        skipped (dict): Why others would not run, by name.
    """

    estimates: dict[str, DryRun]
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether everything that was asked for could be checked."""
        return not self.skipped

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self.estimates.values()
        for name, why in self.skipped.items():
            yield f"[yellow]not run:[/] {escape(name)}: {escape(why)}"
        known = [estimate.seconds for estimate in self.estimates.values() if estimate.seconds is not None]
        if known:
            missing = len(self.estimates) - len(known)
            without = f" and {parts.format_count(missing, 'study', 'studies')} of unknown time" if missing else ""
            yield f"in all about {parts.format_time(sum(known))}, without teachers{without}"


def list_recipes() -> Papers:
    """The recipes that come with the package."""
    return Papers(tuple(read_recipe(folder) for folder in list_papers().values()))


def reproduce(
    paper: str,
    *,
    quick: bool = False,
    only: Sequence[str] = (),
    repeat: int | None = None,
    overrides: Sequence[Any] = (),
    resources: Resources | None = None,
    retry_failed: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    command: str = "",
) -> Reproduction | Estimates:
    """Runs the studies of a recipe; the same call continues.

    Args:
        paper (str): The name of a paper, or a folder with a ``recipe.yaml``.
        quick (bool): Few seeds and epochs, in a folder of their own.
        only (sequence of str): The studies that are run. (default: all)
        repeat (int, optional): Seeds of each configuration. (default: as the recipe says)
        overrides (sequence): ``key value`` pairs for every base, such as ``dataset.dir``.
        resources (Resources, optional): Where and how runs are trained.
        retry_failed (bool): Runs again what failed before.
        dry_run (bool): Only checks every configuration and estimates the time.
        quiet (bool): Shows no progress.
        command (str): The command line, for the record.

    Raises:
        UserError: If there is no such paper or study, a mistake is found, or no study can be run.
    """
    recipe = find_recipe(paper)
    require_extras()
    studies = _choose(recipe, only)
    for study in recipe.studies:
        require_rows(study)
    out_dir = _find_out_dir(recipe, studies, overrides, quick)
    if quick:
        recipe = _shorten(recipe, out_dir)
        studies = _choose(recipe, only)
    skipped: dict[str, str] = {}
    found: dict[str, Outcome | DryRun] = {}
    errors: list[UserError] = []
    for study in studies:
        if study.needs and find_spec(study.needs) is None:
            skipped[study.name] = f"its data need the package {study.needs}: pip install {study.needs}"
            continue
        if not quiet:
            Console(stderr=True, highlight=False).print(f"[bold]{recipe.name}[/]: {study.name}")
        try:
            found[study.name] = run_grid(
                study.config,
                study.grid,
                overrides=[*study.pairs, *overrides, "out_dir", str(out_dir)],
                name=study.name,
                repeat=repeat or study.seeds,
                resources=resources,
                placebo=study.placebo,
                retry_failed=retry_failed,
                dry_run=dry_run,
                quiet=quiet,
                command=command,
            )
        except UserError as error:  # its data may be missing, and those of other studies there
            errors.append(error)
            skipped[study.name] = str(error)
    if errors and not found:
        raise errors[0]
    if dry_run:
        return Estimates({name: each for name, each in found.items() if isinstance(each, DryRun)}, skipped)
    outcomes = {name: each for name, each in found.items() if isinstance(each, Outcome)}
    homes = {study.name: out_dir / f"{study.name}{SUFFIX}" for study in recipe.studies}
    # those of earlier calls too: one study more must not take the others from the page
    there = [study for study in recipe.studies if (homes[study.name] / STUDY).is_file()]
    compared = tuple(compare_study(study, read_study(homes[study.name])) for study in there)
    report = make_page(recipe, compared, skipped, quick, _describe_origin(command))
    page = out_dir / f"{recipe.name}.html"
    markdown = page.with_suffix(".md")
    write_text(markdown, write_markdown(report))
    write_text(page, write_page(report))
    failed = {name: outcome.failed for name, outcome in outcomes.items() if outcome.failed}
    return Reproduction(recipe, compared, skipped, failed, report, page, markdown)


def _choose(recipe: Recipe, only: Sequence[str]) -> list[RecipeStudy]:
    names = [study.name for study in recipe.studies]
    for name in only:
        if name not in names:
            raise UserError(
                f"--only {name}: {recipe.name} has no such study. {nearest(name, names)}It has {', '.join(names)}."
            )
    return [study for study in recipe.studies if not only or study.name in only]


def _shorten(recipe: Recipe, out_dir: Path) -> Recipe:
    """The recipe over copies of its files with its quick keys in them, teachers' files too."""
    folder = out_dir / _CONFIGS
    results = out_dir.parent.resolve()  # may lie in the recipe's folder
    for path in recipe.folder.rglob("*.yaml"):
        if path.name != FILE and not path.resolve().is_relative_to(results):
            values = read_values(path, flatten(recipe.quick_overrides))
            write_text(folder / path.relative_to(recipe.folder), yaml.safe_dump(values, sort_keys=False))
    return replace(
        recipe,
        studies=tuple(
            replace(
                study,
                config=folder / study.config.relative_to(recipe.folder),
                seeds=recipe.quick_seeds,
                overrides={key: value for key, value in study.overrides.items() if key not in recipe.quick_overrides},
            )
            for study in recipe.studies
        ),
    )


def _find_out_dir(recipe: Recipe, studies: Sequence[RecipeStudy], overrides: Sequence[Any], quick: bool) -> Path:
    """The folder of the paper's studies; quick runs have their own, for teachers are shortened too."""
    found = {find_out_dir(read_values(study.config, overrides)) for study in studies}
    if len(found) > 1:
        places = ", ".join(sorted(map(str, found)))
        raise UserError(f"{recipe.name}: its files name {len(found)} places ({places}) as out_dir. Name one.")
    folder = found.pop()
    return folder / QUICK if quick else folder


def _describe_origin(command: str) -> str:
    now = datetime.datetime.now().strftime("%Y-%m-%d %H:%M")
    commit = find_commit(Path(__file__).parent)
    return (
        f"This page: {command or 'gkd_plugin.papers.reproduce'}; {now}; {describe_versions(find_versions())}"
        f"{f'; commit {commit}' if commit else ''}."
    )


def _show_table(table: parts.Table) -> Table:
    shown = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for head, numeric in zip(table.columns, table.numeric, strict=True):
        shown.add_column(escape(head), justify="right" if numeric else "left", overflow="fold")
    for row in table.rows:
        shown.add_row(*(escape(cell.text) for cell in row))
    return shown
