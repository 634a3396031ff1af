from __future__ import annotations

import pickle
from types import SimpleNamespace
from typing import Any

import pytest
from torch_geometric.graphgym.config import cfg

import gkd_plugin
from gkd_plugin import hookimpl
from gkd_plugin.commands.run import control_overrides
from gkd_plugin.config.load import read_config
from gkd_plugin.config.resolve import resolve
from gkd_plugin.errors import ConfigError
from gkd_plugin.space import axes
from gkd_plugin.space.answers import Preset
from tests.toy import host

NAN = float("nan")
RAW = {"distribution": "none", "divergence": "mse"}


def problems(**groups: Any) -> dict[str, str]:
    """The mistakes by key, each once."""
    with pytest.raises(ConfigError) as error:
        resolve(host(**groups))
    found = {problem.key: str(problem) for problem in error.value.problems}
    assert len(found) == len(error.value.problems), "one mistake, one message"
    return found


def problem(**groups: Any) -> tuple[str, str]:
    """The only mistake."""
    ((key, text),) = problems(**groups).items()
    return key, text


# ------------------------------------------------------------------------------------------------------------- order
def test_nothing_said_is_one_supervised_student():
    plan = resolve(host())
    assert (plan.students, plan["label_weight"], plan.active) == (1, 1.0, ())
    assert not any(group.named for group in plan.groups.values())
    assert set(plan.origins.values()) == {"default"}
    assert plan["preset"] == "none" and resolve(host(kd={"preset": "supervised"})).students == 1


def test_user_above_preset_above_default():
    plan = resolve(host(kd={"preset": "alignahead_pp"}, kd_structure={"weight": 10, "kernel": "rbf"}))
    structure = plan.groups["structure"]
    assert (structure["weight"], structure["kernel"], structure["shift"], structure["reduction"]) == (
        10.0,
        "rbf",
        1,
        "node_mean",
    )
    assert plan.origins["kd_structure.weight"] == "you"
    assert plan.origins["kd_structure.shift"] == "preset alignahead_pp"
    assert plan.origins["kd_structure.reduction"] == "default"
    assert {group.name: group.weight for group in plan.active} == {"structure": 10, "feature": 0.01, "auxiliary": 1.0}


def test_undecided_is_not_written():
    plan = resolve(host(kd={"preset": "oc", "students": None}, kd_structure={"weight": None}, kd_feature={"dim": None}))
    assert plan.groups["structure"].weight == 1
    assert not plan.groups["feature"].named


def test_none_is_an_answer_and_stands_above_the_preset():
    plan = resolve(host(kd={"preset": "gsp", "teacher": "t"}, kd_structure={"samples": "none"}))
    assert plan.groups["structure"]["samples"] is None
    assert plan.origins["kd_structure.samples"] == "you"


def test_the_global_cfg_is_a_configuration():
    cfg.kd.preset, cfg.kd_structure.weight = "oc", 3
    plan = resolve(cfg)
    assert (plan.groups["structure"].weight, plan.students) == (3, 2)


def test_groups_that_a_plugin_left_behind_are_ignored_while_undecided():
    assert resolve(host(kd_gone={"weight": None})).students == 1
    assert problem(kd_gone={"weight": 1})[0] == "kd_gone"


