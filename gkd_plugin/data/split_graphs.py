"""Data sets of many graphs of which each belongs to one split as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch_geometric.data import Data, InMemoryDataset

from gkd_plugin.errors import UserError

PARTS = ("train", "val", "test")


class SplitGraphs(InMemoryDataset):  # type: ignore[misc]
    """Graphs of which each belongs to one split as a whole; masks of all its nodes say to which.

    The host's ``create_loader`` would serve all of them in every split; :func:`per_split` puts that right.

    Args:
        graphs (mapping): The graphs of ``train``, ``val`` and ``test``.
    """

    def __init__(self, graphs: Mapping[str, Sequence[Data]]) -> None:
        super().__init__()
        everything: list[Data] = []
        self.members: dict[str, list[int]] = {}
        for part in PARTS:
            self.members[part] = list(range(len(everything), len(everything) + len(graphs[part])))
            for graph in graphs[part]:
                own = graph.clone()
                for name in PARTS:
                    own[f"{name}_mask"] = torch.full((graph.num_nodes,), name == part)
                everything.append(own)
        self.data, self.slices = self.collate(everything)

    def of(self, part: str) -> SplitGraphs:
        """The graphs of one split, as a data set."""
        own: SplitGraphs = self.index_select(self.members[part])
        own.members = {}
        return own

    @property
    def divided(self) -> bool:
        """Whether it holds the graphs of several splits."""
        return bool(self.members)

    def get(self, idx: int) -> Data:
        if self.members:
            raise UserError(
                "dataset.name: every graph of this data set belongs to one split, but this loader would give all of "
                "them. Run with train.mode: distill (kd.preset: supervised for no distillation), or use "
                "gkd_plugin.data.loaders.create_loaders()."
            )
        return super().get(idx)


class OwnSplit(InMemoryDataset):  # type: ignore[misc]
    """Graphs with a split that their authors drew, as the positions that the host's graph tasks read.

    Args:
        graphs (mapping): The graphs of ``train``, ``val`` and ``test``.
    """

    def __init__(self, graphs: Mapping[str, Sequence[Data]]) -> None:
        super().__init__()
        self.data, self.slices = self.collate([graph for part in PARTS for graph in graphs[part]])
        first = 0
        for part in PARTS:
            self._data[f"{part}_graph_index"] = torch.arange(first, first + len(graphs[part]))
            first += len(graphs[part])
