"""``gkd grid``: every configuration of a grid, beside its control."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gkd_plugin.commands.lock import hold_lock
from gkd_plugin.config.host_keys import fresh
from gkd_plugin.config.load import Config, read_values
from gkd_plugin.errors import UserError
from gkd_plugin.printing import warn
from gkd_plugin.study.budget import find_budget, match_budgets
from gkd_plugin.study.bundles import find_differences
from gkd_plugin.study.check import check_points, count_warnings, drop_equal
from gkd_plugin.study.configs import read_folder, write_configs
from gkd_plugin.study.controls import add_controls
from gkd_plugin.study.display import say
from gkd_plugin.study.estimate import DryRun, estimate
from gkd_plugin.study.execute import Resources, require_unchanged, run_study
from gkd_plugin.study.expand import Expansion, expand
from gkd_plugin.study.extras import require_extras
from gkd_plugin.study.grid_file import Grid, read_grid
from gkd_plugin.study.outcome import Outcome, summarize
from gkd_plugin.study.placebo import add_placebos
from gkd_plugin.study.points import POINT, Point
from gkd_plugin.study.resume import fill_choices, match_earlier
from gkd_plugin.study.strays import find_strays
from gkd_plugin.study.study import FILE, GRID, Study, find_out_dir, read_study_file
from gkd_plugin.training.disk import guarded


def run_grid(
    config: str | Path,
    grid: str | Path | None = None,
    *,
    overrides: Sequence[Any] = (),
    name: str | None = None,
    repeat: int = 3,
    resources: Resources | None = None,
    controls: bool = True,
    placebo: bool = False,
    sample: int | None = None,
    sample_alias: Sequence[str] = (),
    budget: str | int | None = None,
    retry_failed: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    command: str = "",
) -> Outcome | DryRun:
    """Trains every configuration of a grid and its control; finished runs are kept, interrupted ones go on.

    Args:
        config (str or Path): The base configuration; or a folder of configurations, such as the host's ``configs_gen.py``
            writes.
        grid (str or Path, optional): The grid file. (default: none, for a folder)
        overrides (sequence): ``key value`` pairs for the base.
        name (str, optional): The study's name. (default: ``<base>_grid_<grid>``, as the host has it)
        repeat (int): Seeds of each configuration.
        resources (Resources, optional): Where and how runs are trained.
        controls (bool): Also trains the control of each configuration that distils, once for all that share it.
        placebo (bool): Also trains each distilling configuration with a shuffled teacher, and with label smoothing instead.
        sample (int, optional): Takes so many random configurations of the grid.
        sample_alias (sequence of str): Dimensions that are varied alone around each of the ``sample`` configurations.
        budget (str or int, optional): Parameters of one student, or a YAML whose student has them: widths are chosen so that
            all have as many.
        retry_failed (bool): Runs again what failed before.
        dry_run (bool): Only writes the configurations, and says how many there are and about how long they take.
        quiet (bool): Shows no progress.
        command (str): The command line, for the record.

    Raises:
        UserError: For a mistake in the grid or any of its configurations, a folder that holds something else, or a finished
            run that differs from what the grid asks for.
    """
    if repeat < 1:
        raise UserError(f"--repeat {repeat}: must be at least 1.")
    resources = resources or Resources()
    require_extras()
    with say("reading the grid", quiet):
        expansion, base, read = _expand(config, grid, overrides, sample, sample_alias)
        study = _place(expansion, config, grid, base, read.text if read else "", name, repeat, resources, command)
    path = Path(config) if grid is not None else None
    with contextlib.nullcontext() if dry_run else hold_lock(study.beside), guarded(study.beside):
        with say("checking every configuration", quiet):
            earlier = read_study_file(study.beside) if (study.beside / FILE).is_file() else None
            if earlier is not None:
                _require_same_seed(earlier, study)
                study = study.continue_from(earlier)
            study.require_free()
            settled = [study.settle(point) for point in expansion.points]
            configs = check_points(settled, path)
            points = drop_equal(settled, configs)
            configs = {point.name: configs[point.name] for point in points}
            duplicates = expansion.duplicates + len(settled) - len(points)
            if budget is not None:
                points = match_budgets(points, find_budget(budget, overrides), configs, expansion.dimensions)
                configs = check_points(points, path)
            points, configs = match_earlier(study, points, configs)
            fewer = (f"--repeat {repeat}: the study has {study.repeat} seeds from an earlier start, and keeps them",)
            warnings = (
                *(fewer if repeat < study.repeat else ()),
                *_find_warnings(study, configs),
                *(find_strays(read, base) if read else ()),
            )
            if placebo:
                points, more, refused = add_placebos(points, configs)
                configs |= more
                warnings = (*warnings, *refused)
            if controls:
                points, more = add_controls(points, configs)
                configs |= more
        require_unchanged(study, points, configs)
        if dry_run:
            write_configs(points, study.beside / "configs", base=path)
            with say("trying a few configurations for some epochs", quiet):
                seconds, trial = estimate(points, configs, study.repeat, resources.processes)
            return DryRun(
                replace(study, points=tuple(points)),
                study.beside / "configs",
                duplicates,
                seconds,
                trial,
                resources.processes,
                warnings,
            )
        study = replace(study, points=_merge(study, points))
        left = sum(point.role == POINT for point in study.points) - sum(point.role == POINT for point in points)
        if left:
            what = "1 point of an earlier grid is" if left == 1 else f"{left} points of an earlier grid are"
            warnings = (*warnings, f"{what} kept, and counted in tables and report")
        study.save()
        write_configs(points, study.beside / "configs", base=path)
        if not quiet:
            _say_what_is_not_stacked(configs, resources.stack)
        entries = run_study(study, points, configs, resources, retry_failed=retry_failed, quiet=quiet)
        return summarize(study, entries, warnings)


def _require_same_seed(earlier: Study, study: Study) -> None:
    """A study's points, controls and teachers have the same seeds, or they could not be paired."""
    bases = [each.base.get("values") for each in (earlier, study)]
    before, now = (base.get("seed", fresh()["seed"]) if base else None for base in bases)
    if before != now and None not in (before, now) and "seed" not in study.dimensions.values():
        raise UserError(
            f"seed: {study.beside} was begun with seed {before}, and this is {now}: points would have seeds that their controls have "
            f"not. For more seeds raise --repeat; for others choose another --name or out_dir. Nothing was changed."
        )


