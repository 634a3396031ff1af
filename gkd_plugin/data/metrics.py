"""The metric that the host lacks for several labels per node."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gkd_plugin import groups
from gkd_plugin.data.keys import METRIC_KEYS
from gkd_plugin.data.keys import METRICS as GROUP
from gkd_plugin.host import cfg

__all__ = ["METRICS", "f1_micro", "f1_threshold"]


def f1_micro(true: Sequence[Tensor], pred: Sequence[Tensor], task_type: str) -> float:
    r"""Micro-averaged F1 over all batches, nodes and labels together, for ``custom_metrics: [f1_micro]``.

    .. math::
        F_1 = \frac{2 \, \mathrm{TP}}{2 \, \mathrm{TP} + \mathrm{FP} + \mathrm{FN}}

    A label counts as predicted where its logit exceeds ``metrics.f1_logit_threshold``: 0 as usual, 0.5 as in the
    released code of LSP and Alignahead. With one class per node, also of two, it is the accuracy: every mistake is a
    false positive of one class and a false negative of another.

    Args:
        true (sequence of Tensor): Labels, batch by batch, as the host's logger collects them.
        pred (sequence of Tensor): Scores, batch by batch: probabilities of labels, or log-probabilities of classes.
        task_type (str): The host's task type. ``classification_binary`` has one class per node, and so one logit; of other
            tasks the shapes tell.

    Shapes:
        - **input:** ``[N, K]`` and ``[N, K]`` (``[N]`` and ``[N]`` where K is 1), or ``[N]`` and ``[N, C]`` for classes
        - **output:** a number; NaN where there is no item
    """
    # takes seconds
    from torchmetrics.functional.classification import binary_accuracy, binary_f1_score, multiclass_f1_score

    labels, scores = torch.cat(list(true)), torch.cat(list(pred))
    if not len(labels):
        return float("nan")
    if labels.dim() < scores.dim():
        return float(multiclass_f1_score(scores, labels, num_classes=scores.size(1), average="micro"))
    measure = binary_accuracy if task_type == "classification_binary" else binary_f1_score
    # every label of every node is one yes-or-no question
    return float(measure(scores.flatten(), labels.flatten().long(), threshold=f1_threshold()))


def f1_threshold() -> float:
    """The score above which :func:`f1_micro` counts a label as predicted."""
    logit = groups.read(cfg, GROUP, METRIC_KEYS)["f1_logit_threshold"]
    return float(torch.tensor(logit, dtype=torch.float64).sigmoid())  # the host hands over sigmoid scores


METRICS = {"f1_micro": f1_micro}
