"""Which runs of a study are still to be trained, where the same command was called before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from gkd_plugin.config.host_keys import fresh, is_kd
from gkd_plugin.config.load import Config, read_config
from gkd_plugin.errors import UserError
from gkd_plugin.study.dimensions import flatten_config
from gkd_plugin.study.job import Job
from gkd_plugin.study.ledger import DONE, FAILED, PENDING, Entry, Ledger
from gkd_plugin.study.points import POINT, Point
from gkd_plugin.study.study import Study
from gkd_plugin.training.claim import find_changes
from gkd_plugin.training.result import RESULT
from gkd_plugin.training.run_folder import dump_plan

_SHOWN = 3


def choose_jobs(jobs: Sequence[Job], ledger: Ledger, retry_failed: bool = False) -> tuple[list[Entry], list[Job]]:
    """Divides jobs into those that have ended before and those that are to be trained.

    Finished runs are kept as long as every seed that is asked for is there; failed ones too, unless they are to be tried
    again. Interrupted runs, and those whose process is gone, are trained: their seeds resume.

    Args:
        jobs (sequence of Job): All runs of the study.
        ledger (Ledger): Its ledger.
        retry_failed (bool): Trains the failed ones again.

    Returns:
        tuple: The entries of the runs that stay as they are, and the jobs that are left.

    Raises:
        UserError: If a run that was begun had another configuration. Nothing is changed then.
    """
    kept: list[Entry] = []
    left: list[Job] = []
    changed: list[str] = []
    for job in jobs:
        entry = ledger.read(job.name)
        same = entry.digest == job.digest
        if entry.state != PENDING and not same:
            change = _describe_change(job)
            same = change == ""
            if change:
                changed.append(f"{job.name} ({change})")
        if same and (_is_finished(job) if entry.state == DONE else entry.state == FAILED and not retry_failed):
            kept.append(entry)
        else:
            left.append(job)
    if changed:
        raise UserError(_report(changed))
    return kept, left


def _is_finished(job: Job) -> bool:
    """Whether every seed that is asked for has a result: the run's folder is the truth."""
    first = int(job.values.get("seed", _default_seed()))
    return all((job.folder / str(number) / RESULT).is_file() for number in range(first, first + job.repeat))


def _default_seed() -> int:
    return int(fresh().seed)


def _describe_change(job: Job) -> str | None:
    """How the configuration differs from that of the run's folder; nothing where it is only written in another way."""
    base = Path(job.base) if job.base is not None else None
    config = read_config({**job.values, "out_dir": job.out_dir}, path=base)
    return find_changes(job.folder, config.cfg, config.further)


def _report(changed: Iterable[str]) -> str:
    names = list(changed)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (
        f"this study was begun with other configurations: {'; '.join(names[:_SHOWN])}{more}. Its results would not belong "
        "together. Undo the change in the grid or the base, or choose another --name. Nothing was changed."
    )


def match_earlier(
    study: Study, points: Sequence[Point], configs: Mapping[str, Config]
) -> tuple[list[Point], dict[str, Config]]:
    """Gives points that an earlier grid of the study had under another name that name again: their runs are there.

    A dimension that was added has the base's value in all earlier points, and some of the new ones have it as well.

    Args:
        study (Study): The study, with the points of its earlier grids.
        points (sequence of Point): The points of the grid.
        configs (mapping): Their configurations by name.

    Returns:
        tuple: The same points and configurations, under the earlier names.
    """
    ours = {point.name for point in points}
    names: dict[str, str] = {}
    for old in study.points:
        folder = study.place(old) / old.name
        if old.role != POINT or old.epochs is not None or old.name in ours or not folder.is_dir():
            continue
        for point in points:
            fits = all(point.choices.get(alias) == value for alias, value in old.choices.items())
            if fits and point.name not in names and _is_same(folder, configs[point.name]):
                names[point.name] = old.name
                break
    renamed = [replace(point, name=names.get(point.name, point.name)) for point in points]
    return renamed, {names.get(name, name): config for name, config in configs.items()}


def fill_choices(study: Study, point: Point, general: Sequence[str]) -> Point:
    """An earlier point with its values of dimensions that were added since, as its run's configuration has them.

    Args:
        study (Study): The study.
        point (Point): A point of an earlier grid.
        general (sequence of str): The dimensions that all points of the present grid have.
    """
    missing = [alias for alias in general if alias not in point.choices]
    if point.role != POINT or not missing:
        return point
    flat = flatten_config(study.place(point) / point.name / "config.yaml")
    known = {alias: flat[study.dimensions[alias]] for alias in missing if study.dimensions[alias] in flat}
    return replace(point, choices={**point.choices, **known})


def _is_same(folder: Path, config: Config) -> bool:
    """Whether a run is one of a configuration, however that is written."""
    own = config.cfg
    of_kd = [f"{group}.{key}" for group in own if is_kd(group) for key in own[group]]
    if find_changes(folder, own, config.further, of_kd) != "":
        return False
    try:
        return (folder / "plan.yaml").read_text() == dump_plan(config.plan)
    except (OSError, UnicodeDecodeError):
        return False
