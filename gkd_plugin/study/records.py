"""A study, or any folder of runs, read as tables: its points, and the score of every seed and answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gkd_plugin.errors import UserError, describe_damage
from gkd_plugin.study.controls import describe_control, match_controls
from gkd_plugin.study.dimensions import compare_configs, make_column, parse_name
from gkd_plugin.study.extras import load_extra
from gkd_plugin.study.points import CONTROL, POINT, ROLES, TEACHER, check_place
from gkd_plugin.study.run_files import RunFiles, is_run, read_run
from gkd_plugin.training.result import RESULT
from gkd_plugin.training.run_folder import DATED, read_seed

if TYPE_CHECKING:
    import pandas as pd

STUDY, LEDGER, SUFFIX, FORMAT = "study.json", "ledger", ".gkd", 1
POINT_COLUMNS = {
    "name": "object",
    "role": "object",
    "control": "object",
    "of": "object",
    "folder": "object",
    "epochs": "Int64",
    "state": "object",
    "reason": "object",
}
SCORE_COLUMNS = {
    "name": "object",
    "role": "object",
    "seed": "int64",
    "answer": "object",
    "metric": "object",
    "better": "bool",
    "epoch": "float64",
    "val": "float64",
    "test": "float64",
    "parameters": "float64",
    "students": "int64",
    "seconds": "float64",
    "teacher": "object",
    "teacher_test": "float64",
    "agreement": "float64",
    "test_transductive": "float64",
    "test_inductive": "float64",
    "warnings": "object",
    "note": "object",
}
# names of columns in our tables, which no dimension may take
RESERVED = frozenset(
    {*POINT_COLUMNS, *SCORE_COLUMNS}
    | set(
        "seeds val_sd test_sd test_low test_high control_test difference low high p p_holm wilcoxon wins ties losses".split()
    )
    | set("best_difference best_low best_high gap_closed front".split())
)
FAILURE_COLUMNS = {"name": "object", "seed": "Int64", "reason": "object"}


@dataclass(frozen=True, eq=False)
class StudyResults:
    """The results of a study.

    Args:
        name (str): Its name.
        folder (Path): The folder ``<study>.gkd``, or the folder of runs where there is none.
        kind (str): ``grid``, ``search``, ``runs`` (a folder of runs without ``study.json``) or ``run``.
        meta (dict): The content of ``study.json``; empty where there is none.
        dimensions (dict): The key of each dimension by its column in ``points``: its alias, unless a column of ours has
            that name already (the column of ``kd.students students [1, 2]`` is ``kd.students``).
        points (DataFrame): One row for each point: ``name``, ``role``, ``control``, ``of``, ``folder``, ``epochs``,
            ``state``, ``reason``, and one column for each dimension.
        scores (DataFrame): One row for each point, seed and answer; see ``SCORE_COLUMNS``.
        failures (DataFrame): What failed, is damaged or was not finished: ``name``, ``seed``, ``reason``.
    """

    name: str
    folder: Path
    kind: str
    meta: dict[str, Any]
    dimensions: dict[str, str]
    points: pd.DataFrame
    scores: pd.DataFrame
    failures: pd.DataFrame

    @property
    def metric(self) -> str:
        """The metric that selects; of several the most frequent."""
        return str(self.scores["metric"].mode().iloc[0]) if len(self.scores) else ""

    @property
    def better(self) -> bool:
        """Whether more of it is better."""
        return bool(self.scores["better"].mode().iloc[0]) if len(self.scores) else True


@dataclass
class _Listed:
    """What is known of the points before their runs are read."""

    kind: str
    dimensions: dict[str, str]
    points: list[dict[str, Any]]
    choices: Sequence[Mapping[str, Any]]
    meta: dict[str, Any] = field(default_factory=dict)


def read_study(folder: str | Path) -> StudyResults:
    """Reads a study (its folder or ``<study>.gkd``), a folder of runs of ``gkd run`` or of the host, or one run.

    Args:
        folder (str or Path): The folder.

    Raises:
        UserError: If there are no runs in it.
    """
    folder = Path(folder).expanduser()
    folder = folder if folder.name else folder.resolve()  # "." has no name
    if not folder.is_dir() and not folder.with_name(folder.name + SUFFIX).is_dir():
        raise UserError(f"{folder} is not a folder. Name the folder of a study, or one that contains runs.")
    home = folder if folder.name.endswith(SUFFIX) else folder.with_name(folder.name + SUFFIX)
    failures: list[dict[str, Any]] = []
    listed = _read_study_file(home / STUDY, failures) if (home / STUDY).is_file() else None
    if listed is None:
        runs = folder.with_name(folder.name.removesuffix(SUFFIX))
        listed, home = _list_runs(runs, failures), home if home.is_dir() else runs
    return _read_points(listed, home, failures)


# ----------------------------------------------------------------------------------------------------- with study.json
def _read_study_file(path: Path, failures: list[dict[str, Any]]) -> _Listed | None:
    """What ``study.json`` lists; ``None``, said among the failures, where it cannot be read."""
    try:
        meta = json.loads(path.read_text())
        if meta["format"] != FORMAT:
            raise ValueError(f"it is of format {meta['format']!r:.20}, and this version reads {FORMAT}")
        dimensions = {str(alias): str(key) for alias, key in meta.get("dimensions", {}).items()}
        points = []
        for point in meta["points"]:
            known = {key: point.get(key) for key in ("control", "of", "epochs")}
            known["of"] = " ".join(known["of"]) if known["of"] else None  # names have no spaces
            role = point.get("role", POINT)
            name, place = str(point["name"]), str(point["folder"])
            if role not in ROLES:
                raise ValueError(f"{role!r:.80} is not a role of a point")
            check_place(name, place, path.parent.name.removesuffix(SUFFIX))
            points.append({"name": name, "role": role, **known, "folder": str((path.parent / place).resolve())})
        choices = [dict(point.get("choices") or {}) for point in meta["points"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = (
            f"{path} is damaged ({describe_damage(error)}). Only the folders of runs were read, and which run is the control "
            "of which is not known"
        )
        failures.append({"name": None, "seed": None, "reason": why})
        return None
    return _Listed(str(meta.get("kind", "grid")), dimensions, points, choices, meta)


def find_listed_control(folder: Path) -> Path | None:
    """The folder of a run's control, where the run belongs to a study that names one.

    Args:
        folder (Path): The run's folder.
    """
    home = folder.parent.with_name(folder.parent.name + SUFFIX)
    listed = _read_study_file(home / STUDY, []) if (home / STUDY).is_file() else None
    points = {point["folder"]: point for point in listed.points} if listed is not None else {}
    own = points.get(str(folder.resolve()))
    return next((Path(place) for place, point in points.items() if own and point["name"] == own["control"]), None)


def _read_entry(path: Path, failures: list[dict[str, Any]]) -> dict[str, Any]:
    """A run's entry in the ledger; empty where there is none, or where it cannot be read."""
    if not path.is_file():
        return {}
    try:
        entry = json.loads(path.read_text())
        kinds = {"state": (str, type(None)), "failures": (dict, type(None))}
        if not isinstance(entry, dict) or not all(isinstance(entry.get(key), kind) for key, kind in kinds.items()):
            raise ValueError("it is not an entry of a ledger")
    except (OSError, ValueError) as error:
        why = f"{path} cannot be read ({describe_damage(error)})"
        failures.append({"name": path.stem, "seed": None, "reason": why})
        return {}
    return entry


