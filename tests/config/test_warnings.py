from __future__ import annotations

import os
from typing import Any

import pytest
import torch

from gkd_plugin.config.resolve import resolve
from gkd_plugin.space import axes
from tests.toy import host


def warnings(**groups: Any) -> str:
    return "\n".join(resolve(host(**groups)).warnings)


def unit(**changes: Any) -> dict[str, Any]:
    """A network whose layers end in rows of length 1."""
    return {"gnn": {"l2norm": True, **changes}}


@pytest.mark.parametrize(
    ("word", "warned"),
    [
        ("warmup_0", True),
        ("rampup_0", True),
        ("warmup_1", False),
        ("rampup_1", False),
        ("window_0_200", False),
        ("linear_0_1", False),
        ("constant", False),
    ],
)
def test_a_schedule_that_is_constant(word, warned):
    found = warnings(kd_response={"weight": 1, "schedule": word})
    assert (f"kd_response.schedule {word} is 1 in every epoch, as constant is" in found) == warned
    assert warned or found == ""


def test_a_sound_plan_has_none():
    for name in axes.presets:
        assert (
            resolve(
                host(kd={"preset": name, **({"teacher": "t"} if axes.presets[name].source == "teacher" else {})})
            ).warnings
            == ()
        )


@pytest.mark.parametrize(("kernel", "scale"), [("laplacian", 100), ("rbf", 10), ("heat", 100)])
def test_a_scale_that_makes_every_distribution_uniform(kernel, scale):
    structure = {"weight": 1, "kernel": kernel, "kernel_scale": scale, "tap": "layer"}
    assert "nearly uniform" in warnings(**unit(), kd_structure=structure)
    assert "nearly uniform" in warnings(**unit(), kd_structure={**structure, "tap": "stage"})
    assert "nearly uniform" in warnings(kd_structure={**structure, "tap": "conv", "normalize": "l2"})
    for sound in (
        {**unit(), "kd_structure": {**structure, "tap": "conv"}},
        {**unit(), "kd_structure": {**structure, "kernel_scale": 0.1}},
        {**unit(), "kd_structure": {**structure, "kernel_scale": "median"}},
        {**unit(), "kd_structure": {**structure, "weight": 0}},
        {**unit(stage_type="skipsum", layers_pre_mp=1), "kd_structure": {**structure, "tap": "stage"}},
        {"kd_structure": structure},
    ):
        assert warnings(**sound) == ""


def test_the_bound_on_the_kernel_is_true():
    # 500 random pairs of rows of length 1 differ by less than the warning says
    found = warnings(**unit(dim_inner=64), kd_structure={"weight": 1, "tap": "layer"})
    bound = float(found.split("at most ")[1].split()[0])
    x, y = torch.nn.functional.normalize(torch.randn(2, 500, 64), dim=-1)
    values = axes.kernels["laplacian"].function(x, y, 100.0)
    assert 0 < float(values.max() - values.min()) < bound < 0.2


def test_attention_transfer_of_rows_of_length_1():
    feature = {"weight": 1, "loss": "attention", "tap": "layer"}
    assert "has no effect" in warnings(**unit(), kd_feature=feature)
    assert "has no effect" not in warnings(**unit(), kd_feature={**feature, "tap": "conv"})
    assert "has no effect" not in warnings(**unit(), kd_feature={**feature, "loss": "mse"})


def test_projections_that_can_shrink():
    feature = {"weight": 1, "projector": "linear", "projector_side": "both"}
    assert "shrink" in warnings(kd_feature=feature)
    assert "shrink" not in warnings(kd_feature={**feature, "normalize": "l2"})
    assert "shrink" not in warnings(kd_feature={**feature, "projector_side": "learner"})


def test_terms_that_have_nothing_to_compare():
    feature = {"weight": 1, "projector": "linear", "projector_side": "both", "normalize": "l2"}
    contrast = {"weight": 1, "source": "peers", "projector": "linear"}
    said = "teaches next to nothing"
    assert said in warnings(kd_feature={**feature, "dim": 1})
    assert said in warnings(kd_feature={**feature, "dim": 1, "normalize": "none", "loss": "cosine"})
    assert said in warnings(kd_contrast={**contrast, "dim": 1})
    assert "the term is 0" in warnings(kd_contrast={**contrast, "samples": 1})
    for sound in (
        {"kd_feature": {**feature, "dim": 2}},
        {"kd_feature": {**feature, "dim": 1, "normalize": "batchnorm"}},
        {"kd_contrast": {**contrast, "samples": 2, "dim": 2}},
    ):
        assert warnings(**sound) == ""


def test_selection_that_sees_few_epochs():
    assert "eval_period 10" in warnings(train={"eval_period": 10})


def test_more_threads_than_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    assert "this process may use 2 cores" in warnings(num_threads=3)
    assert warnings(num_threads=2) == ""


def test_a_term_that_never_counts():
    late = {"weight": 1, "schedule": "warmup_200"}
    assert "has no effect" in warnings(kd_structure=late)
    assert warnings(optim={"max_epoch": 201}, kd_structure=late) == ""


def test_a_term_without_a_source_and_a_teacher_that_is_not_used():
    assert "no student teaches, so the term is 0" in warnings(kd={"students": 1}, kd_structure={"weight": 1})
    assert "no student teaches, so the term is 0" in warnings(
        kd={"students": 1}, kd_auxiliary={"soft_weight": 1, "soft_source": "peers"}
    )
    assert "source: teacher" in warnings(kd={"preset": "mutual", "teacher": "t"})
    assert "supervised" in warnings(kd={"preset": "supervised"}, kd_structure={"weight": 1})


@pytest.mark.parametrize(
    ("groups", "warned"),
    [
        ({"gnn": {"stage_type": "skipsum"}}, True),
        ({"gnn": {"stage_type": "skipsum", "layers_pre_mp": 1}}, False),
        ({"gnn": {"stage_type": "skipsum"}, "dataset": {"node_encoder": True}}, False),
        ({"gnn": {"stage_type": "skipsum"}, "model": {"type": "sage"}}, False),
        ({"gnn": {"stage_type": "stack"}}, False),
    ],
)
def test_skips_that_add_unlike_widths(groups, warned):
    assert ("Set gnn.layers_pre_mp: 1" in warnings(**groups)) == warned
