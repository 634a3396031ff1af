"""A throw-away plugin: a new kernel, a new layer map and a new knowledge with a key of its own, all used from YAML."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
import yaml
from torch import Tensor

import gkd_plugin
from gkd_plugin import hookimpl, plugins
from gkd_plugin.commands.run import run
from gkd_plugin.config.read import read_config
from gkd_plugin.errors import ConfigError, UserError
from gkd_plugin.host import cfg
from gkd_plugin.keys import Key, Number
from gkd_plugin.space import axes
from gkd_plugin.space.answers import Kernel, LayerMap
from gkd_plugin.space.observation import Observation
from gkd_plugin.space.terms import LayerTerm


class Energy(LayerTerm):
    """The squared difference of two layers' mean energies to a power."""

    name: ClassVar[str] = "energy"
    summary: ClassVar[str] = "mean energy of a layer"
    reference: ClassVar[str] = "a test"
    keys: ClassVar[tuple[Key, ...]] = (Key("power", 1.0, Number(above=True), "exponent of the energy"),)
    seen: ClassVar[list[float]] = []

    def distance(self, learner: Observation, source: Observation, row: int, column: int) -> Tensor:
        power = float(self.group["power"])
        self.seen.append(power)
        ours = learner.layer(self.tap, row).square().mean() ** power
        return (ours - source.layer(self.tap, column).square().mean() ** power) ** 2


def backwards(rows: int, columns: int, values: Any, own: bool) -> Tensor:
    weights = torch.zeros(rows, columns)
    for row in range(rows):
        weights[row, columns - 1 - min(row, columns - 1)] = 1
    return weights


class Demo:
    """What a third party writes."""

    @hookimpl
    def gkd_register_kernels(self, register: Any) -> None:
        register("chebyshev", Kernel(lambda x, y, scale: -(x - y).abs().amax(-1) / scale, "max norm", "a test", True))

    @hookimpl
    def gkd_register_layer_maps(self, register: Any) -> None:
        register("backwards", LayerMap("last listens to first", "a test", backwards))

    @hookimpl
    def gkd_register_knowledge(self, register: Any) -> None:
        register("energy", Energy)


@pytest.fixture
def demo() -> Any:
    name = gkd_plugin.register_plugin(Demo(), "demo")
    yield name
    gkd_plugin.unregister_plugin(name)


def configuration(tmp_path: Path, **groups: Any) -> Path:
    values: dict[str, Any] = {
        "out_dir": str(tmp_path / "results"),
        "tensorboard_agg": False,
        "num_threads": 1,
        "accelerator": "cpu",
        "dataset": {"format": "PyG", "name": "digits", "task": "node", "task_type": "classification"},
        "train": {"mode": "distill", "eval_period": 1},
        "gnn": {"layers_post_mp": 1, "dim_inner": 8, "layer_type": "gcnconv", "batchnorm": False, "l2norm": False},
        "optim": {"max_epoch": 2},
        "kd": {"students": 2},
        "kd_structure": {"weight": 1, "kernel": "chebyshev", "kernel_scale": 2, "layer_map": "backwards"},
        "kd_energy": {"weight": 0.5, "power": 2, "layer_map": "backwards", "tap": "layer"},
    }
    values.update(groups)
    path = tmp_path / "third.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_everything_is_used_from_yaml(demo: str, tmp_path: Path) -> None:
    assert "kd_energy" in cfg and cfg.kd_energy.power is None
    Energy.seen.clear()
    report = run(configuration(tmp_path), quiet=True)
    assert report.plan.groups["energy"]["power"] == 2.0
    assert set(Energy.seen) == {2.0}
    plan = yaml.safe_load((tmp_path / "results/third/plan.yaml").read_text())
    assert plan["kd_energy"]["power"] == 2.0 and plan["kd_structure"]["kernel"] == "chebyshev"
    row = (tmp_path / "results/third/0/train/stats.json").read_text()
    assert "s1_kd_energy" in row and "s2_kd_structure" in row


def test_its_keys_are_checked_like_ours(demo: str, tmp_path: Path) -> None:
    bad = configuration(tmp_path, kd_energy={"weight": 1, "power": 0, "powr": 1})
    with pytest.raises(ConfigError) as error:
        read_config(bad)
    assert "kd_energy.power" in str(error.value) and "kd_energy.powr" in str(error.value)
    assert "Did you mean 'power'" in str(error.value) or "kd_energy.power" in str(error.value)


def test_it_is_listed_and_forgotten(demo: str) -> None:
    assert axes.kernels.origin("chebyshev") == "demo"
    assert [p.hooks for p in plugins.loaded() if p.name == "demo"] == [
        ("gkd_register_kernels", "gkd_register_knowledge", "gkd_register_layer_maps")
    ]
    gkd_plugin.unregister_plugin("demo")
    assert "chebyshev" not in axes.kernels and "energy" not in axes.knowledge


def test_a_name_that_is_taken_is_refused_and_nothing_of_the_plugin_stays() -> None:
    class Taking:
        @hookimpl
        def gkd_register_layer_maps(self, register: Any) -> None:
            register("mine", LayerMap("mine", "a test", backwards))
            register("shift", LayerMap("not the one", "a test", backwards))

    with pytest.raises(UserError, match="'shift' is taken"):
        gkd_plugin.register_plugin(Taking(), "taking")
    assert "mine" not in axes.layer_maps and "taking" not in [p.name for p in plugins.loaded()]


def test_a_misspelt_hook_is_refused() -> None:
    class Misspelt:
        @hookimpl
        def gkd_register_kernel(self, register: Any) -> None: ...

    with pytest.raises(UserError, match="unknown hook 'gkd_register_kernel'"):
        gkd_plugin.register_plugin(Misspelt(), "misspelt")


def test_a_broken_installed_plugin_is_quarantined(monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> Any:
        raise ImportError("no module named torch_scatter")

    point: Any = SimpleNamespace(name="broken", dist=SimpleNamespace(name="gkd-broken", version="0.3"), load=load)
    with pytest.warns(UserWarning, match=r"'broken' of gkd-broken 0\.3 is disabled: .*torch_scatter"):
        plugins._load_entry_point(point)
    assert [p.error for p in plugins.loaded() if p.name == "broken"]
    plugins._loaded.pop("broken")
    assert "laplacian" in axes.kernels
