"""Data sets of the user's own: functions and files, and what is said where they are not what they should be."""

from __future__ import annotations

import pickle
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from torch_geometric.data import Data, HeteroData, InMemoryDataset
from torch_geometric.graphgym import register
from torch_geometric.graphgym.config import cfg, set_cfg
from torch_geometric.graphgym.loader import create_loader
from yacs.config import CfgNode

from gkd_plugin.commands.data import describe_data
from gkd_plugin.config.load import read_config
from gkd_plugin.data.check import check_data
from gkd_plugin.data.keep import keep_data
from gkd_plugin.data.keys import SPLIT_KEYS, SPLITS
from gkd_plugin.data.loaders import LOADERS, MASKS, create_loaders, load_gkd
from gkd_plugin.data.own import find_file, load_file, load_function, make_dataset, names_function
from gkd_plugin.data.trust import check_names
from gkd_plugin.errors import ConfigError, UserError

MODULE = """
import torch
from torch_geometric.data import Data, HeteroData, InMemoryDataset

calls = []

def graph(nodes=40, **more):
    path = torch.arange(nodes)
    return Data(x=torch.rand(nodes, 3), edge_index=torch.stack([path, path.roll(1)]), y=path % 2, **more)

def make():
    calls.append(1)
    return graph()

def with_dir(dir):
    return graph(name=dir)

def with_both(*, seed=None, dir="", extra=7):
    return graph(name=f"{dir}/{seed}/{extra}")

def with_any(**words):
    return graph(name=",".join(sorted(words)))

def with_masks():
    cut = torch.arange(40) % 4
    return graph(train_mask=cut < 2, val_mask=cut == 2, test_mask=cut == 3)

several_calls = []

def several():
    several_calls.append(1)
    return [Data(x=torch.rand(n + 2, 3), edge_index=torch.tensor([[0], [1]]), y=torch.tensor([n % 2])) for n in range(20)]

def labelled_nodes():
    return [graph(n + 2) for n in range(20)]

def masked_nodes():
    masks = [{f"{part}_mask": torch.arange(n + 2) % 3 == k for k, part in enumerate(("train", "val", "test"))} for n in range(9)]
    return [graph(n + 2, **mask) for n, mask in enumerate(masks)]

class Indexed(InMemoryDataset):
    def __init__(self):
        super().__init__()
        self.data, self.slices = self.collate(labelled_nodes())
        for first, part in enumerate(("train", "val", "test")):
            self._data[f"{part}_graph_index"] = torch.arange(first, 20, 3)

class Whole(InMemoryDataset):
    def __init__(self):
        super().__init__()
        self.data, self.slices = self.collate([graph()])

class Several(InMemoryDataset):
    def __init__(self):
        super().__init__()
        self.data, self.slices = self.collate(several())

def empty(): return []
def nothing(): return None
def text(): return "Cora"
def hetero(): return HeteroData()
def mixed(): return [graph(), "x"]
def unlike(): return [graph(), Data(x=torch.rand(2, 3))]
def shapes(): return [graph(), Data(x=torch.rand(2, 5), edge_index=torch.zeros(2, 0).long(), y=torch.tensor([0, 1]))]
def unknown_size(): return Data(z=3)
def fails():
    return [][0]
def needs(argument): return graph()
def unlabelled():
    data = graph()
    del data.y
    return data
constant = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package in the working folder, gone from Python afterwards."""
    folder = tmp_path / "own_pkg"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "sets.py").write_text(MODULE)
    (folder / "torn.py").write_text("import torch\n1 / 0\n")
    (folder / "lacks.py").write_text("import a_module_that_is_nowhere\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield "own_pkg.sets"
    for name in [name for name in sys.modules if name.split(".")[0] == "own_pkg"]:
        del sys.modules[name]


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    monkeypatch.setattr(register, "loader_dict", dict(LOADERS))

    def make(name: str, folder: Path | str = "", task: str = "node", **splits: Any) -> None:
        cfg.clear()
        set_cfg(cfg)
        cfg[SPLITS] = CfgNode({**{key.name: None for key in SPLIT_KEYS}, **splits})
        cfg.dataset.format, cfg.dataset.name, cfg.dataset.dir, cfg.dataset.task = "gkd", name, str(folder), task

    yield make
    cfg.clear()
    set_cfg(cfg)


# ----------------------------------------------------------------------------------------------------------- functions


def test_what_a_function_may_return(module: str, configure: Any) -> None:
    for name in ("make", "Whole"):
        configure(f"{module}:{name}")
        loaders = create_loader()
        check_data(loaders, cfg)
        data = loaders[0].dataset[0]
        assert [int(data[mask].sum()) for mask in MASKS] == [20, 10, 10]
        assert (cfg.share.dim_in, cfg.share.dim_out) == (3, 2)
    configure(f"{module}:with_masks")
    data = create_loader()[0].dataset[0]
    assert torch.equal(data.test_mask, torch.arange(40) % 4 == 3)
    configure(f"{module}:several", task="graph")
    loaders = create_loader()
    check_data(loaders, cfg)
    assert [len(loader.dataset) for loader in loaders] == [10, 5, 5]


def test_arguments_that_a_function_takes(module: str) -> None:
    expected = {"with_dir": "here", "with_both": "here/5/7", "with_any": "dir,seed"}
    assert {name: load_function(f"{module}:{name}", "here", 5)[0].name for name in expected} == expected


def test_the_seed_is_that_of_the_split(module: str, configure: Any) -> None:
    configure(f"{module}:with_both", "data")
    cfg.seed = 3
    dataset = load_gkd("gkd", f"{module}:with_both", "data")
    assert dataset is not None and dataset[0].name == "data/3/7"
    cfg[SPLITS].seed = 8
    dataset = load_gkd("gkd", f"{module}:with_both", "data")
    assert dataset is not None and dataset[0].name == "data/8/7"


def test_a_function_is_asked_by_every_run(module: str, configure: Any) -> None:
    configure(f"{module}:make")
    with keep_data():
        create_loader()
        create_loader()
    assert len(sys.modules[module].calls) == 2


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("own_pkg.set:make", r"there is no module own_pkg.set in .*, nor is one installed"),
        ("own_pkgs:make", r"there is no module own_pkgs in"),
        ("own_pkg.lacks:make", r"importing own_pkg.lacks fails .*a_module_that_is_nowhere.*lacks.py, line 1"),
        ("own_pkg.torn:make", r"importing own_pkg.torn fails \(ZeroDivisionError.*torn.py, line 2"),
        ("own_pkg.sets:mak", r"own_pkg.sets has no function 'mak'. Did you mean 'make'"),
        ("own_pkg.sets:constant", r"something under the name that is not a function: 'constant'"),
        ("own_pkg.sets:fails", r"raised an error \(IndexError: list index out of range; .*sets.py, line \d+\)"),
        ("own_pkg.sets:needs", r"raised an error \(TypeError: .*argument"),
        (
            "own_pkg.sets:empty",
            r"returned an empty list .*Allowed: a Data, a HeteroData, a list of Data, or an InMemoryDataset",
        ),
        ("own_pkg.sets:nothing", r"returned a NoneType \(None\). Allowed"),
        ("own_pkg.sets:text", r"returned a str \('Cora'\). Allowed"),
        ("own_pkg.sets:mixed", r"returned a list with a str in it. Allowed"),
        ("own_pkg.sets:unlike", r"graphs of different kinds: graphs 0 and 1 do not both have edge_index, y"),
        ("own_pkg.sets:shapes", r"returned graphs that do not fit together"),
        ("own_pkg.sets:unknown_size", r"a graph whose number of nodes is unknown"),
    ],
)
def test_what_cannot_be_used(name: str, told: str, module: str) -> None:
    with pytest.raises(UserError, match=told):
        load_function(name, "", 0)


