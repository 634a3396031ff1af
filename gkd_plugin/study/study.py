"""A study on disk: what was asked, in ``study.json`` beside the folder of its runs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from gkd_plugin.commands.start import require_name
from gkd_plugin.config.load import read_config
from gkd_plugin.errors import UserError
from gkd_plugin.study.points import POINT, Point, check_name
from gkd_plugin.training.provenance import find_versions
from gkd_plugin.training.run_folder import write_text

FILE, FORMAT, SUFFIX = "study.json", 1, ".gkd"
GRID, SEARCH = "grid", "search"


@dataclass(frozen=True)
class Study:
    """What a study runs and where.

    Args:
        name (str): Its name, ``<base>_grid_<grid>`` as the host's generator has it.
        out_dir (Path): The folder that its runs' folder lies in.
        kind (str): ``grid`` or ``search``.
        base (mapping): ``file`` and ``values`` of the base configuration.
        grid (mapping): ``file`` and ``text`` of the grid.
        dimensions (mapping): The key of each dimension by its alias, in the grid's order.
        repeat (int): Seeds of each point.
        threads (int): Threads of each run; fixed when the study begins, since they decide the last digits.
        points (tuple of Point): Its points, controls and placebos.
        command (str): The command that began it.
        created (str): When.
        search (mapping): Of a search how it chooses its points.
    """

    name: str
    out_dir: Path
    kind: str
    base: Mapping[str, Any]
    grid: Mapping[str, Any]
    dimensions: Mapping[str, str]
    repeat: int
    threads: int
    points: tuple[Point, ...] = ()
    command: str = ""
    created: str = ""
    search: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The folder of the points' runs, which the host's aggregation reads: nothing else lies in it."""
        return self.out_dir / self.name

    @property
    def beside(self) -> Path:
        """The folder of everything else."""
        return self.out_dir / f"{self.name}{SUFFIX}"

    @property
    def ledger(self) -> Path:
        """The folder of the runs' states."""
        return self.beside / "ledger"

    def place(self, point: Point) -> Path:
        """The folder that a point's run lies in."""
        if point.epochs is not None:
            return self.beside / "shorter"
        return self.folder if point.role == POINT else self.beside / "controls"

    def settle(self, point: Point) -> Point:
        """A point with the study's place and threads, which its grid may not leave open."""
        threads = {} if "num_threads" in self.dimensions.values() else {"num_threads": self.threads}
        return replace(point, values={**point.values, "out_dir": str(self.folder), **threads})

    def require_name(self) -> None:
        """Refuses a name whose folders cannot be made, or would lie elsewhere.

        Raises:
            UserError: If it is not the name of a folder.
        """
        if Path(self.name).name != self.name or not self.name.isprintable() or self.name.endswith(SUFFIX):
            raise UserError(
                f"--name: {self.name!r} is not the name of a study. Allowed: the name of a folder, without '/' or line breaks, "
                f"that does not end with {SUFFIX}. Nothing was written."
            )
        require_name(self.out_dir, f"{self.name}{SUFFIX}")
        require_name(self.out_dir, self.name)

    def require_free(self) -> None:
        """Refuses a folder of runs that no study of ours began.

        Raises:
            UserError: If there are some.
        """
        if self.ledger.is_dir() or not self.folder.is_dir():  # the ledger is a study's, also where its file was removed
            return
        runs = sorted(path.name for path in self.folder.iterdir() if not path.name.startswith("."))
        if runs:
            raise UserError(
                f"{self.folder} is not empty ({', '.join(runs[:3])}{', ...' if len(runs) > 3 else ''}) and belongs to no "
                "study of gkd_plugin. Choose another --name (or out_dir). Nothing was changed."
            )

    def save(self) -> None:
        """Writes ``study.json`` and the grid."""
        point_values = [
            {
                "name": point.name,
                "role": point.role,
                "choices": dict(point.choices),
                "control": point.control,
                "of": list(point.of) or None,
                "folder": self._relative(self.place(point) / point.name),
                "epochs": point.epochs,
            }
            for point in self.points
        ]
        values = {
            "format": FORMAT,
            "name": self.name,
            "kind": self.kind,
            "created": self.created or f"{datetime.now():%Y-%m-%dT%H:%M:%S}",
            "command": self.command,
            "versions": find_versions(),
            "base": dict(self.base),
            "grid": dict(self.grid),
            "dimensions": dict(self.dimensions),
            "repeat": self.repeat,
            "threads": self.threads,
            "points": point_values,
            **({"search": dict(self.search)} if self.search else {}),
        }
        if "text" in self.grid:
            write_text(self.beside / "grid.txt", str(self.grid["text"]))
        write_text(self.beside / FILE, json.dumps(values, indent=1, default=str) + "\n")

    def _relative(self, path: Path) -> str:
        if self.beside in path.parents:
            return path.relative_to(self.beside).as_posix()
        return f"../{path.relative_to(self.out_dir).as_posix()}"

    def continue_from(self, earlier: Study) -> Study:
        """This study as the continuation of the one in its folder: its threads, its beginning, its further points.

        Args:
            earlier (Study): What the folder holds.

        Raises:
            UserError: If that is a study of another kind.
        """
        if earlier.kind != self.kind:
            raise UserError(
                f"{self.beside} holds a {earlier.kind}, and this is a {self.kind}. Choose another --name. "
                "Nothing was changed."
            )
        ours = {point.name for point in self.points}
        kept = tuple(point for point in earlier.points if point.name not in ours)
        return replace(
            self,
            threads=earlier.threads,
            repeat=max(self.repeat, earlier.repeat),
            created=earlier.created,
            command=self.command or earlier.command,
            points=(*self.points, *kept),
            dimensions={**self.dimensions, **{a: k for a, k in earlier.dimensions.items() if a not in self.dimensions}},
        )


