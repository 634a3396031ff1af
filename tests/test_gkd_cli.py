from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import types
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import gkd_cli
import gkd_plugin
from gkd_plugin.commands.init import packed_configs
from gkd_plugin.commands.results import load_student
from gkd_plugin.commands.run import run as run_command
from gkd_plugin.errors import ConfigError, Problem, RunFailed, UserError

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = list(gkd_cli.main.commands)
WARM_UP = gkd_cli.warm_up


def gkd(*words: str) -> Any:
    return CliRunner().invoke(gkd_cli.main, list(words))


class Recorder:
    """Stands in for a command's function: remembers what it was called with, returns or raises what it was told."""

    def __init__(self, result: Any) -> None:
        self.result, self.calls = result, []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls.append((args, kwargs))
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


class Printed(types.SimpleNamespace):
    """A result that prints as its ``text``."""

    def __str__(self) -> str:
        return self.text


def report(text: str = "done", failures: Any = (), control: Any = None) -> Printed:
    return Printed(text=text, failures=failures, control=control)


def command(monkeypatch: pytest.MonkeyPatch, module: str, function: str, result: Any) -> Recorder:
    recorder = Recorder(result)
    stand_in = types.ModuleType(f"gkd_plugin.commands.{module}")
    setattr(stand_in, function, recorder)
    monkeypatch.setitem(sys.modules, stand_in.__name__, stand_in)
    return recorder


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


def test_run_hands_on_options_and_overrides(monkeypatch):
    run = command(monkeypatch, "run", "run", report("a table"))
    done = gkd(
        "run", "--cfg", "f.yaml", "optim.base_lr", "-0.5", "--control", "kd_structure.pairs", "-2~-1", "--repeat", "3"
    )
    assert (done.exit_code, done.output) == (0, "a table\n")
    overrides = ["optim.base_lr", "-0.5", "kd_structure.pairs", "-2~-1"]
    assert run.calls == [
        (("f.yaml",), {"repeat": 3, "overrides": overrides, "name": None, "control": True, "fresh": False})
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "--cfg", "f.yaml", "--repat", "3"], "No such option: --repat"),
        (["run", "--cfg", "f.yaml", "kd.students"], "'kd.students' has no value"),
        (["run", "--cfg", "f.yaml", "--repeat", "0"], "--repeat"),
        (["run", "kd.students", "2"], "--cfg"),
        (["check", "kd.students", "2"], "'kd.students' is not a file"),
        (["check", "f.yaml", "kd.students", "2", "g.yaml"], "'g.yaml' has no value"),
        (["explain", "f.yaml", "kd.students"], "'kd.students' has no value"),
        (["trian"], "No such command 'trian'"),
    ],
)
def test_mistakes_on_the_command_line_exit_with_2(words, message):
    done = gkd(*words)
    assert done.exit_code == 2
    assert message in done.stderr
    assert "Traceback" not in done.output