# -------------------------------------------------------------------------------------------------- without study.json
def _list_runs(folder: Path, failures: Sequence[Mapping[str, Any]]) -> _Listed:
    """The runs in a folder; it may be a run itself."""
    if is_run(folder):
        point = {"name": folder.name, "role": POINT, "folder": str(folder.resolve())}
        return _Listed("run", {}, [point], [{}])
    inside = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    runs = {path.name: path for path in inside if is_run(path) and not DATED.fullmatch(path.name)}
    if not runs:
        raise UserError(" ".join([*(f"{failure['reason']}." for failure in failures), _report_empty(folder, inside)]))
    names = sorted(runs)
    controlled = {name: f"{name}-control" for name in names if f"{name}-control" in runs}
    controls = {control: name for name, control in controlled.items()}
    controlled = match_controls({name: path for name, path in runs.items() if name not in controls}) | controlled
    own = [name for name in names if name not in controls]
    choices = {name: parse_name(name) for name in own}
    if any(choices.values()):
        dimensions = dict.fromkeys(alias for made in choices.values() for alias in made)
        named = {alias: alias for alias in dimensions}
    else:
        named, choices = compare_configs({name: runs[name] for name in own})
    points = [
        {
            "name": name,
            "role": CONTROL if name in controls else POINT,
            "control": controlled.get(name),
            "folder": str(runs[name].resolve()),
        }
        for name in names
    ]
    return _Listed("runs", named, points, [choices.get(controls.get(name, name), {}) for name in names])


