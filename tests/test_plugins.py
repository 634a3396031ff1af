"""A throw-away plugin: a new kernel, a new layer map and a new knowledge with a key of its own, all used from YAML."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
import yaml
from torch import Tensor

import gkd_plugin
from gkd_plugin import hookimpl, plugins
from gkd_plugin.commands.plugins import list_plugins
from gkd_plugin.commands.run import run
from gkd_plugin.config.load import read_config
from gkd_plugin.errors import ConfigError, UserError
from gkd_plugin.host import cfg
from gkd_plugin.plugins import Loaded
from gkd_plugin.schema import Choice, Flag, Key, Kind, Number
from gkd_plugin.space import axes
from gkd_plugin.space.answers import Divergence, Kernel, LayerMap, Preset, Schedule, Source
from gkd_plugin.space.knowledge.base import LayerTerm, Term
from gkd_plugin.space.observation import Observation
from tests.toy import config, values


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
    def gkd_register_divergences(self, register: Any) -> None:
        def hellinger(learner: Tensor, source: Tensor) -> Tensor:
            return 0.5 * ((learner / 2).exp() - (source / 2).exp()).square()

        register("hellinger", Divergence(hellinger, "squared Hellinger distance", "a test"))

    @hookimpl
    def gkd_register_knowledge(self, register: Any) -> None:
        register("energy", Energy)


@pytest.fixture
def demo() -> Any:
    name = gkd_plugin.register_plugin(Demo(), "demo")
    yield name
    gkd_plugin.unregister_plugin(name)


USED: dict[str, Any] = {
    "kd": {"students": 2},
    "kd_structure": {
        "weight": 1,
        "kernel": "chebyshev",
        "kernel_scale": 2,
        "divergence": "hellinger",
        "layer_map": "backwards",
    },
    "kd_energy": {"weight": 0.5, "power": 2, "layer_map": "backwards", "tap": "layer"},
}


@pytest.mark.usefixtures("toy_data")
def test_everything_is_used_from_yaml(demo: str, tmp_path: Path) -> None:
    assert "kd_energy" in cfg and cfg.kd_energy.power is None
    Energy.seen.clear()
    report = run(config(tmp_path, **USED), quiet=True)
    assert report.plan.groups["energy"]["power"] == 2.0
    assert set(Energy.seen) == {2.0}
    plan = yaml.safe_load((tmp_path / "results/study/plan.yaml").read_text())
    assert plan["kd_energy"]["power"] == 2.0 and plan["kd_structure"]["kernel"] == "chebyshev"
    assert plan["kd_structure"]["divergence"] == "hellinger"
    row = (tmp_path / "results/study/0/train/stats.json").read_text()
    assert "s1_kd_energy" in row and "s2_kd_structure" in row


def test_its_keys_are_checked_like_ours(demo: str) -> None:
    bad = {**USED, "kd_energy": {"weight": 1, "power": 0, "powr": 1}}
    with pytest.raises(ConfigError) as error:
        read_config(values(**bad))
    assert "kd_energy.power" in str(error.value) and "kd_energy.powr" in str(error.value)
    assert "Did you mean 'power'" in str(error.value) or "kd_energy.power" in str(error.value)


def test_it_is_listed_and_forgotten(demo: str) -> None:
    assert axes.kernels.origin("chebyshev") == "demo"
    assert [p.hooks for p in plugins.loaded() if p.name == "demo"] == [
        (
            "gkd_register_divergences",
            "gkd_register_kernels",
            "gkd_register_knowledge",
            "gkd_register_layer_maps",
        )
    ]
    gkd_plugin.unregister_plugin("demo")
    assert "chebyshev" not in axes.kernels and "energy" not in axes.knowledge


def test_a_name_that_is_taken_is_refused_and_nothing_of_the_plugin_stays() -> None:
    class Taking:
        @hookimpl
        def gkd_register_layer_maps(self, register: Any) -> None:
            register("mine", LayerMap("mine", "a test", backwards))
            register("shift", LayerMap("not the one", "a test", backwards))

    told = "'shift' is taken by '.*cyclic.*' of plugin gkd_plugin; 'not the one' of plugin taking needs another name"
    with pytest.raises(UserError, match=told):
        gkd_plugin.register_plugin(Taking(), "taking")
    assert "mine" not in axes.layer_maps and "taking" not in [p.name for p in plugins.loaded()]


def test_a_misspelt_hook_is_refused() -> None:
    class Misspelt:
        @hookimpl
        def gkd_register_kernel(self, register: Any) -> None: ...

    with pytest.raises(
        UserError, match="unknown hook 'gkd_register_kernel'. Did you mean 'gkd_register_kernels'.*hooks: "
    ):
        gkd_plugin.register_plugin(Misspelt(), "misspelt")

    class Argument:
        @hookimpl
        def gkd_register_kernels(self, registr: Any) -> None: ...

    with pytest.raises(UserError, match="hook 'gkd_register_kernels'.*{'registr'} are declared"):
        gkd_plugin.register_plugin(Argument(), "argument")
    assert not {"misspelt", "argument"} & {p.name for p in plugins.loaded()}


KERNEL = Kernel(lambda x, y, scale: x[:, 0], "first column", "a test")


class NotAKey(Energy):
    keys: ClassVar[Any] = ("power",)


class OneKey(Energy):
    keys: ClassVar[Any] = Key("power", 1.0, Number(), "not in a tuple")


class TwiceTheKey(Energy):
    keys: ClassVar[tuple[Key, ...]] = (Key("power", 1.0, Number(), "one"), Key("power", 2.0, Number(), "another"))


class Nothing(LayerTerm):
    name, summary, reference = "nothing", "compares nothing", "a test"


class NothingOfLogits(Term):
    name, summary, reference = "nothing", "compares nothing", "a test"


class Nameless(Nothing):
    name = None  # type: ignore[assignment]


def with_default(default: Any, kind: Kind) -> type[Energy]:
    return type("WithDefault", (Energy,), {"keys": (Key("power", default, kind, "an exponent"),)})


def schedule(pattern: Any, factor: Any, valid: Any = None) -> Schedule:
    return Schedule(pattern, factor, "a schedule", "a test", valid)


def layer_map(**functions: Any) -> LayerMap:
    return LayerMap("a map", "a test", **functions)


@pytest.mark.parametrize(
    ("axis", "name", "answer", "message"),
    [
        ("kernels", "inverse", lambda x, y: x, r"kernels: 'inverse' is <function .* Allowed: .*answers\.Kernel"),
        ("kernels", "inverse", Kernel, "has no summary"),
        ("kernels", "inverse", Kernel(KERNEL.function, "", "a test"), "'inverse' has no summary"),
        ("kernels", "my kernel", KERNEL, "'my kernel' is not a valid name"),
        ("layer_maps", "inverse", KERNEL, r"layer_maps: 'inverse' is Kernel.* Allowed: .*answers\.LayerMap"),
        ("knowledge", "energy", KERNEL, r"Allowed: .*knowledge\.base\.Term"),
        ("knowledge", "attention", Energy, "'attention' is in use already"),
        ("knowledge", "energy", NotAKey, "declares the key 'power'"),
        ("knowledge", "energy", OneKey, r"the keys of 'energy' are Key.* keys=\(Key\(...\),\)"),
        ("knowledge", "energy", TwiceTheKey, "declares the key 'power' twice"),
        ("knowledge", "nothing", Nameless, "the class is called None. Set name = 'nothing'"),
        ("knowledge", "energy", with_default("x", Number()), "'power' with the default 'x'.* a number of at least 0"),
        ("knowledge", "energy", with_default(-1.0, Number(0)), "'power' with the default -1.0"),
        ("knowledge", "energy", with_default("no", Flag()), "'power' with the default 'no'.* true or false"),
        ("knowledge", "energy", with_default("z", Choice(("a", "b"))), "'power' with the default 'z'.* one of a, b"),
        (
            "kernels",
            "two",
            Kernel(lambda x, y: x[:, 0], "two", "a test"),
            "function of 'two' is called with 3 arguments",
        ),
        (
            "divergences",
            "one",
            Divergence(lambda x: x, "one", "a test"),
            "function of 'one' is called with 2 arguments",
        ),
        ("schedules", "bad_n", schedule(r"bad_(\d+", lambda e, n: 1.0), "is no regular expression"),
        ("schedules", "bad_n", schedule(r"bad_(\d+)", lambda e: 1.0), "factor of 'bad_n' is called with 2 arguments"),
        ("schedules", "bad_n", schedule(r"bad_(\d+)", 1.0), "factor of 'bad_n' is 1.0. Allowed: a function of 2"),
        (
            "schedules",
            "bad_n",
            schedule(r"bad_(\d+)", lambda e, n: 1.0, lambda: None),
            "valid of 'bad_n' is called with 1",
        ),
        ("layer_maps", "none", layer_map(), "'none' needs weights .* or module .*, and not both"),
        ("layer_maps", "both", layer_map(weights=backwards, module=lambda *given: None), "'both' needs weights"),
        (
            "layer_maps",
            "few",
            layer_map(weights=lambda rows, columns: 1),
            "weights of 'few' is called with 4 arguments",
        ),
        ("presets", "list", Preset("a list", "a test", ["kd_response"]), r"groups of 'list' is \['kd_response'\]"),
        ("presets", "flat", Preset("flat", "a test", {"kd_response": 1}), "groups of 'flat' is"),
    ],
)
def test_what_is_no_answer_is_refused_and_nothing_of_the_plugin_stays(
    axis: str, name: str, answer: Any, message: str
) -> None:
    class Wrong:
        @hookimpl
        def gkd_register_sources(self, register: Any) -> None:
            register("everybody", Source(lambda learner, students: (), "nobody", "a test"))

    implementation = hookimpl(lambda register: register(name, answer))
    wrong = Wrong()
    setattr(wrong, f"gkd_register_{axis}", implementation)
    before = {each.name: list(each) for each in axes.ALL}
    with pytest.raises(UserError, match=message):
        gkd_plugin.register_plugin(wrong, "wrong")
    assert {each.name: list(each) for each in axes.ALL} == before
    assert "wrong" not in [p.name for p in plugins.loaded()] and not plugins.manager.has_plugin("wrong")


def test_an_exit_inside_a_hook_is_refused_as_well() -> None:
    class Leaving:
        @hookimpl
        def gkd_register_kernels(self, register: Any) -> None:
            raise SystemExit(1)

    with pytest.raises(UserError, match="plugin 'leaving' was not loaded: SystemExit: 1"):
        gkd_plugin.register_plugin(Leaving(), "leaving")


@pytest.mark.parametrize("default", [1.0, 2, None, "none", "1"])
def test_a_default_may_be_written_as_a_file_has_it(default: Any) -> None:
    class Fine:
        @hookimpl
        def gkd_register_knowledge(self, register: Any) -> None:
            register("energy", with_default(default, Number(words=("none",))))

    wanted = pytest.raises(UserError, match="default '1'") if default == "1" else contextlib.nullcontext()
    with wanted:
        gkd_plugin.register_plugin(Fine(), "fine")
    gkd_plugin.unregister_plugin("fine")


class Misbehaving(LayerTerm):
    """Writes where others read."""

    name, summary, reference = "misbehaving", "writes where others read", "a test"
    keys: ClassVar[tuple[Key, ...]] = (
        Key("how", "x", Choice(("x", "labels", "edges", "source", "grad")), "what it does"),
        Key("extra", 0.0, Number(), "fails where it is asked", unless=lambda values: values["no such key"]),
    )

    def distance(self, learner: Observation, source: Observation, row: int, column: int) -> Tensor:
        ours, theirs = learner.layer(self.tap, row), source.layer(self.tap, column)
        how = self.group["how"]
        assert learner.labels is not None
        with torch.no_grad():
            if how == "x":
                ours.mul_(1)
            elif how == "labels":
                learner.labels.mul_(1)
            elif how == "edges":
                learner.graph.edge_index.mul_(1)
            elif how == "source":
                theirs.mul_(1)
        if how == "grad":
            torch.set_grad_enabled(False)
        return (ours - theirs).square().mean()


@pytest.mark.usefixtures("toy_data")
@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("x", r"writes into the student's hidden states \(conv 2\)"),
        ("labels", "writes into the student's labels"),
        ("edges", "writes into the student's edge_index"),
        ("source", r"writes into the source's hidden states \(conv 2\)"),
        ("grad", r"leaves torch.set_grad_enabled\(False\) behind"),
    ],
)
def test_a_term_that_writes_where_others_read_is_refused(
    how: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Misbehaving, "keys", Misbehaving.keys[:1])
    with registered(Misbehaving):
        groups = {"kd": {"students": 2}, "kd_misbehaving": {"weight": 1, "how": how}}
        with pytest.raises(UserError, match=rf"knowledge 'misbehaving': forward {told}"):
            run(config(tmp_path, "one", optim={"max_epoch": 1}, **groups), quiet=True)
    assert torch.is_grad_enabled()


@pytest.mark.usefixtures("toy_data")
@pytest.mark.parametrize(("term", "method"), [(Nothing, "distance"), (NothingOfLogits, "forward")])
def test_a_term_that_compares_nothing_is_named(term: type[Term], method: str, tmp_path: Path) -> None:
    with registered(term), pytest.raises(UserError, match=rf"knowledge 'nothing': {term.__name__} defines no {method}"):
        run(config(tmp_path, "one", kd={"students": 2}, kd_nothing={"weight": 1}), quiet=True)


def test_a_function_of_a_key_that_fails_is_named(tmp_path: Path) -> None:
    with registered(Misbehaving):
        groups = {"kd": {"students": 2}, "kd_misbehaving": {"weight": 1, "extra": 2}}
        with pytest.raises(UserError, match=r"kd_misbehaving\.extra: the function .* failed: KeyError: 'no such key'"):
            read_config(values(**groups))


@contextlib.contextmanager
def registered(term: type[Term]) -> Iterator[None]:
    class Plugin:
        @hookimpl
        def gkd_register_knowledge(self, register: Any) -> None:
            register(term.name, term)

    gkd_plugin.register_plugin(Plugin(), "one_term")
    try:
        yield
    finally:
        gkd_plugin.unregister_plugin("one_term")


def test_a_plugin_without_hooks_is_refused() -> None:
    with pytest.raises(UserError, match="no function marked with gkd_plugin.hookimpl.*gkd_register_kernels"):
        gkd_plugin.register_plugin(SimpleNamespace(gkd_register_kernels=print), "unmarked")


def test_a_second_plugin_of_the_same_name_leaves_the_first(demo: str) -> None:
    class Other:
        @hookimpl
        def gkd_register_kernels(self, register: Any) -> None:
            register("other", KERNEL)

    for taken in ("demo", "gkd_plugin"):
        with pytest.raises(UserError, match=f"the name '{taken}' is taken"):
            gkd_plugin.register_plugin(Other(), taken)
    assert "chebyshev" in axes.kernels and "laplacian" in axes.kernels and "other" not in axes.kernels


# ------------------------------------------------------------------------------------------------ installed ones
def installed(name: str, plugin: Any) -> Any:
    """An entry point as ``importlib.metadata`` finds it; ``plugin`` may be an exception that its import raises."""

    def load() -> Any:
        if isinstance(plugin, BaseException):
            raise plugin
        return plugin

    return SimpleNamespace(name=name, dist=SimpleNamespace(name=f"gkd-{name}", version="0.3"), load=load)


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Loads plugins as a fresh program would that has these installed."""
    saved = dict(plugins._loaded)

    def fresh(*points: Any) -> dict[str, Loaded]:
        for name in list(plugins._loaded):
            plugins.unregister_plugin(name)
        monkeypatch.setattr(plugins, "entry_points", lambda group: points)
        plugins.load()
        return {plugin.name: plugin for plugin in plugins.loaded()}

    yield fresh
    monkeypatch.undo()
    for name in list(plugins._loaded):
        plugins.unregister_plugin(name)
    assert not any(len(axis) for axis in axes.ALL)
    plugins.load()
    assert dict(plugins._loaded) == saved


