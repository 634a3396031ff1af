"""The files of one run, ours or the host's, read as rows: what is damaged is said, and the rest is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from gkd_plugin.study.ledger import DONE, FAILED, INTERRUPTED, PENDING, RUNNING
from gkd_plugin.training.metrics import find_metric
from gkd_plugin.training.result import RESULT, RunResult, Score, read_result
from gkd_plugin.training.rows import read_rows
from gkd_plugin.training.run_folder import FAILED as FAILURE
from gkd_plugin.training.run_folder import read_reason, seed_folders
from gkd_plugin.training.seed_files import find_damage

DAMAGED, MISSING = "damaged", "missing"  # states that only a look into the folder finds
HOST_NOTE = "test of the last epoch, as the host's main program writes it"
_AGAIN = "Run the same command again to train what is missing."
_SINGLE = ("s1", "mean", "first", "best")  # the answers of a run of one student


@dataclass
class RunFiles:
    """What the folder of one run holds.

    Args:
        rows (list of dict): One for each seed and answer.
        failures (list): ``(seed, reason)`` for what failed or is damaged.
        unfinished (list): The same for what has begun and not ended.
        damaged (bool): Whether any of the failures is damage.
        state (str): ``done``, ``damaged``, ``missing``, ``failed``, ``interrupted`` or ``pending``.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    failures: list[tuple[int | None, str]] = field(default_factory=list)
    unfinished: list[tuple[int | None, str]] = field(default_factory=list)
    damaged: bool = False
    state: str = PENDING


class _Damaged(Exception):
    """Why a seed cannot be read."""


class _Failed(Exception):
    """Why a seed failed."""


