"""Placebos: what stays as it was, and what is not learnt any more."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given

from gkd_plugin.config import kd_keys
from gkd_plugin.config.files import merge
from gkd_plugin.config.resolve import resolve
from gkd_plugin.errors import ConfigError
from gkd_plugin.plan import Plan
from gkd_plugin.space import axes
from gkd_plugin.space.presets import PRESETS
from gkd_plugin.study.placebo import has_placebo, shuffle_overrides, smoothing_overrides
from gkd_plugin.study.points import ROLES
from tests.config.test_properties import HOST, QUICK, written
from tests.toy import host

COHORT = {"kd": {"students": 3, "update": "joint", "predict": "ensemble", "label_weight": 0.25, "hide_edges": 0.5}}


def require_smoothing(plan: Plan, smoothed: Plan) -> None:
    """The second is label smoothing as the paper has it, of the first's students as the first trains them."""
    (group,) = smoothed.active
    preset = PRESETS["label_smoothing"].groups
    assert group.name == "response" and smoothed["label_weight"] == preset["kd"]["label_weight"]
    assert {key: group[key] for key in preset["kd_response"]} == preset["kd_response"]
    plain = {"target": "soft", "sharpen": 1, "confidence": 0, "node_weight": "none", "schedule": "constant"}
    assert {key: group[key] for key in plain} == plain and group["loss"] != "mse"
    scheme = [key.name for key in kd_keys.SCHEME_KEYS if key.name not in ("preset", "label_weight")]
    assert {key: smoothed[key] for key in scheme} == {key: plan[key] for key in scheme}
    assert smoothed["teacher"] is None and smoothed["teacher_cfg"] is None


@QUICK
@given(written())
def test_any_configuration_has_a_placebo_that_resolves(groups: dict[str, Any]) -> None:
    values = {**HOST, **groups}
    try:
        plan = resolve(values)
    except ConfigError:
        assume(False)
    pairs = smoothing_overrides(plan)
    assert bool(pairs) == bool(shuffle_overrides(plan)) == has_placebo(plan)
    assume(pairs)
    require_smoothing(plan, resolve(merge(values, pairs)))
    shuffled = resolve(merge(values, shuffle_overrides(plan)))
    assert {**shuffled.kd, "shuffle_sources": False} == plan.kd and shuffled.groups == plan.groups
    assert not has_placebo(shuffled)


@pytest.mark.parametrize(
    "groups",
    [
        {"kd": {"preset": "soft_target", "teacher": "t"}},
        {"kd": {"preset": "glnn", "teacher_cfg": "t.yaml", "teacher_seed": "best"}, "kd_response": {"loss": "mse"}},
        {"kd": {"preset": "alignahead_code"}},
        {"kd": {"preset": "cohort_st", "students": 3}},
        {**COHORT, "kd_response": {"weight": 2, "temperature": 4, "target": "hard", "confidence": 0.5, "nodes": "all"}},
        {"kd": {"students": 1, "ema_decay": 0.5}, "kd_response": {"weight": 1, "source": "ema"}},
        {"kd": {"students": 1, "ema_decay": 0.5, "predict": "ema"}, "kd_response": {"weight": 1, "source": "ema"}},
        {
            "kd": {"preset": "byot"},
            "gnn": {"layer_type": "aux_gcnconv"},
            "kd_structure": {"weight": 1, "source": "self", "layer_map": "last"},
        },
        {
            "kd": {"preset": "stride", "teacher": "t"},
            "kd_attention": {"dim": 8},
            "kd_structure": {"weight": 1, "source": "teacher", "layer_map": "last"},
        },
        {"kd": {"cohort": "a+b", "predict": "first"}, "kd_response": {"weight": 1}},
    ],
)
def test_label_smoothing_keeps_the_students_and_nothing_of_the_distillation(groups: dict[str, Any]) -> None:
    values = host(**groups)
    plan = resolve(values)
    smoothed = resolve(merge(values, smoothing_overrides(plan)))
    require_smoothing(plan, smoothed)
    assert not [text for text in smoothed.warnings if not text.startswith("kd.peer_mode")] and smoothed.get(
        "ema_decay"
    ) == (0.5 if plan["predict"] == "ema" else None)


@pytest.mark.parametrize(
    "groups",
    [
        {"kd": {"preset": "supervised"}},
        {"kd": {"preset": "label_smoothing"}},
        {"kd_auxiliary": {"weight": 1}},
        {"kd": {"students": 1}, "kd_response": {"weight": 1, "source": "peers"}},
        {"kd": {"preset": "mutual"}, "kd_response": {"weight": 0}},
        {"kd": {"preset": "mutual", "shuffle_sources": True}},
    ],
)
def test_where_nobody_who_knows_something_teaches_there_is_none(groups: dict[str, Any]) -> None:
    plan = resolve(host(**groups))
    assert not has_placebo(plan) and shuffle_overrides(plan) == smoothing_overrides(plan) == []


def test_regression_has_a_shuffled_teacher_only() -> None:
    values = host(dataset={"task_type": "regression"}, kd={"students": 2}, kd_response={"weight": 1})
    plan = resolve(values)
    assert resolve(merge(values, shuffle_overrides(plan)))["shuffle_sources"] is True
    with pytest.raises(ConfigError, match="numbers have no uniform prior"):
        resolve(merge(values, smoothing_overrides(plan)))


def test_the_role_is_the_preset_s_name() -> None:
    assert set(ROLES) & set(axes.presets) == {"label_smoothing"}
