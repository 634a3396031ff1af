"""Nodes that are held out of a graph: what the loaders of each split see, against a loop over nodes and edges."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch_geometric.data import Data, InMemoryDataset
from torch_geometric.graphgym import register
from torch_geometric.graphgym.config import cfg, set_cfg
from torch_geometric.graphgym.loader import create_loader
from yacs.config import CfgNode

from gkd_plugin.data.check import check_data
from gkd_plugin.data.keep import keep_data
from gkd_plugin.data.keys import SPLIT_KEYS, SPLITS
from gkd_plugin.data.loaders import LOADERS, MASKS, create_loaders, per_split
from gkd_plugin.data.names import DATA_SETS, Known
from gkd_plugin.errors import ConfigError, UserError
from tests import toy

Configure = Callable[..., None]


class One(InMemoryDataset):
    def __init__(self, *graphs: Data) -> None:
        super().__init__()
        self.data, self.slices = self.collate(list(graphs))


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Iterator[Configure]:
    monkeypatch.setattr(register, "loader_dict", dict(LOADERS))

    def make(*graphs: Data, **splits: Any) -> None:
        monkeypatch.setitem(DATA_SETS, "toy", Known(lambda root: One(*(graph.clone() for graph in graphs)), "toys"))
        cfg.clear()
        set_cfg(cfg)
        cfg[SPLITS] = CfgNode({**{key.name: None for key in SPLIT_KEYS}, **splits})
        cfg.dataset.format, cfg.dataset.name, cfg.seed = "gkd", "toy", 3

    yield make
    cfg.clear()
    set_cfg(cfg)


def odd() -> Data:
    """With a self-loop, a repeated edge, an isolated node, features of edges, and a number that belongs to no node."""
    data = toy.with_edge_features(toy.community(0))
    extra = torch.tensor([[5, 7, 7], [5, 9, 9]])
    data.edge_index = torch.cat([data.edge_index, extra], dim=1)
    data.edge_attr = torch.arange(4.0 * data.edge_index.size(1)).view(-1, 4)
    data.weight = 0.5
    alone = torch.zeros(1, 6)
    data.x, data.y = torch.cat([data.x, alone]), torch.cat([data.y, torch.tensor([0])])
    for mask in MASKS:
        data[mask] = torch.cat([data[mask], torch.tensor([mask == "test_mask"])])
    return data


@pytest.mark.parametrize("protocol", ["inductive", "production"])
def test_each_split_against_a_loop(protocol: str, configure: Configure) -> None:
    whole = odd()
    configure(whole, protocol=protocol)
    train, val, test = create_loaders()
    (late,) = test
    held_out = set(late.held_out.nonzero().view(-1).tolist())
    tested = set(whole.test_mask.nonzero().view(-1).tolist())
    assert held_out < tested and len(held_out) == round(0.2 * len(tested))
    # the test sees everything as it is
    for key in ("x", "y", "edge_index", "edge_attr", "train_mask", "val_mask"):
        assert torch.equal(late[key], whole[key])
    expected = held_out if protocol == "inductive" else tested
    assert set(late.test_mask.nonzero().view(-1).tolist()) == expected
    # training and validation see one graph without those nodes
    assert train.dataset is val.dataset
    (early,) = train
    stay = [node for node in range(whole.num_nodes) if node not in held_out]
    new = {node: place for place, node in enumerate(stay)}
    assert early.num_nodes == len(stay) and "held_out" not in early
    for key in ("x", "y", "train_mask", "val_mask"):
        assert torch.equal(early[key], whole[key][stay])
    pairs = zip(whole.edge_index.t().tolist(), whole.edge_attr.tolist(), strict=True)
    kept = [((new[a], new[b]), attr) for (a, b), attr in pairs if a in new and b in new]
    assert list(map(tuple, early.edge_index.t().tolist())) == [pair for pair, _ in kept]
    assert early.edge_attr.tolist() == [attr for _, attr in kept]
    assert float(early.weight) == 0.5
    check_data(per_split(create_loader()), cfg)


def test_which_nodes_are_held_out_depends_on_the_splits_seed(configure: Configure) -> None:
    def draw(seed: int, **splits: Any) -> list[int]:
        configure(toy.community(0), protocol="production", **splits)
        cfg.seed = seed
        (late,) = create_loaders()[2]
        found: list[int] = late.held_out.nonzero().view(-1).tolist()
        return found

    assert draw(1) == draw(1) != draw(2)
    assert len(draw(1, inductive_share=0.5)) == 8
    configure(toy.community(0), protocol="inductive")
    cfg.seed = 1
    (late,) = create_loaders()[2]
    assert late.held_out.nonzero().view(-1).tolist() == draw(1)  # both protocols hold out the same nodes


def test_the_host_cannot_train_on_the_whole_graph_by_mistake(configure: Configure) -> None:
    configure(toy.community(0), protocol="inductive")
    with pytest.raises(UserError, match=r"splits.protocol: some nodes are held out.*train.mode: distill"):
        next(iter(create_loader()[0]))


def test_kept_data_are_handed_out_alike(configure: Configure) -> None:
    configure(toy.community(0), protocol="inductive")
    (once,) = create_loaders()[0]
    with keep_data():
        for _ in range(2):
            train, val, test = create_loaders()
            assert train.dataset is val.dataset
            assert torch.equal(next(iter(train)).x, once.x) and next(iter(test)).num_nodes == 48


@pytest.mark.parametrize(
    ("splits", "told"),
    [
        ({"protocol": "inductiv"}, "Did you mean 'inductive'|splits.protocol: 'inductiv' is not allowed"),
        ({"inductive_share": 0.5}, "splits.inductive_share: 0.5 does not apply: splits.protocol is transductive"),
        (
            {"protocol": "inductive", "inductive_share": 0.01},
            "0.01 of 16 test nodes are 0. At least one must be held out",
        ),
        ({"protocol": "production", "inductive_share": 0.99}, "0.99 of 16 test nodes are 16"),
        ({"protocol": "production", "inductive_share": 1}, "splits.inductive_share"),
    ],
)
def test_what_cannot_be_held_out(splits: dict[str, Any], told: str, configure: Configure) -> None:
    configure(toy.community(0), **splits)
    with pytest.raises(ConfigError, match=told):
        create_loaders()


def test_only_nodes_of_one_whole_graph(configure: Configure) -> None:
    configure(toy.community(0), toy.community(1), protocol="inductive")
    with pytest.raises(ConfigError, match=r"toy is 2 graphs with task: node. Only nodes of one graph.*Remove the key"):
        create_loaders()
    configure(toy.community(0), protocol="inductive")
    cfg.train.sampler = "random_node"
    with pytest.raises(ConfigError, match=r"train.sampler: 'random_node', but splits.protocol"):
        create_loaders()
    configure(toy.community(0), protocol="inductive")
    cfg.dataset.format = "PyG"
    with pytest.raises(ConfigError, match=r"splits.protocol: does not apply to dataset.format: PyG"):
        create_loaders()
