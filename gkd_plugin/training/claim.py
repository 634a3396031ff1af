"""Checks that a run folder belongs to this configuration: a run resumes only its own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from gkd_plugin.errors import UserError
from gkd_plugin.plan import Plan
from gkd_plugin.training.recorders import gradients, learned_maps
from gkd_plugin.training.run_folder import FAILED, PLAN, write_plan, write_text

CONFIG, COHORT = "config.yaml", "cohort.yaml"
# differ between two runs of one configuration, or do not change its numbers
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
# in the folder of a seed that did not get through its first epoch
_BEFORE_ROWS = (FAILED, gradients.FILE, learned_maps.FILE)
_SHOWN = 6


def claim(folder: Path, own: CfgNode, plan: Plan, further: Sequence[CfgNode] = ()) -> None:
    """Makes a run's folder, or checks that it belongs to this run.

    Args:
        folder (Path): The folder.
        own (CfgNode): The configuration.
        plan (Plan): Its plan.
        further (sequence of CfgNode): Configurations of unlike students.

    Raises:
        UserError: If it contains something else; then nothing is changed.
    """
    advice = "Choose another folder with --name NAME (or out_dir). Nothing was changed."
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file. {advice}")
    if _is_claimed(folder):
        changes = find_changes(folder, own, further)
        if changes is None:
            raise UserError(f"{folder} contains a {CONFIG} that is not a configuration. {advice}")
        if not changes:
            return
        if is_begun(folder):
            fresh = "Or use --fresh: it keeps that run under a dated name and starts anew."
            raise UserError(f"{folder} contains a run of another configuration ({changes}). {advice} {fresh}")
    elif is_begun(folder) or (folder / CONFIG).is_file():  # ours is written after the plan
        raise UserError(f"{folder} is not empty and contains no run of gkd_plugin. {advice}")
    shutil.rmtree(folder, ignore_errors=True)  # what a run that never began has left
    write_plan(folder, plan)
    texts = _dump(own, further)
    for name in sorted(texts, reverse=True):  # the configuration last: it makes the claim
        write_text(folder / name, texts[name])


def is_begun(folder: Path) -> bool:
    """Whether a folder holds more than a claim, reasons of failures, and what is written before an epoch has ended."""
    return any(path.name not in _BEFORE_ROWS for path in _list_content(folder))


def set_aside(folder: Path) -> Path | None:
    """Keeps a run under a dated name (:data:`DATED`), so that another one can begin; ``None`` where there is none.

    Args:
        folder (Path): The run's folder.
    """
    if not _is_claimed(folder):
        return None
    dated = folder.with_name(f"{folder.name}.{datetime.now():%Y%m%d-%H%M%S}")
    kept, number = dated, 2
    while kept.exists():
        kept, number = dated.with_name(f"{dated.name}-{number}"), number + 1
    return folder.rename(kept)


def find_changes(folder: Path, own: CfgNode, further: Sequence[CfgNode] = (), ignore: Sequence[str] = ()) -> str | None:
    """Describes how a configuration differs from that of the run in a folder; empty where it does not.

    Args:
        folder (Path): The folder of a run.
        own (CfgNode): A configuration.
        further (sequence of CfgNode): Those of its unlike students.
        ignore (sequence of str): Keys that may differ.

    Returns:
        str: ``None`` where the folder's file is not a configuration.
    """
    before = _read(folder)
    if before is None:
        return None
    now = _flatten({name: yaml.safe_load(text) for name, text in _dump(own, further).items()})
    for key in ignore:
        before.pop(key, None)
        now.pop(key, None)
    return _describe_changes(before, now) if before != now else ""


def withdraw(folder: Path, seed_folder: Path) -> None:
    """Removes a seed that could not begin, and the claim where the folder contains nothing else.

    Args:
        folder (Path): The run's folder.
        seed_folder (Path): The seed's, which was made for it.
    """
    shutil.rmtree(seed_folder, ignore_errors=True)
    if folder.is_dir() and not any(_list_content(folder)):
        shutil.rmtree(folder, ignore_errors=True)


def _is_claimed(folder: Path) -> bool:
    return (folder / CONFIG).is_file() and (folder / PLAN).is_file()


def _list_content(folder: Path) -> Iterator[Path]:
    """The files in a run's folder besides the claim and what a killed process leaves half-written."""
    claims = {name + suffix for name in (PLAN, COHORT, CONFIG) for suffix in ("", ".part")}
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if path.is_dir() or (len(parts) == 1 and path.name in claims):
            continue
        leftover = path.suffix == ".part" or path.name.startswith("events.out.tfevents")
        if not (leftover and len(parts) > 1 and parts[0].lstrip("-").isdigit()):
            yield path


def _dump(own: CfgNode, further: Sequence[CfgNode]) -> dict[str, str]:
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
    return _flatten(found) if all(isinstance(part, dict) for part in students.values()) else None


def _flatten(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The content of the files by full key; of further students what differs from the first."""
    flat = _select_compared(found[CONFIG])
    for student, values in found.get(COHORT, {}).items():
        own = {key: value for key, value in _select_compared(values).items() if flat.get(key) != value}
        flat |= {f"{student} {key}": value for key, value in own.items()}
    return flat


def _select_compared(values: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if key in _NOT_COMPARED:
            continue
        if isinstance(value, dict):
            flat |= {f"{key}.{part}": found for part, found in value.items() if found is not None}
        elif value is not None:
            flat[key] = value
    return flat


def _describe_changes(before: dict[str, Any], now: dict[str, Any]) -> str:
    keys = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
    shown = [f"{key}: was {before.get(key, 'nothing')}, now {now.get(key, 'nothing')}" for key in keys[:_SHOWN]]
    return ", ".join([*shown, *([f"and {len(keys) - _SHOWN} more"] if len(keys) > _SHOWN else [])])
