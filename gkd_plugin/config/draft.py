"""The kd groups on their way to the plan: the user's value, else the preset's, else the default; and the mistakes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gkd_plugin.config import kd_keys
from gkd_plugin.errors import Problem, nearest, quote
from gkd_plugin.groups import YOU, GroupDraft
from gkd_plugin.schema import Key
from gkd_plugin.space import axes


def get_group(cfg: Mapping[str, Any], group: str) -> Mapping[str, Any]:
    """A group of a configuration; empty where there is none."""
    found = cfg.get(group)
    return found if isinstance(found, Mapping) else {}


def read_drafts(cfg: Mapping[str, Any]) -> tuple[dict[str, GroupDraft], list[Problem]]:
    """All groups with what the user wrote; ``None`` is undecided."""
    known = kd_keys.groups()
    found = {group: GroupDraft(group, keys) for group, keys in known.items()}
    problems: list[Problem] = []
    for group, content in cfg.items():
        if str(group) != kd_keys.SCHEME and not str(group).startswith(f"{kd_keys.SCHEME}_"):
            continue
        if content is not None and not isinstance(content, Mapping):
            problems.append(
                Problem(str(group), f"{quote(content)} is not a group", f"Write {group}: {{key: value, ...}}.")
            )
            continue
        written = {str(key): raw for key, raw in (content or {}).items() if raw is not None}
        if group in found:
            problems += _read(found[group], written, YOU, known)
        elif written or not content:  # else undecided keys of a plugin that is no longer loaded
            problems.append(_report_unknown_group(str(group), known))
    return found, problems


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


def _read(
    draft: GroupDraft, written: Mapping[str, Any], origin: str, known: Mapping[str, tuple[Key, ...]]
) -> list[Problem]:
    """Parses what the user or a preset wrote into a group; the user's values stay."""
    names, problems = {key.name for key in draft.keys}, []
    for name, raw in written.items():
        if name not in names:
            problems.append(_report_unknown_key(draft, name, known, origin))
        elif not draft.wrote(name):
            problems += draft.parse(name, raw, origin)
    return problems


def _report_unknown_group(group: str, known: Mapping[str, Any]) -> Problem:
    found = "unknown group"
    if axes.absent:  # it may be theirs
        found += f" (not loaded: {'; '.join(f'plugin {name!r}, {why}' for name, why in axes.absent.items())})"
    return Problem(group, found, f"{nearest(group, known)}Allowed: {', '.join(known)}.")


def _report_unknown_key(draft: GroupDraft, name: str, known: Mapping[str, tuple[Key, ...]], origin: str) -> Problem:
    names = [key.name for key in draft.keys]
    hint = nearest(name, names)
    if not hint:
        elsewhere = [group for group, keys in known.items() if name in (key.name for key in keys)]
        hint = f"There is {', '.join(f'{group}.{name}' for group in elsewhere)}. " if elsewhere else ""
    by = "" if origin == YOU else f" ({origin})"
    return draft.problem(name, f"unknown key{by}", f"{hint}Allowed: {', '.join(names)}.")
