"""A control is the same cohort without distillation, and there is one for all points that share it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gkd_plugin.commands.run import control_overrides, run
from gkd_plugin.config.load import read_config
from gkd_plugin.study.controls import add_controls, describe_control, is_control, make_control
from gkd_plugin.study.points import CONTROL, POINT, Point
from gkd_plugin.study.records import read_study
from gkd_plugin.study.tables import compare
from tests import toy

EPOCHS = {"optim": {"max_epoch": 3}}


@pytest.mark.parametrize(
    "groups",
    [
        {"kd": {"preset": "alignahead_pp"}},
        {"kd": {"preset": "mutual", "students": 3, "predict": "ensemble", "update": "joint"}},
        {"kd": {"preset": "alignahead", "init": "same", "predict": "first", "clip_grad_norm": 0.5}},
        {"kd": {"preset": "byot"}},
        {"kd_structure": {"weight": 2, "source": "peers"}, "gnn": {"layer_type": "aux_gcnconv"}},
        {"kd": {"preset": "self_st", "students": 2, "label_weight": 0.5}},
        {"kd": {"preset": "mutual", "predict": "ema"}, "kd_feature": {"weight": 1, "source": "ema"}},
    ],
)
def test_it_trains_as_the_control_of_gkd_run_does(groups: dict[str, Any], tmp_path: Path, toy_data: None) -> None:
    config = read_config(toy.values(tmp_path, **toy.merge(groups, EPOCHS)))
    usual = run(config, overrides=control_overrides(config.plan), name="usual", quiet=True)
    ours = run(make_control(config), name="ours", quiet=True)
    assert is_control(read_config(make_control(config)).plan)
    assert [result.answers for result in ours.results] == [result.answers for result in usual.results]
    assert ours.results[0].predict == usual.results[0].predict


def points(**named: dict[str, Any]) -> tuple[list[Point], dict[str, Any]]:
    configs = {name: read_config(toy.values(**groups)) for name, groups in named.items()}
    return [Point(name, configs[name].values, {"preset": name}) for name in named], configs


def test_points_that_differ_only_in_what_teaches_share_one(toy_data: None) -> None:
    given, configs = points(
        one={"kd": {"preset": "mutual"}},
        two={"kd": {"preset": "mutual", "update": "step_alternate"}, "kd_response": {"weight": 7, "temperature": 3}},
        three={"kd": {"preset": "mutual", "students": 3}},
        wide={"kd": {"preset": "mutual"}, "gnn": {"dim_inner": 32}},
    )
    found, new = add_controls(given, configs)
    control = {point.name: point.control for point in found}
    assert control["one"] == control["two"]
    assert len({control["one"], control["three"], control["wide"]}) == 3
    extra = [point for point in found if point.role == CONTROL]
    assert {point.name for point in extra} == set(new) == {control["one"], control["three"], control["wide"]}
    shared = next(point for point in extra if point.name == control["one"])
    assert shared.choices == {}, "its points have different presets"
    assert all(is_control(new[name].plan) for name in new)


def test_a_control_is_described_as_what_it_is() -> None:
    dimensions = {
        "p": "kd.preset",
        "preset": "preset",  # of a run of which only the name is known
        "s": "kd.students",
        "mode": "kd.peer_mode",
        "w": "kd_structure.weight",
        "width": "gnn.dim_inner",
        "act": "gnn.act",
    }
    choices = {"p": "oc", "preset": "oc", "s": 3, "mode": "train", "w": 10, "width": 4}
    assert describe_control(choices, dimensions) == {"p": "supervised", "preset": "supervised", "s": 3, "width": 4}
    assert describe_control({}, {"p": "kd.preset", "w": "kd_structure.weight"}) == {"p": "supervised"}


def test_a_point_that_is_a_control_serves_and_needs_none(toy_data: None) -> None:
    given, configs = points(
        supervised={"kd": {"preset": "supervised", "students": 2}},
        plain={},
        half={"kd": {"preset": "supervised", "students": 2, "label_weight": 0.5}},
        oc={"kd": {"preset": "oc"}},
        byot={"kd": {"preset": "byot"}},
    )
    found, new = add_controls(given, configs)
    assert {point.name: point.control for point in found if point.role == POINT} == {
        "supervised": None,
        "plain": None,
        "half": "supervised",
        "oc": "supervised",
        "byot": "plain",
    }
    assert not new


def test_runs_that_are_there_already_serve_as_controls(tmp_path: Path, toy_data: None) -> None:
    kinds = {
        "base-preset=supervised": {"kd": {"preset": "supervised", "students": 2}},
        "base-preset=oc": {"kd": {"preset": "oc"}},
        "base-preset=oc-width=4": {"kd": {"preset": "oc"}, "gnn": {"dim_inner": 4}},
    }
    for name, groups in kinds.items():
        run(toy.values(tmp_path / "grid", **toy.merge(groups, EPOCHS)), name=name, repeat=2, quiet=True)
    points = read_study(tmp_path / "grid").points.set_index("name")
    assert points["role"].tolist() == ["point"] * 3
    assert points["control"].to_dict() == {
        "base-preset=supervised": None,
        "base-preset=oc": "base-preset=supervised",
        "base-preset=oc-width=4": None,
    }
    comparison = compare(read_study(tmp_path / "grid"))
    assert comparison["name"].tolist() == ["base-preset=oc"]