# --------------------------------------------------------------------------------------------- students, cohort, init
@pytest.mark.parametrize(
    ("groups", "students"),
    [
        ({"kd_structure": {"weight": 1}}, 2),
        ({"kd_structure": {"weight": 0}}, 2),
        ({"kd_structure": {"weight": 1, "source": "self"}}, 1),
        ({"kd": {"teacher": "t"}, "kd_response": {"weight": 1}}, 1),
        ({"kd": {"teacher": "t"}, "kd_response": {"weight": 1}, "kd_structure": {"source": "peers"}}, 2),
        ({"kd_auxiliary": {"weight": 1}}, 1),
        ({"kd_auxiliary": {"soft_weight": 1, "soft_source": "peers"}}, 2),
        ({"kd": {"students": 5}}, 5),
        ({"kd": {"students": 1}, "kd_structure": {"weight": 1}}, 1),
        ({"kd": {"preset": "mutual"}}, 2),
        ({"kd": {"preset": "byot"}}, 1),
        ({"kd": {"cohort": "gat"}}, 2),
        ({"kd": {"cohort": "gat+sage+gat"}, "kd_structure": {"weight": 1}}, 4),
        ({"kd": {"cohort": "gat+sage", "students": 3}}, 3),
    ],
)
def test_students(groups, students):
    assert resolve(host(**groups)).students == students


def test_soft_sources_count_also_at_weight_0():
    assert resolve(host(kd_auxiliary={"weight": 1, "soft_weight": 0, "soft_source": "peers"})).students == 2


def test_students_must_agree_with_the_cohort():
    key, text = problem(kd={"cohort": "gat+sage", "students": 2})
    assert key == "kd.students" and "Write 3" in text


def test_copies_need_like_students():
    assert problem(kd={"cohort": "gat", "init": "same"})[0] == "kd.init"
    plan = resolve(host(kd={"preset": "alignahead_code", "cohort": "gat"}))
    assert plan["init"] == "independent", "from a preset it is dropped"
    assert resolve(host(kd={"preset": "alignahead_code"}))["init"] == "same"


# ------------------------------------------------------------------------------------------------------------ sources
def test_the_default_source_is_the_teacher_if_one_is_named():
    assert resolve(host(kd_feature={"weight": 1})).groups["feature"]["source"] == "peers"
    assert resolve(host(kd={"teacher": "t"}, kd_feature={"weight": 1})).groups["feature"]["source"] == "teacher"
    assert resolve(host(kd={"teacher_cfg": "t"}, kd_feature={"weight": 1})).groups["feature"]["source"] == "teacher"


@pytest.mark.parametrize("name", [name for name in axes.presets if axes.presets[name].source == "teacher"])
def test_teacher_presets_need_a_teacher(name):
    key, text = problem(kd={"preset": name})
    assert key == "kd.teacher"
    assert f"preset {name}" in text and "kd.teacher_cfg" in text
    plan = resolve(host(kd={"preset": name, "teacher": "t"}))
    assert {group["source"] for group in plan.active} == {"teacher"} and plan.students == 1


def test_a_teacher_is_needed_also_at_weight_0():
    assert problem(kd={"preset": "lsp"}, kd_structure={"weight": 0})[0] == "kd.teacher"
    assert problem(kd_response={"source": "teacher"})[0] == "kd.teacher"


def test_the_user_may_turn_a_teacher_preset_to_peers():
    plan = resolve(host(kd={"preset": "lsp"}, kd_structure={"source": "peers"}))
    assert (plan.groups["structure"]["source"], plan.students) == ("peers", 2)


def test_a_teachers_seed_needs_a_teacher():
    assert problem(kd={"teacher_seed": "best"})[0] == "kd.teacher_seed"
    assert "teacher_seed" not in resolve(host()).kd
    assert resolve(host(kd={"teacher": "t", "teacher_seed": 3}))["teacher_seed"] == 3


def test_source_self():
    assert problem(kd_response={"weight": 1, "source": "self"})[0] == "kd_response.source"
    for word in ("one_to_one", "proportional"):
        assert problem(kd_structure={"source": "self", "layer_map": word})[0] == "kd_structure.layer_map"
    for shift in (0, -1):
        key, _ = problem(kd_structure={"source": "self", "layer_map": "shift", "shift": shift})
        assert key == "kd_structure.shift"
    assert problem(kd_feature={"source": "self", "layer_map": "pairs", "pairs": "2~1"})[0] == "kd_feature.pairs"
    for word in ("last", "uniform", "attention"):
        assert resolve(host(kd_feature={"weight": 1, "source": "self", "layer_map": word})).students == 1


