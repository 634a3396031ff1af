"""A point of a study: one configuration and the choices that made it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