def test_a_graph_of_several_types_must_say_which_is_predicted(module: str, configure: Any) -> None:
    assert isinstance(load_function(f"{module}:hetero", "", 0)[0], HeteroData)  # what is made of it: test_relations.py
    configure(f"{module}:hetero")
    with pytest.raises(UserError, match=r"none has labels \(y\)\. Exactly one is predicted"):
        create_loader()


def test_no_labels(module: str, configure: Any) -> None:
    configure(f"{module}:unlabelled")
    with pytest.raises(UserError, match="there are no labels: the graphs have no y"):
        check_data(create_loader(), cfg)


def test_of_many_graphs_with_labelled_nodes_whole_ones_are_drawn(module: str, configure: Any) -> None:
    def sizes(name: str, **splits: Any) -> list[list[int]]:
        configure(f"{module}:{name}", **splits)
        found = []
        for part, loader in zip(("train", "val", "test"), create_loaders(), strict=True):
            graphs = [loader.dataset[number] for number in range(len(loader.dataset))]
            for graph in graphs:
                masks = {mask: graph[mask].tolist() for mask in MASKS}
                assert masks == {mask: [mask == f"{part}_mask"] * graph.num_nodes for mask in MASKS}
            found.append(sorted(graph.num_nodes for graph in graphs))
        return found

    parts = sizes("labelled_nodes")
    assert [len(part) for part in parts] == [10, 5, 5] and sorted(chain(*parts)) == list(range(2, 22))
    assert sizes("labelled_nodes") == parts != sizes("labelled_nodes", seed=7)
    assert [len(part) for part in sizes("labelled_nodes", kind="random", train=0.1, val=0.2)] == [2, 4, 14]
    assert sizes("Indexed") == [list(range(first + 2, 22, 3)) for first in range(3)]
    configure(f"{module}:masked_nodes")
    assert [int(graph.train_mask.sum()) for graph in create_loader()[0].dataset] == [1, 1, 2, 2, 2, 3, 3, 3, 4]
    configure(f"{module}:labelled_nodes", kind="per_class")
    with pytest.raises(
        ConfigError, match=r"splits.kind: 'per_class', but .* its graphs are of no class. Allowed: random"
    ):
        create_loader()


