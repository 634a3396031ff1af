"""Which pairs of nodes are compared, distributions over the pairs of each node, and how their shares are summed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch_geometric.utils import add_self_loops, coalesce, remove_self_loops, scatter

from gkd_plugin.ops import compiled


@dataclass(frozen=True, eq=False)
class EdgeSet:
    """Directed pairs u -> v of nodes, each counted as often as it occurs.

    Two sets with the same pairs in the same order are equal, from any graph object: what was computed on
    one for a source serves every learner on an equal graph.

    Args:
        index (Tensor): The pairs, ``[2, P]``.
        num_nodes (int): N.
        is_draw (bool): Whether it belongs to one step only, as the edges of a graph that moves do.
        kinds (Tensor, optional): The relation of each pair, ``[P]``, where each relation has softmaxes of its own.
    """

    index: Tensor
    num_nodes: int
    is_draw: bool = False
    kinds: Tensor | None = None

    def __hash__(self) -> int:
        return hash((self.num_nodes, self.num_pairs))

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, EdgeSet) or self.num_nodes != other.num_nodes:
            return False
        if self.index.device != other.index.device or not torch.equal(self.index, other.index):
            return False
        if self.kinds is None or other.kinds is None:
            return self.kinds is other.kinds
        return torch.equal(self.kinds, other.kinds)

    @property
    def num_pairs(self) -> int:
        """P."""
        return self.index.size(1)

    @cached_property
    def unordered(self) -> tuple[EdgeSet, Tensor]:
        """Every pair once, in either direction, and the place of each edge's pair there, ``[P]``."""
        low, high = torch.minimum(self.index[0], self.index[1]), torch.maximum(self.index[0], self.index[1])
        code, inverse = torch.unique(low * self.num_nodes + high, return_inverse=True)
        ends = torch.stack((code // max(self.num_nodes, 1), code % max(self.num_nodes, 1)))
        return EdgeSet(ends, self.num_nodes), inverse

    @cached_property
    def ends(self) -> tuple[Tensor, Tensor, Tensor]:
        """Where each node's ends of pairs start, ``[N + 1]``; of every end the node at the other end, and the pair, ``[2 P]``."""
        nodes, order = torch.sort(self.index.flatten(), stable=True)
        counts = torch.bincount(nodes, minlength=self.num_nodes)
        starts = torch.cat((counts.new_zeros(1), counts.cumsum(0)))
        return starts, self.index.flip(0).flatten()[order], order % max(self.num_pairs, 1)

    @cached_property
    def is_inside(self) -> bool:
        """Whether all ends are nodes that are there."""
        return not self.num_pairs or (bool(self.index.min() >= 0) and bool(self.index.max() < self.num_nodes))

    @cached_property
    def not_loops(self) -> Tensor:
        """Which pairs are no self-loops, bool ``[P]``."""
        return self.index[0] != self.index[1]

    @cached_property
    def _numbered(self) -> tuple[Tensor, Tensor, int]:
        """For each relation that occurs a number from 0, ``[P]``; the pairs of each, ``[R]``; and R."""
        assert self.kinds is not None
        _, numbers, counts = torch.unique(self.kinds, return_inverse=True, return_counts=True)
        return numbers, counts, counts.numel()

    @cached_property
    def _relational(self) -> dict[int, tuple[Tensor, int]]:
        """The group of each pair by its end (0 or 1) and its relation, and the number of groups; empty ones take no room."""
        numbers, _, count = self._numbered
        found = {}
        for end in (0, 1):
            codes, group = torch.unique(self.index[end] * count + numbers, return_inverse=True)
            found[end] = (group, codes.numel())
        return found

    def log_softmax(self, values: Tensor, over: str) -> Tensor:
        """The logarithm of the softmax over each node's incoming (``in_edges``) or outgoing (``out_edges``) pairs, for each
        relation alone where pairs have ``kinds``.
        """
        end = 1 if over == "in_edges" else 0
        group, count = (self.index[end], self.num_nodes) if self.kinds is None else self._relational[end]
        found = compiled.log_softmax(values, group, count) if self.is_inside else None
        return log_softmax(values, group, count) if found is None else found

    def reduce(self, shares: Tensor, how: str) -> Tensor:
        """One number of all pairs' shares, as :func:`reduce` has it; where pairs have ``kinds``, the mean over the relations
        that occur.
        """
        if self.kinds is None or not self.num_pairs:
            return reduce(shares, how, self.num_nodes)
        numbers, counts, relations = self._numbered
        if how == "pair_mean":
            return (shares / counts.index_select(0, numbers)).sum() / relations
        return reduce(shares, how, self.num_nodes) / relations


@dataclass(frozen=True)
class AllPairs:
    """All ordered pairs of nodes or of a sample of them, kept as a matrix with a row for each node.

    Args:
        nodes (Tensor, optional): The sampled nodes, ``[n]``; ``None`` for all.
        num_nodes (int): N of the graph.
        loops (bool): Whether (v, v) counts.
    """

    nodes: Tensor | None
    num_nodes: int
    loops: bool

    @property
    def size(self) -> int:
        """Number of nodes whose pairs are compared."""
        return self.num_nodes if self.nodes is None else self.nodes.numel()

    @property
    def num_pairs(self) -> int:
        """Number of pairs."""
        return self.size * (self.size if self.loops else self.size - 1)

    @property
    def is_draw(self) -> bool:
        """Whether it was drawn for one step only."""
        return self.nodes is not None

    def reduce(self, shares: Tensor, how: str) -> Tensor:
        """One number of all pairs' shares (:func:`reduce`)."""
        return reduce(shares, how, self.num_nodes)

    def rows(self, states: Tensor) -> Tensor:
        """The states of the sampled nodes."""
        return states if self.nodes is None else states.index_select(0, self.nodes)

    def counted(self, matrix: Tensor) -> Tensor:
        """The matrix without its diagonal, ``[n, n - 1]``, unless (v, v) counts."""
        if self.loops:
            return matrix
        # the diagonal of a flattened matrix stands at every (n + 1)-th place
        return matrix.flatten()[1:].view(self.size - 1, self.size + 1)[:, :-1].reshape(self.size, self.size - 1)

    def edge_factors(self, edge_index: Tensor, other: float, like: Tensor) -> Tensor:
        """1 for each pair that is an edge u -> v or a loop and ``other`` elsewhere, shaped as the counted pairs."""
        size = self.size
        if self.nodes is None:
            place = edge_index
        else:
            position = self.nodes.new_full((self.num_nodes,), -1)
            position[self.nodes] = torch.arange(size, device=self.nodes.device)
            place = position[edge_index]
            place = place[:, (place >= 0).all(dim=0)]
        factors = torch.full((size, size), other, dtype=like.dtype, device=like.device)
        factors[place[0], place[1]] = 1.0
        return self.counted(factors.fill_diagonal_(1.0))


def edges(edge_index: Tensor, num_nodes: int, loops: bool, is_draw: bool = False) -> EdgeSet:
    """The edges of a graph with exactly one self-loop per node, or none; other repeated edges stay."""
    index, _ = remove_self_loops(edge_index)
    if loops:
        index, _ = add_self_loops(index, num_nodes=num_nodes)
    return EdgeSet(index, num_nodes, is_draw)


def relational_edges(edge_index: Tensor, edge_type: Tensor, num_nodes: int, loops: bool) -> EdgeSet:
    """The same with the relation of each edge; a node's self-loop is there once in every relation that it takes part in."""
    index, kinds = remove_self_loops(edge_index, edge_type)
    if loops and kinds.numel():
        count = int(kinds.max()) + 1
        codes = torch.unique((index * count + kinds).flatten())
        own = codes // count
        index = torch.cat((index, own.expand(2, -1)), dim=1)
        kinds = torch.cat((kinds, codes % count))
    return EdgeSet(index, num_nodes, kinds=kinds)


def within(pairs: EdgeSet, mask: Tensor) -> EdgeSet:
    """The pairs with both ends in a set of nodes, bool ``[N]``."""
    kept = mask[pairs.index[0]] & mask[pairs.index[1]]
    kinds = None if pairs.kinds is None else pairs.kinds[kept]
    return EdgeSet(pairs.index[:, kept], pairs.num_nodes, pairs.is_draw, kinds)


def union(first: EdgeSet, second: EdgeSet) -> EdgeSet:
    """The pairs of both sets, each once."""
    both = torch.cat((first.index, second.index), dim=1)
    is_draw = first.is_draw or second.is_draw
    return EdgeSet(coalesce(both, num_nodes=first.num_nodes), first.num_nodes, is_draw)


def all_pairs(num_nodes: int, loops: bool, samples: int | None, device: torch.device | None = None) -> AllPairs:
    """All pairs of ``samples`` nodes drawn without replacement from torch's random stream, or of all nodes."""
    if samples is None or samples >= num_nodes:
        return AllPairs(None, num_nodes, loops)
    # drawn where every device draws the same
    return AllPairs(torch.randperm(num_nodes)[:samples].to(device), num_nodes, loops)


def log_softmax(values: Tensor, group: Tensor, num_groups: int) -> Tensor:
    """The logarithm of the softmax over the values of each group.

    Args:
        values (Tensor): ``[P]``.
        group (Tensor): The group of each value, ``[P]``.
        num_groups (int): Number of groups; empty ones are allowed.
    """
    largest: Tensor = scatter(values.detach(), group, dim_size=num_groups, reduce="max")
    shifted: Tensor = values - largest.index_select(0, group)
    total: Tensor = scatter(shifted.exp(), group, dim_size=num_groups, reduce="sum")
    # a group with values has a sum of at least exp(0); the bound keeps the logarithm of an empty one finite
    return shifted - total.clamp_min(1.0).log().index_select(0, group)


def reduce(shares: Tensor, how: str, num_nodes: int) -> Tensor:
    """One number of all pairs' shares.

    Args:
        shares (Tensor): What each compared pair adds, any shape.
        how (str): ``node_mean`` (over all nodes, those without pairs counting 0), ``pair_mean`` or ``sum``.
        num_nodes (int): N of the graph.
    """
    count = {"node_mean": num_nodes, "pair_mean": shares.numel(), "sum": 1}[how]
    return shares.sum() / max(count, 1)
