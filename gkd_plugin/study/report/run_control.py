"""The control of one run: what its study says, what trains as its control would, or what has a control's name."""

from __future__ import annotations

from pathlib import Path

import yaml

from gkd_plugin.study.controls import match_controls
from gkd_plugin.study.records import find_listed_control
from gkd_plugin.study.run_files import is_run
from gkd_plugin.training.run_folder import DATED, PLAN, list_active_terms


def find_control(folder: Path) -> Path | None:
    """The folder of a run's control, or ``None``.

    Args:
        folder (Path): The run's folder.
    """
    listed = find_listed_control(folder)
    if listed is not None:
        return listed if is_run(listed) else None
    named = folder.with_name(f"{folder.name}-control")
    others = [path for path in sorted(folder.parent.iterdir()) if path not in (folder, named) and _may_be(path)]
    near = {path.name: path for path in (folder, named, *others) if is_run(path)}  # of equal ones the first serves
    found = match_controls(near).get(folder.name)
    if found is not None:
        return near[found]
    return named if is_run(named) else None


def _may_be(folder: Path) -> bool:
    """Whether a folder may hold a control: a quick look, as hundreds of runs may lie beside this one."""
    if DATED.fullmatch(folder.name) or not (folder / PLAN).is_file():
        return False
    try:
        plan = yaml.safe_load((folder / PLAN).read_bytes())
    except (OSError, ValueError, yaml.YAMLError):
        return False
    return not list_active_terms(plan if isinstance(plan, dict) else {})
