"""Where ``kd.teacher: NAME`` is: a run of ours, one of the stock program, the best run of a grid, or a file."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from gkd_plugin.errors import UserError, nearest
from gkd_plugin.plan import Plan
from gkd_plugin.training.metrics import find_metric
from gkd_plugin.training.result import RESULT, read_result
from gkd_plugin.training.run_folder import DATED, read_seed
from gkd_plugin.training.teachers.base import Record
from gkd_plugin.training.teachers.file import SUFFIXES


@dataclass(frozen=True)
class FoundRun:
    """The weights and configuration of one seed's teacher, and its recorded score.

    Args:
        name (str): The run's name.
        seed (int): The number of its seed folder.
        weights, config (Path): Its files.
        record (Record): Its validation score.
        data (str, optional): The sha256 of the data it was trained on, where it was recorded.
    """

    name: str
    seed: int
    weights: Path
    config: Path
    record: Record
    data: str | None = None


def teacher_name(plan: Plan) -> str:
    """The name of a plan's teacher: ``kd.teacher``, else that of ``kd.teacher_cfg`` without folder and suffix."""
    file = str(plan["teacher_cfg"]).rsplit("/", 1)[-1]
    return str(plan["teacher"] or re.sub(r"\.ya?ml$", "", file))


def list_places(run_folder: Path) -> list[Path]:
    """The folders above a run's own (its ``out_dir``, then each parent) up to the working folder.

    Where results are kept elsewhere: its ``out_dir`` and the two above, where a study keeps teachers, and the working folder.
    """
    here, own = Path.cwd().resolve(), run_folder.resolve()
    found = [own.parent]
    while here in found[-1].parents:
        found.append(found[-1].parent)
    return found if here in found else [*list(own.parents)[:3], here]


def find_folder(name: str, run_folder: Path) -> Path | None:
    """The folder or file of a teacher, or ``None`` where it is in none of the places.

    Args:
        name (str): Its name.
        run_folder (Path): The folder of the student's run.

    Raises:
        UserError: If the name leaves its folder, or is that of the run itself.
    """
    for place in list_places(run_folder):
        target = Path(os.path.normpath(place / name))
        if place not in target.parents:
            raise UserError(f"kd.teacher: '{name}' leads out of {place}. A name must stay in its folder.")
        if target == run_folder.resolve():
            raise UserError(
                f"kd.teacher: '{name}' is this run itself. Name another teacher, or give this run another --name."
            )
        if target.exists():
            return target
    return None


def report_missing(name: str, run_folder: Path) -> UserError:
    """The error for a teacher that is in none of the places."""
    searched = list_places(run_folder)
    there = {path.name for place in searched if place.is_dir() for path in place.iterdir()} - {run_folder.name}
    return UserError(
        f"kd.teacher: there is no '{name}'. {nearest(name, sorted(there))}Searched: {', '.join(map(str, searched))}. "
        "Train it first (gkd run), or name its YAML in kd.teacher_cfg."
    )


def has_seeds(target: Path, seeds: Sequence[int]) -> bool:
    """Whether a teacher has all these seeds finished (a file or a grid's best run has no seeds to train)."""
    if target.is_file() or _list_grid(target):
        return True
    return set(seeds) <= _find_finished(target).keys()


def is_file(path: Path) -> bool:
    """Whether a teacher is a file of logits rather than a run.

    Raises:
        UserError: If it is a file of another kind.
    """
    if path.is_file() and path.suffix not in SUFFIXES:
        raise UserError(
            f"kd.teacher: {path} is not a teacher. Allowed: {', '.join(SUFFIXES)} files and folders of runs."
        )
    return path.is_file()


class NoSuchSeed(UserError):
    """A teacher's run is there, but not the seed of it that is asked for."""


