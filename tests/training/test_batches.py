"""Feeds: loaders collated once, drawing what the host's own iteration draws."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader

from gkd_plugin.models.rng import RandomStreams
from gkd_plugin.models.sample import Sample
from gkd_plugin.space.observation import Task
from gkd_plugin.training.batches import SplitLoader, hide_edges, make_split_loaders, whole_graph
from tests.toy import Toy, community

NODE, CPU = Task("node", "multiclass"), torch.device("cpu")


def feed(loader: DataLoader, seed: int = 1) -> SplitLoader:
    return SplitLoader(loader, NODE, CPU, RandomStreams(seed))


def graphs(count: int) -> list[Data]:
    return [community(seed, nodes=12 + seed) for seed in range(count)]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("count", [1, 4])
def test_iterating_draws_and_yields_what_the_loader_does(shuffle: bool, count: int) -> None:
    loader = DataLoader(graphs(count), batch_size=2, shuffle=shuffle)
    ours = feed(loader)
    torch.manual_seed(5)
    expected = [[batch.x for batch in loader] for _ in range(3)]
    after = torch.rand(())
    torch.manual_seed(5)
    found = [[sample.batch.x for sample in ours] for _ in range(3)]
    assert torch.equal(torch.rand(()), after)
    for theirs, own in zip(expected, found, strict=True):
        assert len(theirs) == len(own)
        assert all(torch.equal(a, b) for a, b in zip(theirs, own, strict=True))


@pytest.mark.parametrize("count", [1, 4])
def test_skipping_draws_what_a_validation_iterator_would(count: int) -> None:
    loader = DataLoader(graphs(count), batch_size=2)
    ours = feed(loader)
    torch.manual_seed(5)
    for _ in loader:
        pass
    expected = torch.rand(())
    torch.manual_seed(5)
    ours.skip()
    assert torch.equal(torch.rand(()), expected)


@pytest.mark.parametrize("count", [1, 4])
def test_making_and_listing_leave_the_global_stream_alone(count: int) -> None:
    torch.manual_seed(5)
    expected = torch.rand(())
    torch.manual_seed(5)
    ours = feed(DataLoader(graphs(count), batch_size=2, shuffle=True))
    assert len(ours.samples()) == (count + 1) // 2
    assert torch.equal(torch.rand(()), expected)


def test_one_graph_is_collated_once() -> None:
    ours = feed(DataLoader(graphs(1), batch_size=8, shuffle=True))
    first, second = next(iter(ours)), next(iter(ours))
    assert first is second is ours.peek()
    many = feed(DataLoader(graphs(3), batch_size=8))
    assert next(iter(many)) is not next(iter(many))


def test_splits_that_are_masks_of_one_graph_share_a_sample() -> None:
    one, other = Toy(graphs(1)), Toy(graphs(1))
    feeds = make_split_loaders([DataLoader(data) for data in (one, one, other)], NODE, CPU, RandomStreams(1))
    assert feeds[0].single is feeds[1].single
    assert feeds[2].single is not feeds[0].single
    many = Toy(graphs(3))
    feeds = make_split_loaders([DataLoader(data) for data in (many, many)], NODE, CPU, RandomStreams(1))
    assert feeds[0].single is feeds[1].single is None


def test_hidden_edges_take_their_relations_along_and_leave_tables_of_features() -> None:
    torch.manual_seed(0)
    index = torch.randint(0, 5, (2, 8))
    data = Data(
        edge_index=index,
        edge_type=torch.arange(8),
        num_nodes=5,
        x_0=torch.rand(8, 2),
        y=torch.zeros(5),
        type_row=torch.arange(5),
    )
    cut = hide_edges(Sample(Batch.from_data_list([data]), Task("node", "multiclass")), 0.5, 1).batch
    assert 0 < cut.num_edges < 8 and cut.x_0.shape == (8, 2)
    assert torch.equal(index[:, cut.edge_type], cut.edge_index)


def test_parts_of_a_graph_without_common_features_are_known_by_their_types() -> None:
    data = Data(edge_index=torch.tensor([[0, 1, 2], [1, 2, 3]]), num_nodes=4, y=torch.zeros(4).long())
    data.node_type, data.type_row, data.x_1 = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1]), torch.rand(2, 3)
    part = data.subgraph(torch.tensor([1, 3]))
    part.n_id = torch.tensor([1, 3])
    served = [SplitLoader(each, NODE, CPU, RandomStreams(1)) for each in ([part], DataLoader([data]))]
    found = whole_graph(served)
    assert found is not None and found.batch.num_nodes == 4
    part.n_id = torch.tensor([0, 3])  # of another graph
    assert whole_graph(served) is None
