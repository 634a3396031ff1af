"""The data sets of ``dataset.format: gkd`` by name. A new one is one entry in ``DATA_SETS``."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch_geometric import datasets  # its classes are looked up when they are used, so that a test may replace one
from torch_geometric.data import InMemoryDataset
from torch_geometric.transforms import Constant

from gkd_plugin.data.clouds import Meshes
from gkd_plugin.data.ogb import load_ogb_nodes
from gkd_plugin.data.relations import ENTITIES, load_entities, load_mag
from gkd_plugin.data.split_graphs import PARTS, OwnSplit, SplitGraphs
from gkd_plugin.errors import ConfigError, Problem

CITATION, SHOPS, WEB, HETEROPHILOUS, RELATIONS, MOLECULES, CLOUDS, MANY = (
    "citation and co-author graphs",
    "products bought together",
    "social and web graphs",
    "heterophilous graphs",
    "graphs with relations (model.type: rgcn)",
    "molecules (dataset.task: graph)",
    "point clouds (dataset.task: graph)",
    "many graphs",
)


@dataclass(frozen=True)
class Known:
    """A data set that has a name.

    Args:
        load (callable): Gives it, from the folder ``<dataset.dir>/<name>``.
        group (str): The heading under which ``gkd data`` lists it.
        task (str): ``dataset.task``. (default: node)
        task_type (str): ``dataset.task_type``. (default: classification)
        many (bool): Whether it is many graphs. (default: ``False``)
        needs (str, optional): The package without which it cannot be read.
        prepares_with (str, optional): The package without which its raw files cannot be prepared.
        categories (int, optional): How many values an integer feature has, where it names a kind (of atom) and is no number.
        place (str, optional): Its folder in ``dataset.dir``, where that is not its name.
    """

    load: Callable[[str], InMemoryDataset]
    group: str
    task: str = "node"
    task_type: str = "classification"
    many: bool = False
    needs: str | None = None
    prepares_with: str | None = None
    categories: int | None = None
    place: str | None = None

    def find_missing(self, root: str | Path) -> str | None:
        """The package that has to be installed before the data set can be loaded from ``root``."""
        if self.needs is not None and find_spec(self.needs) is None:
            return self.needs
        if self.prepares_with is None or find_spec(self.prepares_with) is not None:
            return None
        return None if any(Path(root).rglob("processed/*.pt")) else self.prepares_with


def load_named(name: str, root: str) -> InMemoryDataset | None:
    """The data set of this name, ``None`` where there is no such name.

    Args:
        name (str): A name of ``DATA_SETS``, or ``TU_<name>``.
        root (str): ``<dataset.dir>/<name>``.

    Raises:
        ConfigError: If a package is missing.
    """
    if name.startswith("TU_"):
        return _load_tu(root, name[3:])
    if name not in DATA_SETS:
        return None
    if problem := find_missing_package(name, root):
        raise ConfigError([problem])
    return DATA_SETS[name].load(root)


def find_missing_package(name: str, root: str | Path) -> Problem | None:
    """What is wrong where a data set needs a package that is not installed.

    Args:
        name (str): As in ``DATA_SETS``; any other needs none.
        root (str or Path): ``<dataset.dir>/<name>``.
    """
    package = DATA_SETS[name].find_missing(root) if name in DATA_SETS else None
    if package is None:
        return None
    return Problem("dataset.name", f"'{name}' needs the package {package}", f"Install it: pip install {package}.")


def find_name(word: str) -> str:
    """The name that is meant by ``word``, in whatever case, with ``-``, ``_`` or nothing between its parts; else ``word``."""
    if word in DATA_SETS:
        return word
    same = [name for name in DATA_SETS if _squeeze(name) == _squeeze(word)]
    return same[0] if len(same) == 1 else word


def find_tu(word: str, dataset_dir: str | Path) -> str | None:
    """The data set of TU's collection in ``dataset_dir`` that ``word`` spells otherwise; ``None`` where it is right or means none.

    Args:
        word (str): ``dataset.name``.
        dataset_dir (str or Path): ``dataset.dir``.
    """
    if (Path(dataset_dir) / word).is_dir():
        return None
    try:
        there = [path.name for path in Path(dataset_dir).glob("TU_*") if path.is_dir()]
    except OSError:  # the folder is gone meanwhile, or may not be read: loading says it
        there = []
    same = [name for name in there if _squeeze(name) == _squeeze(word)]
    return same[0] if len(same) == 1 else None


def find_folder(name: str, dataset_dir: str | Path) -> Path:
    """Where the files of a data set lie.

    Args:
        name (str): As in ``DATA_SETS``, or any other name.
        dataset_dir (str or Path): ``dataset.dir``.
    """
    known = DATA_SETS.get(name)
    return Path(dataset_dir) / (known.place if known is not None and known.place else name)


def _squeeze(word: str) -> str:
    return re.sub(r"[-_ ]", "", word).lower()


# ------------------------------------------------------------------------------------------------------------- loading


def _load_ppi(root: str) -> InMemoryDataset:
    return SplitGraphs({part: list(datasets.PPI(root, split=part)) for part in PARTS})


def _zinc(subset: bool) -> Known:
    def load(root: str) -> InMemoryDataset:
        return OwnSplit({part: list(datasets.ZINC(root, subset=subset, split=part)) for part in PARTS})

    return Known(load, MOLECULES, task="graph", task_type="regression", many=True, categories=28)


def _load_tu(root: str, name: str) -> InMemoryDataset:
    dataset = datasets.TUDataset(root, name)
    if dataset.num_node_features == 0:
        dataset.transform = Constant()
    return dataset


def _load_molecules(root: str, name: str, task_type: str) -> InMemoryDataset:
    dataset = datasets.MoleculeNet(root, name)
    if task_type == "classification":  # written as 0.0 and 1.0, in a column
        dataset._data.y = dataset._data.y.view(-1).long()
    return dataset


def _molecules(name: str, task_type: str, spelled: str | None = None) -> Known:
    return Known(
        lambda root: _load_molecules(root, spelled or name, task_type),
        MOLECULES,
        task="graph",
        task_type=task_type,
        many=True,
        prepares_with="rdkit",
    )


def _load_shapes(root: str) -> InMemoryDataset:
    return Meshes("GeometricShapes", list(datasets.GeometricShapes(root, train=True)))  # its test meshes are the same


def _modelnet(number: str) -> Known:
    def load(root: str) -> InMemoryDataset:
        shapes, tests = (list(datasets.ModelNet(root, number, train=train)) for train in (True, False))
        return Meshes(f"ModelNet{number}", shapes, tests)

    return Known(load, CLOUDS, task="graph", many=True)


def _ogb_nodes(name: str, group: str, directed: bool) -> Known:
    place = name.replace("-", "_")
    return Known(lambda root: load_ogb_nodes(root, name, directed), group, needs="ogb", place=place)


def _entities(name: str) -> Known:
    return Known(lambda root: load_entities(Path(root).parent, name), RELATIONS, place=f"{ENTITIES}/{name.lower()}")


def _heterophilous(name: str) -> Known:
    return Known(lambda root: datasets.HeterophilousGraphDataset(root, name), HETEROPHILOUS)


def _wikipedia(name: str) -> Known:
    return Known(lambda root: datasets.WikipediaNetwork(root, name), HETEROPHILOUS)


def _webkb(name: str) -> Known:
    return Known(lambda root: datasets.WebKB(root, name), HETEROPHILOUS)


DATA_SETS: dict[str, Known] = {
    "Cora": Known(lambda root: datasets.Planetoid(root, "Cora"), CITATION),
    "CiteSeer": Known(lambda root: datasets.Planetoid(root, "CiteSeer"), CITATION),
    "PubMed": Known(lambda root: datasets.Planetoid(root, "PubMed"), CITATION),
    "CoauthorCS": Known(lambda root: datasets.Coauthor(root, "CS"), CITATION),
    "CoauthorPhysics": Known(lambda root: datasets.Coauthor(root, "Physics"), CITATION),
    "ogbn-arxiv": _ogb_nodes("ogbn-arxiv", CITATION, directed=True),
    "AmazonComputers": Known(lambda root: datasets.Amazon(root, "Computers"), SHOPS),
    "AmazonPhoto": Known(lambda root: datasets.Amazon(root, "Photo"), SHOPS),
    "AmazonProducts": Known(lambda root: datasets.AmazonProducts(root), SHOPS, task_type="classification_multilabel"),
    "ogbn-products": _ogb_nodes("ogbn-products", SHOPS, directed=False),
    "Reddit": Known(lambda root: datasets.Reddit(root), WEB),
    "Flickr": Known(lambda root: datasets.Flickr(root), WEB),
    "Yelp": Known(lambda root: datasets.Yelp(root), WEB, task_type="classification_multilabel"),
    "WikiCS": Known(lambda root: datasets.WikiCS(root, is_undirected=True), WEB),
    "LastFMAsia": Known(lambda root: datasets.LastFMAsia(root), WEB),
    "Actor": Known(lambda root: datasets.Actor(root), HETEROPHILOUS),
    "chameleon": _wikipedia("chameleon"),
    "squirrel": _wikipedia("squirrel"),
    "crocodile": Known(
        lambda root: datasets.WikipediaNetwork(root, "crocodile", geom_gcn_preprocess=False),
        HETEROPHILOUS,
        task_type="regression",  # its labels are the pages' traffic, and no one else has made classes of them
    ),
    "Cornell": _webkb("Cornell"),
    "Texas": _webkb("Texas"),
    "Wisconsin": _webkb("Wisconsin"),
    "roman-empire": _heterophilous("Roman-empire"),
    "amazon-ratings": _heterophilous("Amazon-ratings"),
    "minesweeper": _heterophilous("Minesweeper"),
    "tolokers": _heterophilous("Tolokers"),
    "questions": _heterophilous("Questions"),
    "AIFB": _entities("AIFB"),
    "MUTAG": _entities("MUTAG"),
    "DBLP": Known(lambda root: datasets.DBLP(root), RELATIONS),
    "IMDB": Known(lambda root: datasets.IMDB(root), RELATIONS),
    "ogbn-mag": Known(load_mag, RELATIONS),
    "PPI": Known(_load_ppi, MANY, task_type="classification_multilabel", many=True),
    "GeometricShapes": Known(_load_shapes, CLOUDS, task="graph", many=True),
    "ModelNet10": _modelnet("10"),
    "ModelNet40": _modelnet("40"),
    "ZINC": _zinc(subset=True),
    "ZINC_full": _zinc(subset=False),
    "ESOL": _molecules("ESOL", "regression"),
    "FreeSolv": _molecules("FreeSolv", "regression"),
    "Lipophilicity": _molecules("Lipophilicity", "regression", "Lipo"),
    "HIV": _molecules("HIV", "classification"),
    "BACE": _molecules("BACE", "classification"),
    "BBBP": _molecules("BBBP", "classification"),
    "Tox21": _molecules("Tox21", "classification_multilabel"),
    "ToxCast": _molecules("ToxCast", "classification_multilabel"),
    "SIDER": _molecules("SIDER", "classification_multilabel"),
    "ClinTox": _molecules("ClinTox", "classification_multilabel"),
    "PCBA": _molecules("PCBA", "classification_multilabel"),
    "MUV": _molecules("MUV", "classification_multilabel"),
}


def encode_categories(dataset: InMemoryDataset, known: Known | None) -> None:
    """Whole numbers as features become what layers read: one column per kind where they name kinds, floats elsewhere."""
    x = dataset._data.get("x")
    if x is None or x.is_floating_point() or x.is_complex():
        return
    kinds = known.categories if known is not None else None
    dataset._data.x = x.float() if kinds is None else torch.nn.functional.one_hot(x.view(-1), kinds).float()