def _report_empty(folder: Path, inside: Sequence[Path]) -> str:
    if (folder / RESULT).is_file():
        return f"{folder} is the folder of one seed. Name the folder of its run: {folder.parent}."
    deeper = [path.name for path in inside if any(is_run(run) for run in path.iterdir() if run.is_dir())]
    hint = f" Folders of runs in it: {', '.join(deeper[:5])}." if deeper else ""
    return (
        f"{folder} contains no runs.{hint} Name the folder of a study, one that contains runs (folders with one folder "
        "for each seed), or one run."
    )


# ----------------------------------------------------------------------------------------------------------- the frames
def _read_points(listed: _Listed, home: Path, failures: list[dict[str, Any]]) -> StudyResults:
    rows: list[dict[str, Any]] = []
    for point in listed.points:
        entry = _read_entry(home / LEDGER / f"{point['name']}.json", failures) if listed.meta else {}
        asked = [count for count in (listed.meta.get("repeat"), entry.get("repeat")) if isinstance(count, int)]
        found = read_run(Path(point["folder"]), entry.get("state"), max([1, *asked]))
        point["state"] = found.state
        why = _list_failures(found, entry)
        point["reason"] = entry.get("reason") or next((reason for _, reason in why), None)
        failures += [{"name": point["name"], "seed": seed, "reason": reason} for seed, reason in why]
        rows += [{"name": point["name"], "role": point["role"], **row} for row in found.rows]
    if not listed.meta:
        _name_teachers(listed.points, rows)
    points = make_frame(listed.points, POINT_COLUMNS)
    dimensions = {}
    choices = [
        describe_control(made, listed.dimensions) if point["role"] == CONTROL else made
        for point, made in zip(listed.points, listed.choices, strict=True)
    ]
    for alias, key in listed.dimensions.items():
        column = alias if alias not in RESERVED else key if key not in RESERVED else f"{alias}_choice"
        points[column] = make_column(choices, alias)
        dimensions[column] = key
    scores, known = make_frame(rows, SCORE_COLUMNS), make_frame(failures, FAILURE_COLUMNS)
    name = str(listed.meta.get("name") or home.resolve().name.removesuffix(SUFFIX))
    return StudyResults(name, home, listed.kind, listed.meta, dimensions, points, scores, known)


def make_frame(rows: Sequence[Mapping[str, Any]], kinds: Mapping[str, str]) -> pd.DataFrame:
    """A frame with these columns, whatever the rows lack; missing text is ``None``.

    Args:
        rows (sequence of mapping): Its rows.
        kinds (mapping): The type of each column by its name.
    """
    pandas = load_extra("pandas")
    columns = {name: pandas.Series([row.get(name) for row in rows], dtype=kind) for name, kind in kinds.items()}
    return pandas.DataFrame(columns)


def _list_failures(found: RunFiles, entry: Mapping[str, Any]) -> list[tuple[int | None, str]]:
    """What the run's folder says, then what only the ledger knows (a crash, a time-out leave nothing in the folder)."""
    why = list(found.failures)
    if entry.get("state") not in ("running", "pending"):  # what runs now is not finished, and no failure
        why += found.unfinished
    finished = {row["seed"] for row in found.rows}
    for seed, reason in (entry.get("failures") or {}).items():
        number = read_seed(str(seed))
        if number not in finished and number not in {known for known, _ in why}:
            why.append((number, str(reason)))
    if entry.get("state") == "failed" and not why:
        why.append((None, str(entry.get("reason") or "failed")))
    return why


def _name_teachers(points: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]]) -> None:
    """A run that others name as their teacher is one, unless it has a control of its own."""
    taught = {row["teacher"] for row in rows} - {None}
    for point in points:
        if point["name"] in taught and point["role"] == POINT and not point.get("control"):
            point["role"] = TEACHER
    roles = {point["name"]: point["role"] for point in points}
    for row in rows:
        row["role"] = roles[row["name"]]
