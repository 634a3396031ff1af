from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
import torch
from torch_geometric.data import Data, InMemoryDataset
from torch_geometric.graphgym import register
from torch_geometric.graphgym.config import cfg

from gkd_plugin.data.load import load
from gkd_plugin.data.names import DATA_SETS, RELATIONS
from gkd_plugin.errors import UserError


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.delenv("GKD_DATA_DIR", raising=False)


def use(name: str, folder: Path, **dataset) -> None:
    cfg.dataset.name, cfg.dataset.dir = name, str(folder)
    cfg.dataset.update(dataset)


def copied(data_sets, name: str, out: Path) -> Path:
    shutil.copytree(data_sets(name) / name, out / name, ignore=shutil.ignore_patterns("processed"))
    return next((out / name).rglob("raw"))


class Toy(InMemoryDataset):
    def __init__(self, **masks: torch.Tensor) -> None:
        super().__init__()
        data = Data(
            x=torch.randn(4, 2), edge_index=torch.tensor([[0, 1], [1, 0]]), y=torch.tensor([0, 1, 0, 1]), **masks
        )
        self.data, self.slices = self.collate([data])


def toy(monkeypatch, **masks: list[int]) -> None:
    dataset = Toy(**{name: torch.tensor(mask).bool() for name, mask in masks.items()})
    monkeypatch.setitem(register.loader_dict, "toy", lambda format, name, folder: dataset if name == "toy" else None)
    use("toy", Path())


def test_a_whole_data_set_gives_three_loaders(data_sets, monkeypatch):
    use("Cora", data_sets("Cora"))
    assert [len(loader.dataset) for loader in load(cfg)] == [1, 1, 1]
    assert (cfg.share.dim_in, cfg.share.dim_out) == (1433, 7)


def test_missing_files_and_no_network(tmp_path):
    use("Cora", tmp_path / "nowhere")
    with pytest.raises(
        UserError,
        match=rf"there is no 'Cora' in {tmp_path}/nowhere, and fetching it failed .*set dataset\.dir to a folder that has Cora/Cora/raw/",
    ):
        load(cfg)


@pytest.mark.parametrize("there", [(), ("data",), ("data/Cora/Cora",), ("data/Cora/mine/empty",)])
def test_a_fetch_that_fails_leaves_no_folders(there, tmp_path):
    for name in there:
        (tmp_path / name).mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    use("Cora", tmp_path / "data")
    with pytest.raises(UserError, match="fetching it failed"):
        load(cfg)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("format", ["PyG", "gkd"])
