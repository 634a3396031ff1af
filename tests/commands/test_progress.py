"""Lines of progress, and warnings of several seeds."""

from __future__ import annotations

import pytest

from gkd_plugin.commands import progress
from gkd_plugin.commands.progress import merge_warnings, run_progress


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
