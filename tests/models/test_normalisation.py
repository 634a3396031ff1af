"""The remembered normalisation is the computed one bit for bit, and only ever serves the graph it belongs to."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch_geometric.data import Batch, Data
from torch_geometric.graphgym.model_builder import create_model
from torch_geometric.nn import GCNConv

import gkd_plugin  # noqa: F401
from gkd_plugin import host
from gkd_plugin.host import cfg
from gkd_plugin.models import normalisation
from gkd_plugin.models.normalisation import find_convolutions, normalised_once
from gkd_plugin.models.observed import ObservedModel
from gkd_plugin.models.sample import Sample
from gkd_plugin.space.observation import Task

EDGES = torch.tensor([[0, 1, 2, 2, 3, 3], [1, 0, 0, 2, 1, 1]])
OTHER = torch.tensor([[0, 3], [3, 0]])
X = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))


class Memo(dict):
    def remember(self, key, compute):
        if key not in self:
            self[key] = compute()
        return self[key]


@pytest.fixture
def counted(monkeypatch):
    """How often a graph was really normalised, by our memo or by a layer."""
    calls = []
    plain = normalisation.gcn_norm

    def counting(*args, **kwargs):
        calls.append(args[0])
        return plain(*args, **kwargs)

    monkeypatch.setattr(normalisation, "gcn_norm", counting)
    monkeypatch.setattr("torch_geometric.nn.conv.gcn_conv.gcn_norm", counting)
    return calls


@pytest.mark.parametrize(
    "options", [{}, {"improved": True}, {"add_self_loops": False}, {"flow": "target_to_source"}, {"bias": False}]
)
@pytest.mark.parametrize("edges", [EDGES, EDGES[:, :0], EDGES[:, 3:4]])
def test_outputs_and_gradients_are_equal_to_the_last_bit(options, edges, counted):
    conv, memo = GCNConv(4, 3, **options), Memo()
    plain = conv(X, edges)
    plain.square().sum().backward()
    gradient = conv.lin.weight.grad.clone()
    conv.lin.weight.grad = None
    del counted[:]
    for _ in range(3):
        with normalised_once([conv], edges, memo.remember):
            found = conv(X, edges)
    found.square().sum().backward()
    assert torch.equal(found, plain) and torch.equal(conv.lin.weight.grad, gradient)
    assert len(counted) == 1


def test_layers_that_normalise_alike_share_and_others_do_not(counted):
    convs, memo = [GCNConv(4, 4), GCNConv(4, 4), GCNConv(4, 4, improved=True)], Memo()
    with normalised_once(convs, EDGES, memo.remember):
        found = [conv(X, EDGES) for conv in convs] + [convs[0](X.double()[:, :4].float(), edge_index=EDGES)]
    assert len(counted) == 2 and len(memo) == 2
    for seen, conv in zip(found, [*convs, convs[0]], strict=True):
        assert torch.equal(seen, conv(X, EDGES))


@pytest.mark.parametrize(
    ("edges", "weight"), [(OTHER, None), (EDGES.clone(), None), (EDGES, torch.rand(6, requires_grad=True))]
)
def test_other_edges_and_weights_are_normalised_by_the_layer(edges, weight):
    conv, memo = GCNConv(4, 3), Memo()
    with normalised_once([conv], EDGES, memo.remember):
        conv(X, EDGES)
        found = conv(X, edges, weight)
    assert torch.equal(found, conv(X, edges, weight))
    if weight is not None:
        found.sum().backward()
        assert bool(weight.grad.any())


def test_edges_that_were_written_into_are_normalised_anew():
    edges, conv, memo = EDGES.clone(), GCNConv(4, 3), Memo()
    with normalised_once([conv], edges, memo.remember):
        conv(X, edges)
        edges[:, 0] = torch.tensor([3, 2])
        found = conv(X, edges)
    assert torch.equal(found, conv(X, edges))


def test_nothing_is_left_in_a_layer(counted):
    conv, memo = GCNConv(4, 3), Memo()
    with pytest.raises(RuntimeError), normalised_once([conv], EDGES, memo.remember):
        conv(conv(X, EDGES), EDGES)  # of another width
    assert conv._cached_edge_index is None and not conv._forward_pre_hooks
    assert torch.equal(copy.deepcopy(conv)(X, OTHER), conv(X, OTHER))
    pickle.dumps(conv)


def test_layers_of_another_kind_are_left_alone():
    class Own(GCNConv):
        def forward(self, x, edge_index):
            return x

    plain = GCNConv(4, 3)
    network = torch.nn.ModuleList([plain, GCNConv(4, 3, cached=True), GCNConv(4, 3, normalize=False), Own(4, 3)])
    assert find_convolutions(network) == [plain]


@pytest.mark.parametrize("network", ["gnn", "gcn"])
def test_a_network_normalises_a_sample_once_and_another_one_anew(network, counted):
    cfg.share.dim_in, cfg.share.dim_out, cfg.accelerator, cfg.gnn.head = 4, 3, "cpu", "node"
    cfg.model.type, cfg.gnn.layers_mp, cfg.gnn.layer_type, cfg.gnn.dim_inner = network, 2, "gcnconv", 8
    cfg.gnn.stage_type = "stack"
    model = ObservedModel(create_model(to_device=False).eval(), host.snapshot())
    samples = []
    for edges in (EDGES, OTHER):
        batch = Batch.from_data_list([Data(x=X, edge_index=edges, y=torch.zeros(5, dtype=torch.long))])
        samples.append(Sample(batch, Task("node", "multiclass")))
    plain = [model.module(copy.copy(sample.batch))[0] for sample in samples]
    del counted[:]
    for _ in range(2):
        for sample, expected in zip(samples, plain, strict=True):
            assert torch.equal(model.observe(sample).logits, expected)
    assert len(counted) == 2
