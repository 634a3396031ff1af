"""The rows of a recipe beside what was printed: scores, paired differences, and whether a published gain holds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gkd_plugin.commands.report import INTERVAL_SEEDS
from gkd_plugin.config.load import read_values
from gkd_plugin.errors import UserError
from gkd_plugin.papers.recipe import RecipeStudy, Row
from gkd_plugin.study.expand import expand
from gkd_plugin.study.grid_file import read_grid
from gkd_plugin.study.points import POINT, SHUFFLED, SMOOTHED
from gkd_plugin.study.records import StudyResults
from gkd_plugin.study.report.scale import Scale
from gkd_plugin.study.run_files import read_run
from gkd_plugin.study.statistics import PairedTest, Spread, correct_holm

LEVEL = 0.05  # of the corrected p-value, as in the verdict of a study
HOLDS, SMALLER, NOT_SHOWN, FAILS = "holds", "smaller", "not shown", "does not hold"
GAIN, LOSS, NO_GAIN, UNTESTED = "gain", "loss", "as published: no gain", "not tested"
_PLACEBOS = {SHUFFLED: "the same, shuffled source", SMOOTHED: "label smoothing instead"}


@dataclass(frozen=True)
class RowScores:
    """What a row scored.

    Args:
        row (Row): The row.
        point (str, optional): The point that answers it: of all that match, the best by validation.
        matching (int): How many points match.
        tests (dict): Its test score by seed.
        parameters (float): Of what is deployed.
        seconds (float): Mean time of a run.
    """

    row: Row
    point: str | None
    matching: int = 0
    tests: Mapping[int, float] = field(default_factory=dict)
    parameters: float = math.nan
    seconds: float = math.nan

    @property
    def spread(self) -> Spread:
        """Mean and deviation over seeds."""
        return Spread.of(list(self.tests.values()))


@dataclass(frozen=True)
class Comparison:
    """One row beside another, over the seeds that both have.

    Args:
        name, over (str): The two rows.
        test (PairedTest): The paired difference.
        pair (tuple): What is compared: point and answer of both.
        teacher (bool): Whether the other row is a teacher.
        published (float): The published difference, as a share where ours is one; NaN where it is not known.
        p_holm (float): Corrected over all comparisons of the study.
        better (bool): Whether more of the metric is better.
    """

    name: str
    over: str
    test: PairedTest
    pair: tuple[object, ...]
    published: float = math.nan
    teacher: bool = False
    p_holm: float = math.nan
    better: bool = True

    @property
    def verdict(self) -> str:
        """Whether the published gain holds, or where none is known, whether there is one.

        ``holds``: better, and the published gain is not beyond our interval; ``smaller``: better, by less than published;
        ``not shown``: undecided, and the published gain is not excluded; ``does not hold``: worse, or undecided with the
        published gain beyond our interval.
        """
        sign = 1 if self.better else -1
        high = max(sign * self.test.difference.low, sign * self.test.difference.high)
        if math.isnan(self.p_holm):
            return UNTESTED
        decided = self.p_holm < LEVEL
        better = decided and sign * self.test.difference.mean > 0
        gain = sign * self.published
        if math.isnan(gain):
            return NOT_SHOWN if not decided else GAIN if better else LOSS
        if gain <= 0:
            return GAIN if better else LOSS if decided else NO_GAIN
        if better:
            return HOLDS if gain <= high else SMALLER
        return FAILS if decided or gain > high else NOT_SHOWN


@dataclass(frozen=True)
class Compared:
    """A study of a recipe, read.

    Args:
        study (RecipeStudy): What was asked.
        results (StudyResults): What came out.
        rows (tuple of RowScores): The rows.
        comparisons (tuple of Comparison): Each row beside those that it is over.
        placebos (tuple of Comparison): Each row beside its placebos.
    """

    study: RecipeStudy
    results: StudyResults
    rows: tuple[RowScores, ...]
    comparisons: tuple[Comparison, ...]
    placebos: tuple[Comparison, ...] = ()


def compare_study(study: RecipeStudy, results: StudyResults) -> Compared:
    """Finds the point of each row and compares the rows.

    Args:
        study (RecipeStudy): The study of a recipe.
        results (StudyResults): Its results.

    """
    finder = _Finder(results)
    rows = tuple(finder.score(row) for row in study.rows)
    by_name = {scored.row.name: scored for scored in rows}
    unit = Scale.of(results).factor
    found = []
    for scored in rows:
        for other in scored.row.over:
            beside = by_name[other]
            printed = (scored.row.published - beside.row.published) / unit
            pair = (scored.point, scored.row.answer, beside.point, beside.row.answer)
            test = _test(scored.tests, beside.tests, results.better)
            taught = beside.row.teacher
            found.append(Comparison(scored.row.name, other, test, pair, printed, taught, better=results.better))
    placebos = [placebo for scored in rows for placebo in finder.placebos(scored)]
    return Compared(study, results, rows, _correct(found), _correct(placebos))


def require_rows(study: RecipeStudy) -> None:
    """Refuses a row that no point of the grid answers.

    Args:
        study (RecipeStudy): The study.

    Raises:
        UserError: If the grid or the base is wrong, or with all rows that the grid does not have.
    """
    grid = read_grid(study.grid)
    points = expand(read_values(study.config, study.pairs), study.name, grid).points
    problems = []
    for row in study.rows:
        unknown = [alias for alias in row.where if alias not in grid.dimensions]
        if unknown:
            problems.append(f"{row.name}: there is no dimension {unknown[0]}; there are {', '.join(grid.dimensions)}.")
        elif not (matching := [point for point in points if _answers(row, point.choices)]):
            problems.append(f"{row.name}: there is no such point.")
        elif row.teacher and not any(_has_teacher(point.values) for point in matching):
            problems.append(f"{row.name}: no such point has a teacher.")
    if problems:
        raise UserError("\n".join([f"study {study.name}, rows that {study.grid} does not have:", *problems]))


def _has_teacher(values: Mapping[str, Any]) -> bool:
    named = (values.get("kd", {}).get(key) for key in ("teacher", "teacher_cfg"))
    return any(name not in (None, "none") for name in named)


def _answers(row: Row, choices: Mapping[str, Any]) -> bool:
    return all(_is_choice(choices.get(alias), value) for alias, value in row.where.items())


def _test(ours: Mapping[int, float], theirs: Mapping[int, float], better: bool) -> PairedTest:
    """The paired test over the seeds that both have."""
    seeds = [seed for seed in ours if seed in theirs and ours[seed] == ours[seed] and theirs[seed] == theirs[seed]]
    return PairedTest.of([ours[seed] for seed in seeds], [theirs[seed] for seed in seeds], better)


def _correct(comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """With corrected p-values; what two rows ask twice counts once."""
    once = {comparison.pair: comparison.test for comparison in comparisons}
    lost = sum(test.difference.count < INTERVAL_SEEDS for test in once.values())
    values = correct_holm([test.p for test in once.values()], lost if lost < len(once) else 0)
    corrected = dict(zip(once, values, strict=True))
    return tuple(replace(comparison, p_holm=corrected[comparison.pair]) for comparison in comparisons)


class _Finder:
    """Finds the points of rows."""

    def __init__(self, results: StudyResults) -> None:
        self.results = results
        self.points = results.points.to_dict("records")
        self.scores: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
        for row in results.scores.to_dict("records"):
            self.scores.setdefault((row["name"], row["answer"]), {})[row["seed"]] = row
        columns = {key: column for column, key in results.dimensions.items()}
        aliases: Mapping[str, str] = results.meta.get("dimensions", {})
        self.columns = {alias: columns[key] for alias, key in aliases.items() if key in columns}

    def score(self, row: Row) -> RowScores:
        """The scores of a row."""
        if row.teacher:
            return self._score_teacher(row)
        points = self._match(row)
        known = [name for name in points if self._rows(name, row.answer)]
        if not known:
            return RowScores(row, None, len(points))
        sign = 1 if self.results.better else -1
        best = max(known, key=lambda name: sign * self._mean(name, row.answer, "val"))
        scored = self._rows(best, row.answer)
        tests = {seed: float(each["test"]) for seed, each in sorted(scored.items())}
        size, seconds = (self._mean(best, row.answer, key) for key in ("parameters", "seconds"))
        return RowScores(row, best, len(points), tests, size, seconds)

    def placebos(self, scored: RowScores) -> list[Comparison]:
        """A row beside the placebos of its point."""
        found = []
        for point in self.points:
            of = str(point["of"] or "").split()
            if scored.point in of and point["role"] in _PLACEBOS:
                theirs = {seed: float(r["test"]) for seed, r in self._rows(point["name"], scored.row.answer).items()}
                test = _test(scored.tests, theirs, self.results.better)
                pair = (scored.point, scored.row.answer, point["name"])
                name = _PLACEBOS[point["role"]]
                found.append(Comparison(scored.row.name, name, test, pair, better=self.results.better))
        return found

    def _score_teacher(self, row: Row) -> RowScores:
        """The teacher of any point that has one: by seed, as its students met it."""
        matching = set(self._match(row))
        for (name, _), rows in self.scores.items():
            tests = {seed: float(each["teacher_test"]) for seed, each in sorted(rows.items())}
            if name in matching and not any(map(math.isnan, tests.values())):
                teacher = str(next(iter(rows.values()))["teacher"])
                own = list(self._rows(teacher, "mean").values()) or [
                    each for each in read_run(self.results.folder.parent / teacher).rows if each["answer"] == "mean"
                ]
                size, seconds = (_average([float(each[key]) for each in own]) for key in ("parameters", "seconds"))
                return RowScores(row, teacher, 1, tests, size, seconds)
        return RowScores(row, None)

    def _rows(self, name: str, answer: str) -> dict[int, dict[str, Any]]:
        return self.scores.get((name, answer)) or {}

    def _mean(self, name: str, answer: str, column: str) -> float:
        return _average([float(row[column]) for row in self._rows(name, answer).values()])

    def _match(self, row: Row) -> list[str]:
        """The points of a row's choices."""
        return [
            str(point["name"])
            for point in self.points
            if point["role"] == POINT
            and _answers(row, {alias: point[column] for alias, column in self.columns.items()})
        ]


def _average(values: Sequence[float]) -> float:
    """The mean of what is known."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _is_choice(found: Any, wanted: Any) -> bool:
    """Whether a cell of the table of points is a choice; tables have numbers as floats and other values as text."""
    missing = found is None or found != found
    if wanted is None or missing:
        return wanted is None and missing
    if isinstance(wanted, (int, float)) and not isinstance(wanted, bool) and not isinstance(found, bool):
        try:
            return float(found) == float(wanted)
        except (TypeError, ValueError):
            return False
    return str(found).lower() == str(wanted).lower()
