"""Parts of one large graph to train on: nodes that are drawn anew in every epoch, with all edges between them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data
from yacs.config import CfgNode

from gkd_plugin.data.relations import is_type_table
from gkd_plugin.data.samplers import find_sampler_problem
from gkd_plugin.errors import UserError

PARTS = "train_parts"  # of the host's group ``train``, which reads it and does not have it


class Neighbours:
    """The neighbours that each node sends to, to cut parts out of a graph in the time that the part takes.

    Args:
        edge_index (Tensor): Directed edges, ``[2, E]``.
        num_nodes (int): N.
    """

    def __init__(self, edge_index: Tensor, num_nodes: int) -> None:
        senders, order = torch.sort(edge_index[0], stable=True)
        degrees = torch.bincount(senders, minlength=num_nodes)
        self.starts = torch.cat((degrees.new_zeros(1), degrees.cumsum(0)))
        self.receivers, self.order = edge_index[1][order], order
        self.place = torch.full((num_nodes,), -1)

    @property
    def degrees(self) -> Tensor:
        """The number of edges from each node."""
        return self.starts.diff()

    def cut(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """The edges among some nodes, numbered as they stand there, and the numbers of these edges in the graph."""
        self.place[nodes] = torch.arange(len(nodes))
        counts = self.starts[nodes + 1] - self.starts[nodes]
        first = (self.starts[nodes] - (counts.cumsum(0) - counts)).repeat_interleave(counts)
        edges = first + torch.arange(len(first))
        ends = self.place[self.receivers[edges]]
        inside = ends >= 0
        self.place[nodes] = -1
        sending = torch.arange(len(nodes)).repeat_interleave(counts)
        return torch.stack((sending[inside], ends[inside])), self.order[edges[inside]]

    def step(self, nodes: Tensor) -> Tensor:
        """A random neighbour of each node; nodes without one stay."""
        counts = self.starts[nodes + 1] - self.starts[nodes]
        chosen = (torch.rand(len(nodes), dtype=torch.double) * counts).long()
        moving = counts > 0
        found = nodes.clone()
        found[moving] = self.receivers[(self.starts[nodes] + chosen)[moving]]
        return found


class Subgraphs:
    """A loader of parts of one graph; the random numbers come from torch's stream.

    Every batch has ``n_id``, the number of each of its nodes in the graph.

    Args:
        data (Data): The graph.
        neighbours (Neighbours, optional): Of its edges, where another loader has them.
    """

    def __init__(self, data: Data, neighbours: Neighbours | None = None) -> None:
        self.data = data
        self.neighbours = neighbours or Neighbours(data.edge_index, int(data.num_nodes))

    def __iter__(self) -> Iterator[Data]:
        for nodes in self.draw():
            yield self.take(nodes)

    def __len__(self) -> int:
        raise NotImplementedError

    def draw(self) -> Iterator[Tensor]:
        """The nodes of each part of an epoch."""
        raise NotImplementedError

    def take(self, nodes: Tensor) -> Data:
        """The part of the graph that has these nodes, with all edges between them."""
        edge_index, edges = self.neighbours.cut(nodes)
        part = Data()
        for key, value in self.data.items():
            if is_type_table(self.data, key):
                pass  # whole: type_row says which rows a part reads
            elif key == "edge_index":
                value = edge_index
            elif self.data.is_node_attr(key):
                value = value[nodes]
            elif self.data.is_edge_attr(key):
                value = value[edges]
            part[key] = value
        part.n_id, part.num_nodes = nodes, len(nodes)
        return part


class RandomNodes(Subgraphs):
    """All nodes in every epoch, in random parts of one size (``train.sampler: random_node``).

    Args:
        data (Data): The graph.
        parts (int): How many.
    """

    def __init__(self, data: Data, parts: int, neighbours: Neighbours | None = None) -> None:
        super().__init__(data, neighbours)
        self.parts = min(parts, int(data.num_nodes))

    def __len__(self) -> int:
        return self.parts

    def draw(self) -> Iterator[Tensor]:
        for nodes in torch.randperm(int(self.data.num_nodes)).tensor_split(self.parts):
            yield nodes.sort().values


class Saint(Subgraphs):
    """Samples of the `"GraphSAINT: Graph Sampling Based Inductive Learning Method" <https://arxiv.org/abs/1907.04931>`_
    paper, each drawn alone (``train.sampler: saint_node``, ``saint_edge``, ``saint_rw``); losses are not reweighted, as in
    the host.

    ``nodes`` draws nodes in proportion to the edges from them; ``edges`` draws edges :math:`(u, v)` in proportion to
    :math:`1 / d_u + 1 / d_v`; ``walks`` draws roots, all alike, and walks from each at random. A node that is drawn twice
    counts once.

    Args:
        data (Data): The graph.
        how (str): ``nodes``, ``edges`` or ``walks``.
        size (int): How many nodes, edges or roots are drawn for a part.
        steps (int): Parts of an epoch.
        length (int): Steps of a walk.
    """

    def __init__(
        self, data: Data, how: str, size: int, steps: int, length: int, neighbours: Neighbours | None = None
    ) -> None:
        super().__init__(data, neighbours)
        self.how, self.size, self.steps, self.length = how, size, steps, length
        weights: Tensor | None = None
        if how == "nodes":
            weights = self.neighbours.degrees.double()
        elif how == "edges":
            sending, receiving = (torch.bincount(end, minlength=int(data.num_nodes)) for end in data.edge_index)
            weights = 1 / sending.double()[data.edge_index[0]] + 1 / receiving.double()[data.edge_index[1]]
        self.reach = None if weights is None else weights.cumsum(0)

    def __len__(self) -> int:
        return self.steps

    def draw(self) -> Iterator[Tensor]:
        for _ in range(self.steps):
            yield self._draw_one().unique()

    def _draw_one(self) -> Tensor:
        if self.reach is None:
            nodes = torch.randint(int(self.data.num_nodes), (self.size,))
            seen = [nodes]
            for _ in range(self.length):
                seen.append(self.neighbours.step(seen[-1]))
            return torch.cat(seen)
        if not len(self.reach) or self.reach[-1] == 0:  # no edge leads anywhere
            return torch.randint(int(self.data.num_nodes), (self.size,))
        drawn = torch.searchsorted(self.reach, torch.rand(self.size, dtype=torch.double) * self.reach[-1], right=True)
        drawn = drawn.clamp(max=len(self.reach) - 1)
        return drawn if self.how == "nodes" else self.data.edge_index[:, drawn].flatten()


class Seeds:
    """PyG's ``NeighborLoader`` around the nodes of a split; only they are nodes of that split in their batch.

    Args:
        loader (NeighborLoader): It, whose batches begin with the nodes they are made for.
        mask (str): The mask of that split.
    """

    def __init__(self, loader: Any, mask: str = "train_mask") -> None:
        self.loader, self.data, self.mask = loader, loader.data, mask

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Data]:
        for batch in self.loader:
            batch[self.mask] = batch[self.mask].clone()
            batch[self.mask][batch.batch_size :] = False  # they lack neighbours of their own
            yield batch


def make_sampler(
    data: Data, word: str, own: CfgNode, neighbours: Neighbours | None = None, mask: str = "train_mask"
) -> Any:
    """The loader of parts that a word of ``train.sampler`` or ``val.sampler`` means.

    Args:
        data (Data): The graph.
        word (str): Any but ``full_batch``.
        own (CfgNode): A configuration of the host; its group ``train`` says how large parts are.
        neighbours (Neighbours, optional): Of the graph's edges, where they are known.
        mask (str): The mask of the split that is read.
    """
    train = own.train
    if word == "random_node":
        return RandomNodes(data, int(train[PARTS]), neighbours)
    if word.startswith("saint_"):
        how = {"saint_node": "nodes", "saint_edge": "edges", "saint_rw": "walks"}[word]
        steps, length = int(train.iter_per_epoch), int(train.walk_length)
        return Saint(data, how, int(train.batch_size), steps, length, neighbours)
    data = data.clone()
    if word == "cluster":
        from torch_geometric.loader import ClusterData, ClusterLoader

        data.n_id = torch.arange(int(data.num_nodes))
        clusters = ClusterData(data, num_parts=int(train[PARTS]), log=False)
        loader = ClusterLoader(clusters, batch_size=int(train.batch_size), shuffle=True)
        loader.data = data  # where teachers look for the whole graph
        return loader
    from torch_geometric.loader import NeighborLoader

    # networks of ours end in a convolution, the host's in a read-out of each node alone
    hops = int(own.gnn.layers_mp) + (own.model.type != "gnn")
    sizes, batch = list(train.neighbor_sizes)[:hops], int(train.batch_size)
    nodes = data[mask].nonzero().view(-1)
    return Seeds(NeighborLoader(data, sizes, input_nodes=nodes, batch_size=batch, shuffle=True), mask)


@contextmanager
def serving_whole(own: CfgNode) -> Iterator[None]:
    """The host gives whole graphs meanwhile: some of its samplers cannot be made, and none says which nodes it took."""
    groups = (own.train, own.val)
    words = [group.sampler for group in groups]
    try:
        for group in groups:
            dict.__setitem__(group, "sampler", "full_batch")  # past yacs's freezing
        yield
    finally:
        for group, word in zip(groups, words, strict=True):
            dict.__setitem__(group, "sampler", word)


def sample_parts(loaders: list[Any], own: CfgNode) -> list[Any]:
    """The loaders with parts of their one graph where ``train.sampler`` or ``val.sampler`` names a sampler.

    Args:
        loaders (list): What the host gave within :func:`serving_whole`.
        own (CfgNode): A configuration of the host.

    Raises:
        UserError: If a package is missing.
    """
    words = {0: own.train.sampler, 1: own.val.sampler}  # the test is never sampled: it has to be of all its nodes
    words = {place: word for place, word in words.items() if word != "full_batch" and place < len(loaders)}
    if len(loaders[0].dataset) > 1 or not words:  # the host samples nothing of several graphs
        return loaders
    for place, word in words.items():
        problem = find_sampler_problem(word, own)
        if problem is not None:
            raise UserError(f"{'val' if place else 'train'}.sampler: '{word}' {problem[0]}. {problem[1]}")
    data, neighbours = loaders[0].dataset[0], None
    found = list(loaders)
    for place, word in words.items():
        found[place] = make_sampler(data, word, own, neighbours, "val_mask" if place else "train_mask")
        neighbours = getattr(found[place], "neighbours", neighbours)
    return found
