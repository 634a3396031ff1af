"""The resolved plan: plain values with every key decided; all that follows reads the plan, never ``cfg``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

# Keys that the resolver puts into a group for its term: copies from kd_attention and what layer marks decide.
DERIVED = ("subspace", "attention_dim")
MARKED = "marked"


class _Pickled:
    """Read-only mappings do not pickle; plans go to other processes, though (reports of studies)."""

    def __getstate__(self) -> dict[str, Any]:
        return {key: dict(value) if isinstance(value, MappingProxyType) else value for key, value in vars(self).items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for key, value in state.items():
            object.__setattr__(self, key, MappingProxyType(value) if isinstance(value, dict) else value)


@dataclass(frozen=True)
class GroupPlan(_Pickled):
    """One ``kd_<name>`` group with every key that applies decided.

    Args:
        name (str): The knowledge, e.g. ``structure``.
        values (mapping): Its keys; one that does not apply is absent.
        named (bool): Whether the user or the preset says anything of this group.
    """

    name: str
    values: Mapping[str, Any]
    named: bool = True

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key that may not apply."""
        return self.values.get(key, default)

    @property
    def weight(self) -> float:
        """The largest factor any of its parts has; 0 means that nothing is built or computed."""
        return max(float(self.values.get("weight") or 0.0), float(self.values.get("soft_weight") or 0.0))

    def with_values(self, **values: Any) -> GroupPlan:
        """A copy with other values."""
        return replace(self, values=MappingProxyType({**self.values, **values}))


@dataclass(frozen=True)
class Plan(_Pickled):
    """A point of the design space.

    Args:
        kd (mapping): The scheme: students, update order, teacher, ... (every key of the group ``kd``).
        groups (mapping): The knowledge groups by name (``structure``, not ``kd_structure``).
        attention (mapping): The keys of ``kd_attention``.
        warnings (tuple): What ``check`` says of a plan that is allowed but hardly meant.
        origins (mapping): Where each value comes from by its full key (``kd.students``): ``you``, ``preset X``,
            ``default`` or what decided it.
    """

    kd: Mapping[str, Any]
    groups: Mapping[str, GroupPlan]
    attention: Mapping[str, Any]
    warnings: tuple[str, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    def __getitem__(self, key: str) -> Any:
        return self.kd[key]

    @property
    def students(self) -> int:
        """Number of students trained together."""
        return int(self.kd["students"])

    @property
    def active(self) -> tuple[GroupPlan, ...]:
        """Groups that add to the loss."""
        return tuple(group for group in self.groups.values() if group.weight > 0)

    def control(self) -> Plan:
        """The same cohort without distillation: all KD weights 0, ``label_weight`` 1, the rest as it is."""
        groups = {}
        for name, group in self.groups.items():
            off = {key: 0.0 for key in ("weight", "soft_weight") if key in group.values}
            groups[name] = group.with_values(**off)
        return replace(self, kd=MappingProxyType({**self.kd, "label_weight": 1.0}), groups=MappingProxyType(groups))

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Plain nested values, as they are written into the run folder; read again they give the same plan."""

        def plain(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
            derived = DERIVED if name != "kd_attention" else ()
            kept = {key: value for key, value in values.items() if key not in derived and value != MARKED}
            return {key: _plain(value, self.origins.get(f"{name}.{key}") == "default") for key, value in kept.items()}

        out = {"kd": plain("kd", self.kd)}
        for group in self.groups.values():
            if group.named:
                out[f"kd_{group.name}"] = plain(f"kd_{group.name}", group.values)
        if any(group.named and group.get("layer_map") == "attention" for group in self.groups.values()):
            out["kd_attention"] = plain("kd_attention", self.attention)
        return out


def _plain(value: Any, default: bool) -> Any:
    if value is None or value == ():
        return None if default else "none"
    return [_plain(part, default) for part in value] if isinstance(value, tuple) else value
