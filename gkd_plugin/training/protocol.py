"""What a run's result says of nodes that came after training (``splits.protocol``)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
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


def describe_protocol(
    test: SplitLoader,
    tests: Mapping[str, Predictions],
    its: Predictions | None,
    kind: str,
    metric: str,
    complete: Callable[..., dict[str, Any]],
) -> dict[str, Any]:
    """What a result says under ``protocol``; empty where no node was held out.

    Args:
        test (SplitLoader): The test split.
        tests (mapping): What each student, and the ensemble, answered on it.
        its (Predictions, optional): What the teacher answered.
        kind (str): The host's task type.
        metric (str): The metric that selects.
        complete (callable): Adds the answers that follow from these, given a mean.
    """
    marks = _find_marks(test)
    if marks is None:
        return {}
    name = groups.read(cfg, SPLITS, SPLIT_KEYS)["protocol"]
    about = {"name": name, "held_out": int(marks.sum()), "tested": len(marks)}
    parts = {answer: score_parts(test, each, kind, metric) for answer, each in tests.items()}
    if not all(parts.values()):
        return about
    parts = complete(parts, _average)
    if its is not None and (taught := score_parts(test, its, kind, metric)):
        parts["teacher"] = taught
    return {**about, "parts": parts}


def _average(scores: Sequence[dict[str, float]]) -> dict[str, float]:
    return {part: sum(each[part] for each in scores) / len(scores) for part in scores[0]}


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