def test_source_self_refuses_shifts_also_where_the_depth_is_unknown():
    wrong = {"source": "self", "layer_map": "shift", "shift": 0}
    assert problem(model={"type": "mine"}, kd_structure=wrong)[0] == "kd_structure.shift"


def test_auxiliary_has_no_source_and_no_layer_map():
    found = problems(kd_auxiliary={"source": "peers", "layer_map": "last"})
    assert set(found) == {"kd_auxiliary.source", "kd_auxiliary.layer_map"}


# ----------------------------------------------------------------------------------------------- keys that do not apply
@pytest.mark.parametrize(
    ("groups", "key"),
    [
        ({"kd_structure": {"kernel": "cosine", "kernel_scale": 10}}, "kd_structure.kernel_scale"),
        ({"kd_structure": {"shift": 1}}, "kd_structure.shift"),
        ({"kd_structure": {"layer_map": "shift", "pairs": "1~1"}}, "kd_structure.pairs"),
        ({"kd_structure": {"samples": 10}}, "kd_structure.samples"),
        ({"kd_structure": {**RAW, "softmax_over": "in_edges"}}, "kd_structure.softmax_over"),
        ({"kd_structure": {"non_edge_weight": 0.5}}, "kd_structure.non_edge_weight"),
        ({"kd_feature": {"projector": "none", "projector_side": "both"}}, "kd_feature.projector_side"),
        ({"kd_contrast": {"projector": "none", "dim": 3}}, "kd_contrast.dim"),
        ({"kd_response": {"loss": "mse", "temperature": 2}}, "kd_response.temperature"),
        ({"kd_response": {"loss": "bce_hard", "sharpen": 0.5}}, "kd_response.sharpen"),
        ({"kd_response": {"loss": "mse", "sharpen": 0.5}}, "kd_response.sharpen"),
        ({"kd_response": {"target": "hard", "sharpen": 0.5}}, "kd_response.sharpen"),
        ({"kd_response": {"loss": "mse", "target": "hard"}}, "kd_response.target"),
        ({"kd_response": {"loss": "bce_hard", "target": "soft"}}, "kd_response.target"),
        ({"kd_response": {"loss": "mse", "confidence": 0.5}}, "kd_response.confidence"),
        ({"dataset": {"task_type": "regression"}, "kd_response": {"confidence": 0.5}}, "kd_response.confidence"),
        ({"kd_response": {"loss": "mse", "node_weight": "entropy"}}, "kd_response.node_weight"),
        ({"kd_attention": {"dim": 32}}, "kd_attention.dim"),
        ({"kd_structure": {"weight": 1}, "kd_attention": {"frozen": True}}, "kd_attention.frozen"),
    ],
)  # fmt: skip
def test_a_key_that_does_not_apply_is_refused_where_the_user_wrote_it(groups, key):
    found, text = problem(**groups)
    assert found == key and "does not apply" in text


def test_from_a_preset_it_is_dropped():
    plan = resolve(host(kd={"preset": "alignahead"}, kd_structure={"kernel": "cosine", "layer_map": "last"}))
    assert not {"kernel_scale", "shift", "pairs", "samples"} & set(plan.groups["structure"].values)
    plan = resolve(host(kd={"preset": "fitnet", "teacher": "t"}, kd_feature={"projector": "none"}))
    assert not {"projector_side", "dim"} & set(plan.groups["feature"].values)


def test_values_that_do_not_go_together():
    assert problem(kd_structure={"distribution": "none"})[0] == "kd_structure.divergence"
    assert problem(kd_feature={"loss": "attention", "pool": "mean"})[0] == "kd_feature.pool"
    assert problem(dataset={"task": "graph"}, kd_response={"nodes": "unlabeled"})[0] == "kd_response.nodes"


