"""Folders of plain YAML files, one for each point: written for the host's own scripts, and read from its generator."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from gkd_plugin.config import host_keys, host_values
from gkd_plugin.config.cohort import FOLDER, find_file
from gkd_plugin.config.files import SUFFIXES, merge, read_file
from gkd_plugin.config.kd_keys import SCHEME
from gkd_plugin.errors import UserError
from gkd_plugin.groups import flatten
from gkd_plugin.schema import BadValue, Names
from gkd_plugin.study.expand import Expansion, make_digest
from gkd_plugin.study.names import parse_name, write_value
from gkd_plugin.study.points import Point

DONE = ".yaml_done"  # what the host calls a file whose runs have finished
_VARIED = "sample"  # the host's generator puts the name of the dimension that it varied into names


def write_configs(
    points: Sequence[Point], folder: Path, *, results: str | None = None, base: Path | None = None
) -> list[Path]:
    """Writes ``<point>.yaml`` for each point, as the host's main program and ``gkd run`` read it.

    Args:
        points (sequence of Point): The points.
        folder (Path): Where they go; files of other points in it are removed.
        results (str, optional): The folder that ``out_dir`` names; without it ``out_dir`` stays as it is.
        base (Path, optional): The base configuration; further YAML files that the points name (``kd.cohort``,
            ``kd.teacher_cfg``) are copied from beside it into ``cohorts``, where both programs find them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        if old.is_file() and (old.suffix in SUFFIXES or old.name.endswith(DONE)):
            old.unlink()
    distils = any(host_keys.is_kd(group) for point in points for group in point.values)
    named: dict[str, None] = {}
    written = []
    for point in points:
        values = _fit_host(point.values)
        if results is not None:
            values["out_dir"] = results
        if distils:  # all of them: a run of another mode has other files and is not comparable
            train = values.setdefault("train", {})
            if train.get("mode", "standard") == "standard":
                train["mode"] = "distill"
        path = folder / f"{point.name}.yaml"
        path.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), encoding="utf-8")
        written.append(path)
        named.update(dict.fromkeys(_list_named(values)))
    for name in named:
        _copy_named(name, base.parent if base else None, folder / FOLDER)
    return written


def _fit_host(values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy with the host's keys of the host's types: its reader refuses ``1`` for a float."""
    own = host_keys.fresh()

    def fit(content: Mapping[str, Any], node: Any) -> dict[str, Any]:
        fitted: dict[str, Any] = {}
        for key, value in content.items():
            default = node.get(key) if isinstance(node, dict) else None
            if isinstance(value, Mapping):
                fitted[key] = fit(value, default)
                continue
            try:
                fitted[key] = host_values.coerce(default, value)
            except BadValue:  # reported where the configuration is checked
                fitted[key] = value
            if isinstance(fitted[key], tuple):
                fitted[key] = list(fitted[key])
        return fitted

    return copy.deepcopy(fit({key: value for key, value in values.items() if value is not None}, own))


def _list_named(values: Mapping[str, Any]) -> Iterator[str]:
    """The YAML files that a configuration names."""
    kd = values.get(SCHEME) or {}
    for key in ("cohort", "teacher_cfg"):
        try:
            yield from Names("a file").parse(kd.get(key, "none"))
        except BadValue:
            continue


def _copy_named(name: str, folder: Path | None, target: Path) -> None:
    """Copies a named file and what it names itself, under the name by which it was found."""
    try:
        path = find_file(name, folder)
    except UserError:
        return  # the check of the configurations names it
    copied = target / (name if name.endswith(SUFFIXES) else f"{name}{path.suffix}")
    if copied.exists() and copied.read_bytes() == path.read_bytes():
        return
    copied.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, copied)
    for further in _list_named(read_file(path)):
        _copy_named(further, path.parent, target)


# -------------------------------------------------------------------------------------------------------------- reading
def read_folder(folder: str | Path) -> Expansion:
    """The points in a folder of YAML files, such as the host's generator writes; those that have finished count too.

    Args:
        folder (str or Path): The folder. A point is called as its file, and its choices are read from that name.

    Raises:
        UserError: If the folder is missing, has no YAML file, or one cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(
            f"{folder} is not a folder. Name one with a YAML file for each run, or give --config and --grid."
        )
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix in SUFFIXES or path.name.endswith(DONE):
            files.setdefault(path.name.removesuffix(DONE) if path.name.endswith(DONE) else path.stem, path)
    if not files:
        raise UserError(f"{folder} holds no YAML file. The host's configs_gen.py writes one for each run.")
    found: dict[str, Point] = {}
    for name, path in files.items():
        values = merge(read_file(path), ())
        _, choices = parse_name(name)
        choices.pop(_VARIED, None)
        found.setdefault(make_digest(values), Point(name, values, choices))
    points = list(found.values())
    dimensions = _infer_keys(points)
    points = [
        Point(point.name, point.values, {alias: _get(point.values, dimensions[alias]) for alias in point.choices})
        if all(dimensions.get(alias, alias) != alias for alias in point.choices)
        else point
        for point in points
    ]
    return Expansion(points, dimensions, len(files) - len(points))


def _infer_keys(points: Sequence[Point]) -> dict[str, str]:
    """The key of each alias: the one whose values the names show; the alias itself where none fits."""
    flat = [flatten(point.values) for point in points]
    aliases = list(dict.fromkeys(alias for point in points for alias in point.choices))
    keys: dict[str, str] = {}
    for alias in aliases:
        shown = [
            (values, point.choices[alias]) for values, point in zip(flat, points, strict=True) if alias in point.choices
        ]
        fitting = [key for key in shown[0][0] if all(key in v and _looks_like(v[key], text) for v, text in shown)]
        varied = [key for key in fitting if key not in keys.values() and len({repr(v.get(key)) for v in flat}) > 1]
        close = [key for key in varied or fitting if _resembles(alias, key)]
        keys[alias] = next(iter(close or varied or fitting), alias)
    return keys


def _looks_like(value: Any, text: Any) -> bool:
    if value == text and not isinstance(value, bool):  # 1.0 and 1, where the file was written for the host
        return True
    return str(text) in (str(value).strip("[]").strip("'"), write_value(value))


def _resembles(alias: str, key: str) -> bool:
    """Whether an alias may be short for a key: its letters occur in the key's last part in this order."""
    rest = iter(key.rpartition(".")[2])
    return all(letter in rest for letter in alias.replace("_", ""))


def _get(values: Mapping[str, Any], key: str) -> Any:
    return flatten(values).get(key)
