"""Knowledge ``response``: logits are compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional

from gkd_plugin.errors import Problem, UserError
from gkd_plugin.plan import GroupPlan
from gkd_plugin.schema import Choice, Key, Number, show
from gkd_plugin.space.knowledge.base import Term
from gkd_plugin.space.knowledge.rows import NODES, select
from gkd_plugin.space.observation import Observation, Outline, Task

LOSS_BY_TASK = {"multiclass": "kl", "binary": "bce_soft", "multilabel": "bce_soft", "regression": "mse"}
ALLOWED = {
    "multiclass": ("kl", "bce_soft", "mse", "bce_hard"),
    "binary": ("bce_soft", "mse", "bce_hard"),
    "multilabel": ("bce_soft", "mse", "bce_hard"),
    "regression": ("mse",),
}


def _unscaled(values: Mapping[str, Any]) -> str | None:
    loss = values.get("loss")
    return f"loss {loss} has no temperature" if loss in ("mse", "bce_hard") else None


def response_loss(logits: Tensor, target: Tensor, loss: str, temperature: float) -> Tensor:
    """The distance between the logits of the same items; see :class:`ResponseTerm`.

    Args:
        logits (Tensor): The learner's, ``[N, C]``.
        target (Tensor): The source's, without gradient, ``[N, C]``.
        loss (str): ``kl``, ``bce_soft``, ``mse`` or ``bce_hard``.
        temperature (float): Divides the logits of ``kl`` and ``bce_soft``.
    """
    if loss == "mse":
        return functional.mse_loss(logits, target)
    if loss == "bce_hard":
        return functional.binary_cross_entropy_with_logits(logits, (target > 0).to(logits.dtype))
    soft, target = logits / temperature, target / temperature
    if loss == "bce_soft":
        return functional.binary_cross_entropy_with_logits(soft, target.sigmoid()) * temperature**2
    log_p, log_q = soft.log_softmax(dim=-1), target.log_softmax(dim=-1)
    return functional.kl_div(log_p, log_q, reduction="batchmean", log_target=True) * temperature**2


class ResponseTerm(Term):
    r"""Soft targets from the `"Distilling the Knowledge in a Neural Network" <https://arxiv.org/abs/1503.02531>`_
    paper.

    With logits :math:`\mathbf{z}_v` of the learner and :math:`\mathbf{t}_v` of the source, ``kl`` is

    .. math::
        D = \frac{\tau^2}{N} \sum_{v=1}^{N} \sum_{c=1}^{C} q_{vc} \log \frac{q_{vc}}{p_{vc}}, \quad
        \mathbf{q}_v = \mathrm{softmax}(\mathbf{t}_v / \tau), \;
        \mathbf{p}_v = \mathrm{softmax}(\mathbf{z}_v / \tau).

    ``bce_soft`` is :math:`\tau^2` times the mean over items and labels of the cross-entropy between
    :math:`\sigma(\mathbf{t}_v / \tau)` and :math:`\sigma(\mathbf{z}_v / \tau)`; ``bce_hard`` has the targets
    :math:`[\mathbf{t}_v > 0]`; ``mse`` is the mean squared difference of logits. By default the task decides: ``kl``
    for several classes, ``bce_soft`` for several labels and for two classes as one logit, ``mse`` for regression.

    Args:
        group (GroupPlan): The resolved ``kd_response`` group.
        learner (Outline): What the learner predicts.
        source (Outline): The same of the source.
        task (Task): What is predicted.

    Shapes:
        - **input:** two observations with logits :math:`(N, C)` or :math:`(N)` of the same items
        - **output:** a scalar

    Raises:
        UserError: If both sides predict different numbers of classes, or ``nodes: unlabeled`` finds none.

    .. code-block:: yaml

        kd: {label_weight: 0.1, teacher: cora_teacher}
        kd_response: {weight: 0.9, temperature: 4, nodes: all}
    """

    name: ClassVar[str] = "response"
    summary: ClassVar[str] = "logits as soft targets"
    reference: ClassVar[str] = "Hinton et al."
    keys: ClassVar[tuple[Key, ...]] = (
        Key("loss", None, Choice(("kl", "bce_soft", "mse", "bce_hard")), "by task unless named"),
        Key("temperature", 1.0, Number(0, above=True), "softens both sides of kl and bce_soft", _unscaled),
        Key("nodes", "train", Choice(("train", "all", "unlabeled")), "which nodes are compared (node tasks)"),
    )

    def __init__(self, group: GroupPlan, learner: Outline, source: Outline, task: Task) -> None:
        super().__init__(group, learner, source, task)
        self.loss = str(group.get("loss") or LOSS_BY_TASK[task.kind])
        self.temperature = float(group.get("temperature", 1.0))
        if learner.dim_out != source.dim_out:
            raise UserError(
                f"kd_response: the learner predicts {learner.dim_out} values per item, the source {source.dim_out}. "
                "Soft targets need a source that was trained for the same classes."
            )

    @classmethod
    def check(cls, values: Mapping[str, Any], task: Task | None) -> Iterable[Problem]:
        if task is None:
            return
        loss, allowed = values.get("loss"), ALLOWED[task.kind]
        if loss is not None and loss not in allowed:
            yield Problem("kd_response.loss", f"{loss} in a {task.kind} task", f"Allowed: {', '.join(allowed)}.")
        if values.get("nodes") == "unlabeled" and task.level != "node":
            yield Problem("kd_response.nodes", f"unlabeled in a task on {task.level}s", "Allowed: train, all.")

    @classmethod
    def settle(cls, values: Mapping[str, Any], task: Task) -> Mapping[str, Any]:
        return {"loss": LOSS_BY_TASK[task.kind]} if values.get("loss") is None else {}

    @classmethod
    def describe(cls, group: GroupPlan) -> str:
        tau = group.get("temperature", 1.0)
        by = "" if tau == 1 else f"/{show(tau)}"
        front = "" if tau == 1 else f"{show(tau * tau)} · "
        texts = {
            "kl": f"{front}KL(softmax(t{by}) || softmax(z{by})) of the source's logits t, batch mean",
            "bce_soft": f"{front}BCE(z{by}, sigmoid(t{by})) with the source's logits t",
            "bce_hard": "BCE(z, [t > 0]) with the source's logits t",
            "mse": "squared difference of logits",
            None: f"kl for several classes, bce_soft for two classes as one logit (inferred from the data); temperature {show(tau)}",
        }
        return f"{texts[group['loss']]}; {NODES[group['nodes']]}"

    def forward(self, learner: Observation, source: Observation, weights: Tensor | None = None) -> Tensor:
        logits = learner.logits.view(learner.logits.size(0), -1)
        target = source.logits.detach().to(logits).view(source.logits.size(0), -1)
        if self.task.level == "node":
            index = select(learner.graph, str(self.group["nodes"]), "kd_response.nodes")
            if index is not None:
                logits, target = logits[index], target[index]
        if logits.size(0) == 0:
            return logits.sum()  # a sampled part without such nodes
        return response_loss(logits, target, self.loss, self.temperature)
