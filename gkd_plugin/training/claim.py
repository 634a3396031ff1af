"""Whose results lie in a folder: a run goes on only where its own configuration stands."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from gkd_plugin.errors import UserError
from gkd_plugin.plan import Plan
from gkd_plugin.training.run_folder import PLAN, write_plan, write_text

CONFIG, COHORT = "config.yaml", "cohort.yaml"
# differ between two runs of one configuration, or say nothing of its numbers
_NOT_COMPARED = (
    "out_dir",
    "run_dir",
    "seed",  # names the folders inside
    "share",
    "params",
    "print",
    "cfg_dest",
    "tensorboard_agg",
    "tensorboard_each_run",
)
_SHOWN = 6


def claim(folder: Path, own: CfgNode, plan: Plan, further: Sequence[CfgNode] = ()) -> None:
    """Makes a run's folder, or sees that it is this run's.

    Args:
        folder (Path): The folder.
        own (CfgNode): The configuration.
        plan (Plan): Its plan.
        further (sequence of CfgNode): Configurations of unlike students.

    Raises:
        UserError: If something else lies there; nothing is touched then.
    """
    advice = "Choose another one with --name NAME (or out_dir); nothing here was touched."
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file. {advice}")
    texts = _texts(own, further)
    present = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if (folder / CONFIG).is_file() and (folder / PLAN).is_file():
        changes = changed(folder, own, further)
        if changes is None:
            raise UserError(f"{folder} holds a {CONFIG} that is no configuration. {advice}")
        if changes:
            raise UserError(f"{folder} holds a run of another configuration ({changes}). {advice}")
    elif present - {PLAN, COHORT}:  # these alone are a beginning that a full disk cut short
        raise UserError(f"{folder} is not empty and holds no run of gkd_plugin. {advice}")
    else:
        write_plan(folder, plan)
        for name in sorted(texts):  # the configuration last: it makes the claim
            write_text(folder / name, texts[name])


def changed(folder: Path, own: CfgNode, further: Sequence[CfgNode] = (), whatever: Sequence[str] = ()) -> str | None:
    """How a configuration differs from that of the run in a folder: in words, empty where it does not.

    Args:
        folder (Path): The folder of a run.
        own (CfgNode): A configuration.
        further (sequence of CfgNode): Those of its unlike students.
        whatever (sequence of str): Keys that may differ.

    Returns:
        str: ``None`` where the folder's is no configuration.
    """
    before = _read(folder)
    if before is None:
        return None
    now = _flat({name: yaml.safe_load(text) for name, text in _texts(own, further).items()})
    for key in whatever:
        before.pop(key, None)
        now.pop(key, None)
    return _changes(before, now) if before != now else ""


def withdraw(folder: Path, seed_folder: Path) -> None:
    """Takes back a seed that could not begin, and the claim where nothing else lies in the folder.

    Args:
        folder (Path): The run's folder.
        seed_folder (Path): The seed's, which was made for it.
    """
    shutil.rmtree(seed_folder, ignore_errors=True)
    if folder.is_dir() and {path.name for path in folder.iterdir()} <= {CONFIG, PLAN, COHORT}:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # out_dir, unless something else lies there
            folder.parent.rmdir()


def _texts(own: CfgNode, further: Sequence[CfgNode]) -> dict[str, str]:
    """What is written into the folder."""
    texts = {CONFIG: own.dump()}
    if further:
        students = {f"student {number}": yaml.safe_load(cfg.dump()) for number, cfg in enumerate(further, 2)}
        texts[COHORT] = yaml.safe_dump(students)
    return texts


def _read(folder: Path) -> dict[str, Any] | None:
    try:
        found = {
            name: yaml.safe_load((folder / name).read_text()) for name in (CONFIG, COHORT) if (folder / name).is_file()
        }
    except (yaml.YAMLError, UnicodeDecodeError):
        return None
    students = found.get(COHORT, {})
    if not all(isinstance(part, dict) for part in (found[CONFIG], students)):
        return None
    return _flat(found) if all(isinstance(part, dict) for part in students.values()) else None


def _flat(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What stands in the files, by full key; of further students what differs from the first."""
    flat = _compared(found[CONFIG])
    for student, values in found.get(COHORT, {}).items():
        own = {key: value for key, value in _compared(values).items() if flat.get(key) != value}
        flat |= {f"{student} {key}": value for key, value in own.items()}
    return flat


def _compared(values: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if key in _NOT_COMPARED:
            continue
        if isinstance(value, dict):
            flat |= {f"{key}.{part}": found for part, found in value.items() if found is not None}
        elif value is not None:
            flat[key] = value
    return flat


def _changes(before: dict[str, Any], now: dict[str, Any]) -> str:
    keys = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
    said = [f"{key}: {before.get(key, 'nothing')} there, {now.get(key, 'nothing')} now" for key in keys[:_SHOWN]]
    return ", ".join([*said, *([f"and {len(keys) - _SHOWN} more"] if len(keys) > _SHOWN else [])])
