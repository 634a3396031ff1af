"""What ``gkd run`` says of a student beside its control and its teacher, and results of earlier versions."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gkd_plugin.commands.comparison import make_comparison
from gkd_plugin.commands.report import Paired, RunReport
from gkd_plugin.commands.run import run
from gkd_plugin.config.load import read_config
from gkd_plugin.plan import Plan
from gkd_plugin.training.result import RunResult, Score
from gkd_plugin.training.teachers.search import choose
from tests import toy
from tests.toy import config

pytestmark = pytest.mark.usefixtures("work_folder")

ANSWERS = ("mean", "best", "first", "ensemble")


@pytest.fixture
def plan() -> Plan:
    return read_config(toy.values()).plan


def report(plan: Plan, tests: dict[int, float], teacher: dict[int, float], better: bool = True) -> RunReport:
    metric = "accuracy" if better else "mae"
    results = [
        RunResult(
            seed,
            metric,
            better,
            "best",
            {name: Score(3, test, test) for name in ("s1", *ANSWERS)},
            [10],
            1,
            4,
            1.0,
            teacher={"name": "wide", "test": teacher[seed]} if seed in teacher else {},
            agreement=dict.fromkeys(ANSWERS, 0.5 + seed / 10) if seed in teacher else {},
        )
        for seed, test in tests.items()
    ]
    return RunReport("narrow", Path("results/narrow"), plan, results)


def beside(ours: RunReport, control: RunReport) -> RunReport:
    return RunReport(ours.name, ours.folder, ours.plan, ours.results, {}, control)


def row(text: str, name: str) -> list[str]:
    """The cells of a table's row, by at least two spaces."""
    (line,) = [line for line in text.splitlines() if line.strip().startswith(name)]
    return [cell.strip() for cell in line.strip().split("  ") if cell.strip()]


# -- by hand ----------------------------------------------------------------------------------------------------------


def test_the_gap_is_closed_by_the_ratio_of_means(plan: Plan) -> None:
    found = beside(report(plan, {1: 0.80, 2: 0.71}, {1: 0.90, 2: 0.76}), report(plan, {1: 0.70, 2: 0.75}, {}))
    assert found.gap_closed("best", 1) == pytest.approx(0.5)  # 0.10 of 0.20
    assert found.gap_closed("best", 2) == pytest.approx(-4.0)  # -0.04 of 0.01
    assert found.gap_closed("best") == pytest.approx(0.06 / 0.21)  # and not -1.75
    assert found.teacher_tests() == [0.90, 0.76] and found.agreement("best") == [0.6, 0.7]
    text = str(found)
    assert row(text, "teacher") == ["teacher", "83.00 ± 9.90"]
    assert row(text, "agreement") == ["agreement", "65.00 ± 7.07 %"]
    assert row(text, "gap closed") == ["gap closed", "28.6 %"]
    assert "no gap to close" not in text


@pytest.mark.parametrize("better", [True, False])
@pytest.mark.parametrize("lead", [0.0, -0.1])
def test_a_teacher_no_better_than_the_control_leaves_no_gap(better: bool, lead: float, plan: Plan) -> None:
    score = 0.3 + (lead if better else -lead)
    tests = {1: 0.1 + 0.2, 2: 0.3}  # equal but for the last digit
    found = beside(report(plan, {1: 0.5, 2: 0.5}, {1: score, 2: score}, better), report(plan, tests, {}, better))
    assert found.gap_closed("first") is None and found.gap_closed("first", 2) is None
    text = str(found)
    assert row(text, "gap closed") == ["gap closed", "-"]
    assert "no gap to close: the teacher is no better than the control" in text


def test_of_errors_less_is_better(plan: Plan) -> None:
    found = beside(report(plan, {1: 0.5}, {1: 0.2}, better=False), report(plan, {1: 0.6}, {}, better=False))
    assert found.gap_closed("first") == pytest.approx(0.25)


