"""Examples cut from data, and what of a graph a network is found to read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch_geometric.data import Data

from gkd_plugin.config.load import read_config
from gkd_plugin.deploy.graphs import BATCH, PAIRS, choose_graph, find_inputs, make_examples, read_graphs
from tests import toy
from tests.deploy.test_program import build

pytestmark = pytest.mark.usefixtures("toy_data")


def test_examples_are_parts_of_the_data() -> None:
    data = toy.with_edge_features(toy.community(0))
    first, other = make_examples([data], "node")
    known = {tuple(row) for row in data.x.tolist()}
    edges = {(tuple(data.x[a].tolist()), tuple(data.x[b].tolist())) for a, b in data.edge_index.t().tolist()}
    for part in (first, other):
        assert {tuple(row) for row in part.x.tolist()} <= known and len(part.edge_attr) == part.num_edges
        assert {
            (tuple(part.x[a].tolist()), tuple(part.x[b].tolist())) for a, b in part.edge_index.t().tolist()
        } <= edges
    assert other.num_nodes > first.num_nodes and other.num_edges > first.num_edges > 0


def test_pairs_of_splits_and_nodes_without_features() -> None:
    first, other = make_examples([toy.links(0)], "edge")
    assert {"x", "edge_index", PAIRS} <= set(first.keys()) and not [key for key in first.keys() if "train" in key]
    assert int(other[PAIRS].max()) < other.num_nodes
    student = build(dataset={"task": "link_pred"}, model={"edge_decoding": "dot"})
    assert find_inputs(student, other, "edge") == ["x", "edge_index", PAIRS]
    data = toy.community(0)
    data.kind, data.num_nodes = torch.ones(48), 48
    del data.x

    class Bare(torch.nn.Module):
        def forward(self, graph: Data) -> torch.Tensor:
            return graph.kind[graph.edge_index[0]]

    assert find_inputs(Bare(), make_examples([data], "node")[1], "node") == ["edge_index", "kind"]  # type: ignore[arg-type]


@pytest.mark.parametrize("nodes", [1, 2])
def test_odd_data_give_examples(nodes: int) -> None:
    data = Data(x=torch.ones(nodes, 6), edge_index=torch.zeros(2, 0, dtype=torch.long))
    first, other = make_examples([data], "node")
    assert (first.num_nodes, other.num_nodes) == (nodes, 3 * nodes)
    first, other = make_examples([data], "graph")
    assert (first.num_graphs, other.num_graphs) == (4, 7)
    first, other = make_examples([data], "edge")
    assert int(other[PAIRS].max()) < other.num_nodes


def test_inputs_are_what_the_network_reads() -> None:
    data = toy.with_edge_features(toy.community(0))
    data.far = torch.randn(48, 2)
    assert find_inputs(build(), make_examples([data], "node")[1], "node") == ["x", "edge_index"]
    student = build(gnn={"layer_type": "generaledgeconv"}, dataset={"edge_dim": 4})
    assert find_inputs(student, make_examples([data], "node")[1], "node") == ["x", "edge_index", "edge_attr"]


def test_nodes_of_several_types_keep_their_tables() -> None:
    data = Data(num_nodes=12, y=torch.zeros(12).long(), edge_index=torch.randint(0, 12, (2, 40)))
    data.edge_type, data.node_type = torch.arange(40) % 4, torch.tensor([0] * 5 + [1] * 4 + [2] * 3)
    data.type_row = torch.tensor([*range(5), *range(4), *range(3)])
    data.x_0, data.x_1 = torch.randn(5, 7), torch.randn(4, 2)  # nodes of the last type have none
    first, other = make_examples([data], "node")
    assert torch.equal(first.x_0, data.x_0) and torch.equal(first.x_1, data.x_1)
    student = build([[7, 5], [2, 4], [0, 3]], model={"type": "rgcn"})
    read = ["edge_index", "x_0", "x_1", "edge_type", "node_type", "type_row"]
    assert sorted(find_inputs(student, other, "node")) == sorted(read)
    whole = student(data)
    for nodes in (
        torch.tensor([0, 5, 9]),
        torch.tensor([11, 6, 1]),
    ):  # without edges each node is mapped by its own row
        part = Data(num_nodes=3, edge_index=torch.zeros(2, 0, dtype=torch.long), edge_type=torch.zeros(0).long())
        part.node_type, part.type_row, part.x_0, part.x_1 = (
            data.node_type[nodes],
            data.type_row[nodes],
            data.x_0,
            data.x_1,
        )
        bare = Data(**{**data.to_dict(), "edge_index": part.edge_index, "edge_type": part.edge_type})
        torch.testing.assert_close(student(part), student(bare)[nodes])
    assert whole.shape == (12, 3)


def test_the_graphs_are_those_of_the_test_split(tmp_path: Path) -> None:
    own = read_config(toy.values()).cfg
    (graph,) = read_graphs(own, 1, tmp_path)
    assert torch.equal(graph.x, toy.community(0).x) and int(graph.test_mask.sum()) == 16
    many = read_config(toy.values(dataset={"name": "many"})).cfg
    assert all(graph.num_nodes == 30 for graph in read_graphs(many, 1, tmp_path))


def test_one_pass_reads_a_graph_or_a_batch() -> None:
    graphs = [toy.community(seed, nodes=12) for seed in range(3)]
    assert choose_graph(graphs[:1], "node")[1].startswith("the whole graph (12 nodes, ")
    assert choose_graph(graphs, "node")[1].startswith("the first test graph (12 nodes")
    batch, text = choose_graph(graphs, "graph")
    assert batch.num_graphs == 3 and text.startswith("a batch of 3 test graphs (36 nodes")
    graph, text = choose_graph(graphs, "edge")
    assert graph[PAIRS].shape == (2, BATCH) and PAIRS not in graphs[0] and "64 pairs" in text
