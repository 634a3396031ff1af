"""Groups of keys: what a user wrote into one, parsed, and its mistakes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gkd_plugin.errors import ConfigError, Problem, UserError, describe_error, find_place, quote
from gkd_plugin.schema import BadValue, Key, show

YOU, DEFAULT = "you", "default"


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by full key: ``{"gnn": {"act": "relu"}}`` as ``{"gnn.act": "relu"}``; an empty group is left out.

    Args:
        values (mapping): Groups in groups, such as a configuration.
        prefix (str): Stands before every key.
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


class _Broken(Exception):
    """A rule reads a value that was refused; its verdict does not count."""


class _Sound(Mapping[str, Any]):
    """A group's values as rules see them."""

    def __init__(self, values: Mapping[str, Any], broken: set[str]) -> None:
        self._values, self._broken = values, broken

    def __getitem__(self, key: str) -> Any:
        if key in self._broken:
            raise _Broken
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


@dataclass
class GroupDraft:
    """One group.

    Args:
        group (str): Its name in YAML.
        keys (tuple of Key): What it may hold.
        values (dict): The value of every key.
        origins (dict): Where each comes from.
        broken (set): Keys whose value was refused; replaced by their default.
    """

    group: str
    keys: tuple[Key, ...]
    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        for key in self.keys:
            self.put(key.name, key.default, DEFAULT)

    @property
    def named(self) -> bool:
        """Whether the user or a preset mentions it."""
        return bool(self.broken) or any(origin != DEFAULT for origin in self.origins.values())

    def put(self, key: str, value: Any, origin: str) -> None:
        """Sets a value."""
        self.values[key], self.origins[key] = value, origin

    def wrote(self, key: str) -> bool:
        """Whether the user wrote the key."""
        return self.origins.get(key) == YOU or key in self.broken

    def parse(self, key: str, raw: Any, origin: str = YOU) -> list[Problem]:
        """Sets what a file or a preset wrote, or says what is wrong with it."""
        kind = next(known.kind for known in self.keys if known.name == key)
        try:
            self.put(key, kind.parse(raw), origin)
        except BadValue as refusal:
            self.broken.add(key)
            found = show(raw) if isinstance(raw, (bool, float)) else quote(raw)
            by = "" if origin == YOU else f" ({origin})"
            return [self.problem(key, f"{found} is not allowed{by}", str(refusal))]
        return []

    def problem(self, key: str, found: str, allowed: str) -> Problem:
        """A mistake at one of its keys."""
        return Problem(f"{self.group}.{key}", found, allowed)

    def ask(self, rule: Callable[[Mapping[str, Any]], Iterable[Problem]]) -> Iterator[Problem]:
        """The mistakes that a rule finds; none where it reads a value that was refused."""
        try:
            yield from rule(_Sound(self.values, self.broken))
        except _Broken:
            return

    def drop_inapplicable(self) -> Iterator[Problem]:
        """Drops the keys that do not apply; those that the user wrote are mistakes."""
        sound = _Sound(dict(self.values), self.broken)
        for key in self.keys:
            try:
                reason = key.unless(sound) if key.unless else None
            except _Broken:
                continue
            except Exception as error:  # a plugin's own function
                raise UserError(
                    f"{self.group}.{key.name}: the function that tells whether the key applies (`unless`) failed: "
                    f"{describe_error(error)} ({find_place(error)})."
                ) from error
            if reason is None:
                continue
            if self.wrote(key.name) and key.name not in self.broken:
                found = f"{show(self.values[key.name])} does not apply: {reason}"
                yield self.problem(key.name, found, "Remove the key, or change what it depends on.")
            del self.values[key.name], self.origins[key.name]


def read_written(own: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The keys of a group that the user wrote: those that are not ``None``."""
    return {str(key): raw for key, raw in (own.get(name) or {}).items() if raw is not None}


def find_problems(own: Mapping[str, Any], name: str, keys: Iterable[Key]) -> list[Problem]:
    """What is wrong with the keys that the user wrote into a group."""
    return _draft(own, name, keys)[1]


def read(own: Mapping[str, Any], name: str, keys: Iterable[Key]) -> dict[str, Any]:
    """Every key of a group decided: the user's value, else the key's default.

    Args:
        own (mapping): The host's configuration, or another with a node ``name``; without it all defaults hold.
        name (str): The group.
        keys (iterable of Key): Its keys.

    Raises:
        ConfigError: If a value is refused.
    """
    draft, found = _draft(own, name, keys)
    if found:
        raise ConfigError(found)
    return draft.values


def _draft(own: Mapping[str, Any], name: str, keys: Iterable[Key]) -> tuple[GroupDraft, list[Problem]]:
    """A group beside the kd scheme; its keys keep their values where they do not apply."""
    draft = GroupDraft(name, tuple(keys))
    known = {key.name for key in draft.keys}
    found = [p for key, raw in read_written(own, name).items() if key in known for p in draft.parse(key, raw)]
    values = dict(draft.values)
    found += draft.drop_inapplicable()
    draft.values = values
    return draft, found