def test_seeds_that_lack_something_do_not_count(plan: Plan) -> None:
    teacher = {1: 0.9, 2: 0.9, 4: math.nan}
    found = beside(report(plan, {1: 0.8, 2: 0.1, 3: 0.1, 4: 0.1}, teacher), report(plan, {1: 0.7, 3: 0.2, 4: 0.2}, {}))
    assert found.compared == [1, 3, 4]
    assert found.gap_closed("mean") == found.gap_closed("mean", 1) == pytest.approx(0.5)
    assert found.gap_closed("mean", 2) is None and found.gap_closed("mean", 3) is None
    values = make_comparison(found)
    assert values["answers"]["best"]["gap_closed"]["by_seed"] == [pytest.approx(0.5), None, None]
    assert values["answers"]["best"]["agreement"] == [0.6, None, 0.9]
    with pytest.raises(ValueError, match="no control"):
        report(plan, {1: 0.8}, {1: 0.9}).gap_closed("mean")


def test_without_teacher_or_control_the_table_has_no_such_rows(plan: Plan) -> None:
    alone = str(report(plan, {1: 0.8}, {1: 0.9}))
    assert "teacher" in alone and "gap" not in alone and "compared" not in alone
    untaught = str(beside(report(plan, {1: 0.8}, {}), report(plan, {1: 0.7}, {})))
    assert not any(word in untaught for word in ("teacher", "agreement", "gap"))


@pytest.mark.parametrize(
    ("ours", "theirs", "text"),
    [
        ([], [], "-"),
        ([0.5], [0.4], "+10.00 (no interval: 1 seed)"),
        ([0.5, 0.6], [0.4, 0.4], "+15.00 (no interval: 2 seeds)"),
        ([0.804, 0.804], [0.8, 0.8], "+0.40 (no interval: 2 seeds)"),
        ([0.1 + 0.2, 0.3, 0.3], [0.2, 0.2, 0.2], "+10.00 (no interval: 3 seeds, all equal)"),
        ([0.5, 0.6, 0.7], [0.4, 0.4, 0.4], "+20.00 [-4.84, +44.84]"),
        ([0.5, math.nan, 0.7], [0.4, 0.4, 0.4], "-"),
    ],
)
def test_few_or_equal_seeds_give_no_interval(ours: list[float], theirs: list[float], text: str) -> None:
    paired = Paired.of(ours, theirs)
    assert paired.text(100) == text
    assert math.isnan(paired.low) == math.isnan(paired.high) == ("[" not in text)


@pytest.mark.parametrize("students", [1, 3])
@pytest.mark.parametrize("width", [80, 110])
def test_the_table_fits(width: int, students: int) -> None:
    plan = read_config(toy.values(Path("results"), kd={"students": students})).plan
    found = beside(report(plan, {1: 0.8, 2: 0.1}, {1: 0.9, 2: 0.95}), report(plan, {1: 0.7, 2: 0.2}, {}))
    console = Console(width=width, color_system=None)
    with console.capture() as text:
        console.print(found, highlight=False)
    which = ", mean" if students > 1 else ""
    said = text.get()
    assert row(said, "gap closed") == [f"gap closed{which}", "0.0 %"]
    assert row(said, "agreement") == [f"agreement{which}", "65.00 ± 7.07 %"]
    assert "paired difference [95 %]" in said and max(map(len, said.splitlines())) <= width


# -- in runs ----------------------------------------------------------------------------------------------------------


def student(folder: Path, **groups: Any) -> Path:
    keys = {"kd_response": {"weight": 1.0, "nodes": "all"}, **groups}
    return config(folder, "narrow", **{**keys, "kd": {"teacher": "wide", **groups.get("kd", {})}})


def teach(folder: Path, repeat: int = 1) -> None:
    run(config(folder, "wide", gnn={"dim_inner": 16, "dropout": 0.0}), repeat=repeat, quiet=True)


def results(folder: Path, name: str) -> list[dict[str, Any]]:
    found = sorted((folder / "results" / name).glob("*/result.json"), key=lambda path: int(path.parent.name))
    return [json.loads(path.read_text()) for path in found]


