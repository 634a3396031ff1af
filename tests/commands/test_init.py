"""What ``gkd init`` writes into a program, and where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import gkd_cli
from gkd_plugin.commands.init import init, packed_configs
from gkd_plugin.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def gkd(*words: str) -> Any:
    return CliRunner().invoke(gkd_cli.main, list(words))


def test_init_writes_one_import_line_and_nothing_twice(host_program):
    done = gkd("init", str(host_program))
    assert done.exit_code == 0, done.output
    file = host_program / "custom_graphgym" / "train" / "gkd.py"
    assert "wrote" in done.output
    assert file.read_text().startswith("import gkd_plugin ")
    assert len(file.read_text().splitlines()) == 1
    assert gkd("init", str(host_program)).output == "nothing to do: all files exist\n"


def test_init_gives_the_stock_program_the_mode(host_program):
    init(host_program)
    code = "import custom_graphgym\nfrom torch_geometric.graphgym.config import cfg\nprint(cfg.train.mode, 'kd' in cfg)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=host_program,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["standard", "True"], done.stderr


def test_init_copies_every_config(host_program):
    init(host_program, configs=True)
    copied = {
        path.relative_to(host_program / "graphgym_configs") for path in host_program.rglob("graphgym_configs/**/*.*")
    }
    packed = {path.relative_to(packed_configs()) for path in packed_configs().rglob("*.*")}
    assert copied == packed
    assert Path("digits/alignahead_pp.yaml") in copied


def test_init_never_overwrites(host_program):
    mine = host_program / "graphgym_configs" / "cora" / "oc.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(UserError, match=r"cora/oc\.yaml: exists with other content"):
        init(host_program, configs=True)
    assert mine.read_text() == "mine"
    assert list(mine.parent.iterdir()) == [mine]
    assert not (host_program / "custom_graphgym" / "train" / "gkd.py").exists()


def test_init_says_what_is_missing(tmp_path):
    done = gkd("init", str(tmp_path))
    assert done.exit_code == 2
    assert "python -m gkd_plugin main.py" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_init_copies_configs_where_there_is_no_program(tmp_path):
    done = gkd("init", str(tmp_path), "--configs")
    assert done.exit_code == 0, done.output
    assert "so no program was changed: gkd run F needs none" in done.output
    assert done.output.count("wrote") == 1 and "configurations and grids into" in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["graphgym_configs"]


def test_init_creates_what_a_program_imports(tmp_path):
    done = gkd("init", str(tmp_path), "--create")
    assert done.exit_code == 0 and "must have the line: import custom_graphgym" in done.output
    (tmp_path / "main.py").write_text("import custom_graphgym, sys\nprint('gkd_plugin' in sys.modules)\n")
    found = subprocess.run(
        [sys.executable, "main.py"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True
    )
    assert found.stdout.split() == [b"True"], found.stderr
    assert gkd("init", str(tmp_path), "--create").output == "nothing to do: all files exist\n"
    assert gkd("init", str(tmp_path)).output == "nothing to do: all files exist\n"


@pytest.mark.parametrize(
    ("there", "options", "said"),
    [
        ([], (), "custom_graphgym/__init__.py and "),
        (["__init__.py"], ("--configs",), "train/__init__.py is missing"),
    ],
)
def test_init_says_what_a_program_lacks(there, options, said, tmp_path):
    for name in there:
        path = tmp_path / "custom_graphgym" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("from .act import *\n")
    done = gkd("init", str(tmp_path), *options)
    assert done.exit_code == 2 and said in done.stderr
    assert not list(tmp_path.rglob("gkd.py"))


@pytest.mark.parametrize(
    ("line", "said"),
    [("from .act import *", True), ("from .train import *", False), ("from . import act, train", False)],
)
def test_init_says_where_a_program_does_not_import_the_folder(line, said, tmp_path):
    (tmp_path / "custom_graphgym").mkdir()
    (tmp_path / "custom_graphgym" / "__init__.py").write_text(f"{line}\n")
    done = gkd("init", str(tmp_path), "--create")
    assert done.exit_code == 0 and ("add the line: from .train import *" in done.output) == said
