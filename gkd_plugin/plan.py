"""The resolved plan: plain values with every key decided; all that follows reads the plan, never ``cfg``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

MARKED = "marked"
"""Stands for the layers that ``layer_type: aux_<layer>`` marks; a run puts their numbers in its place."""


@dataclass(frozen=True)
class Part:
    """What a knowledge adds to the loss under a weight of its own.

    Args:
        weight (str): The key that weighs it.
        source (str, optional): The key that names its source; ``None`` where it needs no source.
    """

    weight: str = "weight"
    source: str | None = "source"

    def label(self, group: str) -> str:
        """The name under which its value is reported."""
        return f"kd_{group}" if self.weight == "weight" else f"kd_{group}_{self.weight.removesuffix('_weight')}"


@dataclass(frozen=True)
class GroupPlan:
    """One ``kd_<name>`` group with every key that applies decided.

    Args:
        name (str): The knowledge, e.g. ``structure``.
        values (mapping): Its keys; one that does not apply is absent.
        named (bool): Whether the user or the preset mentions this group.
        parts (tuple of Part): What it adds to the loss.
        map_values (mapping): The keys of its layer map, where that is a learned one with a group of its own.
    """

    name: str
    values: Mapping[str, Any]
    named: bool = True
    parts: tuple[Part, ...] = (Part(),)
    map_values: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key that may not apply."""
        return self.values.get(key, default)

    def weigh(self, part: Part) -> float:
        """The weight of one part."""
        return float(self.values.get(part.weight) or 0.0)

    @property
    def weight(self) -> float:
        """The largest weight of its parts; 0 means that nothing is built or computed."""
        return max(map(self.weigh, self.parts))

    @property
    def active_parts(self) -> tuple[Part, ...]:
        """The parts with a weight above 0."""
        return tuple(part for part in self.parts if self.weigh(part) > 0)

    def with_values(self, **values: Any) -> GroupPlan:
        """A copy with other values."""
        return replace(self, values={**self.values, **values})


@dataclass(frozen=True)
class Plan:
    """A point of the design space.

    Args:
        kd (mapping): The scheme: students, update order, teacher, ... (every key of the group ``kd``).
        groups (mapping): The knowledge groups by name (``structure``, not ``kd_structure``).
        maps (mapping): The keys of each learned layer map by its name (``attention``, not ``kd_attention``).
        warnings (tuple): What is legal, but probably a mistake.
        origins (mapping): Where each value comes from by its full key (``kd.students``): ``you``, ``preset X``,
            ``default`` or what decided it.
    """

    kd: Mapping[str, Any]
    groups: Mapping[str, GroupPlan]
    maps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    def __getitem__(self, key: str) -> Any:
        return self.kd[key]

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a scheme's key that may not apply."""
        return self.kd.get(key, default)

    @property
    def students(self) -> int:
        """Number of students trained together."""
        return int(self.kd["students"])

    @property
    def active(self) -> tuple[GroupPlan, ...]:
        """Groups that add to the loss."""
        return tuple(group for group in self.groups.values() if group.weight > 0)

    @property
    def used_maps(self) -> dict[str, Mapping[str, Any]]:
        """The learned layer maps that a group mentions."""
        words = {group.get("layer_map") for group in self.groups.values() if group.named}
        return {name: values for name, values in self.maps.items() if name in words}

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Plain nested values, as they are written into the run folder; read again they give the same plan."""

        def plain(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
            kept = {key: value for key, value in values.items() if value != MARKED}
            return {key: _plain(value, self.origins.get(f"{name}.{key}") == "default") for key, value in kept.items()}

        named = {f"kd_{group.name}": group.values for group in self.groups.values() if group.named}
        maps = {f"kd_{name}": values for name, values in self.used_maps.items()}
        return {name: plain(name, values) for name, values in {"kd": self.kd, **named, **maps}.items()}


def _plain(value: Any, default: bool) -> Any:
    if value is None or value == ():
        return None if default else "none"
    return [_plain(part, default) for part in value] if isinstance(value, tuple) else value
