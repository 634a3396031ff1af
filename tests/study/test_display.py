"""What a study says while it runs, on a terminal and in a file."""

from __future__ import annotations

import time

import pytest
from rich.console import Console

from gkd_plugin.study import display
from gkd_plugin.study.display import Display, format_seconds, say
from gkd_plugin.study.ledger import DONE, FAILED, RUNNING, Entry


def done(name: str, val: float, metric: str = "accuracy", better: bool = True) -> Entry:
    return Entry(name, DONE, metric=metric, better=better, val=val)


def test_a_file_gets_one_line_for_each_run(capsys: pytest.CaptureFixture[str]) -> None:
    with Display("study", 5, [done("a", 0.5)], list) as shown:
        shown.end(done("b", 0.75))
        shown.end(Entry("c", FAILED, reason="no memory"))
        shown.end(Entry("e", FAILED, reason="no memory"))
        shown.end(done("d[1]", 0.625))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "study; 1 finished before"
    assert lines[1].startswith("2/5 b: validation 75.00 %, ") and lines[1].endswith(" left")
    assert lines[2].startswith("3/5 c: failed: no memory, ")
    assert lines[3].startswith("4/5 e: failed: as c, ")
    assert lines[4] == "5/5 d[1]: validation 62.50 %"
    assert shown.best is not None and shown.best.name == "b"


def test_less_is_better_where_the_metric_says_so() -> None:
    with Display("study", 3, [], list, quiet=True) as shown:
        for entry in (done("a", 0.5, "mae", False), done("b", 0.25, "mae", False), done("c", 0.75, "mae", False)):
            shown.end(entry)
    assert shown.best is not None and shown.best.name == "b"


def test_a_file_is_told_that_a_long_run_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(display, "_PERIOD", 0.5)
    with Display("study", 1, [], lambda: [Entry("slow", RUNNING)]):
        time.sleep(2.5)
    assert "0/1, running: slow" in capsys.readouterr().err


def test_a_terminal_sees_counts_the_best_and_what_runs() -> None:
    shown = Display("study", 20, [done("a", 0.5)], lambda: [Entry(f"run-{n}", RUNNING) for n in range(9)])
    shown.end(Entry("c", FAILED, reason="no memory"))
    console = Console(width=80, force_terminal=True, color_system=None)
    with console.capture() as text:
        console.print(shown._draw())
    said = text.get()
    assert "2/20  1 done, 1 failed" in said and "best validation 50.00 %: a" in said
    assert "running run-0" in said and "run-8" not in said and "and 1 more" in said


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (600, "10 min"), (5400, "1 h 30 min"), (7170, "2 h 0 min")]
)
def test_times_are_written_for_people(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_what_takes_seconds_is_said_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(display, "_PATIENCE", 0.0)
    with say("checking", quiet=False):
        time.sleep(0.3)
    assert capsys.readouterr().err == "checking\n"
    monkeypatch.setattr(display, "_PATIENCE", 60.0)
    with say("checking", quiet=False):
        pass
    with say("checking", quiet=True):
        pass
    assert capsys.readouterr().err == ""
