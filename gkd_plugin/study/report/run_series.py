"""What the files of a run say by epoch and by layer, averaged over its seeds."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gkd_plugin.training.recorders.gradients import FILE as DIAGNOSTICS
from gkd_plugin.training.recorders.learned_maps import FILE as MAPS
from gkd_plugin.training.rows import read_rows
from gkd_plugin.training.run_folder import seed_folders


@dataclass(frozen=True)
class Series:
    """Values by epoch over the seeds of a run.

    Args:
        epochs (list of int): The epochs.
        mean, low, high (list of float): Mean, smallest and largest value of the seeds that have the epoch.
        seeds (int): Number of seeds.
    """

    epochs: list[int]
    mean: list[float]
    low: list[float]
    high: list[float]
    seeds: int

    @classmethod
    def of(cls, columns: Iterable[Mapping[int, float]]) -> Series | None:
        """The series of one column of every seed; ``None`` where none has a number."""
        known = [column for column in columns if column]
        if not known:
            return None
        epochs = sorted(set().union(*known))
        found = [[column[epoch] for column in known if epoch in column] for epoch in epochs]
        means = [float(np.mean(values)) for values in found]
        return cls(epochs, means, [min(values) for values in found], [max(values) for values in found], len(known))


def list_seeds(folder: Path) -> list[Path]:
    """The folders of a run's seeds; none where the run has no folder."""
    return list(seed_folders(folder)) if folder.is_dir() else []


def read_columns(path: Path) -> dict[str, dict[int, float]]:
    """The numbers of a file of rows: by column, then by epoch; the last row of an epoch counts."""
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for _, row in read_rows(path):
        for name, value in row.items():
            if isinstance(value, (int, float)) and value == value:
                found[name][row["epoch"]] = float(value)
    return dict(found)


def read_validation(folder: Path, metric: str) -> Series | None:
    """The validation score by epoch: the mean over students where there are several.

    Args:
        folder (Path): The run's folder.
        metric (str): The metric that selects.
    """
    tables = [read_columns(seed / "val" / "stats.json") for seed in list_seeds(folder)]
    return Series.of(table.get(f"mean_{metric}") or table.get(metric, {}) for table in tables)


def read_terms(folder: Path) -> dict[str, dict[int, Series]]:
    """The value of every term by epoch in training: by term, then by student."""
    tables = [read_columns(seed / "train" / "stats.json") for seed in list_seeds(folder)]
    names = dict.fromkeys(name for table in tables for name in table if re.fullmatch(r"s\d+_(loss|kd_\w+)", name))
    found: dict[str, dict[int, Series]] = defaultdict(dict)
    for name in names:
        student, _, term = name.partition("_")
        series = Series.of(table.get(name, {}) for table in tables)
        if series is not None:
            found[term][int(student[1:])] = series
    return dict(found)


def read_shares(folder: Path) -> dict[str, Series]:
    """The share of the gradient of the labels (``task``) and of every term, by epoch; mean over students and seeds."""
    collected: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for seed in list_seeds(folder):
        for _, row in read_rows(seed / DIAGNOSTICS):
            for name, value in row.items():
                if name.endswith("_share") and isinstance(value, (int, float)):
                    collected[name.removesuffix("_share")][row["epoch"]].append(value)
    found = {}
    for name, by_epoch in collected.items():
        series = Series.of([{epoch: float(np.mean(values)) for epoch, values in by_epoch.items()}])
        if series is not None:
            found[name] = series
    return found


@dataclass(frozen=True)
class LearnedMap:
    """A learned layer map at the end of a run.

    Args:
        student (int): The learner.
        source (str): Who teaches it.
        weights (array): A learner layer in each row, a source layer in each column; the mean over seeds.
        epoch (int): The last epoch that was recorded.
        seeds (int): Number of seeds.
    """

    student: int
    source: str
    weights: Any
    epoch: int
    seeds: int


def has_maps(folder: Path) -> bool:
    """Whether a run recorded learned layer maps."""
    return any((seed / MAPS).is_file() for seed in list_seeds(folder))


def read_maps(folder: Path) -> list[LearnedMap]:
    """The last weights of every learned map of a run.

    Args:
        folder (Path): The run's folder.
    """
    last: dict[tuple[int, str, str], dict[str, dict[str, Any]]] = defaultdict(dict)
    for seed in list_seeds(folder):
        for _, row in read_rows(seed / MAPS):
            if _is_map(row):
                last[row["student"], str(row.get("map", "")), str(row["source"])][seed.name] = row
    found = []
    for (student, _, source), rows in sorted(last.items(), key=str):
        shapes = [np.shape(row["weights"]) for row in rows.values()]
        same = [row for row, shape in zip(rows.values(), shapes, strict=True) if shape == shapes[0]]
        weights = np.mean([row["weights"] for row in same], axis=0)
        found.append(LearnedMap(student, source, weights, max(row["epoch"] for row in same), len(same)))
    return found


def _is_map(row: Mapping[str, Any]) -> bool:
    if not isinstance(row.get("student"), int) or "source" not in row:
        return False
    try:
        weights = np.array(row.get("weights"), dtype=float)
    except (TypeError, ValueError):
        return False
    return weights.ndim == 2 and weights.size > 0


def read_smoothing(folder: Path) -> dict[int, float]:
    """The mean average distance to neighbours by layer at the last epoch, over students and seeds.

    Args:
        folder (Path): The run's folder.
    """
    found: dict[int, list[float]] = defaultdict(list)
    for seed in list_seeds(folder):
        for name, value in _read_last(seed / "val" / "stats.json").items():
            layer = re.fullmatch(r"s\d+_layer(\d+)_mad", name)
            if layer and isinstance(value, (int, float)) and value == value:
                found[int(layer[1])].append(value)
    return {layer: float(np.mean(values)) for layer, values in sorted(found.items())}


def _read_last(path: Path) -> dict[str, Any]:
    """The last row alone: a study has many files, of which most lack what is looked for."""
    try:
        row = json.loads(path.read_text(errors="replace").rstrip().rpartition("\n")[2])
    except (OSError, ValueError):
        return {}
    return row if isinstance(row, dict) else {}
