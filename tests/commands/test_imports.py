"""``--import``: the modules of a program's folder, from the command line to a trained run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import gkd_cli
from gkd_plugin.commands.imports import import_modules
from gkd_plugin.errors import UserError
from tests import toy

LOADER = """
from torch_geometric.graphgym.register import register_loader
from tests import toy

@register_loader("mine")
def load(format, name, dataset_dir):
    return toy.Toy(toy.SETS["nodes"]()) if format == "mine" else None
"""
LAYER = """
import torch
from torch_geometric.graphgym.register import register_layer
from torch_geometric.nn import SAGEConv

@register_layer("mineconv")
class Layer(torch.nn.Module):
    def __init__(self, config, **kwargs):
        super().__init__()
        self.model = SAGEConv(config.dim_in, config.dim_out)

    def forward(self, batch):
        batch.x = self.model(batch.x, batch.edge_index)
        return batch
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program's folder with a package of its own; what is imported from it is forgotten again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    package = tmp_path / "own_graphgym"
    package.mkdir()
    files = {"__init__": "from own_graphgym import layer, loader", "loader": LOADER, "layer": LAYER}
    files |= {"lacking": "import not_installed_here", "broken": "\n\nraise RuntimeError('ours')"}
    for name, text in files.items():
        (package / f"{name}.py").write_text(text)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("own_graphgym"):
            del sys.modules[name]


def gkd(*words: str) -> Result:
    return CliRunner().invoke(gkd_cli.main, list(words))


def test_own_loader_and_layer_with_gkd_run(program: Path) -> None:
    path = str(toy.config(program, dataset={"format": "mine", "name": "any"}, gnn={"layer_type": "mineconv"}))
    for command in (["check", path], ["run", "--cfg", path]):
        refused = gkd(*command)
        assert refused.exit_code == 2 and "--import MODULE, in Python import MODULE (docs/run.md)" in refused.output
    done = gkd("run", "--cfg", path, "--import", "own_graphgym", "optim.max_epoch", "2")
    assert done.exit_code == 0, done.output
    assert (program / "results" / "study" / "0" / "result.json").is_file()
    assert gkd("check", "--import", "own_graphgym", path).exit_code == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_graphgim", r"there is no such module in .*custom_graphgym"),
        ("own_graphgym.leyer", "there is no such module"),
        ("own_graphgym/layer.py", "there is no such module"),
        ("own_graphgym.lacking", r"No module named 'not_installed_here' \(.*lacking.py, line 1\)"),
        ("own_graphgym.broken", r"RuntimeError: ours \(.*broken.py, line 3\)"),
    ],
)
def test_what_cannot_be_imported_is_one_message(name: str, message: str, program: Path) -> None:
    with pytest.raises(UserError, match=f"--import {name}: .*{message}"):
        import_modules([name])


def test_without_it_nothing_of_the_working_folder_is_imported(program: Path) -> None:
    (program / "custom_graphgym").mkdir()
    (program / "custom_graphgym" / "__init__.py").write_text("raise SystemExit(3)")
    assert gkd("check", str(toy.config(program, dataset={"format": "PyG", "name": "digits"}))).exit_code == 0
