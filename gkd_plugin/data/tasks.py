"""What labels mean: a class for each node or graph, several labels, or a number; told by the labels themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from gkd_plugin.errors import UserError, nearest, quote

WORDS = {"multiclass": "classification", "multilabel": "classification_multilabel", "regression": "regression"}
TASKS = {f"{level}_{word}": (level, kind) for level in ("node", "graph") for word, kind in WORDS.items()}


@dataclass(frozen=True)
class LabelKind:
    """What is predicted.

    Args:
        level (str): ``node`` or ``graph``: ``dataset.task``.
        task_type (str): ``dataset.task_type``.
        width (int): Classes; labels per item where there are several; numbers per item.
    """

    level: str
    task_type: str
    width: int

    @property
    def binary(self) -> bool:
        """Whether there are two classes, which the host tells by one logit."""
        return self.task_type == WORDS["multiclass"] and self.width == 2

    def shape(self, y: Tensor) -> Tensor:
        """Labels in the form that the host reads; classes may come in a column, or one-hot."""
        if self.task_type == WORDS["multiclass"]:
            return y.argmax(dim=1) if _columns(y) > 1 else y.reshape(-1).nan_to_num(-1).long()
        return (y.reshape(-1, 1) if y.dim() < 2 else y).float()

    def describe(self) -> str:
        """``node_multiclass, 7 classes``."""
        word = next(word for word, kind in WORDS.items() if kind == self.task_type)
        what = {"multiclass": "classes", "multilabel": "labels each"}.get(word, "numbers each")
        what = what.replace("numbers", "number").replace("labels", "label") if self.width == 1 else what
        return f"{self.level}_{word}, {self.width} {what}"


def infer_labels(graphs: Sequence[Data], task: str | None) -> LabelKind:
    """What the labels of graphs mean.

    Args:
        graphs (sequence of Data): At least one.
        task (str, optional): One of ``TASKS``, which decides it.

    Raises:
        UserError: If there are no labels, or they may mean several things.
    """
    if task is not None and task not in TASKS:
        raise UserError(f"task={quote(task)} is unknown. {nearest(task, TASKS)}Allowed: {', '.join(TASKS)}.")
    for number, graph in enumerate(graphs):
        if not isinstance(graph.get("y"), Tensor):
            where = f"graph {number} of data=" if len(graphs) > 1 else "data="
            raise UserError(f"{where} has no labels y. Give each node (or each graph) its class in data.y.")
    columns = {_columns(graph.y) for graph in graphs}
    if len(columns) > 1:
        raise UserError(
            f"data=: y has {' and '.join(map(str, sorted(columns)))} columns in different graphs. Give all the same."
        )
    level, task_type = TASKS[task] if task is not None else (_infer_level(graphs), None)
    y = torch.cat([_rows(graph.y).cpu() for graph in graphs])
    if task_type is None:
        task_type = _infer_type(y, level)
    return LabelKind(level, task_type, _count(y, task_type))


def _rows(y: Tensor) -> Tensor:
    return y.reshape(-1, 1) if y.dim() < 2 else y.flatten(1)


def _columns(y: Tensor) -> int:
    return 1 if y.dim() < 2 else int(y.size(1))


def _infer_level(graphs: Sequence[Data]) -> str:
    rows = [1 if graph.y.dim() == 0 else len(graph.y) for graph in graphs]
    nodes = [int(graph.num_nodes or 0) for graph in graphs]
    by_node, by_graph = rows == nodes, all(count == 1 for count in rows)
    if by_node and not by_graph:
        return "node"
    if by_graph and not by_node:
        return "graph"
    if by_node:
        raise UserError(
            "data=: every graph has one node and one label, so labels may be of nodes or of graphs. " + _choose()
        )
    odd = next(number for number, count in enumerate(rows) if count not in (1, nodes[number]) or count != rows[0])
    raise UserError(
        f"data=: y of graph {odd} has {rows[odd]} rows, for {nodes[odd]} nodes. Give one row for each node, or one for each graph."
    )


def _infer_type(y: Tensor, level: str) -> str:
    whole = not y.is_floating_point() or bool((y[~y.isnan()] == y[~y.isnan()].floor()).all())
    known = y[~y.isnan()] if y.is_floating_point() else y
    if y.size(1) == 1:
        if not y.is_floating_point():
            return WORDS["multiclass"]
        if not whole:
            return WORDS["regression"]
        raise UserError(
            f"data=: y holds whole numbers as {_name(y)}, which may be classes or quantities. "
            + _choose(level, "multiclass", "regression")
        )
    if not bool(((known == 0) | (known == 1)).all()):
        if y.is_floating_point() and not whole:
            return WORDS["regression"]
        raise UserError(
            f"data=: y has {y.size(1)} columns of whole numbers beyond 0 and 1. Give one class for each item in one column, or "
            f"0 and 1 for each label. " + _choose(level, "regression")
        )
    if bool((y.sum(dim=1) == 1).all()):
        raise UserError(
            f"data=: each row of y has a single 1 in its {y.size(1)} columns, which may be a class (one-hot) or labels. "
            + _choose(level, "multiclass", "multilabel")
        )
    return WORDS["multilabel"]


def _name(y: Tensor) -> str:
    return str(y.dtype).removeprefix("torch.")


def _choose(level: str | None = None, *words: str) -> str:
    names = [f"{level}_{word}" for word in words] if level else list(TASKS)
    return f"Say it: {' or '.join(f'task={name!r}' for name in names)}."


def _count(y: Tensor, task_type: str) -> int:
    if task_type != WORDS["multiclass"] or y.size(1) > 1:
        return int(y.size(1))
    known: Any = y[~y.isnan()] if y.is_floating_point() else y
    if y.is_floating_point() and bool((known != known.floor()).any()):
        raise UserError(
            f"data=: y holds numbers such as {float(known[known != known.floor()][0]):g}, which are not classes."
        )
    known = known[known >= 0]
    return int(known.unique().numel())
