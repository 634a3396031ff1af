"""The example plugin, installed as its users would, beside a broken one; each command in a process that finds both."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "examples" / "gkd-plugin-demo"
COMMANDS = """
import json, sys
from click.testing import CliRunner
import gkd_cli, gkd_plugin
for words in json.loads(sys.argv[1]):
    done = CliRunner().invoke(gkd_cli.main, words)
    print(json.dumps([done.exit_code, done.output]))
"""


def python(*words: str, site: Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(site), str(ROOT)])
    environ = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run([sys.executable, *words], cwd=cwd, env=environ, capture_output=True, text=True)


def gkd(*commands: list[str], site: Path, cwd: Path, **environment: str) -> tuple[list[str], str]:
    """The outputs of commands that succeed, all in one process, and its stderr."""
    done = python("-c", COMMANDS, json.dumps(commands), site=site, cwd=cwd, **environment)
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [code for code, _ in results] == [0] * len(commands), results
    return [output for _, output in results], done.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example plugin in it, installed by pip from its source."""
    if importlib.util.find_spec("pip") is None:
        pytest.skip("this environment has no pip")
    folder = tmp_path_factory.mktemp("plugins")
    shutil.copytree(DEMO, folder / "source")  # a build leaves files beside the source
    offline = "--no-deps --no-build-isolation --no-index --disable-pip-version-check -q".split()
    command = [sys.executable, "-m", "pip", "install", *offline, "--target", str(folder / "site"), "./source"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "site"


@pytest.fixture(scope="module")
def broken_too(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a plugin whose import fails."""
    both = tmp_path_factory.mktemp("both") / "site"
    shutil.copytree(site, both)
    (both / "gkd_broken.py").write_text("import a_module_that_is_not_there\n")
    information = both / "gkd_broken-0.3.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: gkd-broken\nVersion: 0.3\n")
    (information / "entry_points.txt").write_text("[gkd_plugin]\nbroken = gkd_broken\n")
    return both


def rows(folder: Path, split: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / split / "stats.json").read_text().splitlines()]


def test_it_is_listed_and_used_from_yaml(site: Path, tmp_path: Path) -> None:
    config = tmp_path / "digits.yaml"
    shutil.copyfile(DEMO / "digits.yaml", config)
    (plugins, axes, keys, _), stderr = gkd(
        ["plugins"],
        ["list"],
        ["list", "kd_energy"],
        ["run", "--cfg", str(config), "optim.max_epoch", "2", "out_dir", str(tmp_path)],
        site=site,
        cwd=tmp_path,
    )
    assert (
        "demo  gkd-plugin-demo 0.1.0\n    gkd_register_knowledge  energy\n    gkd_register_kernels    cauchy" in plugins
    )
    assert "disabled" not in plugins + stderr
    lines = {line.split()[0]: line for line in axes.splitlines() if line.startswith("  ")}
    assert "how rough a layer is over the edges" in lines["energy"]
    assert "1 / (1 + |x-y|^2 / s^2)" in lines["cauchy"]
    assert "true or false (default: false)" in keys
    plan = yaml.safe_load((tmp_path / "digits" / "plan.yaml").read_text())
    assert plan["kd_energy"]["normalize"] is True and plan["kd_structure"]["kernel"] == "cauchy"
    trained = rows(tmp_path / "digits" / "0", "train")
    assert len(trained) == 2 and len(rows(tmp_path / "digits" / "0", "test")) == 1
    for column in (f"s{student}_kd_{group}" for student in (1, 2) for group in ("energy", "structure")):
        assert all(math.isfinite(row[column]) and row[column] > 0 for row in trained), column


ORACLE = """
import math
from gkd_plugin.testing import TermSuite

class TestLoops(TermSuite):
    term, values = "energy", {"layer_map": "uniform", "layer_reduction": "mean"}

    def oracle(self, learner, source, weights):
        def energy(seen, layer):
            rows = seen.layer("conv", layer).tolist()
            gaps = [sum((a - b) ** 2 for a, b in zip(rows[u], rows[v])) for u, v in seen.graph.edge_index.t().tolist()]
            return sum(gaps) / seen.graph.num_nodes
        pairs = [(row, column) for row in (1, 2, 3) for column in (1, 2, 3)]
        gaps = [math.log((1 + energy(learner, r)) / (1 + energy(source, c))) for r, c in pairs]
        return sum(gap ** 2 for gap in gaps) / 9
"""


def test_its_own_three_lines_pass_and_so_do_loops_from_its_equation(site: Path, tmp_path: Path) -> None:
    shutil.copytree(DEMO / "tests", tmp_path / "tests")
    (tmp_path / "tests" / "test_loops.py").write_text(ORACLE)
    done = python("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", site=site, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout and "skipped" not in done.stdout


def test_a_broken_one_beside_it_is_disabled_and_named(broken_too: Path, tmp_path: Path) -> None:
    config = str(DEMO / "digits.yaml")
    (plugins, axes, checked), stderr = gkd(["plugins"], ["list"], ["check", config], site=broken_too, cwd=tmp_path)
    reason = "ModuleNotFoundError: No module named 'a_module_that_is_not_there'"
    assert f"plugin 'broken' of gkd-broken 0.3 is disabled: {reason}" in stderr
    assert "(GKD_LOAD_PLUGINS= loads none)" in stderr
    assert f"broken  gkd-broken 0.3  disabled\n    {reason}\n" in plugins
    assert "gkd_register_knowledge  energy" in plugins and "Without broken: GKD_LOAD_PLUGINS=demo " in plugins
    assert "cauchy" in axes and "laplacian" in axes
    assert "digits.yaml" in checked


def test_the_environment_switches_them_off(broken_too: Path, tmp_path: Path) -> None:
    (plugins, axes), stderr = gkd(["plugins"], ["list"], site=broken_too, cwd=tmp_path, GKD_LOAD_PLUGINS="")
    assert "laplacian" in axes and "cauchy" not in axes
    assert "demo" not in plugins and "broken" not in plugins + stderr
