"""Finds plugins, asks each for its answers, and quarantines the broken ones.

A plugin is a module or object with implementations of ``gkd_plugin.hookspecs``; installed ones are found by the entry
point group ``gkd_plugin``. The environment variable ``GKD_LOAD_PLUGINS`` (names, comma separated; empty: none) limits
which installed ones are loaded.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

from gkd_plugin import hookspecs
from gkd_plugin.errors import UserError
from gkd_plugin.space import axes, builtin

manager = pluggy.PluginManager("gkd_plugin")
manager.add_hookspecs(hookspecs)


@dataclass(frozen=True)
class Loaded:
    """One plugin as ``gkd plugins`` lists it."""

    name: str
    distribution: str
    version: str
    hooks: tuple[str, ...]
    error: str | None = None


_loaded: dict[str, Loaded] = {}


def register_plugin(plugin: Any, name: str | None = None, distribution: str = "-", version: str = "-") -> str:
    """Registers a plugin object or module: its answers are on the axes when this returns.

    Args:
        plugin (Any): A module or object with ``@gkd_plugin.hookimpl`` functions.
        name (str, optional): The name it is listed under. (default: its ``__name__``)

    Returns:
        str: The name.

    Raises:
        UserError: If it misspells a hook or an argument, raises, or takes a name that is in use; nothing of it stays.
    """
    label = name or getattr(plugin, "__name__", None) or type(plugin).__name__
    if manager.is_registered(plugin):
        return str(manager.get_name(plugin))
    try:
        manager.register(plugin, name=label)
        manager.check_pending()
        callers = manager.get_hookcallers(plugin) or []
        for axis in axes.ALL:
            hook = f"gkd_register_{axis.name}"
            caller = next((c for c in callers if c.name == hook), None)
            if caller is not None:
                only = manager.subset_hook_caller(hook, [p for p in manager.get_plugins() if p is not plugin])
                only(register=partial(_add, axis, label))
    except Exception as error:
        unregister_plugin(label)
        raise UserError(
            f"plugin '{label}' (distribution {distribution} {version}) was not loaded: {type(error).__name__}: {error}"
        ) from error
    _loaded[label] = Loaded(label, distribution, version, tuple(sorted(c.name for c in callers)))
    _changed()
    return label


def _add(axis: Any, origin: str, name: str, answer: Any) -> None:
    axis.add(name, answer, origin)


def unregister_plugin(name: str) -> None:
    """Forgets a plugin and all its answers."""
    if manager.has_plugin(name):
        manager.unregister(name=name)
    for axis in axes.ALL:
        axis.discard(name)
    _loaded.pop(name, None)
    _changed()


def _changed() -> None:
    """Third-party knowledge has keys of its own: the host's cfg must know them."""
    for listener in listeners:
        listener()


listeners: list[Any] = []


def load() -> None:
    """Our own answers first, then every installed plugin; a broken one is a warning, never a crash."""
    if _loaded:
        return
    register_plugin(builtin, "gkd_plugin", "gkd_plugin")
    wanted = os.environ.get("GKD_LOAD_PLUGINS")
    names = None if wanted is None else {part.strip() for part in wanted.split(",") if part.strip()}
    for point in entry_points(group="gkd_plugin"):
        if names is None or point.name in names:
            _load_entry_point(point)


def _load_entry_point(point: EntryPoint) -> None:
    distribution = point.dist.name if point.dist else "-"
    version = point.dist.version if point.dist else "-"
    try:
        register_plugin(point.load(), point.name, distribution, version)
    except Exception as error:  # an installed plugin must not take every run down with it
        _loaded[point.name] = Loaded(point.name, distribution, version, (), str(error))
        warnings.warn(
            f"gkd_plugin: plugin '{point.name}' of {distribution} {version} is disabled: {error} "
            f"(GKD_LOAD_PLUGINS= loads none)",
            stacklevel=2,
        )


def loaded() -> tuple[Loaded, ...]:
    """All plugins, the broken ones with their error."""
    return tuple(_loaded.values())
