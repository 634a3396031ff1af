"""Groups on their way to the plan: the user's value, else the preset's, else the default; and what was wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gkd_plugin.config import kd_keys
from gkd_plugin.errors import Problem, nearest
from gkd_plugin.schema import BadValue, Key

YOU, DEFAULT = "you", "default"


class _Broken(Exception):
    """A rule reads a value that was refused already; what it would say is void."""


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
        broken (set): Keys whose value was refused; their default stands in.
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
        """Whether the user or the preset says anything of it."""
        return bool(self.broken) or any(origin != DEFAULT for origin in self.origins.values())

    def put(self, key: str, value: Any, origin: str) -> None:
        """Sets a value."""
        self.values[key], self.origins[key] = value, origin

    def wrote(self, key: str) -> bool:
        """Whether the user wrote the key."""
        return self.origins.get(key) == YOU or key in self.broken

    def problem(self, key: str, found: str, allowed: str) -> Problem:
        """A mistake at one of its keys."""
        return Problem(f"{self.group}.{key}", found, allowed)

    def ask(self, rule: Callable[[Mapping[str, Any]], Iterable[Problem]]) -> Iterator[Problem]:
        """What a rule finds wrong, as far as it reads sound values only."""
        try:
            yield from rule(_Sound(self.values, self.broken))
        except _Broken:
            return

    def applicable(self) -> Iterator[Problem]:
        """Drops the keys that do not apply; those that the user wrote are mistakes."""
        sound = _Sound(dict(self.values), self.broken)
        for key in self.keys:
            try:
                reason = key.unless(sound) if key.unless else None
            except _Broken:
                continue
            if reason is None:
                continue
            if self.wrote(key.name) and key.name not in self.broken:
                found = f"{show(self.values[key.name])} does not apply: {reason}"
                yield self.problem(key.name, found, "Remove the key, or change what it depends on.")
            del self.values[key.name], self.origins[key.name]


def part(cfg: Mapping[str, Any], group: str) -> Mapping[str, Any]:
    """A group of a configuration; empty where there is none."""
    found = cfg.get(group)
    return found if isinstance(found, Mapping) else {}


def show(value: Any) -> str:
    """A value as the user may have written it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        parts = ["~".join(map(str, part)) if isinstance(part, tuple) else str(part) for part in value]
        return "+".join(parts) or "none"
    return str(value)


def drafts(cfg: Mapping[str, Any]) -> tuple[dict[str, GroupDraft], list[Problem]]:
    """All groups with what the user wrote; ``None`` is undecided."""
    known = kd_keys.groups()
    found = {group: GroupDraft(group, keys) for group, keys in known.items()}
    problems: list[Problem] = []
    for group, content in cfg.items():
        if str(group) != kd_keys.SCHEME and not str(group).startswith(f"{kd_keys.SCHEME}_"):
            continue
        if content is not None and not isinstance(content, Mapping):
            problems.append(Problem(str(group), f"{content!r} is not a group", f"Write {group}: {{key: value, ...}}."))
            continue
        written = {str(key): raw for key, raw in (content or {}).items() if raw is not None}
        if group in found:
            problems += _read(found[group], written, YOU, known)
        elif written or not content:  # else undecided keys that a plugin left behind which is gone now
            problems.append(_unknown_group(str(group), known))
    return found, problems


def _unknown_group(group: str, known: Mapping[str, Any]) -> Problem:
    if group in kd_keys.PLANNED.get("groups", ()):
        return Problem(group, "this group is not built yet", f"Built: {', '.join(known)}.")
    return Problem(group, "unknown group", f"{nearest(group, known)}Allowed: {', '.join(known)}.")


def _read(
    draft: GroupDraft, written: Mapping[str, Any], origin: str, known: Mapping[str, tuple[Key, ...]]
) -> list[Problem]:
    """Parses what the user or a preset wrote into a group."""
    keys = {key.name: key for key in draft.keys}
    problems = []
    for name, raw in written.items():
        if name not in keys:
            problems.append(_unknown_key(draft, name, known, origin))
            continue
        if draft.wrote(name):
            continue
        try:
            draft.put(name, keys[name].kind.parse(raw), origin)
        except BadValue as refusal:
            draft.broken.add(name)
            found = repr(raw) if isinstance(raw, str) else show(raw)
            if str(raw) in kd_keys.PLANNED.get(f"{draft.group}.{name}", ()):
                allowed = f"Built: {keys[name].kind.describe()}."
                problems.append(draft.problem(name, f"{found} is not built yet", allowed))
            else:
                problems.append(draft.problem(name, f"{found} is not allowed{_of(origin)}", str(refusal)))
    return problems


def _of(origin: str) -> str:
    return "" if origin == YOU else f" ({origin})"


def _unknown_key(draft: GroupDraft, name: str, known: Mapping[str, tuple[Key, ...]], origin: str) -> Problem:
    names = [key.name for key in draft.keys]
    hint = nearest(name, names)
    if not hint:
        elsewhere = [group for group, keys in known.items() if name in (key.name for key in keys)]
        hint = f"There is {', '.join(f'{group}.{name}' for group in elsewhere)}. " if elsewhere else ""
    return draft.problem(name, f"unknown key{_of(origin)}", f"{hint}Allowed: {', '.join(names)}.")


def fill(found: Mapping[str, GroupDraft], content: Mapping[str, Mapping[str, Any]], origin: str) -> list[Problem]:
    """Puts a preset's values where the user wrote nothing."""
    known = {group: draft.keys for group, draft in found.items()}
    problems = []
    for group, values in content.items():
        if group not in found:
            problems.append(Problem(group, f"unknown group ({origin})", f"Allowed: {', '.join(found)}."))
        else:
            written = {key: raw for key, raw in values.items() if raw is not None}
            problems += _read(found[group], written, origin, known)
    return problems
