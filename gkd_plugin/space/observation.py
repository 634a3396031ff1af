"""The result of one forward pass of one model; everything downstream of the models takes this and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from torch import Tensor

T = TypeVar("T")
TAPS = ("conv", "layer", "stage")
KINDS = ("multiclass", "binary", "multilabel", "regression")
Keep = Callable[[tuple[Any, ...], Callable[[], Tensor]], Tensor]


@dataclass(frozen=True)
class Task:
    """What is predicted.

    Args:
        level (str): ``node``, ``edge`` (also link prediction) or ``graph``.
        kind (str): ``multiclass``, ``binary`` (two classes as one logit), ``multilabel`` or ``regression``.
    """

    level: str
    kind: str


@dataclass(frozen=True, eq=False)
class Graph:
    """The (batched) graph an observation lives on.

    Args:
        edge_index (Tensor): Directed edges u -> v, shape ``[2, E]``.
        num_nodes (int): N.
        train_mask (Tensor, optional): Training nodes, bool ``[N]``; ``None`` where the graph has no masks.
        batch (Tensor, optional): The graph each node belongs to, ``[N]``.
        node_id (Tensor, optional): Ids of the nodes in the whole graph where this is a sampled part, ``[N]``.
        pairs (Tensor, optional): The decoded node pairs of edge tasks, ``[2, P]``.
        edge_type (Tensor, optional): The relation of each edge, ``[E]``.
        predicted (Tensor, optional): Which nodes are predicted at all, bool ``[N]``; ``None`` for all. Where there are several
            types of nodes, only one has labels.
        memo (dict): What was derived from this graph and may be used again (edge sets with self-loops, say).
        lasts (bool): Whether it is that of a batch; ``False`` for a graph that a layer made of its features.
    """

    edge_index: Tensor
    num_nodes: int
    train_mask: Tensor | None = None
    batch: Tensor | None = None
    node_id: Tensor | None = None
    pairs: Tensor | None = None
    edge_type: Tensor | None = None
    predicted: Tensor | None = None
    memo: dict[Hashable, Any] = field(default_factory=dict, repr=False)
    lasts: bool = True

    def remember(self, key: Hashable, compute: Callable[[], T]) -> T:
        """The value under ``key``, computed on first use."""
        if key not in self.memo:
            self.memo[key] = compute()
        value: T = self.memo[key]
        return value

    def moved(self, edge_index: Tensor) -> Graph:
        """The same nodes under the edges of one layer, for as long as one observation lives."""
        return replace(self, edge_index=edge_index, edge_type=None, memo={}, lasts=False)


@dataclass(frozen=True, eq=False)
class Observation:
    """Logits and hidden states of one model on one graph.

    Args:
        logits (Tensor): Predictions of *every* item (node, graph or decoded edge), ``[N, C]`` or ``[N]``.
        hidden (mapping): For each observed tap (``conv``, ``layer``, ``stage``) the states of layers 1..L, ``[N, d_l]``.
        graph (Graph): The graph.
        labels (Tensor, optional): The label of every item, as the network returned it.
        memo (dict): Edge distributions and the like, computed once and shared by all terms and peers.
        keep (callable, optional): Keeps tensors that are derived from it for later runs, where it is itself kept.
        graphs (tuple of Graph): Of a network whose graph moves, the graph on which each of the layers 1..L passed
            messages; empty where all layers live on ``graph``.
    """

    logits: Tensor
    hidden: Mapping[str, tuple[Tensor, ...]]
    graph: Graph
    labels: Tensor | None = None
    memo: dict[Hashable, Any] = field(default_factory=dict, repr=False)
    keep: Keep | None = field(default=None, repr=False)
    graphs: tuple[Graph, ...] = ()

    def graph_of(self, index: int) -> Graph:
        """The graph on which layer ``index`` (from 1) passed its messages."""
        return self.graphs[index - 1] if self.graphs else self.graph

    def layer(self, tap: str, index: int) -> Tensor:
        """States of layer ``index`` (from 1) at ``tap``."""
        return self.hidden[tap][index - 1]

    def remember(self, key: Hashable, compute: Callable[[], T]) -> T:
        """The value under ``key``, computed on first use."""
        if key not in self.memo:
            self.memo[key] = compute()
        value: T = self.memo[key]
        return value

    def derive(self, parts: tuple[Any, ...], compute: Callable[[], Tensor]) -> Tensor:
        """A tensor that only this observation and ``parts`` decide, to the last bit.

        Args:
            parts (tuple): Plain values and tensors; their contents are its name on disk.
            compute (callable): Gives it where no earlier run kept it.
        """
        return compute() if self.keep is None else self.keep(parts, compute)

    def count_writes(self) -> dict[str, int]:
        """How often each of its tensors was written into, where torch counts that."""
        graph = self.graph
        found = {"logits": self.logits, "labels": self.labels, "edge_index": graph.edge_index, "batch": graph.batch}
        found |= {"train_mask": graph.train_mask, "edge_type": graph.edge_type}
        for tap, states in self.hidden.items():
            found |= {f"hidden states ({tap} {layer})": state for layer, state in enumerate(states, 1)}
        return {
            name: each._version for name, each in found.items() if isinstance(each, Tensor) and not each.is_inference()
        }

    def detached(self) -> Observation:
        """The same values without gradient and with a memo of their own."""
        hidden = {tap: tuple(h.detach() for h in states) for tap, states in self.hidden.items()}
        return Observation(self.logits.detach(), hidden, self.graph, self.labels, graphs=self.graphs)


@dataclass(frozen=True)
class Outline:
    """What a term must know of a model before it is built.

    Args:
        depth (int): Number of layers; the classifier is none of them.
        widths (mapping): For each observed tap the width of every layer.
        dim_out (int): Number of logits per item (1 for a single one).
    """

    depth: int
    widths: Mapping[str, tuple[int, ...]]
    dim_out: int

    @classmethod
    def of(cls, seen: Observation, depth: int) -> Outline:
        """The outline of an observed model."""
        widths = {tap: tuple(int(h.size(-1)) for h in states) for tap, states in seen.hidden.items()}
        return cls(depth, widths, int(seen.logits.size(-1)) if seen.logits.dim() > 1 else 1)
