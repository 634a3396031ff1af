"""Projectors bring two layers to a common width before they are compared; they are trained with the learner."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import GCNConv

from gkd_plugin.errors import UserError
from gkd_plugin.ops.kept import derive_once

EPS = 1e-5  # of torch's batch normalisation
PROJECTORS = ("none", "linear", "linear_bn_relu", "gnn")


class RowProjection(nn.Module):
    """A projection of each row by itself, once :meth:`fold` has seen all of them.

    Args:
        activated (bool): Whether a ReLU ends it.
    """

    def __init__(self, activated: bool = False) -> None:
        super().__init__()
        self.activated = activated

    def fold(self, rows: Tensor) -> tuple[Tensor, ...]:
        """The rows for :meth:`project`, and weight and bias of the linear map that it does, if any."""
        return (rows,)

    def project(self, rows: Tensor, *linear: Tensor) -> Tensor:
        """The projection of some of the folded rows."""
        out = functional.linear(rows, *linear) if linear else rows
        return torch.relu(out) if self.activated else out

    def forward(self, rows: Tensor, edge_index: Tensor) -> Tensor:
        return self.project(*self.fold(rows))


class NoProjection(RowProjection):
    """The rows as they are."""


class LinearProjection(RowProjection):
    """A linear layer, with batch normalisation and ReLU where ``activated``.

    The normalisation always uses the batch: a term is computed in training only. One row counts as its own mean.
    """

    def __init__(self, width: int, dim: int, activated: bool = False) -> None:
        super().__init__(activated)
        self.linear = nn.Linear(width, dim)
        if activated:
            self.scale, self.offset = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))

    def fold(self, rows: Tensor) -> tuple[Tensor, ...]:
        r"""Rows, weight and bias, the normalisation among them.

        It needs mean and variance of each output channel. With mean :math:`\mu` and covariance :math:`C` of
        the rows these are :math:`w^\top \mu + b` and :math:`w^\top C w`, so that no row is mapped for them.
        """
        weight, bias = self.linear.weight, self.linear.bias
        if not self.activated:
            return rows, weight, bias
        mean, covariance = moments(rows) if rows.requires_grad else derive_once((rows,), moments, lambda: moments(rows))
        variance = ((weight @ covariance) * weight).sum(dim=1).clamp(min=0)  # rounding may leave less
        # the layer's bias moves all rows alike, which makes no difference
        return rows - mean, weight * (self.scale * (variance + EPS).rsqrt()).unsqueeze(1), self.offset + 0.0 * bias


def moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean ``[d]`` and covariance ``[d, d]`` of the rows."""
    mean = rows.mean(dim=0)
    apart = rows - mean
    return mean, apart.t() @ apart / rows.size(0)


class GraphProjection(nn.Module):
    """One graph convolution over the edges between the compared nodes."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.conv = GCNConv(width, dim)

    def forward(self, rows: Tensor, edge_index: Tensor) -> Tensor:
        out: Tensor = self.conv(rows, edge_index)
        return out


def projector(kind: str, width: int, dim: int) -> nn.Module:
    """A projector from ``width`` to ``dim``."""
    if kind == "gnn":
        return GraphProjection(width, dim)
    return NoProjection() if kind == "none" else LinearProjection(width, dim, activated=kind == "linear_bn_relu")


class Projectors(nn.Module):
    """The projectors of one group towards one source model, for the layer pairs that its map uses.

    Args:
        kind (str): ``none``, ``linear``, ``linear_bn_relu``, ``gnn``, or ``auto``: none where widths agree, else
            linear.
        side (str): ``learner``: one for each layer pair, to the source's width. ``both``: one for each layer and side,
            to ``dim``.
        pairs (iterable): The layer pairs, from 1.
        learner (tuple of int): Widths of the learner's layers.
        source (tuple of int): Widths of the source's.
        dim (int, optional): The common width for side ``both``.
    """

    def __init__(
        self,
        kind: str,
        side: str,
        pairs: Iterable[tuple[int, int]],
        learner: tuple[int, ...],
        source: tuple[int, ...],
        dim: int | None = None,
    ) -> None:
        super().__init__()
        self.kind, self.both = kind, side == "both"
        self.learner, self.source = nn.ModuleDict(), nn.ModuleDict()
        self.none = NoProjection()
        self.widths: dict[tuple[int, int], tuple[int, int]] = {}
        pairs = tuple(pairs)
        unequal = {(row, column) for row, column in pairs if learner[row - 1] != source[column - 1]}
        for row, column in pairs:
            width, source_width = learner[row - 1], source[column - 1]
            skip = not (unequal if self.both else (row, column) in unequal)
            chosen = kind if kind != "auto" else "none" if skip else "linear"
            if chosen == "none":
                self.widths[row, column] = (width, source_width)
                continue
            target = source_width
            if self.both:
                assert dim is not None
                target = dim
                if str(column) not in self.source:
                    self.source[str(column)] = projector(chosen, source_width, dim)
            if self._key(row, column) not in self.learner:
                self.learner[self._key(row, column)] = projector(chosen, width, target)
            self.widths[row, column] = (target, target)

    def _key(self, row: int, column: int) -> str:
        return str(row) if self.both else f"{row}~{column}"

    def forward(self, row: int, column: int) -> tuple[nn.Module, nn.Module]:
        """The learner's and the source's projector of one layer pair."""
        key = self._key(row, column)
        left = self.learner[key] if key in self.learner else self.none
        right = self.source[str(column)] if str(column) in self.source else self.none
        return left, right

    def require_equal_widths(self, group: str) -> None:
        """Says how two layers of unequal width can be compared.

        Raises:
            UserError: If a pair still has unequal widths.
        """
        for (row, column), (width, source_width) in self.widths.items():
            if width != source_width:
                raise UserError(
                    f"kd_{group}.projector: none, but learner layer {row} has width {width} and source layer {column} "
                    f"has {source_width}. Use linear (or another projector)."
                )

    def common_width(self, group: str) -> int:
        """The one width of all compared rows.

        Raises:
            UserError: If there are several.
        """
        widths = sorted({width for pair in self.widths.values() for width in pair})
        if len(widths) > 1:
            raise UserError(
                f"kd_attention.subspace: true needs one width for all layers that kd_{group} compares; found "
                f"{', '.join(map(str, widths))}. Use a projector on both sides, or kd_attention.subspace: false."
            )
        return widths[0]
