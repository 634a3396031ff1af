"""Modules of a user's own: what they are called with, and what gives them new weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.graphgym import register
from torch_geometric.nn import GCN, MessageNorm

from gkd_plugin.errors import UserError
from gkd_plugin.models.own import call_module, find_lasting, match_parts, offering, require_whole, reset
from tests import toy


class Asks(nn.Module):
    def forward(
        self, x: Tensor, edge_index: Tensor, edge_attr: Tensor | None = None, batch: Tensor | None = None, n: int = 2
    ) -> tuple[object, ...]:
        return x, edge_index, edge_attr, batch, n


def test_arguments_are_what_the_batch_has_under_their_names() -> None:
    batch = Batch.from_data_list([toy.with_edge_features(toy.community(1)), toy.with_edge_features(toy.community(2))])
    node, graph = (call_module(Asks(), batch, level) for level in ("node", "graph"))
    assert node[0] is batch.x and node[1] is batch.edge_index and node[2] is batch.edge_attr
    assert node[3] is None and graph[3] is batch.batch and node[4] == 2
    with pytest.raises(UserError, match="student=: forward of the module asks for z"):
        call_module(Wants(), batch, "node", "student=")


class Wants(nn.Module):
    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return x + z


class Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        self.scale = MessageNorm(learn_scale=True)
        self.free = nn.Parameter(torch.ones(2))


def test_new_weights_come_from_the_parts() -> None:
    module = Parts()
    before = {name: value.clone() for name, value in module.named_parameters()}
    with torch.no_grad():
        module.first[1].weight.fill_(7)
    reset(module)
    assert not torch.equal(module.first[0].weight, before["first.0.weight"])
    assert torch.equal(module.first[1].weight, torch.ones(3)) and torch.equal(module.free, before["free"])
    assert find_lasting(module) == ["free"]
    assert find_lasting(GCN(3, 4, num_layers=2)) == []


def test_a_network_of_the_host_for_a_while() -> None:
    module, data = GCN(6, 4, num_layers=1, out_channels=2), toy.community(1, classes=2)
    before, known = module.state_dict()["convs.0.lin.weight"].clone(), dict(register.network_dict)
    with offering("mine", module, "node", True):
        torch.manual_seed(1)
        network = register.network_dict["mine"](dim_in=6, dim_out=1)
        logits, labels = network(Batch.from_data_list([data]))
    assert register.network_dict == known
    assert logits.shape == (48, 1) and torch.equal(labels, data.y)
    pair = network.model(data.x, data.edge_index)
    torch.testing.assert_close(logits.sigmoid()[:, 0], pair.softmax(dim=1)[:, 1])
    assert torch.equal(module.state_dict()["convs.0.lin.weight"], before)
    assert not torch.equal(network.model.state_dict()["convs.0.lin.weight"], before)


def test_patterns_mean_entries() -> None:
    module = GCN(6, 4, num_layers=3)
    assert match_parts(module, "convs.*", "layers=", "it") == list(module.convs)
    assert match_parts(module, "convs.[12]", "layers=", "it") == list(module.convs)[1:]
    with pytest.raises(UserError, match="layers=: no part of it is called 'conv'. Did you mean 'convs'"):
        match_parts(module, "conv", "layers=", "it")


def test_students_without_size() -> None:
    with pytest.raises(UserError, match="have no size yet"):
        require_whole(GCN(-1, 4, num_layers=1))
    with pytest.raises(UserError, match="no parameter to train"):
        require_whole(nn.Dropout())
