from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from gkd_plugin.commands.init import packed_configs
from gkd_plugin.commands.run import run
from gkd_plugin.config.read import read_config

CONFIGS = sorted(packed_configs().glob("*/*.yaml"))
GRIDS = sorted(packed_configs().glob("grids/*.txt"))
NAMES = {"cora": "Cora", "citeseer": "CiteSeer", "pubmed": "PubMed", "digits": "digits"}
SHORT = ["optim.max_epoch", "2"]


def name(path: Path) -> str:
    return f"{path.parent.name}-{path.stem}"


def data_overrides(path: Path, data_sets) -> list[str]:
    """Where the data set lies; digits need no folder."""
    data = NAMES[path.parent.name]
    return [] if data == "digits" else ["dataset.dir", str(data_sets(data))]


def rows(folder: Path, split: str) -> list[dict]:
    return [json.loads(line) for line in (folder / split / "stats.json").read_text().splitlines()]


def test_every_data_set_has_every_preset():
    presets = {folder: {path.stem for path in CONFIGS if path.parent.name == folder} for folder in NAMES}
    assert set(NAMES) == {path.parent.name for path in CONFIGS}
    assert len(CONFIGS) == 28
    assert all(found == presets["cora"] for found in presets.values())


@pytest.mark.parametrize("path", CONFIGS, ids=name)
def test_config_is_what_its_name_says(path):
    config = read_config(path)
    assert config.values["kd"]["preset"] == path.stem
    assert config.cfg.dataset.name == NAMES[path.parent.name]
    assert Path(config.cfg.out_dir).name == path.parent.name, "runs of two data sets would share a folder"
    assert config.plan.warnings == ()
    without = {key: value for key, value in config.values.items() if key != "kd"}
    baseline = yaml.safe_load((path.parent / "supervised.yaml").read_text())
    assert without == {key: value for key, value in baseline.items() if key != "kd"}, "not comparable with the baseline"


@pytest.mark.parametrize("path", CONFIGS, ids=name)
def test_config_runs(path, data_sets, tmp_path):
    report = run(path, overrides=[*SHORT, "out_dir", str(tmp_path), *data_overrides(path, data_sets)], quiet=True)
    assert not report.failures
    (result,) = report.results
    assert len(result.parameters) == read_config(path).plan.students
    seed = tmp_path / path.stem / "0"
    assert [row["epoch"] for row in rows(seed, "train")] == [row["epoch"] for row in rows(seed, "val")] == [0, 1]
    assert len(rows(seed, "test")) == 1
    assert all(math.isfinite(row["loss"]) for split in ("train", "val", "test") for row in rows(seed, split))


def test_the_readmes_command_in_short(tmp_path):
    line = "run --cfg graphgym_configs/digits/alignahead_pp.yaml --control"
    done = subprocess.run(
        [sys.executable, "-m", "gkd_cli", *line.split(), "--repeat", "2", *SHORT, "out_dir", str(tmp_path)],
        cwd=Path(__file__).resolve().parent.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "alignahead_pp-control" in done.stdout
    assert "paired difference" in done.stdout
    plain, control = (
        yaml.safe_load((tmp_path / f"alignahead_pp{end}" / "config.yaml").read_text()) for end in ("", "-control")
    )
    assert plain["dataset"] == control["dataset"]
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
