from __future__ import annotations

from typing import Any

import pytest

from gkd_plugin.commands.explain import explain
from gkd_plugin.config.formula import write_formula
from gkd_plugin.config.resolve import resolve
from gkd_plugin.space import axes
from tests.toy import host


def loss(layers: int = 3, share: int = 7, **groups: Any) -> list[str]:
    """The formula's lines for a network of so many layers."""
    cfg = host(gnn={"layers_mp": layers}, share={"dim_out": share}, **groups)
    found = write_formula(resolve(cfg), cfg)
    return [f"{found.left} = {found.parts[0]}", *found.parts[1:]]


def meaning(symbol: str, **groups: Any) -> str:
    cfg = host(**groups)
    return dict(write_formula(resolve(cfg), cfg).symbols)[symbol]


# Expected lines are the papers' formulas (METHODS A.5, A.6, B.2, C.3, D.1, D.6, D.10, D.11) with the presets' numbers.
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("supervised", ["L = 1 · CE(z, y)"]),
        ("soft_target", ["L = 0.1 · CE(z, y)", "0.9 · D_response(z, z_T)"]),
        ("glnn", ["L = 0 · CE(z, y)", "1 · D_response(z, z_T)"]),
        ("lsp", ["L = 1 · CE(z, y)", "100 · Σ D_structure(h[l], h_T[k])   for l←k: last"]),
        (
            "gkd",
            ["L = 0.5 · CE(z, y)", "0.5 · 1/(number of pairs) Σ D_structure(h[l], h_T[k])   for l←k: one_to_one"],
        ),
        (
            "stride",
            ["L = 1 · CE(z, y)", "1 · Σ w_lk D_feature(h[l], h_T[k])", "0.1 · Σ w_lk D_contrast(h[l], h_T[k])"],
        ),
        ("oc", ["L_m = 1 · CE(z_m, y)", "1 · Σ D_structure(h_m[l], h_n[k])   for l←k: 1←1  2←2  3←3"]),
        ("alignahead", ["L_m = 1 · CE(z_m, y)", "1 · Σ D_structure(h_m[l], h_n[k])   for l←k: 1←2  2←3  3←1"]),
        ("alignahead_code", ["L_m = 1 · CE(z_m, y)", "1 · Σ D_structure(h_m[l], h_n[k])   for l←k: 1←3  2←1  3←2"]),
        (
            "alignahead_pp",
            [
                "L_m = 1 · CE(z_m, y)",
                "0.01 · Σ D_feature(h_m[l], h_n[k])   for l←k: 1←2  2←3  3←1",
                "1 · Σ D_structure(h_m[l], h_n[k])   for l←k: 1←2  2←3  3←1",
                "1 · 1/3 Σ CE(c_l(h_m[l]), y)   for heads on l = 1, 2, 3",
            ],
        ),
        ("dml", ["L_m = 1 · CE(z_m, y)", "1 · D_response(z_m, z_n)"]),
        ("mutual", ["L_m = 1 · CE(z_m, y)", "1 · rampup_80 · D_response(z_m, z_n)"]),
        (
            "byot",
            [
                "L = 0.9 · CE(z, y)",
                "1e-06 · Σ D_feature(h[l], h[k])   for l←k: 1←3  2←3",
                "0.9 · Σ CE(c_l(h[l]), y)   for heads on l = 1, 2",
                "0.1 · Σ D_soft(c_l(h[l]), z)   for heads on l = 1, 2",
            ],
        ),
    ],
)
def test_the_loss_of_a_preset(name, expected):
    kd = {"preset": name, **({"teacher": "t"} if axes.presets[name].source == "teacher" else {})}
    assert loss(kd=kd) == expected


def test_several_peers_are_averaged():
    lines = loss(kd={"students": 4}, kd_response={"weight": 2}, kd_structure={"weight": 3})
    assert lines[1:] == ["2 · 1/3 Σ_n D_response(z_m, z_n)", "3 · 1/3 Σ_n D_structure(h_m[3], h_n[3])"]
    lines = loss(kd={"students": 4, "peer_target": "ensemble_mean"}, kd_response={"weight": 2})
    assert lines[1:] == ["2 · D_response(z_m, z_n)"]


def test_weights_of_layer_maps():
    uniform = {"weight": 1, "layer_map": "uniform"}
    assert loss(2, kd_feature=uniform)[1] == "1 · 1/4 Σ D_feature(h_m[l], h_n[k])   for l←k: 1←1  1←2  2←1  2←2"
    assert loss(4, kd_feature=uniform)[1].endswith("1←1  1←2  1←3  1←4  2←1  2←2  2←3  2←4  … 16 pairs")
    mean = {"weight": 1, "layer_map": "shift", "layer_reduction": "mean"}
    assert loss(2, kd_feature=mean)[1] == "1 · 1/2 Σ D_feature(h_m[l], h_n[k])   for l←k: 1←2  2←1"
    alone = {"weight": 1, "source": "self", "layer_map": "uniform"}
    assert loss(1, kd_feature=alone)[1] == "1 · 0 · D_feature(h[l], h[k])   (no layer has a deeper one)"


def test_schedules_stand_in_the_formula():
    groups = {"kd_structure": {"weight": 1, "schedule": "window_0_30"}}
    assert loss(**groups)[1].startswith("1 · window_0_30 · D_structure")
    assert meaning("window_0_30", **groups) == "1 for a <= epoch < b, else 0 (a = 0, b = 30); epochs count from 0"