def choose(folder: Path, seed: str | int, student_seed: int) -> FoundRun:
    """One seed of a teacher's run, or of the best run of a grid.

    Args:
        folder (Path): What :func:`find_folder` found.
        seed (str or int): ``kd.teacher_seed``: ``match``, ``best`` or a seed folder's number.
        student_seed (int): The number of the student's seed folder.

    Raises:
        UserError: If there is no finished seed.
        NoSuchSeed: If there are some, but not the one asked for.
    """
    seeds = _find_finished(folder)
    if not seeds:
        if not _list_grid(folder):
            raise UserError(
                f"kd.teacher: {folder} contains no finished run (no seed with {RESULT}; none with a checkpoint of the last "
                "epoch and val/stats.json). Finish it with the same gkd run, or let the stock program write "
                "checkpoints (train.enable_ckpt)."
            )
        return choose(_choose_best_of_grid(folder), seed, student_seed)
    if seed == "best":
        return max((seeds[number] for number in sorted(seeds)), key=lambda found: _rank(found.record))
    wanted = student_seed if seed == "match" else int(seed)
    if wanted not in seeds:
        raise NoSuchSeed(
            f"kd.teacher_seed: {seed} asks for seed folder {wanted} of {folder}; "
            f"finished: {', '.join(map(str, sorted(seeds)))}. "
            "Train that seed, or set kd.teacher_seed to best or one of these."
        )
    return seeds[wanted]


def _find_finished(folder: Path) -> dict[int, FoundRun]:
    found = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_dir() and read_seed(path.name) is not None:
            seed = _read_ours(folder, path) or _read_stock(folder, path)
            if seed is not None:
                found[seed.seed] = seed
    return found


def _read_ours(folder: Path, seed: Path) -> FoundRun | None:
    result = read_result(seed)
    if result is None:
        return None
    if len(result.answering) > 1:
        raise UserError(
            f"kd.teacher: {folder} predicts as an ensemble (kd.predict: ensemble), but a teacher is one network. "
            "Train a teacher with kd.predict best or first."
        )
    (number,) = result.answering
    record = Record(result.metric, result.answers[f"s{number}"].val, seed / RESULT, result.better)
    files = (seed / f"student_{number}.pt", seed / f"student_{number}.yaml")
    return FoundRun(folder.name, int(seed.name), *files, record, result.depends.get("data"))


def _read_stock(folder: Path, seed: Path) -> FoundRun | None:
    """A seed of the host's own program: the last epoch's checkpoint and that epoch's validation row."""
    files = {int(m.group(1)): p for p in sorted(seed.glob("ckpt/*.ckpt")) if (m := re.search(r"epoch=(\d+)", p.name))}
    stats, config = seed / "val" / "stats.json", folder / "config.yaml"
    if not files or not stats.is_file() or not config.is_file():
        return None
    epoch = max(files)
    try:
        values = yaml.safe_load(config.read_text())
        if epoch + 1 != int(values["optim"]["max_epoch"]):
            return None  # it was interrupted
        # the sanity check writes a row for epoch 0 of the untrained network: the last row of an epoch is the real one
        rows = [row for line in stats.read_text().splitlines() if (row := json.loads(line))["epoch"] == epoch]
        if not rows:
            return None
        metric, better = find_metric(values, rows[-1])
        record = Record(metric, float(rows[-1][metric]), stats, better)
    except (ValueError, KeyError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise UserError(
            f"kd.teacher: {config} and {stats} are not those of a finished GraphGym run ({type(error).__name__}: {error})."
        ) from None
    return FoundRun(folder.name, int(seed.name), files[epoch], config, record)


def _list_grid(folder: Path) -> list[Path]:
    """The folders of a grid's runs; not those that ``--fresh`` set aside."""
    found = sorted(path.parent for path in folder.glob("*/config.yaml")) if folder.is_dir() else []
    return [run for run in found if not DATED.fullmatch(run.name)]


def _choose_best_of_grid(folder: Path) -> Path:
    """The run with the best validation score, by the mean over its seeds, among the runs of a finished grid."""
    ranks: dict[Path, float] = {}
    for run in _list_grid(folder):
        best = run / "agg" / "val" / "best.json"
        try:
            row = json.loads(best.read_text().splitlines()[-1])
            metric, better = find_metric(yaml.safe_load((run / "config.yaml").read_bytes()), row)
            ranks[run] = _rank(Record(metric, float(row[metric]), best, better))
        except (OSError, ValueError, IndexError, KeyError, TypeError, AttributeError, RecursionError, yaml.YAMLError):
            raise UserError(
                f"kd.teacher: {folder} is a grid, and its run {run.name} is not finished (no {best.relative_to(folder)}). "
                "Finish the grid, or name one of its runs."
            ) from None
    return max(ranks, key=lambda run: ranks[run])


def _rank(record: Record) -> float:
    """Larger is better; NaN is worst."""
    value = record.val if record.better else -record.val
    return value if value == value else float("-inf")
