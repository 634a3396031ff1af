from __future__ import annotations

import inspect
import sys
import types
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

ROOT = Path(__file__).resolve().parent.parent.parent


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


def test_the_doors_in_python_have_the_commands_signatures():
    for door, module in ((gkd_plugin.run, run_command), (gkd_plugin.load_student, load_student)):
        ours, theirs = inspect.signature(door), inspect.signature(module)
        assert list(ours.parameters)[1:] and set(ours.parameters) - {"cfg"} == set(theirs.parameters) - {"config"}
        for name in set(ours.parameters) - {"cfg"}:
            assert ours.parameters[name].default == theirs.parameters[name].default, name
        assert ours.return_annotation == theirs.return_annotation
    assert gkd_plugin.UserError is UserError
