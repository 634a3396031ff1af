"""A batch as the loop sees it: its graph, the items of each split, and what is known of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch_geometric.data import Batch
from yacs.config import CfgNode

from gkd_plugin.models.sparse_input import SparseFeatures
from gkd_plugin.space.observation import Graph, Observation, Task

T = TypeVar("T")
SPLITS = ("train", "val", "test")


def infer_task(own: CfgNode) -> Task:
    """The task that a host configuration describes."""
    level = {"link_pred": "edge"}.get(own.dataset.task, own.dataset.task)
    kind = own.dataset.task_type.removeprefix("classification_")
    if kind == "classification":
        kind = "binary" if own.share.dim_out <= 2 else "multi"
    return Task(level, {"multi": "multiclass"}.get(kind, kind))


@dataclass(eq=False)
class Sample:
    """One batch of the host's loaders with the graph that observations of it share.

    Args:
        batch (Batch): The batch; it is copied for every forward pass, because the host's layers write into theirs.
        task (Task): What is predicted on it.
        whole (Sample, optional): The same with the edges that students do not see (``kd.hide_edges``).
        features (SparseFeatures, optional): Its features for networks that read them sparsely (``kd.sparse_input``).
        memo (dict): What was derived from the batch alone and may be used again by any model.
        fixed (bool): Whether it is the same in every epoch.
    """

    batch: Batch
    task: Task
    whole: Sample | None = None
    features: SparseFeatures | None = None
    memo: dict[Hashable, Any] = field(default_factory=dict, repr=False)
    fixed: bool = False
    _graphs: dict[str, Graph] = field(default_factory=dict, repr=False)
    _rows: dict[str, tuple[Tensor, int, Tensor]] = field(default_factory=dict, repr=False)

    def remember(self, key: Hashable, compute: Callable[[], T]) -> T:
        """The value under ``key``, computed on first use."""
        if key not in self.memo:
            self.memo[key] = compute()
        value: T = self.memo[key]
        return value

    def graph(self, split: str) -> Graph:
        """The graph as terms see it; only edge tasks have one of their own for each split."""
        key = split if self.task.level == "edge" else ""
        if key not in self._graphs:
            pairs = self.batch.get(f"{split}_edge_index") if self.task.level == "edge" else None
            self._graphs[key] = Graph(
                self.batch.edge_index,
                int(self.batch.num_nodes),
                train_mask=self.mask("train"),
                batch=self.batch.get("batch"),
                node_id=self.batch.get("n_id"),
                pairs=pairs,
                edge_type=self.batch.get("edge_type"),
                predicted=self.batch.get("predicted") if self.task.level == "node" else None,
            )
        return self._graphs[key]

    def mask(self, split: str) -> Tensor | None:
        """The nodes of a split, or ``None`` where every item counts."""
        mask = self.batch.get(f"{split}_mask") if self.task.level == "node" else None
        return mask if isinstance(mask, Tensor) else None

    def rows(self, split: str) -> Tensor | None:
        """The numbers of a split's nodes, or ``None`` where every item counts."""
        mask = self.mask(split)
        if mask is None:
            return None
        kept = self._rows.get(split)
        if kept is None or kept[0] is not mask or kept[1] != mask._version:
            index = mask.nonzero().view(-1) if mask.dtype == torch.bool else mask
            kept = self._rows[split] = mask, mask._version, index
        return kept[2]

    def answers(self, seen: Observation, split: str) -> tuple[Tensor, Tensor]:
        """Predictions and labels of a split's items, as the host's head would return them."""
        assert seen.labels is not None
        rows = self.rows(split)
        return (seen.logits, seen.labels) if rows is None else (seen.logits[rows], seen.labels[rows])
