"""``model.type: rgcn``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import RGCNConv
from yacs.config import CfgNode

from gkd_plugin import groups
from gkd_plugin.errors import ConfigError, Problem, UserError
from gkd_plugin.host import cfg
from gkd_plugin.models.networks.network import GROUP, SHARED_KEYS, Network
from gkd_plugin.ops.kept import derive_once
from gkd_plugin.ops.sparse import SparseMatrix
from gkd_plugin.schema import Key, Number

BASES = Key(
    "bases",
    0,
    Number(0, integer=True),
    "rgcn: number of matrices of which each relation's is a sum; 0: a matrix of its own for each",
)
BLOCKS = Key(
    "blocks",
    0,
    Number(0, integer=True),
    "rgcn: number of blocks on the diagonal of each relation's matrix in hidden layers; 0: a full matrix",
)


@dataclass(frozen=True, eq=False)
class Links:
    """The edges of a graph as R-GCN layers read them: every node that a relation leads away from, once for each relation.

    Args:
        senders (Tensor): These nodes, relation by relation, ``[S]``.
        counts (list of int): How many of them each relation has.
        mean (SparseMatrix): ``[N, S]``: the mean over each node's neighbours, in each relation alone.
    """

    senders: Tensor
    counts: list[int]
    mean: SparseMatrix

    @classmethod
    def of(cls, edge_index: Tensor, edge_type: Tensor, num_nodes: int, relations: int, like: Tensor) -> Links:
        """The links of a graph.

        Args:
            edge_index, edge_type (Tensor): The edges, ``[2, E]``, and the relation of each, ``[E]``.
            num_nodes, relations (int): N and R.
            like (Tensor): Gives the type of numbers.
        """
        codes, place = torch.unique(edge_type * num_nodes + edge_index[0], return_inverse=True)
        _, group, near = torch.unique(edge_type * num_nodes + edge_index[1], return_inverse=True, return_counts=True)
        share = near.to(like.dtype).reciprocal()[group]
        entries = torch.stack((edge_index[1], place))
        counts = torch.bincount(codes // max(num_nodes, 1), minlength=relations).tolist()
        mean = SparseMatrix.of_entries(entries, share, (num_nodes, codes.numel()))
        return cls(codes % max(num_nodes, 1), counts, mean)


class RelationalConv(RGCNConv):  # type: ignore[misc]
    """PyG's ``RGCNConv``, its parameters and its numbers, with the map before the mean.

    PyG's forward pass keeps the neighbours' mean of all nodes for every relation; this one keeps a row for each node and
    relation that has an edge, which are few where there are many relations.
    """

    def _weigh(self) -> Tensor:
        weight: Tensor = self.weight
        if self.num_bases is not None:
            weight = (self.comp @ weight.view(self.num_bases, -1)).view(self.num_relations, *weight.shape[1:])
        return weight

    def propagate_all(self, x: Tensor, edge_index: Tensor, edge_type: Tensor) -> Tensor:
        """The same in operators that ``torch.export`` can trace: every node goes through the map of every relation.

        Args:
            x (Tensor): ``[N, d]``.
            edge_index, edge_type (Tensor): The edges, ``[2, E]``, and the relation of each, ``[E]``.
        """
        (source, target), nodes = edge_index, x.size(0)
        mapped = torch.stack([_send(x, matrix) for matrix in self._weigh().unbind(0)])
        place = edge_type * nodes + target
        near = x.new_zeros(self.num_relations * nodes).index_add(0, place, x.new_ones(place.size(0)))
        sent = mapped[edge_type, source] * near.reciprocal()[place].unsqueeze(1)
        out: Tensor = (x @ self.root).index_add(0, target, sent)
        return out if self.bias is None else out + self.bias

    def forward(self, x: Tensor, links: Links) -> Tensor:
        weight = self._weigh()
        parts = x.index_select(0, links.senders).split(links.counts)
        # all matrices at once: the gradient of each single one would be as large as that of all
        own = weight.unbind(0)
        sent = [_send(part, matrix) for part, matrix in zip(parts, own, strict=True) if part.size(0)]
        out: Tensor = x @ self.root
        if sent:
            out = out + links.mean.product(torch.cat(sent))
        return out if self.bias is None else out + self.bias


def _send(rows: Tensor, weight: Tensor) -> Tensor:
    """Rows through the map of one relation, which is a matrix or the blocks on its diagonal."""
    if weight.dim() == 2:
        return rows @ weight
    return torch.einsum("nbi,bio->nbo", rows.view(-1, *weight.shape[:2]), weight).flatten(1)


class OnRelations(nn.Module):
    """Lets a :class:`RelationalConv` work on the host's batches."""

    def __init__(self, model: RelationalConv) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Any) -> Any:
        x, relations = batch.x, self.model.num_relations
        edges, kinds = batch.edge_index, batch.get("edge_type")
        if not isinstance(kinds, Tensor) or kinds.shape != edges.shape[1:]:
            raise UserError(
                "model.type: rgcn reads the relation of every edge (edge_type, [edges], whole numbers from 0), which this graph "
                "does not have."
            )

        if torch.compiler.is_compiling():
            batch.x = self.model.propagate_all(x, edges, kinds)
            return batch

        def make() -> Links:
            if kinds.numel() and not 0 <= int(kinds.min()) <= int(kinds.max()) < relations:
                raise UserError(
                    f"model.type: rgcn was built for {relations} relations, but this graph has edges of type "
                    f"{int(kinds.min())} to {int(kinds.max())}."
                )
            return Links.of(edges, kinds, x.size(0), relations, x)

        links = derive_once((edges, kinds), ("links", x.size(0), relations, x.dtype), make)
        batch.x = self.model(x, links)
        return batch


