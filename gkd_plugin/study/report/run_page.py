"""The report of one run: its scores, curves, terms, gradients, learned layer maps and over-smoothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gkd_plugin.commands.report import Paired, format_spread
from gkd_plugin.study.records import StudyResults, read_study
from gkd_plugin.study.report import run_figures, run_series
from gkd_plugin.study.report.facts import list_run_facts, read_config
from gkd_plugin.study.report.parts import (
    Cell,
    Column,
    Picture,
    Report,
    Section,
    Table,
    Text,
    count_cell,
    format_count,
    make_table,
    number_cell,
    text_cell,
)
from gkd_plugin.study.report.run_control import find_control
from gkd_plugin.study.report.scale import Scale
from gkd_plugin.study.report.verdict import list_damage

if TYPE_CHECKING:
    import pandas as pd

ANSWERS = {"mean": "mean over students", "best": "best student", "first": "first student", "ensemble": "ensemble"}
SHOWN_MAPS = 6


def make_run_report(results: StudyResults, made: str) -> Report:
    """The report of one run, beside its control where there is one.

    Args:
        results (StudyResults): The run, as :func:`read_study` gives it.
        made (str): When and by which version it is written.
    """
    folder = Path(str(results.points.iloc[0]["folder"]))
    name, scale = str(results.points.iloc[0]["name"]), Scale.of(results)
    beside = find_control(folder)
    control = read_study(beside) if beside is not None else None
    answers = _list_answers(results.scores)
    seeds = results.scores["seed"].nunique()
    sentences, lines = _write_verdict(results, control, scale, answers)
    sentences += list_damage(results)
    sections = [
        Section(
            "scores",
            "Scores",
            "At the epoch that validation selects, for each answer of the run.",
            (_make_summary(results, control, scale, answers), _make_seeds(results, scale, answers)) if answers else (),
        ),
        _make_training(folder, results, beside, scale),
        *_make_insides(folder),
        *_make_failures(results),
        Section("files", "What was run", parts=tuple(_list_texts(folder))),
    ]
    return Report(
        title=name,
        subtitle=f"One run, {format_count(seeds, 'finished seed')}",
        verdict=sentences,
        points=lines,
        facts=list_run_facts(results),
        sections=[section for section in sections if section.parts],
        made=made,
    )


def _list_answers(scores: pd.DataFrame) -> dict[str, str]:
    """The answers that differ, with their words: one student has only one."""
    there = set(scores["answer"])
    if there and int(scores["students"].max()) == 1:
        return {"first": "student"}
    return {answer: words for answer, words in ANSWERS.items() if answer in there}


def _get_tests(results: StudyResults, answer: str) -> dict[int, float]:
    """Test scores of one answer by seed."""
    rows = results.scores[results.scores["answer"] == answer]
    return dict(zip(rows["seed"], rows["test"], strict=True))


def _pair(results: StudyResults, control: StudyResults, answer: str) -> Paired:
    ours, theirs = _get_tests(results, answer), _get_tests(control, answer)
    shared = sorted(ours.keys() & theirs.keys())
    return Paired.of([ours[seed] for seed in shared], [theirs[seed] for seed in shared])


def _write_verdict(
    results: StudyResults, control: StudyResults | None, scale: Scale, answers: dict[str, str]
) -> tuple[list[str], list[str]]:
    if not answers:
        return ["No seed is finished."], []
    answer, words = next(iter(answers.items()))
    tests = list(_get_tests(results, answer).values())
    what = f", {words}" if len(answers) > 1 else ""
    sentences = [
        f"Test {scale.metric} {format_spread(tests, scale.factor)} over {format_count(len(tests), 'seed')}{what}, at the "
        "epoch that validation selects."
    ]
    if control is None:
        sentences.append("There is no control beside it, so the page does not say what distillation changes.")
    else:
        pair = _pair(results, control, answer)
        if not pair.count:
            sentences.append("No seed is finished both here and in the control.")
        elif pair.low != pair.low:
            sentences.append(f"Paired difference to the control: {pair.text(scale.factor)}.")
        else:
            sentences.append(f"Paired difference to the control: {pair.text(scale.factor)} (95 % interval over seeds).")
            sentences.append(
                "The interval contains 0." if pair.low <= 0 <= pair.high else "The interval is clear of 0."
            )
    failed = int(results.failures["seed"].nunique())
    lines = [f"Not finished: {format_count(failed, 'seed')}; the reasons are listed below."] if failed else []
    found = {part for text in results.scores["warnings"] if text for part in str(text).split("; ")}
    return sentences, [*lines, *(f"Warning: {text}" for text in sorted(found))]


# --------------------------------------------------------------------------------------------------------------- tables
def _make_summary(results: StudyResults, control: StudyResults | None, scale: Scale, answers: dict[str, str]) -> Table:
    def find(beside: StudyResults, row: Mapping[str, Any], column: str) -> Any:
        return beside.scores.loc[beside.scores["answer"] == row["answer"], column]

    columns = [
        Column("answer", lambda row: text_cell(answers[row["answer"]]), False),
        Column("seeds", lambda row: count_cell(len(find(results, row, "seed")))),
        Column("validation", lambda row: _spread_cell(find(results, row, "val"), scale)),
        Column("test", lambda row: _spread_cell(find(results, row, "test"), scale)),
    ]
    if control is not None:
        columns += [
            Column("control test", lambda row: _spread_cell(find(control, row, "test"), scale)),
            Column("paired difference [95 %]", lambda row: _pair_cell(_pair(results, control, row["answer"]), scale)),
        ]
    caption = f"{scale.metric}: mean ± standard deviation over seeds. From tables/scores.csv."
    return make_table("summary", "Over seeds", caption, columns, [{"answer": answer} for answer in answers])


def _spread_cell(values: Any, scale: Scale) -> Cell:
    known = [value for value in values if value == value]
    return Cell(format_spread(known, scale.factor), float(np.mean(known))) if known else number_cell(None)


def _pair_cell(pair: Paired, scale: Scale) -> Cell:
    return Cell(pair.text(scale.factor), pair.mean if pair.mean == pair.mean else "")


def _make_seeds(results: StudyResults, scale: Scale, answers: dict[str, str]) -> Table:
    columns = [
        Column("seed", lambda row: count_cell(row["seed"])),
        Column("answer", lambda row: text_cell(answers[row["answer"]]), False),
        Column("epoch", lambda row: number_cell(row["epoch"], 0 if row["epoch"] == int(row["epoch"]) else 1)),
        Column("validation", lambda row: scale.cell(row["val"])),
        Column("test", lambda row: scale.cell(row["test"])),
        Column("parameters", lambda row: count_cell(row["parameters"])),
        Column("seconds", lambda row: number_cell(row["seconds"], 1)),
    ]
    rows = [row for row in results.scores.to_dict("records") if row["answer"] in answers]
    rows.sort(key=lambda row: (row["seed"], list(answers).index(row["answer"])))
    caption = "The mean over students has the mean of their epochs. The same rows: tables/scores.csv."
    caption = caption if len(answers) > 1 else "The same rows: tables/scores.csv."
    return make_table("seeds", "By seed", caption, columns, rows)


def _make_failures(results: StudyResults) -> Iterator[Section]:
    columns = [
        Column("seed", lambda row: count_cell(row["seed"])),
        Column("reason", lambda row: text_cell(row["reason"]), False),
    ]
    caption = "From failed.json in the seed's folder, or from what is damaged or missing there."
    rows = results.failures.to_dict("records")
    if rows:
        table = make_table("failures-table", "Seeds without a result", caption, columns, rows)
        yield Section("failures", "Failures", parts=(table,))


# -------------------------------------------------------------------------------------------------------------- figures
def _make_training(folder: Path, results: StudyResults, beside: Path | None, scale: Scale) -> Section:
    parts: list[Picture] = []
    lines = [(folder.name, run_series.read_validation(folder, results.metric))]
    if beside is not None:
        lines.append((beside.name, run_series.read_validation(beside, results.metric)))
    drawn = [(label, series) for label, series in lines if series is not None]
    if drawn:
        caption = (
            "Mean over students and seeds; the band lies between the lowest and the highest seed. "
            "From <seed>/val/stats.json."
        )
        parts.append(run_figures.draw_curves("curves", "Validation by epoch", drawn, scale, caption))
    terms = run_series.read_terms(folder)
    if terms:
        caption = (
            "Values before their weight, in training; mean over seeds, and the band of the lowest and the highest. "
            "From <seed>/train/stats.json."
        )
        parts.append(run_figures.draw_terms(terms, caption))
    shares = run_series.read_shares(folder)
    if shares:
        caption = (
            "The norm of each weighted gradient as a share of the sum of all norms; mean over students and seeds. "
            "From <seed>/diagnostics.json."
        )
        parts.append(run_figures.draw_shares(shares, caption))
    return Section("training", "Training", parts=parts)


def _make_insides(folder: Path) -> Iterator[Section]:
    parts: list[Picture] = []
    maps = run_series.read_maps(folder)
    if maps:
        caption = (
            f"Weights at the last epoch, mean over {format_count(max(each.seeds for each in maps), 'seed')}: rows listen, "
            "columns teach. From <seed>/attention.json."
        )
        labelled = [(f"student {each.student} to {each.source}", each) for each in maps[:SHOWN_MAPS]]
        parts.append(run_figures.draw_maps("maps", "Learned layer maps", labelled, caption))
    layers = run_series.read_smoothing(folder)
    if layers:
        caption = (
            "Mean average cosine distance of a node to its neighbours in each layer, at the last epoch, over students and "
            "seeds: near 0, neighbours have become alike. From the columns *_mad of <seed>/val/stats.json."
        )
        parts.append(
            run_figures.draw_smoothing("smoothing", "Over-smoothing by depth", [(folder.name, layers)], caption)
        )
    if parts:
        yield Section("layers", "Layers", parts=parts)


def _list_texts(folder: Path) -> Iterator[Text]:
    for name in ("plan.yaml", "config.yaml"):
        text = read_config(folder / name)
        if text:
            yield Text(name.partition(".")[0], name, text)
