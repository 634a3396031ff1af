"""What every test may use, and the state of the process that every test leaves as it found it."""

from __future__ import annotations

import importlib
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
REGISTRIES = (
    "act node_encoder edge_encoder stage head layer pooling network config dataset loader optimizer scheduler loss "
    "train metric"
).split()

# The host's `custom_graphgym` as its repository lays it out, without the examples (which need further packages).
CUSTOM_INIT = "from .train import *  # noqa\n"
CUSTOM_TRAIN_INIT = """\
import glob
from os.path import basename, dirname, isfile, join

modules = glob.glob(join(dirname(__file__), '*.py'))
__all__ = [basename(f)[:-3] for f in modules if isfile(f) and not f.endswith('__init__.py')]
"""


FOLDERS = {  # read once: a test may change the environment
    variable: Path(os.environ.get(variable) or ROOT / default).resolve()
    for variable, default in (("GKD_DATA_DIR", "../shared/data"), ("GKD_HOST_DIR", "../shared/host"))
}


def _folder(variable: str) -> Path:
    if not FOLDERS[variable].is_dir():
        pytest.skip(f"{FOLDERS[variable]} is not there; {variable} names another folder")
    return FOLDERS[variable]


@pytest.fixture(scope="session")
def data_sets(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``data_sets('Cora', 'PPI')`` is a ``dataset.dir`` that holds them; the originals are never written to."""
    out = tmp_path_factory.mktemp("datasets")

    def copy(*names: str) -> Path:
        missing = [name for name in names if not (out / name).exists()]
        if missing:
            prepare = _folder("GKD_DATA_DIR") / "prepare.py"
            command = [sys.executable, str(prepare), "copy", "--layout", "graphgym", "--out", str(out), *missing]
            subprocess.run(command, check=True)
            for path in out.rglob("*"):  # read-only originals give read-only copies
                path.chmod(path.stat().st_mode | 0o200)
        return out

    return copy


@pytest.fixture(scope="session")
def raw_data() -> Path:
    """The originals, which nobody writes to."""
    return _folder("GKD_DATA_DIR")


@pytest.fixture(scope="session")
def hetero_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ``dataset.dir`` with AIFB, DBLP and IMDB, as PyG's examples lay them out."""
    out = tmp_path_factory.mktemp("hetero")
    prepare = _folder("GKD_DATA_DIR") / "prepare.py"
    subprocess.run([sys.executable, str(prepare), "copy", "--out", str(out), "AIFB", "DBLP", "IMDB"], check=True)
    for path in out.rglob("*"):
        path.chmod(path.stat().st_mode | 0o200)
    return out


@pytest.fixture
def data_dir(data_sets: Callable[..., Path]) -> Path:
    """A ``dataset.dir`` with Cora, CiteSeer and PubMed."""
    return data_sets("Cora", "CiteSeer", "PubMed")


@pytest.fixture(scope="session")
def host_dir() -> Path:
    """The host's own programs (``main.py``, ``configs_gen.py``, ``agg_batch.py``, ...), unmodified."""
    return _folder("GKD_HOST_DIR")


@pytest.fixture
def host_program(host_dir: Path, tmp_path: Path) -> Path:
    """A user's folder: the host's programs and an empty ``custom_graphgym``."""
    folder = tmp_path / "program"
    shutil.copytree(host_dir, folder, copy_function=shutil.copyfile)
    (folder / "custom_graphgym" / "train").mkdir(parents=True)
    (folder / "custom_graphgym" / "__init__.py").write_text(CUSTOM_INIT)
    (folder / "custom_graphgym" / "train" / "__init__.py").write_text(CUSTOM_TRAIN_INIT)
    return folder


@pytest.fixture
def toy_data() -> Iterator[None]:
    """The data sets of ``tests/toy.py``, under ``dataset.format: toy``."""
    from torch_geometric.graphgym import register

    from tests import toy

    register.loader_dict.setdefault("toy", toy.load)
    yield
    register.loader_dict.pop("toy", None)


@pytest.fixture
def work_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy_data: None) -> Path:
    """The toy data, in an empty working folder without a store of teachers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GKD_STORE", raising=False)
    return tmp_path


@pytest.fixture
def heeded_ctrl_c() -> Iterator[None]:
    """Ctrl-C raises ``KeyboardInterrupt`` in this process; the workers of pytest-xdist ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def _same_process() -> Iterator[None]:
    """One thread, one seed; afterwards the host's ``cfg`` and registries and our plugins are as they were."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    random.seed(0)
    registries, plugins = _registries(), _plugins()
    yield
    if "gkd_plugin.printing" in sys.modules:
        sys.modules["gkd_plugin.printing"]._warned.clear()
    if "gkd_plugin.commands.imports" in sys.modules:
        sys.modules["gkd_plugin.commands.imports"].imported.clear()
    _restore_plugins(plugins)
    _restore_host(registries)


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command in this process starts no process of which workers would be copies: it would stay until the last test."""
    monkeypatch.setattr("gkd_cli.commands.warm_up", lambda workers, scheduler: None)


def _registries() -> dict[str, tuple[Any, dict[str, Any]]] | None:
    """The host's dictionaries and their content, once ours is in them (importing the host just for this is slow)."""
    if "gkd_plugin.registration" not in sys.modules:
        return None
    register = sys.modules["torch_geometric.graphgym.register"]
    return {name: (known := getattr(register, f"{name}_dict"), dict(known)) for name in REGISTRIES}


def _restore_host(registries: dict[str, tuple[Any, dict[str, Any]]] | None) -> None:
    if "torch_geometric.graphgym" not in sys.modules:
        return
    register = sys.modules["torch_geometric.graphgym.register"]
    for name, (mapping, content) in (registries or {}).items():
        setattr(register, f"{name}_dict", mapping)
        if dict(mapping) != content:
            mapping.clear()
            mapping.update(content)
    config = importlib.import_module("torch_geometric.graphgym.config")
    config.cfg.defrost()
    config.cfg.clear()
    config.set_cfg(config.cfg)  # calls every registered config function, ours among them


def _plugins() -> set[str]:
    plugins = sys.modules.get("gkd_plugin.plugins")
    if plugins is None:
        return set()
    plugins.load()
    return {plugin.name for plugin in plugins.loaded()}


def _restore_plugins(before: set[str]) -> None:
    plugins = sys.modules.get("gkd_plugin.plugins")
    if plugins is not None and before:
        for name in {plugin.name for plugin in plugins.loaded()} - before:
            plugins.unregister_plugin(name)