class RGCN(Network):
    r"""The network of the `"Modeling Relational Data with Graph Convolutional Networks"
    <https://arxiv.org/abs/1703.06103>`_ paper, the teacher and the student of ABKD on OGBN-Mag: a weight for each relation
    (``edge_type``), ending in a convolution.

    .. math::
        h_v^l = \sigma \Big( W_0^l h_v^{l-1} + \sum_r \frac{1}{|\mathcal{N}_r(v)|} \sum_{u \in \mathcal{N}_r(v)} W_r^l
        h_u^{l-1} + b^l \Big)

    ``gkd_model.bases``: :math:`W_r = \sum_b a_{rb} V_b` in every layer. ``gkd_model.blocks``: the :math:`W_r` of hidden layers
    are block-diagonal. Nodes of several types, or without features, come through a first layer of their own
    (:class:`~gkd_plugin.models.networks.node_types.NodeTypeInput`).

    Args:
        dim_in (int): Width of the features.
        dim_out (int): Number of logits.

    .. code-block:: yaml

        dataset: {format: gkd, name: AIFB, task: node, task_type: classification}
        model: {type: rgcn}
        gnn: {layers_mp: 1, dim_inner: 32, act: relu, dropout: 0.5, batchnorm: false, l2norm: false}
        gkd_model: {bases: 8}
    """

    keys = (*SHARED_KEYS, BASES, BLOCKS)

    def _convolution(self, dim_in: int, dim_out: int, blocks: int, bias: bool) -> nn.Module:
        relations = int(cfg.share.get("relations", 0))
        if not relations:
            raise UserError(
                f"model.type: rgcn has a weight for each relation, but the edges of '{cfg.dataset.name}' have no types "
                "(edge_type). Take a data set with relations, such as AIFB and DBLP (dataset.format: gkd), or another "
                "model.type."
            )
        if blocks and (dim_in % blocks or dim_out % blocks):
            allowed = "It must divide them; gnn.layers_pre_mp: 1 makes the first width gnn.dim_inner."
            raise ConfigError([Problem(f"{GROUP}.blocks", f"{blocks} for widths {dim_in} and {dim_out}", allowed)])
        how = {"num_bases": self.values["bases"] or None, "num_blocks": blocks or None}
        return OnRelations(RelationalConv(dim_in, dim_out, relations, **how, bias=bias))

    def hidden(self, dim_in: int, width: int, number: int) -> nn.Module:
        return self._convolution(dim_in, width, self.values["blocks"], not cfg.gnn.batchnorm)

    def last(self, dim_in: int, dim_out: int) -> nn.Module:
        return self._convolution(dim_in, dim_out, 0, True)

    @classmethod
    def check(cls, own: CfgNode) -> list[Problem]:
        found = super().check(own)
        if any(problem.key in (f"{GROUP}.bases", f"{GROUP}.blocks") for problem in found):
            return found
        values = groups.read(own, GROUP, (BASES, BLOCKS))
        if values["bases"] and values["blocks"]:
            found.append(
                Problem(f"{GROUP}.bases", "set beside blocks", f"Keep one of {GROUP}.bases and {GROUP}.blocks.")
            )
        elif values["blocks"] and own.gnn.dim_inner % values["blocks"]:
            text = f"{values['blocks']} for gnn.dim_inner: {own.gnn.dim_inner}"
            found.append(Problem(f"{GROUP}.blocks", text, "It must divide the width of hidden layers."))
        return found
