"""How results print: whole lines in a pipe, wrapped in a terminal, one line at a prompt, a block in a notebook."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from gkd_plugin import UserError
from gkd_plugin.commands.check import check
from gkd_plugin.commands.explain import explain
from gkd_plugin.commands.list import list_answers
from gkd_plugin.commands.plugins import list_plugins
from gkd_plugin.commands.report import RunReport
from gkd_plugin.config.load import read_config
from gkd_plugin.printing import Printable
from gkd_plugin.training.result import RunResult, Score

GOOD = {"num_threads": 1, "train": {"eval_period": 1}, "kd": {"preset": "alignahead_pp"}}
NAMES = ("s1", "s2", "mean", "best", "first", "ensemble")


def result(seed: int, score: float) -> RunResult:
    answers = dict.fromkeys(NAMES, Score(3, score, score))
    return RunResult(seed, "accuracy", True, "best", answers, [31140, 31140], 1, 10, 2.0)


def report(name: str = "a_run_of_a_long_name") -> RunReport:
    plan = read_config(GOOD).plan
    results = [result(1, 0.9), result(2, 0.93), result(3, 0.8811)]
    worse = [result(1, 0.7), result(2, 0.63), result(3, 0.58)]
    control = RunReport(f"{name}-control", Path(f"{name}-control"), plan, worse)
    return replace(RunReport(name, Path(name), plan, results), control=control)


KINDS: dict[str, Callable[[], Printable]] = {
    "report": report,
    "check": lambda: check([GOOD, {"kd": {"students": 0}}]),
    "explain": lambda: explain(GOOD),
    "list": lambda: list_answers("kernels"),
    "keys": lambda: list_answers("kd_structure"),
    "plugins": list_plugins,
}


def on_terminal(what: Printable, width: int) -> str:
    file = io.StringIO()
    Console(file=file, width=width, color_system=None, force_terminal=True).print(what, highlight=False)
    return file.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_every_result_in_every_form(kind: str) -> None:
    what = KINDS[kind]()
    assert len(repr(what).splitlines()) == 1 and len(repr(what)) < 120 and repr(what).startswith("<")
    page = what._repr_html_()
    words = re.findall(r"\w+", str(what))
    assert page.startswith("<pre") and words[0] in page and words[-1] in page
    for width in (50, 80):
        shown = on_terminal(what, width)
        assert max(map(len, shown.splitlines())) <= width
        assert re.sub(r"[\s─]", "", str(what))[:20] in re.sub(r"[\s─]", "", shown)
        assert "…" not in shown and "…" not in str(what)


def test_nothing_is_wrapped_in_a_pipe() -> None:
    whole = [line.split() for line in str(explain(GOOD)).splitlines()]
    meaning = "where a layer is read: before or after activation and norm, or after the skip"
    assert any(" ".join(line).endswith(meaning) for line in whole)
    problem = next(
        line for line in str(check({"kd": {"students": 0, "preset": "nosuch"}})).splitlines() if "preset" in line
    )
    assert problem.endswith("byot.") and "supervised" in problem


def test_numbers_stay_whole_on_a_narrow_terminal() -> None:
    shown = on_terminal(report(), 50)
    for number in ("90.37", "2.47", "+26.70", "+41.13]", "31,140"):
        assert number in shown, shown
    assert "mean ± standard deviation" in " ".join(shown.split())


def test_a_notebook_shows_a_mistake_as_its_message() -> None:
    with pytest.raises(UserError) as caught:
        explain({"kd": {"students": 0}})
    assert caught.value.__cause__ is None
    (text,) = caught.value._render_traceback_()
    assert text == f"ConfigError: {caught.value}"
