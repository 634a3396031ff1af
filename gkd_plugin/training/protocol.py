"""What a run's result says of nodes that came after training (``splits.protocol``)."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from gkd_plugin import groups
from gkd_plugin.data.keys import SPLIT_KEYS, SPLITS
from gkd_plugin.data.protocol import HELD_OUT, INDUCTIVE, TRANSDUCTIVE
from gkd_plugin.host import cfg
from gkd_plugin.training.batches import SplitLoader
from gkd_plugin.training.evaluation import Predictions


def sees_part() -> bool:
    """Whether some nodes come after training, by the configuration in force."""
    return str(groups.read(cfg, SPLITS, SPLIT_KEYS)["protocol"]) != TRANSDUCTIVE


def describe_protocol(test: SplitLoader) -> dict[str, Any]:
    """The protocol's name, how many nodes were held out, and how many of them are tested; empty where none were.

    Args:
        test (SplitLoader): The test split.
    """
    marks = _find_marks(test)
    if marks is None:
        return {}
    name = groups.read(cfg, SPLITS, SPLIT_KEYS)["protocol"]
    return {"name": name, "held_out": int(marks.sum()), "tested": len(marks)}


def score_parts(test: SplitLoader, predictions: Predictions, kind: str, metric: str) -> dict[str, float]:
    """The test scores of the nodes that training saw and of those that were held out; empty where there is one kind only.

    Args:
        test (SplitLoader): The test split.
        predictions (Predictions): One model's answers on it.
        kind (str): The host's task type.
        metric (str): The metric that selects.
    """
    marks = _find_marks(test)
    if marks is None or bool(marks.all()) or len(predictions.true) != 1:
        return {}
    return {
        name: _measure(predictions, rows, kind, metric) for name, rows in ((TRANSDUCTIVE, ~marks), (INDUCTIVE, marks))
    }


def _measure(predictions: Predictions, rows: Tensor, kind: str, metric: str) -> float:
    part = Predictions()
    part.add(predictions.true[0][rows], predictions.score[0][rows], math.nan)
    return float(part.metrics(kind)[metric])


def _find_marks(test: SplitLoader) -> Tensor | None:
    """For each test item whether it was held out; ``None`` where the data know no such nodes."""
    sample = test.single
    marks = sample.batch.get(HELD_OUT) if sample is not None else None
    rows = sample.rows("test") if sample is not None else None
    return None if marks is None or rows is None else marks[rows].cpu()