def test_gkd_data_counts_what_a_split_is_of(module: str, tmp_path: Path) -> None:
    assert "train 21, val 18, test 15 nodes" in str(describe_data(f"{module}:masked_nodes", str(tmp_path)))
    assert "train 10, val 5, test 5 graphs" in str(describe_data(f"{module}:labelled_nodes", str(tmp_path)))


def test_a_configuration_and_gkd_data_take_it(module: str, tmp_path: Path) -> None:
    name = f"{module}:make"
    assert read_config({"dataset": {"format": "gkd", "name": name}}).cfg.dataset.name == name
    found = describe_data(name, str(tmp_path))
    assert found.summary.nodes == 40 and found.refusal is None and found.place == "made without files"
    assert len(sys.modules[module].calls) == 1  # for a look; the next one asks again
    assert describe_data(name, str(tmp_path)).summary.splits == found.summary.splits
    assert len(sys.modules[module].calls) == 2


@pytest.mark.parametrize("kind", ["several", "Several"])
def test_a_look_at_graphs_asks_once_and_fits_the_task(kind: str, module: str, tmp_path: Path) -> None:
    found = describe_data(f"{module}:{kind}", str(tmp_path), ["splits.kind", "random"])
    assert (found.keys["task"], found.refusal) == ("graph", None)
    assert (found.summary.graphs, found.summary.splits) == (20, {"train": 10, "val": 5, "test": 5})
    assert len(sys.modules[module].several_calls) == 1


# ------------------------------------------------------------------------------------------------------------- names


def test_only_a_functions_name_has_a_colon() -> None:
    assert names_function("a:b") and names_function("a.b_1.c:_d")
    for word in ("a", "a:", ":b", "a:b:c", "a.:b", ".a:b", "a-b:c", "C:", "a:b()", "a b:c", "1a:b"):
        assert not names_function(word), word
    allowed = {("gkd", "a.b:c"), ("mine", "v1:small")}
    for format, name in [*allowed, ("PyG", "C:Amazon"), ("gkd", "C:x-y"), ("OGB", "a:b"), ("gkd", "a:b:c")]:
        problems = check_names(CfgNode({"format": format, "name": name}))
        assert bool(problems) != ((format, name) in allowed), (format, name)
    for name in ("../a:b", "a..b:c", "~a:b", "/a:b"):
        assert check_names(CfgNode({"format": "gkd", "name": name}))


# -------------------------------------------------------------------------------------------------------------- files


def graphs(count: int) -> list[Data]:
    return [
        Data(x=torch.rand(n + 3, 2), edge_index=torch.tensor([[0, 1], [1, 0]]), y=torch.tensor([n % 2]))
        for n in range(count)
    ]


