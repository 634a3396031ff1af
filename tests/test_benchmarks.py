"""The studies behind the documents still mean something: every run that they ask for is a valid configuration."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from gkd_plugin.commands.init import packed_configs
from gkd_plugin.commands.report import RunReport
from gkd_plugin.config.load import read_config
from gkd_plugin.plan import Plan
from gkd_plugin.training.result import RunResult, Score

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
STUDIES = {
    "layer_maps": lambda module: module.jobs(),
    "dynamic_graphs": lambda module: module.jobs(),
    "mixture": lambda module: [job for several in module.rows().values() for job in several],
}


@pytest.fixture
def load(monkeypatch):
    """Imports a script as Python does that runs it."""
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(FOLDER) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.mark.parametrize("name", STUDIES)
def test_every_run_of_a_study_is_a_valid_configuration(name, load):
    jobs = STUDIES[name](load(name))
    assert len({job.name for job in jobs}) == len(jobs) > 5, "two runs would share a folder"
    for job in jobs:
        config = read_config(packed_configs() / job.config, overrides=job.overrides)
        kd = config.values["kd"]
        plain = (
            kd.get("preset") == "supervised"
            or dict(zip(job.overrides[::2], job.overrides[1::2], strict=True)).get("kd_feature.weight") == "0"
        )
        assert bool(config.plan.active) != plain, job.name


def test_the_grid_of_throughput_is_48_valid_supervised_configurations(load):
    module = load("study_throughput")
    grid = module.list_configurations(module.make_base(Path("datasets"), epochs=100), module.GRID)
    assert len({str(values) for values in grid}) == len(grid) == 48
    assert max(values["gnn"]["dim_inner"] for values in grid) == 16
    for values in (grid[0], grid[-1]):
        assert not read_config(values, overrides=["kd.sparse_input", "true"]).plan.active


def test_paired_difference_and_gap(load):
    studies = load("studies")

    def report(*tests: float) -> RunReport:
        results = []
        for seed, test in enumerate(tests):
            answers = {"first": Score(epoch=0, val=test / 2, test=test)}
            results.append(RunResult(seed, "accuracy", True, "first", answers, [10], 1, 1, 0.0))
        return RunReport("study", Path(), Plan.__new__(Plan), results)

    student, taught, teacher = report(0.50, 0.60, 0.55), report(0.60, 0.68, 0.64), report(0.90, 0.90, 0.90)
    # differences 10, 8 and 9: mean 9, standard error 1 / sqrt(3), t(2; 0.975) = 4.303
    assert studies.over(taught, student) == "+9.00 [+6.52, +11.48]"
    assert studies.gap_closed(taught, student, teacher) == "26 %"  # 9 of 35
    assert studies.gap_closed(taught, teacher, student) == "-"
    assert studies.percent([0.5, 0.6]) == "55.00 ± 7.07"
    assert studies.validation(student) == pytest.approx(0.275)


@pytest.mark.slow
def test_a_study_survives_what_happens_to_it():
    script = str(FOLDER / "study_faults.py")
    done = subprocess.run([sys.executable, script, "--quick"], capture_output=True, text=True, cwd=FOLDER.parent)
    assert done.returncode == 0, done.stdout[-3000:]
