"""The tables of a study as files: CSV, and Parquet where pyarrow is installed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from gkd_plugin.study.effects import interact, rank, rank_groups
from gkd_plugin.study.records import SUFFIX, StudyResults
from gkd_plugin.study.tables import compare, compare_placebos, pareto, select, summarise
from gkd_plugin.training.checkpoint import write_atomically
from gkd_plugin.training.disk import guarded

if TYPE_CHECKING:
    import pandas as pd

TABLES = "tables"


def find_output(results: StudyResults) -> Path:
    """The folder for what we make of results: ``<study>.gkd``; of a single run its own folder.

    A folder of runs holds nothing of ours, because the host's aggregation takes whatever lies there for a run.

    Args:
        results (StudyResults): The study.
    """
    folder = results.folder.resolve()
    if results.kind == "run" or folder.name.endswith(SUFFIX):
        return folder
    return folder.with_name(folder.name + SUFFIX)


def make_tables(results: StudyResults, answer: str = "mean") -> dict[str, pd.DataFrame]:
    """All tables of a study by name.

    Args:
        results (StudyResults): The study.
        answer (str): The answer that counts.
    """
    start = find_output(results)
    places = [os.path.relpath(folder, start) for folder in results.points["folder"]]
    return {
        "points": results.points.assign(folder=places),
        "scores": results.scores,
        "failures": results.failures,
        "runs": summarise(results, answer),
        "comparison": compare(results, answer),
        "placebos": compare_placebos(results, answer),
        "selected": select(results, answer),
        "ranks": rank(results, answer),
        "rank_groups": rank_groups(results, answer),
        "interactions": interact(results, answer),
        "pareto": pareto(results, answer),
    }


def write_tables(results: StudyResults, answer: str = "mean", made: Mapping[str, pd.DataFrame] | None = None) -> Path:
    """Writes every table that has rows, and removes those of an earlier time that have none now.

    Args:
        results (StudyResults): The study.
        answer (str): The answer that counts.
        made (mapping, optional): What :func:`make_tables` gave already.

    Returns:
        Path: The folder ``tables`` in :func:`find_output`.
    """
    folder = find_output(results) / TABLES
    parquet = find_spec("pyarrow") is not None
    with guarded(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, table in (made or make_tables(results, answer)).items():
            files = {folder / f"{name}.csv": lambda file, table=table: table.to_csv(file, index=False)}
            if parquet:
                files[folder / f"{name}.parquet"] = lambda file, table=table: table.to_parquet(file, index=False)
            for path, write in files.items():
                if len(table):
                    write_atomically(path, write)
                else:
                    path.unlink(missing_ok=True)
    return folder
