"""Data sets by name: which class is asked for what, and what becomes of its answer."""

from __future__ import annotations

import inspect
import os
import sys
import types
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch_geometric import datasets
from torch_geometric.data import Data, InMemoryDataset
from torch_geometric.graphgym import register
from torch_geometric.graphgym.config import cfg, set_cfg
from torch_geometric.graphgym.loader import create_loader
from yacs.config import CfgNode

from gkd_plugin.config.load import read_config
from gkd_plugin.data import names as module
from gkd_plugin.data.check import check_data
from gkd_plugin.data.keys import SPLIT_KEYS, SPLITS
from gkd_plugin.data.loaders import LOADERS, MASKS, create_loaders, load_gkd
from gkd_plugin.data.names import DATA_SETS, find_folder, find_name, find_tu, load_named
from gkd_plugin.data.trust import reading
from gkd_plugin.errors import ConfigError, UserError

# name: class, what it is asked for beside the root; written down from PyG's documentation, not from the table
CALLS: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    "Cora": ("Planetoid", ("Cora",), {}),
    "CiteSeer": ("Planetoid", ("CiteSeer",), {}),
    "PubMed": ("Planetoid", ("PubMed",), {}),
    "CoauthorCS": ("Coauthor", ("CS",), {}),
    "CoauthorPhysics": ("Coauthor", ("Physics",), {}),
    "AmazonComputers": ("Amazon", ("Computers",), {}),
    "AmazonPhoto": ("Amazon", ("Photo",), {}),
    "AmazonProducts": ("AmazonProducts", (), {}),
    "Reddit": ("Reddit", (), {}),
    "Flickr": ("Flickr", (), {}),
    "Yelp": ("Yelp", (), {}),
    "WikiCS": ("WikiCS", (), {"is_undirected": True}),
    "LastFMAsia": ("LastFMAsia", (), {}),
    "Actor": ("Actor", (), {}),
    "chameleon": ("WikipediaNetwork", ("chameleon",), {}),
    "squirrel": ("WikipediaNetwork", ("squirrel",), {}),
    "crocodile": ("WikipediaNetwork", ("crocodile",), {"geom_gcn_preprocess": False}),
    "Cornell": ("WebKB", ("Cornell",), {}),
    "Texas": ("WebKB", ("Texas",), {}),
    "Wisconsin": ("WebKB", ("Wisconsin",), {}),
    "roman-empire": ("HeterophilousGraphDataset", ("Roman-empire",), {}),
    "amazon-ratings": ("HeterophilousGraphDataset", ("Amazon-ratings",), {}),
    "minesweeper": ("HeterophilousGraphDataset", ("Minesweeper",), {}),
    "tolokers": ("HeterophilousGraphDataset", ("Tolokers",), {}),
    "questions": ("HeterophilousGraphDataset", ("Questions",), {}),
    "ESOL": ("MoleculeNet", ("ESOL",), {}),
    "FreeSolv": ("MoleculeNet", ("FreeSolv",), {}),
    "Lipophilicity": ("MoleculeNet", ("Lipo",), {}),
    "HIV": ("MoleculeNet", ("HIV",), {}),
    "BACE": ("MoleculeNet", ("BACE",), {}),
    "BBBP": ("MoleculeNet", ("BBBP",), {}),
    "Tox21": ("MoleculeNet", ("Tox21",), {}),
    "ToxCast": ("MoleculeNet", ("ToxCast",), {}),
    "SIDER": ("MoleculeNet", ("SIDER",), {}),
    "ClinTox": ("MoleculeNet", ("ClinTox",), {}),
    "PCBA": ("MoleculeNet", ("PCBA",), {}),
    "MUV": ("MoleculeNet", ("MUV",), {}),
}
IN_PARTS = {  # classes that give one split at a time
    "PPI": ("PPI", {}),
    "ZINC": ("ZINC", {"subset": True}),
    "ZINC_full": ("ZINC", {"subset": False}),
}
OGB = {"ogbn-arxiv", "ogbn-products"}
RELATIONS = {"AIFB", "MUTAG", "DBLP", "IMDB", "ogbn-mag"}  # in test_relations.py
MESHES = {"GeometricShapes", "ModelNet10", "ModelNet40"}  # in test_clouds.py
NODES = 40


