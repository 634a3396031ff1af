"""The layer maps: which learner layer listens to which source layer, how strongly.

A map is a weight matrix with the learner's L layers as rows and the source's K layers as columns. Layers count from 1,
negative ones from the last; the classifier does not count. With source ``self`` (``own``) only deeper layers teach,
and a network of one layer has nothing to learn from: its matrix is 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from gkd_plugin.errors import UserError, describe_error
from gkd_plugin.plan import GroupPlan
from gkd_plugin.schema import Key, Number, Pairs
from gkd_plugin.space import axes
from gkd_plugin.space.answers import LayerMap
from gkd_plugin.space.attention_map import ATTENTION_KEYS, AttentionMap
from gkd_plugin.space.sources import is_within

Values = Mapping[str, Any]


def _matrix(learner: int, source: int, pairs: Iterable[tuple[int, int]]) -> Tensor:
    """Weight 1 for each pair (layers from 1). Double, so that the learner's precision decides."""
    weights = torch.zeros(learner, source, dtype=torch.float64)
    for row, column in pairs:
        weights[row - 1, column - 1] = 1.0
    return weights


def _matched(layer: int, learner: int, source: int) -> int:
    """p(l) = ceil(l K / L), the layer of the source at the same relative depth."""
    return -(-layer * source // learner)


def _layer(index: int, depth: int, who: str) -> int:
    """The layer from 1 that ``index`` means."""
    if index == 0 or abs(index) > depth:
        raise ValueError(
            f"{who} layer {index} does not exist: the {who} has {depth} layer{'s' if depth != 1 else ''}. "
            f"Allowed: 1 to {depth}, or -{depth} to -1 counted from the last."
        )
    return index if index > 0 else depth + 1 + index


def _refuse_own(name: str, own: bool) -> None:
    if own:
        raise ValueError(
            f"{name} cannot be used within one network (source self). "
            "Allowed: last, shift from 1, uniform, attention, pairs."
        )


def last(learner: int, source: int, values: Values, own: bool) -> Tensor:
    """The last layer of one listens to the last of the other; ``own``: every earlier layer listens to the last."""
    return _matrix(learner, source, [(row, source) for row in range(1, learner)] if own else [(learner, source)])


def one_to_one(learner: int, source: int, values: Values, own: bool) -> Tensor:
    """Layer l listens to layer l."""
    _refuse_own("one_to_one", own)
    if learner != source:
        raise ValueError(
            f"one_to_one needs equal depths: the learner has {learner} layers, the source {source}. "
            "Use proportional, or shift with any depths."
        )
    return _matrix(learner, source, [(row, row) for row in range(1, learner + 1)])


def shift(learner: int, source: int, values: Values, own: bool) -> Tensor:
    """Layer l listens to ((p(l) - 1 + s) mod K) + 1; ``own``: to min(l + s, L)."""
    step = int(values.get("shift", 1))
    if own:
        if step < 1:
            raise ValueError(f"shift {step} leads to no deeper layer (source self). Allowed: whole numbers from 1.")
        return _matrix(learner, source, [(row, min(row + step, learner)) for row in range(1, learner)])
    rows = range(1, learner + 1)
    return _matrix(learner, source, [(row, (_matched(row, learner, source) - 1 + step) % source + 1) for row in rows])


def proportional(learner: int, source: int, values: Values, own: bool) -> Tensor:
    """Layer l listens to the layer at the same relative depth."""
    _refuse_own("proportional", own)
    return _matrix(learner, source, [(row, _matched(row, learner, source)) for row in range(1, learner + 1)])


def uniform(learner: int, source: int, values: Values, own: bool) -> Tensor:
    """Every layer listens to every layer (``own``: every deeper one) with the same weight; the weights sum to 1."""
    weights = torch.ones(learner, source, dtype=torch.float64)
    if own:
        weights = weights.triu(1)
    return weights / weights.sum().clamp(min=1)


def pairs(learner: int, source: int, values: Values, own: bool) -> Tensor:
    """The pairs that the key ``pairs`` lists."""
    if own and learner == 1:
        return _matrix(learner, source, [])
    listed = values.get("pairs")
    if not listed:
        raise ValueError("the map pairs needs the key pairs: learner~source, such as 3~2+4~2.")
    found = [(_layer(row, learner, "learner"), _layer(column, source, "source")) for row, column in listed]
    for row, column in found:
        if own and column <= row:
            raise ValueError(
                f"pair {row}~{column} leads to no deeper layer (source self). Allowed: {row}~k with k > {row}."
            )
    return _matrix(learner, source, found)


SHIFT = Key("shift", 1, Number(None, integer=True), "layer l listens to l + shift, cyclic")
PAIRS = Key("pairs", None, Pairs(), "learner~source pairs, such as 3~2+4~2")


def _check_shift(values: Values, own: bool) -> tuple[str, str] | None:
    if not own or values["shift"] >= 1:
        return None
    return f"{values['shift']} leads to no deeper layer (source: self)", "Allowed: a whole number of at least 1."


LAYER_MAPS: dict[str, LayerMap] = {
    "last": LayerMap("the last layer listens to the last (self: every earlier one does)", "FitNets", last),
    "one_to_one": LayerMap(
        "layer l listens to layer l; equal depths", "Alignahead (OC)", one_to_one, allows_self=False
    ),
    "shift": LayerMap(
        "layer l listens to layer l + s, cyclic, any integer s", "Alignahead", shift, keys=(SHIFT,), check=_check_shift
    ),
    "proportional": LayerMap("layer l listens to layer ceil(l K / L)", "gkd_plugin", proportional, allows_self=False),
    "uniform": LayerMap("every layer listens to every layer, equally", "gkd_plugin", uniform),
    "attention": LayerMap("weights over all pairs are learned", "ABKD", module=AttentionMap, keys=ATTENTION_KEYS),
    "pairs": LayerMap("the listed pairs", "gkd_plugin", pairs, keys=(PAIRS,)),
}


def weigh_layers(word: str, learner: int, source: int, values: Values, own: bool) -> Tensor:
    """The matrix of a fixed map, after a look at what it gives.

    Args:
        word (str): The map.
        learner, source (int): Both depths.
        values (mapping): The keys of the group.
        own (bool): Whether the learner itself is the source.

    Raises:
        ValueError: If the depths do not allow the map; the text says what is found, then what is allowed.
        UserError: If the map fails, or gives something else than weights.
    """
    function = axes.layer_maps[word].weights
    assert function is not None
    try:
        found = function(learner, source, values, own)
    except (ValueError, UserError):
        raise
    except Exception as error:  # a third party's may raise anything
        raise UserError(
            f"layer map '{word}' fails for {learner} x {source} layers: {describe_error(error)}."
        ) from error
    require_weights(word, found, learner, source)
    return found


def require_weights(word: str, found: object, learner: int, source: int) -> None:
    """Refuses what is no matrix of weights for both depths.

    Raises:
        UserError: If it has another shape, or weights that are negative or not finite.
    """
    if not isinstance(found, Tensor) or tuple(found.shape) != (learner, source):
        what = f"the shape {list(found.shape)}" if isinstance(found, Tensor) else repr(found)
        raise UserError(
            f"layer map '{word}' gives {what}. It must give weights [{learner}, {source}]: learner, source."
        )
    if not bool((torch.isfinite(found.detach()) & (found.detach() >= 0)).all()):
        raise UserError(f"layer map '{word}' gives weights that are negative or not finite.")


def layer_pairs(group: GroupPlan, learner: int, source: int) -> tuple[tuple[int, int], ...]:
    """The pairs of layers (from 1) that a group compares; projections are built for these only.

    Args:
        group (GroupPlan): A resolved group with the key ``layer_map``.
        learner (int): Depth of the learner.
        source (int): Depth of the source.

    Raises:
        UserError: If the map does not fit the depths.
    """
    own = is_within(str(group["source"])) if "source" in group.values else False
    answer = axes.layer_maps[group["layer_map"]]
    if answer.weights is None:
        weights = uniform(learner, source, group.values, own)
    else:
        try:
            weights = weigh_layers(group["layer_map"], learner, source, group.values, own)
        except UserError:
            raise
        except ValueError as error:
            raise UserError(f"kd_{group.name}.{answer.key}: {error}") from None
    return tuple((row + 1, column + 1) for row, column in torch.nonzero(weights).tolist())
