"""A report as Markdown, its figures as files beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gkd_plugin.study.report.parts import Picture, Report, Table


def write_markdown(report: Report, folder: str = "figures") -> str:
    """The text of the file.

    Args:
        report (Report): What it says.
        folder (str): Where its figures lie, as seen from the file.
    """
    return "\n".join(_list_lines(report, folder)).rstrip() + "\n"


def escape(text: str) -> str:
    """Text that Markdown shows as it is, in a table's cell too."""
    return re.sub(r"([\\`*_\[\]<>|#~$])", r"\\\1", text).replace("\n", " ")


def _list_lines(report: Report, folder: str) -> Iterator[str]:
    yield f"# {escape(report.title)}\n"
    yield f"{escape(report.subtitle)}\n"
    first, *rest = [escape(sentence) for sentence in report.verdict]
    yield f"{' '.join([f'**{first}**', *rest])}\n"
    if report.points:
        yield "\n".join(f"- {escape(line)}" for line in report.points) + "\n"
    yield "| | |\n| --- | --- |"
    yield "\n".join(f"| {escape(name)} | {escape(value)} |" for name, value in report.facts) + "\n"
    for section in report.sections:
        yield f"## {escape(section.title)}\n"
        if section.text:
            yield f"{escape(section.text)}\n"
        for part in section.parts:
            yield f"### {escape(part.title)}\n"
            if isinstance(part, Picture):
                yield f"![{escape(part.title)}]({folder}/{part.name}.svg)\n\n{escape(part.caption)}\n"
            elif isinstance(part, Table):
                yield f"{escape(part.caption)}\n"
                yield from _list_rows(part)
            else:
                longest = max((len(ticks) for ticks in re.findall(r"`+", part.text)), default=0)
                fence = "`" * max(3, longest + 1)
                yield f"{fence}text\n{part.text.rstrip()}\n{fence}\n"
    yield escape(report.made)


def _list_rows(table: Table) -> Iterator[str]:
    yield f"| {' | '.join(map(escape, table.columns))} |"
    yield f"| {' | '.join('---:' if numeric else '---' for numeric in table.numeric)} |"
    for number, row in enumerate(table.rows):
        cells = [escape(cell.text) for cell in row]
        yield f"| {' | '.join(f'**{cell}**' if number in table.strong and cell else cell for cell in cells)} |"
    yield ""