def find_out_dir(values: Mapping[str, Any]) -> Path:
    """The folder for results that a configuration names.

    Args:
        values (mapping): Its values.

    Raises:
        UserError: If it names none that can be.
    """
    named = {"out_dir": values["out_dir"]} if "out_dir" in values else {}
    return Path(read_config(named).cfg.out_dir)


def find_study(folder: str | Path) -> Path:
    """The folder of ours that belongs to a study, whichever of its two folders is named.

    Args:
        folder (str or Path): ``results/x`` or ``results/x.gkd``.

    Raises:
        UserError: If there is no study.
    """
    path = Path(os.path.abspath(folder))
    for candidate in (path, path.parent / f"{path.name}{SUFFIX}"):
        if (candidate / FILE).is_file():
            return candidate
    known = sorted(found.parent.with_suffix("").name for found in path.parent.glob(f"*{SUFFIX}/{FILE}"))
    there = f" In {path.parent}: {', '.join(known[:10])}." if known else ""
    beside = path if path.suffix == SUFFIX else path.parent / f"{path.name}{SUFFIX}"
    if (beside / "configs").is_dir():
        raise UserError(f"{folder}: nothing was trained yet; {beside.name} holds what --dry-run wrote.{there}")
    raise UserError(f"{folder} is not a study: there is no {path.name}{SUFFIX}/{FILE} beside it.{there}")


def read_study_file(beside: Path) -> Study:
    """The study whose file lies in a folder; points are read without their values.

    Args:
        beside (Path): The folder of ``study.json``.

    Raises:
        UserError: If the file is damaged or of a later version.
    """
    path = beside / FILE
    try:
        values = json.loads(path.read_text())
        later = isinstance(values["format"], int) and values["format"] > FORMAT
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _report_damage(path, error) from None
    if later:
        raise UserError(
            f"{path} was written by a later version (format {values['format']}). Install a newer gkd_plugin."
        )
    try:
        _require_names([values["name"], *(point["name"] for point in values["points"])])
        points = tuple(
            Point(
                str(point["name"]),
                {},
                dict(point["choices"]),
                str(point["role"]),
                point["control"],
                tuple(point["of"] or ()),
                point["epochs"],
            )
            for point in values["points"]
        )
        return Study(
            name=str(values["name"]),
            out_dir=beside.parent,
            kind=str(values["kind"]),
            base=dict(values["base"]),
            grid=dict(values["grid"]),
            dimensions=dict(values["dimensions"]),
            repeat=int(values["repeat"]),
            threads=int(values["threads"]),
            points=points,
            command=str(values["command"]),
            created=str(values["created"]),
            search=dict(values.get("search", {})),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _report_damage(path, error) from None


def _require_names(names: Iterable[object]) -> None:
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"{name!r:.60} is not a name")
        check_name(name)


def _report_damage(path: Path, error: Exception) -> UserError:
    what = (
        f"it lacks {error}"
        if isinstance(error, KeyError)
        else "it is incomplete JSON"
        if isinstance(error, json.JSONDecodeError)
        else str(error)
    )
    return UserError(
        f"{path} is damaged ({what}). Its runs are intact: give the same command another --name, or remove this file and run "
        "the same command again to write it anew."
    )
