"""``kd.cohort``: further students unlike the first, each described by a YAML file merged over the main one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from gkd_plugin.config import host_keys
from gkd_plugin.config.depths import find_layer_problems, infer_depth
from gkd_plugin.config.files import SUFFIXES, read_file
from gkd_plugin.errors import ConfigError, Problem, UserError, nearest
from gkd_plugin.plan import Plan

FOLDER = "cohorts"


def list_places(folder: Path | None) -> list[Path]:
    """Where cohort files are looked for: beside the configuration, in the working folder, in ``cohorts`` of both."""
    first = [folder] if folder is not None else []
    found: list[Path] = []
    for place in [*first, Path(), *(base / FOLDER for base in first), Path(FOLDER)]:
        if place.resolve() not in [known.resolve() for known in found]:
            found.append(place)
    return found


def find_file(name: str, folder: Path | None, key: str = "kd.cohort") -> Path:
    """The YAML file of a further student, or whatever else ``key`` names.

    Raises:
        UserError: If it is in none of the places.
    """
    searched = list_places(folder)
    for place in searched:
        for candidate in (place / name, *(place / f"{name}{suffix}" for suffix in SUFFIXES)):
            if candidate.is_file():
                return candidate
    there = sorted({file.stem for place in searched if place.is_dir() for file in _list_yaml_files(place)})
    raise UserError(
        f"{key}: there is no '{name if name.endswith(SUFFIXES) else f'{name}.yaml'}'. {nearest(name, there)}"
        f"Searched: {', '.join(str(place.resolve()) for place in searched)}."
    )


def _list_yaml_files(folder: Path) -> Iterable[Path]:
    return (file for file in folder.iterdir() if file.suffix in SUFFIXES)


def find_cohort(cfg: CfgNode, plan: Plan, folder: Path | None = None) -> list[CfgNode]:
    """The configurations of the further students; empty where all students are like the first.

    Args:
        cfg (CfgNode): The configuration of student 1, as the main file describes it.
        plan (Plan): Its plan; ``kd.cohort`` names the files.
        folder (Path, optional): The folder of the main file.

    Raises:
        ConfigError: If a file is missing, is not a valid configuration, or describes more than a student.
    """
    members, problems = examine_cohort(cfg, plan, folder)
    if problems:
        raise ConfigError(problems)
    return members


def examine_cohort(cfg: CfgNode, plan: Plan, folder: Path | None) -> tuple[list[CfgNode], list[Problem]]:
    """The configurations of the further students as far as they are valid, and their mistakes."""
    members: list[CfgNode] = []
    problems: list[Problem] = []
    for name in plan["cohort"]:
        try:
            path = find_file(name, folder)
            values = read_file(path)
        except UserError as error:
            problems.append(Problem("kd.cohort", str(error).removeprefix("kd.cohort: ").rstrip("."), _HINT))
            continue
        member = cfg.clone()
        wrong = host_keys.place(values, member) or host_keys.finish(member)
        wrong += [
            Problem(key, "does not belong in the file of one student", _HINT) for key in values if host_keys.is_kd(key)
        ]
        if member.dataset != cfg.dataset:
            wrong.append(Problem("dataset", "differs from the main file's", "All students see the same data."))
        wrong += [Problem(key, "has no effect in the file of one student", _HINT) for key in _list_idle(values, cfg)]
        problems += [Problem(f"{path}: {problem.key}", problem.found, problem.allowed) for problem in wrong]
        members.append(member)
    if not problems and plan["cohort"]:
        problems += _check_layers(plan, [cfg, *members])
    return members, problems


_HINT = "A cohort file holds model, gnn and optim keys of one further student; the main file decides the rest."
_IDLE_GROUPS, _IDLE = ("train", "val", "share", *host_keys.BESIDE), ("optim.max_epoch",)


def _list_idle(values: Mapping[str, Any], cfg: CfgNode) -> Iterator[str]:
    """The keys of a student's file that only the main file decides."""
    for key, content in values.items():
        if key in cfg and not isinstance(cfg[key], CfgNode):
            yield key
        elif isinstance(content, Mapping):
            yield from (name for name in (f"{key}.{leaf}" for leaf in content) if key in _IDLE_GROUPS or name in _IDLE)


def _check_layers(plan: Plan, students: Sequence[CfgNode]) -> list[Problem]:
    depths = [infer_depth(student) for student in students]
    named = [group for group in plan.groups.values() if group.named and "layer_map" in group.values]
    return [problem for group in named for problem in find_layer_problems(f"kd_{group.name}", group.values, depths)]