def test_the_comparison_is_what_the_results_say_and_grows_with_the_seeds(tmp_path: Path) -> None:
    teach(tmp_path, repeat=3)
    path = student(tmp_path, kd={"students": 2})
    run(path, repeat=2, quiet=True)
    file = tmp_path / "results" / "narrow" / "comparison.json"
    assert not file.exists()
    for repeat in (1, 3, 2):  # asking for less takes nothing away
        found = run(path, repeat=repeat, control=True, quiet=True)
        count = 3 if repeat == 2 else repeat
        assert found.compared == list(range(1, repeat + 1))
        values = json.loads(file.read_text())
        assert values["seeds"] == list(range(1, count + 1))
        ours, control, teacher = (results(tmp_path, name)[:count] for name in ("narrow", "narrow-control", "wide"))
        tests = [one["answers"]["best"]["test"] for one in teacher]
        assert values["teacher"] == {"name": "wide", "test": tests}
        assert (values["run"], values["control"], values["metric"]) == ("narrow", "narrow-control", "accuracy")
        for answer in ANSWERS:
            said = values["answers"][answer]
            assert said["test"] == [one["answers"][answer]["test"] for one in ours]
            assert said["control"] == [one["answers"][answer]["test"] for one in control]
            assert said["agreement"] == [one["agreement"][answer] for one in ours]
            gains = [a - b for a, b in zip(said["test"], said["control"], strict=True)]
            leads = [a - b for a, b in zip(tests, said["control"], strict=True)]
            assert said["difference"]["mean"] == pytest.approx(sum(gains) / count)
            assert (said["difference"]["low"] is None) == (count < 3 or max(gains) - min(gains) < 1e-9)
            expected = sum(gains) / sum(leads) if sum(leads) > 1e-9 else None
            assert said["gap_closed"]["overall"] == (None if expected is None else pytest.approx(expected))
            each = [gain / lead if lead > 1e-9 else None for gain, lead in zip(gains, leads, strict=True)]
            assert said["gap_closed"]["by_seed"] == [None if one is None else pytest.approx(one) for one in each]
    text = str(found)
    assert f"compared in {file}" in text and row(text, "teacher")[0] == "teacher"


def test_peers_are_compared_without_a_teacher(tmp_path: Path) -> None:
    run(config(tmp_path, kd={"preset": "mutual"}), control=True, quiet=True)
    values = json.loads((tmp_path / "results" / "study" / "comparison.json").read_text())
    assert "teacher" not in values
    assert all(said.keys() == {"test", "control", "difference"} for said in values["answers"].values())


def test_results_of_earlier_versions(tmp_path: Path) -> None:
    """They lack files, the teacher's test score, the agreement and its column; they are read, added to and compared."""
    teach(tmp_path, repeat=2)
    path = student(tmp_path)
    folder = run(path, repeat=2, quiet=True).folder
    (older,) = [one for one in results(tmp_path, "narrow") if one["seed"] == 2]
    del older["files"], older["agreement"], older["teacher"]["test"]
    (folder / "1" / "result.json").write_text(json.dumps(older))
    assert choose(folder, 1, 0).record.val == older["answers"]["best"]["val"]  # it may teach, too
    stats = folder / "1" / "val" / "stats.json"
    rows = [json.loads(line) for line in stats.read_text().splitlines()]
    for one in rows:
        del one["s1_agreement"]
    stats.write_text("".join(json.dumps(one) + "\n" for one in rows))
    shutil.rmtree(folder / "0")
    found = run(path, repeat=2, control=True, quiet=True)
    assert [math.isnan(test) for test in found.teacher_tests()] == [False, True]
    assert [math.isnan(share) for share in found.agreement("best")] == [False, True]
    for answer in ANSWERS:
        assert found.gap_closed(answer) == found.gap_closed(answer, 1)
    agg = json.loads((folder / "agg" / "val" / "best.json").read_text())
    assert "accuracy" in agg and "s1_agreement" not in agg
    assert json.loads((folder / "comparison.json").read_text())["teacher"]["test"][1] is None
    del older["teacher"]
    assert RunResult.from_dict(older).teacher == {} and "teacher" not in RunResult.from_dict(older).as_dict()
