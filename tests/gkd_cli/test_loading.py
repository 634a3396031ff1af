from __future__ import annotations

import json
import os
import subprocess
import sys
from multiprocessing import forkserver
from pathlib import Path

import pytest
from click.testing import CliRunner

import gkd_cli
from gkd_cli import loading

ROOT = Path(__file__).resolve().parent.parent.parent
COMMANDS = list(gkd_cli.main.commands)


def test_help_imports_nothing_heavy():
    code = (
        "import sys, gkd_cli\n"
        "for words in [['--help'], *([name, '--help'] for name in sys.argv[1:])]:\n"
        "    assert gkd_cli.main(words, standalone_mode=False) in (0, None)\n"
        "heavy = {'torch', 'torch_geometric', 'gkd_plugin', 'yaml', 'pluggy', 'rich', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *COMMANDS], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in COMMANDS:
        assert f"\n  {name}" in done.stdout


def test_a_terminal_is_told_that_torch_is_imported(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    for there in (True, False):
        if not there:
            monkeypatch.delitem(sys.modules, "torch")
        with loading.loading():
            said = capsys.readouterr().err
        assert said == ("" if there else loading._LOADING)
    assert capsys.readouterr().err.strip() == ""  # and the line goes again


@pytest.mark.parametrize(
    ("workers", "scheduler", "method", "starts"),
    [
        (None, None, None, True),
        (2, None, None, True),
        (0, None, None, False),
        (None, "tcp://node:8786", None, False),
        (2, None, "spawn", False),
    ],
)
@pytest.mark.skipif(sys.platform != "linux" or sys.version_info < (3, 11), reason="workers start anew there")
def test_workers_are_copies_of_a_process_that_starts_first(monkeypatch, workers, scheduler, method, starts):
    seen = []
    monkeypatch.setattr(forkserver, "ensure_running", lambda: seen.append(dict(os.environ)))
    monkeypatch.setattr(forkserver, "set_forkserver_preload", lambda names: seen.append(names))
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv(loading._METHOD, method or "")
    if method is None:
        monkeypatch.delenv(loading._METHOD)
    loading.warm_up(workers, scheduler)
    assert os.environ["OMP_NUM_THREADS"] == "7" and "PYTHONSAFEPATH" not in os.environ
    if starts:
        assert seen[0] == ["gkd_plugin.study.original"] and seen[1]["OMP_NUM_THREADS"] == "1"
        assert seen[1]["PYTHONSAFEPATH"] == "1"  # nothing of the working folder is imported
        assert os.environ[loading._METHOD] == "forkserver"
    else:
        assert not seen


LIGHT = ["check graphgym_configs/cora/alignahead_pp.yaml", "explain graphgym_configs/cora/lsp.yaml", "list", "plugins"]


@pytest.mark.parametrize("words", LIGHT)
def test_a_command_that_trains_nothing_imports_little(words):
    """What it says is the same; Lightning, torchmetrics and torch's compiler stay away, and come when they are used."""
    program = (
        "import sys; sys.argv = ['gkd', *sys.argv[1:]]\n"
        "import gkd_cli\n"
        "try: gkd_cli.start()\n"
        "except SystemExit as end: assert not end.code\n"
        "there = {'pytorch_lightning', 'torchmetrics', 'torch._dynamo.utils', 'pandas', 'numba'} & set(sys.modules)\n"
        "assert not there, there\n"
        "import torch, torch_geometric.graphgym.imports as host\n"
        "assert torch._dynamo.OptimizedModule and sys.modules['torch._dynamo'].__file__\n"
        "import pandas, pytorch_lightning\n"
        "assert host.pl.Trainer is pytorch_lightning.Trainer\n"
    )
    command = [sys.executable, "-W", "error::UserWarning:torch_geometric", "-c", program, *words.split()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    whole = CliRunner().invoke(gkd_cli.main, [word if word[0] != "g" else str(ROOT / word) for word in words.split()])
    assert whole.exit_code == 0
    assert (
        done.stdout.replace(" ", "").replace("\n", "")[:400].replace(str(ROOT) + "/", "")
        == (whole.stdout.replace(" ", "").replace("\n", "").replace(str(ROOT) + "/", "")[:400])
    )


def test_gkd_run_needs_no_lightning_and_gives_the_same_numbers(tmp_path):
    """The host's base class of networks is another without it; what they compute is not."""
    config = ROOT / "graphgym_configs" / "deep" / "alignahead_pp.yaml"
    words = ["optim.max_epoch", "2", "out_dir", str(tmp_path)]
    program = (
        "import sys; sys.argv = ['gkd', *sys.argv[1:]]\n"
        "import gkd_cli\n"
        "try: gkd_cli.start()\n"
        "except SystemExit as end: assert not end.code\n"
        "there = {'pytorch_lightning', 'torchmetrics'} & set(sys.modules)\n"
        "assert not there, there\n"
        "from importlib.util import find_spec\n"
        "import torch_geometric.utils.ppr as host\n"
        "assert (host.numba is None) == (find_spec('numba') is None)\n"
    )
    command = [sys.executable, "-c", program, "run", str(config), "--name", "light", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    import pytorch_lightning  # noqa: F401

    whole = CliRunner().invoke(gkd_cli.main, ["run", str(config), "--name", "whole", *words])
    assert whole.exit_code == 0, whole.output
    rows = [read_scores(tmp_path / name / "0" / "val" / "stats.json") for name in ("light", "whole")]
    assert len(rows[0]) == 2 and rows[0] == rows[1]


@pytest.mark.parametrize(
    ("text", "words", "plugins", "brings"),
    [
        ("dataset: {format: PyG, name: Cora}  # https://example.org", ["dataset.dir", "/data"], (), False),
        ("dataset: {format: gkd, name: mine:make}", [], (), True),
        ("dataset: {format: gkd}", ["dataset.name", "my.module:make_graph"], (), True),
        ("dataset: {name: Cora}", [], ("theirs",), True),
    ],
)
def test_whose_code_may_ask_for_lightning_gets_it(text, words, plugins, brings, tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "entry_points", lambda group: plugins if group == "gkd_plugin" else ())
    (tmp_path / "a.yaml").write_text(text)
    assert loading.brings_code(str(tmp_path / "a.yaml"), words) is brings
    assert loading.brings_code(str(tmp_path / "missing.yaml"), words) is (bool(plugins) or ":" in "".join(words))


def read_scores(path):
    """Rows without their times."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{key: value for key, value in row.items() if "time" not in key and "eta" not in key} for row in lines]
