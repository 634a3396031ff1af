"""Knowledge ``contrast``: each of the learner's nodes must find itself among the source's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from gkd_plugin.ops.first_order import first_order
from gkd_plugin.plan import GroupPlan
from gkd_plugin.schema import Choice, Key, Number, show
from gkd_plugin.space.knowledge.projected import ProjectedTerm
from gkd_plugin.space.observation import Observation, Outline, Task

BLOCK = 2**20  # pairs of nodes that are compared at a time


class _CrossEntropy(torch.autograd.Function):
    """Block by block. With one source the gradients are taken along; with several, blocks are computed again for them."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, targets: Tensor, block: int) -> Tensor:
        count, sources = rows.size(0), targets.size(0)
        step = max(1, block // max(count, 1))
        total, sums = rows.new_zeros(sources), rows.new_empty(targets.shape[:2])
        along = sources == 1 and any(ctx.needs_input_grad)
        for_rows, for_targets = (torch.zeros_like(rows), torch.zeros_like(targets)) if along else (None, None)
        for number, theirs in enumerate(targets):
            for start in range(0, count, step):
                part = rows[start : start + step]
                scores = part @ theirs.t()
                own, largest = scores.diagonal(start).clone(), scores.amax(dim=1, keepdim=True)
                shares = scores.sub_(largest).exp_()
                amounts = shares.sum(dim=1, keepdim=True)
                sums[number, start : start + step] = (largest + amounts.log()).squeeze(1)
                total[number] += (sums[number, start : start + step] - own).sum()
                if for_rows is not None and for_targets is not None:
                    _add_up(shares.div_(amounts), start, part, theirs, for_rows, for_targets[number])
        ctx.step, ctx.along = step, along
        ctx.save_for_backward(*((for_rows, for_targets) if along else (rows, targets, sums)))
        return total

    @staticmethod
    @first_order
    def backward(ctx: Any, *given: Any) -> Any:
        if ctx.along:
            for_rows, for_targets = ctx.saved_tensors
            return for_rows * given[0], for_targets * given[0], None
        rows, targets, sums = ctx.saved_tensors
        for_rows, for_targets = torch.zeros_like(rows), torch.zeros_like(targets)
        for number, theirs in enumerate(targets):
            for start in range(0, rows.size(0), ctx.step):
                part = rows[start : start + ctx.step]
                shares = (part @ theirs.t()).sub_(sums[number, start : start + ctx.step].unsqueeze(1)).exp_()
                _add_up(shares, start, part, theirs, for_rows, for_targets[number], given[0][number])
        return for_rows, for_targets, None


def _add_up(
    shares: Tensor,
    start: int,
    part: Tensor,
    theirs: Tensor,
    for_rows: Tensor,
    for_theirs: Tensor,
    by: Tensor | None = None,
) -> None:
    """Adds a block's gradients to those of its rows and of all targets; its shares are used up."""
    shares.diagonal(start).sub_(1.0)
    if by is not None:
        shares.mul_(by)
    for_rows[start : start + len(part)].addmm_(shares, theirs)
    for_theirs.addmm_(shares.t(), part)


def info_nce(rows: Tensor, targets: Tensor, temperature: float, block: int = BLOCK) -> Tensor:
    """Mean cross-entropy of finding each row's own target among all targets, for each of some sources.

    Blocks are recomputed in the backward pass, so memory does not grow with the square of the nodes.

    Args:
        rows (Tensor): The learner's rows of length 1, ``[N, d]``.
        targets (Tensor): Those of each source, ``[K, N, d]``.
        temperature (float): Divides the similarities.
        block (int, optional): Pairs of nodes held at a time.

    Shapes:
        - **output:** ``[K]``
    """
    found: Tensor = _CrossEntropy.apply(rows / temperature, targets, block)  # type: ignore[no-untyped-call]
    return found / max(rows.size(0), 1)


class ContrastTerm(ProjectedTerm):
    r"""G-CRD from the `"On Representation Knowledge Distillation for Graph Neural Networks"
    <https://arxiv.org/abs/2111.04964>`_ paper.

    With projected rows of length 1, :math:`\mathbf{x}_v` of the learner and :math:`\mathbf{y}_v` of the source, over
    the :math:`n` sampled nodes

    .. math::
        D = - \frac{1}{n} \sum_{v=1}^{n} \log \frac{\exp(\mathbf{x}_v^\top \mathbf{y}_v / \tau)}
        {\sum_{u=1}^{n} \exp(\mathbf{x}_v^\top \mathbf{y}_u / \tau)} .

    The nodes are drawn once per step for both sides and all layer pairs; with a single node :math:`D = 0`. The term is
    :math:`\sum_{lk} w_{lk} D_{lk}`.

    Args:
        group (GroupPlan): The resolved ``kd_contrast`` group.
        learner (Outline): Depth and widths of the learner.
        source (Outline): The same of the source.
        task (Task): What is predicted.

    Shapes:
        - **input:** two observations of the same nodes and the weights :math:`(L, K)`
        - **output:** a scalar

    Raises:
        UserError: If nothing is projected and widths are unequal.

    .. code-block:: yaml

        kd: {teacher: cora_teacher}
        kd_contrast: {weight: 0.1, tap: layer, layer_map: last, temperature: 0.075, samples: 1024}
    """

    name: ClassVar[str] = "contrast"
    summary: ClassVar[str] = "which node is which (InfoNCE between learner and source)"
    reference: ClassVar[str] = "G-CRD"
    keys: ClassVar[tuple[Key, ...]] = (
        Key("temperature", 0.075, Number(0, above=True), "divides the similarities"),
        Key("samples", 1024, Number(1, integer=True), "nodes per step, one draw for both sides"),
        Key("projector", "linear_bn_relu", Choice(("linear_bn_relu", "linear", "none")), "on both sides"),
        Key(
            "dim",
            256,
            Number(1, integer=True),
            "common width",
            lambda values: "nothing is projected with projector none" if values.get("projector") == "none" else None,
        ),
    )

    def __init__(self, group: GroupPlan, learner: Outline, source: Outline, task: Task) -> None:
        super().__init__(group, learner, source, task, str(group["projector"]), "both", group.get("dim"), "l2")
        self.projectors.require_equal_widths(group.name)

    @classmethod
    def describe(cls, group: GroupPlan) -> str:
        text = f"cross-entropy of finding each node among {group['samples']} of the source's by cosine"
        text += f" / {show(group['temperature'])}"
        if group["projector"] == "none":
            return text
        return f"{text}; both sides projected ({group['projector']}, {group['dim']} channels)"

    def draw(self, learner: Observation) -> Tensor | None:
        """The sampled nodes, or ``None`` for all; one draw per observation of the learner, also with several peers."""
        count, samples = learner.graph.num_nodes, int(self.group["samples"])
        if count <= samples:
            return None
        device = learner.logits.device
        return learner.remember(("contrast", samples), lambda: torch.randperm(count)[:samples].to(device))

    def forward(self, learner: Observation, source: Observation, weights: Tensor | None = None) -> Tensor:
        if learner.graph.num_nodes < 2:
            return learner.logits[:0].sum()
        for row, column in self.pairs:
            self.require_same_nodes(learner, source, row, column)
        index, like = self.draw(learner), learner.layer(self.tap, 1)

        def pick(seen: Observation, layer: int) -> Tensor:
            states = seen.layer(self.tap, layer)
            return states if index is None else states[index]

        ours = {row: pick(learner, row) for row, _ in self.pairs}
        theirs = {column: pick(source, column).detach().to(like) for _, column in self.pairs}
        sampled, targets = self.replace_rows(learner, ours, None), self.replace_rows(source, theirs, None)
        return super().forward(sampled, targets, weights)

    def distances(self, learner: Observation, source: Observation, pairs: Sequence[tuple[int, int]]) -> Tensor:
        found: dict[tuple[int, int], Tensor] = {}
        for row in {row for row, _ in pairs}:
            columns = [column for r, column in pairs if r == row]
            x = self.projected(learner, source, row, columns[0])[0]
            targets = torch.stack([self.projected(learner, source, row, column)[1] for column in columns])
            values = info_nce(x, targets, float(self.group["temperature"]))
            found |= zip(((row, column) for column in columns), values, strict=True)
        return torch.stack([found[pair] for pair in pairs])