def _say_what_is_not_stacked(configs: Mapping[str, Config], stack: int) -> None:
    if stack > 1 and (differing := find_differences(configs.values())):
        warn(
            f"--stack: runs that differ in {', '.join(differing)} are not trained together. A stack is of runs that differ in "
            "seed, optim, train, gnn.dropout or kd keys only."
        )


def _find_warnings(study: Study, configs: Mapping[str, Config]) -> tuple[str, ...]:
    """What is legal, but probably a mistake."""
    found = count_warnings(configs.values())
    if "seed" in study.dimensions.values() and study.repeat > 1:
        said = (
            f"seed is a dimension, and each point has {study.repeat} seeds from its own on: points share seeds. --repeat alone "
            "gives several seeds"
        )
        found = (*found, said)
    return found


def _expand(
    config: str | Path,
    grid: str | Path | None,
    overrides: Sequence[Any],
    sample: int | None,
    sample_alias: Sequence[str],
) -> tuple[Expansion, dict[str, Any], Grid | None]:
    """The points, the base's values and the grid, where there is one."""
    if grid is None:
        if not Path(config).is_dir():
            raise UserError(f"--config {config}: without --grid, name a folder of configurations (gkd grid DIR).")
        if sample or sample_alias:
            raise UserError("--sample needs a grid: --config BASE --grid GRID.")
        found = read_folder(Path(config))
        if overrides:
            raise UserError(
                "key value pairs need a base: --config BASE --grid GRID. A folder's files are run as they are."
            )
        return found, {}, None
    base = read_values(config, overrides)
    read = read_grid(Path(grid))
    found = expand(base, Path(config).stem, read, sample=sample, sample_alias=tuple(sample_alias))
    return found, base, read


def _place(
    expansion: Expansion,
    config: str | Path,
    grid: str | Path | None,
    base: Mapping[str, Any],
    text: str,
    name: str | None,
    repeat: int,
    resources: Resources,
    command: str,
) -> Study:
    """The study, without its points."""
    if grid is None:
        folder = Path(config).resolve()
        name = folder.name if name is None else name
        base = expansion.points[0].values
        out_dir = find_out_dir(base)
        out_dir = out_dir.parent if out_dir.name == folder.name else out_dir  # configs_gen.py adds the grid's name
    else:
        name = f"{Path(config).stem}_grid_{Path(grid).stem}" if name is None else name
        out_dir = find_out_dir(base)
    study = Study(
        name=name,
        out_dir=out_dir,
        kind=GRID,
        base={"file": str(config), "values": dict(base) if grid is not None else {}},
        grid={"file": str(grid), "text": text} if grid is not None else {},
        dimensions=expansion.dimensions,
        repeat=repeat,
        threads=resources.choose_threads(base),
        command=command,
    )
    study.require_name()
    return study


def _merge(study: Study, points: Sequence[Point]) -> tuple[Point, ...]:
    """The points, and those of an earlier grid that are no more asked for: their results are kept."""
    ours = {point.name for point in points}
    general = [alias for alias in study.dimensions if all(alias in p.choices for p in points if p.role == POINT)]
    left = [fill_choices(study, point, general) for point in study.points if point.name not in ours]
    return (*left, *points)
