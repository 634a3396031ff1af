"""``kd.shuffle_sources``: whatever teaches, each item is taught by what the source says of another one."""

from __future__ import annotations

import torch
from torch import Tensor

from gkd_plugin.models.rng import RandomStreams
from gkd_plugin.space.observation import Graph, Observation


def shuffle_rows(seen: Observation, seed: int) -> Observation:
    r"""An observation whose logits and hidden states of item :math:`i` are those of item :math:`\pi(i)`.

    The graph of the data and the labels stay where they are, so that terms on edges see the states of other nodes on the true
    edges. Where the graph moves it is something that the source says, and goes with the states: nodes :math:`i` and :math:`j`
    are neighbours in a layer where :math:`\pi(i)` and :math:`\pi(j)` were.
    For so many items and one seed :math:`\pi` is always the same: in every epoch, for every source and after a resume.

    Args:
        seen (Observation): What a source says. A shuffled copy is kept on it, with a memo of its own, for as long as it
            is used.
        seed (int): The run's seed.
    """

    def shuffle() -> Observation:
        hidden = {
            tap: tuple(_permute(rows, seen.graph, seed) for rows in states) for tap, states in seen.hidden.items()
        }
        graphs = tuple(_permute_edges(each, seen.graph, seed) for each in seen.graphs)
        return Observation(_permute(seen.logits, seen.graph, seed), hidden, seen.graph, seen.labels, graphs=graphs)

    return seen.remember(("shuffled", seed), shuffle)


def _permute(rows: Tensor, graph: Graph, seed: int) -> Tensor:
    count = rows.size(0)
    return rows[_order(graph, count, seed).to(rows.device)]


def _permute_edges(moved: Graph, graph: Graph, seed: int) -> Graph:
    place = torch.argsort(_order(graph, moved.num_nodes, seed).to(moved.edge_index.device))
    return moved.moved(place[moved.edge_index])


def _order(graph: Graph, count: int, seed: int) -> Tensor:
    return graph.remember(("shuffle", seed, count), lambda: draw_permutation(count, seed))


def draw_permutation(count: int, seed: int) -> Tensor:
    """A permutation of one cycle, drawn from a stream of its own: of two items or more, none keeps its place.

    Args:
        count (int): Number of items.
        seed (int): The run's seed.
    """
    with RandomStreams(seed).use(f"shuffle/{count}"):  # not the run's own streams: those go on after each use
        cycle = torch.randperm(count)
    order = torch.empty_like(cycle)
    order[cycle] = cycle.roll(1)
    return order
