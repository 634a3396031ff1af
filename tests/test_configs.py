from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from torch_geometric import datasets

from gkd_plugin.commands.init import packed_configs
from gkd_plugin.commands.run import run
from gkd_plugin.config.load import read_config, read_values
from gkd_plugin.space.presets import PRESETS
from gkd_plugin.study.check import check_points
from gkd_plugin.study.expand import expand
from gkd_plugin.study.grid_file import read_grid
from tests.data.test_entities import write
from tests.data.test_relations import Loaded, library

MIXTURES = sorted(packed_configs().glob("mixtures/*.yaml"))
DEEP = sorted(packed_configs().glob("deep/*.yaml"))
RELATIONS = sorted(packed_configs().glob("relations/*.yaml"))
TASKS = [path for folder in ("ppi", "tasks", "large") for path in sorted(packed_configs().glob(f"{folder}/*.yaml"))]
OTHERS = {*MIXTURES, *DEEP, *RELATIONS, *TASKS}
CONFIGS = sorted(set(packed_configs().glob("*/*.yaml")) - OTHERS)
GRIDS = sorted(path for path in packed_configs().glob("grids/*.txt") if "configs_gen.py" in path.read_text())
NAMES = {"cora": "Cora", "citeseer": "CiteSeer", "pubmed": "PubMed", "digits": "digits"}
NAMES |= {"mixtures": "Cora", "deep": "digits"}
SHORT = ["optim.max_epoch", "2"]


def name(path: Path) -> str:
    return f"{path.parent.name}-{path.stem}"


def data_overrides(path: Path, data_sets) -> list[str]:
    """Where the data set lies; digits need no folder."""
    data = NAMES[path.parent.name]
    return [] if data == "digits" else ["dataset.dir", str(data_sets(data))]


def rows(folder: Path, split: str) -> list[dict]:
    return [json.loads(line) for line in (folder / split / "stats.json").read_text().splitlines()]


def taught_by(path: Path) -> Path | None:
    """The teacher's file."""
    name = yaml.safe_load(path.read_text())["kd"].get("teacher_cfg")
    return path.parent / name if name else None


ALONE = [path for path in CONFIGS if taught_by(path) is None]
TAUGHT = [path for path in CONFIGS if taught_by(path) is not None]
TEACHERS = sorted({path for path in map(taught_by, TAUGHT) if path is not None})


@pytest.fixture
def small_relations(tmp_path, monkeypatch):
    """A ``dataset.dir``: AIFB of six nodes by files, and DBLP and IMDB of nine nodes."""
    masks = {f"{part}_mask": torch.arange(4) % 3 == number for number, part in enumerate(("train", "val", "test"))}
    for name in ("DBLP", "IMDB"):
        monkeypatch.setattr(datasets, name, lambda root: Loaded(library(**masks)))
    write(tmp_path / "data" / "Entities")
    return tmp_path / "data"


def test_every_data_set_has_every_preset():
    presets = set(PRESETS)
    for folder in set(NAMES) - {"mixtures", "deep"}:
        found = {path.stem for path in CONFIGS if path.parent.name == folder and path not in TEACHERS}
        assert found == presets, folder
    assert set(NAMES) == {path.parent.name for path in [*CONFIGS, *MIXTURES, *DEEP]}


@pytest.mark.parametrize("path", [path for path in CONFIGS if path not in TEACHERS], ids=name)
def test_config_is_what_its_name_says(path):
    config = read_config(path)
    assert config.values["kd"]["preset"] == path.stem
    assert config.cfg.dataset.name == NAMES[path.parent.name]
    assert Path(config.cfg.out_dir).name == path.parent.name, "runs of two data sets would share a folder"
    assert config.plan.warnings == ()
    assert config.plan.students == (
        1 if taught_by(path) or path.stem in ("supervised", "label_smoothing", "byot") else 2
    )


@pytest.mark.parametrize("path", [path for path in ALONE if path not in TEACHERS], ids=name)
def test_config_without_a_teacher_is_comparable_with_the_baseline(path):
    found, baseline = (yaml.safe_load(file.read_text()) for file in (path, path.parent / "supervised.yaml"))
    assert {key: value for key, value in found.items() if key != "kd"} == {
        key: value for key, value in baseline.items() if key != "kd"
    }


