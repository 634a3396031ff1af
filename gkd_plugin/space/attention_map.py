"""The learned layer map: attention over all pairs of layers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gkd_plugin.errors import UserError
from gkd_plugin.schema import Choice, Flag, Key, Number
from gkd_plugin.space.knowledge.rows import node_mean
from gkd_plugin.space.observation import Observation, Outline

ATTENTION_KEYS = (
    Key("dim", 64, Number(1, integer=True), "width of the map's own projections"),
    Key("softmax_over", "learner", Choice(("learner", "source", "all")), "what a row of attention is spread over"),
    Key("detach", False, Flag(), "the map reads detached features: it does not steer the student"),
    Key("frozen", False, Flag(), "the map's projections keep their random values"),
    Key("subspace", True, Flag(), "one further linear map per group, both sides, before distances"),
    Key(
        "projection", "per_layer", Choice(("per_layer", "shared")), "a projection for each layer, or one for each side"
    ),
)


class _Projection(nn.Module):
    """One bias-free linear map for each layer (or one for all), applied to all layers at once.

    Layers of unequal width are filled up with zeros, so that one batched product serves 64 layers.
    """

    def __init__(self, widths: tuple[int, ...], dim: int, shared: bool) -> None:
        super().__init__()
        self.widths = widths[:1] if shared else widths
        self.weight = nn.Parameter(torch.empty(len(self.widths), dim, max(widths)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Each layer's map as ``nn.Linear`` of its width begins."""
        with torch.no_grad():
            self.weight.zero_()
            for weight, width in zip(self.weight, self.widths, strict=True):
                nn.init.uniform_(weight[:, :width], -1 / math.sqrt(width), 1 / math.sqrt(width))

    def forward(self, vectors: list[Tensor]) -> Tensor:
        width = self.weight.size(-1)
        stacked = torch.stack([functional.pad(vector, (0, width - vector.numel())) for vector in vectors])
        return (self.weight.to(stacked.dtype) @ stacked.unsqueeze(-1)).squeeze(-1)


class AttentionMap(nn.Module):
    r"""Learned weights over all layer pairs from the `"ABKD: Graph Neural Network Compression with Attention-Based
    Knowledge Distillation" <https://arxiv.org/abs/2310.15938>`_ paper (reconstructed; its second version is STRIDE).

    Node-averaged features of learner layer :math:`l` and source layer :math:`k` are projected and compared,

    .. math::
        \alpha_{lk} = \mathrm{softmax} \left( \frac{(W_l \bar{h}_l)^\top (U_k \bar{g}_k)}{\sqrt{d_a}} \right), \qquad
        w_{lk} = \alpha_{lk} \Big/ \sum_{l',k'} \alpha_{l'k'}

    with the softmax over the learner's layers (each source layer spreads a mass of 1 over the learner's), over the
    source's, or over all pairs. With source ``self`` only pairs :math:`k > l` take part.

    Args:
        values (mapping): The keys of ``kd_attention``.
        learner (Outline): The learner's depth and widths.
        source (Outline): The source's.
        tap (str): Where layers are read.
        own (bool): Whether the source is the learner itself.

    Shapes:
        - **input:** two observations of the same nodes
        - **output:** weights :math:`(L, K)` that sum to 1 (0 where no pair takes part)

    Raises:
        UserError: If ``projection: shared`` meets layers of unequal width.

    .. code-block:: yaml

        kd_feature: {weight: 1, layer_map: attention, pool: mean, projector: linear, projector_side: both, dim: 64,
                     normalize: l2}
        kd_attention: {dim: 64, softmax_over: learner}
    """

    def __init__(self, values: Mapping[str, Any], learner: Outline, source: Outline, tap: str, own: bool) -> None:
        super().__init__()
        self.tap, self.own = tap, own
        self.depth, self.source_depth = learner.depth, source.depth
        self.softmax_over, self.detach = str(values["softmax_over"]), bool(values["detach"])
        shared = values["projection"] == "shared"
        for side, widths in (("learner", learner.widths[tap]), ("source", source.widths[tap])):
            if shared and len(set(widths)) > 1:
                raise UserError(
                    f"kd_attention.projection: shared, but the {side}'s layers at tap {tap} have the widths "
                    f"{', '.join(map(str, widths))}. Use per_layer."
                )
        self.learner_projection = _Projection(learner.widths[tap], int(values["dim"]), shared)
        self.source_projection = _Projection(source.widths[tap], int(values["dim"]), shared)
        if values["frozen"]:
            self.requires_grad_(False)
        self.last: Tensor | None = None  # the weights of the last forward, for logs

    @staticmethod
    def describe(values: Mapping[str, Any]) -> str:
        """What ``gkd explain`` says of it."""
        how = f"{'random, frozen' if values['frozen'] else 'learned'}; dim {values['dim']}"
        return f"attention over all pairs of layers ({how}, softmax over {values['softmax_over']}); sum 1"

    def forward(self, learner: Observation, source: Observation) -> Tensor:
        queries = [node_mean(learner, self.tap, layer) for layer in range(1, self.depth + 1)]
        keys = [node_mean(source, self.tap, layer).detach().to(queries[0]) for layer in range(1, self.source_depth + 1)]
        if self.detach:
            queries = [query.detach() for query in queries]
        left, right = self.learner_projection(queries), self.source_projection(keys)
        weights = self.weigh(left @ right.T / math.sqrt(left.size(-1)))
        self.last = weights.detach()
        return weights

    def weigh(self, scores: Tensor) -> Tensor:
        """Scores ``[L, K]`` to weights that sum to 1."""
        allowed = torch.ones_like(scores, dtype=torch.bool)
        if self.own:
            allowed = allowed.triu(1)
        scores = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
        if self.softmax_over == "all":
            alpha = scores.flatten().softmax(dim=0).view_as(scores)
        else:
            alpha = scores.softmax(dim=0 if self.softmax_over == "learner" else 1)
        alpha = alpha.masked_fill(~allowed, 0.0)  # a layer without any partner has no mass
        return alpha / alpha.sum().clamp(min=torch.finfo(alpha.dtype).tiny)

    def entropy(self) -> float:
        """Mean entropy (nats) of the last map's distributions; 0 where each has settled on one layer.

        Raises:
            RuntimeError: If no map has been computed yet.
        """
        if self.last is None:
            raise RuntimeError("the attention map has not been computed yet")
        rows = {"learner": self.last.T, "source": self.last, "all": self.last.view(1, -1)}[self.softmax_over]
        mass = rows.sum(dim=1)
        rows = rows[mass > 0] / mass[mass > 0].unsqueeze(-1)
        return float(torch.special.entr(rows).sum() / max(len(rows), 1))

    def extra_repr(self) -> str:
        return f"{self.depth} x {self.source_depth}, softmax_over={self.softmax_over}"
