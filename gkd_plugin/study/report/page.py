"""A report as one HTML file that needs no network; everything that a user named is escaped."""

from __future__ import annotations

from importlib.resources import files

from gkd_plugin.study.extras import load_extra
from gkd_plugin.study.report.parts import Report

TEMPLATE = "page.html.j2"


def write_page(report: Report) -> str:
    """The text of the page.

    Args:
        report (Report): What it says.

    Raises:
        UserError: If Jinja is not installed.
    """
    jinja2 = load_extra("jinja2")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.ChainableUndefined, trim_blocks=True)
    template = environment.from_string(files(__package__).joinpath(TEMPLATE).read_text(encoding="utf-8"))
    return str(template.render(report=report))
