"""Heterogeneous data as one graph with types, what networks are told of it, and its data sets by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric import datasets
from torch_geometric.data import Data, HeteroData, InMemoryDataset
from torch_geometric.graphgym import register
from torch_geometric.graphgym.config import cfg, set_cfg
from torch_geometric.graphgym.loader import create_loader
from yacs.config import CfgNode

import gkd_plugin
from gkd_plugin.data.doubts import find_doubts
from gkd_plugin.data.keys import SPLIT_KEYS, SPLITS
from gkd_plugin.data.loaders import LOADERS, MASKS
from gkd_plugin.data.names import DATA_SETS, Known
from gkd_plugin.data.relations import flatten, make_homogeneous
from gkd_plugin.errors import UserError
from tests.data.test_entities import write

assert gkd_plugin.__version__  # registers what is added to the host's cfg.share


def library(**papers: Tensor) -> HeteroData:
    """Authors without features, papers with labels, terms with fewer features; a relation without edges."""
    data = HeteroData()
    data["author"].num_nodes = 2
    data["paper"].x, data["paper"].y = torch.arange(12.0).view(4, 3), torch.tensor([0, 1, 2, 1])
    data["term"].x = torch.arange(6.0).view(3, 2)
    data["author", "writes", "paper"].edge_index = torch.tensor([[0, 0, 1], [0, 3, 2]])
    data["paper", "cites", "paper"].edge_index = torch.tensor([[0], [1]])
    data["term", "in", "term"].edge_index = torch.empty(2, 0, dtype=torch.long)
    for name, value in papers.items():
        data["paper"][name] = value
    return data


def find_notes(loaders: Any) -> tuple[str, ...]:
    """What the run says of the data, but for splits as small as these."""
    return tuple(text for text in find_doubts(loaders, cfg) if "in the test split" not in text)


class Loaded(InMemoryDataset):
    def __init__(self, *graphs: Any) -> None:
        super().__init__()
        self.data, self.slices = self.collate(list(graphs))


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """``configure('toy', folder, kind='random')`` sets ``dataset`` and ``splits``."""
    monkeypatch.setattr(register, "loader_dict", dict(LOADERS))

    def make(name: str = "toy", folder: Path | str = "", **splits: Any) -> None:
        cfg.clear()
        set_cfg(cfg)
        cfg[SPLITS] = CfgNode({**{key.name: None for key in SPLIT_KEYS}, **splits})
        cfg.dataset.format, cfg.dataset.name, cfg.dataset.dir, cfg.dataset.task = "gkd", name, str(folder), "node"

    make()
    yield make
    cfg.clear()
    set_cfg(cfg)


# ------------------------------------------------------------------------------------------------------- one graph of many types


def test_nodes_and_edges_follow_the_order_of_types() -> None:
    graph = library(train_mask=torch.tensor([True, False, True, False]))
    data = make_homogeneous(graph)
    assert data.num_nodes == 9
    assert data.node_type.tolist() == [0, 0, 1, 1, 1, 1, 2, 2, 2]
    assert data.type_row.tolist() == [0, 1, 0, 1, 2, 3, 0, 1, 2]
    assert data.edge_index.tolist() == [[0, 0, 1, 2], [2, 5, 4, 3]]
    assert data.edge_type.tolist() == [0, 0, 0, 1]
    assert "x" not in data and "x_0" not in data
    assert torch.equal(data.x_1, graph["paper"].x) and torch.equal(data.x_2, graph["term"].x)
    assert data.predicted.nonzero().view(-1).tolist() == [2, 3, 4, 5]
    assert data.y[data.predicted].tolist() == [0, 1, 2, 1] and not data.y[~data.predicted].any()
    assert data.train_mask.nonzero().view(-1).tolist() == [2, 4]
    assert "val_mask" not in data and data.is_node_attr("train_mask")
    assert "x_1" in data and not data.is_node_attr("x_1")


def test_labels_of_several_kinds_and_several_splits_keep_their_shape() -> None:
    graph = library(train_mask=torch.rand(4, 10) > 0.5)
    graph["paper"].y = torch.rand(4, 5)
    data = make_homogeneous(graph)
    assert data.y.shape == (9, 5) and torch.equal(data.y[2:6], graph["paper"].y)
    assert data.train_mask.shape == (9, 10) and torch.equal(data.train_mask[2:6], graph["paper"].train_mask)
    graph["paper"].y = torch.ones(4, 1, dtype=torch.long)
    assert make_homogeneous(graph).y.shape == (9,)


def test_one_type_of_nodes_has_features_as_ever() -> None:
    graph = library()
    del graph["author"], graph["term"], graph["author", "writes", "paper"], graph["term", "in", "term"]
    data = make_homogeneous(graph)
    assert torch.equal(data.x, graph["paper"].x) and "x_0" not in data
    assert data.edge_type.tolist() == [0] and data.predicted.all()


def test_which_nodes_are_predicted_must_be_clear() -> None:
    graph = library()
    graph["term"].y = torch.zeros(3)
    with pytest.raises(UserError, match=r"'toy': of its node types \(author, paper, term\) paper, term have labels"):
        make_homogeneous(graph, "toy")
    del graph["term"].y, graph["paper"].y
    with pytest.raises(UserError, match=r"none has labels \(y\)"):
        make_homogeneous(graph, "toy")
    with pytest.raises(UserError, match="'toy' is 2 heterogeneous graphs"):
        flatten("toy", Loaded(library(), library()))
    plain = Loaded(Data(x=torch.ones(1, 1)))
    assert flatten("toy", plain) is plain


# ------------------------------------------------------------------------------------------------------ through the host's loader


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Makes a graph known as ``dataset.name: toy``."""
    return lambda graph: monkeypatch.setitem(DATA_SETS, "toy", Known(lambda root: Loaded(graph.clone()), "toys"))


