"""Groups of keys that stand beside the kd scheme (``gkd_model``, ``splits``, ``metrics``), read off the host's cfg."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gkd_plugin.errors import ConfigError, Problem
from gkd_plugin.schema import BadValue, Key


def written(own: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The keys of a group that the user wrote: those that are not ``None``."""
    return {key: raw for key, raw in (own.get(name) or {}).items() if raw is not None}


def problems(own: Mapping[str, Any], name: str, keys: Iterable[Key]) -> list[Problem]:
    """What is wrong with the keys that the user wrote into a group."""
    found, values = [], _defaults(keys)
    raws = written(own, name)
    for key in keys:
        try:
            values[key.name] = key.kind.parse(raws[key.name]) if key.name in raws else key.default
        except BadValue as error:
            found.append(Problem(f"{name}.{key.name}", f"{raws[key.name]!r} is not allowed", str(error)))
    for key in keys:
        reason = key.unless(values) if key.unless and key.name in raws else None
        if reason:
            found.append(Problem(f"{name}.{key.name}", f"does not apply: {reason}", "Remove the key, or change that."))
    return found


def read(own: Mapping[str, Any], name: str, keys: Iterable[Key]) -> dict[str, Any]:
    """Every key of a group decided: the user's value, else the key's default.

    Args:
        own (mapping): The host's configuration, or another with a node ``name``; without it all defaults hold.
        name (str): The group.
        keys (iterable of Key): Its keys.

    Raises:
        ConfigError: If a value is refused.
    """
    keys = tuple(keys)
    found = problems(own, name, keys)
    if found:
        raise ConfigError(found)
    raws = written(own, name)
    return {**_defaults(keys), **{key.name: key.kind.parse(raws[key.name]) for key in keys if key.name in raws}}


def _defaults(keys: Iterable[Key]) -> dict[str, Any]:
    return {key.name: key.default for key in keys}
