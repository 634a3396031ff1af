"""Knowledge ``feature``: node embeddings are compared, layer by layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional

from gkd_plugin.errors import Problem
from gkd_plugin.ops import rowwise
from gkd_plugin.plan import GroupPlan
from gkd_plugin.schema import Choice, Key, Number
from gkd_plugin.space.knowledge.projected import ProjectedTerm
from gkd_plugin.space.knowledge.projectors import PROJECTORS, LinearProjection, RowProjection
from gkd_plugin.space.knowledge.rows import NODES, node_mean, normalize, select
from gkd_plugin.space.observation import Graph, Observation, Outline, Task


def _projects_nothing(values: Mapping[str, Any]) -> str | None:
    kind = values.get("projector", "auto")
    if kind == "none" or (kind == "auto" and values.get("loss") == "attention"):
        return f"nothing is projected with projector {kind}" + (" and loss attention" if kind == "auto" else "")
    return None


def _no_common_width(values: Mapping[str, Any]) -> str | None:
    if reason := _projects_nothing(values):
        return reason
    return None if values.get("projector_side") == "both" else "projector_side learner projects to the source's width"


def energy(rows: Tensor) -> Tensor:
    """Each node's squared length, over all nodes together scaled to length 1, ``[N]``."""
    return normalize(rows.square().sum(dim=-1), "l2")