# ---------------------------------------------------------------------------------------------------------------- task
@pytest.mark.parametrize(
    ("task_type", "dim_out", "loss"),
    [
        ("classification", 7, "kl"),
        ("classification", 2, "bce_soft"),
        ("classification_binary", 1, "bce_soft"),
        ("classification_multi", 7, "kl"),
        ("classification_multilabel", 121, "bce_soft"),
        ("regression", 1, "mse"),
        ("classification", 1, None),  # no data set is loaded yet
    ],
)
def test_the_response_loss_follows_the_task(task_type, dim_out, loss):
    groups = host(dataset={"task_type": task_type}, share={"dim_out": dim_out}, kd_response={"weight": 1})
    assert resolve(groups).groups["response"]["loss"] == loss


def test_regression_has_no_temperature():
    assert (
        "temperature"
        not in resolve(host(dataset={"task_type": "regression"}, kd={"preset": "mutual"})).groups["response"].values
    )
    found, _ = problem(dataset={"task_type": "regression"}, kd_response={"weight": 1, "temperature": 2})
    assert found == "kd_response.temperature"


def test_a_confidence_beyond_1_is_refused_with_what_is_allowed():
    found, text = problem(kd_response={"confidence": 90})
    assert found == "kd_response.confidence"
    assert "90 is not allowed" in text and "Allowed: a number of at least 0 and at most 1." in text
    for edge in (0, 1):
        assert resolve(host(kd_response={"confidence": edge})).groups["response"]["confidence"] == edge


def test_while_the_data_are_unknown_only_what_is_wrong_for_any_data_is_refused():
    unknown: dict[str, Any] = {"share": {"dim_out": 1}}
    for loss in ("kl", "bce_soft", "bce_hard", "mse"):
        assert resolve(host(**unknown, kd_response={"loss": loss})).groups["response"]["loss"] == loss
    assert problem(share={"dim_out": 2}, kd_response={"loss": "kl"})[0] == "kd_response.loss"
    assert problem(**unknown, dataset={"task": "edge"}, kd_response={"nodes": "unlabeled"})[0] == "kd_response.nodes"


@pytest.mark.parametrize(("preset", "group"), [("soft_target", "response"), ("byot", "auxiliary")])
def test_presets_have_temperature_1_for_several_labels(preset, group):
    groups: dict[str, Any] = {"kd": {"preset": preset, "teacher": "t"}}
    several = {"task_type": "classification_multilabel"}
    assert resolve(host(**groups)).groups[group]["temperature"] > 1
    assert resolve(host(**groups, dataset=several)).groups[group]["temperature"] == 1
    groups[f"kd_{group}"] = {"temperature": 2}
    assert resolve(host(**groups, dataset=several)).groups[group]["temperature"] == 2


def test_soft_targets_for_several_labels_weigh_half_and_half():
    plan = resolve(
        host(dataset={"task_type": "classification_multilabel"}, kd={"preset": "soft_target", "teacher": "t"})
    )
    assert (plan["label_weight"], plan.groups["response"].weight) == (0.5, 0.5)


# -------------------------------------------------------------------------------------------------------------- layers
@pytest.mark.parametrize("pairs", ["4~1", "1~4", "-4~-1", [[3, 4]], "1~1+3~9"])
def test_a_layer_that_does_not_exist(pairs):
    key, text = problem(kd_structure={"layer_map": "pairs", "pairs": pairs})
    assert key == "kd_structure.pairs" and "3 layers" in text


@pytest.mark.parametrize("pairs", ["0~1", "1", "a~b", "1~2~3", "", [], [[1, 2, 3]], [1, 2], "1.5~2", True, {"a": 1}])
def test_no_pairs(pairs):
    assert set(problems(kd_structure={"layer_map": "pairs", "pairs": pairs})) == {"kd_structure.pairs"}


