"""The counts of a data set against loops over its graphs, and against PyG's own functions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch_geometric.data import Data, InMemoryDataset
from torch_geometric.utils import contains_isolated_nodes, contains_self_loops, homophily, is_undirected

from gkd_plugin.data.relations import make_homogeneous
from gkd_plugin.data.split_graphs import OwnSplit, SplitGraphs
from gkd_plugin.data.summary import DataSummary, Labels, summarize
from tests.data.test_relations import Loaded, library


class Several(InMemoryDataset):
    def __init__(self, graphs: list[Data]) -> None:
        super().__init__()
        self.data, self.slices = self.collate(graphs)


def make(nodes: int, edges: list[tuple[int, int]], y: Any, x: Any = None, **more: Any) -> Data:
    index = torch.tensor(edges, dtype=torch.long).view(-1, 2).t().contiguous()
    features = torch.arange(2.0 * nodes).view(nodes, 2) if x is None else torch.tensor(x, dtype=torch.float)
    return Data(x=features, edge_index=index, y=torch.as_tensor(y), **more)


def count_by_loop(graphs: list[Data]) -> dict[str, Any]:
    loops = repeated = isolated = edges = nodes = 0
    both_ways = True
    for graph in graphs:
        pairs = [tuple(pair) for pair in graph.edge_index.t().tolist()]
        loops += sum(a == b for a, b in pairs)
        repeated += len(pairs) - len(set(pairs))
        touched = {node for a, b in pairs if a != b for node in (a, b)}
        isolated += graph.num_nodes - len(touched)
        both_ways &= all((b, a) in pairs for a, b in pairs)
        edges += len(pairs)
        nodes += graph.num_nodes
    return {
        "nodes": nodes,
        "edges": edges,
        "self_loops": loops,
        "repeated_edges": repeated,
        "isolated_nodes": isolated,
        "undirected": both_ways,
    }


ODD = [
    make(4, [(0, 1), (1, 0), (0, 1), (2, 2)], [0, 1, 0, 0]),
    make(1, [], [1]),
    make(3, [(0, 2), (2, 0)], [0, 2, 2]),
    make(2, [(0, 0), (0, 0)], [0, 2]),
]


@pytest.mark.parametrize("graphs", [ODD, ODD[:1], ODD[1:2], ODD[2:3], ODD[3:], ODD[1:3], [ODD[1], ODD[1]]])
def test_graphs_against_a_loop(graphs: list[Data]) -> None:
    found = summarize(Several(graphs))
    expected = {"graphs": len(graphs), **count_by_loop(graphs)}
    assert {key: getattr(found, key) for key in expected} == expected
    if len(graphs) == 1:
        (graph,) = graphs
        if not found.repeated_edges:  # which PyG wants as often the other way
            assert found.undirected == is_undirected(graph.edge_index, num_nodes=graph.num_nodes)
        assert bool(found.self_loops) == contains_self_loops(graph.edge_index)
        # PyG's counts a node with a self-loop alone as isolated, as ours does
        assert bool(found.isolated_nodes) == contains_isolated_nodes(graph.edge_index, graph.num_nodes)
        if graph.num_edges:
            assert found.homophily == pytest.approx(homophily(graph.edge_index, graph.y, method="edge"))
        else:
            assert found.homophily is None


def test_a_random_graph_against_pyg() -> None:
    torch.manual_seed(0)
    graph = make(50, [], torch.randint(0, 4, (50,)))
    graph.edge_index = torch.randint(0, 50, (2, 300))
    found = summarize(Several([graph]))
    assert found.homophily == pytest.approx(homophily(graph.edge_index, graph.y, method="edge"))
    expected = count_by_loop([graph])
    assert {key: getattr(found, key) for key in expected} == expected


def test_one_relation_does_not_repeat_another() -> None:
    graph = make(2, [(0, 1), (0, 1), (0, 1)], [0, 1], edge_type=torch.tensor([0, 1, 1]))
    found = summarize(Several([graph]))
    assert (found.repeated_edges, found.edge_types) == (1, 2)


def test_features() -> None:
    x = [[0.0, 1.0], [-0.0, 1.0], [2.0, float("nan")], [0.0, 1.0], [float("inf"), 0.0]]
    found = summarize(Several([make(5, [], [0] * 5, x)]))
    assert (found.features, found.feature_type, found.repeated_rows, found.bad_features) == (2, "float32", 2, 2)
    assert found.nonzero == 6 / 10
    bare = Data(edge_index=torch.tensor([[0], [1]]), y=torch.tensor([0, 1]), num_nodes=2)
    found = summarize(Several([bare]))
    assert (found.features, found.feature_type, found.nodes, found.edges) == (0, "", 2, 1)
    found = summarize(Several([bare, bare]))
    assert (found.graphs, found.nodes, found.undirected) == (2, 4, False)


@pytest.mark.parametrize(
    ("y", "task", "kind", "width", "counts", "missing"),
    [
        (torch.tensor([0, 1, 1, 2]), "node", "classification", 3, (1, 2, 1), 0),
        (torch.tensor([0, -1, 1, 1]), "node", "classification", 2, (1, 2), 1),
        (torch.tensor([[0], [1], [1], [2]]), "node", "classification", 3, (1, 2, 1), 0),
        (torch.tensor([0.0, 1.0, 1.0, 0.0]), "node", "classification", 2, (2, 2), 0),
        (torch.tensor([0.5, 1.0, 1.0, float("nan")]), "node", "regression", 1, (), 1),
        (torch.tensor([3.0, 1.0, 1.0, 0.0]), "node", "regression", 1, (), 0),
        (torch.eye(4)[:, :3], "node", "classification_multilabel", 3, (1, 1, 1), 0),
        (torch.tensor([[1.0, float("nan")]] * 4), "node", "classification_multilabel", 2, (4, 0), 4),
        (torch.rand(4, 2), "node", "regression", 2, (), 0),
    ],
)
def test_kinds_of_labels(y: Any, task: str, kind: str, width: int, counts: tuple[int, ...], missing: int) -> None:
    labels = summarize(Several([make(4, [(0, 1)], y)])).labels
    assert labels is not None
    assert (labels.task, labels.task_type, labels.width, labels.counts, labels.missing) == (
        task,
        kind,
        width,
        counts,
        missing,
    )


def test_labels_of_graphs_and_none_at_all() -> None:
    graphs = [make(3, [(0, 1)], torch.tensor([number % 2])) for number in range(5)]
    labels = summarize(Several(graphs)).labels
    assert labels is not None and (labels.task, labels.width, labels.counts) == ("graph", 2, (3, 2))
    numbers = summarize(Several([make(3, [], torch.tensor([[0.3]])) for _ in range(5)])).labels
    assert numbers is not None and (numbers.task, numbers.task_type) == ("graph", "regression")
    bare = make(3, [], [0] * 3)
    del bare.y
    found = summarize(Several([bare]))
    assert found.labels is None and found.homophily is None and found.absent == {}


def test_splits_and_the_classes_they_lack() -> None:
    cut = torch.tensor([0, 0, 1, 1, 2])
    masks = {f"{part}_mask": cut == number for number, part in enumerate(("train", "val", "test"))}
    found = summarize(Several([make(5, [(0, 1)], [0, 1, 0, 1, 2], **masks)]))
    assert found.splits == {"train": 2, "val": 2, "test": 1}
    assert found.absent == {"train": (2,), "val": (2,), "test": (0, 1)}
    graphs = {"train": ODD[:2], "val": ODD[2:3], "test": ODD[3:]}
    for kind in (SplitGraphs, OwnSplit):
        assert summarize(kind(graphs)).splits == {"train": 2, "val": 1, "test": 1}
    assert summarize(Several(ODD)).splits == {}


def test_nothing_is_written() -> None:
    graph = make(4, [(0, 1), (2, 2)], [0, 1, 0, 0], [[-0.0, 1.0]] * 4)
    before = {key: value.clone() for key, value in graph.to_dict().items()}
    assert isinstance(summarize(Several([graph])), DataSummary)
    assert all(torch.equal(graph[key], value) for key, value in before.items())
    assert torch.signbit(graph.x[0, 0])


def test_of_several_types_of_nodes_only_the_predicted_are_labelled() -> None:
    graph = library(train_mask=torch.tensor([True, False, False, False]))
    graph["paper", "cites", "paper"].edge_index = torch.tensor([[0, 1, 1], [1, 3, 2]])
    found = summarize(Loaded(make_homogeneous(graph)))
    assert found.labels == Labels("node", "classification", 3, (1, 2, 1))
    assert found.by_type == ((2, 0), (4, 3), (3, 2)) and found.features == 0
    assert found.homophily == pytest.approx(1 / 3)  # of the three citations
    assert found.splits == {"train": 1} and found.absent == {"train": (1, 2)}
    assert summarize(Loaded(make_homogeneous(library()))).homophily == 0


def make_pairs(edges: list[tuple[int, int]]) -> Data:
    data = make(5, edges, [0] * 5)
    for part, pairs in {"train": [(0, 1), (2, 1), (0, 4)], "val": [(3, 4), (0, 2)], "test": [(2, 3)]}.items():
        data[f"{part}_edge_index"] = torch.tensor(pairs).t()
        data[f"{part}_edge_label"] = torch.tensor([pair != (0, 4) and pair != (0, 2) for pair in pairs]).long()
    return data


@pytest.mark.parametrize(
    ("edges", "along"),
    [
        ([(0, 1), (1, 0), (1, 2), (2, 1), (3, 3)], True),
        ([(1, 0), (1, 2)], True),  # of one direction, and a loop or none
        ([(0, 1), (1, 2), (3, 4)], False),  # a pair that is asked for
        ([(0, 1)], False),
        ([], False),
    ],
)
def test_pairs(edges: list[tuple[int, int]], along: bool) -> None:
    found = summarize(Several([make_pairs(edges)]))
    assert found.pairs == {"train": (2, 1), "val": (1, 1), "test": (1, 0)}
    assert found.along_training == along
    torn = make_pairs(edges)
    torn.train_edge_label = torn.train_edge_label[:2]
    assert not summarize(Several([torn])).along_training
    assert summarize(Several(ODD)).pairs == {}
