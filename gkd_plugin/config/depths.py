"""Layer maps against the depths that are known before any model is built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch_geometric.graphgym import register

from gkd_plugin.config.draft import get_group
from gkd_plugin.errors import Problem
from gkd_plugin.models.aux_layers import PREFIX
from gkd_plugin.models.networks import NETWORKS
from gkd_plugin.space import axes
from gkd_plugin.space.layer_maps import weigh_layers
from gkd_plugin.space.sources import everybody, is_within, members_of, model_of


def infer_depth(cfg: Mapping[str, Any]) -> int | None:
    """Number of layers of the network that ``cfg`` describes, or ``None`` where it is known only once the network is built."""
    model, gnn, kd = (get_group(cfg, group) for group in ("model", "gnn", "kd"))
    layers = gnn.get("layers_mp")
    if model.get("type") not in ("gnn", *NETWORKS) or isinstance(layers, bool) or not isinstance(layers, int):
        return None
    return layers if (kd.get("layers") or "none") == "none" else None


def has_marked_layers(cfg: Mapping[str, Any]) -> bool:
    """Whether the network is built of ``aux_*`` layers that are ours and not a layer the user registered so."""
    model, gnn = get_group(cfg, "model"), get_group(cfg, "gnn")
    word = str(gnn.get("layer_type"))
    return word.startswith(PREFIX) and word not in register.layer_dict and model.get("type") not in NETWORKS


def find_layer_problems(group: str, values: Mapping[str, Any], depths: Sequence[int | None]) -> Iterator[Problem]:
    """Pairs of layers that do not exist, and maps that the depths do not allow.

    Args:
        group (str): The group in YAML.
        values (mapping): Its keys, with ``layer_map`` and ``source``.
        depths (sequence): The depth of every student.
    """
    word = values["layer_map"]
    answer = axes.layer_maps[word]
    key = f"{group}.{answer.key}"
    own = is_within(values["source"], len(depths))
    reported = set()
    for learner, source in dict.fromkeys(_pair_depths(values, depths)):
        if learner < 1 or source < 1:
            text = "0 layers, but this term compares layers. Write gnn.layers_mp of at least 1."
        elif answer.weights is None:
            continue
        else:
            try:
                weigh_layers(word, learner, source, values, own)
                continue
            except ValueError as error:  # a UserError is one, too
                text = str(error)
        if text not in reported:
            reported.add(text)
            found, _, allowed = text.partition(". ")
            yield Problem(key, found.removesuffix("."), allowed or "See gkd list layer_maps.")


def _pair_depths(values: Mapping[str, Any], depths: Sequence[int | None]) -> Iterator[tuple[int, int]]:
    """The depths of every learner and source that are known."""
    count = len(depths)
    if len(set(depths)) == 1:  # all learners are alike: who teaches anybody tells the same as who teaches each
        taught = [(depths[0], tuple(everybody(values["source"], count)))]
    else:
        taught = [(depth, members_of(values["source"], number, count)) for number, depth in enumerate(depths, 1)]
    for learner, members in taught:
        if learner is None:
            continue
        for member in members:
            model = model_of(member)
            like = model is not None and (model.within or model.like_learner)
            depth = depths[member - 1] if isinstance(member, int) else learner if like else None
            if depth is not None:
                yield learner, depth
            elif model is not None and values.get(
                "pairs"
            ):  # the learner's ends hold for any source that has the others
                yield learner, max(abs(column) for _, column in values["pairs"])
