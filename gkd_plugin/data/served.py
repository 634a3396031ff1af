"""The data behind a loader, as far as they can be seen from outside."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data, InMemoryDataset

ITEMS = {"node": "nodes", "edge": "pairs", "link_pred": "pairs", "graph": "graphs"}


class Served:
    """The data behind a loader: one ``Data`` with the values of all its graphs, as far as they can be seen from outside."""

    def __init__(self, loader: Any) -> None:
        self.dataset: Any = getattr(loader, "dataset", None)
        self.changed = getattr(self.dataset, "transform", None) is not None
        self.slices: Any = None
        self.data: Data | None = None
        if isinstance(self.dataset, InMemoryDataset):
            self.data, self.slices = self.dataset._data, self.dataset.slices
        elif isinstance(self.dataset, (list, tuple)) and all(type(item) is Data for item in self.dataset):
            graphs = list(self.dataset)
            self.data = graphs[0] if len(graphs) == 1 else Batch.from_data_list(graphs) if graphs else None
        elif isinstance(data := getattr(loader, "data", None), Data):  # where PyG's samplers keep it
            self.data = data
        if not isinstance(self.data, Data):
            self.data = None

    def get(self, key: str) -> Tensor | None:
        """A tensor of the data as the network will see it, or ``None``."""
        value = None if self.data is None or self.changed else self.data.get(key)
        return value if isinstance(value, Tensor) else None

    def names(self) -> list[str]:
        return [] if self.data is None else list(self.data.keys())


def read_labels(part: str, source: Served, task: str) -> Tensor | None:
    """The labels of a split's items, or ``None`` where they are unknown or are tables."""
    if task in ("edge", "link_pred"):
        y = source.get(f"{part}_edge_label")
    else:
        y = source.get("y")
        mask = source.get(f"{part}_mask") if task == "node" else None
        if y is not None and mask is not None:
            y = y[mask] if len(y) == len(mask) else None
        elif y is not None and task == "graph" and isinstance(source.dataset, InMemoryDataset):
            y = _select_rows(y, source)
    if y is not None and y.dim() > 1:
        y = y.squeeze(-1) if y.dim() == 2 and y.size(1) == 1 else None
    return y if y is not None and y.dim() == 1 else None


def _select_rows(y: Tensor, source: Served) -> Tensor:
    """The rows that belong to the graphs of a part of a data set."""
    chosen = torch.as_tensor(list(source.dataset.indices()), dtype=torch.long)
    ends = source.slices.get("y") if isinstance(source.slices, dict) else None
    if ends is None:
        return y
    graph = torch.repeat_interleave(torch.arange(len(ends) - 1), ends[1:] - ends[:-1])
    return y[torch.isin(graph, chosen)]
