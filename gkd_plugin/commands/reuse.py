"""Whether finished seeds still stand: a result serves again only with the teacher and the data that it was made with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from torch import nn
from torch_geometric import seed_everything
from yacs.config import CfgNode

from gkd_plugin.data.load import load
from gkd_plugin.errors import UserError
from gkd_plugin.plan import Plan
from gkd_plugin.printing import warn
from gkd_plugin.training.checkpoint import global_random_state, set_global_random_state
from gkd_plugin.training.depends import ADVICE, DATA, TEACHERS, describe_change, digest_data
from gkd_plugin.training.result import RESULT, read_result
from gkd_plugin.training.seed_files import find_damage
from gkd_plugin.training.teachers.prepare import digest_teachers
from gkd_plugin.training.teachers.search import NoSuchSeed


def require_unchanged(
    plan: Plan, own: CfgNode, folder: Path, numbers: Iterable[int], teacher: nn.Module | None
) -> None:
    """Refuses finished seeds whose teacher or data have changed since; nothing is written.

    Data are loaded once for all seeds that recorded the same ones. A teacher or data that are gone have not changed: their
    results are still read.

    Args:
        plan (Plan): The plan.
        own (CfgNode): The configuration.
        folder (Path): The run's folder.
        numbers (iterable of int): The seed folders that are asked for.
        teacher (nn.Module, optional): A teacher that is not a run.

    Raises:
        UserError: If one has changed.
    """
    confirmed: set[str] = set()
    for number in numbers:
        seed_folder = folder / str(number)
        result = read_result(seed_folder) if find_damage(seed_folder) is None else None
        if result is None or not result.depends:
            continue
        now: dict[str, Any] = {}
        if TEACHERS in result.depends:
            try:
                now[TEACHERS] = digest_teachers(plan, folder, number, teacher)
            except NoSuchSeed as error:
                warn(f"{seed_folder} is kept, but whether its teacher is still what it was cannot be told: {error}")
            except UserError:  # it is gone
                pass
        if result.depends.get(DATA) not in confirmed:
            data = _digest_data(own, number + 1)
            if data is not None:
                now[DATA] = data
                confirmed.add(data)
        change = describe_change(result.depends, now)
        if change:
            raise UserError(f"{seed_folder} is finished, but {change}. {ADVICE}")


def describe_finished(folder: Path, seeds: Sequence[int], asked: int) -> str:
    """One line for who asks for a run again: what was finished, when, and how it is trained anew.

    Args:
        folder (Path): The run's folder.
        seeds (sequence of int): The seeds that were finished before, at least one.
        asked (int): How many are asked for.
    """
    last = max(_find_date(folder / str(seed - 1) / RESULT) for seed in seeds)
    what, rest = f"finished already ({last:%Y-%m-%d %H:%M})", "nothing is trained"
    if len(seeds) < asked:
        what, rest = f"{len(seeds)} of {asked} seeds {what}", "the others are trained now"
    return f"{folder}: {what}; {rest}. --fresh trains anew and keeps this run under a dated name."


def _find_date(path: Path) -> datetime:
    """When a result was written; of one without a date, when its file was."""
    try:
        return datetime.fromisoformat(json.loads(path.read_bytes())["date"]).astimezone()
    except (KeyError, TypeError, ValueError):
        return datetime.fromtimestamp(path.stat().st_mtime).astimezone()


def _digest_data(own: CfgNode, seed: int) -> str | None:
    """The hash of the data of a seed, or ``None`` where they cannot be loaded; random numbers are drawn as a run does."""
    its, random = own.clone(), global_random_state()
    its.seed = seed
    try:
        seed_everything(seed)
        return digest_data(load(its))
    except Exception:  # a user's loader may raise anything; seeds that are to be trained will say it
        return None
    finally:
        set_global_random_state(random)
