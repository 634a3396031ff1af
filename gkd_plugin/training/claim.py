"""Checks that a run folder belongs to this configuration: a run resumes only its own."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from gkd_plugin.config.host_keys import fresh, is_kd
from gkd_plugin.errors import UserError
from gkd_plugin.plan import Plan
from gkd_plugin.training.recorders import gradients, learned_maps
from gkd_plugin.training.run_folder import FAILED, PLAN, dump_plan, read_seed, write_text
from gkd_plugin.training.seed_files import SPLITS

CONFIG, COHORT = "config.yaml", "cohort.yaml"
_ORDER = (PLAN, COHORT, CONFIG)  # the configuration last: it makes the claim
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
    "kd.tracker",
)
_FURTHER = "student "  # before the number of a student that differs from the first
_SHOWN = 6
_WRITTEN = ("out_dir", "run_dir", "dataset", "gnn", "optim", "train", "kd")  # in every configuration that we claim with
# in the folder of a seed that did not get through its first epoch, or that a process which was killed left half-written
_BEFORE_ROWS = re.compile(
    "|".join(
        [
            *(re.escape(name) + r"(\.part)?" for name in (FAILED, gradients.FILE, learned_maps.FILE)),
            rf"(failed/)?({'|'.join(SPLITS)})/(stats\.json\.part|events\.out\.tfevents[^/]*)",
            r"ckpt/epoch=\d+\.pt\.part",
            r"student_\d+\.(pt|yaml)\.part",
            r"result\.json\.part",
        ]
    )
)
_SEED_FOLDERS = (*SPLITS, "ckpt", "failed", *(f"failed/{split}" for split in SPLITS))


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
    texts = {PLAN: dump_plan(plan), **_dump(own, further)}
    if _is_claimed(folder):
        changes = find_changes(folder, own, further)
        if not changes:
            return
        begun = [path for path in _list_entries(folder) if not _is_leftover(folder, path)]
        if begun:
            fresh = "Or use --fresh (in Python fresh=True): it keeps that run under a dated name and starts anew."
            raise UserError(f"{folder} contains a run of another configuration ({changes}). {advice} {fresh}")
    elif not all(_is_half_claim(folder, path, texts) for path in _list_entries(folder)):
        raise UserError(f"{folder} is not empty and contains no run of gkd_plugin. {advice}")
    _remove(folder, list(_list_entries(folder)))  # what a run that never began has left
    for name in sorted(texts, key=_ORDER.index):
        write_text(folder / name, texts[name])


def has_begun(seed_folder: Path) -> bool:
    """Whether a seed's folder holds more than is written before its first epoch has ended."""
    return any(not _is_before_rows(path, path.relative_to(seed_folder)) for path in _list_entries(seed_folder))


def set_aside(folder: Path) -> Path | None:
    """Keeps a run under a dated name (:data:`DATED`), so that another one can begin; ``None`` where there is none.

    Args:
        folder (Path): The run's folder.
    """
    if not _is_claimed(folder):
        return None
    return keep_dated(folder)


def keep_dated(folder: Path) -> Path:
    """Renames a folder to ``<name>.<date>-<time>`` (:data:`DATED`), whatever is in it; its new path."""
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
    written = _load(folder / CONFIG) or {}
    for key in (*ignore, *_list_new_defaults(written, now)):
        before.pop(key, None)
        now.pop(key, None)
    return _describe_changes(before, now, own) if before != now else ""


def withdraw(folder: Path, seed_folder: Path) -> None:
    """Removes a seed that has not begun, and the claim where the folder contains nothing else.

    Args:
        folder (Path): The run's folder.
        seed_folder (Path): The seed's, which was made for it.
    """
    if has_begun(seed_folder):
        return
    _remove(seed_folder, list(_list_entries(seed_folder)))
    with contextlib.suppress(OSError):
        seed_folder.rmdir()
    left = list(_list_entries(folder))
    if all(len(path.relative_to(folder).parts) == 1 and _is_leftover(folder, path) for path in left):
        _remove(folder, left)
        with contextlib.suppress(OSError):
            folder.rmdir()


def _is_claimed(folder: Path) -> bool:
    """Whether a folder has a configuration and a plan as :func:`claim` writes them."""
    own, plan = _load(folder / CONFIG), _load(folder / PLAN)
    if own is None or plan is None or not own.keys() >= set(_WRITTEN) or own["out_dir"] != own["run_dir"]:
        return False
    groups = all(is_kd(str(key)) and isinstance(part, dict) for key, part in plan.items())
    return groups and "kd" in plan and _read(folder) is not None


