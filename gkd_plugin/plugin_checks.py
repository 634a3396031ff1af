"""What an answer that a plugin registers must be, so that no mistake in it waits for a check or a run."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gkd_plugin.config import kd_keys
from gkd_plugin.errors import UserError
from gkd_plugin.schema import BadValue, Key, Kind, show
from gkd_plugin.space import axes
from gkd_plugin.space.answers import Divergence, Kernel, LayerMap, Preset, Schedule, Source
from gkd_plugin.space.sources import SourceModel


def check_answer(axis: Any, name: str, answer: Any) -> None:
    """Refuses an answer that could not be used, or that takes what belongs to others.

    Args:
        axis (Axis): The axis that it has just been added to.
        name (str): Its name.
        answer (Any): It.

    Raises:
        UserError: With the answer, and what is allowed.
    """
    _require_keys(axis, name, getattr(answer, "keys", ()))
    groups = [*axes.knowledge, *(word for word in axes.layer_maps if axes.layer_maps[word].learned)]
    if groups.count(name) > 1:
        raise UserError(f"{axis.name}: the name '{name}' is in use already: the group kd_{name}. Choose another name.")
    for what, function, count in _list_functions(answer):
        _require_callable(f"{axis.name}: {what} of '{name}'", function, count)
    if axis is axes.sources:
        _require_own_keys(name, answer)
        _require_model(name, answer)
    if axis is axes.layer_maps:
        if (answer.weights is None) == (answer.module is None):
            raise UserError(
                f"layer_maps: '{name}' needs weights (a fixed map) or module (a learned one), and not both."
            )
    if axis is axes.layer_maps or axis is axes.knowledge:
        _require_map_keys()
    if axis is axes.knowledge:
        _require_term(name, answer)
    if axis is axes.presets:
        _require_groups(name, answer)


def check_defaults(origin: str) -> None:
    """Refuses keys of a plugin whose own default they would not accept, once all its answers are there.

    Args:
        origin (str): The plugin.

    Raises:
        UserError: With the key, its default, and what is allowed.
    """
    for axis in axes.ALL:
        for name in (each for each in axis if axis.origin(each) == origin):
            for key in getattr(axis[name], "keys", ()):
                if key.default is not None and not _accepts(key):
                    raise UserError(
                        f"{axis.name}: '{name}' declares the key '{key.name}' with the default {key.default!r}, which it does "
                        f"not accept itself. Allowed: {key.kind.describe()}."
                    )


def _accepts(key: Key) -> bool:
    """Whether a key's kind gives its default for its default, as it is or as a file has it."""
    for raw in (key.default, show(key.default)):
        try:
            found = key.kind.parse(raw)
            if found == key.default or (found is None and key.default == "none"):
                return True
        except BadValue:
            continue
    return False


def _require_keys(axis: Any, name: str, keys: Any) -> None:
    """They go into every cfg: one that is none would break them all."""
    allowed = "Allowed: gkd_plugin.schema.Key(name, ...)."
    if not isinstance(keys, (tuple, list)):
        raise UserError(f"{axis.name}: the keys of '{name}' are {keys!r}. A tuple is needed: keys=(Key(...),).")
    for key in keys:
        if not isinstance(key, Key) or not key.name.isidentifier() or not isinstance(key.kind, Kind):
            raise UserError(f"{axis.name}: '{name}' declares the key {key!r}. {allowed}")
    names = [key.name for key in keys]
    for word in names:
        if names.count(word) > 1:
            raise UserError(f"{axis.name}: '{name}' declares the key '{word}' twice.")


# ------------------------------------------------------------------------------------------------------------ functions


def _list_functions(answer: Any) -> Iterator[tuple[str, Any, int]]:
    """The functions of a record, each with the number of arguments that it will be called with."""
    if isinstance(answer, Kernel):
        yield "function", answer.function, 3
    elif isinstance(answer, Divergence):
        yield "function", answer.function, 2
    elif isinstance(answer, Source):
        yield "members", answer.members, 2
    elif isinstance(answer, LayerMap):
        yield from _list_given(("weights", answer.weights, 4), ("module", answer.module, 5), ("check", answer.check, 2))
    elif isinstance(answer, Schedule):
        try:
            numbers = re.compile(answer.pattern).groups
        except (re.error, TypeError) as error:
            raise UserError(
                f"schedules: the pattern {answer.pattern!r} is no regular expression ({error}). Write one for the whole word, "
                r"such as r'warmup_(\d+)'."
            ) from None
        yield from _list_given(("factor", answer.factor, 1 + numbers), ("valid", answer.valid, numbers))


def _list_given(*functions: tuple[str, Any, int]) -> Iterator[tuple[str, Any, int]]:
    yield from (each for each in functions if each[1] is not None)


def _require_callable(what: str, function: Any, count: int) -> None:
    if not callable(function):
        raise UserError(f"{what} is {function!r}. Allowed: a function of {count} arguments.")
    _require_arguments(what, function, count)


def _require_arguments(what: str, function: Callable[..., Any], count: int) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # torch's own functions have none
        return
    try:
        signature.bind(*range(count))
    except TypeError as error:
        raise UserError(f"{what} is called with {count} arguments, which it does not take ({error}).") from None


# ---------------------------------------------------------------------------------------------------------- single axes


def _require_own_keys(name: str, source: Source) -> None:
    """The keys of all sources stand in the group ``kd``, beside those of the scheme."""
    others = {key.name: key for word in axes.sources if word != name for key in axes.sources[word].keys}
    taken = {key.name: key for key in kd_keys.SCHEME_KEYS} | others
    for key in source.keys:
        if taken.get(key.name, key) is not key:
            raise UserError(f"sources: '{name}' declares the key kd.{key.name}, which is taken. It needs another name.")


def _require_model(name: str, source: Source) -> None:
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


def _require_term(name: str, knowledge: Any) -> None:
    """A knowledge under its own name, whose parts are weighed by keys that exist."""
    called = getattr(knowledge, "name", None)
    if called != name:
        raise UserError(f"knowledge: '{name}' is registered, but the class is called {called!r}. Set name = '{name}'.")
    known = {key.name for key in kd_keys.keys_of(knowledge)}
    for part in knowledge.parts:
        for key in (part.weight, part.source):
            if key is not None and key not in known:
                raise UserError(f"knowledge: '{name}' has a part with the key '{key}', which it does not declare.")


def _require_groups(name: str, preset: Preset) -> None:
    for what in ("groups", "multilabel"):
        groups = getattr(preset, what)
        if not isinstance(groups, Mapping) or not all(isinstance(keys, Mapping) for keys in groups.values()):
            raise UserError(
                f"presets: {what} of '{name}' is {groups!r}. Allowed: keys by group, such as {{'kd_response': {{'weight': 1}}}}."
            )
