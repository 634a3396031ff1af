"""Graphs whose tensors do not fit together are refused before anything reads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric.data import Data, HeteroData

from gkd_plugin.data.shape import require_shape
from gkd_plugin.errors import UserError


def make(**changes: Any) -> Data:
    values: dict[str, Any] = {
        "x": torch.ones(4, 2),
        "edge_index": torch.tensor([[0, 1, 3], [1, 2, 0]]),
        "y": torch.arange(4),
        "train_mask": torch.ones(4, dtype=torch.bool),
    }
    data = Data(num_nodes=4)
    for key, value in {**values, **changes}.items():
        if value is not None:
            data[key] = value
    return data


def make_hetero() -> HeteroData:
    data = HeteroData()
    data["a"].x, data["a"].y = torch.ones(3, 2), torch.arange(3)
    data["b"].num_nodes = 2
    data["a", "to", "b"].edge_index = torch.tensor([[0, 2], [1, 0]])
    return data


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "one_column": ({"x": torch.ones(4)}, r"x is \[4\] of float32, and must be a tensor \[nodes, features\]"),
    "numpy": ({"x": np.ones((4, 2))}, "x is a ndarray"),
    "long_y": ({"y": torch.arange(8)}, "y has 8 rows for 4 nodes"),
    "floats": ({"edge_index": torch.rand(2, 3)}, r"edge_index is \[2, 3\] of float32"),
    "other_way": ({"edge_index": torch.zeros(3, 2, dtype=torch.long)}, r"must be a tensor \[2, edges\]"),
    "no_edges": ({"edge_index": None}, "edge_index is not there"),
    "beyond": ({"edge_index": torch.tensor([[0], [4]])}, "1 edge to nodes that are not there, the first from 0 to 4"),
    "negative": ({"edge_index": torch.tensor([[-1, 0], [0, 1]])}, "the first from -1 to 0"),
    "short_mask": ({"val_mask": torch.ones(3, dtype=torch.bool)}, r"val_mask is \[3\] of bool"),
    "list_mask": ({"val_mask": [True] * 4}, "val_mask is a list"),
    "float_type": ({"edge_type": torch.zeros(3)}, r"edge_type is \[3\] of float32"),
    "short_type": ({"edge_type": torch.zeros(2, dtype=torch.long)}, "for each of the 3 edges"),
    "minus_type": ({"edge_type": torch.tensor([0, -1, 1])}, "edge_type holds -1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_named(case: str) -> None:
    changes, said = WRONG[case]
    with pytest.raises(UserError, match=rf"^it returned a graph that does not fit together: .*{said}"):
        require_shape(make(**changes), "it returned", True)


def test_all_at_once() -> None:
    with pytest.raises(UserError, match="y has 2 rows for 4 nodes; edge_type holds -2"):
        require_shape(make(y=torch.zeros(2), edge_type=torch.tensor([-2, 0, 0])), "it returned", True)


def test_what_fits() -> None:
    require_shape(make(), "", True)
    require_shape(make(train_mask=torch.ones(4, 10, dtype=torch.bool), y=torch.zeros(4, 3)), "", True)
    require_shape(make(y=torch.tensor([1]), train_mask=None), "", False)  # of a whole graph
    require_shape(make(edge_index=torch.empty(2, 0, dtype=torch.long)), "", True)
    require_shape(make_hetero(), "", True)


CHANGES: dict[str, tuple[Callable[[HeteroData], Any], str]] = {
    "of_another_type": (lambda d: d["a", "to", "b"].edge_index.__setitem__((1, 0), 2), "a to b: edge_index has 1 edge"),
    "negative": (lambda d: d["a", "to", "b"].edge_index.__setitem__((0, 0), -2), "the first from -2 to 1"),
    "y": (lambda d: d["a"].__setitem__("y", torch.arange(2)), "a: y has 2 rows for 3 nodes"),
    "x": (lambda d: d["b"].__setitem__("x", torch.ones(5, 1)), "b: x has 5 rows for 2 nodes"),
    "mask": (lambda d: d["a"].__setitem__("val_mask", torch.ones(2, dtype=torch.bool)), r"a: val_mask is \[2\]"),
    "no_type": (
        lambda d: d["a", "to", "c"].__setitem__("edge_index", torch.zeros(2, 1).long()),
        "that is not there|unknown",
    ),
}


@pytest.mark.parametrize("case", CHANGES)
def test_each_type_has_its_own_count(case: str) -> None:
    change, said = CHANGES[case]
    data = make_hetero()
    change(data)
    with pytest.raises(UserError, match=said):
        require_shape(data, "it returned", True)
