"""Pairs of nodes to predict, drawn from a graph's own edges (``dataset.task: link_pred``)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import Data

from gkd_plugin.data.relations import is_type_table
from gkd_plugin.data.split_graphs import PARTS
from gkd_plugin.errors import UserError

TRAIN, VAL = 0.85, 0.05  # shares of the pairs


def split_links(name: str, data: Data, train: float = TRAIN, val: float = VAL, seed: int = 0) -> Data:
    """A copy of ``data`` with linked pairs of nodes, and as many that are not linked, for every split.

    Messages pass along the training pairs alone, in every split, so that no pair that is asked for lies among the edges of
    the graph. The two directions of a pair are one pair; self-loops are none, and stay. The global random stream is left
    alone.

    Args:
        name (str): The data set, for messages.
        data (Data): A graph.
        train, val (float): Shares of the linked pairs; the rest is the test set.
        seed (int): The same seed gives the same split.

    Raises:
        UserError: If a split would be empty, or the graph has too few pairs that are not linked.
    """
    count, generator = int(data.num_nodes), torch.Generator().manual_seed(seed)
    low, high = data.edge_index.min(dim=0).values, data.edge_index.max(dim=0).values
    linked, number = torch.unique(low * count + high, return_inverse=True)
    places = (linked // max(count, 1) != linked % max(count, 1)).nonzero().view(-1)
    places = places[torch.randperm(len(places), generator=generator)]
    sizes = [round(train * len(places)), round(val * len(places))]
    sizes.append(len(places) - sum(sizes))
    if min(sizes) < 1:
        raise UserError(
            f"splits.train: shares of {train:g} and splits.val {val:g} of the {len(places)} pairs that {name} links are "
            f"{sizes[0]} and {sizes[1]}, which leaves {sizes[2]} for the test. Every split needs a pair: choose shares that "
            "sum to less than 1."
        )
    free = count * (count - 1) // 2 - len(places)
    if free < len(places):
        raise UserError(
            f"dataset.task: {name} links {len(places)} pairs of nodes and leaves {free}; a task on links needs as many that "
            "are not linked."
        )
    others = _draw_unlinked(linked, count, len(places), generator)
    found = data.clone()
    begin = 0
    for part, size in zip(PARTS, sizes, strict=True):
        pairs = torch.cat((linked[places[begin : begin + size]], others[begin : begin + size]))
        found[f"{part}_edge_index"] = torch.stack((pairs // count, pairs % count))
        found[f"{part}_edge_label"] = (torch.arange(2 * size) < size).long()
        begin += size
    kept = torch.ones(len(linked), dtype=torch.bool)
    kept[places[sizes[0] :]] = False
    edges = kept[number].nonzero().view(-1)
    for key in data.keys():
        if data.is_edge_attr(key) and not is_type_table(data, key):
            found[key] = data[key].index_select(data.__cat_dim__(key, data[key]), edges)
    for key in ("y", *(f"{part}_mask" for part in PARTS)):  # of nodes, which are not asked for
        if key in found:
            del found[key]
    return found


def _draw_unlinked(linked: Tensor, count: int, wanted: int, generator: torch.Generator) -> Tensor:
    """Different pairs u < v that are not linked, all alike, as u N + v."""
    found = linked[:0]
    while len(found) < wanted:
        u, v = torch.randint(count, (2, 2 * wanted), generator=generator)
        drawn = torch.cat((found, (torch.minimum(u, v) * count + torch.maximum(u, v))[u != v]))
        drawn = drawn[~torch.isin(drawn, linked)]
        values, place = torch.unique(drawn, return_inverse=True)
        first = torch.full((len(values),), len(drawn)).scatter_reduce(0, place, torch.arange(len(drawn)), "amin")
        found = drawn[first.sort().values]  # in the order in which they were drawn
    return found[:wanted]
