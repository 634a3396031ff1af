"""``layer_type: aux_<layer>``: the plain layer, marked to carry an auxiliary head."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn
from torch_geometric.graphgym import register

from gkd_plugin.errors import OF_YOUR_OWN, UserError, nearest

PREFIX = "aux_"
_MARK = "kd_marked"


class MarkedLayer:
    """Builds the plain layer and marks the instance; a made-up subclass could not be pickled."""

    def __init__(self, layers: MarkedLayers, base: str) -> None:
        self.layers, self.base = layers, base

    def __call__(self, layer_config: Any, **kwargs: Any) -> nn.Module:
        layer: nn.Module = self.layers[self.base](layer_config, **kwargs)
        setattr(layer, _MARK, True)
        return layer

    def __repr__(self) -> str:
        return f"MarkedLayer({self.base!r})"


class MarkedLayers(dict[str, Any]):
    """The host's layer dictionary, in which every ``aux_<layer>`` can be looked up, also for layers that come later.

    Args:
        original (dict): The host's own dictionary; code that holds it goes on seeing every registration, and what is
            registered there is found here.
    """

    def __init__(self, original: dict[str, Any]) -> None:
        super().__init__(original)
        self.original = original

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self.original[key] = value

    def __missing__(self, key: str) -> Any:
        if key in self.original:
            return self.original[key]
        if key.startswith(PREFIX):
            base = key[len(PREFIX) :]
            if base.startswith(PREFIX):
                raise UserError(
                    f"gnn.layer_type: {key}: a layer is marked once. Write {PREFIX}{base.removeprefix(PREFIX)}."
                )
            if has_layer(base):
                return MarkedLayer(self, base)
        raise KeyError(key)


def install() -> None:
    """Lets the host's layer dictionary answer for ``aux_*``; once."""
    if not isinstance(register.layer_dict, MarkedLayers):
        register.layer_dict = MarkedLayers(register.layer_dict)


def has_layer(name: str) -> bool:
    """Whether the host can build a layer of this name (``in`` does not see marked ones)."""
    try:
        register.layer_dict[name]
    except (KeyError, UserError):
        return False
    return True


def check_layer(name: str) -> str | None:
    """What is wrong with a layer's name, or ``None``."""
    if has_layer(name):
        return None
    if name.startswith(PREFIX + PREFIX):
        return f"A layer is marked once: write {PREFIX}{name.replace(PREFIX, '')}."
    known = list(register.layer_dict)
    return (
        f"{nearest(name, [*known, *(PREFIX + k for k in known)])}"
        f"Allowed: {', '.join(sorted(known))}, each also as {PREFIX}<layer>. {OF_YOUR_OWN}"
    )


def find_marked(layers: list[nn.Module]) -> Iterator[int]:
    """The numbers (from 1) of layers that carry a mark."""
    for number, layer in enumerate(layers, 1):
        if getattr(getattr(layer, "layer", layer), _MARK, False) or getattr(layer, _MARK, False):
            yield number
