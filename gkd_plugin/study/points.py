"""A point of a study: one configuration and the choices that made it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

POINT, CONTROL, TEACHER, SHUFFLED, SMOOTHED = "point", "control", "teacher", "shuffled_teacher", "label_smoothing"
ROLES = (POINT, CONTROL, TEACHER, SHUFFLED, SMOOTHED)


@dataclass(frozen=True)
class Point:
    """One configuration of a study.

    Args:
        name (str): The name of its run's folder, ``<base>-<alias>=<value>-...``; safe as a file's name.
        values (mapping): The whole configuration, as in a YAML file.
        choices (mapping): What the grid chose for it, by the alias of the dimension.
        role (str): ``point``, or what it is there for: ``control``, ``teacher``, ``shuffled_teacher``, ``label_smoothing``.
        control (str, optional): The name of the point that is its control.
        of (tuple of str): For a placebo the names of the points whose placebo it is.
        epochs (int, optional): Where a search gave it fewer epochs than the others.
    """

    name: str
    values: Mapping[str, Any]
    choices: Mapping[str, Any] = field(default_factory=dict)
    role: str = POINT
    control: str | None = None
    of: tuple[str, ...] = ()
    epochs: int | None = None


def check_name(name: str) -> None:
    """Refuses what cannot be the name of a study's or run's folder: it would lead out of the folder that holds it.

    Args:
        name (str): What a file names.

    Raises:
        ValueError: If it is no such name.
    """
    if name in ("", ".", "..") or {"/", "\\", "\0"} & set(name):
        raise ValueError(f"{name!r:.80} is not the name of a run")


def check_place(name: str, folder: str, study: str) -> None:
    """Refuses what a damaged or foreign ``study.json`` might name: nothing outside the study's two folders is read.

    Args:
        name (str): A point's name.
        folder (str): The folder of its run, as ``study.json`` has it: relative to ``<study>.gkd``.
        study (str): The study's name.

    Raises:
        ValueError: If the name is no name of a folder, or the folder lies elsewhere.
    """
    check_name(name)
    parts = PurePath(os.path.normpath(folder)).parts
    inside = parts[:1] != ("..",) or (parts[:2] == ("..", study) and len(parts) > 2)
    if "\0" in folder or os.path.isabs(folder) or not inside:
        raise ValueError(f"the folder {folder!r:.80} of {name} lies outside the study")
