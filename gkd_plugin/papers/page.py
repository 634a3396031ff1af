"""What a recipe showed, as a report: the verdict in sentences, and two tables for each study."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gkd_plugin.papers.compare import (
    FAILS,
    GAIN,
    HOLDS,
    LOSS,
    NO_GAIN,
    NOT_SHOWN,
    SMALLER,
    UNTESTED,
    Compared,
    Comparison,
    RowScores,
)
from gkd_plugin.papers.recipe import Recipe, Row
from gkd_plugin.study.report.parts import (
    DASH,
    Cell,
    Column,
    Report,
    Section,
    Table,
    count_cell,
    format_count,
    format_p,
    format_time,
    is_missing,
    make_table,
    number_cell,
    text_cell,
)
from gkd_plugin.study.report.run_series import list_seeds
from gkd_plugin.study.report.scale import Scale
from gkd_plugin.training.provenance import describe_versions, read_origin

_MEANING = {
    HOLDS: "the published gain holds",
    SMALLER: "there is a gain, but a smaller one than published",
    NOT_SHOWN: "no gain is shown, and none is excluded",
    FAILS: "the published gain does not hold",
    GAIN: "there is a gain where none was published or no number is known",
    LOSS: "there is a loss",
    NO_GAIN: "no gain was published, and none is shown",
    UNTESTED: "no test was possible, with fewer than three seeds or equal differences",
}


def make_page(recipe: Recipe, compared: Sequence[Compared], skipped: dict[str, str], quick: bool, made: str) -> Report:
    """The report of a recipe.

    Args:
        recipe (Recipe): The recipe.
        compared (sequence of Compared): Its studies that were run.
        skipped (dict): Why others were not, by name.
        quick (bool): Whether runs were shortened.
        made (str): When and by what it was written.
    """
    sections = [make_section(each) for each in compared]
    about = [("paper", f"{recipe.title} ({recipe.link})"), ("it says", recipe.claim)]
    about += [("known", text) for text in recipe.known]
    about += [("reconstructed", text) for text in recipe.reconstructed]
    about += [("not run", f"{name}: {why}") for name, why in skipped.items()]
    hours = sum(float(each.results.scores.drop_duplicates(["name", "seed"])["seconds"].sum()) for each in compared)
    seeds = sorted({len(scored.tests) for each in compared for scored in each.rows if scored.tests})
    span = f"{seeds[0]}" if len(set(seeds)) == 1 else f"{seeds[0]} to {seeds[-1]}" if seeds else "0"
    about += [("seeds", span), ("training", format_time(hours)), *_list_origins(compared)]
    title = f"{recipe.name}{' (quick)' if quick else ''}"
    return Report(title, recipe.title, tuple(write_verdict(compared, quick)), facts=about, sections=sections, made=made)


def _list_origins(compared: Sequence[Compared]) -> Iterator[tuple[str, str]]:
    """The program that trained the runs, as they recorded it: another one may write the page."""
    versions, commits = Counter[str](), Counter[str]()
    for folder in dict.fromkeys(str(place) for each in compared for place in each.results.points["folder"]):
        for seed in list_seeds(Path(folder)):
            origin = read_origin(seed)
            if origin is not None and isinstance(origin.get("versions"), dict):
                versions[describe_versions(origin["versions"])] += 1
                commits[str(origin.get("commit") or "none")] += 1
    if not versions:
        return
    yield "trained with", _tell(versions)
    if set(commits) == {"none"}:
        yield "commit of the runs", "none was recorded, so the versions are all that is known of the program"
    else:
        yield "commit of the runs", f"{_tell(commits)}, of the repository that they were started in"


def _tell(found: Counter[str]) -> str:
    """What was found; with its seeds, where it is not the same everywhere."""
    if len(found) == 1:
        return next(iter(found))
    return "; ".join(f"{text} ({format_count(count, 'seed')})" for text, count in found.most_common())


def write_verdict(compared: Sequence[Compared], quick: bool) -> Iterator[str]:
    """The answer in sentences.

    Args:
        compared (sequence of Compared): The studies.
        quick (bool): Whether runs were shortened.
    """
    if quick:
        yield "Quick: few epochs and seeds, which show that the recipe runs, and nothing of its numbers."
        return
    comparisons = [one for each in compared for one in each.comparisons]
    if not comparisons:
        yield "Nothing is compared."
        return
    own = [one for one in comparisons if not one.teacher]
    taught = [one for one in comparisons if one.teacher]
    if own:
        yield f"Of {format_count(len(own), 'comparison')}: {_count_verdicts(own)}."
    if taught:
        yield f"Of {format_count(len(taught), 'comparison')} with a teacher: {_count_verdicts(taught)}."
    yield (
        "A gain is one whose p-value of a two-sided paired t-test over seeds, Holm-corrected over the comparisons of its study, "
        "is below 0.05."
    )


def _count_verdicts(comparisons: Sequence[Comparison]) -> str:
    counts = Counter(one.verdict for one in comparisons)
    return "; ".join(f"in {count} {_MEANING[verdict]}" for verdict in _MEANING if (count := counts[verdict]))


def make_section(compared: Compared) -> Section:
    """The tables of one study.

    Args:
        compared (Compared): The study.
    """
    scale = Scale.of(compared.results)
    study = compared.study
    printed = any(not math.isnan(scored.row.published) for scored in compared.rows)
    tables = [_make_rows(compared, scale, printed)]
    if compared.comparisons:
        tables.append(_make_comparisons("differences", "Differences", study.name, compared.comparisons, scale))
    if compared.placebos:
        tables.append(_make_comparisons("placebos", "Beside placebos", study.name, compared.placebos, scale))
    notes = [*([f"Published: {study.source}."] if study.source and printed else []), *study.notes]
    return Section(study.name, study.name, " ".join(notes), tables)


def _make_rows(compared: Compared, scale: Scale, printed: bool) -> Table:
    rows = [{"scored": scored} for scored in _list_shown(compared.rows)]

    def ours(row: Mapping[str, Any]) -> Cell:
        scored: RowScores = row["scored"]
        if not scored.tests:
            return Cell(DASH, "")
        spread = scored.spread
        deviation = "" if math.isnan(spread.sd) else f" ± {scale.write(spread.sd)}"
        return Cell(f"{scale.write(spread.mean)}{deviation}", spread.mean)

    def theirs(row: Mapping[str, Any]) -> Cell:
        asked: Row = row["scored"].row
        if math.isnan(asked.published):
            return Cell(DASH, "")
        deviation = "" if math.isnan(asked.spread) else f" ± {asked.spread:.{scale.digits}f}"
        return Cell(f"{asked.published:.{scale.digits}f}{deviation}", asked.published)

    columns = [
        Column("row", lambda row: text_cell(row["scored"].row.name), numeric=False),
        Column("seeds", lambda row: count_cell(len(row["scored"].tests))),
        Column(f"test {scale.metric}", ours),
        *([Column("published", theirs)] if printed else []),
        Column("parameters", lambda row: _count(row["scored"].parameters)),
        Column("s a run", lambda row: number_cell(row["scored"].seconds, 0)),
    ]
    chosen = any(scored.matching > 1 and not scored.row.teacher for scored in compared.rows)
    if chosen:
        columns.append(Column("of", lambda row: count_cell(row["scored"].matching)))
    caption = "Test scores at the epoch that validation selects, mean ± standard deviation over seeds."
    caption += " Of several designs (column of), the best by validation." if chosen else ""
    return make_table(f"{compared.study.name}-rows", "Scores", caption, columns, rows)


def _list_shown(rows: Sequence[RowScores]) -> Iterator[RowScores]:
    """Each point and answer once: a row that is there for its comparison has the scores of an earlier one."""
    seen = set()
    for scored in rows:
        key = (scored.point, scored.row.answer, scored.row.teacher)
        if scored.point is None or key not in seen:
            yield scored
        seen.add(key)


def _count(value: float) -> Cell:
    return Cell(DASH, "") if is_missing(value) else Cell(f"{value:,.0f}", value)


def _make_comparisons(name: str, title: str, study: str, found: Sequence[Comparison], scale: Scale) -> Table:
    printed = any(not math.isnan(one.published) for one in found)
    columns = [
        Column("row", lambda row: text_cell(row["one"].name), numeric=False),
        Column("over", lambda row: text_cell(row["one"].over), numeric=False),
        Column("difference [95 %]", lambda row: _write_difference(row["one"], scale)),
        Column("p (Holm)", lambda row: Cell(format_p(row["one"].p_holm), row["one"].p_holm)),
        *([Column("published", lambda row: scale.cell(row["one"].published, sign=True))] if printed else []),
        Column("verdict", lambda row: text_cell(row["one"].verdict), numeric=False),
    ]
    there = dict.fromkeys(one.verdict for one in found)
    caption = "Paired over the seeds that both have, with the 95 % t-interval; p-values are corrected over this table. "
    caption += "; ".join(f"{verdict}: {_MEANING[verdict]}" for verdict in _MEANING if verdict in there) + "."
    return make_table(f"{study}-{name}", title, caption, columns, [{"one": one} for one in found])


def _write_difference(one: Comparison, scale: Scale) -> Cell:
    gap = one.test.difference
    if not gap.count:
        return Cell(DASH, "")
    interval = scale.write_interval(gap.low, gap.high, sign=True)
    return Cell(f"{scale.write(gap.mean, sign=True)} {interval}".strip(), gap.mean)
