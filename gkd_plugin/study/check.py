"""Every point of a study checked before the first is trained; a mistake that many points share is said once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from gkd_plugin.config.host_keys import fresh
from gkd_plugin.config.load import Config, HostParts, read_config
from gkd_plugin.config.warnings import describe_unused
from gkd_plugin.errors import ConfigError, UserError
from gkd_plugin.space import axes
from gkd_plugin.space.sources import listening
from gkd_plugin.study.expand import sort_keys
from gkd_plugin.study.points import Point

_SHOWN = 20


def check_points(points: Sequence[Point], path: Path | None) -> dict[str, Config]:
    """The checked configuration of each point, by its name.

    Args:
        points (sequence of Point): The points.
        path (Path, optional): The base configuration, in whose folder the files that points name are looked for first.

    Raises:
        UserError: With every mistake, the number of points that have it, and the name of one of them.
    """
    known: HostParts = {}
    configs: dict[str, Config] = {}
    found: dict[str, list[str]] = {}
    for point in points:
        try:
            configs[point.name] = read_config(point.values, path=path, known=known)
        except ConfigError as error:
            for problem in error.problems:
                found.setdefault(str(problem), []).append(point.name)
        except UserError as error:
            found.setdefault(str(error), []).append(point.name)
    if found:
        raise UserError(_report(found, len(points)))
    return configs


def drop_equal(points: Sequence[Point], configs: Mapping[str, Config]) -> list[Point]:
    """The points without those whose configuration is that of an earlier one, however it is written: ``2``, ``2.0``, ``"2"``.

    Args:
        points (sequence of Point): The points.
        configs (mapping): Their configurations by name.
    """
    known: dict[str, Point] = {}
    defaults = fresh()
    for point in points:
        config = configs[point.name]
        groups = {name: value for name, value in config.cfg.items() if not name.startswith("kd")}
        known.setdefault(repr((sort_keys(_as_read(groups, defaults)), sort_keys(config.plan.as_dict()))), point)
    return list(known.values())


def _as_read(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Whole numbers as the host reads them where its default has a fraction; elsewhere they may mean something else."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        default = defaults.get(name)
        if isinstance(value, Mapping):
            found[name] = _as_read(value, default if isinstance(default, Mapping) else {})
        else:
            found[name] = float(value) if type(value) is int and isinstance(default, float) else value
    return found


def count_warnings(configs: Collection[Config]) -> tuple[str, ...]:
    """Every warning once, with the number of configurations that it is about.

    That a teacher is not used by some is none where others of the study use one: it stands in their common base.

    Args:
        configs (collection of Config): The configurations.
    """
    plans = [config.plan for config in configs]
    used = [name for name in axes.sources if any(any(True for _ in listening(plan, name)) for plan in plans)]
    meant = {describe_unused(plan, name) for plan in plans for name in used}
    counts = Counter(warning for plan in plans for warning in plan.warnings if warning not in meant)
    return tuple(f"{text} ({count} configuration{'s' if count > 1 else ''})" for text, count in counts.most_common())


def _report(found: dict[str, list[str]], total: int) -> str:
    names = {name for each in found.values() for name in each}
    where = "the configuration" if total == 1 else f"{len(names)} of {total} configurations"
    lines = [f"{len(found)} mistake{'s' if len(found) > 1 else ''} in {where}. Nothing was started."]
    for text, with_it in list(found.items())[:_SHOWN]:
        several = f"{len(with_it)} configurations, such as " if len(with_it) > 1 else ""
        lines.append(f"  {text} [{several}{with_it[0]}]")
    if len(found) > _SHOWN:
        lines.append(f"  and {len(found) - _SHOWN} more")
    return "\n".join(lines)
