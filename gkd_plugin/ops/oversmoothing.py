"""How far node embeddings have collapsed: cosine distances to near and remote nodes, and the Dirichlet energy."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.utils import coalesce, degree, remove_self_loops

from gkd_plugin.ops import compiled, pairwise
from gkd_plugin.ops.edges import EdgeSet
from gkd_plugin.ops.sparse import compress


class MAD(NamedTuple):
    """Mean average distances, each a scalar.

    Args:
        neighbour (Tensor): To a node's neighbours.
        remote (Tensor): To all nodes but the node and its neighbours.
        gap (Tensor): ``remote - neighbour``; it shrinks where embeddings collapse.
    """

    neighbour: Tensor
    remote: Tensor
    gap: Tensor


class Links(NamedTuple):
    """The data of a graph that both measures need; keep it where a graph is measured repeatedly.

    Args:
        edges (EdgeSet): Edges without self-loops.
        scale (Tensor): 1 / sqrt(1 + deg), ``[N]``.
        adjacency (Tensor): Compressed rows ``[N, N]`` with a 1 for every in-neighbour, repeated edges once.
        neighbours (Tensor): Number of in-neighbours, ``[N]``.
        all_near, all_far (bool): Whether every node has an in-neighbour, and a node that is none.
    """

    edges: EdgeSet
    scale: Tensor
    adjacency: Tensor
    neighbours: Tensor
    all_near: bool = False
    all_far: bool = False

    @classmethod
    def of(cls, edge_index: Tensor, num_nodes: int, dtype: torch.dtype) -> Links:
        """The links of a graph, for states of a type."""
        edges, _ = remove_self_loops(edge_index)
        scale = (1 + degree(edges[1], num_nodes, dtype=dtype)).rsqrt()
        simple = coalesce(edges, num_nodes=num_nodes)
        ones = torch.ones(simple.size(1), dtype=dtype, device=edges.device)
        adjacency = torch.sparse_coo_tensor(simple.flip(0), ones, (num_nodes, num_nodes), check_invariants=False)
        count = degree(simple[1], num_nodes, dtype=dtype)
        all_near, all_far = bool((count > 0).all()), bool((count < num_nodes - 1).all())
        return cls(EdgeSet(edges, num_nodes), scale, compress(adjacency.coalesce()), count, all_near, all_far)


def _floating(x: Tensor) -> Tensor:
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


@torch.no_grad()
def mad(x: Tensor, edge_index: Tensor, links: Links | None = None) -> MAD:
    r"""The mean average distances of the `"Measuring and Relieving the Over-smoothing Problem for Graph Neural Networks
    from the Topological View" <https://arxiv.org/abs/1909.03211>`_ paper, between direct neighbours and between all
    other pairs.

    .. math::
        \mathrm{MAD} = \frac{1}{|V'|} \sum_{v \in V'} \frac{1}{|P(v)|} \sum_{u \in P(v)} \left( 1 -
        \frac{h_u^\top h_v}{\|h_u\| \|h_v\|} \right), \qquad V' = \{v : P(v) \neq \emptyset\}

    with P(v) the in-neighbours of v (self-loops and repeated edges do not count), or all nodes that are neither v nor
    in that set. The cosine with a row of zeros is 0. The sum over remote nodes is what neighbours leave of the sum over
    all nodes, so that nothing of size N x N is built; the mean over an empty set is NaN.

    Args:
        x (Tensor): Node embeddings.
        edge_index (Tensor): Directed edges u -> v.
        links (Links, optional): The same, prepared.

    Shapes:
        - **input:** ``[N, d]``, ``[2, E]``
        - **output:** three scalars
    """
    x = _floating(x)
    num_nodes = x.size(0)
    links = links or Links.of(edge_index, num_nodes, x.dtype)
    count = links.neighbours
    rows = F.normalize(x, dim=-1)
    near = (rows * (links.adjacency @ rows)).sum(dim=-1)
    own = (rows * rows).sum(dim=-1)  # 1, or 0 for a row of zeros
    far = rows @ rows.sum(dim=0) - own - near
    neighbour = _mean_distance(near, count, links.all_near)
    remote = _mean_distance(far, num_nodes - 1 - count, links.all_far)
    return MAD(neighbour, remote, remote - neighbour)


def _mean_distance(cosines: Tensor, count: Tensor, everywhere: bool) -> Tensor:
    """The mean over nodes of 1 - (sum of cosines) / count, where there is anything to count."""
    if everywhere:  # picking all of them would cost more than all else here
        return (1 - cosines / count).mean()
    some = count > 0
    return (1 - cosines[some] / count[some]).mean()


@torch.no_grad()
def dirichlet_energy(x: Tensor, edge_index: Tensor, links: Links | None = None) -> Tensor:
    r"""The Dirichlet energy of the `"A Note on Over-Smoothing for Graph Neural Networks"
    <https://arxiv.org/abs/2006.13318>`_ paper, per node.

    .. math::
        \mathcal{E} = \frac{1}{N} \sum_{(u, v) \in E} \left\| \frac{h_u}{\sqrt{1 + \deg u}} -
        \frac{h_v}{\sqrt{1 + \deg v}} \right\|_2^2

    E has both directions of an undirected edge; deg counts the edges that enter a node without self-loops, for which
    the 1 stands. Repeated edges count each. Differences are taken before they are squared: near 0, which is where one
    looks, the expanded square would be all rounding error.

    Args:
        x (Tensor): Node embeddings.
        edge_index (Tensor): Directed edges u -> v.
        links (Links, optional): The same, prepared.

    Shapes:
        - **input:** ``[N, d]``, ``[2, E]``
        - **output:** a scalar
    """
    x = _floating(x)
    links = links or Links.of(edge_index, x.size(0), x.dtype)
    scaled = x * links.scale.unsqueeze(-1)
    far = compiled.measure(compiled.SQUARED, scaled, links.edges)
    if far is None:
        far = pairwise.pair_values(lambda u, v: (u - v).square().sum(dim=-1), scaled, links.edges)
    return far.sum() / x.size(0)
