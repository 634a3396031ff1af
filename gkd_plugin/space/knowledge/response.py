"""Knowledge ``response``: logits are compared."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from gkd_plugin.errors import Problem, UserError
from gkd_plugin.plan import GroupPlan
from gkd_plugin.schema import Choice, Key, Number, show
from gkd_plugin.space.knowledge.base import Term
from gkd_plugin.space.knowledge.rows import NODES, select
from gkd_plugin.space.observation import Graph, Observation, Outline, Task

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


def _unsharpened(values: Mapping[str, Any]) -> str | None:
    if values.get("target") == "hard":
        return "target hard is as sharp as can be"
    return _unscaled(values)


def _unhardened(values: Mapping[str, Any]) -> str | None:
    reasons = {"mse": "loss mse compares the logits themselves", "bce_hard": "loss bce_hard says hard already"}
    return reasons.get(str(values.get("loss")))


def _unsure(values: Mapping[str, Any]) -> str | None:
    return "loss mse has no probabilities" if values.get("loss") == "mse" else None


def read_distributions(target: Tensor, loss: str) -> Tensor:
    """The probabilities that a target's logits mean: one softmax for ``kl``, yes and no for each label elsewhere.

    Args:
        target (Tensor): Logits, ``[N, C]``.
        loss (str): ``kl``, ``bce_soft`` or ``bce_hard``.

    Shapes:
        - **output:** ``[N, 1, C]`` for ``kl``, ``[N, C, 2]`` elsewhere; the last dimension sums to 1
    """
    if loss == "kl":
        return target.softmax(dim=-1).unsqueeze(1)
    return torch.stack([target.sigmoid(), (-target).sigmoid()], dim=-1)


def measure_certainty(distributions: Tensor) -> Tensor:
    """The largest probability of every item, ``[N]``; the mean over its labels where it has several."""
    return distributions.amax(dim=-1).mean(dim=-1)


def weigh_items(distributions: Tensor, how: str) -> Tensor:
    """Weights of mean 1, ``[N]``, by how sure the target is of each item.

    Args:
        distributions (Tensor): From :func:`read_distributions`, of at least one item.
        how (str): ``confidence`` or ``entropy``; see :class:`ResponseTerm`.
    """
    if how == "confidence":
        weights = measure_certainty(distributions)
    else:
        most = math.log(max(distributions.size(-1), 2))  # a single class has no entropy, and log 1 is 0
        entropy = torch.special.entr(distributions).sum(dim=-1).mean(dim=-1)
        weights = (1 - entropy / most).clamp(min=0)
    mean = weights.mean()
    # Where every target is uniform, 1 - H / log C is rounding alone, and dividing by its mean would blow that up.
    return torch.where(mean > 32 * torch.finfo(mean.dtype).eps, weights / mean, 1.0)


def make_goal(target: Tensor, loss: str, temperature: float, *, sharpen: float = 1.0, hard: bool = False) -> Tensor:
    """What :func:`response_loss` compares logits with: all that it needs of the source.

    Args:
        target (Tensor): The source's logits, without gradient, ``[N, C]``.
        loss (str): ``kl``, ``bce_soft``, ``mse`` or ``bce_hard``.
        temperature (float): Divides the logits of ``kl`` and ``bce_soft``.
        sharpen (float, optional): Divides the target of ``kl`` and ``bce_soft`` before that.
        hard (bool, optional): Whether only the target's decision counts, in ``kl`` and ``bce_soft``.

    Shapes:
        - **output:** the logits themselves (``mse``), probabilities or decisions of every label, ``[N, C]``, log-probabilities
          (``kl``), ``[N, C]``, or classes (``kl``, ``hard``), ``[N]``
    """
    if loss == "mse":
        return target
    if loss == "bce_hard" or (loss == "bce_soft" and hard):
        return (target > 0).to(target.dtype)
    if hard:
        return target.argmax(dim=-1)
    sharp = target / sharpen / temperature
    return sharp.log_softmax(dim=-1) if loss == "kl" else sharp.sigmoid()


def response_loss(
    logits: Tensor, goal: Tensor, loss: str, temperature: float, *, weights: Tensor | None = None
) -> Tensor:
    """The distance between the logits of the same items; see :class:`ResponseTerm`.

    Args:
        logits (Tensor): The learner's, ``[N, C]``.
        goal (Tensor): What :func:`make_goal` gave of the source.
        loss (str): ``kl``, ``bce_soft``, ``mse`` or ``bce_hard``.
        temperature (float): Divides the logits of ``kl`` and ``bce_soft``.
        weights (Tensor, optional): One for each item, ``[N]``, with mean 1; not for ``mse``.
    """
    if loss == "mse":
        return functional.mse_loss(logits, goal)
    if loss == "bce_hard":
        temperature = 1.0
    soft = logits / temperature
    if loss != "kl":
        factor = None if weights is None else weights.unsqueeze(-1)
        return functional.binary_cross_entropy_with_logits(soft, goal, factor) * temperature**2
    log_p = soft.log_softmax(dim=-1)
    if goal.dim() == 1:
        items = functional.nll_loss(log_p, goal, reduction="none")
    elif weights is None:  # not as a mean over items, which would add up in another order
        return functional.kl_div(log_p, goal, reduction="batchmean", log_target=True) * temperature**2
    else:
        items = functional.kl_div(log_p, goal, reduction="none", log_target=True).sum(dim=-1)
    return (items if weights is None else weights * items).mean() * temperature**2


@dataclass(frozen=True, eq=False)
class _Target:
    """What a source asks of every learner on one graph.

    Args:
        rows (Tensor, optional): The numbers of the items that are compared; ``None`` for all.
        goal (Tensor): From :func:`make_goal`.
        weights (Tensor, optional): From :func:`weigh_items`.
        counted (Tensor, optional): The share of the items that the source is sure enough of.
    """

    rows: Tensor | None
    goal: Tensor
    weights: Tensor | None
    counted: Tensor | None


class ResponseTerm(Term):
    r"""Soft targets from the `"Distilling the Knowledge in a Neural Network" <https://arxiv.org/abs/1503.02531>`_
    paper.

    With logits :math:`\mathbf{z}_v` of the learner and :math:`\mathbf{t}_v` of the source, ``kl`` is

    .. math::
        D = \frac{1}{|S|} \sum_{v \in S} w_v D_v, \quad
        D_v = \tau^2 \sum_{c=1}^{C} q_{vc} \log \frac{q_{vc}}{p_{vc}}, \quad
        \mathbf{q}_v = \mathrm{softmax}(\mathbf{t}_v / (s \tau)), \;
        \mathbf{p}_v = \mathrm{softmax}(\mathbf{z}_v / \tau)

    with ``temperature`` :math:`\tau`. ``bce_soft`` has for :math:`D_v` :math:`\tau^2` times the mean over labels of the
    cross-entropy between :math:`\sigma(\mathbf{t}_v / (s \tau))` and :math:`\sigma(\mathbf{z}_v / \tau)`; ``bce_hard``
    has the targets :math:`[\mathbf{t}_v > 0]` and no temperature; ``mse`` is the mean squared difference of logits. By
    default the task decides: ``kl`` for several classes, ``bce_soft`` for several labels and for two classes as one
    logit, ``mse`` for regression.

    What the target is, by default with :math:`s = 1`, all items in :math:`S` and :math:`w_v = 1`:

    - ``sharpen`` is :math:`s`; below 1 it makes the target more certain than the source is.
    - ``target: hard`` is its limit :math:`s \to 0`: :math:`D_v = -\tau^2 \log p_{vc}` with the class :math:`c` of the
      largest logit (the first of equal ones) for ``kl``, the targets :math:`[\mathbf{t}_v > 0]` for ``bce_soft``.
    - ``confidence`` leaves in :math:`S` the items with :math:`a_v \geq` ``confidence``. The certainty :math:`a_v` is
      :math:`\max_c \mathrm{softmax}(\mathbf{t}_v)_c` for ``kl`` and the mean over labels of
      :math:`\max(\sigma(t_{vc}), 1 - \sigma(t_{vc}))` for ``bce_soft`` and ``bce_hard``: of the target as the source
      gives it, before :math:`s` and :math:`\tau`. Where :math:`S` is empty, the term is 0. The share of the compared
      items that are in :math:`S` is reported.
    - ``node_weight`` gives :math:`w_v` in proportion to :math:`a_v` (``confidence``) or to
      :math:`1 - H_v / \log C` (``entropy``), with mean 1 over :math:`S`. :math:`H_v` is the entropy of
      :math:`\mathrm{softmax}(\mathbf{t}_v)` for ``kl``; elsewhere the mean over labels of that of
      :math:`\sigma(t_{vc})`, with :math:`\log 2`. Where all are 0, the items count alike.

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

    .. code-block:: yaml

        kd: {students: 2}  # each learns from what the other is sure of
        kd_response: {weight: 1, nodes: unlabeled, target: hard, confidence: 0.9, node_weight: entropy}
    """

    name: ClassVar[str] = "response"
    changes: ClassVar[str] = "Or change the target: kd_response.sharpen below 1, or kd_response.target: hard."
    summary: ClassVar[str] = "logits as soft targets"
    reference: ClassVar[str] = "Hinton et al."
    keys: ClassVar[tuple[Key, ...]] = (
        Key("loss", None, Choice(("kl", "bce_soft", "mse", "bce_hard")), "by task unless named"),
        Key("temperature", 1.0, Number(0, above=True), "softens both sides of kl and bce_soft", _unscaled),
        Key(
            "target",
            "soft",
            Choice(("soft", "hard")),
            "hard: only what the source decides, the largest logit (kl) or the logits above 0 (bce_soft)",
            _unhardened,
        ),
        Key(
            "sharpen",
            1.0,
            Number(0, above=True),
            "divides the target's logits alone, before temperature; below 1: a more certain target",
            _unsharpened,
        ),
        Key("confidence", 0.0, Number(0, high=1), "items whose target is less certain than this are left out", _unsure),
        Key(
            "node_weight",
            "none",
            Choice(("none", "confidence", "entropy")),
            "items weigh by their target's largest probability, or by 1 - its entropy / the largest; mean 1",
            _unsure,
        ),
        Key("nodes", "train", Choice(("train", "all", "unlabeled")), "which nodes are compared (node tasks)"),
    )

    def __init__(self, group: GroupPlan, learner: Outline, source: Outline, task: Task) -> None:
        super().__init__(group, learner, source, task)
        self.loss = str(group.get("loss") or LOSS_BY_TASK[task.kind])
        self.temperature = float(group.get("temperature", 1.0))
        self.sharpen, self.hard = float(group.get("sharpen", 1.0)), group.get("target") == "hard"
        self.confidence, self.node_weight = float(group.get("confidence", 0.0)), str(group.get("node_weight", "none"))
        sides = (self.confidence, self.node_weight, str(group["nodes"]))
        self.asks = (self.loss, self.temperature, self.sharpen, self.hard, *sides)  # all that makes a target
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
        loss = {"loss": LOSS_BY_TASK[task.kind]} if values.get("loss") is None else {}
        # whole graphs and pairs have no unlabelled part in a batch
        return loss | ({"nodes": "all"} if values.get("nodes") == "unlabeled" and task.level != "node" else {})

    @classmethod
    def learns_from_itself(cls, values: Mapping[str, Any]) -> bool:
        if values.get("loss") == "mse":  # none of the keys that change the target applies
            return False
        hard = values.get("target") == "hard" or values.get("loss") == "bce_hard"
        return hard or values.get("sharpen", 1) != 1 or values.get("confidence", 0) > 0

    @classmethod
    def warn(cls, group: GroupPlan, within: bool) -> Iterator[str]:
        changed = group.get("target") == "hard" or group.get("loss") == "bce_hard" or group.get("sharpen", 1) != 1
        if within and not changed:
            yield (
                f"kd_response.confidence {show(group.get('confidence', 0))} with source: {group['source']}: the same forward "
                "pass teaches itself, so the term is always 0. Write sharpen below 1, or target: hard."
            )

    @classmethod
    def reports(cls, values: Mapping[str, Any]) -> tuple[str, ...]:
        return ("counted",) if values.get("confidence", 0) > 0 else ()

    @classmethod
    def describe(cls, group: GroupPlan) -> str:
        tau, sharpen, hard = group.get("temperature", 1.0), group.get("sharpen", 1.0), group.get("target") == "hard"
        by, of = ("" if scale == 1 else f"/{show(scale)}" for scale in (tau, tau * sharpen))
        front = "" if tau == 1 else f"{show(tau * tau)} · "
        texts = {
            "kl": f"{front}KL(softmax(t{of}) || softmax(z{by})) of the source's logits t, batch mean",
            "bce_soft": f"{front}BCE(z{by}, sigmoid(t{of})) with the source's logits t",
            "bce_hard": "BCE(z, [t > 0]) with the source's logits t",
            "mse": "squared difference of logits",
            None: f"kl for several classes, bce_soft for two classes as one logit (inferred from the data); temperature {show(tau)}",
        }
        if hard:
            texts["kl"] = f"{front}CE(z{by}, the class of the source's largest logit)"
            texts["bce_soft"] = f"{front}BCE(z{by}, [t > 0]) with the source's logits t"
            texts[None] += ", hard targets"
        elif sharpen != 1:
            texts[None] += f", targets sharpened by {show(sharpen)}"
        text = f"{texts[group['loss']]}; {NODES[group['nodes']]}"
        if group.get("confidence", 0.0) > 0:
            text += f" of which the source is at least {show(group['confidence'])} sure"
        weighed = {
            "confidence": "the source's largest probability",
            "entropy": "1 - the source's entropy / the largest",
        }
        by_what = weighed.get(group.get("node_weight", "none"))
        return f"{text}, each node weighed by {by_what} (mean 1)" if by_what else text

    def require(self, graph: Graph) -> None:
        if self.task.level == "node":
            select(graph, str(self.group["nodes"]), "kd_response.nodes", answers=True)

    def forward(self, learner: Observation, source: Observation, weights: Tensor | None = None) -> Tensor:
        logits = learner.logits.view(learner.logits.size(0), -1)
        shape = (source.logits.size(0), source.logits.numel() // max(source.logits.size(0), 1))
        if logits.shape != shape:
            raise UserError(
                f"kd_response.source: the source gives logits {list(shape)}, the learner {list(logits.shape)} "
                "(items, classes). Both must answer for the same ones."
            )
        # a stored teacher, and a peer of several learners, is asked the same more than once
        key = ("response", learner.graph, logits.dtype, logits.device, self.asks)
        target = source.remember(key, lambda: self._aim(learner.graph, source, logits))
        if target.counted is not None:
            self.reported["counted"] = target.counted
        if target.rows is not None:
            logits = logits.index_select(0, target.rows)
        if logits.size(0) == 0:
            return logits.sum()  # a sampled part without such nodes, or nothing is certain enough
        return response_loss(logits, target.goal, self.loss, self.temperature, weights=target.weights)

    def _aim(self, graph: Graph, source: Observation, like: Tensor) -> _Target:
        """What the source asks of learners whose logits are ``like`` these."""
        target = source.logits.detach().to(like).view(like.shape)
        rows = counted = weights = None
        if self.task.level == "node":
            rows = select(graph, str(self.group["nodes"]), "kd_response.nodes", answers=True)
            target = target if rows is None else target[rows]
        if self.confidence > 0:
            counts = measure_certainty(read_distributions(target, self.loss)) >= self.confidence
            counted = counts.sum().to(target) / max(counts.numel(), 1)
            target = target[counts]
            rows = counts.nonzero().view(-1) if rows is None else rows[counts]
        if self.node_weight != "none" and len(target):
            weights = weigh_items(read_distributions(target, self.loss), self.node_weight)
        goal = make_goal(target, self.loss, self.temperature, sharpen=self.sharpen, hard=self.hard)
        return _Target(rows, goal, weights, counted)
