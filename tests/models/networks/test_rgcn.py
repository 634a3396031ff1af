"""The relational convolution against PyG's own, odd relations, and what is refused; its equation is in test_network.py."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.graphgym.config import cfg, set_cfg
from torch_geometric.nn import RGCNConv

from gkd_plugin.errors import UserError
from gkd_plugin.models.networks.rgcn import RGCN, Links, OnRelations, RelationalConv
from gkd_plugin.models.observed import ObservedModel, Request
from gkd_plugin.models.sample import Sample
from gkd_plugin.models.stacked import observe_stacked
from gkd_plugin.space.observation import Task


@pytest.fixture(autouse=True)
def _fresh_cfg() -> Iterator[None]:
    cfg.clear()
    set_cfg(cfg)
    yield
    cfg.clear()
    set_cfg(cfg)


def build(relations: int = 3, dim_in: int = 4, **gnn: Any) -> nn.Module:
    cfg.model.type, cfg.share.relations = "rgcn", relations
    for key, value in {"layers_mp": 1, "dim_inner": 8, "batchnorm": False, "l2norm": False, **gnn}.items():
        cfg.gnn[key] = value
    return RGCN(dim_in, 2)


def graph(kinds: Tensor | None, nodes: int = 5) -> Data:
    torch.manual_seed(2)
    count = 7 if kinds is None else kinds.size(0)
    data = Data(x=torch.randn(nodes, 4), edge_index=torch.randint(0, nodes, (2, count)), y=torch.zeros(nodes).long())
    if kinds is not None:
        data.edge_type = kinds
    return data


@given(
    st.integers(1, 6).flatmap(
        lambda nodes: st.tuples(
            st.just(nodes),
            st.lists(st.tuples(*[st.integers(0, nodes - 1)] * 2, st.integers(0, 2)), max_size=12),
        )
    ),
    st.sampled_from([{}, {"num_bases": 2}, {"num_blocks": 2}]),
)
@settings(deadline=None, max_examples=80)
def test_numbers_and_gradients_are_pygs(problem: tuple[int, list[tuple[int, int, int]]], how: dict[str, int]) -> None:
    nodes, edges = problem
    theirs, ours = (kind(4, 6, 4, **how).double() for kind in (RGCNConv, RelationalConv))  # relation 3 never occurs
    ours.load_state_dict(theirs.state_dict())
    table = torch.tensor(edges, dtype=torch.long).view(-1, 3).t()
    x = torch.randn(nodes, 4, dtype=torch.float64, requires_grad=True)
    factor = torch.randn(nodes, 6, dtype=torch.float64)
    found = []
    for out, layer in (
        (theirs(x, table[:2], table[2]), theirs),
        (ours(x, Links.of(table[:2], table[2], nodes, 4, x)), ours),
    ):
        wanted = [x, *layer.parameters()]
        grads = torch.autograd.grad((out * factor).sum(), wanted, allow_unused=True)
        found.append([out, *(torch.zeros_like(w) if g is None else g for w, g in zip(wanted, grads, strict=True))])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_a_graph_may_lack_relations_and_edges() -> None:
    network = build(relations=5).eval()
    some = graph(torch.tensor([4, 4, 0]))
    assert network(some.clone())[0].isfinite().all()
    none = graph(torch.empty(0, dtype=torch.long))
    alone = network(none.clone())[0]
    first, last = network.mp.layer0.layer.model, network.post_mp.layer_post_mp.model
    hidden = (none.x @ first.root + first.bias).relu()
    torch.testing.assert_close(alone, hidden @ last.root + last.bias)


def test_edges_are_read_anew_when_they_change() -> None:
    network = build().eval()
    data = graph(torch.tensor([0, 1, 2, 0, 1]))
    before = network(data.clone())[0]
    same = data.clone()
    first = network(same)[0]
    assert torch.equal(first, before)
    same.x = data.x
    same.edge_type[:] = torch.tensor([1, 1, 2, 0, 1])  # in place
    second = network(same)[0]
    fresh = data.clone()
    fresh.edge_type = same.edge_type.clone()
    assert torch.equal(second, network(fresh)[0])
    assert not torch.equal(second, before)


@pytest.mark.parametrize(
    ("kinds", "told"),
    [
        (None, "reads the relation of every edge (edge_type, [edges], whole numbers from 0)"),
        (torch.tensor([0, 1, 3]), "was built for 3 relations, but this graph has edges of type 0 to 3"),
        (torch.tensor([-1, 1, 2]), "was built for 3 relations, but this graph has edges of type -1 to 2"),
        (torch.zeros(3, 1).long(), "reads the relation of every edge"),
    ],
)
def test_a_graph_whose_edges_do_not_fit_is_refused(kinds: Tensor | None, told: str) -> None:
    network = build()
    with pytest.raises(UserError, match=re.escape(told)):
        network(graph(kinds))


def test_data_without_relations_are_refused_when_the_network_is_built() -> None:
    cfg.dataset.name = "Cora"
    with pytest.raises(UserError, match=r"the edges of 'Cora' have no types \(edge_type\).*AIFB"):
        build(relations=0)


def test_the_sizes_of_the_pair_of_ogbn_mag() -> None:
    """3 x 512 and 2 x 32 over 128 features, 7 relations and 349 classes."""
    per = 7 + 1  # a matrix for each relation, and the node's own
    for layers, width, hidden in ((2, 512, 128 * 512 + 512**2), (1, 32, 128 * 32)):
        cfg.model.type, cfg.share.relations = "rgcn", 7
        for key, value in {"layers_mp": layers, "dim_inner": width, "batchnorm": False, "l2norm": False}.items():
            cfg.gnn[key] = value
        count = sum(p.numel() for p in RGCN(128, 349).parameters())
        assert count == per * (hidden + width * 349) + layers * width + 349


def test_stands_in_the_hosts_batch_as_a_layer() -> None:
    data = graph(torch.tensor([0, 1, 2]))
    layer = OnRelations(RelationalConv(4, 2, 3))
    assert layer(data) is data
    assert data.x.shape == (5, 2)


def test_several_run_in_one_pass() -> None:
    """Node types, relations and features that are mostly 0, under ``torch.vmap`` and alone."""
    cfg.share.node_types, cfg.dataset.task, cfg.dataset.task_type, cfg.share.dim_out = (
        [[40, 3], [0, 2]],
        "node",
        "classification",
        2,
    )
    torch.manual_seed(1)
    data = Data(num_nodes=5, y=torch.zeros(5).long(), edge_index=torch.randint(0, 5, (2, 9)))
    data.edge_type, data.type_row = torch.arange(9) % 3, torch.tensor([0, 1, 2, 0, 1])
    data.node_type, data.x_0 = torch.tensor([0, 0, 0, 1, 1]), (torch.rand(3, 40) > 0.95).float()
    sample = Sample(Batch.from_data_list([data]), Task("node", "multiclass"), fixed=True)
    models = [ObservedModel(build(), cfg.clone()) for _ in range(2)]
    together = observe_stacked([Request(model, sample, ("conv",)) for model in models])
    for model, seen in zip(models, together, strict=True):
        alone = model.observe(sample, ("conv",))
        torch.testing.assert_close(seen.logits, alone.logits)
        torch.testing.assert_close(seen.layer("conv", 1), alone.layer("conv", 1))
        weights = list(model.module.parameters())
        grads = [torch.autograd.grad(each.logits.square().sum(), weights, retain_graph=True) for each in (seen, alone)]
        for one, other in zip(*grads, strict=True):
            torch.testing.assert_close(one, other)
    assert sample.graph("train").edge_type is sample.batch.edge_type