def node_graph() -> Data:
    path = torch.arange(40)
    return Data(x=torch.rand(40, 3), edge_index=torch.stack([path, path.roll(1)]), y=path % 2)


@pytest.mark.parametrize("inside", ["data.pt", "processed/data.pt"])
def test_a_graph_that_was_saved(inside: str, tmp_path: Path, configure: Any) -> None:
    file = tmp_path / "mine" / inside
    file.parent.mkdir(parents=True)
    graph = node_graph()
    torch.save(graph, file)
    assert find_file(tmp_path / "mine") == file
    configure("mine", tmp_path)
    loaders = create_loader()
    check_data(loaders, cfg)
    data = loaders[0].dataset[0]
    assert all(torch.equal(data[key], graph[key]) for key in ("x", "y", "edge_index"))
    assert read_config({"dataset": {"format": "gkd", "name": "mine", "dir": str(tmp_path)}}).cfg.dataset.name == "mine"
    assert describe_data("mine", str(tmp_path)).place == f"in {tmp_path / 'mine'}"


@pytest.mark.parametrize("how", ["list", "save", "collated"])
def test_graphs_that_were_saved(how: str, tmp_path: Path) -> None:
    file, given = tmp_path / "data.pt", graphs(5)
    if how == "list":
        torch.save(given, file)
    elif how == "save":
        InMemoryDataset.save(given, str(file))
    else:
        torch.save(InMemoryDataset.collate(given), file)  # as OGB and older versions of PyG do
    found = load_file(file)
    assert len(found) == 5
    for graph, original in zip(found, given, strict=True):
        assert all(torch.equal(graph[key], original[key]) for key in ("x", "y", "edge_index"))


def test_one_graph_saved_by_pygs_save(tmp_path: Path, configure: Any) -> None:
    (tmp_path / "mine").mkdir()
    InMemoryDataset.save([node_graph()], str(tmp_path / "mine" / "data.pt"))
    configure("mine", tmp_path)
    data = create_loader()[0].dataset[0]
    assert int(data.train_mask.sum()) == 20


class Evil:
    """Would write a file if it were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_nothing_in_a_file_runs(tmp_path: Path) -> None:
    file = tmp_path / "data.pt"
    torch.save(Data(x=torch.rand(2, 2), trap=Evil(tmp_path / "ran")), file)
    with pytest.raises(UserError, match="cannot be read .*UnpicklingError"):
        load_file(file)
    assert not (tmp_path / "ran").exists()


def test_a_pickle_is_refused_without_a_word_of_pytorch_before(tmp_path: Path) -> None:
    file = tmp_path / "data.pt"
    file.write_bytes(pickle.dumps({"x": Evil(tmp_path / "ran")}, protocol=4))
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        with pytest.raises(UserError, match="cannot be read"):
            load_file(file)
    assert heard == [] and not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"x": torch.ones(2, 2)}, "holds a dict"),
        (torch.ones(3), "holds a Tensor"),
        ([], "holds an empty list"),
        (b"", "cannot be read"),
    ],
)
def test_files_of_another_kind(content: Any, told: str, tmp_path: Path) -> None:
    file = tmp_path / "data.pt"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(UserError, match=told):
        load_file(file)


def test_a_folder_without_the_file(tmp_path: Path, configure: Any) -> None:
    (tmp_path / "mine").mkdir()
    told = r"'mine' is unknown, and the folder .*mine has no data.pt. Save a graph.*torch.save"
    with pytest.raises(ConfigError, match=told):
        read_config({"dataset": {"format": "gkd", "name": "mine", "dir": str(tmp_path)}})
    configure("mine", tmp_path)
    with pytest.raises(ConfigError, match=told):
        create_loader()
    configure("other", tmp_path)
    told = rf"'other' is unknown under dataset.format: gkd, and there is no {re.escape(str(tmp_path / 'other' / 'data.pt'))}\. "
    with pytest.raises(UserError, match=told):
        create_loader()
    with pytest.raises(ConfigError, match=told):
        read_config({"dataset": {"format": "gkd", "name": "other", "dir": str(tmp_path)}})


def test_an_empty_data_set_is_refused() -> None:
    whole = make_dataset(graphs(3), "it is")
    assert len(whole) == 3
    with pytest.raises(UserError, match="without any graph"):
        make_dataset(whole[:0], "it is")
