"""Whose code an exception came from, for every kind of code that a user can write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch_geometric.graphgym import register

import gkd_plugin
from gkd_plugin import plugins
from gkd_plugin.commands.blame import describe_own_code
from gkd_plugin.commands.check import check
from gkd_plugin.commands.run import run
from gkd_plugin.errors import RunFailed
from tests import toy

HERE = Path(__file__)


def fail(*_args: Any, **_options: Any) -> Any:
    raise IndexError("no such thing")


class Layer(torch.nn.Module):
    def __init__(self, config: Any, **_: Any) -> None:
        super().__init__()
        self.lin = torch.nn.Linear(config.dim_in, config.dim_out)

    def forward(self, batch: Any) -> Any:
        return fail(batch)


class Encoder(torch.nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.lin = torch.nn.Linear(width, width)

    def forward(self, batch: Any) -> Any:
        return fail(batch)


class Plugin:
    @gkd_plugin.hookimpl
    def gkd_register_kernels(self, register: Callable[..., None]) -> None:
        from gkd_plugin.space.answers import Kernel

        register("mine", Kernel(lambda x, y, scale: fail(x), "fails", "a test"))


def transformed(format: str, name: str, folder: str) -> Any:
    found = toy.load("toy", "nodes", folder) if format == "mine" else None
    if found is not None:
        found.transform = fail
    return found


CODE: dict[str, tuple[Callable[[], Any], dict[str, Any], str, str]] = {
    "layer": (
        lambda: register.register_layer("mine", Layer),
        {"gnn": {"layer_type": "mine"}},
        "your own code",
        "in forward",
    ),
    "loss": (lambda: register.register_loss("mine", fail), {"model": {"loss_fun": "mine"}}, "your own code", "in fail"),
    "encoder": (
        lambda: register.register_node_encoder("mine", Encoder),
        {"dataset": {"node_encoder": True, "node_encoder_name": "mine"}},
        "your own code",
        "in forward",
    ),
    "data set": (
        lambda: register.register_loader("mine", lambda format, *_: fail() if format == "mine" else None),
        {"dataset": {"format": "mine"}},
        "your own code",
        "in <lambda>",
    ),
    "transform": (
        lambda: register.register_loader("mine", transformed),
        {"dataset": {"format": "mine"}},
        "your own code",
        "in fail",
    ),
    "metric": (
        lambda: register.register_metric("mine", fail),
        {"custom_metrics": ["mine"]},
        "your own code",
        "in fail",
    ),
    "term": (
        lambda: gkd_plugin.register_plugin(Plugin(), "pessimist"),
        {"kd": {"students": 2}, "kd_structure": {"weight": 1, "kernel": "mine"}},
        "the plugin pessimist",
        "in <lambda>",
    ),
}


@pytest.mark.parametrize("kind", CODE)
@pytest.mark.usefixtures("work_folder")
def test_whose_code_failed_and_where(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    register_it, groups, owner, inside = CODE[kind]
    register_it()
    with pytest.raises(RunFailed, match=r"seed 1: IndexError: no such thing \(.*test_blame.py, line"):
        run(toy.values(**groups), repeat=2, name="a")
    said = capsys.readouterr().err
    assert said.count(f"{owner} failed ({HERE}):") == 1, "once for all seeds"
    assert said.count("IndexError: no such thing") == 1
    files = [line for line in said.splitlines() if line.startswith('  File "')]
    assert files and all(line.startswith(f'  File "{HERE}"') for line in files)
    assert inside in said and "    raise IndexError" in said
    with pytest.raises(RunFailed):
        run(toy.values(**groups), name="a", quiet=True)
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("work_folder")
def test_a_check_of_the_data_shows_it_too() -> None:
    CODE["data set"][0]()
    text = str(check(toy.values(dataset={"format": "mine"}), data=True))
    assert f"your own code failed ({HERE}):" in text and "    raise IndexError" in text


def raised_in(file: str, module: str) -> Exception:
    """What code of a file raises, called from a library."""
    scope: dict[str, Any] = {"__name__": module}
    exec(compile("def fail():\n    raise KeyError('x')", file, "exec"), scope)
    try:
        scope["fail"]()
    except KeyError as error:
        error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
        return error
    raise AssertionError


INSTALLED = "/usr/lib/python3/site-packages/{}/x.py"
FILES = [
    (INSTALLED.format("torch"), "torch.x", ""),
    (str(Path(gkd_plugin.__file__).parent / "host.py"), "gkd_plugin.host", ""),
    ("<frozen importlib._bootstrap>", "importlib._bootstrap", ""),
    (str(Path(torch.__file__).with_name("serialization.py")), "torch.serialization", ""),
    ("/home/me/layer.py", "layer", "your own code failed (/home/me/layer.py)"),
    ("/tmp/ipykernel_1/1.py", "__main__", "your own code failed (/tmp/ipykernel_1/1.py)"),
    (INSTALLED.format("gkd_more"), "gkd_more.x", f"the plugin more failed ({INSTALLED.format('gkd_more')})"),
    (INSTALLED.format("gkd_moreover"), "gkd_moreover.x", ""),
]


@pytest.mark.parametrize(("file", "module", "said"), FILES)
def test_libraries_and_we_are_not_blamed_and_plugins_are(
    file: str, module: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = ModuleType("gkd_more.hooks")
    monkeypatch.setattr(plugins.manager, "list_name_plugin", lambda: [("more", more), ("gone", None)])
    monkeypatch.setitem(plugins._loaded, "more", plugins.Loaded("more", "gkd-more", "1", ()))
    text = describe_own_code(raised_in(file, module))
    assert text.partition(":\n")[0] == said
    assert bool(text) == bool(said) and (not text or text.endswith("KeyError: 'x'"))
