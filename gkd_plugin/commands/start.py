"""What a run needs at its start beside a sound configuration: a folder, its teachers, and on request the data."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path

from torch_geometric import seed_everything
from torch_geometric.graphgym.logger import infer_task

from gkd_plugin import host
from gkd_plugin.commands.blame import describe_own_code
from gkd_plugin.commands.train_teacher import order_teacher
from gkd_plugin.config.load import Config
from gkd_plugin.data.doubts import find_doubts
from gkd_plugin.data.load import load
from gkd_plugin.errors import UserError, cut, describe_error
from gkd_plugin.plan import Plan
from gkd_plugin.schema import LONGEST_NAME
from gkd_plugin.space.sources import listening
from gkd_plugin.training.checkpoint import global_random_state, set_global_random_state
from gkd_plugin.training.metrics import require_metric
from gkd_plugin.training.sources import teacher
from gkd_plugin.training.stored_config import own_cfg
from gkd_plugin.training.teachers import search
from gkd_plugin.training.teachers.base import ModuleTeacher, load_weights
from gkd_plugin.training.teachers.file import StoredTeacher
from gkd_plugin.training.teachers.prepare import list_names

_LONGEST_PATH = 1000


def require_name(out_dir: Path, name: str) -> None:
    """Refuses a name whose folder cannot be made, or would not lie in ``out_dir``."""
    shown = repr(name if len(name) <= LONGEST_NAME else f"{name[:20]}...")
    other = "Choose another --name (or out_dir). Nothing was written."
    if "\0" in f"{out_dir}{name}":
        raise UserError(f"--name: {shown} in {cut(str(out_dir))!r} has a NUL character in it. {other}")
    longest = max(len(os.fsencode(part)) for part in Path(name, "-").parts)
    if longest > LONGEST_NAME or len(os.fsencode(name)) > _LONGEST_PATH:
        raise UserError(
            f"--name: {shown} is too long ({len(os.fsencode(name))} bytes). Allowed: up to {LONGEST_NAME} for a folder, "
            f"{_LONGEST_PATH} in all. {other}"
        )
    base = Path(os.path.abspath(out_dir))
    folder = Path(os.path.normpath(base / name))
    if base not in folder.parents:
        raise UserError(f"--name: {shown} leads out of {out_dir}. A name must stay in its folder. {other}")
    for place in (*reversed(folder.parents), folder):
        if os.path.lexists(place) and not os.path.isdir(place):
            raise UserError(f"{place} is a file, where a folder is needed for {shown}. {other}")


def find_run_folder(config: Config) -> Path:
    """The folder of a configuration's run under its own name, with every link and ``..`` resolved."""
    return Path(config.cfg.out_dir, config.name).resolve()


def require_teachers(config: Config, planned: Collection[Path] = ()) -> None:
    """Finds and reads the teachers that terms listen to; nothing is trained.

    Args:
        config (Config): The student's configuration.
        planned (collection of Path): Folders of runs that will be trained before it.

    Raises:
        UserError: If one is missing, unfinished or unreadable, or the YAML of ``kd.teacher_cfg`` is missing or wrong.
    """
    plan, folder = config.plan, find_run_folder(config)
    if not any(listening(plan, teacher.NAME)) or order_teacher(config, config.name, 1) is not None:
        return
    for name in list_names(plan):
        if name == ModuleTeacher.name or any(place / name in planned for place in search.list_places(folder)):
            continue
        target = search.find_folder(name, folder)
        if target is None:
            raise search.report_missing(name, folder)
        if search.is_file(target):
            StoredTeacher(target)
        else:
            found = search.choose(target, plan["teacher_seed"], int(config.cfg.seed))
            own_cfg(found.config)
            load_weights(found.weights)


def require_teacher_seeds(plan: Plan, folder: Path, numbers: Iterable[int]) -> None:
    """Refuses a stored run as the teacher of seeds that it does not have, before the first of them is trained.

    Args:
        plan (Plan): The plan.
        folder (Path): The run's folder.
        numbers (iterable of int): The seed folders that are to be trained.

    Raises:
        UserError: If it lacks one.
    """
    if not any(listening(plan, teacher.NAME)):
        return
    numbers = list(numbers)
    for name in list_names(plan):
        target = None if name == ModuleTeacher.name else search.find_folder(name, folder)
        if target is not None and not search.is_file(target):
            for number in numbers:
                search.choose(target, plan["teacher_seed"], number)


def require_data(config: Config) -> list[str]:
    """Loads the data as the first seed of a run does, and looks at splits, labels, classes and the metric that selects.

    Args:
        config (Config): The configuration.

    Returns:
        list of str: What is legal, but probably a mistake.

    Raises:
        UserError: If they cannot be loaded, or a run could not use them.
    """
    its, random = config.cfg.clone(), global_random_state()
    its.seed += 1
    try:
        seed_everything(its.seed)
        loaders = load(its)
        with host.scoped(its):
            require_metric(infer_task())
        return find_doubts(loaders, its)
    except UserError:
        raise
    except Exception as error:  # a user's loader may raise anything
        name = cut(str(its.dataset.name))
        text = f"dataset.name: the loader of '{name}' fails ({describe_error(error)})."
        raise UserError("\n".join([text, describe_own_code(error)]).rstrip()) from error
    finally:
        set_global_random_state(random)
