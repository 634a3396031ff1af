"""Parts of one graph against PyG's own way to cut one out, and against the probabilities that their names promise."""

from __future__ import annotations

import pytest
import torch
import torch_geometric.loader
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.graphgym import register
from torch_geometric.graphgym.config import cfg

from gkd_plugin.data.load import load
from gkd_plugin.data.protocol import HeldOutNodes
from gkd_plugin.data.sampling import Neighbours, RandomNodes, Saint, Seeds, make_sampler
from gkd_plugin.errors import UserError
from tests import toy

SAMPLERS = ("random_node", "saint_node", "saint_edge", "saint_rw")


def make_graph(nodes: int, edges: int, seed: int = 0) -> Data:
    generator = torch.Generator().manual_seed(seed)
    edge_index = torch.randint(0, nodes, (2, edges), generator=generator)
    weights = torch.arange(edges, dtype=torch.float)
    data = Data(x=torch.arange(nodes).view(-1, 1).float(), edge_index=edge_index, edge_attr=weights)
    data.y, data.train_mask, data.name = torch.arange(nodes) % 3, torch.arange(nodes) % 2 == 0, "toy"
    return data


def list_edges(data: Data, ids: Tensor | None = None) -> list[tuple[int, int, float]]:
    ends = data.edge_index if ids is None else ids[data.edge_index]
    return sorted((int(u), int(v), float(w)) for u, v, w in zip(*ends, data.edge_attr, strict=True))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(0, 40), st.data())
def test_a_part_has_the_edges_that_pyg_finds(nodes: int, edges: int, data: st.DataObject) -> None:
    graph = make_graph(nodes, edges)
    chosen = torch.tensor(sorted(data.draw(st.sets(st.integers(0, nodes - 1), min_size=1))))
    part, expected = RandomNodes(graph, 1).take(chosen), graph.subgraph(chosen)
    assert list_edges(part) == list_edges(expected)
    assert torch.equal(part.x, expected.x) and torch.equal(part.y, expected.y)
    assert torch.equal(part.train_mask, expected.train_mask) and part.name == "toy"
    assert torch.equal(part.n_id, chosen) and part.num_nodes == len(chosen)
    assert bool((RandomNodes(graph, 1).neighbours.place == -1).all())


def test_every_node_comes_once_in_an_epoch() -> None:
    graph = make_graph(23, 100)
    loader = RandomNodes(graph, 4)
    parts = list(loader)
    assert len(parts) == len(loader) == 4
    assert sorted(int(node) for part in parts for node in part.n_id) == list(range(23))
    assert {len(part.n_id) for part in parts} == {5, 6}
    assert any(not torch.equal(a.n_id, b.n_id) for a, b in zip(parts, loader, strict=True))  # drawn anew
    assert len(RandomNodes(make_graph(2, 3), 10)) == 2


@pytest.mark.parametrize("how", ["nodes", "edges", "walks"])
def test_parts_of_one_seed_are_equal(how: str) -> None:
    loader = Saint(make_graph(30, 90), how, 5, 3, 2)
    torch.manual_seed(1)
    first = [part.n_id for part in loader]
    torch.manual_seed(1)
    assert all(torch.equal(a, part.n_id) for a, part in zip(first, loader, strict=True))
    assert len(first) == len(loader) == 3


def frequencies(loader: Saint, nodes: int) -> Tensor:
    """How often each node was drawn, one draw at a time."""
    torch.manual_seed(0)
    return sum(torch.bincount(loader._draw_one(), minlength=nodes) for _ in range(20)).double()  # type: ignore[union-attr]


def test_nodes_are_drawn_as_often_as_they_send() -> None:
    graph = make_graph(6, 40)
    graph.edge_index[0][graph.edge_index[0] == 5] = 0  # node 5 sends nothing
    found = frequencies(Saint(graph, "nodes", 5000, 1, 0), 6) / (20 * 5000)
    expected = torch.bincount(graph.edge_index[0], minlength=6) / 40
    assert found[5] == 0
    torch.testing.assert_close(found, expected.double(), atol=0.01, rtol=0)


def test_edges_are_drawn_by_the_degrees_of_their_ends() -> None:
    edge_index = torch.tensor([[0, 0, 0, 1], [1, 2, 3, 3]])  # sent: 3 3 3 1; received: 1 1 2 2
    graph = Data(x=torch.ones(4, 1), edge_index=edge_index)
    weights = torch.tensor([1 / 3 + 1, 1 / 3 + 1, 1 / 3 + 1 / 2, 1 + 1 / 2], dtype=torch.double)
    share = weights / weights.sum()
    expected = torch.stack([share[:3].sum(), share[0] + share[3], share[1], share[2] + share[3]]) / 2
    found = frequencies(Saint(graph, "edges", 5000, 1, 0), 4) / (2 * 20 * 5000)
    torch.testing.assert_close(found, expected, atol=0.01, rtol=0)


