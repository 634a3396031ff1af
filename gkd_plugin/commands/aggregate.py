"""The host's own aggregation over the seeds of a run, the test split included."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from torch_geometric.graphgym.utils.agg_runs import agg_runs
from yacs.config import CfgNode

from gkd_plugin.host import cfg
from gkd_plugin.training.result import RunResult
from gkd_plugin.training.rows import read_rows
from gkd_plugin.training.run_folder import aggregate_tests, finished_seeds
from gkd_plugin.training.seed_files import SPLITS


def aggregate(folder: Path, result: RunResult, own: CfgNode) -> list[str]:
    """Writes ``agg/`` from every finished seed that is whole; the host prints every row it reads, unseen here.

    Args:
        folder (Path): The run's folder.
        result (RunResult): Any of its results.
        own (CfgNode): The run's configuration.

    Returns:
        list of str: A line for each seed that has other rows than most; it is left out.
    """
    cfg.metric_agg = "argmax" if result.better else "argmin"
    cfg.tensorboard_agg = bool(own.tensorboard_agg) and find_spec("tensorboardX") is not None
    seeds, warnings = _choose_seeds(finished_seeds(folder), result.metric)
    if not seeds:
        return warnings
    copy = folder / "agg.part"  # the host would also read seeds that were cut short, and stop there
    shutil.rmtree(copy, ignore_errors=True)
    for split in SPLITS[:2]:
        tables = {seed.name: [row for _, row in read_rows(seed / split / "stats.json")] for seed in seeds}
        # columns that every row has: seeds that an earlier version finished may lack some, and the host would stop
        shared = set.intersection(*(set(row) for rows in tables.values() for row in rows))
        for name, rows in tables.items():
            (copy / name / split).mkdir(parents=True)
            lines = (json.dumps({key: row[key] for key in row if key in shared}) for row in rows)
            (copy / name / split / "stats.json").write_text("".join(f"{line}\n" for line in lines))
    with contextlib.redirect_stdout(io.StringIO()):
        agg_runs(str(copy), result.metric)
    for split in SPLITS[:2]:
        shutil.rmtree(folder / "agg" / split, ignore_errors=True)
        (folder / "agg").mkdir(exist_ok=True)
        (copy / "agg" / split).rename(folder / "agg" / split)
    shutil.rmtree(copy)
    aggregate_tests(folder, seeds)
    return warnings


def _choose_seeds(seeds: Sequence[Path], metric: str) -> tuple[list[Path], list[str]]:
    """The seeds whose rows are of the same epochs as those of most, of the longest where it is a tie; and the others."""
    epochs = {seed: (_list_epochs(seed / "train"), _list_epochs(seed / "val", metric)) for seed in seeds}
    counts = Counter(epochs.values())
    usual = max(counts, key=lambda rows: (all(rows), counts[rows], sum(map(len, rows))), default=())
    if not all(usual):
        usual = ()
    kept = [seed for seed in seeds if usual and epochs[seed] == usual]
    return kept, [
        f"{seed}: its rows ({', '.join(f'{split} {len(rows)}' for split, rows in zip(SPLITS, epochs[seed], strict=False))}) "
        f"are not of the same epochs as those of other seeds, or lack {metric}. It is left out of the tables in agg. "
        "Remove it and run the same command again to train it anew."
        for seed in seeds
        if seed not in kept
    ]


def _list_epochs(folder: Path, column: str = "epoch") -> tuple[int, ...]:
    """The epochs of a split's rows; empty where some lack a column."""
    rows = [row for _, row in read_rows(folder / "stats.json")]
    return tuple(row["epoch"] for row in rows) if all(column in row for row in rows) else ()
