"""`gkd report`: where it writes, what it prints, what it refuses; the Markdown version."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

import gkd_cli
from gkd_plugin.study.report import markdown
from tests.study.report.made_studies import write_run, write_study
from tests.study.report.reading import Page

POINTS = {
    "plain": ({"preset": "supervised"}, None, [0.5, 0.51, 0.52]),
    "kd|x": ({"preset": "a|b<script>_*"}, "plain", [0.6, 0.615, 0.62]),
}


def gkd(*words: str) -> Result:
    return CliRunner().invoke(gkd_cli.main, ["report", *words])


def test_it_prints_the_verdict_and_the_places(tmp_path: Path) -> None:
    home = write_study(tmp_path, POINTS)
    for name in (home, tmp_path / "made"):
        done = gkd(str(name))
        assert done.exit_code == 0, done.output
        lines = done.output.splitlines()
        assert lines[0].startswith("1 of 1 KD design is better than the control.")
        assert lines[-2:] == [f"page: {home / 'report.html'}", f"Markdown: {home / 'report.md'}"]
    assert Page((home / "report.html").read_text()).tables
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["kd|x", "plain"], "nothing beside the runs"


def test_markdown_has_the_verdict_the_tables_and_figures_as_files(tmp_path: Path) -> None:
    home = write_study(tmp_path, POINTS)
    gkd(str(home))
    text = (home / "report.md").read_text()
    assert "**1 of 1 KD design is better than the control.**" in text
    assert r"a\|b\<script\>\_\*" in text and "<script>" not in text
    figures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
    assert figures and sorted(figures) == sorted(f"figures/{path.name}" for path in (home / "figures").iterdir())
    for name in figures:
        picture = ElementTree.parse(home / name).getroot()
        assert picture.tag == "{http://www.w3.org/2000/svg}svg"
        assert "var(" not in (home / name).read_text(), "a file of its own has no page around it"
    tables = re.findall(r"(?:^\|.*\|$\n)+", text, re.MULTILINE)
    for table in tables:
        cells = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(cells) == 1, table


def test_text_of_a_file_cannot_end_its_fence() -> None:
    from gkd_plugin.study.report.parts import Report, Section, Text

    report = Report("t", "s", ["v"], sections=[Section("f", "Files", parts=[Text("x", "x", "a\n```\nb")])])
    assert "````text\na\n```\nb\n````" in markdown.write_markdown(report)


def test_out_names_the_page_and_its_figures(tmp_path: Path) -> None:
    home = write_study(tmp_path, POINTS)
    done = gkd(str(home), "--out", str(tmp_path / "pages" / "mine.html"))
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in (tmp_path / "pages").iterdir()) == ["mine.html", "mine.md", "mine_figures"]
    assert "](mine_figures/" in (tmp_path / "pages" / "mine.md").read_text()


def test_figures_of_an_earlier_report_go(tmp_path: Path) -> None:
    home = write_study(tmp_path, POINTS)
    (home / "figures").mkdir()
    (home / "figures" / "pair-9.svg").write_text("<svg/>")
    (home / "figures" / "mine.png").write_text("")
    gkd(str(home))
    assert not (home / "figures" / "pair-9.svg").exists() and (home / "figures" / "mine.png").exists()


@pytest.mark.parametrize("out", [".", "page.pdf"])
def test_a_place_that_is_no_page_is_refused(tmp_path: Path, out: str) -> None:
    home = write_study(tmp_path, POINTS)
    done = gkd(str(home), "--out", str(tmp_path / out))
    assert done.exit_code == 2 and "is not the name of an HTML file" in done.output
    assert not (home / "tables").exists()


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    for name in (tmp_path, tmp_path / "nowhere"):
        done = gkd(str(name))
        assert done.exit_code == 2 and str(name) in done.output, done.output


def test_a_page_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [0.5])
    (tmp_path / "file").write_text("")
    done = gkd(str(folder), "--out", str(tmp_path / "file" / "page.html"))
    assert done.exit_code == 2 and f"{tmp_path / 'file'}" in done.output and "--out" in done.output
    home = write_study(tmp_path, POINTS)
    for place in ("/proc/x/y.html", "/proc/y.html"):
        done = gkd(str(home), "--out", place)
        assert done.exit_code == 2 and done.output.count("\n") == 1 and place in done.output
    assert not (home / "tables").exists(), "refused before the work"


def test_a_damaged_study_file_is_said_on_the_terminal_and_in_the_first_paragraph(tmp_path: Path) -> None:
    home = write_study(tmp_path, POINTS)
    (home / "study.json").write_text("{")
    done = gkd(str(home))
    said = f"{home / 'study.json'} is damaged (it is incomplete JSON)"
    assert done.output.startswith("No design is compared here: the study's file cannot be read.")
    assert said in done.output.splitlines()[0] and said in Page((home / "report.html").read_text()).text
    assert "no finished control" not in done.output


def test_it_opens_a_browser_only_where_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    folder = write_run(tmp_path / "run", [0.5])
    gkd(str(folder))
    assert opened == []
    gkd(str(folder), "--open")
    assert opened == [(folder / "report.html").as_uri()]
