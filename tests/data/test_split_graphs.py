"""Data sets whose graphs belong to one split as a whole; PPI itself is in ``test_loaders.py``."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.data import Data

from gkd_plugin.data.split_graphs import PARTS, OwnSplit, SplitGraphs
from gkd_plugin.errors import UserError


def graphs(*sizes: int) -> list[Data]:
    return [
        Data(x=torch.full((size, 2), float(size)), edge_index=torch.empty(2, 0).long(), y=torch.ones(size))
        for size in sizes
    ]


GIVEN = {"train": graphs(1, 3, 2), "val": graphs(5), "test": graphs(4, 1)}


def test_masks_say_to_which_split_a_graph_belongs() -> None:
    whole = SplitGraphs(GIVEN)
    for part in PARTS:
        own = whole.of(part)
        assert [graph.num_nodes for graph in own] == [graph.num_nodes for graph in GIVEN[part]]
        for graph in own:
            assert {name: graph[f"{name}_mask"].unique().tolist() for name in PARTS} == {
                name: [name == part] for name in PARTS
            }
    assert all("train_mask" not in graph for part in PARTS for graph in GIVEN[part]), (
        "the given graphs stay as they are"
    )
    with pytest.raises(UserError, match="belongs to one split"):
        whole[0]


def test_positions_say_it_where_the_host_reads_them() -> None:
    whole = OwnSplit(GIVEN)
    for part in PARTS:
        chosen = whole[whole._data[f"{part}_graph_index"]]
        assert [graph.num_nodes for graph in chosen] == [graph.num_nodes for graph in GIVEN[part]]
