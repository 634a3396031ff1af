"""Messages in parts against the layers' own ways, to the last bit; and how large a part is."""

from __future__ import annotations

import pytest
import torch
import torch_geometric.nn as pyg
from torch import Tensor, nn

from gkd_plugin.models import messages
from gkd_plugin.models.messages import find_senders, sent_in_parts

WIDTH = 8
LAYERS = {
    "gcn": lambda: pyg.GCNConv(WIDTH, 4),
    "gat": lambda: pyg.GATConv(WIDTH, 4, heads=3),
    "gatv2": lambda: pyg.GATv2Conv(WIDTH, 4, heads=2),
    "sage": lambda: pyg.SAGEConv(WIDTH, 4),
    "largest": lambda: pyg.SAGEConv(WIDTH, 4, aggr="max"),
    "gin": lambda: pyg.GINConv(nn.Linear(WIDTH, 4)),
    "edge": lambda: pyg.EdgeConv(nn.Linear(2 * WIDTH, 4)),
    "graph": lambda: pyg.GraphConv(WIDTH, 4),
    "transformer": lambda: pyg.TransformerConv(WIDTH, 4, heads=2),
    "cheb": lambda: pyg.ChebConv(WIDTH, 4, 3),
}


def random_graph(nodes: int, edges: int) -> tuple[Tensor, Tensor]:
    return torch.randn(nodes, WIDTH), torch.randint(0, max(nodes, 1), (2, edges))


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of messages in every part that was sent."""
    found: list[int] = []
    plain = messages._cut

    def cut(layer: pyg.MessagePassing, value: object, low: int, high: int) -> object:
        found.append(high - low)
        return plain(layer, value, low, high)

    monkeypatch.setattr(messages, "_cut", cut)
    return found


@pytest.mark.parametrize(("nodes", "edges"), [(60, 400), (5, 0), (1, 3), (40, 6)])
@pytest.mark.parametrize("name", LAYERS)
def test_parts_give_the_same_to_the_last_bit(name: str, nodes: int, edges: int, sizes: list[int]) -> None:
    layer = LAYERS[name]().eval()
    x, edge_index = random_graph(nodes, edges)
    with torch.no_grad():
        expected = layer(x, edge_index)
        with sent_in_parts(find_senders(layer), 1000):
            found = layer(x, edge_index)
    assert torch.equal(found, expected)
    if edges == 400:
        assert len(sizes) > 4 and max(sizes) < nodes


def test_edge_weights_and_two_sides_are_cut_too(sizes: list[int]) -> None:
    x, edge_index = random_graph(30, 200)
    edge_index[0] %= 12
    weights = torch.rand(200)
    gcn, sage = pyg.GraphConv(WIDTH, 4), pyg.SAGEConv((WIDTH, WIDTH), 4)
    with torch.no_grad():
        expected = gcn(x, edge_index, weights), sage((x[:12], x), edge_index)
        with sent_in_parts([gcn, sage], 1000):
            found = gcn(x, edge_index, weights), sage((x[:12], x), edge_index)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True)) and sizes


def test_a_part_keeps_within_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = pyg.SAGEConv(WIDTH, 4)
    largest: list[int] = []
    plain = layer.message
    monkeypatch.setattr(layer, "message", lambda x_j: (largest.append(x_j.nbytes), plain(x_j))[1])
    x, edge_index = random_graph(500, 4000)
    with torch.no_grad(), sent_in_parts([layer], 12_000):
        layer(x, edge_index)
    # three copies of a message fit; nodes are not divided, so a part may pass it by one node's messages
    assert len(largest) > 20 and max(largest) <= 12_000 / 3 + 32 * int(torch.bincount(edge_index[1]).max())


def test_a_limit_below_one_message_sends_to_one_node_at_a_time(sizes: list[int]) -> None:
    layer = pyg.GCNConv(WIDTH, 4)
    x, edge_index = random_graph(12, 40)
    with torch.no_grad():
        expected = layer(x, edge_index)
        with sent_in_parts([layer], 1e-30):
            assert torch.equal(layer(x, edge_index), expected)
    assert set(sizes) == {1}


def test_small_graphs_are_left_in_one_piece(sizes: list[int]) -> None:
    layer = pyg.GCNConv(WIDTH, 4)
    x, edge_index = random_graph(20, 50)
    with torch.no_grad(), sent_in_parts(find_senders(layer), 2**30):
        layer(x, edge_index)
    assert not sizes


def test_layers_are_as_before_also_after_an_error() -> None:
    layer = pyg.GCNConv(WIDTH, 4)
    before = dict(vars(layer))
    with pytest.raises(ZeroDivisionError), sent_in_parts(find_senders(layer), 1):
        raise ZeroDivisionError
    assert vars(layer) == before


def test_what_is_not_sure_is_left_alone(sizes: list[int]) -> None:
    class Reads(pyg.MessagePassing):
        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return self.propagate(edge_index, x=x)

        def update(self, out: Tensor, x: Tensor) -> Tensor:
            return out + x

    class Backwards(pyg.GCNConv):
        def __init__(self) -> None:
            super().__init__(WIDTH, 4, flow="target_to_source")

    assert find_senders(nn.ModuleList([Reads(), Backwards()])) == []
    layer = pyg.GCNConv(WIDTH, 4, normalize=False)
    x, edge_index = random_graph(20, 50)
    matrix = torch.sparse_coo_tensor(edge_index.flip(0), torch.ones(50), (20, 20)).coalesce()
    with torch.no_grad(), sent_in_parts([layer], 10):
        layer(x, matrix)
    assert not sizes
