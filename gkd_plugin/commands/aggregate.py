"""The host's own aggregation over the seeds of a run, the test split included."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from importlib.util import find_spec
from pathlib import Path

from torch_geometric.graphgym.utils.agg_runs import agg_runs
from torch_geometric.graphgym.utils.io import json_to_dict_list
from yacs.config import CfgNode

from gkd_plugin.host import cfg
from gkd_plugin.training.result import RunResult
from gkd_plugin.training.run_folder import aggregate_tests, finished_seeds
from gkd_plugin.training.seed_files import SPLITS


def aggregate(folder: Path, result: RunResult, own: CfgNode) -> None:
    """Writes ``agg/`` from every finished seed that is whole; the host prints every row it reads, unseen here.

    Args:
        folder (Path): The run's folder.
        result (RunResult): Any of its results.
        own (CfgNode): The run's configuration.
    """
    cfg.metric_agg = "argmax" if result.better else "argmin"
    cfg.tensorboard_agg = bool(own.tensorboard_agg) and find_spec("tensorboardX") is not None
    seeds = finished_seeds(folder)
    copy = folder / "agg.part"  # the host would also read seeds that were cut short, and stop there
    shutil.rmtree(copy, ignore_errors=True)
    for split in SPLITS[:2]:
        tables = {seed.name: json_to_dict_list(str(seed / split / "stats.json")) for seed in seeds}
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