@pytest.mark.parametrize("path", TAUGHT, ids=name)
def test_teacher_sees_the_students_data_and_is_larger(path):
    found, teacher = (yaml.safe_load(file.read_text()) for file in (path, taught_by(path)))
    assert teacher["kd"]["preset"] == "supervised"
    for key in ("out_dir", "dataset", "splits"):
        assert found.get(key) == teacher.get(key)
    assert found["gnn"]["dim_inner"] < teacher["gnn"]["dim_inner"] or found["model"]["type"] == "mlp"


def finished(path, data_sets, folder, *overrides):
    """A short run, looked at."""
    report = run(
        path, overrides=[*SHORT, "out_dir", str(folder), *data_overrides(path, data_sets), *overrides], quiet=True
    )
    assert not report.failures
    (result,) = report.results
    assert len(result.parameters) == read_config(path).plan.students
    seed = folder / path.stem / "0"
    found = [row["epoch"] for row in rows(seed, "train")]
    assert found == [0, 1] == [row["epoch"] for row in rows(seed, "val")]
    assert len(rows(seed, "test")) == 1
    assert all(math.isfinite(row["loss"]) for split in ("train", "val", "test") for row in rows(seed, split))
    return result


@pytest.mark.parametrize("path", [path for path in ALONE if path not in TEACHERS], ids=name)
def test_config_runs(path, data_sets, tmp_path):
    finished(path, data_sets, tmp_path)


@pytest.mark.parametrize("path", TEACHERS, ids=name)
def test_teacher_and_those_it_teaches_run(path, data_sets, tmp_path):
    finished(path, data_sets, tmp_path)
    for student in (other for other in TAUGHT if taught_by(other) == path):
        if student.parent.name in ("citeseer", "pubmed") and student.stem not in ("soft_target", "glnn", "gkd", "abkd"):
            continue  # on larger data the same files but for the name
        few = ("kd_contrast.samples", "32") if student.stem == "stride" else ()
        result = finished(student, data_sets, tmp_path, "kd.teacher_cfg", "none", "kd.teacher", path.stem, *few)
        assert result.teacher["name"].startswith(path.stem)


def test_mixtures_run(data_sets, tmp_path):
    teacher = packed_configs() / "mixtures" / "teacher.yaml"
    finished(teacher, data_sets, tmp_path)
    for path in (other for other in MIXTURES if other != teacher):
        config = read_config(path)
        assert config.plan.warnings == ()
        taught = ("kd.teacher_cfg", "none", "kd.teacher", "teacher") if taught_by(path) else ()
        finished(path, data_sets, tmp_path, *taught)
        values = json.loads((tmp_path / path.stem / "0" / "train" / "stats.json").read_text().splitlines()[-1])
        for group in config.plan.active:
            assert values[f"s1_kd_{group.name}"] > 0
    maps = (tmp_path / "lsp_ahead_and_peers" / "0" / "attention.json").read_text().splitlines()
    assert {json.loads(line)["source"] for line in maps} == {"1", "2"}


@pytest.mark.parametrize("path", [path for path in RELATIONS if taught_by(path)], ids=name)
def test_relations_run_with_every_preset_of_their_grid(path, small_relations, tmp_path):
    teacher = taught_by(path)
    values, larger = (yaml.safe_load(file.read_text()) for file in (path, teacher))
    assert {key: values[key] for key in ("dataset", "train", "out_dir")} == {
        key: larger[key] for key in ("dataset", "train", "out_dir")
    }
    found = expand(read_values(path), path.stem, read_grid(path.parent / "presets.txt"))
    configs = check_points(found.points, path)
    assert len(configs) == 10 and {w for config in configs.values() for w in config.plan.warnings} == set()
    places = ("dataset.dir", str(small_relations), "out_dir", str(tmp_path), "metric_best", "accuracy", *SHORT)
    assert not run(teacher, overrides=places, quiet=True).failures
    taught = ("kd.teacher_cfg", "none", "kd.teacher", teacher.stem)
    for preset in sorted({config.values["kd"]["preset"] for config in configs.values()}):
        few = taught if preset != "supervised" else taught[:2]
        report = run(path, overrides=[*places, "kd.preset", preset, *few], name=preset, quiet=True)
        assert not report.failures
        told = [text for text in report.results[0].warnings if "has no validation split" in text]
        assert len(told) == (path.stem == "aifb")