class _Unfinished(Exception):
    """Why a seed is not finished."""


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run: it has folders of seeds with rows, a result or a failure."""
    if not folder.is_dir():
        return False
    inside = (RESULT, FAILURE, "train", "val", "ckpt")
    return any((seed / name).exists() for seed in seed_folders(folder) for name in inside)


def read_run(folder: Path, known: str | None = None, asked: int = 1) -> RunFiles:
    """Everything that a run's folder says of its seeds.

    Args:
        folder (Path): The run's folder, which need not be there.
        known (str, optional): The state in the ledger. It counts, unless the folder shows that a finished run is no more.
        asked (int): The number of seeds that were asked for.
    """
    found = RunFiles()
    for path in seed_folders(folder) if folder.is_dir() else ():
        seed = int(path.name) + 1  # the folder of seed 1 is 0
        try:
            found.rows += _read_seed(folder, path, seed)
        except _Unfinished as why:
            found.unfinished.append((seed, str(why)))
        except _Failed as why:
            found.failures.append((seed, str(why)))
        except _Damaged as why:
            found.failures.append((seed, str(why)))
            found.damaged = True
    if found.unfinished:
        found.state = INTERRUPTED
    elif found.failures:
        found.state = FAILED
    elif found.rows:
        found.state = DONE
    _compare(found, folder, known, asked)
    return found


def _compare(found: RunFiles, folder: Path, known: str | None, asked: int) -> None:
    """The state, from the folder and the ledger."""
    seeds = {row["seed"] for row in found.rows} | {seed for seed, _ in found.failures + found.unfinished}
    state = known or found.state
    if state == DONE:
        if not folder.is_dir():
            found.failures.append((None, f"{folder} is gone. {_AGAIN}"))
        elif len(seeds) < asked:
            found.failures.append((None, f"{folder} has {len(seeds)} of {asked} seeds. {_AGAIN}"))
        if len(seeds) < asked or found.unfinished:
            state = MISSING
        elif found.failures:
            state = FAILED
    found.state = DAMAGED if found.damaged and state != RUNNING else state


def _read_seed(folder: Path, path: Path, seed: int) -> list[dict[str, Any]]:
    if (path / RESULT).is_file():
        if (damage := find_damage(path)) is not None:
            raise _Damaged(damage)
        result = read_result(path)
        assert result is not None
        return _list_answers(result)
    if (path / FAILURE).is_file():
        raise _Failed(read_reason(path))
    if (folder / "plan.yaml").is_file() or (path / "plan.yaml").is_file():
        raise _Unfinished(f"{path} is not finished")
    return _read_host_seed(folder, path, seed)


def _list_answers(result: RunResult) -> list[dict[str, Any]]:
    shared = {
        "seed": result.seed,
        "metric": result.metric,
        "better": result.better,
        "students": len(result.parameters),
        "seconds": float(result.seconds),
        "teacher": result.teacher_name,
        "teacher_test": float(result.teacher.get("test", float("nan"))),
        "warnings": "; ".join(result.warnings),
        "note": "",
    }
    return [
        {
            **shared,
            "answer": answer,
            "epoch": float(score.epoch),
            "val": float(score.val),
            "test": float(score.test),
            "parameters": _count_parameters(result, answer),
            "agreement": float(result.agreement.get(answer, float("nan"))),
            "test_transductive": result.part(answer, "transductive"),
            "test_inductive": result.part(answer, "inductive"),
        }
        for answer, score in result.answers.items()
    ]


def _count_parameters(result: RunResult, answer: str) -> float:
    """Parameters of what is deployed: one student, all of them for an ensemble; their mean for the mean over students."""
    sizes = result.parameters
    if answer == "ensemble":
        return float(sum(sizes))
    if answer == "mean":
        return sum(sizes) / len(sizes)
    number = {"first": 1, "best": result.best_student}.get(answer) or int(answer.removeprefix("s"))
    return float(sizes[number - 1])


# ------------------------------------------------------------------------------------------------------- the host's own
def _read_host_seed(folder: Path, path: Path, seed: int) -> list[dict[str, Any]]:
    """The rows of the host's main program: validation selects the epoch, but the test is the last epoch's."""
    rows = _read_epochs(path / "val" / "stats.json")
    if not rows:
        raise _Unfinished(f"{path} has no rows of validation")
    values = _read_config(folder / "config.yaml")
    last = values.get("optim", {}).get("max_epoch")
    if isinstance(last, int) and max(rows) + 1 < last:
        raise _Unfinished(f"{path} is not finished: {max(rows) + 1} of {last} epochs")
    try:
        metric, better = find_metric(values, rows[max(rows)])
    except KeyError as missing:
        raise _Damaged(
            f"{path / 'val' / 'stats.json'} has no column {missing.args[0]}, which metric_best names"
        ) from None
    epoch, row = _select(path, rows, metric, better)
    tests = _read_epochs(path / "test" / "stats.json")
    test = tests[max(tests)].get(metric) if tests else None
    score = Score(float(epoch), row[metric], test if isinstance(test, (int, float)) else float("nan"))
    size = row.get("params")
    size = int(size) if isinstance(size, (int, float)) and size == size else 0
    result = RunResult(seed, metric, better, "first", dict.fromkeys(_SINGLE, score), [size], 1, len(rows), float("nan"))
    return [{**answer, "note": HOST_NOTE} for answer in _list_answers(result)]


def _read_epochs(path: Path) -> dict[int, dict[str, Any]]:
    """Rows by epoch. Of two rows of an epoch the last counts: the first is that of the untrained network."""
    try:
        rows = [row for _, row in read_rows(path)]
        text = path.read_text(errors="replace") if path.is_file() else ""
    except OSError as error:
        raise _Damaged(f"{path} cannot be read ({error.strerror})") from None
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) > len(rows):
        raise _Damaged(f"{path} is damaged: {len(lines) - len(rows)} of {len(lines)} rows cannot be read")
    return {row["epoch"]: row for row in rows}


def _read_config(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    groups = values if isinstance(values, dict) else {}
    return {**groups, "optim": groups["optim"] if isinstance(groups.get("optim"), dict) else {}}


def _select(path: Path, rows: dict[int, dict[str, Any]], metric: str, better: bool) -> tuple[int, dict[str, Any]]:
    scored = {
        epoch: row
        for epoch, row in rows.items()
        if isinstance(value := row.get(metric), (int, float)) and value == value
    }
    if not scored:
        raise _Damaged(f"{path / 'val' / 'stats.json'} has no number in its column {metric}")
    sign = 1 if better else -1
    epoch = max(sorted(scored), key=lambda epoch: sign * scored[epoch][metric])  # the first of equal ones
    return epoch, scored[epoch]
