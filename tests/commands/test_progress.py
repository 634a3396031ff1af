"""Lines of progress, what a notebook shows, and warnings of several seeds."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest
import rich.console
from rich.console import Console, ConsoleOptions, RenderResult

from gkd_plugin.commands import progress
from gkd_plugin.commands.progress import merge_warnings, run_progress, show_warnings
from gkd_plugin.printing import Printable


def test_a_file_gets_a_line_every_ten_seconds_and_one_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with run_progress("mine seed 1 (1/2)", 40) as note:
        for epoch in range(1, 31):  # 4 seconds each, and it stops early
            now[0] += 4
            note(epoch, 40, epoch / 100)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"mine seed 1 (1/2): {n}/40 epochs, validation {n / 100:.4f}" for n in range(3, 31, 3)]
    with run_progress("mine", 40) as note:
        note(1, 40, 0.5)
        note(2, 40, 0.25)
    assert capsys.readouterr().err == "mine: 2/40 epochs, validation 0.2500\n"
    with run_progress("mine", 40):  # it was finished before
        pass
    with run_progress("mine", 40, quiet=True) as note:
        note(1, 40, 0.5)
    assert capsys.readouterr().err == ""


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What a notebook is asked to show, as plain text."""
    said: list[tuple[str, str]] = []

    class Handle:
        def update(self, words: dict[str, str], raw: bool) -> None:
            assert raw
            said.append(("update", words["text/plain"]))

    def display(shown: Any, raw: bool = False, display_id: bool = False) -> Handle | None:
        words = shown if raw else shown._repr_mimebundle_(include=(), exclude=())
        said.append(("display", words["text/plain"]))
        return Handle() if display_id else None

    module = types.ModuleType("IPython.display")
    module.display = display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    monkeypatch.setattr(rich.console, "_is_jupyter", lambda: True)
    return said


def test_a_notebook_shows_one_line_that_changes(
    notebook: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with run_progress("[mine] seed 1 (1/1)", 400) as note:
        for epoch in range(1, 401):  # 8 in a second, more than can be read
            now[0] += 0.125
            note(epoch, 400, epoch / 1000)
    assert notebook[0] == ("display", "[mine] seed 1 (1/1): 4/400 epochs, validation 0.0040")
    assert notebook[-1] == ("update", "[mine] seed 1 (1/1): 400/400 epochs, validation 0.4000")
    assert {kind for kind, _ in notebook[1:]} == {"update"} and len(notebook) == 100
    with run_progress("mine", 40, quiet=True) as note:
        note(1, 40, 0.5)
    assert len(notebook) == 100 and capsys.readouterr() == ("", "")


def test_a_notebook_shows_warnings_without_escape_codes(notebook: list[tuple[str, str]]) -> None:
    show_warnings(["kd: [this] is red"])
    assert notebook == [("display", "warning: kd: [this] is red\n")]


def test_a_result_that_becomes_text_shows_nothing_by_itself(notebook: list[tuple[str, str]]) -> None:
    class Result(Printable):
        def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
            yield "[bold]words[/]"

    assert (str(Result()), repr(Result())) == ("words", "<Result: words>")
    assert "words" in Result()._repr_html_() and notebook == []


@pytest.mark.parametrize(
    ("found", "lines"),
    [
        ({1: ["a"]}, ["a"]),
        ({1: ["a"], 2: [], 3: ["a"]}, ["a (seeds 1, 3)"]),
        ({1: [], 2: ["a"]}, ["a (seed 2)"]),
        ({1: ["has 0.91", "b"], 2: ["has 0.872"]}, ["has 0.91 (seed 1; alike, with other numbers: 2)", "b (seed 1)"]),
        ({1: [], 2: []}, []),
    ],
)
def test_a_warning_is_said_once_with_its_seeds(found: dict[int, list[str]], lines: list[str]) -> None:
    assert merge_warnings(found) == lines
