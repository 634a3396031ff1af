"""The host's metrics with the host's rounding, for any number of students at little cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric.graphgym import register
from torch_geometric.graphgym.logger import Logger, infer_task

from gkd_plugin.errors import UserError, nearest
from gkd_plugin.host import cfg
from gkd_plugin.training.checkpoint import write_atomically
from gkd_plugin.training.rows import read_rows

HOST_METRICS = {
    "classification_multi": ("accuracy",),
    "classification_binary": ("accuracy", "precision", "recall", "f1", "auc"),
    "regression": ("mae", "mse", "rmse"),
}
ERRORS = ("mae", "mse", "rmse", "loss")  # less is better
PERCENT = ("accuracy", "auc", "f1", "f1_micro", "precision", "recall")  # more is better; shown in per cent
_NO_METRIC = (
    "epoch",
    "eta",
    "loss",
    "lr",
    "params",
    "time_iter",
    "stopped",
    "student",
)  # other columns of the host's rows


def measure(true: Sequence[Tensor], score: Sequence[Tensor], kind: str) -> dict[str, float]:
    """The metrics of one split.

    Args:
        true (sequence of Tensor): Labels, batch by batch.
        score (sequence of Tensor): Scores as ``compute_loss`` returns them, batch by batch.
        kind (str): The host's task type (``classification_multi``, ``classification_binary``, ``regression``).

    Returns:
        dict: Custom metrics if ``cfg.custom_metrics`` names any, else the host's own for the task; NaN where there is no item.

    Raises:
        UserError: If a custom metric is unknown or the task has no metric.
    """
    if not sum(map(len, true)):
        return dict.fromkeys(cfg.custom_metrics or HOST_METRICS.get(kind, ()), math.nan)
    if cfg.custom_metrics:
        return {name: float(_custom(name)(list(true), list(score), kind)) for name in cfg.custom_metrics}
    labels, scores = torch.cat(list(true)), torch.cat(list(score))
    if kind == "classification_multi":
        right = int((scores.argmax(dim=1) == labels.view(-1)).sum())
        return {"accuracy": round(right / max(len(labels), 1), cfg.round)}
    if kind == "regression":
        error = scores.double() - labels.double().view_as(scores)
        mse = float(error.square().mean())
        values = {"mae": float(error.abs().mean()), "mse": mse, "rmse": math.sqrt(mse)}
        return {name: round(value, cfg.round) for name, value in values.items()}
    if kind == "classification_binary":
        return _binary(labels, scores)
    raise _report_no_metric(kind)


def _report_no_metric(kind: str) -> UserError:
    return UserError(
        f"dataset.task_type: no metric for '{kind}'. Name one in custom_metrics; there are: "
        f"{', '.join(register.metric_dict) or 'none'}."
    )


def _custom(name: str) -> Any:
    if name not in register.metric_dict:
        known = list(register.metric_dict)
        raise UserError(
            f"custom_metrics: '{name}' is not registered. {nearest(name, known)}There are: {', '.join(known) or 'none'}."
        )
    return register.metric_dict[name]


def _binary(labels: Tensor, scores: Tensor) -> dict[str, float]:
    """The host's own five numbers, by its own code."""
    judge = Logger.__new__(Logger)
    judge._true, judge._pred = [labels.cpu()], [scores.cpu()]
    values: dict[str, float] = judge.classification_binary()
    return {name: float(value) for name, value in values.items()}


class SplitLog(Logger):  # type: ignore[misc]
    """The host's logger with metrics that cost microseconds; it writes the same rows into the same files."""

    def classification_multi(self) -> dict[str, float]:
        return measure(self._true, self._pred, "classification_multi")

    def regression(self) -> dict[str, float]:
        return measure(self._true, self._pred, "regression")


def make_logs() -> list[SplitLog]:
    """One log for each split, in ``cfg.run_dir``."""
    return [SplitLog(name, infer_task()) for name in ("train", "val", "test")[: cfg.share.num_splits]]


def cut_rows(log: Any, epochs: int) -> None:
    """Drops the rows of a log that were written after a checkpoint, a half-written one included."""
    path = Path(log.out_dir) / "stats.json"
    if path.is_file():
        kept = "".join(f"{line}\n" for line, row in read_rows(path) if row["epoch"] < epochs)
        write_atomically(path, lambda file: file.write(kept.encode()))


def require_metric(kind: str) -> None:
    """Refuses before training what :func:`choose_metric` would refuse after the first epoch.

    Args:
        kind (str): The host's task type, of which only the data know whether it has two classes or more.

    Raises:
        UserError: If nothing is measured, ``metric_best`` is not, or ``metric_agg`` asks for the worst epoch.
    """
    choose_metric(list_metrics(kind))


def list_metrics(kind: str) -> Sequence[str]:
    """What is measured for a task.

    Args:
        kind (str): The host's task type.

    Raises:
        UserError: If nothing is.
    """
    names: Sequence[str] | None = cfg.custom_metrics or HOST_METRICS.get(kind)
    if not names:
        raise _report_no_metric(kind)
    return names


def choose_metric(names: Sequence[str]) -> tuple[str, bool]:
    """The metric that selects and whether more of it is better.

    Under ``metric_best: auto`` the metric is the host's choice, of an error less is better, and ``metric_agg`` decides of
    a metric whose direction is unknown.

    Args:
        names (sequence of str): What is measured.

    Raises:
        UserError: If ``metric_best`` is not measured, or ``metric_agg`` asks for the worst epoch.
    """
    if cfg.metric_best != "auto":
        if cfg.metric_best not in names:
            raise UserError(
                f"metric_best: '{cfg.metric_best}' is not measured. {nearest(cfg.metric_best, names)}"
                f"Allowed: auto, {', '.join(names)}."
            )
        if cfg.metric_best in ERRORS and cfg.metric_agg != "argmin":
            raise UserError(f"metric_agg: argmax selects the epoch with the largest {cfg.metric_best}. Write argmin.")
        if cfg.metric_best in PERCENT and cfg.metric_agg == "argmin":
            raise UserError(f"metric_agg: argmin selects the epoch with the smallest {cfg.metric_best}. Write argmax.")
        return cfg.metric_best, cfg.metric_agg != "argmin"
    for name in ("auc", "accuracy"):
        if name in names:
            if cfg.metric_agg == "argmin":
                raise UserError(
                    f"metric_agg: argmin selects the epoch with the smallest {name} (metric_best: auto). Write argmax, or "
                    f"name another metric in metric_best: {', '.join(names)}."
                )
            return name, True
    return names[0], names[0] not in ERRORS and cfg.metric_agg != "argmin"


def find_metric(config: Mapping[str, Any], row: Mapping[str, Any]) -> tuple[str, bool]:
    """The metric that selected in a run of the host's program, and whether more of it is better.

    Args:
        config (mapping): Its ``config.yaml``, of which ``metric_best`` and ``metric_agg`` count.
        row (mapping): One of its rows; columns that end in ``_std`` are those of an aggregation.

    Raises:
        KeyError: If the row lacks the metric that ``metric_best`` names.
    """
    name = config.get("metric_best", "auto")
    if name != "auto":
        if name not in row:
            raise KeyError(name)
        return str(name), config.get("metric_agg", "argmax") != "argmin"
    own = [name for name in row if name not in _NO_METRIC and not name.endswith("_std")]
    name = next((name for name in ("auc", "accuracy", "mae", "mse", *own) if name in row), "loss")
    return name, name not in ERRORS