def split() -> dict[str, Tensor]:
    return {name: torch.arange(4) == number for number, name in enumerate(MASKS)}


def test_a_function_of_the_users_may_return_one(
    configure: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_library.py").write_text("from tests.data.test_relations import library\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    configure("my_library:library", tmp_path, kind="random")
    (batch,) = create_loader()[0]
    assert (cfg.share.relations, cfg.share.node_types) == (2, [[0, 2], [3, 4], [2, 3]])
    assert [int(batch[mask].sum()) for mask in MASKS] == [2, 1, 1]


def test_what_networks_are_told_of_types(configure: Any, toy: Any) -> None:
    toy(library(**split()))
    (batch,) = create_loader()[0]
    assert (cfg.share.relations, cfg.share.node_types) == (2, [[0, 2], [3, 4], [2, 3]])
    assert (cfg.share.dim_out, cfg.share.num_splits) == (3, 3)
    assert batch.num_nodes == 9 and torch.equal(batch.x_1, library()["paper"].x)
    toy(Data(x=torch.ones(6, 1), edge_index=torch.zeros(2, 1).long(), y=torch.arange(6) % 2))
    create_loader()
    assert (cfg.share.relations, cfg.share.node_types) == (0, [])


def test_a_split_is_drawn_among_the_predicted_nodes(configure: Any, toy: Any) -> None:
    toy(library())
    configure(kind="random", train=0.5, val=0.25)
    (batch,) = create_loader()[0]
    assert [int(batch[mask].sum()) for mask in MASKS] == [2, 1, 1]
    assert torch.equal(sum(batch[mask].long() for mask in MASKS).bool(), batch.predicted)
    configure(kind="random", row_normalize=True)
    (batch,) = create_loader()[0]
    torch.testing.assert_close(batch.x_1.sum(dim=1), torch.ones(4))


def test_part_of_the_training_nodes_validates_where_nothing_else_does(configure: Any, toy: Any) -> None:
    nodes = 100
    train = torch.arange(nodes) < 50
    labels = (torch.arange(nodes) % 10 == 0).long()  # 5 and 45 of the 50
    toy(Data(x=torch.ones(nodes, 1), edge_index=torch.zeros(2, 1).long(), y=labels, train_mask=train, test_mask=~train))
    cfg.seed = 3
    loaders = create_loader()
    data = loaders[0].dataset[0]
    assert torch.bincount(labels[data.val_mask]).tolist() == [9, 1]
    assert torch.equal(data.train_mask | data.val_mask, train) and not (data.train_mask & data.val_mask).any()
    assert torch.equal(data.test_mask, ~train)
    (note,) = find_notes(loaders)
    assert "'toy' has no validation split: 10 of its 50 training nodes (20%" in note and note.endswith("seed 3.")
    found = {tuple(create_loader()[0].dataset[0].val_mask.tolist())}
    cfg.seed = 4
    found.add(tuple(create_loader()[0].dataset[0].val_mask.tolist()))
    assert len(found) == 2
    configure(seed=3)
    cfg.seed = 9
    assert torch.equal(create_loader()[0].dataset[0].val_mask, data.val_mask)
    configure(kind="random")
    loaders = create_loader()
    assert int(loaders[0].dataset[0].test_mask.sum()) == 25 and find_notes(loaders) == ()


@pytest.mark.parametrize("name", ["AIFB", "MUTAG"])
def test_entities_have_no_features_and_labels_for_few(name: str, configure: Any, tmp_path: Path) -> None:
    write(tmp_path / "Entities", name.lower())
    configure(name, tmp_path)
    loaders = create_loader()
    (batch,) = loaders[0]
    assert (cfg.share.relations, cfg.share.node_types, cfg.share.dim_out) == (6, [[0, 6]], 2)
    assert batch.predicted.tolist() == [False, False, True, True, True, False]
    assert batch.y[batch.predicted].tolist() == [0, 1, 1]
    assert [int(batch[mask].sum()) for mask in MASKS] == [1, 1, 1]
    assert f"'{name}' has no validation split: 1 of its 2 training nodes" in find_notes(loaders)[0]


def test_mag_has_every_relation_both_ways(monkeypatch: pytest.MonkeyPatch, configure: Any) -> None:
    """A graph of OGBN-Mag's types; the files are of no use here (gigabytes)."""
    graph = HeteroData()
    graph["paper"].x, graph["paper"].y = torch.ones(3, 128), torch.tensor([0, 1, 0])
    for name, mask in split().items():
        graph["paper"][name] = mask[:3]
    for kind, count in (("author", 2), ("institution", 1), ("field_of_study", 2)):
        graph[kind].num_nodes = count
    for kind in (
        ("author", "affiliated_with", "institution"),
        ("author", "writes", "paper"),
        ("paper", "cites", "paper"),
        ("paper", "has_topic", "field_of_study"),
    ):
        graph[kind].edge_index = torch.tensor([[0], [0 if kind[2] == "institution" else 1]])
    monkeypatch.setattr(datasets, "OGB_MAG", lambda root: Loaded(graph))
    configure("ogbn-mag")
    (batch,) = create_loader()[0]
    assert cfg.share.relations == 7  # citations go both ways in one relation, three others have a reverse
    assert cfg.share.node_types == [[128, 3], [0, 2], [0, 1], [0, 2]]
    assert torch.bincount(batch.edge_type).tolist().count(2) == 1
    assert batch.num_edges == 8 and batch.num_nodes == 8


def test_dblp_and_imdb_by_name(hetero_data: Path, configure: Any) -> None:
    configure("DBLP", hetero_data)
    (batch,) = create_loader()[0]
    assert (batch.num_nodes, batch.num_edges) == (26_128, 239_566)
    assert (cfg.share.relations, cfg.share.dim_out) == (6, 4)
    assert cfg.share.node_types == [[451, 4057], [4233, 14328], [50, 7723], [0, 20]]
    assert [int(batch[mask].sum()) for mask in MASKS] == [400, 400, 3257]
    configure("IMDB", hetero_data)
    (batch,) = create_loader()[0]
    assert (batch.num_nodes, batch.num_edges, cfg.share.relations, cfg.share.dim_out) == (11_616, 34_212, 4, 3)