def test_a_walk_goes_along_edges_and_stays_where_none_leads_on() -> None:
    edge_index = torch.tensor([[0, 1, 1, 2], [1, 2, 3, 0]])  # 3 leads nowhere
    neighbours = Neighbours(edge_index, 4)
    torch.manual_seed(0)
    steps = [neighbours.step(torch.tensor([0, 1, 2, 3])) for _ in range(400)]
    assert {tuple(step[[0, 2, 3]].tolist()) for step in steps} == {(1, 0, 3)}
    second = torch.stack([step[1] for step in steps])
    assert set(second.tolist()) == {2, 3} and 130 < int((second == 2).sum()) < 270


@pytest.mark.parametrize("how", ["nodes", "edges", "walks"])
def test_a_graph_without_edges(how: str) -> None:
    for part in Saint(make_graph(5, 0), how, 3, 2, 4):
        assert part.edge_index.shape == (2, 0) and 1 <= len(part.n_id) <= 3


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_hosts_key_names_it_and_evaluation_sees_the_whole_graph(sampler, monkeypatch) -> None:
    graph = toy.community(0)
    monkeypatch.setitem(register.loader_dict, "mine", lambda *_: toy.Toy([graph]))
    cfg.dataset.task, cfg.train.sampler = "node", sampler
    cfg.train.batch_size, cfg.train.iter_per_epoch, cfg.train.train_parts = 4, 3, 3
    loaders = load(cfg)
    assert len(loaders[0]) == 3 and cfg.train.sampler == sampler and cfg.val.sampler == "full_batch"
    part = next(iter(loaders[0]))
    assert torch.equal(part.x, graph.x[part.n_id]) and len(part.n_id) < graph.num_nodes
    (whole,) = loaders[1]
    assert whole.num_nodes == graph.num_nodes
    cfg.val.sampler = sampler
    loaders = load(cfg)
    assert loaders[1].neighbours is loaders[0].neighbours
    (whole,) = loaders[2]
    assert whole.num_nodes == graph.num_nodes  # a test score is of all test nodes


def test_only_the_nodes_that_a_batch_is_made_for_are_trained_on(monkeypatch) -> None:
    """PyG's loader needs a compiled package: what it is asked for, and what becomes of its batches."""
    graph = make_graph(10, 30)
    asked: dict[str, object] = {}

    class Fake:
        def __init__(self, data: Data, num_neighbors: list[int], **words: object) -> None:
            asked.update(words, sizes=num_neighbors)
            self.data = data

        def __len__(self) -> int:
            return 1

        def __iter__(self):
            batch = graph.subgraph(torch.tensor([2, 4, 6, 8]))
            batch.batch_size = 2
            yield batch

    monkeypatch.setattr(torch_geometric.loader, "NeighborLoader", Fake)
    own = cfg.clone()
    own.gnn.layers_mp, own.model.type, own.train.batch_size = 2, "gnn", 2
    loader = make_sampler(graph, "neighbor", own)
    assert isinstance(loader, Seeds) and asked["sizes"] == own.train.neighbor_sizes[:2] and asked["batch_size"] == 2
    assert asked["input_nodes"].tolist() == [0, 2, 4, 6, 8]
    (batch,) = loader
    assert batch.train_mask.tolist() == [True, True, False, False] and len(loader) == 1
    graph.val_mask = ~graph.train_mask
    loader = make_sampler(graph, "neighbor", own, mask="val_mask")  # as val.sampler
    assert asked["input_nodes"].tolist() == [1, 3, 5, 7, 9]
    assert next(iter(loader)).train_mask.all()  # of the split that is asked for alone
    own.model.type = "gcn"  # ends in a convolution: one more hop
    make_sampler(graph, "neighbor", own)
    assert asked["sizes"] == own.train.neighbor_sizes[:3]


def make_typed() -> Data:
    """Two types of nodes whose first table has as many rows as there are edges."""
    graph = Data(edge_index=torch.tensor([[0, 1, 2], [3, 4, 0]]), edge_type=torch.tensor([0, 1, 0]), num_nodes=5)
    graph.x_0, graph.x_1 = torch.arange(3.0).view(3, 1), torch.arange(4.0).view(2, 2)
    graph.node_type, graph.type_row = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 1, 2, 0, 1])
    return graph


def test_tables_of_types_stay_whole_whatever_their_number_of_rows() -> None:
    graph = make_typed()
    part = RandomNodes(graph, 1).take(torch.tensor([1, 2, 4]))
    assert part.edge_type.tolist() == [1] and part.type_row.tolist() == [1, 2, 1]
    assert torch.equal(part.x_0, graph.x_0) and torch.equal(part.x_1, graph.x_1)


def test_held_out_nodes_leave_tables_whole() -> None:
    graph = make_typed()
    graph.held_out = torch.tensor([False, False, True, False, False])
    seen = HeldOutNodes(graph).of("train")[0]
    assert seen.edge_type.tolist() == [0, 1] and seen.type_row.tolist() == [0, 1, 0, 1]
    assert torch.equal(seen.x_0, graph.x_0)


def test_a_name_of_parts_is_no_name_of_the_users(monkeypatch) -> None:
    graph = toy.community(0)
    graph.n_id = torch.arange(graph.num_nodes).flip(0)
    monkeypatch.setitem(register.loader_dict, "mine", lambda *_: toy.Toy([graph]))
    cfg.dataset.task = "node"
    with pytest.raises(UserError, match="it has n_id"):
        load(cfg)
