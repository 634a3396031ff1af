"""What was run: data set, base, grid, seeds, hours, versions, command, date."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from gkd_plugin.data.handed import NAME, WORDS
from gkd_plugin.models.own import OWN, name_network
from gkd_plugin.study.points import POINT
from gkd_plugin.study.records import StudyResults
from gkd_plugin.study.report.parts import format_count, format_time, format_value
from gkd_plugin.study.report.run_series import list_seeds
from gkd_plugin.training.provenance import read_origin

Facts = list[tuple[str, str]]


def list_study_facts(results: StudyResults) -> Facts:
    """The facts of a study, or of a folder of runs.

    Args:
        results (StudyResults): The study.
    """
    meta = results.meta
    base, grid = read_group(meta, "base"), read_group(meta, "grid")
    configs = [base["values"]] if isinstance(base.get("values"), dict) else _read_configs(results)
    facts = [
        *_list_config(results, configs),
        ("base", _text(base.get("file"))),
        ("grid", _text(grid.get("file"))),
        ("dimensions", ", ".join(_list_dimensions(results, configs))),
        ("runs", _count_runs(results)),
        ("seeds", _count_seeds(results)),
        ("training time", _add_times(results)),
        ("started", _text(meta.get("created")).replace("T", " ")),
        ("command", _text(meta.get("command"))),
        ("threads", _text(meta.get("threads"))),
        ("versions", _write_versions(meta.get("versions") or _find_versions(results))),
        ("folder", str(results.folder)),
    ]
    return [(name, value) for name, value in facts if value]


def list_run_facts(results: StudyResults) -> Facts:
    """The facts of one run.

    Args:
        results (StudyResults): The run.
    """
    scores = results.scores
    students = f"{int(scores['students'].max())}" if len(scores) else ""
    facts = [
        *_list_config(results, _read_configs(results)),
        ("students", students),
        ("teacher", ", ".join(sorted({str(name) for name in scores["teacher"].dropna()}))),
        ("seeds", _count_seeds(results)),
        ("training time", _add_times(results)),
        ("versions", _write_versions(_find_versions(results))),
        ("folder", str(results.folder)),
    ]
    return [(name, value) for name, value in facts if value]


def read_group(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A group of keys; empty where there is none."""
    inside = values.get(name)
    return inside if isinstance(inside, dict) else {}


def read_config(path: Path) -> str:
    """The text of a file of a configuration; empty where it cannot be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _read_configs(results: StudyResults) -> list[Mapping[str, Any]]:
    """The configuration of every run that has one."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast where there is one
    found: list[Mapping[str, Any]] = []
    for folder in results.points["folder"]:
        try:
            values = yaml.load(read_config(Path(str(folder)) / "config.yaml"), Loader=loader)
        except yaml.YAMLError:
            continue
        if isinstance(values, dict):
            found.append(values)
    return found


def _list_config(results: StudyResults, configs: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """The keys that say most; where they differ, every value."""

    def get(key: str) -> str:
        return " / ".join(sorted(_list_values(results, configs, key), key=lambda value: (len(value), value)))

    names = (WORDS,) if get("dataset.name") == NAME else (get("dataset.name"), _brackets(get("dataset.format")))
    yield "data set", " ".join(part for part in names if part)
    kind = get("model.type")
    network = get("gnn.layer_type") if kind in ("", "gnn") else name_network(kind)
    sizes = [
        f"{found} {word}"
        for key, word in (("gnn.layers_mp", "layers"), ("gnn.dim_inner", "wide"))
        if (found := get(key)) and not kind.startswith(OWN)  # which reads no key of the host
    ]
    yield "protocol", get("splits.protocol")
    yield "network", ", ".join(part for part in (network, *sizes) if part)
    yield "epochs", get("optim.max_epoch")


def _list_values(results: StudyResults, configs: Sequence[Mapping[str, Any]], key: str) -> set[str]:
    """The values of a key, as text: those of the points, and those of the configurations for points that choose none."""
    alias = next((alias for alias, each in results.dimensions.items() if each == key), None)
    group, _, name = key.partition(".")
    written = {_text(read_group(config, group).get(name) if name else config.get(group)) for config in configs}
    if alias is None:
        return written - {""}
    chosen = results.points.loc[results.points["role"] == POINT, alias]
    values = {format_value(value) for value in chosen.dropna().unique()}
    return (values | written if chosen.isna().any() else values) - {""}


def _brackets(text: str) -> str:
    return f"({text})" if text else ""


def _list_dimensions(results: StudyResults, configs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for alias, key in results.dimensions.items():
        count = len(_list_values(results, configs, key))
        yield f"{alias if alias == key else f'{alias} ({key})'}: {format_count(count, 'value')}"


def _count_runs(results: StudyResults) -> str:
    roles = results.points["role"].value_counts()
    words = {role: str(role).replace("_", " ") for role in roles.index}
    return ", ".join(format_count(int(count), words[role]) for role, count in roles.items())


def _count_seeds(results: StudyResults) -> str:
    asked = results.meta.get("repeat")
    found = results.scores.groupby("name")["seed"].nunique()
    if len(found) and found.min() != found.max():
        finished = f"{found.min()} to {found.max()} finished"
    else:
        finished = f"{found.max()} finished" if len(found) else "none finished"
    return f"{asked} asked, {finished}" if asked else finished


def _add_times(results: StudyResults) -> str:
    """Time of the training loops, each seed once."""
    seconds = results.scores.drop_duplicates(["name", "seed"])["seconds"].dropna()
    return f"{format_time(float(seconds.sum()))} in all" if len(seconds) else ""


def _find_versions(results: StudyResults) -> Mapping[str, Any]:
    """The versions that the first finished seed was made with."""
    for folder in results.points["folder"]:
        for seed in list_seeds(Path(str(folder))):
            found = (read_origin(seed) or {}).get("versions")
            if isinstance(found, dict):
                return found
    return {}


def _write_versions(found: Any) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.items()) if isinstance(found, dict) else ""