def test_the_home_folder_is_left_as_it_was_too(format, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    use("Cora", "~/nowhere", format=format)
    with pytest.raises(UserError, match="there is no 'Cora' in ~/nowhere, and fetching it failed"):
        load(cfg)
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize(
    ("name", "task", "place", "file"),
    [
        ("Cora", "node", "Cora/Cora/raw", "ind.cora.x"),  # as PyG's documentation has it
        ("chameleon", "node", "chameleon/chameleon/geom_gcn/raw", "out1_node_feature_label.txt"),
        ("TU_PROTEINS", "graph", "TU_PROTEINS/PROTEINS/raw", "PROTEINS_A.txt"),
        ("AIFB", "node", "Entities/aifb/raw", "aifb_stripped.nt.gz"),
        ("PPI", "node", "PPI/raw", "train_feats.npy"),
    ],
)
def test_where_raw_files_belong(name, task, place, file, tmp_path):
    use(name, tmp_path, format="gkd", task=task)
    with pytest.raises(UserError, match="fetching it failed") as caught:
        load(cfg)
    text = str(caught.value)
    assert f" into {tmp_path / place}, or set dataset.dir to a folder that has {place}/." in text
    assert f"there is no '{name}' in {tmp_path}, and" in text
    assert file in text


@pytest.mark.parametrize(
    "name", ["Cora", "TU_MUTAG", "chameleon", "minesweeper", "Actor", "AIFB", "IMDB", "GeometricShapes"]
)
def test_the_command_that_copies_from_the_folder_of_the_environment(name, raw_data, tmp_path, monkeypatch):
    known = DATA_SETS.get(name)
    monkeypatch.setenv("GKD_DATA_DIR", str(raw_data))
    use(name, tmp_path / "no where", format="gkd", task=known.task if known else "graph")
    if known and known.group == RELATIONS:
        cfg.model.type = "rgcn"
    with pytest.raises(UserError, match="fetching it failed .*Copy it with: ") as caught:
        load(cfg)
    subprocess.run(str(caught.value).partition("Copy it with: ")[2], shell=True, check=True)
    assert len(load(cfg)) == 3


def test_no_command_where_a_file_is_missing(tmp_path, monkeypatch):
    raw = tmp_path / "somewhere" / "raw"
    raw.mkdir(parents=True)
    monkeypatch.setenv("GKD_DATA_DIR", str(tmp_path))
    (tmp_path / "prepare.py").touch()
    (raw / "ind.cora.x").touch()
    use("Cora", tmp_path / "nowhere")
    with pytest.raises(UserError, match="Put its raw files"):
        load(cfg)


@pytest.mark.parametrize("name", ["ind.cora.allx", "ind.cora.graph", "ind.cora.y"])
@pytest.mark.parametrize("damage", ["empty", "half", "noise"])
def test_damaged_raw_files(name, damage, data_sets, tmp_path):
    file = copied(data_sets, "Cora", tmp_path) / name
    content = file.read_bytes()
    file.write_bytes({"empty": b"", "half": content[: len(content) // 2], "noise": b"\x93noise" * 40}[damage])
    use("Cora", tmp_path)
    with pytest.raises(UserError, match=r"files of 'Cora' in .* cannot be read .*Remove that folder") as caught:
        load(cfg)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_truncated_processed_file(share, data_sets, tmp_path):
    copied(data_sets, "Cora", tmp_path)
    use("Cora", tmp_path)
    load(cfg)
    file = next(tmp_path.rglob("processed/data.pt"))
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    with pytest.raises(UserError, match="cannot be read.*Remove that folder; PyG writes it again") as caught:
        load(cfg)
    assert f"in {file.parent} cannot" in str(caught.value)
    shutil.rmtree(file.parent)
    assert len(load(cfg)) == 3


def test_a_folder_one_level_too_deep(data_sets, tmp_path):
    copied(data_sets, "Cora", tmp_path)
    use("Cora", tmp_path / "Cora")
    with pytest.raises(
        UserError, match=f"is the folder of 'Cora' itself, .* Set dataset.dir to {tmp_path}.$"
    ) as caught:
        load(cfg)
    assert "Remove" not in str(caught.value)


def test_damaged_raw_files_beside_whole_processed_ones(data_sets, tmp_path):
    file = copied(data_sets, "PPI", tmp_path) / "valid_feats.npy"
    file.write_bytes(file.read_bytes()[:1000])
    use("PPI", tmp_path, format="gkd")
    with pytest.raises(UserError, match=r"files of 'PPI' in .* cannot be read .*Remove that folder and"):
        load(cfg)
    assert list(tmp_path.rglob("processed/*.pt"))  # of other splits


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EFBIG])
def test_a_full_disk_where_pyg_writes(code, data_sets, tmp_path, monkeypatch):
    copied(data_sets, "Cora", tmp_path)
    use("Cora", tmp_path)
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())

    def torn(value, path):
        Path(path).write_bytes(b"PK")
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("torch_geometric.io.fs.torch_save", torn)
    with pytest.raises(
        UserError, match=r"no room to prepare 'Cora' in .*/Cora .*free some space there, or set dataset\.dir"
    ):
        load(cfg)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == before
    monkeypatch.undo()
    assert len(load(cfg)) == 3


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_a_protected_folder_where_pyg_writes(code, data_sets, tmp_path, monkeypatch):
    copied(data_sets, "Cora", tmp_path)
    use("Cora", tmp_path)

    def refuse(path, exist_ok=True):
        raise OSError(code, os.strerror(code), path)

    monkeypatch.setattr("torch_geometric.io.fs.makedirs", refuse)
    with pytest.raises(UserError, match=r"'Cora' cannot be prepared in .*processed.*copy Cora/ to a folder where"):
        load(cfg)


def test_truncated_archive(data_sets, tmp_path):
    file = next(copied(data_sets, "AmazonPhoto", tmp_path).glob("*.npz"))
    file.write_bytes(file.read_bytes()[:1000])
    use("AmazonPhoto", tmp_path)
    with pytest.raises(UserError, match="cannot be read"):
        load(cfg)


def test_node_data_without_splits(data_sets):
    use("AmazonPhoto", data_sets("AmazonPhoto"))
    with pytest.raises(UserError, match=r"'AmazonPhoto' has no train_mask, val_mask, test_mask .*format: gkd"):
        load(cfg)


def test_graph_data_without_splits(data_sets):
    use("TU_MUTAG", data_sets("TU_MUTAG"), task="graph")
    with pytest.raises(UserError, match=r"'TU_MUTAG' has no train_graph_index.*format: gkd"):
        load(cfg)


def test_links_without_splits(data_sets):
    use("Cora", data_sets("Cora"), task="link_pred")
    said = r"'Cora' has no train_edge_index, val_edge_index, test_edge_index \(task: link_pred\)"
    with pytest.raises(UserError, match=said) as caught:
        load(cfg)
    assert "have three splits" not in str(caught.value)


def test_one_graph_is_no_data_set_of_graphs(data_sets):
    use("Cora", data_sets("Cora"), task="graph")
    with pytest.raises(UserError, match=r"'Cora' has no train_graph_index.*TU_<name>") as caught:
        load(cfg)
    assert "have three splits" not in str(caught.value)


def test_the_advice_about_splits_helps(data_sets):
    use("AmazonPhoto", data_sets("AmazonPhoto"), format="gkd")
    assert len(load(cfg)) == 3
    use("TU_MUTAG", data_sets("TU_MUTAG"), format="gkd", task="graph")
    assert len(load(cfg)) == 3


def test_the_hosts_internals_are_no_news(data_sets, recwarn):
    use("TU_MUTAG", data_sets("TU_MUTAG"), format="gkd", task="graph")
    load(cfg)
    assert [str(warning.message) for warning in recwarn] == []


def test_one_missing_and_one_empty_split(monkeypatch):
    cfg.metric_best = "accuracy"  # splits of one class
    toy(monkeypatch, train_mask=[1, 0, 0, 0], test_mask=[0, 0, 1, 1])
    with pytest.raises(UserError, match=r"has no val_mask \("):
        load(cfg)
    toy(monkeypatch, train_mask=[1, 0, 0, 0], val_mask=[0, 0, 0, 0], test_mask=[0, 0, 1, 1])
    with pytest.raises(UserError, match="there is no node in val_mask"):
        load(cfg)
    toy(monkeypatch, train_mask=[1, 0, 0, 0], val_mask=[0, 1, 0, 0], test_mask=[0, 0, 1, 1])
    assert len(load(cfg)) == 3


def test_unknown_names(tmp_path):
    use("CoraX", tmp_path)
    with pytest.raises(UserError, match=r"has no data set 'CoraX'\. Did you mean 'Cora'\? "):
        load(cfg)
    use("Cora", tmp_path, format="Pyg")
    with pytest.raises(UserError, match=r"dataset\.format: 'Pyg' is unknown"):
        load(cfg)


@pytest.mark.parametrize(("several", "kind"), [(False, "Data"), (True, "list")])
def test_a_loader_that_returns_a_graph_is_told_how_it_becomes_a_data_set(several, kind, monkeypatch):
    data = Toy()[0]
    found = [data] if several else data
    monkeypatch.setitem(register.loader_dict, "mine", lambda format, name, folder: found)
    use("Cora", Path(), format="mine")
    with pytest.raises(UserError, match=rf"the loader of 'mine' returned a {kind}, .*\.collate\(\[data\]\)"):
        load(cfg)


def test_a_mistake_in_a_users_own_loader_keeps_its_traceback(monkeypatch, tmp_path):
    def broken(format, name, folder):
        raise TypeError("mine")

    monkeypatch.setitem(register.loader_dict, "broken", broken)
    use("Cora", tmp_path)
    with pytest.raises(TypeError, match="mine"):
        load(cfg)
