"""Studies whose results are written by hand: as `gkd grid` lays them out, without training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from gkd_plugin.training.result import RESULT, RunResult, Score
from gkd_plugin.training.seed_files import FILES, list_files


def write_run(
    folder: Path,
    tests: Sequence[float],
    *,
    students: int = 1,
    parameters: int = 1000,
    epochs: int = 4,
    columns: Mapping[str, float] | None = None,
    maps: Sequence[Sequence[float]] | None = None,
    warnings: tuple[str, ...] = (),
    config: Mapping[str, Any] | None = None,
) -> Path:
    """A finished run; its validation score is the test score plus 0.01, reached in the last epoch.

    Args:
        folder (Path): The run's folder.
        tests (sequence of float): The test score of each seed.
        students (int): Number of students.
        parameters (int): Of each student.
        epochs (int): Epochs.
        columns (mapping, optional): Further columns of every row.
        maps (matrix, optional): A learned layer map.
        warnings (tuple of str): What the run warned of.
        config (mapping, optional): Its configuration.
    """
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(dict(config or {})))
    for number, test in enumerate(tests):
        seed = folder / str(number)
        val = test + 0.01
        for split in ("train", "val", "test"):
            (seed / split).mkdir(parents=True)
            first = epochs - 1 if split == "test" else 0
            rows = [
                {
                    "epoch": epoch,
                    "accuracy": test if split == "test" else val * (epoch + 1) / epochs,
                    "s1_loss": 2.0 / (epoch + 1),
                    **(columns or {}),
                }
                for epoch in range(first, epochs)
            ]
            (seed / split / "stats.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
        if maps is not None:
            row = {"epoch": epochs - 1, "student": 1, "map": "attention", "source": "teacher", "weights": maps}
            (seed / "attention.json").write_text(json.dumps(row) + "\n")
        score = Score(epochs - 1, val, test)
        names = ["mean", "best", "first", *(f"s{n}" for n in range(1, students + 1)), *["ensemble"] * (students > 1)]
        result = RunResult(
            number + 1,
            "accuracy",
            True,
            "best",
            dict.fromkeys(names, score),
            [parameters] * students,
            1,
            epochs,
            1.5,
            warnings,
        )
        (seed / RESULT).write_text(json.dumps({**result.as_dict(), FILES: list_files(seed)}))
    return folder


def write_study(
    folder: Path,
    points: Mapping[str, tuple[Mapping[str, Any], str | None, Sequence[float]]],
    *,
    failed: Mapping[str, str] | None = None,
    roles: Mapping[str, str] | None = None,
    of: Mapping[str, str] | None = None,
    dimensions: Mapping[str, str] | None = None,
    **options: Any,
) -> Path:
    """A study of these points; the folder ``<folder>/made.gkd``.

    Args:
        folder (Path): Where it lies.
        points (mapping): By name: choices, control, the test score of each seed.
        failed (mapping, optional): The reason by name of those that failed.
        roles (mapping, optional): The role by name, where it is not ``point``.
        of (mapping, optional): The point of each placebo.
        dimensions (mapping, optional): The key of each dimension. (default: a key ``kd.<alias>`` for each choice)
        **options: Of every run, see :func:`write_run`; a mapping by name for some.
    """
    home, listed = folder / "made.gkd", []
    (home / "ledger").mkdir(parents=True)
    points_of = of or {}
    for name, (choices, control, tests) in points.items():
        own = {key: value[name] for key, value in options.items() if name in value}
        if tests:
            write_run(folder / "made" / name, tests, **own)
        state = {"name": name, "state": "done" if tests else "pending", "reason": None, "failures": {}}
        if name in (failed or {}):
            state |= {"state": "failed", "reason": (failed or {})[name]}
        (home / "ledger" / f"{name}.json").write_text(json.dumps(state))
        role = (roles or {}).get(name, "point")
        place = {
            "control": control,
            "of": [points_of[name]] if name in points_of else None,
            "folder": f"../made/{name}",
            "epochs": None,
        }
        listed.append({"name": name, "role": role, "choices": choices, **place})
    aliases = dict.fromkeys(alias for choices, _, _ in points.values() for alias in choices)
    study = {
        "format": 1,
        "name": "made",
        "kind": "grid",
        "created": "2026-11-26T10:00:00",
        "command": "gkd grid --config base.yaml --grid grid.txt",
        "versions": {"python": "3.11", "gkd_plugin": "0.1.0"},
        "base": {
            "file": "base.yaml",
            "values": {"dataset": {"name": "Cora", "format": "PyG"}, "optim": {"max_epoch": 4}},
        },
        "grid": {"file": "grid.txt", "text": "kd.preset preset ['a','b']\n"},
        "dimensions": dimensions or {alias: f"kd.{alias}" for alias in aliases},
        "repeat": 3,
        "threads": 1,
        "points": listed,
    }
    (home / "study.json").write_text(json.dumps(study))
    return home
