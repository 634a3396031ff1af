"""Multiply-adds and memory against numbers by hand; of times only their order and shape."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch_geometric.data import Data

from gkd_plugin.deploy.cost import WARM_UP, count_bytes, count_work, measure_peak, time_in_turns
from tests.deploy.test_program import build

pytestmark = pytest.mark.usefixtures("toy_data")
CPU = torch.device("cpu")


def graph() -> Data:
    """Five nodes, six edges, none of which is a self-loop."""
    edges = torch.tensor([[0, 1, 1, 2, 3, 0], [1, 0, 2, 1, 0, 3]])
    return Data(x=torch.randn(5, 6), edge_index=edges)


N, E, IN, HIDDEN, OUT = 5, 6, 6, 8, 3
DENSE = N * (IN * HIDDEN + HIDDEN * HIDDEN + HIDDEN * OUT)


@pytest.mark.parametrize(
    ("kind", "dense", "messages"),
    [
        ("mlp", DENSE, 0),
        # with self-loops each layer sends its width along 11 edges, and counts degrees over them
        ("gcn", DENSE, 11 * (HIDDEN + HIDDEN + OUT) + 3 * 11),
        # the same degrees once, then a sparse product in each of two layers of the inner width
        ("gcnii", N * (IN * HIDDEN + 2 * HIDDEN * HIDDEN + HIDDEN * OUT), None),
        # two maps a layer; means over neighbours are sums and counts of what is sent (the layer's input)
        ("sage", 2 * DENSE, E * (IN + HIDDEN + HIDDEN) + 3 * E),
    ],
)
def test_multiply_adds_are_those_by_hand(kind: str, dense: int, messages: int | None) -> None:
    student = build(model={"type": kind})
    work = count_work(lambda: student(graph()))
    assert work.dense == dense
    if messages is not None:
        assert work.messages == messages


def test_a_sparse_product_counts_its_entries() -> None:
    sparse = torch.tensor([[0.0, 2.0, 0.0], [1.0, 0.0, 3.0]]).to_sparse_csr()
    assert count_work(lambda: sparse @ torch.ones(3, 4)).__dict__ == {"dense": 0, "messages": 3 * 4}
    coordinates = torch.eye(3).to_sparse_coo()
    assert count_work(lambda: torch.sparse.mm(coordinates, torch.ones(3, 5))).messages == 3 * 5
    bias = torch.ones(7)
    assert count_work(lambda: torch.addmm(bias, torch.ones(2, 3), torch.ones(3, 7))).dense == 2 * 3 * 7


def test_peak_memory_is_what_is_alive_at_once() -> None:
    start = torch.ones(1000)

    def work() -> torch.Tensor:
        first = start + 1  # 4,000 bytes
        second = first + 1  # 8,000
        del first  # 4,000
        seen = second.view(10, 100).add_(1)  # the same memory
        return torch.cat([seen, seen])  # 12,000

    assert measure_peak(work, CPU) == 12_000
    assert measure_peak(lambda: start.view(10, 100), CPU) == 0


def test_bytes_are_those_of_parameters_and_buffers() -> None:
    assert count_bytes(nn.BatchNorm1d(4)) == 4 * (4 * 4) + 8
    assert count_bytes(nn.Linear(3, 2).double()) == 8 * 8


def test_passes_take_turns() -> None:
    order: list[str] = []
    calls: dict[str, Any] = {name: lambda name=name: order.append(name) for name in "ab"}
    found = time_in_turns(calls, CPU, seconds=0.0)
    assert order == ["a", "b"] * (WARM_UP + 3)
    for timing in found.values():
        assert timing.count == 3 and 0 <= timing.low <= timing.median <= timing.high
