"""``kd.teacher_cfg``: a teacher that is trained before its first student, and found by the later ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gkd_plugin.config.cohort import find_cohort, find_file
from gkd_plugin.config.load import Config, read_config
from gkd_plugin.data.keys import SPLITS
from gkd_plugin.errors import UserError
from gkd_plugin.space.sources import listening
from gkd_plugin.training.claim import CONFIG, find_changes
from gkd_plugin.training.run_folder import PLAN
from gkd_plugin.training.sources import teacher
from gkd_plugin.training.stored_config import own_cfg
from gkd_plugin.training.teachers import search

# taken from the first student of a teacher; those of later students may differ
_FROM_STUDENT = ("num_threads", "accelerator")


@dataclass(frozen=True)
class Order:
    """A teacher to be trained.

    Args:
        path (Path): Its YAML.
        name (str): The name of its run.
        folder (Path): The folder of its run.
        seeds (list of int): Its seed folders, one after the other.
        overrides (list): ``key value`` pairs: where and on what machine.
    """

    path: Path
    name: str
    folder: Path
    seeds: list[int]
    overrides: list[Any]


def order_teacher(config: Config, label: str, repeat: int) -> Order | None:
    """What must be trained before a configuration can run; ``None`` where nothing listens or everything is trained.

    Args:
        config (Config): The student's configuration.
        label (str): The name of the student's run.
        repeat (int): Its number of seeds.

    Raises:
        UserError: If the YAML is missing or wrong, names itself, or has changed since its run.
    """
    plan = config.plan
    if plan.get("teacher_cfg") is None or not any(listening(plan, teacher.NAME)):
        return None
    path = _find_yaml(config)
    name, out_dir = search.teacher_name(plan), Path(config.cfg.out_dir)
    first, which = int(config.cfg.seed), plan["teacher_seed"]
    seeds = [which] if isinstance(which, int) else list(range(first, first + repeat))
    stored = out_dir / name / CONFIG
    machine = own_cfg(stored) if stored.is_file() else config.cfg
    values = {**{key: machine[key] for key in _FROM_STUDENT}, "dataset.dir": machine.dataset.dir}
    values |= _take_protocol(config)
    values |= {"out_dir": str(out_dir), "seed": seeds[0]}
    overrides = [part for key, value in values.items() for part in (key, value)]
    target = search.find_folder(name, out_dir / label)
    if target is None or not search.has_seeds(target, seeds):
        return Order(path, name, out_dir / name, seeds, overrides)
    if (target / PLAN).is_file():
        _require_unchanged(read_config(path, overrides), path, target)
    return None


def _take_protocol(config: Config) -> dict[str, Any]:
    """The keys under which nodes are held out: a teacher must not see those that its student does not."""
    keys = ("protocol", "inductive_share")
    return {f"{SPLITS}.{key}": config.cfg[SPLITS][key] for key in keys if config.cfg[SPLITS][key] is not None}


def _require_unchanged(own: Config, path: Path, target: Path) -> None:
    changes = find_changes(
        target, own.cfg, find_cohort(own.cfg, own.plan, path.parent), (*_FROM_STUDENT, "dataset.dir")
    )
    if changes:
        raise UserError(
            f"kd.teacher_cfg: {target} was trained with a different configuration than {path} ({changes}). Name the "
            "new teacher (kd.teacher: NAME), or remove kd.teacher_cfg to use the existing one."
        )


def _find_yaml(config: Config) -> Path:
    """The path of the teacher's YAML; checks the chain of teachers' YAMLs and refuses circles."""
    paths = [config.path.resolve()] if config.path else []
    first = None
    while config.plan.get("teacher_cfg") is not None:
        folder = config.path.parent if config.path else None
        path = find_file(str(config.plan["teacher_cfg"]), folder, "kd.teacher_cfg")
        first = first or path
        if path.resolve() in paths:
            raise UserError(
                f"kd.teacher_cfg: {path} is its own teacher ({' -> '.join(p.name for p in [*paths, path])})."
            )
        paths.append(path.resolve())
        config = read_config(path)
    assert first is not None
    return first
