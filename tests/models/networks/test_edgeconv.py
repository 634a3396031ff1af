"""EdgeConv: PyG's layer on the graph of each layer's own input, and what observations hold of these graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric import nn as pyg
from torch_geometric.data import Batch, Data
from torch_geometric.graphgym import register
from torch_geometric.graphgym.config import cfg, set_cfg
from torch_geometric.graphgym.model_builder import create_model
from yacs.config import CfgNode

from gkd_plugin.errors import UserError
from gkd_plugin.models.networks import GROUP, KEYS, NETWORKS
from gkd_plugin.models.networks.edgeconv import EdgeConvolution
from gkd_plugin.models.observed import ObservedModel
from gkd_plugin.models.sample import Sample
from gkd_plugin.models.stacked import find_own_ways
from tests.models.networks.network_oracles import slow_edgeconv_layers
from tests.space.knowledge.structure_oracle import graph_of, oracle, term

Make = Callable[..., ObservedModel]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """``make(k=3, layers_mp=2)`` is an observed network in float64 for graphs with 3 features and 4 classes."""
    for name, network in NETWORKS.items():
        monkeypatch.setitem(register.network_dict, name, network)

    def build(
        kind: str = "edgeconv", task: str = "graph", own: dict[str, Any] | None = None, **gnn: Any
    ) -> ObservedModel:
        cfg.clear()
        set_cfg(cfg)
        cfg[GROUP] = CfgNode({**{key.name: None for key in KEYS}, **(own or {})})
        cfg.model.type, cfg.gnn.head, cfg.dataset.task, cfg.model.graph_pooling = kind, task, task, "mean"
        for key, value in {"batchnorm": False, "l2norm": False, "dropout": 0.0, "act": "elu", **gnn}.items():
            cfg.gnn[key] = value
        torch.manual_seed(3)
        return ObservedModel(create_model(to_device=False, dim_in=3, dim_out=4).model.double(), cfg.clone())

    yield build
    cfg.clear()
    set_cfg(cfg)


def clouds(*sizes: int) -> Batch:
    torch.manual_seed(1)
    return Batch.from_data_list(
        [
            Data(
                x=torch.randn(size, 3, dtype=torch.float64),
                edge_index=torch.zeros(2, 0, dtype=torch.long),
                y=torch.tensor([number]),
            )
            for number, size in enumerate(sizes)
        ]
    )


def observe(model: ObservedModel, batch: Batch, *taps: str) -> Any:
    return model.observe(Sample(batch, model.task), taps)


def near(edges: Tensor, nodes: int) -> list[set[int]]:
    found: list[set[int]] = [set() for _ in range(nodes)]
    for u, v in edges.t().tolist():
        found[v].add(u)
    return found


@pytest.mark.parametrize("dim_in", [1, 3])
def test_a_layer_is_pygs_with_one_linear_map(dim_in: int) -> None:
    torch.manual_seed(2)
    ours = EdgeConvolution(dim_in, 5, True, 3, True).double()
    theirs = pyg.EdgeConv(nn.Linear(2 * dim_in, 5).double(), aggr="max")
    theirs.nn.load_state_dict(ours.model.state_dict())
    batch = clouds(6, 4)
    x = batch.x[:, :dim_in].clone().requires_grad_()
    batch.x = x
    found = ours(batch)
    expected = theirs(x, found.edge_index)
    torch.testing.assert_close(found.x, expected)
    weight = torch.randn_like(expected)
    assert torch.allclose(
        torch.autograd.grad((found.x * weight).sum(), x)[0],
        torch.autograd.grad((expected * weight).sum(), x)[0],
    )
    assert torch.autograd.gradcheck(lambda rows: ours.convolve(rows, found.edge_index), x)


@pytest.mark.parametrize("moving", [True, False])
@pytest.mark.parametrize("sizes", [(7, 7), (6, 9), (1, 5), (2, 3)])
def test_every_layer_is_observed_with_the_graph_it_used(make: Make, sizes: tuple[int, int], moving: bool) -> None:
    model, batch = make(own={"k": 3, "moving": moving}, layers_mp=3, dim_inner=6), clouds(*sizes)
    seen = observe(model, batch, "layer")
    expected = slow_edgeconv_layers(model.network, batch, {"k": 3, "moving": moving})
    assert len(seen.graphs) == 3
    for number, (rows, neighbours) in enumerate(expected[:-1], 1):
        torch.testing.assert_close(seen.layer("layer", number), rows)
        found = near(seen.graph_of(number).edge_index, sum(sizes))
        assert found == [{*each, v} for v, each in enumerate(neighbours)]
    assert seen.graph.edge_index.numel() == batch.edge_index.numel() == 0, "the batch is as it was"
    if sizes == (7, 7):
        first, second = (seen.graph_of(number).edge_index for number in (1, 2))
        assert torch.equal(first, second) != moving


@pytest.mark.parametrize("domain", ["edges", "union"])
def test_local_structure_of_two_networks_that_move_equals_loops(make: Make, domain: str) -> None:
    """Everything by loops: what both networks say, their neighbours in every layer, the pairs, the distributions."""
    batch, k, theirs = clouds(7, 4), 2, 4
    student = make(own={"k": k}, layers_mp=2, dim_inner=4)
    teacher = make(own={"k": theirs}, layers_mp=3, dim_inner=6)
    one = term(domain=domain, tap="layer", kernel="rbf", kernel_scale=2.0)
    weights = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 2.0]], dtype=torch.float64)
    found = one(observe(student, batch, "layer"), observe(teacher, batch, "layer"), weights)
    sides = []
    for model, near_by in ((student, k), (teacher, theirs)):
        layers = slow_edgeconv_layers(model.network, batch, {"k": near_by, "moving": True})
        graphs = [graph_of([(u, v) for v, each in enumerate(found) for u in each], 11) for _, found in layers]
        sides.append([(rows.tolist(), graph) for (rows, _), graph in zip(layers, graphs, strict=True)])
    wanted = sum(
        float(weights[i, j]) * oracle(one.group, sides[0][i], sides[1][j]) for i, j in weights.nonzero().tolist()
    )
    assert found.item() == pytest.approx(wanted, rel=1e-9)
    found.backward()
    assert all(p.grad is not None for p in student.network.mp.parameters())
    assert all(p.grad is None for p in teacher.network.parameters())


def test_graphs_are_taken_only_where_layers_are_read(make: Make) -> None:
    model = make(own={"k": 2}, layers_mp=2, dim_inner=4)
    assert observe(model, clouds(5)).graphs == ()
    assert len(observe(model, clouds(5), "conv", "stage").graphs) == 2
    fixed = make("gcn", layers_mp=2, dim_inner=4)
    seen = observe(fixed, clouds(5), "layer")
    assert seen.graphs == () and seen.graph_of(2) is seen.graph


def test_detaching_keeps_the_graphs(make: Make) -> None:
    seen = observe(make(own={"k": 2}, layers_mp=2, dim_inner=4), clouds(5), "layer")
    assert seen.detached().graphs == seen.graphs


def test_a_cloud_gives_the_same_in_any_batch(make: Make) -> None:
    model = make(own={"k": 4}, layers_mp=3, dim_inner=6)
    one, two = clouds(9, 5).to_data_list()
    both = observe(model, Batch.from_data_list([one, two])).logits
    alone = [observe(model, Batch.from_data_list([each])).logits for each in (one, two)]
    torch.testing.assert_close(both, torch.cat(alone))


def test_nodes_are_classified_too(make: Make) -> None:
    model, batch = make(task="node", own={"k": 3}, layers_mp=2, dim_inner=6), clouds(8)
    batch.y = torch.arange(8) % 4
    assert observe(model, batch, "layer").logits.shape == (8, 4)


def test_data_without_features_are_refused(make: Make) -> None:
    batch = clouds(4)
    batch.pos, batch.x = batch.x, None
    with pytest.raises(UserError, match="the data have no x. Give them in the loader; .*data.x = data.pos"):
        observe(make(own={"k": 3}, layers_mp=2, dim_inner=4), batch)


def test_networks_whose_graphs_move_run_alone(make: Make) -> None:
    assert "each network has edges of its own" in str(find_own_ways(make(own={"k": 2}, layers_mp=1)))
    assert find_own_ways(make("gcn", layers_mp=1)) is None


class Claims(nn.Module):
    """A user's network that says its graph moves, with layers that return tensors."""

    gkd_moving = True

    def __init__(self) -> None:
        super().__init__()
        self.mp = nn.Sequential(nn.Linear(3, 4))

    def forward(self, batch: Any) -> tuple[Tensor, Tensor]:
        return self.mp(batch.x), batch.y


def test_a_network_that_moves_must_leave_its_edges(make: Make) -> None:
    own = make().own
    model = ObservedModel(Claims().double(), own)
    with pytest.raises(UserError, match="says gkd_moving, but its layer 1 returns no batch with the edge_index"):
        observe(model, clouds(4), "layer")