class FeatureTerm(ProjectedTerm):
    r"""Hints from hidden layers, as in the `"FitNets: Hints for Thin Deep Nets" <https://arxiv.org/abs/1412.6550>`_ and
    `"Paying More Attention to Attention" <https://arxiv.org/abs/1612.03928>`_ papers.

    With rows :math:`\mathbf{x}_v` of the learner's and :math:`\mathbf{y}_v` of the source's layer, after ``nodes``,
    ``pool``, ``projector``, the subspace map (layer map ``attention`` only) and ``normalize``, in this order, ``mse``
    is

    .. math::
        D = \frac{1}{N d} \sum_{v=1}^{N} \| \mathbf{x}_v - \mathbf{y}_v \|_2^2,

    ``smooth_l1`` likewise, ``cosine`` is :math:`\frac{1}{N} \sum_v (1 - \cos(\mathbf{x}_v, \mathbf{y}_v))`, and
    ``attention``, with node energies :math:`e_v(\mathbf{x}) = \sum_c x_{vc}^2`, is

    .. math::
        D = \frac{1}{N} \left\| \frac{\mathbf{e}(\mathbf{x})}{\| \mathbf{e}(\mathbf{x}) \|_2} -
        \frac{\mathbf{e}(\mathbf{y})}{\| \mathbf{e}(\mathbf{y}) \|_2} \right\|_2^2 .

    ``reduction: sum`` leaves the leading fractions out. The term is :math:`\sum_{lk} w_{lk} D_{lk}`.

    Args:
        group (GroupPlan): The resolved ``kd_feature`` group.
        learner (Outline): Depth and widths of the learner.
        source (Outline): The same of the source.
        task (Task): What is predicted.

    Shapes:
        - **input:** two observations of the same nodes and the weights :math:`(L, K)`
        - **output:** a scalar

    Raises:
        UserError: If widths do not allow the comparison, or ``nodes: unlabeled`` finds none.

    .. code-block:: yaml

        kd_feature: {weight: 0.1, source: peers, tap: conv, layer_map: shift, shift: 1, loss: mse}
    """

    name: ClassVar[str] = "feature"
    summary: ClassVar[str] = "node embeddings, directly or projected"
    reference: ClassVar[str] = "FitNets, attention transfer, ABKD"
    keys: ClassVar[tuple[Key, ...]] = (
        Key("loss", "mse", Choice(("mse", "cosine", "smooth_l1", "attention")), "how two layers are compared"),
        Key("projector", "auto", Choice(("auto", *PROJECTORS)), "auto: none where widths agree or for loss attention"),
        Key("projector_side", "learner", Choice(("learner", "both")), "which side is projected", _projects_nothing),
        Key("dim", 256, Number(1, integer=True), "common width where both sides are projected", _no_common_width),
        Key("normalize", "none", Choice(("none", "l2", "batchnorm")), "rows, before the distance"),
        Key("pool", "none", Choice(("none", "mean")), "mean over nodes before the projector"),
        Key("nodes", "all", Choice(("all", "train", "unlabeled")), "which nodes are compared"),
        Key("reduction", "mean", Choice(("mean", "sum")), "over nodes and channels"),
    )

    def __init__(self, group: GroupPlan, learner: Outline, source: Outline, task: Task) -> None:
        loss, kind = str(group["loss"]), str(group["projector"])
        if kind == "auto" and loss == "attention":
            kind = "none"
        side, dim = str(group.get("projector_side", "learner")), group.get("dim")
        super().__init__(group, learner, source, task, kind, side, dim, str(group["normalize"]))
        self.loss = loss
        if self.loss != "attention":
            self.projectors.require_equal_widths(group.name)

    @classmethod
    def check(cls, values: Mapping[str, Any], task: Task | None) -> Iterable[Problem]:
        pooled, loss = values.get("pool") == "mean", values.get("loss")
        constant = "it compares how much each node is excited, so it is 0 for every network then"
        if loss == "attention" and pooled:
            yield Problem("kd_feature.pool", "mean with loss attention", f"Allowed: none; {constant}.")
        if loss == "attention" and values.get("normalize") == "l2":
            yield Problem("kd_feature.normalize", "l2 with loss attention", f"Allowed: none, batchnorm; {constant}.")
        if pooled and values.get("normalize") == "batchnorm":
            yield Problem(
                "kd_feature.normalize", "batchnorm with pool mean", "Allowed: none, l2; one row has no variance."
            )
        if pooled and values.get("projector") in ("linear_bn_relu", "gnn"):
            yield Problem(
                "kd_feature.projector",
                f"{values['projector']} with pool mean",
                "Allowed: auto, none, linear; one row has neither variance nor neighbours.",
            )
        if values.get("nodes") == "unlabeled" and task is not None and task.level != "node":
            yield Problem("kd_feature.nodes", f"unlabeled in a task on {task.level}s", "Allowed: all, train.")

    @classmethod
    def describe(cls, group: GroupPlan) -> str:
        names = {
            "mse": "squared difference",
            "cosine": "1 - cosine",
            "smooth_l1": "smooth L1 distance",
            "attention": "squared difference of node energies |x_v|^2 (scaled to length 1)",
        }
        over = "nodes" if group["loss"] in ("attention", "cosine") else "nodes and channels"
        text = f"{group['reduction']} over {over} of the {names[group['loss']]}"
        if "projector_side" in group.values:
            side = "of both sides" if group["projector_side"] == "both" else "of the learner"
            width = f" to {group['dim']} channels" if "dim" in group.values else " to the source's width"
            kind = "linear where widths differ" if group["projector"] == "auto" else group["projector"]
            text += f"; rows {side} projected ({kind}){'' if group['projector'] == 'auto' else width}"
        text += {"l2": ", then scaled to length 1", "batchnorm": ", then batch-normalised"}.get(group["normalize"], "")
        pooled = ", averaged over nodes first" if group["pool"] == "mean" else ""
        return f"{text}; {NODES[group['nodes']]}{pooled}"

    def require(self, graph: Graph) -> None:
        select(graph, str(self.group["nodes"]), "kd_feature.nodes")

    def forward(self, learner: Observation, source: Observation, weights: Tensor | None = None) -> Tensor:
        nodes = str(self.group["nodes"])
        index = select(learner.graph, nodes, "kd_feature.nodes")
        if (learner.graph.num_nodes if index is None else index.numel()) == 0:
            return learner.logits[:0].sum()  # a sampled part without such nodes
        like = learner.layer(self.tap, 1)
        for row, column in self.pairs if self.group["pool"] != "mean" else ():
            self.require_same_nodes(learner, source, row, column)

        def reduce(seen: Observation, layer: int) -> Tensor:
            if self.group["pool"] == "mean":
                return node_mean(seen, self.tap, layer, nodes, index).unsqueeze(0)
            states = seen.layer(self.tap, layer)
            return states if index is None else states[index]

        def freeze(rows: Tensor) -> Tensor:  # a teacher's as they are: what is derived from them is kept with them
            return rows.detach() if rows.requires_grad else rows

        ours = {row: reduce(learner, row) for row, _ in self.pairs}
        theirs = {column: freeze(reduce(source, column)).to(like) for _, column in self.pairs}
        rows, targets = self.replace_rows(learner, ours, index), self.replace_rows(source, theirs, index)
        return super().forward(rows, targets, weights)

    def distance(self, learner: Observation, source: Observation, row: int, column: int) -> Tensor:
        reduction = str(self.group["reduction"])
        left, right = self.projectors(row, column)
        ours, theirs = learner.layer(self.tap, row), source.layer(self.tap, column)
        many = ours.size(0) > rowwise.ROWS and self.subspace is None and self.normalization != "batchnorm"
        if (
            many
            and isinstance(left, LinearProjection)
            and isinstance(right, RowProjection)
            and self.loss != "attention"
        ):
            total = self._sum_blocks(left, right, ours, theirs)
            width = 1 if self.loss == "cosine" else left.linear.out_features
            return total / (ours.size(0) * width) if reduction == "mean" else total
        x, y = self.projected(learner, source, row, column)
        return self._compare(x, y, reduction)

    def _sum_blocks(self, left: RowProjection, right: RowProjection, ours: Tensor, theirs: Tensor) -> Tensor:
        """The sum over nodes without a projected table of all of them: projecting, scaling and comparing go row by row."""
        (ours, *first), (theirs, *second) = left.fold(ours), right.fold(theirs)
        if self.loss == "mse" and self.normalization == "l2" and left.activated == right.activated:
            return rowwise.unit_gaps(ours, theirs, first, second, left.activated)

        def compare(x: Tensor, y: Tensor, *linear: Tensor) -> Tensor:
            x, y = left.project(x, *linear[: len(first)]), right.project(y, *linear[len(first) :])
            return self._compare(normalize(x, self.normalization), normalize(y, self.normalization), "sum")

        return rowwise.sum_rows(compare, (ours, theirs), (*first, *second))

    def _compare(self, x: Tensor, y: Tensor, reduction: str) -> Tensor:
        if self.loss == "attention":
            x, y = energy(x), energy(y)
        if self.loss == "cosine":
            gap = 1 - (normalize(x, "l2") * normalize(y, "l2")).sum(dim=-1)
            return gap.mean() if reduction == "mean" else gap.sum()
        if self.loss == "smooth_l1":
            return functional.smooth_l1_loss(x, y, reduction=reduction)
        return functional.mse_loss(x, y, reduction=reduction)
