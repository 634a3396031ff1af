"""Finds plugins, asks each for its answers, and quarantines the broken ones.

A plugin is a module or object with implementations of ``gkd_plugin.hookspecs``; installed ones are found by the entry
point group ``gkd_plugin``. The environment variable ``GKD_LOAD_PLUGINS`` (names, comma separated; empty: none) limits
which installed ones are loaded.
"""

from __future__ import annotations

import os
import re
import warnings
from dataclasses import dataclass
from functools import partial
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from typing import Any

import pluggy

from gkd_plugin import builtin, hookspecs
from gkd_plugin.config import kd_keys
from gkd_plugin.errors import UserError, nearest
from gkd_plugin.schema import Key, Kind
from gkd_plugin.space import axes
from gkd_plugin.space.answers import Source
from gkd_plugin.space.sources import SourceModel

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
    except Exception as error:
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
    for key in getattr(answer, "keys", ()):  # they go into every cfg: one that is none would break them all
        if not isinstance(key, Key) or not key.name.isidentifier() or not isinstance(key.kind, Kind):
            raise UserError(
                f"{axis.name}: '{name}' declares the key {key!r}. Allowed: gkd_plugin.schema.Key(name, ...)."
            )
    groups = [*axes.knowledge, *(word for word in axes.layer_maps if axes.layer_maps[word].learned)]
    if groups.count(name) > 1:
        raise UserError(f"{axis.name}: the name '{name}' is in use already: the group kd_{name}. Choose another name.")
    if axis is axes.sources:
        _require_own_keys(name, answer)
        _require_own_name(name, answer)
    if axis is axes.layer_maps or axis is axes.knowledge:
        _require_map_keys()
    if axis is axes.knowledge:
        _require_parts(name, answer)


def _require_own_keys(name: str, source: Source) -> None:
    """The keys of all sources stand in the group ``kd``, beside those of the scheme."""
    others = {key.name: key for word in axes.sources if word != name for key in axes.sources[word].keys}
    taken = {key.name: key for key in kd_keys.SCHEME_KEYS} | others
    for key in source.keys:
        if taken.get(key.name, key) is not key:
            raise UserError(f"sources: '{name}' declares the key kd.{key.name}, which is taken. It needs another name.")


def _require_own_name(name: str, source: Source) -> None:
    """The name of a source that stands in for a student is an answer to ``kd.predict``, and a column of the results."""
    if source.model is not None and not (isinstance(source.model, type) and issubclass(source.model, SourceModel)):
        raise UserError(f"sources: the model of '{name}' is {source.model!r}. Allowed: a subclass of SourceModel.")
    stands_in = source.model is not None and source.model.stands_in
    if stands_in and (name in (*kd_keys.PREDICT, "mean") or re.fullmatch(r"s\d+", name)):
        raise UserError(f"sources: '{name}' is the name of an answer already (kd.predict). Choose another name.")


def _require_map_keys() -> None:
    """The keys of fixed layer maps stand in every group that compares layers, beside the keys that are there."""
    layered = [axes.knowledge[word] for word in axes.knowledge if axes.knowledge[word].layered]
    taken = {key.name: "all groups" for key in kd_keys.COMMON}
    taken |= {key.name: f"kd_{kind.name}" for kind in layered for key in kind.keys}
    owners: dict[str, str] = {}
    for word in axes.layer_maps:
        for key in () if axes.layer_maps[word].learned else axes.layer_maps[word].keys:
            holder = taken.get(key.name) or owners.get(key.name)
            if holder is not None:
                raise UserError(
                    f"layer_maps: '{word}' declares the key '{key.name}', which {holder} has already. It needs another name."
                )
            owners[key.name] = f"layer map '{word}'"


def _require_parts(name: str, knowledge: Any) -> None:
    """A knowledge under its own name, whose parts are weighed by keys that exist."""
    if knowledge.name != name:
        raise UserError(f"knowledge: '{name}' is registered, but the class is called '{knowledge.name}'. Use one name.")
    known = {key.name for key in kd_keys.keys_of(knowledge)}
    for part in knowledge.parts:
        for key in (part.weight, part.source):
            if key is not None and key not in known:
                raise UserError(f"knowledge: '{name}' has a part with the key '{key}', which it does not declare.")


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
