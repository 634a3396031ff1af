"""The tables of a study: every point, every point beside its control, the best by validation, accuracy against size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gkd_plugin.commands.report import EQUAL, INTERVAL_SEEDS, Paired
from gkd_plugin.study.extras import load_extra
from gkd_plugin.study.ledger import DONE
from gkd_plugin.study.points import POINT, SHUFFLED, SMOOTHED
from gkd_plugin.study.records import StudyResults
from gkd_plugin.study.statistics import PairedTest, Spread, correct_holm

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]  # a row of scores
Seeds = dict[int, Row]

SUMMARY = (
    "name role dimensions seeds val val_sd test test_sd test_low test_high epoch parameters students seconds "
    "teacher_test agreement epochs state note"
).split()
COMPARISON = (
    "name dimensions seeds val test test_low test_high control control_test difference low high p p_holm wilcoxon wins "
    "ties losses best_difference best_low best_high teacher_test gap_closed parameters students seconds"
).split()
PARETO = "name dimensions parameters val test test_low test_high front".split()


def summarise(results: StudyResults, answer: str = "mean") -> pd.DataFrame:
    """One row for each point, the best by validation first: means over seeds, and the interval of the test score.

    Args:
        results (StudyResults): The study.
        answer (str): ``mean`` (over students), ``best``, ``first``, ``ensemble`` or ``s1`` ...
    """
    pandas = load_extra("pandas")
    seeds = _group(results, answer)
    rows = []
    for point in results.points.to_dict("records"):
        own = seeds.get(point["name"])
        row = {key: point[key] for key in ("name", "role", *results.dimensions, "state", "epochs")}
        rows.append(row | (_average(list(own.values())) if own else {"seeds": 0}))
    return _sort(pandas.DataFrame(rows, columns=_insert(SUMMARY, results)), results)


def compare(results: StudyResults, answer: str = "mean") -> pd.DataFrame:
    """One row for each point that has a control, the best by validation first.

    All numbers of a row are over the seeds that both have finished. A point that was given other epochs than its control
    is left out.

    Args:
        results (StudyResults): The study.
        answer (str): The answer that is compared; best against best stands beside it.
    """
    points = results.points
    own = points[(points["role"] == POINT) & points["control"].notna()]
    return _compare(results, zip(own["name"], own["control"], strict=True), answer)


def compare_placebos(results: StudyResults, answer: str = "mean") -> pd.DataFrame:
    """The same for each point beside its placebos, which stand in the column ``control``.

    Args:
        results (StudyResults): The study.
        answer (str): The answer that is compared.
    """
    points = results.points
    placebos = points[points["role"].isin([SHUFFLED, SMOOTHED]) & points["of"].notna()]
    pairs = [(of, name) for each, name in zip(placebos["of"], placebos["name"], strict=True) for of in each.split()]
    return _compare(results, pairs, answer)


def select(results: StudyResults, answer: str = "mean") -> pd.DataFrame:
    """The point that validation selects, with its test score; one for each data set where these are a dimension.

    Points of which a seed is missing are not among those that it may select.

    Args:
        results (StudyResults): The study.
        answer (str): The answer that counts.
    """
    runs = _select_scored(results, answer)
    data = list_data_sets(results)
    found = runs.groupby(data, sort=False, dropna=False).head(1) if data else runs.head(1)
    return found.reset_index(drop=True)


def pareto(results: StudyResults, answer: str = "mean") -> pd.DataFrame:
    """Points by their size: ``front`` says that no smaller or equal point is better by validation.

    Points of which a seed is missing are left out.

    Args:
        results (StudyResults): The study.
        answer (str): The answer that counts.
    """
    runs = _select_scored(results, answer)
    sign, data = 1 if results.better else -1, list_data_sets(results)
    runs = runs.sort_values(["parameters", "val"], ascending=[True, not results.better], kind="stable")
    best: dict[tuple[Any, ...], float] = {}
    front = []
    for point in runs.to_dict("records"):
        place, score = tuple(point[name] for name in data), sign * point["val"]
        front.append(score > best.get(place, float("-inf")))
        best[place] = max(score, best.get(place, score))
    return runs.assign(front=front)[_insert(PARETO, results)].reset_index(drop=True)


def list_data_sets(results: StudyResults) -> list[str]:
    """The dimensions that choose the data: scores are only compared within each."""
    return [alias for alias, key in results.dimensions.items() if key.startswith("dataset.")]


def list_candidates(points: pd.DataFrame) -> pd.DataFrame:
    """The points that may be chosen and ranked: none that is a control, or was given fewer epochs than others."""
    return points[(points["role"] == POINT) & points["epochs"].isna()]


def keep_whole(results: StudyResults, points: pd.DataFrame) -> pd.DataFrame:
    """The points whose runs are whole: one that has lost its worst seeds would win by that.

    Where none of a data set is whole, all of them.

    Args:
        results (StudyResults): The study.
        points (DataFrame): Points with scores.
    """
    data, whole = list_data_sets(results), points["state"] == DONE
    some = whole.groupby([points[alias] for alias in data], dropna=False).transform("any") if data else whole.any()
    return points[whole | ~some]


# --------------------------------------------------------------------------------------------------------------- parts
def _select_scored(results: StudyResults, answer: str) -> pd.DataFrame:
    runs = list_candidates(summarise(results, answer))
    return keep_whole(results, runs[runs["val"].notna()])


def _group(results: StudyResults, answer: str) -> dict[str, Seeds]:
    """The scores of an answer by point and seed; as plain values, since frames of a few rows each are slow."""
    found: dict[str, Seeds] = {}
    scores = results.scores[results.scores["answer"] == answer].sort_values("seed", kind="stable")
    for row in scores.to_dict("records"):
        found.setdefault(row["name"], {})[row["seed"]] = row
    return found


def _average(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    val, test = (Spread.of([row[key] for row in rows]) for key in ("val", "test"))
    return {
        **{key: _mean(rows, key) for key in ("epoch", "parameters", "seconds", "teacher_test", "agreement")},
        "seeds": val.count,
        "val": val.mean,
        "val_sd": val.sd,
        "test": test.mean,
        "test_sd": test.sd,
        "test_low": test.low,
        "test_high": test.high,
        "students": rows[0]["students"],
        "note": rows[0]["note"],
    }


def _mean(rows: Sequence[Mapping[str, Any]], key: str) -> float:
    """The mean of what is known."""
    known = [row[key] for row in rows if not math.isnan(row[key])]
    return sum(known) / len(known) if known else float("nan")


def _compare(results: StudyResults, pairs: Iterable[tuple[str, str]], answer: str) -> pd.DataFrame:
    pandas = load_extra("pandas")
    scores, best, better = _group(results, answer), _group(results, "best"), results.better
    known = {point["name"]: point for point in results.points.to_dict("records")}
    rows = []
    for name, control in pairs:
        ours, theirs = known.get(name), known.get(control)
        if ours is None or (theirs is not None and not _same_epochs(ours, theirs)):
            continue
        row = {key: ours[key] for key in ("name", *results.dimensions)} | {"control": control}
        rows.append(row | _compare_pair(scores.get(name), scores.get(control), better))
        ours_best, best_control = _pair(best.get(name), best.get(control))
        if ours_best:
            gap = Paired.of([row["test"] for row in ours_best], [row["test"] for row in best_control])
            rows[-1] |= {"best_difference": gap.mean, "best_low": gap.low, "best_high": gap.high}
    frame = pandas.DataFrame(rows, columns=_insert(COMPARISON, results))
    lost = count_lost(frame.to_dict("records"))
    frame["p_holm"] = correct_holm([float(value) for value in frame["p"]], lost)
    return _sort(frame, results)


def count_lost(rows: Iterable[Mapping[str, Any]]) -> int:
    """How many comparisons have too few seeds for a test, or scores that are no numbers, where others have enough.

    Args:
        rows (iterable of mapping): Rows of a comparison.
    """
    lost = [row for row in rows if math.isnan(row["p"])]
    return sum(row["seeds"] < INTERVAL_SEEDS or math.isnan(row["difference"]) for row in lost)


def _same_epochs(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Successive halving gives some points fewer epochs."""
    pandas = load_extra("pandas")
    first, second = (None if pandas.isna(point["epochs"]) else int(point["epochs"]) for point in (ours, theirs))
    return first == second