def test_layers_that_exist():
    for pairs in ("3~1+1~3", "-3~-1", [[1, 2], [-1, -2]], "1~2+1~2"):
        plan = resolve(host(kd_structure={"weight": 1, "layer_map": "pairs", "pairs": pairs}))
        assert isinstance(plan.groups["structure"]["pairs"], tuple)


def test_pairs_must_be_given():
    assert problem(kd_structure={"layer_map": "pairs"})[0] == "kd_structure.pairs"
    assert problem(kd_structure={"layer_map": "pairs", "pairs": "none"})[0] == "kd_structure.pairs"


def test_the_learners_end_is_checked_against_a_teacher_too():
    pairs = {"weight": 1, "layer_map": "pairs", "pairs": "4~1"}
    assert problem(kd={"teacher": "t"}, kd_structure=pairs)[0] == "kd_structure.pairs"
    resolve(host(kd={"teacher": "t"}, kd_structure={**pairs, "pairs": "3~60"}))


def test_depths_that_are_unknown_are_not_checked():
    pairs = {"weight": 1, "layer_map": "pairs", "pairs": "9~9"}
    for groups in ({"model": {"type": "mine"}}, {"kd": {"layers": "blocks.*"}}):
        assert resolve(host(**groups, kd_structure=pairs)).groups["structure"]["pairs"] == ((9, 9),)


def test_networks_of_ours_have_a_known_depth():
    assert (
        problem(model={"type": "gcn"}, kd_structure={"layer_map": "pairs", "pairs": "4~1"})[0] == "kd_structure.pairs"
    )


def test_no_layers():
    assert "gnn.layers_mp" in problem(gnn={"layers_mp": 0}, kd_structure={"weight": 1})[1]


# ---------------------------------------------------------------------------------------------------- attention, marks
def test_attention_groups_share_one_tap():
    both = {"weight": 1, "layer_map": "attention"}
    key, text = problem(kd_feature={**both, "tap": "layer"}, kd_contrast=both)
    assert key == "kd_contrast.tap" and "kd_feature" in text
    plan = resolve(host(kd_feature=both, kd_contrast=both, kd_structure={"tap": "layer"}, kd_attention={"dim": 32}))
    for name in ("feature", "contrast"):
        assert plan.groups[name].map_values == {**plan.maps["attention"], "dim": 32, "subspace": True}
    assert "subspace" not in plan.groups["structure"].values


def test_marked_layers_have_heads():
    plan = resolve(host(gnn={"layer_type": "aux_gcnconv"}))
    group = plan.groups["auxiliary"]
    assert (group.weight, group["layers"], group.named) == (0.3, "marked", True)
    assert plan.origins["kd_auxiliary.weight"] == "marked layers"
    plan = resolve(host(gnn={"layer_type": "aux_gcnconv"}, kd_auxiliary={"weight": 0.7, "layers": "all_but_last"}))
    assert (plan.groups["auxiliary"].weight, plan.groups["auxiliary"]["layers"]) == (0.7, "all_but_last")
    plan = resolve(host(gnn={"layer_type": "aux_gcnconv"}, kd_auxiliary={"weight": 0}))
    assert plan.active == ()
    plan = resolve(host(gnn={"layer_type": "aux_gcnconv"}, kd={"preset": "byot"}))
    assert (plan.groups["auxiliary"].weight, plan.groups["auxiliary"]["layers"]) == (0.9, "marked")


def test_a_users_own_aux_layer_and_networks_without_layer_types_mark_nothing():
    from torch_geometric.graphgym import register

    register.register_layer("aux_mine", SimpleNamespace)
    assert resolve(host(gnn={"layer_type": "aux_mine"})).active == ()
    assert resolve(host(model={"type": "gcn"}, gnn={"layer_type": "aux_gcnconv"})).active == ()