def test_label_losses_follow_the_task():
    assert loss(share=2)[0] == "L = 1 · BCE(z, y)"
    assert loss(dataset={"task": "graph", "task_type": "regression"})[0] == "L = 1 · MSE(z, y)"
    assert loss(share=1)[0] == "L = 1 · CE(z, y)"


def test_terms_of_weight_0_are_not_in_the_formula():
    assert len(loss(kd_structure={"weight": 0})) == 1


def test_symbols_say_the_numbers():
    structure = {"weight": 1, "kernel": "rbf", "kernel_scale": 10, "self_loops": True}
    text = meaning("D_structure", kd_structure=structure)
    assert "rbf kernel" in text and "s = 10" in text and "and itself" in text and "KL(source || learner)" in text
    text = meaning("D_response", kd={"teacher": "t"}, kd_response={"weight": 1, "temperature": 4, "nodes": "all"})
    assert text.startswith("16 · KL(softmax(t/4) || softmax(z/4))") and "all nodes" in text
    text = meaning("T", kd={"teacher": "t", "teacher_seed": 5}, kd_response={"weight": 1})
    assert "its seed 5" in text
    assert "random, frozen" in meaning(
        "w_lk", kd_feature={"weight": 1, "layer_map": "attention"}, kd_attention={"frozen": True}
    )


def test_every_key_with_its_origin():
    values = host(kd={"preset": "alignahead"}, kd_structure={"weight": 10})
    del values["share"]
    lines = {line.split()[0]: line.split() for line in str(explain(values)).splitlines() if line.startswith("  ")}
    assert lines["weight"][1:3] == ["10", "you"]
    assert lines["kernel_scale"][1:4] == ["100", "preset", "alignahead"]
    assert lines["peer_mode"][1:3] == ["eval", "default"]
    assert "pairs" not in lines, "what does not apply is not there"


def test_attention_keys_stand_in_their_own_group():
    text = str(explain({"kd_feature": {"weight": 1, "layer_map": "attention"}, "kd_attention": {"subspace": False}}))
    (line,) = [line for line in text.splitlines() if line.startswith("  subspace")]
    assert line.split()[1:3] == ["false", "you"]
    assert "attention_dim" not in text


def test_what_is_off_and_what_is_not_used_is_said():
    text = str(explain({"kd_structure": {"weight": 0}}))
    assert "kd_structure (off)" in text
    assert "not used: kd_response, kd_feature, kd_contrast, kd_auxiliary" in text


def test_a_response_loss_that_waits_for_the_data():
    text = str(explain({"kd_response": {"weight": 1}}))
    assert "by task" in text and "bce_soft for two classes as one logit" in text


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({}, "KL(softmax(t) || softmax(z)) of the source's logits t, batch mean; training nodes"),
        ({"sharpen": 0.5}, "KL(softmax(t/0.5) || softmax(z)) of the source's logits t, batch mean; training nodes"),
        (
            {"sharpen": 0.5, "temperature": 4},
            "16 · KL(softmax(t/2) || softmax(z/4)) of the source's logits t, batch mean; training nodes",
        ),
        ({"target": "hard", "temperature": 2}, "4 · CE(z/2, the class of the source's largest logit); training nodes"),
        ({"target": "hard", "loss": "bce_soft"}, "BCE(z, [t > 0]) with the source's logits t; training nodes"),
        (
            {"loss": "bce_soft", "sharpen": 0.5, "temperature": 4},
            "16 · BCE(z/4, sigmoid(t/2)) with the source's logits t; training nodes",
        ),
        (
            {"loss": "bce_hard", "confidence": 0.9, "nodes": "all"},
            "BCE(z, [t > 0]) with the source's logits t; all nodes of which the source is at least 0.9 sure",
        ),
        (
            {"loss": "bce_hard", "node_weight": "entropy"},
            "BCE(z, [t > 0]) with the source's logits t; training nodes, each node weighed by 1 - the source's entropy / "
            "the largest (mean 1)",
        ),
        (
            {"loss": "bce_hard", "node_weight": "confidence"},
            "BCE(z, [t > 0]) with the source's logits t; training nodes, each node weighed by the source's largest "
            "probability (mean 1)",
        ),
    ],
)
def test_a_response_says_what_its_target_is(keys, said):
    assert meaning("D_response", kd={"teacher": "t"}, kd_response={"weight": 1, **keys}) == said


@pytest.mark.parametrize(
    ("keys", "said"),
    [({"target": "hard"}, "temperature 1, hard targets; "), ({"sharpen": 0.5}, "targets sharpened by 0.5; ")],
)
def test_a_target_that_waits_for_the_data(keys, said):
    assert said in meaning("D_response", share={"dim_out": 1}, kd={"teacher": "t"}, kd_response={"weight": 1, **keys})


def test_brackets_of_the_formula_are_not_markup():
    assert "h_m[1]" in str(explain({"gnn": {"layers_mp": 1}, "kd_structure": {"weight": 1}}))


def test_it_prints_in_a_notebook():
    found = explain({"kd": {"preset": "oc"}})
    assert len(repr(found).splitlines()) == 1 and "D_structure" in found._repr_html_()