class Thrower:
    @hookimpl
    def gkd_register_kernels(self, register: Any) -> None:
        register("thrown", KERNEL)
        raise RuntimeError("no licence")


@pytest.mark.parametrize(
    ("plugin", "error"),
    [
        (ImportError("no module named torch_scatter"), "ImportError: no module named torch_scatter"),
        (SystemExit("needs CUDA"), "SystemExit: needs CUDA"),
        (Thrower(), "RuntimeError: no licence"),
        (SimpleNamespace(), "it has no function marked with gkd_plugin.hookimpl"),
    ],
)
def test_a_broken_one_is_quarantined_and_the_others_work(load: Any, plugin: Any, error: str) -> None:
    with pytest.warns(UserWarning, match="gkd_plugin: plugin") as warned:
        found = load(installed("broken", plugin), installed("demo", Demo()))
    (message,) = [str(each.message) for each in warned]
    assert message.startswith(f"gkd_plugin: plugin 'broken' of gkd-broken 0.3 is disabled: {error}")
    assert "GKD_LOAD_PLUGINS=" in message
    assert found["broken"].error is not None and found["broken"].error.startswith(error)
    assert found["demo"].error is None and found["demo"].version == "0.3"
    assert "chebyshev" in axes.kernels and "laplacian" in axes.kernels and "thrown" not in axes.kernels
    text = str(list_plugins())
    assert "broken  gkd-broken 0.3  disabled\n    " + error[:60] in text
    assert re.search(r"\ndemo  gkd-demo 0\.3\n    gkd_register_layer_maps +backwards\n", text)
    assert "Without broken: GKD_LOAD_PLUGINS=demo " in text


def test_one_that_takes_anothers_name_is_listed_beside_it(load: Any) -> None:
    with pytest.warns(UserWarning, match="the name 'demo' is taken by a plugin of gkd-demo 0.3"):
        found = load(installed("demo", Demo()), installed("demo", Thrower()))
    assert found["demo"].error is None and found["demo of gkd-demo"].error


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("words", "names"), [("", []), ("demo", ["demo"]), (" demo , broken", ["demo", "broken"])])
def test_the_environment_says_which_are_loaded(
    load: Any, monkeypatch: pytest.MonkeyPatch, words: str, names: list[str]
) -> None:
    monkeypatch.setenv("GKD_LOAD_PLUGINS", words)
    points = [installed("demo", Demo()), installed("broken", ImportError("no"))]
    if "broken" in names:
        with pytest.warns(UserWarning, match="is disabled"):
            found = load(*points)
    else:
        found = load(*points)
    assert list(found) == ["gkd_plugin", *names]
    monkeypatch.setenv("GKD_LOAD_PLUGINS", "dmo")
    with pytest.warns(UserWarning, match="names 'dmo'. Installed plugins: broken, demo"):
        load(*points)
