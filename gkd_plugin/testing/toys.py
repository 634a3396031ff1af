"""Graphs of at most ten nodes, written by hand, and observations of imaginary models on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gkd_plugin.space.observation import TAPS, Graph, Observation, Task

CLASSES = 3


@dataclass(frozen=True)
class Toy:
    """A small graph.

    Args:
        name (str): What is special about it.
        nodes (int): Number of nodes.
        edges (tuple): Directed edges.
        train (tuple of int): The training nodes.
    """

    name: str
    nodes: int
    edges: tuple[tuple[int, int], ...]
    train: tuple[int, ...]

    def graph(self, task: Task) -> Graph:
        """The graph as a task has it: with masks (node), with graphs in a batch (graph), with decoded pairs (edge)."""
        edge_index = torch.tensor(self.edges, dtype=torch.long).view(-1, 2).t().contiguous()
        nodes = torch.arange(self.nodes)
        if task.level == "graph":
            return Graph(edge_index, self.nodes, batch=nodes // 4)
        if task.level == "edge":
            return Graph(edge_index, self.nodes, pairs=torch.stack([nodes, (nodes + 1) % self.nodes]))
        mask = torch.zeros(self.nodes, dtype=torch.bool)
        mask[list(self.train)] = True
        return Graph(edge_index, self.nodes, train_mask=mask)


PLAIN = Toy(
    "plain",  # a triangle, a path and a node with incoming edges only
    8,
    ((0, 1), (1, 0), (1, 2), (2, 1), (2, 0), (0, 2), (2, 3), (3, 2), (3, 4), (4, 3), (4, 5), (5, 4), (5, 6), (6, 7)),
    (0, 2, 3, 5),
)
TOYS = (
    PLAIN,
    Toy("no_edges", 4, (), (0, 2)),
    Toy("isolated_node", 5, ((0, 1), (1, 0), (1, 3), (3, 1)), (1, 2)),
    Toy("self_loops", 4, ((0, 0), (0, 1), (1, 0), (2, 2), (3, 3), (3, 3)), (0, 3)),
    Toy("one_node", 1, (), (0,)),
)


def observe(
    graph: Graph, task: Task, widths: Sequence[int], seed: int = 0, dtype: torch.dtype = torch.float64
) -> Observation:
    """What a model with layers of these widths may leave behind: random states at every tap, logits and labels.

    Args:
        graph (Graph): The graph.
        task (Task): Decides the number and shape of logits and labels.
        widths (sequence of int): Width of every layer.
        seed (int, optional): Decides the values; the global random state is left alone.
        dtype (torch.dtype, optional): Of states and logits.
    """
    random = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64).to(dtype)

    hidden = {tap: tuple(draw(graph.num_nodes, width) for width in widths) for tap in TAPS}
    count = graph.num_nodes
    if task.level == "graph":
        assert graph.batch is not None
        count = int(graph.batch.max()) + 1
    classes = torch.arange(count) % CLASSES
    if task.kind == "multiclass":
        return Observation(draw(count, CLASSES), hidden, graph, classes)
    if task.kind == "binary":
        return Observation(draw(count), hidden, graph, classes % 2)
    if task.kind == "multilabel":
        return Observation(draw(count, CLASSES), hidden, graph, (draw(count, CLASSES) > 0).to(dtype))
    return Observation(draw(count, 1), hidden, graph, draw(count, 1))


def tensors(seen: Observation) -> list[Tensor]:
    """Logits and all hidden states."""
    return [seen.logits, *(states for layers in seen.hidden.values() for states in layers)]


def leaf(seen: Observation) -> Observation:
    """The same values in tensors of their own that take gradients."""
    hidden = {tap: tuple(h.detach().clone().requires_grad_() for h in layers) for tap, layers in seen.hidden.items()}
    return replace(seen, logits=seen.logits.detach().clone().requires_grad_(), hidden=hidden, memo={})


def permuted(seen: Observation, order: Tensor, graph: Graph) -> Observation:
    """The observation with its nodes in another order.

    Args:
        seen (Observation): One side.
        order (Tensor): The old number of each new node.
        graph (Graph): The graph in that order, from :func:`permuted_graph`.
    """
    hidden = {tap: tuple(states[order] for states in layers) for tap, layers in seen.hidden.items()}
    by_node = graph.batch is None and graph.pairs is None  # items of other tasks stay where they are
    logits = seen.logits[order] if by_node else seen.logits
    labels = seen.labels[order] if by_node and seen.labels is not None else seen.labels
    return Observation(logits, hidden, graph, labels)


def permuted_graph(graph: Graph, order: Tensor) -> Graph:
    """The graph with its nodes in another order, and its edges too."""
    place = torch.empty_like(order)
    place[order] = torch.arange(order.numel())
    edges = place[graph.edge_index]
    shuffled = edges[:, torch.arange(edges.size(1)).flip(0)]
    return Graph(
        shuffled,
        graph.num_nodes,
        train_mask=None if graph.train_mask is None else graph.train_mask[order],
        batch=None if graph.batch is None else graph.batch[order],
        pairs=None if graph.pairs is None else place[graph.pairs],
    )
