"""Folders of studies and runs, written by hand: what is read back from them is known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from gkd_plugin.study.records import StudyResults, read_study
from gkd_plugin.training.result import RunResult, Score

Scores = Mapping[int, tuple[float, float]]  # validation and test by seed


def write_result(seed_folder: Path, result: RunResult) -> None:
    seed_folder.mkdir(parents=True)
    (seed_folder / "result.json").write_text(json.dumps({**result.as_dict(), "files": {}}))


def write_run(
    folder: Path,
    scores: Scores,
    *,
    best: Scores | None = None,
    size: int = 10,
    metric: str = "accuracy",
    teacher: Mapping[int, float] | None = None,
) -> None:
    """A finished run of one student; ``best`` makes it a cohort of two of which that is the better one."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plan.yaml").write_text("")
    for seed, (val, test) in scores.items():
        mean = Score(4.0, val, test)
        top = Score(5.0, *best[seed]) if best else mean
        answers = dict.fromkeys(("s1", "mean", "first"), mean) | {"best": top}
        if best:
            answers |= {"s2": top, "ensemble": top}
        result = RunResult(
            seed,
            metric,
            metric != "mae",
            "best",
            answers,
            [size] * (2 if best else 1),
            2 if best else 1,
            9,
            1.5,
            teacher={"name": "wide", "test": teacher[seed]} if teacher else {},
        )
        write_result(folder / str(seed - 1), result)


def write_host_run(
    folder: Path, rows: Sequence[Sequence[Mapping[str, Any]]], tests: Sequence[Any], **keys: Any
) -> None:
    """A run as the host's main program leaves it: rows of validation of each seed, and its test row."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {"metric_best": "auto", "metric_agg": "argmax", "optim": {"max_epoch": 3}, **keys}
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    for number, (val, test) in enumerate(zip(rows, tests, strict=True)):
        for split, found in (("train", val), ("val", val), ("test", [test])):
            (folder / str(number) / split).mkdir(parents=True)
            text = "".join(f"{json.dumps(row)}\n" for row in found)
            (folder / str(number) / split / "stats.json").write_text(text)


def write_study(
    home: Path,
    points: Sequence[Mapping[str, Any]],
    dimensions: Mapping[str, str] | None = None,
    kind: str = "grid",
) -> Path:
    """``study.json`` in ``<home>.gkd``; points lie in ``home``, controls in ``controls``."""
    folder = home.with_name(f"{home.name}.gkd")
    folder.mkdir(parents=True, exist_ok=True)
    whole = []
    for point in points:
        inside = f"../{home.name}" if point.get("role", "point") == "point" else "controls"
        empty = {"role": "point", "choices": {}, "control": None, "of": None, "epochs": None}
        whole.append({**empty, "folder": f"{inside}/{point['name']}", **point})
    meta = {"format": 1, "name": home.name, "kind": kind, "dimensions": dict(dimensions or {}), "points": whole}
    (folder / "study.json").write_text(json.dumps(meta))
    return folder


def make_factorial(
    tmp_path: Path, scores: Mapping[tuple[Any, ...], float], dimensions: Mapping[str, str]
) -> StudyResults:
    """A study of one seed with a point for each combination of values; its test score is one less."""
    points = []
    for number, (values, score) in enumerate(scores.items()):
        choices = {alias: value for alias, value in zip(dimensions, values, strict=True) if value is not ...}
        points.append({"name": f"p{number}", "choices": choices})
        write_run(tmp_path / "made" / f"p{number}", {1: (score, score - 1)})
    write_study(tmp_path / "made", points, dimensions)
    return read_study(tmp_path / "made")
