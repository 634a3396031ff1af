"""``gkd report``: writes the page, the Markdown version and the tables, and says what they show."""

from __future__ import annotations

import datetime
import tempfile
import webbrowser
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape

from gkd_plugin.errors import UserError
from gkd_plugin.printing import Printable
from gkd_plugin.study.records import StudyResults, read_study
from gkd_plugin.study.report.markdown import write_markdown
from gkd_plugin.study.report.page import write_page
from gkd_plugin.study.report.parts import Picture, Report
from gkd_plugin.study.report.run_page import make_run_report
from gkd_plugin.study.report.study_page import make_study_report
from gkd_plugin.study.report.svg import write_file
from gkd_plugin.study.table_files import find_output, make_tables, write_tables
from gkd_plugin.training.run_folder import write_text

if TYPE_CHECKING:
    import pandas as pd

PAGE, FIGURES = "report.html", "figures"


@dataclass(frozen=True, repr=False)
class Written(Printable):
    """What ``gkd report`` wrote.

    Args:
        report (Report): What it says.
        page (Path): The HTML page.
        markdown (Path): The Markdown version.
    """

    report: Report
    page: Path
    markdown: Path

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield escape(" ".join(self.report.verdict))
        for line in self.report.points:
            yield f"  {escape(line)}"
        yield f"page: {escape(str(self.page))}"
        yield f"Markdown: {escape(str(self.markdown))}"


def write_report(folder: str | Path, out: str | Path | None = None, open_page: bool = False) -> Written:
    """Writes the report of a study, of a folder of runs, or of one run.

    Args:
        folder (str or Path): The folder; see :func:`~gkd_plugin.study.records.read_study`.
        out (str or Path, optional): The HTML file; the Markdown version and the figures lie beside it.
            (default: ``report.html`` in ``<study>.gkd``, or in the folder of one run)
        open_page (bool): Also opens the page in a browser.

    Returns:
        Written: Prints as the verdict and the places of the files.

    Raises:
        UserError: If there are no runs, a package is missing, or the files cannot be written.
    """
    results = read_study(folder)
    page = _choose_page(results, out)
    tables = make_tables(results)
    write_tables(results, made=tables)
    report = make_report(results, tables)
    markdown = page.with_suffix(".md")
    figures = FIGURES if out is None else f"{page.stem}_{FIGURES}"
    pictures = [part for section in report.sections for part in section.parts if isinstance(part, Picture)]
    try:
        _write_figures(page.parent / figures, pictures)
        write_text(markdown, write_markdown(report, figures))
        write_text(page, write_page(report))
    except OSError as error:
        raise UserError(_refuse(page, error)) from None
    if open_page:
        webbrowser.open(page.resolve().as_uri())
    return Written(report, page, markdown)


def _write_figures(folder: Path, pictures: Sequence[Picture]) -> None:
    """Every figure as a file; those of an earlier report that are drawn no more go."""
    drawn = {f"{picture.name}.svg": write_file(picture.svg) for picture in pictures}
    for name, text in drawn.items():
        write_text(folder / name, text)
    for path in folder.glob("*.svg"):
        if path.name not in drawn:
            path.unlink()


def make_report(results: StudyResults, tables: Mapping[str, pd.DataFrame]) -> Report:
    """What there is to say of a study, a folder of runs, or one run.

    Args:
        results (StudyResults): What was read.
        tables (mapping): Its tables.
    """
    now = datetime.datetime.now().strftime("%Y-%m-%d %H:%M")
    try:
        ours = version("gkd_plugin")
    except PackageNotFoundError:
        ours = "-"
    made = f"Written by gkd_plugin {ours}, {now}."
    return make_run_report(results, made) if results.kind == "run" else make_study_report(results, tables, made)


def _choose_page(results: StudyResults, out: str | Path | None) -> Path:
    """Where the page goes: never beside the run folders, where the host's aggregation would stumble over it."""
    if out is not None:
        page = Path(out).expanduser()
        if page.is_dir() or page.suffix not in (".html", ".htm"):
            raise UserError(f"--out: {page} is not the name of an HTML file. Name one, such as {page / PAGE}.")
        try:
            page.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=page.parent):  # before the work, not after it
                pass
        except OSError as error:
            raise UserError(_refuse(page, error)) from None
        return page
    return find_output(results) / PAGE


def _refuse(page: Path, error: OSError) -> str:
    return (
        f"{page}: {error.strerror}. The report cannot be written there. Free space, get the permission, or name another "
        "place with --out."
    )