# --------------------------------------------------------------------------------------------------------- label weight
def test_without_labels_some_term_must_be_active():
    assert problem(kd={"label_weight": 0})[0] == "kd.label_weight"
    assert problem(kd={"preset": "glnn", "teacher": "t"}, kd_response={"weight": 0})[0] == "kd.label_weight"
    assert problem(kd={"label_weight": 0, "students": 1}, kd_response={"weight": 1})[0] == "kd.label_weight"
    assert resolve(host(kd={"preset": "glnn", "teacher": "t"}))["label_weight"] == 0
    assert resolve(host(kd={"label_weight": 0}, kd_auxiliary={"weight": 1})).active


def test_the_control_has_no_terms_and_the_same_students():
    for name in axes.presets:
        config = {"kd": {"preset": name, "teacher": "t", "students": 3}}
        plan = resolve(host(**config))
        control = read_config(config, control_overrides(plan)).plan
        assert (control.active, control["label_weight"], control.students) == ((), 1.0, 3)
        assert control["predict"] == plan["predict"]


# ------------------------------------------------------------------------------------------------------------ bad input
@pytest.mark.parametrize(
    ("group", "key", "value"),
    [
        ("kd", "students", 0),
        ("kd", "students", 1.5),
        ("kd", "students", "two"),
        ("kd", "students", True),
        ("kd", "students", [2]),
        ("kd", "label_weight", -1),
        ("kd", "label_weight", NAN),
        ("kd", "hide_edges", 1),
        ("kd", "clip_grad_norm", 0),
        ("kd", "patience", 0),
        ("kd", "update", "alternate"),
        ("kd", "preset", "alignhead"),
        ("kd", "teacher", "../../secret"),
        ("kd", "teacher", "/etc/passwd"),
        ("kd", "teacher_cfg", "a/../../b"),
        ("kd", "cohort", "a+../b"),
        ("kd", "cohort", ""),
        ("kd", "teacher_seed", -1),
        ("kd", "predict", 1),
        ("kd_structure", "weight", -0.1),
        ("kd_structure", "weight", NAN),
        ("kd_structure", "weight", float("inf")),
        ("kd_structure", "weight", "heavy"),
        ("kd_structure", "kernel_scale", 0),
        ("kd_structure", "kernel_scale", "mean"),
        ("kd_structure", "kernel", "rbff"),
        ("kd_structure", "self_loops", 1),
        ("kd_structure", "layer_map", "attentoin"),
        ("kd_structure", "schedule", "warmup"),
        ("kd_structure", "schedule", "window_30_10"),
        ("kd_structure", "source", "teachers"),
        ("kd_structure", "tap", "a"),
        ("kd_response", "temperature", 0),
        ("kd_response", "temperature", NAN),
        ("kd_response", "nodes", "unlabelled"),
        ("kd_response", "target", "harder"),
        ("kd_response", "sharpen", 0),
        ("kd_response", "confidence", -0.1),
        ("kd_response", "confidence", 1.1),
        ("kd_response", "confidence", NAN),
        ("kd_response", "node_weight", True),
        ("kd_contrast", "samples", 0),
        ("kd_auxiliary", "soft_weight", -1),
        ("kd_attention", "dim", 0.5),
    ],
)
def test_values_out_of_range_or_of_another_kind(group, key, value):
    found = problems(**{group: {key: value}})
    assert set(found) == {f"{group}.{key}"}
    assert any(word in found[f"{group}.{key}"] for word in ("Allowed", "must stay in its folder", "must be below"))


@pytest.mark.parametrize(
    ("written", "meant"),
    [("10", 10.0), (10, 10.0), ("1e-3", 0.001), (2.0, 2.0)],
)
def test_numbers_however_they_arrive(written, meant):
    weight = resolve(host(kd_structure={"weight": written})).groups["structure"]["weight"]
    assert weight == meant and isinstance(weight, float)


def test_truth_and_names_however_they_arrive():
    plan = resolve(host(kd={"teacher": 123, "students": 2.0}, kd_structure={"self_loops": "True"}))
    assert (plan["teacher"], plan.students, plan.groups["structure"]["self_loops"]) == ("123", 2, True)
    assert isinstance(plan.students, int)


