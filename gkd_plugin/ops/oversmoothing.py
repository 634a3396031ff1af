"""How far node embeddings have collapsed: cosine distances to near and remote nodes, and the Dirichlet energy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.utils import coalesce, degree, remove_self_loops

CHUNK = 1 << 16  # edges whose differences are held at once


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


@torch.no_grad()
def mad(x: Tensor, edge_index: Tensor) -> MAD:
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

    Shapes:
        - **input:** ``[N, d]``, ``[2, E]``
        - **output:** three scalars
    """
    x = x if x.dtype in (torch.float32, torch.float64) else x.float()
    num_nodes = x.size(0)
    edge_index = coalesce(remove_self_loops(edge_index)[0], num_nodes=num_nodes)
    rows = F.normalize(x, dim=-1)
    count = degree(edge_index[1], num_nodes, dtype=x.dtype)
    near = x.new_zeros(num_nodes)
    for source, target in _parts(edge_index):
        near.index_add_(0, target, (rows[source] * rows[target]).sum(dim=-1))
    own = (rows * rows).sum(dim=-1)  # 1, or 0 for a row of zeros
    far = rows @ rows.sum(dim=0) - own - near
    neighbour = _mean_distance(near, count)
    remote = _mean_distance(far, num_nodes - 1 - count)
    return MAD(neighbour, remote, remote - neighbour)


def _parts(edge_index: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Sources and targets of the edges, as many at a time as memory should hold rows of."""
    for part in torch.split(edge_index, CHUNK, dim=1):
        yield part[0], part[1]


def _mean_distance(cosines: Tensor, count: Tensor) -> Tensor:
    """The mean over nodes of 1 - (sum of cosines) / count, where there is anything to count."""
    some = count > 0
    return (1 - cosines[some] / count[some]).mean()


@torch.no_grad()
def dirichlet_energy(x: Tensor, edge_index: Tensor) -> Tensor:
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

    Shapes:
        - **input:** ``[N, d]``, ``[2, E]``
        - **output:** a scalar
    """
    x = x if x.dtype in (torch.float32, torch.float64) else x.float()
    edge_index, _ = remove_self_loops(edge_index)
    scaled = x / (1 + degree(edge_index[1], x.size(0), dtype=x.dtype)).sqrt().unsqueeze(-1)
    energy = x.new_zeros(())
    for source, target in _parts(edge_index):
        energy += (scaled[source] - scaled[target]).square().sum()
    return energy / x.size(0)
