"""``gkd grid --dry-run``: how many runs, and about how long, from a few short trials."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape

from gkd_plugin.commands.run import run
from gkd_plugin.config.load import Config
from gkd_plugin.errors import RunFailed, UserError
from gkd_plugin.printing import Printable
from gkd_plugin.study.display import format_seconds
from gkd_plugin.study.points import POINT, Point
from gkd_plugin.study.study import Study

_EPOCHS, _TRIALS = 5, 3
_NONE = object()  # None is a value
_PATIENCE = 60.0  # seconds after which no further trial begins


@dataclass(frozen=True, repr=False)
class DryRun(Printable):
    """What a study would run.

    Args:
        study (Study): The study, not yet begun.
        configs (Path): The folder of the configurations, as plain YAML.
        duplicates (int): Configurations that were left out because another is the same.
        seconds (float, optional): About how long all of it takes; ``None`` where no trial could be made.
        trial (str): What that is taken from, or why there is nothing to take it from.
        workers (int): How many run at a time.
        warnings (tuple of str): What is legal, but probably a mistake.
        failed (tuple): Empty: nothing was trained.
    """

    study: Study
    configs: Path
    duplicates: int
    seconds: float | None
    trial: str
    workers: int
    warnings: tuple[str, ...] = ()
    failed: tuple[()] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        roles = Counter(point.role for point in self.study.points)
        count, repeat = len(self.study.points), self.study.repeat
        parts = ", ".join(
            f"{number} {role.replace('_', ' ')}{'s' if number > 1 else ''}" for role, number in roles.items()
        )
        yield f"[bold]{escape(self.study.name)}[/]: {count} configuration{'s' if count > 1 else ''} ({parts}) of {repeat} seed{'s' if repeat > 1 else ''}"
        if self.duplicates:
            yield f"{self.duplicates} left out: the same as another"
        for alias, key in self.study.dimensions.items():
            found = (_find_value(point, alias, key) for point in self.study.points)
            values = list(dict.fromkeys(str(value) for value in found if value is not _NONE))
            shown = ", ".join(values[:12]) + (f", ... ({len(values)} values)" if len(values) > 12 else "")
            yield f"  {escape(alias)} ({escape(key)}): {escape(shown)}"
        yield from (f"[yellow]warning:[/] {escape(warning)}" for warning in self.warnings)
        if self.seconds is None:
            yield f"time: no estimate ({escape(self.trial)})"
        else:
            yield f"about {format_seconds(self.seconds)} with {max(1, self.workers)} at a time ({escape(self.trial)})"
        yield f"the configurations are in {escape(str(self.configs))}; nothing was trained"


def _find_value(point: Point, alias: str, key: str) -> Any:
    """What a point has for a dimension: of one whose block of the grid does not choose it, what the base says."""
    if alias in point.choices:
        return point.choices[alias]
    value: Any = point.values if point.role == POINT else {}
    for part in key.split("."):
        value = value.get(part, _NONE) if isinstance(value, Mapping) else _NONE
    return value


def estimate(
    points: Sequence[Point], configs: Mapping[str, Config], repeat: int, workers: int
) -> tuple[float | None, str]:
    """About how long points take, from short trials of a few that need no teacher.

    Args:
        points (sequence of Point): The points.
        configs (mapping): Their configurations by name.
        repeat (int): Seeds of each.
        workers (int): How many run at a time.

    Returns:
        tuple: Seconds, or ``None``; and what that is taken from.
    """
    alone = [
        p
        for p in points
        if configs[p.name].plan.get("teacher") is None and configs[p.name].plan.get("teacher_cfg") is None
    ]
    # of each role, since students of a cohort cost more than one
    ordered = sorted(alone, key=lambda point: (point.role != POINT, configs[point.name].plan.students))
    step = max(1, (len(ordered) - 1) // (_TRIALS - 1)) if len(ordered) > 1 else 1
    chosen = ordered[::step][:_TRIALS]
    if not chosen:
        return None, "every configuration needs a teacher"
    beginnings, lengths = [], []
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for number, point in enumerate(chosen):
            config = configs[point.name]
            epochs = int(config.cfg.optim.max_epoch)
            words = ["out_dir", folder, "optim.max_epoch", min(_EPOCHS, epochs)]
            ticks: list[float] = []
            begin = time.perf_counter()
            try:
                run(
                    config,
                    overrides=words,
                    name=f"trial-{number}",
                    quiet=True,
                    watch=lambda *_, ticks=ticks: ticks.append(time.perf_counter()),
                )
            except (UserError, RunFailed) as error:
                return None, f"the trial of {point.name} failed: {str(error).splitlines()[-1].strip()}"
            whole = time.perf_counter() - begin
            # the first epoch of a process is longer than the others
            epoch = (ticks[-1] - ticks[0]) / (len(ticks) - 1) if len(ticks) > 1 else 0.0
            beginnings.append(whole - epoch * len(ticks))
            lengths.append(epoch * epochs)
            if time.perf_counter() - started > _PATIENCE:
                break
    found = [min(beginnings) + length for length in lengths]  # the first trial also imports what workers have at hand
    mean = sum(found) / len(found)
    short = min([_EPOCHS, *(int(configs[point.name].cfg.optim.max_epoch) for point in chosen)])
    trial = f"{len(found)} trial{'s' if len(found) > 1 else ''} of {short} epochs: {mean:.1f} s a seed"
    return mean * repeat * len(points) / max(1, min(workers, len(points))), trial
