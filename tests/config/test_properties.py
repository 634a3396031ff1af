"""What holds for every preset with whatever keys a user writes on top."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from rich.console import Console

from gkd_plugin.commands.run import control_overrides
from gkd_plugin.config import kd_keys
from gkd_plugin.config.explain import Explanation
from gkd_plugin.config.files import merge
from gkd_plugin.config.formula import write_formula
from gkd_plugin.config.resolve import resolve
from gkd_plugin.errors import ConfigError
from gkd_plugin.schema import Choice, Flag, Key, Kind, Name, Names, Number, Pairs
from gkd_plugin.space import axes
from tests.toy import host

HOST = host(gnn={"l2norm": True}, optim={"max_epoch": 20})
KEYS = [(group, key) for group, keys in kd_keys.groups().items() for key in keys if key.name != "preset"]
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def values_of(kind: Kind) -> st.SearchStrategy[Any]:
    """Values that a kind allows, as a file may hold them."""
    if isinstance(kind, Choice):
        return st.sampled_from(kind.words)
    if isinstance(kind, Number):
        low = 1 if kind.integer or kind.above else 0
        most = math.inf if kind.high is None else kind.high
        some = [value for value in (0.5, 1, 2.0) if value <= most] if kind.below is None else [0.5]
        numbers = st.integers(low, 4) if kind.integer else st.sampled_from(some)
        return st.one_of(numbers, st.sampled_from(kind.words)) if kind.words else numbers
    if isinstance(kind, Flag):
        return st.booleans()
    if isinstance(kind, Names):
        return st.sampled_from(["none", "a", "a+b"])
    if isinstance(kind, Name):
        return st.sampled_from(["none", "t"])
    if isinstance(kind, Pairs):
        return st.sampled_from(["1~1", "3~2+1~3", [[-1, -1]]])
    return st.sampled_from(["constant", "warmup_3", "window_0_9", "linear_2_5", "rampup_8"])


@st.composite
def written(draw: st.DrawFn) -> dict[str, dict[str, Any]]:
    """A preset and a few keys of the user's."""
    chosen: list[tuple[str, Key]] = draw(
        st.lists(st.sampled_from(KEYS), max_size=5, unique_by=lambda pair: (pair[0], pair[1].name))
    )
    groups: dict[str, dict[str, Any]] = {
        "kd": {"preset": draw(st.sampled_from(["none", *axes.presets])), "teacher": "t"}
    }
    for group, key in chosen:
        groups.setdefault(group, {})[key.name] = draw(values_of(key.kind))
    return groups


@QUICK
@given(written())
def test_a_preset_never_overrides_the_user(groups):
    try:
        plan = resolve({**HOST, **groups})
    except ConfigError:
        return
    for group, content in groups.items():
        part = (
            plan.kd
            if group == "kd"
            else plan.maps["attention"]
            if group == "kd_attention"
            else plan.groups[group[3:]].values
        )
        kinds = {key.name: key.kind for key in kd_keys.groups()[group]}
        for key, raw in content.items():
            assert part[key] == kinds[key].parse(raw), f"{group}.{key}"
            assert plan.origins[f"{group}.{key}"] == "you"


@QUICK
@given(written())
def test_a_plan_is_whole_and_survives_its_file(groups):
    try:
        plan = resolve({**HOST, **groups})
    except ConfigError:
        assume(False)
        return
    assert plan.students >= 1 and math.isfinite(plan["label_weight"])
    for group in plan.groups.values():
        assert math.isfinite(group.weight) and group.get("source", "peers") in axes.sources
    again = resolve({**HOST, **plan.as_dict()})
    assert replace(again, warnings=plan.warnings) == plan
    assert set(plan.warnings) <= set(again.warnings)  # what a preset wrote stands in the file as if the user had
    off = control_overrides(plan)
    assert resolve({**HOST, **merge(groups, off)}).active == ()


@settings(QUICK, max_examples=40)
@given(written())
def test_every_plan_can_be_explained(groups):
    try:
        plan = resolve({**HOST, **groups})
    except ConfigError:
        assume(False)
        return
    loss = write_formula(plan, HOST)
    assert len(loss.parts) >= 1 + len(plan.active)
    for group in plan.active:
        assert any(f"{group.weight:g} · " in part for part in loss.parts)
    console = Console(width=100, color_system=None)
    with console.capture() as text:
        console.print(Explanation("x", plan, loss))
    assert all(f"kd_{group.name}" in text.get() for group in plan.groups.values())


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.one_of(st.integers(-2, 2), st.text(max_size=3)), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.sampled_from(["median", "none", "peers", "self", "shift", "pairs", "attention", "3~1", "window_1_2"]),
)


@QUICK
@given(
    st.dictionaries(
        st.sampled_from([*kd_keys.groups(), "kd_x", "gnn", "share"]),
        st.one_of(
            JUNK, st.dictionaries(st.sampled_from([key.name for _, key in KEYS] + ["x", "preset"]), JUNK, max_size=6)
        ),
        max_size=5,
    )
)
def test_anything_else_is_a_mistake_of_the_user_never_a_crash(groups):
    found = None
    try:
        resolve({**HOST, **groups})
    except ConfigError as error:
        found = error
    assert found is None or all(problem.key and problem.found and problem.allowed for problem in found.problems)
