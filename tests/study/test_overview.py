"""``gkd_plugin.report``: what a notebook shows."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import gkd_plugin
from gkd_plugin.errors import UserError
from gkd_plugin.study import overview
from gkd_plugin.study.tables import compare, summarise
from tests.study.folders import write_run, write_study


@pytest.fixture
def study(tmp_path: Path) -> Path:
    points = [
        {"name": "<b>&$x$", "choices": {"width": 8}, "control": "c"},
        {"name": "p", "choices": {"width": 16}, "control": "c"},
        {"name": "none yet", "choices": {"width": 32}, "control": "c"},
        {"name": "c", "role": "control"},
    ]
    folder = write_study(tmp_path / "s", points, {"width": "gnn.dim_inner"})
    write_run(tmp_path / "s" / "<b>&$x$", {1: (0.5, 0.6), 2: (0.6, 0.7), 3: (0.6, 0.72)})
    write_run(tmp_path / "s" / "p", {1: (0.7, 0.4)})
    write_run(folder / "controls" / "c", {1: (0.5, 0.5), 2: (0.5, 0.5), 3: (0.5, 0.5)})
    return folder


def test_the_frames_are_the_tables(study: Path) -> None:
    report = gkd_plugin.report(study)
    assert report.runs.equals(summarise(report.results)) and report.comparison.equals(compare(report.results))
    assert report.ranks["value"].tolist() == ["8", "16"]
    assert len(report.pareto) == 2 and len(report.selected) == 1 and report.interactions.empty
    assert report.runs is report.runs  # computed once
    assert gkd_plugin.report(study, answer="best").answer == "best"


def test_it_is_short_as_text(study: Path) -> None:
    assert repr(gkd_plugin.report(study)) == "<report of s: 4 points, 3 compared with a control>"
    assert repr(gkd_plugin.report(study.with_name("s") / "p")) == "<report of p: 1 point>"
    (study.with_name("s") / "p" / "0" / "result.json").write_text("{")
    assert repr(gkd_plugin.report(study)) == "<report of s: 4 points, 3 compared with a control, 1 failure>"


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_a_notebook_shows_a_figure_and_the_comparison(study: Path) -> None:
    page = Tags(gkd_plugin.report(study)._repr_html_())
    assert "b" not in page.tags and "<b>&$x$" in page.text  # a name is text
    (link,) = page.links
    assert base64.b64decode(re.sub("^data:image/png;base64,", "", link)).startswith(b"\x89PNG")


def test_the_figure_has_the_differences_in_points_of_the_metric(study: Path) -> None:
    report = gkd_plugin.report(study)
    (axis,) = report.figure.axes
    drawn = axis.lines[0].get_xdata()
    assert list(drawn) == pytest.approx([-10.0, 100 * (2.02 / 3 - 0.5)])  # the best by validation first
    assert [label.get_text() for label in axis.get_yticklabels()] == ["p", r"<b>&\$x\$"]
    segments = axis.collections[0].get_segments()
    assert segments[0][0][0] == segments[0][1][0] == pytest.approx(-10)  # one seed has no interval
    row = report.comparison.set_index("name").loc["<b>&$x$"]
    assert [end[0] for end in segments[1]] == pytest.approx([100 * row["low"], 100 * row["high"]])
    alone = gkd_plugin.report(study.with_name("s") / "p").figure.axes[0]
    assert alone.get_xlabel() == "test accuracy %"  # of one seed
    assert axis.get_xlabel() == "test accuracy: difference to the control, 95 % interval (percentage points)"


def test_without_matplotlib_the_tables_are_shown(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "find_spec", lambda name: None)
    page = Tags(gkd_plugin.report(study)._repr_html_())
    assert "table" in page.tags and page.links == []


def test_a_study_without_results_is_shown_too(tmp_path: Path) -> None:
    report = gkd_plugin.report(write_study(tmp_path / "s", []))
    assert "0 points" in report._repr_html_()
    with pytest.raises(UserError, match="contains no runs"):
        gkd_plugin.report(tmp_path)
