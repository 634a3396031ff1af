"""Which runs of a study are trained together as a stack (``gkd grid --stack``)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence

from gkd_plugin.config.load import Config
from gkd_plugin.models.stacked import list_keys
from gkd_plugin.study.job import Job


def bundle(jobs: Sequence[Job], configs: Mapping[str, Config], most: int, workers: int = 1) -> list[tuple[Job, ...]]:
    """Jobs in groups whose networks are alike, in the order of the first of each; no worker is left without one for it.

    Args:
        jobs (sequence of Job): The jobs.
        configs (mapping): Their configurations by name.
        most (int): How many networks of student 1 are trained together, seeds counted.
        workers (int): How many groups can be trained at a time.
    """
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        key = job.name if most == 1 else json.dumps(list_keys(configs[job.name].cfg), sort_keys=True, default=str)
        groups.setdefault(key, []).append(job)
    found = []
    for group in groups.values():
        size = max(1, min(most // max(1, group[0].repeat), math.ceil(len(group) / max(1, workers))))
        found += [tuple(group[start : start + size]) for start in range(0, len(group), size)]
    return found


def find_differences(configs: Iterable[Config]) -> list[str]:
    """The keys in which configurations differ so that their networks cannot be stacked.

    Args:
        configs (iterable of Config): Configurations of one study.
    """
    seen: dict[str, set[str]] = {}
    for config in configs:
        for name, value in list_keys(config.cfg).items():
            seen.setdefault(name, set()).add(str(value))
    return [name for name, values in seen.items() if len(values) > 1]
