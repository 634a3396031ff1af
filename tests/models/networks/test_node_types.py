"""The first layer by type against a loop over nodes, whole graphs and parts of them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.graphgym import register
from torch_geometric.graphgym.config import cfg, set_cfg

from gkd_plugin.models.networks import NETWORKS
from gkd_plugin.models.networks.node_types import NodeTypeInput, find_places

TYPES = [[4, 3], [0, 2], [30, 4]]  # dense features, none, mostly zeros


def graph(order: Tensor | None = None) -> Data:
    torch.manual_seed(5)
    data = Data(num_nodes=9, y=torch.arange(9) % 2, edge_index=torch.randint(0, 9, (2, 20)))
    data.edge_type = torch.arange(20) % 3
    data.node_type = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2])
    data.type_row = torch.tensor([0, 1, 2, 0, 1, 0, 1, 2, 3])
    data.x_0, data.x_2 = torch.randn(3, 4), (torch.rand(4, 30) > 0.95).float()
    if order is not None:
        data.node_type, data.type_row = data.node_type[order], data.type_row[order]
        data.num_nodes = len(order)
    return data


def slow(layer: NodeTypeInput, data: Data) -> Tensor:
    rows = []
    for kind, row in zip(data.node_type.tolist(), data.type_row.tolist(), strict=True):
        part = layer.types[kind]
        rows.append(part.weight[row] if kind == 1 else part.weight @ data[f"x_{kind}"][row] + part.bias)
    return torch.stack(rows)


@pytest.mark.parametrize("order", [None, [8, 0, 3, 1, 5, 2, 7, 4, 6], [4, 8, 2], [3], [6, 5, 5]])
def test_each_node_is_mapped_by_its_type(order: list[int] | None) -> None:
    data = graph(None if order is None else torch.tensor(order))
    layer = NodeTypeInput(TYPES, 6)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn_like(parameter))
    found, wanted = layer(copy.copy(data)).x, slow(layer, data)
    torch.testing.assert_close(found, wanted)
    weights = list(layer.parameters())
    factor = torch.randn_like(found)
    grads = [torch.autograd.grad((out * factor).sum(), weights, allow_unused=True) for out in (found, wanted)]
    for one, other in zip(*grads, strict=True):
        nothing = torch.zeros(())  # a type that no node has
        torch.testing.assert_close((nothing if one is None else one).sum(), (nothing if other is None else other).sum())
        if one is not None and other is not None:
            torch.testing.assert_close(one, other)


def test_places_of_whole_tables_are_not_gathered() -> None:
    data = graph()
    assert find_places(data.node_type, data.type_row, [3, 2, 4]) == ([None, None, None], None)
    chosen, order = find_places(data.node_type.flip(0), data.type_row.flip(0), [3, 2, 4])
    assert [rows.tolist() for rows in chosen] == [[2, 1, 0], [1, 0], [3, 2, 1, 0]]
    assert order is not None and order.tolist() == [5, 6, 7, 8, 3, 4, 0, 1, 2]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    cfg.clear()
    set_cfg(cfg)
    cfg.share.relations, cfg.share.node_types = 3, TYPES
    cfg.gnn.batchnorm = cfg.gnn.l2norm = False
    yield
    cfg.clear()
    set_cfg(cfg)


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_network_of_ours_reads_types(kind: str, typed: Any) -> None:
    cfg.model.type, cfg.gnn.dim_inner, cfg.gnn.layers_mp = kind, 8, 2
    network = NETWORKS[kind](1, 2)
    pred, _ = network(copy.copy(graph()))
    assert pred.shape == (9, 2) and pred.isfinite().all()
    pred.sum().backward()
    assert all(layer.weight.grad is not None for layer in network.encoder.types)


def test_an_encoder_of_the_users_own_comes_first(typed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(torch.nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.width = width

        def forward(self, batch: Any) -> Any:
            batch.x = batch.type_row.float().view(-1, 1).expand(-1, self.width)
            return batch

    monkeypatch.setitem(register.node_encoder_dict, "own", Own)
    cfg.dataset.node_encoder, cfg.dataset.node_encoder_name, cfg.dataset.node_encoder_bn = True, "own", False
    cfg.model.type, cfg.gnn.dim_inner, cfg.gnn.layers_mp = "mlp", 8, 1
    network = NETWORKS["mlp"](1, 2)
    assert not isinstance(network.encoder, NodeTypeInput)
    assert network(copy.copy(graph()))[0].shape == (9, 2)