def test_near_names_are_offered():
    assert "Did you mean 'students'" in problem(kd={"student": 2})[1]
    assert "Did you mean 'kd_structure'" in problem(kd_structur={"weight": 1})[1]
    assert "There is kd_structure.kernel" in problem(kd_feature={"kernel": "rbf"})[1]
    assert "Did you mean 'laplacian'" in problem(kd_structure={"kernel": "laplace"})[1]
    assert "unquoted words" in problem(kd_structure={"kernel": "l"})[1]


def test_groups_must_be_groups():
    assert problem(kd="alignahead")[0] == "kd"
    assert problem(kd_structure=[1])[0] == "kd_structure"
    assert problem(kd_strukture={})[0] == "kd_strukture"
    assert resolve(host(kd=None, kd_structure={})).active == ()


def test_all_mistakes_come_at_once_in_the_order_of_the_keys_without_echoes():
    found = problems(
        kd={"preset": "lspp", "students": 0, "foo": 3},
        kd_response={"temperature": 0, "source": "self"},
        kd_structure={"kernel": "cosin", "kernel_scale": 3, "weight": NAN, "layer_map": "pairs", "pairs": "4~1"},
        kd_nothing={"weight": 1},
    )
    assert list(found) == [
        "kd.foo",
        "kd.preset",
        "kd.students",
        "kd_response.source",
        "kd_response.temperature",
        "kd_structure.weight",
        "kd_structure.pairs",
        "kd_structure.kernel",  # and nothing on kernel_scale: the kernel is not known
        "kd_nothing",
    ]


def test_the_error_names_the_file():
    with pytest.raises(ConfigError, match=r"1 mistake in the configuration a\.yaml"):
        resolve({"kd": {"students": 0}}, where="a.yaml")


class Broken:
    @hookimpl
    def gkd_register_presets(self, register: Any) -> None:
        register("wrong", Preset("s", "r", {"kd": {"students": 0, "stundets": 1}, "kd_none": {"weight": 1}}))


def test_a_third_partys_preset_is_checked_like_the_user():
    gkd_plugin.register_plugin(Broken(), "broken")
    found = problems(kd={"preset": "wrong"})
    assert set(found) == {"kd.students", "kd.stundets", "kd_none"}
    assert all("preset wrong" in text for text in found.values())
    gkd_plugin.unregister_plugin("broken")


# ---------------------------------------------------------------------------------------------------------- round trip
@pytest.mark.parametrize("name", list(axes.presets))
def test_the_resolved_plan_read_again_is_the_same_plan(name):
    groups = host(kd={"preset": name, "teacher": "t"})
    plan = resolve(groups)
    assert resolve({**groups, **plan.as_dict()}) == plan


def test_marks_and_none_survive_the_round_trip():
    marked = host(gnn={"layer_type": "aux_gcnconv"})
    assert resolve({**marked, **resolve(marked).as_dict()}) == resolve(marked)
    learned = {"kd_feature": {"layer_map": "attention"}, "kd_attention": {"subspace": False}}
    for groups in (
        host(kd={"preset": "gsp", "teacher": "t"}, kd_structure={"samples": "none"}),
        host(**learned),
    ):
        assert resolve({**groups, **resolve(groups).as_dict()}) == resolve(groups)


def test_a_plan_travels_to_another_process() -> None:
    plan = read_config({"kd": {"preset": "alignahead_pp"}}).plan
    again = pickle.loads(pickle.dumps(plan))
    assert again == plan and again.as_dict() == plan.as_dict()


def test_predict_ema_needs_no_term_that_listens() -> None:
    plan = resolve({"kd": {"predict": "ema", "ema_decay": 0.9}})
    assert plan["ema_decay"] == 0.9 and not plan.active
