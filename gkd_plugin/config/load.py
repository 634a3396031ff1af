"""A configuration file with its overrides, checked whole: the host's keys, ours, and the files it names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from yacs.config import CfgNode

from gkd_plugin.config import host_checks, host_keys
from gkd_plugin.config.cohort import examine_cohort
from gkd_plugin.config.files import SUFFIXES, merge, read_file
from gkd_plugin.config.resolve import examine
from gkd_plugin.errors import ConfigError, Problem
from gkd_plugin.plan import Plan


@dataclass(frozen=True)
class Config:
    """A checked configuration.

    Args:
        path (Path, optional): The file it was read from.
        name (str): Its name, as the host names the results folder.
        values (dict): What the user wrote, file and overrides merged.
        cfg (CfgNode): The host's configuration with these values; not the global one.
        plan (Plan): The resolved plan.
        further (tuple of CfgNode): The configurations of further students that differ from the first (``kd.cohort``).
    """

    path: Path | None
    name: str
    values: dict[str, Any]
    cfg: CfgNode
    plan: Plan
    further: tuple[CfgNode, ...] = ()

    @property
    def folder(self) -> Path | None:
        """The folder of its file, in which the files that it names are looked for first."""
        return self.path.parent if self.path is not None else None


Source: TypeAlias = str | Path | Mapping[str, Any] | Config


def read_values(source: Source, overrides: Sequence[Any] = ()) -> dict[str, Any]:
    """File and overrides as plain values, merged once and not yet checked.

    Args:
        source (str or Path or mapping or Config): A YAML file, nested values, or what :func:`read_config` returned.
        overrides (sequence): ``key value`` pairs.

    Raises:
        UserError: If the file is missing or not YAML, or the overrides are not pairs.
    """
    if isinstance(source, Config):
        values: Mapping[str, Any] = source.values
    elif isinstance(source, Mapping):
        values = _make_plain(source)
    else:
        values = read_file(Path(source))
    return merge(values, overrides)


def _make_plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {str(key): _make_plain(value) if isinstance(value, Mapping) else value for key, value in values.items()}


# the host's part of a configuration as it was read, with its mistakes, by that part's text
HostParts: TypeAlias = dict[str, tuple[CfgNode, list[Problem]]]


def read_config(
    source: Source, overrides: Sequence[Any] = (), *, path: Path | None = None, known: HostParts | None = None
) -> Config:
    """The configuration in a file, with every mistake reported at once. The global ``cfg`` does not change.

    Args:
        source (str or Path or mapping or Config): A GraphGym YAML, or nested values.
        overrides (sequence): ``key value`` pairs as on the command line.
        path (Path, optional): For nested values the file that they stem from, in whose folder the files that they name are
            looked for first.
        known (dict, optional): Where the host's part is kept, so that many configurations that share it are read faster.

    Raises:
        UserError: If the file is missing or cannot be read.
        ConfigError: With all mistakes in it.
    """
    values = read_values(source, overrides)
    found, name = _locate(source)
    path = path or found
    own, problems = _read_host(values, known)
    wrong = {problem.key for problem in problems}
    kd = {key: content for key, content in values.items() if host_keys.is_kd(key)}
    plan, mistakes = examine({**_drop_refused(own, wrong), **kd})
    problems += mistakes
    if not problems:
        size = host_checks.find_size_problem(own, plan.students)
        problems += [size] if size is not None else []
    if not problems:
        for group, content in kd.items():
            own[group].update({key: raw for key, raw in (content or {}).items()})
    further: list[CfgNode] = []
    if not problems:
        further, problems = examine_cohort(own, plan, path.parent if path else None)
    if problems:
        raise ConfigError(problems, str(path) if path else None)
    return Config(path, name, values, own, plan, tuple(further))


def _read_host(values: Mapping[str, Any], known: HostParts | None) -> tuple[CfgNode, list[Problem]]:
    """The host's keys in a ``cfg`` of their own, and what is wrong with them."""
    if known is None:
        return _place_host(values)
    part = repr({key: value for key, value in values.items() if not host_keys.is_kd(key)})
    if part not in known:
        known[part] = _place_host(values)
    own, problems = known[part]
    return own.clone(), list(problems)


def _place_host(values: Mapping[str, Any]) -> tuple[CfgNode, list[Problem]]:
    own = host_keys.fresh()
    problems = host_keys.place(values, own)
    wrong = {problem.key for problem in problems}
    problems += [problem for problem in host_keys.finish(own) if problem.key not in wrong]
    return own, problems


def _locate(source: Source) -> tuple[Path | None, str]:
    """The file of a configuration, and its name."""
    if isinstance(source, Config):
        return source.path, source.name
    if isinstance(source, Mapping):
        return None, "config"
    path = Path(source)
    return path, path.stem if path.suffix in SUFFIXES else path.name


def _drop_refused(own: CfgNode, wrong: set[str]) -> dict[str, Any]:
    """The host's groups without the keys that were refused: no other check should depend on them."""
    return {
        group: {key: value for key, value in part.items() if f"{group}.{key}" not in wrong}
        for group, part in own.items()
        if isinstance(part, CfgNode) and not host_keys.is_kd(group)
    } | {key: value for key, value in own.items() if not isinstance(value, CfgNode) and key not in wrong}