def test_exit_codes(monkeypatch):
    mistake = ConfigError([Problem("kd.students", "0", "Allowed: a whole number of at least 1.")], "f.yaml")
    for error, code, text in [
        (mistake, 2, "kd.students: 0. Allowed"),
        (UserError("no such file"), 2, "no such file"),
        (RunFailed("loss is nan"), 1, "loss is nan"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ]:
        command(monkeypatch, "run", "run", error)
        done = gkd("run", "--cfg", "f.yaml")
        assert done.exit_code == code
        assert text in done.stderr
        assert done.stdout == ""


def test_a_defect_keeps_its_traceback(monkeypatch):
    for error in (ValueError("ours"), RuntimeError("ours"), KeyError("ours")):
        command(monkeypatch, "run", "run", error)
        assert gkd("run", "--cfg", "f.yaml").exception is error


@pytest.mark.parametrize("words", [["f.yaml"], ["--cfg", "f.yaml"]])
@pytest.mark.parametrize("name", ["run", "check", "explain"])
def test_both_spellings_of_a_configuration(name, words, monkeypatch):
    called = command(monkeypatch, name, name, types.SimpleNamespace(ok=True, failures=(), control=None))
    assert gkd(name, *words, "seed", "3").exit_code == 0
    ((args, options),) = called.calls
    assert args[0] in ("f.yaml", ["f.yaml"]) and ["seed", "3"] in (*args, options.get("overrides"))


@pytest.mark.parametrize("target", ["/dev/full", None])
def test_an_output_that_nobody_reads_is_no_failure(target, monkeypatch):
    if target and not os.path.exists(target):
        pytest.skip(f"this system has no {target}")
    monkeypatch.setattr(sys, "stdout", open(target, "w") if target else None)
    gkd_cli.show("done")


def test_one_failed_seed_is_a_failed_command(monkeypatch):
    for failed in (report(failures={2: "nan"}), report(control=report(failures={2: "nan"}))):
        command(monkeypatch, "run", "run", failed)
        done = gkd("run", "--cfg", "f.yaml")
        assert (done.exit_code, done.output) == (1, "done\n")


def test_check_takes_files_then_pairs(monkeypatch, tmp_path):
    (tmp_path / "plain").touch()
    check = command(monkeypatch, "check", "check", Printed(text="all well", ok=True))
    done = gkd("check", "a.yaml", "b.yml", str(tmp_path / "plain"), "kd.shift", "-1", "kd.teacher_cfg", "t.yaml")
    assert (done.exit_code, done.output) == (0, "all well\n")
    files = ["a.yaml", "b.yml", str(tmp_path / "plain")]
    assert check.calls == [((files, ["kd.shift", "-1", "kd.teacher_cfg", "t.yaml"]), {"data": False})]


def test_check_with_a_mistake_exits_with_2(monkeypatch):
    command(monkeypatch, "check", "check", Printed(text="wrong", ok=False))
    done = gkd("check", "a.yaml")
    assert (done.exit_code, done.stdout) == (2, "wrong\n")


def test_check_and_explain_for_real(tmp_path):
    good, bad = str(packed_configs() / "cora" / "oc.yaml"), tmp_path / "bad.yaml"
    bad.write_text("kd: {preset: alignahed}\n")
    done = gkd("check", good, str(bad))
    assert done.exit_code == 2
    assert "Did you mean 'alignahead'" in done.stdout
    assert gkd("check", good, "kd_structure.shift", "-1").exit_code == 2
    assert gkd("check", good, "kd_structure.layer_map", "shift", "kd_structure.shift", "-1").exit_code == 0
    assert "kernel_scale" in gkd("explain", good).stdout


def test_explain_and_list(monkeypatch):
    explain = command(monkeypatch, "explain", "explain", "a formula")
    assert gkd("explain", "a.yaml", "kd_structure.shift", "-1").output == "a formula\n"
    assert explain.calls == [(("a.yaml", ["kd_structure.shift", "-1"]), {})]
    answers = command(monkeypatch, "list", "list_answers", "many")
    assert gkd("list").output == gkd("list", "kernels").output == "many\n"
    assert [args for args, _ in answers.calls] == [(None,), ("kernels",)]


def test_plugins_lists_ours():
    assert "gkd_register_kernels" in gkd("plugins").output


def test_a_narrow_encoding_shows_stand_ins(tmp_path):
    (tmp_path / "f.yaml").write_text("kd: {preset: alignahead_pp}\n")
    for encoding, word in (("cp1252", "sum D_structure"), ("utf-8", "Σ D_structure")):
        env = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "gkd_cli", "explain", "f.yaml"]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True)
        assert done.returncode == 0, done.stderr
        assert word in done.stdout.decode(encoding)


def test_a_terminal_is_told_that_torch_is_imported(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    for there in (True, False):
        if not there:
            monkeypatch.delitem(sys.modules, "torch")
        with gkd_cli.loading():
            said = capsys.readouterr().err
        assert said == ("" if there else gkd_cli._LOADING)
    assert capsys.readouterr().err.strip() == ""  # and the line goes again


def test_the_doors_in_python_have_the_commands_signatures():
    for door, module in ((gkd_plugin.run, run_command), (gkd_plugin.load_student, load_student)):
        ours, theirs = inspect.signature(door), inspect.signature(module)
        assert list(ours.parameters)[1:] and set(ours.parameters) - {"cfg"} == set(theirs.parameters) - {"config"}
        for name in set(ours.parameters) - {"cfg"}:
            assert ours.parameters[name].default == theirs.parameters[name].default, name
        assert ours.return_annotation == theirs.return_annotation
    assert gkd_plugin.UserError is UserError


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
    monkeypatch.setenv(gkd_cli._METHOD, method or "")
    if method is None:
        monkeypatch.delenv(gkd_cli._METHOD)
    WARM_UP(workers, scheduler)
    assert os.environ["OMP_NUM_THREADS"] == "7" and "PYTHONSAFEPATH" not in os.environ
    if starts:
        assert seen[0] == ["gkd_plugin.study.original"] and seen[1]["OMP_NUM_THREADS"] == "1"
        assert seen[1]["PYTHONSAFEPATH"] == "1"  # nothing of the working folder is imported
        assert os.environ[gkd_cli._METHOD] == "forkserver"
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
    monkeypatch.setattr(gkd_cli, "entry_points", lambda group: plugins if group == "gkd_plugin" else ())
    (tmp_path / "a.yaml").write_text(text)
    assert gkd_cli.brings_code(str(tmp_path / "a.yaml"), words) is brings
    assert gkd_cli.brings_code(str(tmp_path / "missing.yaml"), words) is (bool(plugins) or ":" in "".join(words))


def read_scores(path):
    """Rows without their times."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{key: value for key, value in row.items() if "time" not in key and "eta" not in key} for row in lines]
