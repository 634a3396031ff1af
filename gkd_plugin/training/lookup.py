"""Where ``kd.teacher: NAME`` is: a run of ours, one of the stock program, the best run of a grid, or a file."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch_geometric.graphgym.utils.io import json_to_dict_list

from gkd_plugin.errors import UserError, nearest
from gkd_plugin.models.teachers import FILES, Record
from gkd_plugin.training.result import RESULT, RunResult


@dataclass(frozen=True)
class Found:
    """The weights and configuration of one seed's teacher, and what its run says of it."""

    name: str
    weights: Path
    config: Path
    record: Record


def places(out_dir: Path) -> list[Path]:
    """The run's ``out_dir`` and each parent up to the working folder."""
    here, start = Path.cwd().resolve(), out_dir.resolve()
    found = [start]
    while here in found[-1].parents:
        found.append(found[-1].parent)
    if here not in found:  # results are kept elsewhere: the folder that holds this run, and the working folder
        found += [start.parent, here]
    return found


def find_folder(name: str, out_dir: Path) -> Path:
    """The folder or file of a teacher.

    Raises:
        UserError: If it is in none of the places; the message lists them.
    """
    searched = places(out_dir)
    for place in searched:
        target = (place / name).resolve()
        if place not in target.parents:
            raise UserError(f"kd.teacher: '{name}' leaves {place}. A name never leaves its folder.")
        if target.exists():
            return target
    there = sorted({path.name for place in searched if place.is_dir() for path in place.iterdir()})
    raise UserError(
        f"kd.teacher: there is no '{name}'. {nearest(name, there)}Searched: {', '.join(map(str, searched))}. "
        "Train it first (gkd run), or name its YAML in kd.teacher_cfg."
    )


def has_seeds(name: str, out_dir: Path, seeds: Sequence[int]) -> bool:
    """Whether a teacher is there with all these seeds finished (a file or a grid's best run has no seeds to train)."""
    target = next((place / name for place in places(out_dir) if (place / name).exists()), None)
    if target is None:
        return False
    if is_file(target) or _best_of_grid(target) is not None:
        return True
    return set(seeds) <= _finished(target).keys()


def is_file(path: Path) -> bool:
    """Whether a teacher is a file of logits rather than a run."""
    return path.is_file() and path.suffix in FILES


def choose(folder: Path, seed: str | int, student_seed: int) -> Found:
    """One seed of a teacher's run, or of the best run of a grid.

    Args:
        folder (Path): What :func:`find_folder` found.
        seed (str or int): ``kd.teacher_seed``: ``match``, ``best`` or a seed folder's number.
        student_seed (int): The number of the student's seed folder.

    Raises:
        UserError: If there is no finished seed, or not the one asked for.
    """
    if folder.is_file():
        raise UserError(f"kd.teacher: {folder} is a file; allowed are {', '.join(FILES)} files and folders of runs.")
    seeds = _finished(folder)
    if not seeds:
        best = _best_of_grid(folder)
        if best is None:
            raise UserError(
                f"kd.teacher: {folder} holds no finished run (no seed with {RESULT}, and none with val/stats.json and ckpt/). "
                "Finish it with the same gkd run, or let the stock program write checkpoints (train.enable_ckpt)."
            )
        return choose(best, seed, student_seed)
    if seed == "best":
        sign = -1.0 if next(iter(seeds.values())).record.metric in ("mae", "mse", "rmse", "loss") else 1.0
        return max(seeds.values(), key=lambda found: sign * found.record.val)
    wanted = student_seed if seed == "match" else int(seed)
    if wanted not in seeds:
        raise UserError(
            f"kd.teacher_seed: {seed} asks for seed folder {wanted} of {folder}; finished: {', '.join(map(str, sorted(seeds)))}. "
            "Train that seed, or set kd.teacher_seed to best or one of these."
        )
    return seeds[wanted]


def _finished(folder: Path) -> dict[int, Found]:
    found = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir() and re.fullmatch(r"\d+", path.name):
            seed = _ours(folder, path) or _stock(folder, path)
            if seed is not None:
                found[int(path.name)] = seed
    return found


def _ours(folder: Path, seed: Path) -> Found | None:
    path = seed / RESULT
    if not path.is_file():
        return None
    try:
        result = RunResult.from_dict(json.loads(path.read_text()))
    except (ValueError, KeyError, TypeError):
        raise UserError(f"kd.teacher: {path} is not a result of gkd_plugin.") from None
    number = 1 if result.predict == "first" else result.best_student
    record = Record(result.metric, result.answers[f"s{number}"].val, path)
    return Found(folder.name, seed / f"student_{number}.pt", seed / f"student_{number}.yaml", record)


def _stock(folder: Path, seed: Path) -> Found | None:
    """A seed of the host's own program: the last epoch's checkpoint and that epoch's validation row."""
    checkpoints = {int(m.group(1)): p for p in seed.glob("ckpt/*.ckpt") if (m := re.search(r"epoch=(\d+)", p.name))}
    stats = seed / "val" / "stats.json"
    config = folder / "config.yaml"
    if not checkpoints or not stats.is_file() or not config.is_file():
        return None
    epoch = max(checkpoints)
    # the sanity check writes a row for epoch 0 of the untrained network: the last row of an epoch is the real one
    rows = [row for line in stats.read_text().splitlines() if (row := json.loads(line))["epoch"] == epoch]
    if not rows:
        return None
    metric = next((name for name in ("auc", "accuracy", "mae") if name in rows[-1]), None)
    if metric is None:
        known = ("epoch", "eta", "loss", "lr", "params", "time_iter")
        metric = next(name for name in rows[-1] if name not in known)
    return Found(folder.name, checkpoints[epoch], config, Record(metric, float(rows[-1][metric]), stats))


def _best_of_grid(folder: Path) -> Path | None:
    """The run with the best validation score among the runs of a grid."""
    ranked = []
    for path in sorted(folder.glob("*/agg/val/best.json")):
        row = json_to_dict_list(str(path))[-1]
        score = row.get("auc", row.get("accuracy"))
        if score is None and "mae" in row:
            score = -row["mae"]
        if score is not None:
            ranked.append((float(score), path.parents[2]))
    return max(ranked, key=lambda entry: entry[0])[1] if ranked else None
