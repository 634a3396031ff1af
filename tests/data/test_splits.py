from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Data

from gkd_plugin.data.splits import hold_out_validation, per_class_split, planetoid_split, random_split
from gkd_plugin.errors import UserError

MASKS = ("train_mask", "val_mask", "test_mask")


def graph(classes: int = 3, per_class: int = 10) -> Data:
    y = torch.arange(classes).repeat(per_class)
    return Data(x=torch.randn(y.numel(), 4), edge_index=torch.zeros(2, 0, dtype=torch.long), y=y)


def sizes(data: Data) -> list[int]:
    masks = torch.stack([data[name] for name in MASKS])
    assert int(masks.sum(0).max()) <= 1, "splits overlap"
    return masks.sum(1).tolist()


@given(st.integers(3, 60), st.floats(0.1, 0.8), st.floats(0.1, 0.8), st.integers(0, 3))
@settings(deadline=None, max_examples=50)
def test_random_split_covers_every_node_once_or_says_why_not(nodes, train, val, seed):
    data = Data(x=torch.zeros(nodes, 1), edge_index=torch.zeros(2, 0, dtype=torch.long))
    try:
        counts = sizes(random_split(data, train, val, seed))
    except UserError as error:
        assert "Every split needs a node" in str(error)  # noqa: PT017
        assert train + val > 1 - 1 / nodes or nodes * min(train, val) < 2
        return
    assert sum(counts) == nodes
    assert min(counts) >= 1
    assert counts[1] == round(nodes * val)
    assert abs(counts[0] - nodes * train) <= 1


def test_the_seed_decides_and_the_global_stream_does_not():
    data = graph()
    for split in (random_split, per_class_small, lambda d, seed: planetoid_split(d, 2, 5, 5, seed)):
        first = split(data, seed=1)
        torch.manual_seed(99)
        before = torch.get_rng_state()
        again = split(data, seed=1)
        assert torch.equal(torch.get_rng_state(), before)
        assert all(torch.equal(first[name], again[name]) for name in MASKS)
        assert not torch.equal(first.train_mask, split(data, seed=2).train_mask)
        assert "train_mask" not in data, "the graph handed in was changed"


def per_class_small(data: Data, seed: int) -> Data:
    return per_class_split(data, 2, 3, seed)


def test_planetoid_split_counts():
    data = planetoid_split(graph(3, 10), train_per_class=2, num_val=7, num_test=11)
    assert sizes(data) == [6, 7, 11]
    assert data.y[data.train_mask].bincount().tolist() == [2, 2, 2]
    with pytest.raises(UserError, match="leave 24 for 20 validation and 5 test"):
        planetoid_split(graph(3, 10), train_per_class=2, num_val=20, num_test=5)


def test_per_class_split_counts_in_both_sets():
    data = per_class_split(graph(3, 10), train=2, val=3)
    assert sizes(data) == [6, 9, 15]
    assert data.y[data.train_mask].bincount().tolist() == [2, 2, 2]
    assert data.y[data.val_mask].bincount().tolist() == [3, 3, 3]


def test_labels_in_a_column_are_classes_and_several_are_none():
    data = Data(x=torch.ones(60, 1), y=torch.arange(60) % 3, num_nodes=60)
    column = Data(x=data.x, y=data.y.view(60, 1), num_nodes=60)
    for split in (lambda each: per_class_split(each, 5, 5, 1), lambda each: random_split(each, 0.5, 0.2, 1)):
        assert all(torch.equal(split(data)[mask], split(column)[mask]) for mask in ("train_mask", "val_mask"))
    for each in (data, column):
        each.train_mask = torch.ones(60, dtype=torch.bool)
        held = hold_out_validation(each, 0.2, 1).val_mask
        assert torch.bincount(each.y.flatten()[held]).tolist() == [4, 4, 4]
    with pytest.raises(UserError, match=r"y has the shape \[60, 2\], but one class for each item"):
        per_class_split(Data(x=data.x, y=torch.ones(60, 2), num_nodes=60), 5, 5, 1)


def test_per_class_split_refuses_what_it_cannot_give():
    with pytest.raises(UserError, match=r"class 0 has 10 nodes, 8 \+ 3"):
        per_class_split(graph(3, 10), train=8, val=3)
    with pytest.raises(UserError, match="leave none for the test"):
        per_class_split(graph(3, 10), train=7, val=3)
    with pytest.raises(UserError, match="leaves 0 for the test"):
        random_split(graph(), train=0.7, val=0.3)


def test_per_class_split_of_the_largest_component():
    edges = torch.tensor([[0, 1, 2, 3, 4, 6], [1, 2, 3, 4, 5, 7]])  # 0-5 hang together, so do 6-7; 8 is alone
    data = Data(x=torch.arange(9.0).view(-1, 1), edge_index=edges, y=torch.tensor([0, 1] * 4 + [0]))
    kept = per_class_split(data, train=1, val=1, largest_component=True)
    assert kept.x.view(-1).tolist() == [0, 1, 2, 3, 4, 5]
    assert sizes(kept) == [2, 2, 2]


def test_a_held_out_share_needs_two_nodes_and_takes_one_at_least() -> None:
    data = Data(y=torch.rand(6), num_nodes=6, train_mask=torch.tensor([1, 1, 0, 0, 0, 0], dtype=torch.bool))
    state = torch.get_rng_state()
    held = hold_out_validation(data, 0.2, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert (int(held.train_mask.sum()), int(held.val_mask.sum())) == (1, 1)
    assert "val_mask" not in data and int(data.train_mask.sum()) == 2
    data.train_mask[0] = False
    with pytest.raises(UserError, match="1 training nodes leave none for validation"):
        hold_out_validation(data)