def _list_entries(folder: Path) -> Iterator[Path]:
    """Everything below a folder; links are listed and not followed."""
    for place, folders, files in os.walk(folder):
        yield from (Path(place) / name for name in (*folders, *files))


def _is_leftover(folder: Path, path: Path) -> bool:
    """Whether something in a run's folder is its claim, or was written before an epoch had ended."""
    place = path.relative_to(folder)
    seed, *inside = place.parts
    if not inside:
        if path.is_dir() and not path.is_symlink():
            return read_seed(seed) is not None
        return seed.removesuffix(".part") in _ORDER and _is_plain_file(path)
    return read_seed(seed) is not None and _is_before_rows(path, Path(*inside))


def _is_before_rows(path: Path, place: Path) -> bool:
    """The same for something in a seed's folder, at that place in it."""
    if path.is_dir() and not path.is_symlink():
        return place.as_posix() in _SEED_FOLDERS
    return _BEFORE_ROWS.fullmatch(place.as_posix()) is not None and _is_plain_file(path)


def _is_half_claim(folder: Path, path: Path, texts: dict[str, str]) -> bool:
    """Whether something is a part of this very claim, as a process that was killed while it claimed leaves it."""
    name = path.relative_to(folder).as_posix()
    text = texts.get(name.removesuffix(".part"))
    if text is None or not _is_plain_file(path):
        return False
    found = path.read_bytes()
    return text.encode().startswith(found) if name.endswith(".part") else text.encode() == found


def _is_plain_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _remove(folder: Path, entries: Sequence[Path]) -> None:
    """Removes the files that were listed and are known, the claim last of all, then the folders that are empty now."""
    files = [path for path in entries if path.is_symlink() or not path.is_dir()]
    for path in sorted(files, key=lambda path: path.parent == folder):
        path.unlink(missing_ok=True)
    folders = [path for path in entries if path.is_dir() and not path.is_symlink()]
    for path in sorted(folders, key=lambda path: len(path.parts), reverse=True):
        with contextlib.suppress(OSError):  # something lies there by now
            path.rmdir()


def _load(path: Path) -> dict[str, Any] | None:
    """The mapping in a YAML file, or ``None``."""
    try:
        found = yaml.safe_load(path.read_text())
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return None
    return found if isinstance(found, dict) else None


def _dump(own: CfgNode, further: Sequence[CfgNode]) -> dict[str, str]:
    """What is written into the folder."""
    texts = {CONFIG: own.dump()}
    if further:
        students = {f"{_FURTHER}{number}": yaml.safe_load(cfg.dump()) for number, cfg in enumerate(further, 2)}
        texts[COHORT] = yaml.safe_dump(students)
    return texts


def _read(folder: Path) -> dict[str, Any] | None:
    found = {name: _load(folder / name) for name in (CONFIG, COHORT) if (folder / name).is_file()}
    own, students = found.get(CONFIG), found.get(COHORT, {})
    if own is None or students is None or not all(isinstance(part, dict) for part in students.values()):
        return None
    return _flatten({CONFIG: own, COHORT: students})


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
            parts = {f"{key}.{part}": found for part, found in value.items() if found is not None}
            flat |= {part: found for part, found in parts.items() if part not in _NOT_COMPARED}
        elif value is not None:
            flat[key] = value
    return flat


def _list_new_defaults(written: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The keys at their defaults that the host did not know when a run was trained: a module of the user's has registered
    them since.
    """
    new = [key for key in now if not _has(written, key)]
    usual = _select_compared(yaml.safe_load(fresh().dump())) if new else {}
    return [key for key in new if usual.get(key) == now[key]]


def _has(values: Mapping[str, Any], key: str) -> bool:
    """Whether a key was written, if only as nothing."""
    group, _, name = key.partition(".")
    part = values.get(group)
    return group in values and (not name or (isinstance(part, Mapping) and name in part))


def _describe_changes(before: dict[str, Any], now: dict[str, Any], own: CfgNode) -> str:
    keys = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
    unknown = [key for key in keys if key in before and not key.startswith(_FURTHER) and not _has(own, key)]
    shown = [
        f"{key}: was {before.get(key, 'nothing')}, now {'unknown' if key in unknown else now.get(key, 'nothing')}"
        for key in keys[:_SHOWN]
    ]
    text = ", ".join([*shown, *([f"and {len(keys) - _SHOWN} more"] if len(keys) > _SHOWN else [])])
    return f"{text}; a module of yours registers what is unknown: --import MODULE" if unknown else text
