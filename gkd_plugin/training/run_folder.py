"""The files a finished run leaves behind, and the test table that the host's own aggregation reads."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor
from torch_geometric.graphgym.utils.agg_runs import agg_dict_list
from yacs.config import CfgNode

from gkd_plugin.plan import Plan
from gkd_plugin.space import axes
from gkd_plugin.training.checkpoint import write_atomically, write_tensors
from gkd_plugin.training.provenance import describe_origin
from gkd_plugin.training.result import RESULT, RunResult
from gkd_plugin.training.rows import read_rows
from gkd_plugin.training.seed_files import FILES, LISTED, SINGLE, find_damage, list_files

PLAN = "plan.yaml"
DATED = re.compile(r".+\.\d{8}-\d{6}(-\d+)?")  # the names under which --fresh keeps runs
TRACKED = "tracker.json"  # there too: under which ids trackers know it
FAILED = "failed.json"  # in a seed's folder: why it was not finished


def write_text(path: Path, text: str) -> None:
    """Writes a small file so that it is never read half-written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(text.encode()))


def dump_plan(plan: Plan) -> str:
    """The resolved plan, every key decided, as it is written."""
    return str(yaml.safe_dump(plan.as_dict(), sort_keys=False))


def list_active_terms(plan: Mapping[str, Any]) -> list[str]:
    """The groups ``kd_<knowledge>`` of a written plan of which any part has a weight.

    Args:
        plan (mapping): What ``plan.yaml`` holds. Knowledge that is not registered here counts by its ``weight`` alone.
    """

    def weighs(name: str, group: Mapping[str, Any]) -> bool:
        parts = [part.weight for part in axes.knowledge[name].parts] if name in axes.knowledge else ["weight"]
        return any(group.get(part) for part in parts)

    groups = {key: value for key, value in plan.items() if str(key).startswith("kd_") and isinstance(value, Mapping)}
    return [key for key, group in groups.items() if weighs(key.removeprefix("kd_"), group)]


def write_plan(folder: Path, plan: Plan) -> None:
    """Writes the resolved plan into a folder."""
    write_text(folder / PLAN, dump_plan(plan))


def clear_earlier(folder: Path, logs: Sequence[Any]) -> None:
    """Removes what an earlier run of ours left in a seed's folder that a host program uses again.

    Rows would stand beside the new ones, and weights of a student that answers no more would stay.

    Args:
        folder (Path): The seed's folder.
        logs (sequence): The program's loggers; nothing is removed where none of them writes into the folder, nor rows of a
            logger that writes elsewhere.
    """
    here = folder.resolve()
    inside = [path for log in logs if here in (path := Path(str(getattr(log, "out_dir", "/"))).resolve()).parents]
    if not inside or not (folder / PLAN).is_file():  # the plan is written first of all, by every run of ours
        return
    (folder / RESULT).unlink(missing_ok=True)  # first: the seed is finished no more
    for pattern in (*LISTED, TRACKED):
        for path in folder.glob(pattern):
            if path.parent == folder or path.parent.resolve() in inside:
                path.unlink(missing_ok=True)


def write_outcome(
    folder: Path,
    result: RunResult,
    weights: Mapping[int, Mapping[str, Tensor]],
    configs: Mapping[int, CfgNode],
    single: Mapping[str, Tensor] | None = None,
) -> None:
    """The answering students' weights and cfg, versions, and last of all the result, which marks the run as finished.

    Args:
        folder (Path): The seed's folder.
        result (RunResult): Its result.
        weights (mapping): The weights to keep, by student number.
        configs (mapping): The configuration of each student by number.
        single (mapping, optional): Of an ensemble, the weights of its best student at that student's own best epoch.
    """
    for number, state in weights.items():
        write_tensors(folder / f"student_{number}.pt", {name: value.cpu() for name, value in state.items()})
        write_text(folder / f"student_{number}.yaml", configs[number].dump())
    if single is not None:
        write_tensors(folder / SINGLE, {name: value.cpu() for name, value in single.items()})
    values = {**result.as_dict(), **describe_origin(), "threads": torch.get_num_threads(), FILES: list_files(folder)}
    write_text(folder / RESULT, json.dumps(values, indent=1) + "\n")


def aggregate_tests(out_dir: Path, seeds: Sequence[Path] | None = None) -> None:
    """Writes ``agg/test``: the host's aggregation drops the test split but tabulates what it finds there.

    Args:
        out_dir (Path): The run's folder with one folder for each seed.
        seeds (sequence of Path, optional): The seeds' folders. (default: all finished ones)
    """
    seeds = finished_seeds(out_dir) if seeds is None else seeds
    files = [seed / "test" / "stats.json" for seed in seeds]
    rows = [found[0][1] for path in files if (found := read_rows(path))]
    if rows:
        shared = set.intersection(*(set(row) for row in rows))  # earlier versions wrote fewer columns
        rows = [{key: row[key] for key in row if key in shared} for row in rows]
        line = json.dumps(_plain(agg_dict_list(rows))) + "\n"
        for name in ("stats.json", "best.json"):
            write_text(out_dir / "agg" / "test" / name, line)


def forget_tests(out_dir: Path) -> None:
    """Removes what :func:`aggregate_tests` wrote: a seed begins, and if it is never finished, the host's tables over many runs
    shall not show the run by the seeds before it. The host itself leaves such a run out.

    Args:
        out_dir (Path): The run's folder.
    """
    shutil.rmtree(out_dir / "agg" / "test", ignore_errors=True)


def finished_seeds(out_dir: Path) -> Sequence[Path]:
    """The folders of the finished seeds, by seed; damaged ones do not count."""
    return [path for path in seed_folders(out_dir) if (path / RESULT).is_file() and find_damage(path) is None]


def seed_folders(out_dir: Path) -> Sequence[Path]:
    """The folders of all seeds, by seed."""
    folders = {path: read_seed(path.name) for path in out_dir.iterdir() if path.is_dir()}
    return [path for path, seed in sorted(folders.items(), key=lambda each: each[1] or 0) if seed is not None]


def read_seed(name: str) -> int | None:
    """The seed that a folder's name, or a key of a table, is the number of; ``None`` where it is something else.

    Args:
        name (str): Any name.
    """
    return int(name) if re.fullmatch(r"-?[0-9]+", name) else None


def is_seed(folder: Path) -> bool:
    """Whether a folder is that of one seed: it has a result, or it has a number and something of a run in it or beside it.

    Args:
        folder (Path): Any folder.
    """
    if (folder / RESULT).is_file():
        return True
    begun = any((folder / name).exists() for name in (FAILED, "train", "val", "ckpt"))
    return read_seed(folder.name) is not None and (begun or (folder.parent / PLAN).is_file())


def read_reason(folder: Path) -> str:
    """Why a seed failed, in its own words.

    Args:
        folder (Path): The seed's folder, which has a :data:`FAILED`.
    """
    path = folder / FAILED
    try:
        return str(json.loads(path.read_text())["error"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"failed; {path} cannot be read"


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value.item() if hasattr(value, "item") else value for key, value in row.items()}