def _pair(ours: Seeds | None, theirs: Seeds | None) -> tuple[list[Row], list[Row]]:
    """The rows of the seeds that both have."""
    seeds = [seed for seed in ours or {} if seed in (theirs or {})]
    return [(ours or {})[seed] for seed in seeds], [(theirs or {})[seed] for seed in seeds]


def _compare_pair(own: Seeds | None, control: Seeds | None, better: bool) -> dict[str, Any]:
    ours, theirs = _pair(own, control)
    if not ours:
        return {"seeds": 0, "wins": 0, "ties": 0, "losses": 0}
    test = PairedTest.of([row["test"] for row in ours], [row["test"] for row in theirs], better)
    mean = _average(ours)
    keys = ("seeds", "val", "test", "test_low", "test_high", "teacher_test", "parameters", "students", "seconds")
    return {
        **{key: mean[key] for key in keys},
        "control_test": Spread.of([row["test"] for row in theirs]).mean,
        "difference": test.difference.mean,
        "low": test.difference.low,
        "high": test.difference.high,
        "p": test.p,
        "wilcoxon": test.wilcoxon,
        "wins": test.wins,
        "ties": test.ties,
        "losses": test.losses,
        "gap_closed": _close_gap(ours, theirs, better),
    }


def _close_gap(ours: Sequence[Row], control: Sequence[Row], better: bool) -> float:
    """As ``gkd run`` has it: the share of the teacher's lead over the control, of the seeds that have all three."""
    known = [(a["test"], b["test"], a["teacher_test"]) for a, b in zip(ours, control, strict=True)]
    known = [row for row in known if not any(map(math.isnan, row))]
    if not known:
        return float("nan")
    own, without, teacher = (sum(column) / len(known) for column in zip(*known, strict=True))
    lead = teacher - without
    return (own - without) / lead if lead * (1 if better else -1) > EQUAL else float("nan")


def _insert(columns: Sequence[str], results: StudyResults) -> list[str]:
    """The dimensions in their place."""
    place = list(columns).index("dimensions")
    return [*columns[:place], *results.dimensions, *columns[place + 1 :]]


def _sort(frame: pd.DataFrame, results: StudyResults) -> pd.DataFrame:
    """The best by validation first; what has no score last."""
    frame = frame.sort_values("val", ascending=not results.better, kind="stable", na_position="last")
    return frame.reset_index(drop=True)
