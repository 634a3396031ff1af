"""The hash of the data that a result depends on, and its changes in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric.loader import DataLoader

from gkd_plugin.training.depends import describe_change, digest_data
from tests import toy
from tests.toy import swap_masks


def drop_edge(data: Any) -> None:
    data.edge_index = data.edge_index[:, 1:]


def nudge(data: Any) -> None:
    data.x[0, 0] = torch.nextafter(data.x[0, 0], torch.tensor(9.0))


def relabel(data: Any) -> None:
    data.y[0] += 1


def sparse(value: float) -> Callable[[Any], None]:
    def change(data: Any) -> None:
        where = torch.tensor([[0], [1]])
        data.adj_t = torch.sparse_coo_tensor(where, torch.tensor([value]), (2, 2), check_invariants=True)

    return change


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (None, None, True),
        (None, drop_edge, False),
        (None, nudge, False),
        (None, relabel, False),
        (None, swap_masks, False),
        (sparse(1.0), sparse(1.0), True),
        (sparse(1.0), sparse(2.0), False),
        (lambda data: data.update({"note": object()}), lambda data: data.update({"note": object()}), True),
        (lambda data: data.update({"a": np.arange(3)}), lambda data: data.update({"a": np.ones(3)}), False),
    ],
)
@pytest.mark.parametrize("kind", [toy.Toy, list])
def test_the_hash_of_data_is_that_of_every_tensor(kind: Any, one: Any, other: Any, same: bool) -> None:
    def digest(change: Any) -> str:
        data = toy.community(0)
        if change is not None:
            change(data)
        if kind is toy.Toy and "adj_t" in data:  # PyG does not collate sparse tensors of torch
            loader = DataLoader([data])
            return digest_data([loader, loader])
        return digest_data([DataLoader(kind([data]))] * 2)

    assert (digest(one) == digest(other)) == same


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ({}, {"data": "a"}, None),
        ({"data": "a"}, {}, None),
        ({"data": "a"}, {"data": "a", "teachers": {"t": "b"}}, None),
        ({"data": "a"}, {"data": "b"}, "its data set (features, labels, edges or splits) has changed since"),
        (
            {"data": "a", "teachers": {"t": "a", "u": "a"}},
            {"data": "b", "teachers": {"t": "b", "u": "a"}},
            "its data set (features, labels, edges or splits) and its teacher 't' have changed since",
        ),
    ],
)
def test_changes_in_words(before: Any, now: Any, expected: str | None) -> None:
    assert describe_change(before, now) == expected