EXCERPTS = {  # the file that a grid is tried on: the grid, its teacher, its data set here, what makes it small, and what is run
    "ppi/sage": ("laptop", "teacher_sage", "PPI", ("gnn.dim_inner", "2", "optim.max_epoch", "1"), ("soft_target",)),
    "tasks/graphs": ("methods", "teacher_graphs", "TU_ENZYMES", SHORT, ("soft_target", "fitnet", "mutual")),
    "tasks/links": ("methods", "teacher_links", "Cora", SHORT, ("soft_target", "fitnet", "mutual")),
    "large/soft_target": ("methods", "teacher", "PubMed", ("dataset.name", "PubMed", *SHORT), ("soft_target", "lsp")),
}


@pytest.mark.parametrize("base", EXCERPTS)
def test_task_runs_with_the_points_of_its_grid(base, data_sets, tmp_path):
    path, (named, taught, data, excerpt, presets) = packed_configs() / f"{base}.yaml", EXCERPTS[base]
    teacher, grid = path.parent / f"{taught}.yaml", path.parent / f"{named}.txt"
    question, named, size, *_ = grid.read_text().splitlines()
    assert question.startswith("# ") and f"{path.stem}.yaml" in named and "Time: " in size
    found = expand(read_values(path), path.stem, read_grid(grid))
    assert len(found.points) == int(re.search(r"Size: (\d+)", size)[1]) and found.duplicates == 0
    configs = check_points(found.points, path)
    assert {text for config in configs.values() for text in config.plan.warnings} == set()
    own, larger = read_values(path), read_values(teacher)
    for key in ("dataset", "train", "out_dir"):
        assert own[key] == larger[key]
    places = ("dataset.dir", str(data_sets(data)), "out_dir", str(tmp_path), *excerpt)
    if presets:
        assert not run(teacher, overrides=places, quiet=True, name="teacher").failures
    for config in configs.values():
        keys = config.values["kd"]
        if keys["preset"] not in presets:
            continue
        words = [word for key in ("preset", "students") if keys.get(key) for word in (f"kd.{key}", str(keys[key]))]
        words += ["kd.teacher_cfg", "none", *(["kd.teacher", "teacher"] if config.plan["teacher_cfg"] else [])]
        assert not run(path, overrides=[*places, *words], name=keys["preset"], quiet=True).failures
        values = rows(tmp_path / keys["preset"] / "0", "train")[-1]
        assert all(f"s1_kd_{group.name}" in values for group in config.plan.active)


def test_the_readmes_command_in_short(tmp_path):
    (deep,) = DEEP
    readme = (deep.parents[2] / "README.md").read_text()
    line = next(line for line in readme.splitlines() if line.startswith("python3") and "--control" in line)
    words = line.partition("gkd run ")[2].split()
    assert words[:2] == ["--cfg", deep.relative_to(deep.parents[2]).as_posix()]
    command = [sys.executable, "-m", "gkd_cli", "run", *words[:3], "--repeat", "2", *SHORT, "out_dir", str(tmp_path)]
    done = subprocess.run(command, cwd=deep.parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "alignahead_pp-control" in done.stdout
    assert "paired difference" in done.stdout
    plain, control = (
        yaml.safe_load((tmp_path / f"alignahead_pp{end}" / "config.yaml").read_text()) for end in ("", "-control")
    )
    assert plain["dataset"] == control["dataset"] and plain["gnn"] == control["gnn"]
    assert {control[group]["weight"] for group in ("kd_structure", "kd_feature", "kd_auxiliary")} == {0}


@pytest.mark.parametrize("grid", GRIDS, ids=lambda path: path.stem)
def test_grid_through_the_hosts_generator(grid, host_program):
    base = packed_configs() / "cora" / "supervised.yaml"
    command = [sys.executable, "configs_gen.py", "--config", str(base), "--grid", str(grid), "--out_dir", "made"]
    done = subprocess.run(command, cwd=host_program, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made = sorted((host_program / "made" / f"supervised_grid_{grid.stem}").glob("*.yaml"))
    configs = [read_config(path) for path in made]
    plain = [config for config in configs if config.values["kd"]["preset"] == "supervised"]
    assert len(made) > len(plain) > 0
    assert all(not config.plan.active for config in plain), "a baseline that distils"
    assert all(config.plan.active for config in configs if config not in plain)
