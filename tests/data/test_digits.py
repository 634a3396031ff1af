from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch_geometric.graphgym import register
from torch_geometric.graphgym.config import cfg
from torch_geometric.graphgym.loader import create_loader
from torch_geometric.utils import contains_self_loops, is_undirected

from gkd_plugin.data.digits import DigitsGraph, load_digits_graph
from gkd_plugin.errors import UserError


@pytest.fixture(scope="module")
def graph():
    return DigitsGraph()[0]


def test_images_and_labels_are_scikit_learns(graph):
    images = load_digits()
    assert graph.x.dtype == torch.float32
    assert graph.y.dtype == torch.long
    assert (float(graph.x.min()), float(graph.x.max())) == (0.0, 1.0)
    np.testing.assert_array_equal(graph.x.numpy() * 16, images.data)
    np.testing.assert_array_equal(graph.y.numpy(), images.target)


def test_edges_are_the_nearest_neighbours_of_a_dense_search(graph):
    assert is_undirected(graph.edge_index)
    assert not contains_self_loops(graph.edge_index)
    pixels = load_digits().data.astype(np.int64)
    squares = (pixels**2).sum(1)
    distance = squares[:, None] + squares[None] - 2 * pixels @ pixels.T  # whole numbers: exact
    np.fill_diagonal(distance, distance.max() + 1)
    radius = np.sort(distance, axis=1)[:, 9]  # the 10th neighbour; several may be equally far
    linked = np.zeros_like(distance, dtype=bool)
    linked[graph.edge_index[0], graph.edge_index[1]] = True
    nearer, within = distance < radius[:, None], distance <= radius[:, None]
    assert (linked | ~(nearer | nearer.T)).all(), "a strictly nearer image is not linked"
    assert (~linked | (within | within.T)).all(), "a link to an image that is farther than the 10th neighbour"
    assert np.bincount(graph.edge_index[0], minlength=1797).min() >= 10


def test_split_is_planetoids_and_fixed(graph):
    masks = torch.stack([graph.train_mask, graph.val_mask, graph.test_mask])
    assert masks.sum(1).tolist() == [200, 500, 1000]
    assert int(masks.sum(0).max()) == 1
    assert graph.y[graph.train_mask].bincount().tolist() == [20] * 10
    torch.manual_seed(123)  # whatever state the global stream is in
    again = DigitsGraph()[0]
    assert torch.equal(again.train_mask, graph.train_mask)
    assert torch.equal(again.edge_index, graph.edge_index)


def test_drawing_the_split_leaves_the_global_stream_alone():
    before = torch.get_rng_state()
    DigitsGraph()
    assert torch.equal(torch.get_rng_state(), before)


def test_loader_takes_its_own_names_only():
    assert load_digits_graph("PyG", "Cora", ".") is None
    assert load_digits_graph("PyG", "digits_5", ".") is None
    assert load_digits_graph("OGB", "digits", ".") is None
    assert isinstance(load_digits_graph("gkd", "digits", "."), DigitsGraph)
    assert (
        load_digits_graph("PyG", "digits_k5", ".")[0].num_edges < load_digits_graph("PyG", "digits", ".")[0].num_edges
    )


@pytest.mark.parametrize("k", [0, 1797])
def test_impossible_k_is_named(k):
    with pytest.raises(UserError, match=rf"digits_k{k}.*Allowed: 1 to 1796"):
        load_digits_graph("PyG", f"digits_k{k}", ".")


@pytest.mark.parametrize(("format", "name"), [("PyG", "digits"), ("gkd", "digits_k5")])
def test_the_host_makes_three_loaders_of_it_and_writes_nothing(format, name, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(register.loader_dict, "digits_under_test", load_digits_graph)
    cfg.dataset.format, cfg.dataset.name = format, name
    loaders = create_loader()
    assert (len(loaders), cfg.share.dim_in, cfg.share.dim_out, cfg.share.num_splits) == (3, 64, 10, 3)
    (batch,) = loaders[0]
    assert batch.num_nodes == 1797
    assert int(batch.val_mask.sum()) == 500
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------- under format gkd

NUMBERS = {  # what the group splits says; numbers of nodes for training and validation
    "random": ({"kind": "random"}, (899, 449)),
    "shares": ({"kind": "random", "train": 0.1, "val": 0.2}, (180, 359)),
    "per_class": ({"kind": "per_class"}, (200, 300)),
    "few": ({"kind": "per_class", "train": 5, "val": 10}, (50, 100)),
}


def drawn(name, run_seed, **splits):
    cfg.dataset.format, cfg.dataset.name, cfg.seed = "gkd", name, run_seed
    cfg.splits.update({"kind": None, "train": None, "val": None, "seed": None, **splits})
    return create_loader()[0].dataset[0]


@pytest.mark.parametrize("name", ["digits", "digits_k3"])
@pytest.mark.parametrize("case", NUMBERS)
def test_the_group_splits_draws_by_seed(name, case):
    import gkd_plugin  # noqa: F401 - registers the group

    splits, numbers = NUMBERS[case]
    first, again, other = (drawn(name, seed, **splits) for seed in (1, 1, 2))
    assert (int(first.train_mask.sum()), int(first.val_mask.sum())) == numbers
    assert bool((first.train_mask | first.val_mask | first.test_mask).all())
    assert torch.equal(first.train_mask, again.train_mask)
    assert not torch.equal(first.train_mask, other.train_mask)
    assert torch.equal(first.edge_index, DigitsGraph(3 if name == "digits_k3" else 10)[0].edge_index)
    fixed = (drawn(name, seed, seed=7, **splits) for seed in (1, 2))
    assert torch.equal(next(fixed).val_mask, next(fixed).val_mask)


@pytest.mark.parametrize("kind", [None, "public"])
def test_without_a_kind_the_fixed_split_stays(kind, graph):
    import gkd_plugin  # noqa: F401

    for seed in (1, 2):
        data = drawn("digits", seed, kind=kind)
        assert all(torch.equal(data[mask], graph[mask]) for mask in ("train_mask", "val_mask", "test_mask"))


def test_under_pyg_the_group_is_refused_and_the_split_is_the_fixed_one(graph):
    import gkd_plugin  # noqa: F401

    cfg.dataset.format, cfg.dataset.name = "PyG", "digits"
    assert torch.equal(create_loader()[0].dataset[0].test_mask, graph.test_mask)
    cfg.splits.kind = "random"
    with pytest.raises(UserError, match=r"splits\.kind: does not apply to dataset\.format: PyG.*format: gkd"):
        create_loader()
