"""``gkd search``: the points of a space that validation leads to, and the controls of the best."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gkd_plugin.commands.lock import hold_lock
from gkd_plugin.config.load import read_config, read_values
from gkd_plugin.errors import UserError
from gkd_plugin.groups import flatten
from gkd_plugin.study.check import check_points, count_warnings
from gkd_plugin.study.display import say
from gkd_plugin.study.execute import (
    Resources,
)
from gkd_plugin.study.expand import make_digest
from gkd_plugin.study.grid_file import parse_grid, read_grid
from gkd_plugin.study.halving import make_steps
from gkd_plugin.study.outcome import Outcome, summarize
from gkd_plugin.study.proposals import HALVING, METHODS, TPE, Proposals, draw
from gkd_plugin.study.search_loop import Search
from gkd_plugin.study.space import Space, describe_changes
from gkd_plugin.study.strays import find_strays
from gkd_plugin.study.study import FILE, SEARCH, Study, find_out_dir, read_study_file

_CHECKED = 200  # random points that are checked before anything is trained


def run_search(
    config: str | Path,
    space: str | Path,
    *,
    runs: int | None = None,
    hours: float | None = None,
    method: str = TPE,
    overrides: Sequence[Any] = (),
    name: str | None = None,
    repeat: int = 3,
    resources: Resources | None = None,
    controls: bool = True,
    retry_failed: bool = False,
    quiet: bool = False,
    command: str = "",
) -> Outcome:
    """Searches a space by validation scores; the same call again goes on.

    Args:
        config (str or Path): The base configuration.
        space (str or Path): A grid file, which may have ranges.
        runs (int, optional): How many different points are tried in all, those of earlier calls included.
        hours (float, optional): No run begins later in this call.
        method (str): ``tpe``, ``random``, or ``halving``: random points, of which the better train longer.
        overrides (sequence): ``key value`` pairs for the base.
        name (str, optional): The study's name. (default: ``<base>_search_<space>``)
        repeat (int): Seeds of each point; their mean decides.
        resources (Resources, optional): Where and how runs are trained.
        controls (bool): Also trains the controls of the best points.
        retry_failed (bool): Runs again what failed before.
        quiet (bool): Shows no progress.
        command (str): The command line, for the record.

    Raises:
        UserError: For a mistake in the space or its configurations, a folder that holds something else, or a search that was
            started with different settings.
    """
    _require_sense(runs, hours, method, repeat)
    resources = resources or Resources()
    with say("reading the space", quiet):
        base = read_values(config, overrides)
        grid = read_grid(Path(space), ranges=True)
        study = Study(
            name=name or f"{Path(config).stem}_search_{Path(space).stem}",
            out_dir=find_out_dir(base),
            kind=SEARCH,
            base={"file": str(config), "values": dict(base)},
            grid={"file": str(space), "text": grid.text},
            dimensions=grid.dimensions,
            repeat=repeat,
            threads=resources.choose_threads(base),
            command=command,
            search={"method": method},
        )
        study.require_name()
        earlier = read_study_file(study.beside) if (study.beside / FILE).is_file() else None
        if earlier is not None:
            study = study.continue_from(earlier)
            _require_same(earlier, study, repeat)
        study.require_free()
        points = Space(base, Path(config).stem, grid)
        epochs = int(read_config(base, path=Path(config)).cfg.optim.max_epoch)
        steps = make_steps(method == HALVING, epochs, runs, grid.dimensions.values())
        _check_space(points, study, Path(config))
    with hold_lock(study.beside):
        study.save()
        proposals = Proposals(study.beside, points, method)
        search = Search(study, points, proposals, Path(config), steps, resources)
        entries = search.run(runs, hours, controls, retry_failed, quiet)
        warnings = (*search.notes, *count_warnings(search.configs.values()), *find_strays(grid, base))
        return summarize(search.study, entries, warnings)


def _require_sense(runs: int | None, hours: float | None, method: str, repeat: int) -> None:
    if runs is None and hours is None:
        raise UserError("a search needs an end: --runs N, --hours H, or both.")
    for option, value in (("--runs", runs), ("--repeat", repeat)):
        if value is not None and value < 1:
            raise UserError(f"{option} {value}: must be at least 1.")
    if hours is not None and not hours > 0:
        raise UserError(f"--hours {hours:g}: must be above 0.")
    if method not in METHODS:
        raise UserError(f"--method {method}: unknown. Allowed: {', '.join(METHODS)}.")


def _require_same(earlier: Study, study: Study, repeat: int) -> None:
    """A search goes on only where all that its scores depend on is as it was."""
    changes = []
    if repeat != earlier.repeat:
        changes.append(f"--repeat was {earlier.repeat}, now {repeat}")
    was, now = earlier.search.get("method"), study.search["method"]
    if was != now:
        changes.append(f"--method was {was}, now {now}")
    before, after = (flatten(json.loads(json.dumps(each.base["values"], default=str))) for each in (earlier, study))
    for key in dict.fromkeys([*before, *after]):
        if before.get(key) != after.get(key) and key != "kd.tracker":
            changes.append(f"{key} of the base was {before.get(key, 'nothing')}, now {after.get(key, 'nothing')}")
    grids = [parse_grid(str(each.grid["text"]), Path(each.grid["file"]), ranges=True) for each in (earlier, study)]
    space = describe_changes(*grids)
    changes += [space] if space else []
    if changes:
        raise UserError(
            f"{study.beside} holds a search that was started with different settings: {'; '.join(changes)}. Its scores would not belong "
            "together. Undo the change, or choose another --name. Nothing was changed."
        )


def _check_space(space: Space, study: Study, path: Path) -> None:
    """Finds mistakes in the space before anything is trained, from random points and the ends of ranges."""
    drawn = draw(space, _CHECKED)
    ends = {make_digest(end): end for choices in drawn[: _CHECKED // 10] for end in space.list_ends(choices)}
    found = {make_digest(choices): choices for choices in drawn} | ends
    check_points([study.settle(space.make_point(choices)) for choices in found.values()], path)
