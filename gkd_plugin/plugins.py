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
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from typing import Any

import pluggy

from gkd_plugin import builtin, hookspecs
from gkd_plugin.errors import UserError, nearest
from gkd_plugin.plugin_checks import check_answer, check_defaults
from gkd_plugin.space import axes

manager = pluggy.PluginManager("gkd_plugin")
manager.add_hookspecs(hookspecs)


@dataclass(frozen=True)
class Loaded:
    """One plugin as ``gkd plugins`` lists it; what it registered stands on the axes under its name.

    Args:
        name (str): The name it is registered under.
        distribution (str): The installed distribution it comes from, or ``-``.
        version (str): That distribution's version, or ``-``.
        hooks (tuple of str): The hooks it implements.
        error (str, optional): Why it was disabled.
    """

    name: str
    distribution: str
    version: str
    hooks: tuple[str, ...]
    error: str | None = None

    @property
    def package(self) -> str:
        """Distribution and version."""
        return "-" if self.distribution == "-" else f"{self.distribution} {self.version}"


_loaded: dict[str, Loaded] = {}


def register_plugin(plugin: Any, name: str | None = None) -> str:
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
    try:
        return _register(plugin, label, "-", "-")
    except (Exception, SystemExit) as error:  # an exit would end the whole program for a plugin's sake
        raise UserError(f"plugin '{label}' was not loaded: {_describe_error(error)}") from error


def _register(plugin: Any, label: str, distribution: str, version: str) -> str:
    if manager.is_registered(plugin):
        return str(manager.get_name(plugin))
    if manager.has_plugin(label):
        other = _loaded[label]
        raise UserError(f"the name '{label}' is taken by a plugin of {other.package}; it needs another name.")
    try:
        manager.register(plugin, name=label)
        _require_known_hooks(plugin)
        hooks = sorted(caller.name for caller in manager.get_hookcallers(plugin) or [])
        for axis in axes.ALL:
            hook = f"gkd_register_{axis.name}"
            if hook in hooks:
                only = manager.subset_hook_caller(hook, [p for p in manager.get_plugins() if p is not plugin])
                only(register=partial(_add, axis, label))
        check_defaults(label)
        _loaded[label] = Loaded(label, distribution, version, tuple(hooks))
        _notify_listeners()
    except BaseException:
        unregister_plugin(label)
        raise
    return label


def find_plugin(module: str) -> str | None:
    """The third-party plugin to which a module belongs: its own, or for an installed plugin any of its package.

    Args:
        module (str): The module's full name.
    """
    for name, plugin in manager.list_name_plugin():
        home = str(getattr(plugin, "__name__", type(plugin).__module__))
        whole = name in _loaded and _loaded[name].distribution != "-"
        package = home.partition(".")[0] if whole else home
        if package != "gkd_plugin" and f"{module}.".startswith(f"{package}."):
            return str(name)
    return None


def _require_known_hooks(plugin: Any) -> None:
    known = [f"gkd_register_{axis.name}" for axis in axes.ALL]
    callers = manager.get_hookcallers(plugin) or []
    if not callers:
        raise UserError(f"it has no function marked with gkd_plugin.hookimpl. The hooks: {', '.join(known)}.")
    for caller in callers:
        if not caller.has_spec():
            raise UserError(
                f"unknown hook '{caller.name}'. {nearest(caller.name, known)}The hooks: {', '.join(known)}."
            )


def _add(axis: Any, origin: str, name: str, answer: Any) -> None:
    axis.add(name, answer, origin)
    check_answer(axis, name, answer)


def _describe_error(error: BaseException) -> str:
    text = " ".join(str(error).split())  # pluggy's have several lines
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"


def unregister_plugin(name: str) -> None:
    """Forgets a plugin and all its answers."""
    if manager.has_plugin(name):
        manager.unregister(name=name)
    for axis in axes.ALL:
        axis.discard(name)
    _loaded.pop(name, None)
    _notify_listeners()


def _notify_listeners() -> None:
    """Third-party knowledge has keys of its own: the host's cfg must know them."""
    for listener in listeners:
        listener()


listeners: list[Any] = []


def load() -> None:
    """Our own answers first, then every installed plugin; a broken one is a warning, never a crash."""
    if _loaded:
        return
    _register(builtin, "gkd_plugin", "gkd_plugin", _read_version())
    wanted = os.environ.get("GKD_LOAD_PLUGINS")
    names = None if wanted is None else {part.strip() for part in wanted.split(",") if part.strip()}
    installed = entry_points(group="gkd_plugin")
    for point in installed:
        if names is None or point.name in names:
            _load_entry_point(point)
        else:
            axes.absent[point.name] = "GKD_LOAD_PLUGINS does not name it"
    for missing in sorted((names or set()) - {point.name for point in installed}):
        there = ", ".join(sorted(point.name for point in installed)) or "none"
        warnings.warn(f"gkd_plugin: GKD_LOAD_PLUGINS names '{missing}'. Installed plugins: {there}.", stacklevel=2)


def _read_version() -> str:
    try:
        return version("gkd_plugin")
    except PackageNotFoundError:  # a checkout that is not installed
        return "-"


def _load_entry_point(point: EntryPoint) -> None:
    distribution, number = (point.dist.name, point.dist.version) if point.dist else ("-", "-")
    try:
        _register(point.load(), point.name, distribution, number)
    except (Exception, SystemExit) as error:  # an installed plugin must not take every run down with it
        label = point.name if point.name not in _loaded else f"{point.name} of {distribution}"
        _loaded[label] = broken = Loaded(label, distribution, number, (), _describe_error(error))
        axes.absent[label] = f"it is disabled: {broken.error}"
        warnings.warn(
            f"gkd_plugin: plugin '{point.name}' of {broken.package} is disabled: {broken.error} "
            "(GKD_LOAD_PLUGINS= loads none)",
            stacklevel=2,
        )


def loaded() -> tuple[Loaded, ...]:
    """All plugins, the broken ones with their error."""
    return tuple(_loaded.values())
