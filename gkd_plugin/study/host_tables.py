"""The host's own tables over the runs of a folder, ``agg/*.csv``, as its ``agg_batch.py`` writes them."""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
from pathlib import Path

from torch_geometric.graphgym.utils.agg_runs import agg_batch

from gkd_plugin import host
from gkd_plugin.errors import describe_error
from gkd_plugin.host import cfg
from gkd_plugin.study.extras import load_extra
from gkd_plugin.training.disk import guarded
from gkd_plugin.training.run_folder import DATED
from gkd_plugin.training.seed_files import SPLITS

FILES = ("stats.json", "best.json")


def write_host_tables(folder: Path, metric: str, better: bool) -> str | None:
    """Writes ``<folder>/agg`` with the host's own function, from a copy of what it reads.

    It stops at whatever is no finished run (a lock, a run that failed, one without a test split), it deletes the tables
    that are there before it knows whether it can write new ones, and it prints. Unlike ``agg_batch.py`` this leaves out
    what cannot be read, and replaces ``agg`` only in the end.

    Args:
        folder (Path): The folder of runs.
        metric (str): The metric that selects.
        better (bool): Whether more of it is better.

    Returns:
        str: Why there are no tables; ``None`` where they were written.
    """
    load_extra("pandas")  # the host needs it here
    runs = _list_runs(folder)
    if not runs:
        return f"{folder}: no run has tables of all its seeds (agg)"
    own = cfg.clone()
    own.metric_agg = "argmax" if better else "argmin"
    with guarded(folder), tempfile.TemporaryDirectory(prefix=".agg-", dir=folder.parent) as part:
        copy = Path(part) / folder.name
        for run, splits in runs.items():
            for split in splits:
                (copy / run.name / "agg" / split).mkdir(parents=True)
                for name in FILES:
                    shutil.copyfile(run / "agg" / split / name, copy / run.name / "agg" / split / name)
        try:
            with contextlib.redirect_stdout(io.StringIO()), host.scoped(own):
                agg_batch(str(copy), metric)
        except Exception as error:  # the host's own code, on names and columns that it was not made for
            return f"{folder}: the host's agg_batch cannot tabulate these runs ({describe_error(error)})"
        shutil.rmtree(folder / "agg", ignore_errors=True)
        (copy / "agg").rename(folder / "agg")
    return None


def _list_runs(folder: Path) -> dict[Path, list[str]]:
    """The runs that the host can read, with their splits."""
    found = {
        run: [split for split in SPLITS if all((run / "agg" / split / name).is_file() for name in FILES)]
        for run in (sorted(folder.iterdir()) if folder.is_dir() else ())
        if not DATED.fullmatch(run.name)
    }
    return {run: splits for run, splits in found.items() if {"train", "val"} <= set(splits)}
