"""The recipes in ``graphgym_configs/papers``: every configuration is sound, every row has a point, and they run."""

from __future__ import annotations

import importlib.machinery
import re
import shutil
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch_geometric.data import InMemoryDataset

from gkd_plugin.config.load import read_config, read_values
from gkd_plugin.data.ogb import PARTS
from gkd_plugin.papers.compare import require_rows
from gkd_plugin.papers.recipe import FILE, RecipeStudy, list_papers, read_recipe
from gkd_plugin.papers.reproduce import Reproduction, reproduce
from gkd_plugin.study.check import check_points
from gkd_plugin.study.execute import Resources
from gkd_plugin.study.expand import expand
from gkd_plugin.study.grid_file import read_grid
from tests import toy
from tests.conftest import FOLDERS

RECIPES = [read_recipe(folder) for folder in list_papers().values()]
STUDIES = [pytest.param(study, id=f"{recipe.name}-{study.name}") for recipe in RECIPES for study in recipe.studies]
NATURAL = (
    "validation runs every 10 epochs",
    "is set but unused",
)  # as the released code has it; a teacher for some points


@pytest.fixture
def ogb(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is there; its data set is a small graph."""

    class Nodes(InMemoryDataset):
        def __init__(self, name: str, root: str) -> None:
            super().__init__()
            graph = toy.community(0)
            graph.y = graph.y.view(-1, 1)
            self.split = {part: graph[mask].nonzero().view(-1) for part, mask in PARTS.items()}
            for mask in PARTS.values():
                del graph[mask]
            self.data, self.slices = self.collate([graph])

        def get_idx_split(self) -> dict[str, Any]:
            return self.split

    package, inner = types.ModuleType("ogb"), types.ModuleType("ogb.nodeproppred")
    package.__spec__ = importlib.machinery.ModuleSpec("ogb", None)
    inner.PygNodePropPredDataset = Nodes  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ogb", package)
    monkeypatch.setitem(sys.modules, "ogb.nodeproppred", inner)


@pytest.mark.parametrize("study", STUDIES)
def test_every_row_has_a_point_and_every_point_is_sound(study: RecipeStudy, ogb: None) -> None:
    require_rows(study)
    values = read_values(study.config, [part for pair in study.overrides.items() for part in pair])
    found = expand(values, study.config.stem, read_grid(study.grid))
    assert found.duplicates == 0
    question, base, size, *_ = study.grid.read_text().splitlines()
    assert question.startswith("# ") and base.startswith("# Base: ") and "Time: " in size
    assert len(found.points) == int(re.search(r"Size: (\d+)", size)[1])
    configs = check_points(found.points, study.config)
    told = {warning for config in configs.values() for warning in config.plan.warnings}
    assert [text for text in told if not any(known in text for known in NATURAL)] == []


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_every_file_belongs_to_a_study(recipe, ogb):
    folder = list_papers()[recipe.name]
    used = {folder / FILE} | {path for study in recipe.studies for path in (study.config, study.grid)}
    for study in recipe.studies:
        overrides = [part for pair in study.overrides.items() for part in pair]
        named = read_config(study.config, overrides).values["kd"].get("teacher_cfg")
        used |= {folder / named} if named else set()
    assert used == set(folder.iterdir())
    assert {read_values(path)["out_dir"] for path in used if path.suffix == ".yaml" and path.name != FILE} == {
        f"results/papers/{recipe.name}"
    }
    assert all(path.read_text().startswith("# ") for path in used if path.name != FILE)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_a_published_number_has_its_source(recipe):
    for study in recipe.studies:
        assert bool(study.source) == any(row.published == row.published for row in study.rows)
    text = yaml.safe_load((list_papers()[recipe.name] / FILE).read_text())
    assert text["known"] and text["reconstructed"] and text["link"].startswith("https://arxiv.org/abs/")


def run_quick(paper: str, only: str, folder: Path, *overrides: Any) -> Reproduction:
    made = reproduce(
        paper,
        quick=True,
        only=[only],
        repeat=1,
        overrides=["out_dir", str(folder), *overrides],
        resources=Resources(workers=0),
        quiet=True,
    )
    assert isinstance(made, Reproduction)
    assert made.complete, [made.skipped, made.failed]
    return made


def test_glnns_recipe_runs_on_real_data(data_sets, tmp_path):
    made = run_quick("glnn", "cora_production", tmp_path, "dataset.dir", str(data_sets("Cora")), "optim.max_epoch", "2")
    (compared,) = made.compared
    assert all(len(row.tests) == 1 for row in compared.rows)
    assert [round(one.published, 4) for one in compared.comparisons] == [0.193, -0.0101]


def test_the_recipe_of_a_data_set_that_is_not_here_runs_on_one_of_its_shape(ogb, tmp_path):
    made = run_quick("gcrd", "ogbn_arxiv", tmp_path, "dataset.dir", str(tmp_path), "gnn.dim_inner", "4")
    (compared,) = made.compared
    assert len(compared.rows) == 15 and all(len(row.tests) == 1 for row in compared.rows)


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """A ``dataset.dir`` with the meshes of GeometricShapes; ``prepare.py`` has no name for them."""
    source = FOLDERS["GKD_DATA_DIR"] / "GeometricShapes" / "raw"
    if not source.is_dir():
        pytest.skip(f"{source} is not there")
    shutil.copytree(source, tmp_path / "GeometricShapes" / "raw", copy_function=shutil.copyfile)
    return tmp_path


def test_lsps_recipe_runs_on_graphs_that_move(shapes, tmp_path):
    folder = tmp_path / "lsp"
    shutil.copytree(list_papers()["lsp"], folder)
    values = yaml.safe_load((folder / FILE).read_text())
    few = {"splits.points": 16, "splits.train": 1, "splits.val": 1}
    values["quick"]["overrides"] |= few  # of the teacher, too
    del values["studies"]["ppi"]
    (folder / FILE).write_text(yaml.safe_dump(values))
    made = run_quick(str(folder), "shapes", tmp_path / "out", "dataset.dir", str(shapes))
    (compared,) = made.compared
    assert all(len(row.tests) == 1 for row in compared.rows)
    assert {one.name for one in compared.placebos} == {
        "soft targets",
        "LSP, the student's edges",
        "LSP, the union of both",
    }