@pytest.fixture(autouse=True)
def configure(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """The host's cfg for a data set of the table."""
    monkeypatch.setattr(register, "loader_dict", dict(LOADERS))
    monkeypatch.setattr(module, "find_spec", lambda name: True)  # every package is there

    def make(name: str, folder: Path | str = "", **splits: Any) -> None:
        cfg.clear()
        set_cfg(cfg)
        known = DATA_SETS[name]
        cfg[SPLITS] = CfgNode({**{key.name: None for key in SPLIT_KEYS}, **splits})
        cfg.dataset.format, cfg.dataset.name, cfg.dataset.dir = "gkd", name, str(folder)
        cfg.dataset.task, cfg.dataset.task_type = known.task, known.task_type

    yield make
    cfg.clear()
    set_cfg(cfg)


class Several(InMemoryDataset):
    def __init__(self, graphs: list[Data]) -> None:
        super().__init__()
        self.data, self.slices = self.collate(graphs)


def node_graph(name: str) -> Data:
    """What the class returns, in small: PyG's documentation has the shapes."""
    path = torch.arange(NODES)
    data = Data(x=torch.rand(NODES, 6), edge_index=torch.stack([path, path.roll(1)]), y=torch.arange(NODES) % 4)
    if name in ("Yelp", "AmazonProducts"):
        data.y = (torch.rand(NODES, 5) > 0.5).float()
    elif name == "crocodile":
        data.y = torch.rand(NODES)
    cut = torch.arange(NODES) % 4
    masks = {"train_mask": cut < 2, "val_mask": cut == 2, "test_mask": cut == 3}
    if name in ("Cora", "CiteSeer", "PubMed", "Reddit", "Flickr", "Yelp", "AmazonProducts"):
        data.update(masks)
    elif name == "WikiCS":
        several = {key: mask.view(-1, 1).repeat(1, 20) for key, mask in masks.items() if key != "test_mask"}
        data.update({**several, "stopping_mask": several["val_mask"], "test_mask": masks["test_mask"]})
    elif CALLS[name][0] in ("Actor", "WikipediaNetwork", "WebKB", "HeterophilousGraphDataset") and name != "crocodile":
        data.update({key: mask.view(-1, 1).repeat(1, 10) for key, mask in masks.items()})
    return data


def molecule(name: str, number: int) -> Data:
    atoms = 3 + number % 3
    path = torch.arange(atoms - 1)
    data = Data(edge_index=torch.stack([path, path + 1]), edge_attr=torch.zeros(atoms - 1, 3, dtype=torch.long))
    data.x = torch.randint(0, 9, (atoms, 9))
    kind = DATA_SETS[name].task_type
    data.y = torch.full((1, 3 if kind == "classification_multilabel" else 1), float(number % 2))
    return data


def replace(monkeypatch: pytest.MonkeyPatch, name: str, answer: Callable[..., InMemoryDataset]) -> list[Any]:
    """Puts a stand-in for a class of PyG in its place, which notes what it was asked for and holds it against the class."""
    real = getattr(datasets, name)
    signature = inspect.signature(real)
    asked: list[Any] = []

    def stand_in(*args: Any, **kwargs: Any) -> InMemoryDataset:
        signature.bind(*args, **kwargs)  # a TypeError where the class itself would raise one
        asked.append((args, kwargs))
        return answer(*args, **kwargs)

    monkeypatch.setattr(datasets, name, stand_in)
    return asked


def test_every_name_is_tried_here() -> None:
    assert {*CALLS, *IN_PARTS, *OGB, *RELATIONS, *MESHES} == set(DATA_SETS)


@pytest.mark.parametrize("name", [name for name in CALLS if DATA_SETS[name].task == "node"])
def test_node_data_sets(name: str, monkeypatch: pytest.MonkeyPatch, configure: Any) -> None:
    class_name, words, keywords = CALLS[name]
    asked = replace(monkeypatch, class_name, lambda *_, **__: Several([node_graph(name)]))
    configure(name, "data")
    loaders = create_loaders()
    assert asked == [((os.path.join("data", name), *words), keywords)]
    check_data(loaders, cfg)
    data = loaders[0].dataset[0]
    assert all(data[mask].shape == (NODES,) and data[mask].dtype == torch.bool for mask in MASKS)
    assert cfg.share.dim_in == 6
    assert (
        cfg.share.dim_out
        == {"classification": 4, "classification_multilabel": 5, "regression": 1}[cfg.dataset.task_type]
    )


@pytest.mark.parametrize("name", [name for name in CALLS if DATA_SETS[name].task == "graph"])
def test_molecules(name: str, monkeypatch: pytest.MonkeyPatch, configure: Any) -> None:
    class_name, words, keywords = CALLS[name]
    asked = replace(monkeypatch, class_name, lambda *_, **__: Several([molecule(name, n) for n in range(20)]))
    configure(name, "data")
    loaders = create_loader()
    assert asked == [((os.path.join("data", name), *words), keywords)]
    assert words[0].lower() in datasets.molecule_net.MoleculeNet.names  # which the class asserts
    check_data(loaders, cfg)
    assert [len(loader.dataset) for loader in loaders] == [10, 5, 5]
    graph = loaders[0].dataset[0]
    assert graph.x.dtype == torch.float32 and graph.x.size(1) == cfg.share.dim_in == 9
    if cfg.dataset.task_type == "classification":
        assert graph.y.dtype == torch.long and graph.y.shape == (1,)
        assert cfg.share.dim_out == 2
    elif cfg.dataset.task_type == "regression":
        assert graph.y.shape == (1, 1) and cfg.share.dim_out == 1


@pytest.mark.parametrize("name", ["ZINC", "ZINC_full"])
def test_zinc_has_its_own_split_and_one_column_for_each_kind_of_atom(
    name: str, monkeypatch: pytest.MonkeyPatch, configure: Any
) -> None:
    sizes = {"train": 6, "val": 3, "test": 2}
    atoms = torch.tensor([[0], [27], [5]])

    def answer(root: str, subset: bool, split: str) -> InMemoryDataset:
        edges = torch.tensor([[0, 1], [1, 2]])
        return Several([Data(x=atoms, edge_index=edges, y=torch.tensor([float(sizes[split])]))] * sizes[split])

    asked = replace(monkeypatch, "ZINC", answer)
    configure(name, "data")
    loaders = create_loader()
    root = os.path.join("data", name)
    assert asked == [((root,), {**IN_PARTS[name][1], "split": part}) for part in sizes]
    check_data(loaders, cfg)
    assert [len(loader.dataset) for loader in loaders] == list(sizes.values())
    for loader, size in zip(loaders, sizes.values(), strict=True):
        assert all(float(graph.y) == size for graph in loader.dataset)
    assert (cfg.share.dim_in, cfg.share.dim_out) == (28, 1)
    assert loaders[0].dataset[0].x.argmax(dim=1).tolist() == [0, 27, 5]
    assert loaders[0].dataset[0].x.sum(dim=1).tolist() == [1, 1, 1]
    configure(name, "data", kind="random", train=0.6, val=0.2)
    assert [len(loader.dataset) for loader in create_loader()] == [7, 2, 2]
    configure(name, "data")
    cfg.dataset.node_encoder = True
    assert torch.equal(create_loader()[0].dataset[0].x, atoms)  # an encoder reads the kinds themselves
    configure(name, "data", row_normalize=True)
    with pytest.raises(ConfigError, match="many graphs"):
        create_loader()


class Arxiv(InMemoryDataset):
    """OGB's node data sets in small: a column of classes, one direction of each edge, a split by index."""

    asked: list[dict[str, Any]] = []

    def __init__(self, name: str, root: str = "dataset", transform: Any = None, pre_transform: Any = None) -> None:
        super().__init__()
        self.asked.append({"name": name, "root": root})
        path = torch.arange(NODES)
        data = Data(x=torch.rand(NODES, 6), edge_index=torch.stack([path[:-1], path[1:]]), num_nodes=NODES)
        data.y = (path % 4).view(-1, 1)
        data.node_year = path.view(-1, 1)
        self.data, self.slices = self.collate([data])

    def get_idx_split(self) -> dict[str, torch.Tensor]:
        return {"train": torch.arange(20), "valid": torch.arange(20, 30), "test": torch.arange(30, NODES)}


@pytest.mark.parametrize("name", sorted(OGB))
def test_ogbs_node_data_sets(name: str, monkeypatch: pytest.MonkeyPatch, configure: Any) -> None:
    fake = types.ModuleType("ogb.nodeproppred")
    fake.PygNodePropPredDataset = Arxiv  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ogb", types.ModuleType("ogb"))
    monkeypatch.setitem(sys.modules, "ogb.nodeproppred", fake)
    monkeypatch.setattr(Arxiv, "asked", [])
    configure(name, "data")
    loaders = create_loader()
    assert Arxiv.asked == [{"name": name, "root": "data"}]
    check_data(loaders, cfg)
    data = loaders[0].dataset[0]
    assert [data[mask].nonzero().view(-1).tolist() for mask in MASKS] == [
        list(range(20)),
        list(range(20, 30)),
        list(range(30, NODES)),
    ]
    assert data.y.shape == (NODES,) and cfg.share.dim_out == 4
    path = torch.arange(NODES)
    one_way = {(int(a), int(b)) for a, b in pairwise(path)}
    both = one_way | {(b, a) for a, b in one_way}
    assert set(map(tuple, data.edge_index.t().tolist())) == (both if name == "ogbn-arxiv" else one_way)
    assert find_folder(name, "data") == Path("data") / name.replace("-", "_")


def test_ogbs_own_class_and_files(tmp_path: Path, configure: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pandas = pytest.importorskip("pandas")
    ogb = pytest.importorskip("ogb.nodeproppred")
    raw, split = tmp_path / "ogbn_arxiv" / "raw", tmp_path / "ogbn_arxiv" / "split" / "time"
    raw.mkdir(parents=True)
    split.mkdir(parents=True)
    (tmp_path / "ogbn_arxiv" / "RELEASE_v1.txt").touch()

    def write(path: Path, values: Any) -> None:
        pandas.DataFrame(values).to_csv(path, header=False, index=False, compression="gzip")

    write(raw / "edge.csv.gz", [[0, 1], [1, 2], [4, 3]])
    write(raw / "node-feat.csv.gz", torch.rand(5, 128).numpy())
    write(raw / "node-label.csv.gz", [[0], [1], [0], [1], [0]])
    write(raw / "node_year.csv.gz", [[2000]] * 5)
    write(raw / "num-node-list.csv.gz", [[5]])
    write(raw / "num-edge-list.csv.gz", [[3]])
    for part, indices in {"train": [0, 1], "valid": [2, 3], "test": [4]}.items():
        write(split / f"{part}.csv.gz", [[index] for index in indices])
    inspect.signature(ogb.PygNodePropPredDataset).bind(name="ogbn-arxiv", root="data")
    configure("ogbn-arxiv", tmp_path)
    for _ in range(2):  # prepared, then read from what was prepared
        with reading("gkd"):
            dataset = load_gkd("gkd", "ogbn-arxiv", str(tmp_path))
        assert dataset is not None
        assert dataset[0].edge_index.size(1) == 6 and dataset[0].train_mask.tolist() == [
            True,
            True,
            False,
            False,
            False,
        ]


# --------------------------------------------------------------------------------------------------------------- names


def test_one_spelling_is_meant_by_many() -> None:
    meant = {
        "cora": "Cora",
        "CORA": "Cora",
        "Amazon-Computers": "AmazonComputers",
        "ogbn_arxiv": "ogbn-arxiv",
        "Roman-empire": "roman-empire",
        "coauthor_cs": "CoauthorCS",
        "Cora": "Cora",
        "Coral": "Coral",
        "TU_mutag": "TU_mutag",
    }
    assert {word: find_name(word) for word in meant} == meant
    assert all(find_name(name.lower()) == name for name in DATA_SETS), "two names differ in their case only"


def test_a_data_set_of_tu_that_lies_there_under_another_spelling(tmp_path: Path) -> None:
    (tmp_path / "TU_ENZYMES").mkdir()
    for word in ("tu_enzymes", "TU-ENZYMES", "TU_enzymes", "tuenzymes"):
        for format in ("gkd", "PyG"):
            dataset = {"format": format, "name": word, "task": "graph", "dir": str(tmp_path)}
            with pytest.raises(ConfigError, match="Did you mean 'TU_ENZYMES'"):
                read_config({"dataset": dataset})
    assert find_tu("TU_ENZYMES", tmp_path) is None and find_tu("TU_MUTAG", tmp_path) is None
    (tmp_path / "TU_enzymes").mkdir()
    assert find_tu("TU_enzymes", tmp_path) is None and find_tu("tu_enzymes", tmp_path) is None  # which of the two?


def test_a_folder_of_data_that_is_removed_meanwhile_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scandir(_: object) -> None:
        raise FileNotFoundError("another process was here")

    monkeypatch.setattr(os, "scandir", scandir)
    assert find_tu("TU_ENZYMES", tmp_path) is None


def test_a_configuration_has_the_one_spelling() -> None:
    config = read_config({"dataset": {"format": "gkd", "name": "amazon_photo", "task": "node"}})
    assert config.cfg.dataset.name == "AmazonPhoto"


def test_host_programs_may_spell_it_as_they_like(monkeypatch: pytest.MonkeyPatch, configure: Any) -> None:
    asked = replace(monkeypatch, "Planetoid", lambda *_, **__: Several([node_graph("Cora")]))
    configure("Cora", "data")
    cfg.dataset.name = "cORA"
    create_loader()
    assert asked[0][0] == (os.path.join("data", "Cora"), "Cora")


@pytest.mark.parametrize(
    ("dataset", "told"),
    [
        ({"name": "Roman-empir", "task": "node"}, "Did you mean 'roman-empire'"),
        ({"name": "ZINC", "task": "node"}, r"dataset.task: 'node', but ZINC is for graph tasks. Write graph."),
        ({"name": "Reddit", "task": "graph"}, r"dataset.task: 'graph', but Reddit is for node tasks. Write node."),
    ],
)
def test_what_a_configuration_may_not_say(dataset: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        read_config({"dataset": {"format": "gkd", **dataset}})


def test_a_missing_package_is_told_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, configure: Any
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    for name, task, package in (("ogbn-products", "node", "ogb"), ("ESOL", "graph", "rdkit")):
        told = f"dataset.name: '{name}' needs the package {package}. Install it: pip install {package}."
        with pytest.raises(ConfigError, match=told):
            read_config({"dataset": {"format": "gkd", "name": name, "task": task, "dir": str(tmp_path)}})
        with pytest.raises(ConfigError, match=told):
            load_named(name, str(tmp_path / name))
    assert load_named("nothing", str(tmp_path)) is None
    prepared = tmp_path / "ESOL" / "esol" / "processed"
    prepared.mkdir(parents=True)
    (prepared / "data.pt").touch()
    assert DATA_SETS["ESOL"].find_missing(tmp_path / "ESOL") is None  # rdkit has done its work


# --------------------------------------------------------------------------------------------------------------- labels


@pytest.mark.parametrize(
    ("name", "kind", "told"),
    [
        ("Yelp", "classification", "y has 5 labels for each item. Write dataset.task_type: classification_multilabel"),
        (
            "Reddit",
            "classification_multilabel",
            "y has one class for each item. Write dataset.task_type: classification",
        ),
    ],
)
def test_labels_of_another_kind_than_the_task(
    name: str, kind: str, told: str, monkeypatch: pytest.MonkeyPatch, configure: Any
) -> None:
    replace(monkeypatch, name, lambda *_, **__: Several([node_graph(name)]))
    configure(name)
    cfg.dataset.task_type = kind
    with pytest.raises(UserError, match=told):
        check_data(create_loader(), cfg)


def test_missing_labels_among_several_are_counted(monkeypatch: pytest.MonkeyPatch, configure: Any) -> None:
    def answer(*_: Any, **__: Any) -> InMemoryDataset:
        graphs = [molecule("Tox21", number) for number in range(20)]
        graphs[3].y[0, 1] = graphs[4].y[0, 2] = float("nan")
        return Several(graphs)

    replace(monkeypatch, "MoleculeNet", answer)
    configure("Tox21")
    with pytest.raises(UserError, match=r"2 of 60 labels are missing \(NaN\)"):
        check_data(create_loader(), cfg)
