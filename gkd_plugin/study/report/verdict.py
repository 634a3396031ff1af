"""The verdict of a study in sentences: every number of them stands in the tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gkd_plugin.study.ledger import DONE
from gkd_plugin.study.points import POINT
from gkd_plugin.study.records import StudyResults
from gkd_plugin.study.report.parts import format_count, format_p, format_value, is_missing
from gkd_plugin.study.report.scale import Scale, name_point
from gkd_plugin.study.run_files import DAMAGED, MISSING
from gkd_plugin.study.tables import count_lost, list_data_sets

if TYPE_CHECKING:
    import pandas as pd

LEVEL = 0.05  # of the corrected p-value
_NAMED = 3  # designs that are named before the rest is only counted
_FEW = 5  # seeds up to which a paired test finds little
BETTER, WORSE, UNDECIDED, UNTESTED = "better", "worse", "undecided", "untested"
_WORDS = {BETTER: "better", WORSE: "worse", UNDECIDED: "undecided", UNTESTED: "not tested"}


def judge(row: Mapping[str, Any], sign: int) -> str:
    """Whether a row of the comparison is better or worse than its control, undecided, or could not be tested.

    Args:
        row (mapping): A row of :func:`gkd_plugin.study.tables.compare`.
        sign (int): 1 where more of the metric is better, otherwise -1.
    """
    if is_missing(row["p_holm"]):
        return UNTESTED
    if row["p_holm"] >= LEVEL:
        return UNDECIDED
    return BETTER if sign * row["difference"] > 0 else WORSE


@dataclass(frozen=True)
class Verdict:
    """What a study showed.

    Args:
        sentences (tuple of str): The first paragraph; its first sentence is the answer.
        lines (tuple of str): The designs that are better or worse, the selected point, what failed.
    """

    sentences: tuple[str, ...]
    lines: tuple[str, ...]


def write_verdict(results: StudyResults, comparison: pd.DataFrame, selected: pd.DataFrame) -> Verdict:
    """The verdict on a study.

    Args:
        results (StudyResults): The study.
        comparison (DataFrame): Every point beside its control.
        selected (DataFrame): The point that validation selects, for each data set.
    """
    scale, dimensions = Scale.of(results), list(results.dimensions)
    rows = [row for row in comparison.to_dict("records") if row["seeds"]]
    judged: dict[str, list[dict[str, Any]]] = {word: [] for word in (BETTER, WORSE, UNDECIDED, UNTESTED)}
    for row in rows:
        judged[judge(row, scale.sign)].append(row)
    lines = [
        *_count_by_data(rows, scale, list_data_sets(results)),
        *_name_designs("Better", judged[BETTER], scale, dimensions),
        *_name_designs("Worse", judged[WORSE], scale, dimensions),
        *(_describe_selected(results, row, rows, scale, dimensions) for row in selected.to_dict("records")),
        *_count_failures(results),
    ]
    known = not results.failures["name"].isna().any()
    return Verdict((*_answer(judged, known), *list_damage(results), *_explain(results, rows, judged)), tuple(lines))


def list_damage(results: StudyResults) -> Iterator[str]:
    """What of the results is lost, for the first paragraph of a report.

    Args:
        results (StudyResults): A study or a run.
    """
    for reason in results.failures.loc[results.failures["name"].isna(), "reason"]:  # that of no run: the study's file
        yield f"{reason}."
    lost = list(results.points.loc[results.points["state"].isin([DAMAGED, MISSING]), "name"])
    if lost:
        more = f" and {len(lost) - _NAMED} more" if len(lost) > _NAMED else ""
        yield (
            f"{len(lost)} of {format_count(len(results.points), 'run')} {_is(len(lost))} damaged or missing "
            f"({', '.join(lost[:_NAMED])}{more}): the seeds that are whole count, and the reasons are listed below."
        )


def _answer(judged: Mapping[str, Sequence[Any]], known: bool) -> Iterator[str]:
    """The first sentence, and what became of the other designs."""
    better, worse, undecided, untested = (len(judged[word]) for word in (BETTER, WORSE, UNDECIDED, UNTESTED))
    tested = better + worse + undecided
    if not tested + untested:
        why = "no finished point has a finished control" if known else "the study's file cannot be read"
        yield f"No design is compared here: {why}."
        return
    if not tested:
        count = format_count(untested, "KD design")
        yield f"Nothing is decided: {count} {_is(untested)} beside a control, but none could be tested."
        return
    of = f"of {format_count(tested, 'KD design')}"
    if better:
        yield f"{better} {of} {'is' if better == 1 else 'are'} better than the control."
    else:
        yield f"None {of} is shown to be better than the control."
    yield f"{worse or 'None'} {_is(worse)} worse, {undecided} {_is(undecided)} undecided."
    if untested:
        yield f"{format_count(untested, 'further design')} could not be tested."


def _count_by_data(rows: Sequence[Mapping[str, Any]], scale: Scale, data: Sequence[str]) -> Iterator[str]:
    """How many are better, worse and undecided on each data set, where there are several."""
    names = [", ".join(format_value(row[alias]) for alias in data) for row in rows]
    if len(set(names)) < 2:
        return
    for name in dict.fromkeys(names):
        words = [judge(row, scale.sign) for row, own in zip(rows, names, strict=True) if own == name]
        counts = [f"{words.count(word)} {text}" for word, text in _WORDS.items() if word in words]
        yield f"{name}: {', '.join(counts)} of {len(words)}."


def _is(count: int) -> str:
    return "is" if count <= 1 else "are"


def _explain(
    results: StudyResults, rows: Sequence[Mapping[str, Any]], judged: Mapping[str, Sequence[Any]]
) -> Iterator[str]:
    """How it was decided, and what that can and cannot show."""
    if not rows:
        return
    tested = len(rows) - len(judged[UNTESTED])
    seeds = sorted({int(row["seeds"]) for row in rows})
    span = format_count(seeds[0], "seed") if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    lost = count_lost(rows)
    more = f" (with {lost} that could not be tested and still count in the correction)" if lost else ""
    if tested:
        yield (
            f"Decided by a two-sided paired t-test of the mean over students on equal seeds ({span}), Holm-corrected over "
            f"{format_count(tested + lost, 'comparison')}{more}, at a corrected p below {LEVEL}."
        )
    if judged[UNTESTED]:
        yield "A test needs at least 3 seeds that the point and its control have both finished with scores, and differences that vary."
    if tested and seeds[-1] <= _FEW:
        yield (
            f"With {span} a paired test finds only differences that are large beside their variation from seed to seed: "
            "undecided does not mean equal."
        )
    if not results.scores.empty and (results.scores["note"] != "").any():
        yield f"Some test scores are not those of the selected epoch: {results.scores['note'].max()}."


def _name_designs(
    word: str, rows: Sequence[Mapping[str, Any]], scale: Scale, dimensions: Sequence[str]
) -> Iterator[str]:
    """The designs of one kind, best validation first."""
    ordered = sorted(rows, key=lambda row: -scale.sign * row["val"])
    for row in ordered[:_NAMED]:
        yield f"{word}: {name_point(row, dimensions)}: {write_difference(row, scale)}, corrected p {_equal(row['p_holm'])}."
    if len(ordered) > _NAMED:
        yield f"{word}, too: {len(ordered) - _NAMED} more, in the table."


def _equal(p: float) -> str:
    text = format_p(p)
    return text if text.startswith("<") else f"= {text}"


def write_difference(row: Mapping[str, Any], scale: Scale) -> str:
    """``+2.10 points [+1.00, +3.20]``, with the interval where there is one."""
    unit = " points" if scale.factor == 100 else ""
    interval = scale.write_interval(row["low"], row["high"], sign=True)
    return f"{scale.write(row['difference'], sign=True)}{unit} {interval or '(no interval)'}"


def _describe_selected(
    results: StudyResults,
    selected: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    scale: Scale,
    dimensions: Sequence[str],
) -> str:
    own = results.points[(results.points["role"] == POINT) & results.points["name"].isin(results.scores["name"])]
    data = list_data_sets(results)
    for alias in data:
        own = own[own[alias] == selected[alias]]
    fewer = int((own["state"] != DONE).sum()) if selected["state"] == DONE else 0
    of = "".join(f" of {format_value(selected[alias])}" for alias in data)
    interval = scale.write_interval(selected.get("test_low"), selected.get("test_high"))
    text = (
        f"Selected by validation among {format_count(len(own) - fewer, 'finished point')}{of}: "
        f"{name_point(selected, dimensions)}, "
        f"validation {scale.metric} {scale.write(selected['val'])}, test {scale.write(selected['test'])}"
        f"{f' {interval}' if interval else ''}."
    )
    if fewer:
        text += f" {format_count(fewer, 'further point')} without some of its seeds {_is(fewer)} not among them."
    beside = next((row for row in rows if row["name"] == selected["name"]), None)
    if beside is not None:
        text += (
            f" Its control: test {scale.write(beside['control_test'])}, difference {write_difference(beside, scale)}."
        )
    return text


def _count_failures(results: StudyResults) -> Iterator[str]:
    states = results.points["state"].value_counts()
    total = len(results.points)
    failed = int(states.get("failed", 0))
    open_ = int(sum(states.get(state, 0) for state in ("pending", "running", "interrupted")))
    if failed:
        yield f"Failed: {failed} of {format_count(total, 'run')}; the reasons are listed below."
    if open_:
        yield f"Not finished: {open_} of {format_count(total, 'run')}."
