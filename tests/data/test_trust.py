"""A name in a configuration never leads to another folder, and what lies in a data folder is read without running it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch_geometric.graphgym.loader import create_loader
from yacs.config import CfgNode

import gkd_plugin
from gkd_plugin.commands.check import check
from gkd_plugin.commands.run import run
from gkd_plugin.data.load import load
from gkd_plugin.data.trust import SAFE, UNSAFE, check_names, reading
from gkd_plugin.errors import ConfigError, UserError
from gkd_plugin.host import cfg
from tests.toy import config

PATHS = [
    "../evil/Amazon",
    "/evil/Amazon",
    "~/Amazon",
    "~Amazon",
    "..\\evil\\Amazon",
    "evil/Amazon",
    "TU_../../x",
    "TU_..",
    "Amazon\0Photo",
]
SOFT: dict[str, Any] = {"kd_response": {"weight": 1.0, "nodes": "all"}}


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.mark,)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "it_ran"


def plant(folder: Path, mark: Path) -> None:
    """An Amazon data set that PyG takes for prepared, whose ``pre_transform.pt`` leaves a mark."""
    for name in ("Photo/raw/amazon_electronics_photo.npz", "Photo/processed/data.pt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    torch.save(Payload(mark), folder / "Photo/processed/pre_transform.pt")


@pytest.fixture
def evil(tmp_path: Path, mark: Path) -> Path:
    """A ``dataset.dir`` beside which such a folder lies."""
    plant(tmp_path / "evil" / "Amazon", mark)
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def use(name: str, folder: Path, format: str = "PyG") -> None:
    cfg.dataset.name, cfg.dataset.dir, cfg.dataset.format = name, str(folder), format


def test_the_payload_is_alive(evil: Path, mark: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the host does by itself; without this the other tests would prove nothing."""
    monkeypatch.setattr("torch_geometric.graphgym.register.loader_dict", {})
    use("../evil/Amazon", evil)
    with pytest.raises(Exception, match=r".*"):
        create_loader()
    assert mark.exists()


@pytest.mark.parametrize("format", ["PyG", "gkd", "OGB", "mine"])
@pytest.mark.parametrize("name", PATHS)
def test_a_path_is_no_name(name: str, format: str, evil: Path, mark: Path) -> None:
    checked = check({"num_threads": 1, "dataset": {"name": name, "format": format, "dir": str(evil)}})[0]
    assert [problem.key for problem in checked.problems] == ["dataset.name"]
    use(name, evil, format)
    with pytest.raises(ConfigError, match=r"dataset\.name: .* is a path .*dataset\.dir"):
        load(cfg)
    if format != "mine":
        with pytest.raises(ConfigError, match=r"dataset\.name"):  # a host program
            create_loader()
    assert not mark.exists()


@pytest.mark.parametrize("name", ["Cora", "AmazonPhoto", "TU_MUTAG", "ogbn-arxiv", "digits_k3", "my set.v2", "3"])
def test_names_stay_names(name: str) -> None:
    assert not check_names(CfgNode({"name": name, "format": "PyG"}))


def test_a_format_is_no_path_either() -> None:
    checked = check({"num_threads": 1, "dataset": {"format": "../PyG"}})[0]
    assert [problem.key for problem in checked.problems] == ["dataset.format"]


def test_gkd_run_refuses_it(evil: Path, mark: Path, tmp_path: Path) -> None:
    data = {"format": "PyG", "name": "../evil/Amazon", "dir": str(evil)}
    with pytest.raises(ConfigError, match=r"dataset\.name"):
        run(config(tmp_path, dataset=data), quiet=True)
    assert not mark.exists()


@pytest.mark.usefixtures("toy_data")
def test_a_stored_teacher_cannot_bring_it(
    evil: Path, mark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    teacher = gkd_plugin.run(config(tmp_path, "wide"), quiet=True).folder
    for path in teacher.rglob("*.yaml"):
        values = yaml.safe_load(path.read_text())
        if "dataset" in values:
            values["dataset"].update(format="PyG", name="../evil/Amazon")
            path.write_text(yaml.safe_dump(values))
    with pytest.raises(UserError, match=r"dataset\.name: '\.\./evil/Amazon' is a path"):
        run(config(tmp_path, "narrow", dataset={"dir": str(evil)}, kd={"teacher": "wide"}, **SOFT), quiet=True)
    assert not mark.exists()


@pytest.mark.parametrize("format", ["PyG", "gkd"])
def test_files_under_an_honest_name_do_not_run_either(format: str, tmp_path: Path, mark: Path) -> None:
    plant(tmp_path / "AmazonPhoto", mark)
    use("AmazonPhoto", tmp_path, format)
    with pytest.raises(UserError, match=r"processed cannot be read"):
        load(cfg)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("name", "format"), [("Cora", "PyG"), ("Cora", "gkd"), ("AmazonPhoto", "gkd"), ("TU_MUTAG", "gkd"), ("PPI", "gkd")]
)
def test_honest_files_are_read(name: str, format: str, data_sets: Any) -> None:
    use(name, data_sets(name), format)
    cfg.dataset.task = "graph" if name == "TU_MUTAG" else "node"
    cfg.dataset.task_type = "classification_multilabel" if name == "PPI" else "classification"
    for _ in range(2):  # made, and read again
        assert len(load(cfg)) == 3


def test_the_variable_is_set_for_the_reading_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SAFE, raising=False)
    with reading("PyG"):
        assert os.environ[SAFE] == "1"
    assert SAFE not in os.environ
    with reading("OGB"):
        assert SAFE not in os.environ
    monkeypatch.setenv(SAFE, "0")
    with reading("gkd"):
        assert os.environ[SAFE] == "1"
    assert os.environ[SAFE] == "0"
    monkeypatch.setenv(UNSAFE, "1")
    with reading("gkd"):
        assert os.environ[SAFE] == "0"
