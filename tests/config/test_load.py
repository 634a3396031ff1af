from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch_geometric.graphgym import register
from torch_geometric.graphgym.config import cfg

from gkd_plugin.config.host_keys import fresh
from gkd_plugin.config.host_values import coerce
from gkd_plugin.config.load import Config, read_config, read_values
from gkd_plugin.errors import ConfigError, UserError

GOOD = """\
dataset: {format: PyG, name: Cora, task: node, task_type: classification}
train: {mode: distill, eval_period: 1}
model: {type: gnn}
gnn: {layers_mp: 2, layers_post_mp: 1, layer_type: gcnconv, batchnorm: false, l2norm: false, dropout: 0.5}
optim: {base_lr: 0.01, max_epoch: 200, scheduler: none}
num_threads: 1
kd: {preset: alignahead_pp, students: 2}
kd_structure: {weight: 10}
"""


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "cora_pp.yaml"
    path.write_text(GOOD)
    return path


def found(source: Any, *overrides: Any) -> dict[str, str]:
    with pytest.raises(ConfigError) as error:
        read_config(source, overrides)
    return {problem.key: str(problem) for problem in error.value.problems}


def only(source: Any, *overrides: Any) -> tuple[str, str]:
    ((key, text),) = found(source, *overrides).items()
    return key, text


# -------------------------------------------------------------------------------------------------------------- reading
def test_a_file(good):
    before = copy.deepcopy(cfg)
    config = read_config(good)
    assert (config.path, config.name) == (good, "cora_pp")
    assert config.values == yaml.safe_load(GOOD)
    assert (config.cfg.dataset.name, config.cfg.optim.base_lr, config.cfg.gnn.head) == ("Cora", 0.01, "node")
    assert (config.cfg.kd.preset, config.cfg.kd["update"], config.cfg.kd_structure.weight) == (
        "alignahead_pp",
        None,
        10,
    )
    assert config.plan.groups["structure"].weight == 10
    assert config.plan.warnings == ()
    assert cfg == before, "the global cfg is not touched"


def test_what_a_file_does_not_name_is_the_hosts_default(good):
    config, default = read_config(good), fresh()
    assert config.cfg.gnn.dim_inner == default.gnn.dim_inner
    assert config.cfg.bn == default.bn
    assert (fresh().train.mode, read_config({}).plan.students) == ("standard", 1)


def test_overrides_are_merged_once_as_plain_values(good):
    config = read_config(good, ["kd_structure.weight", "0.5", "gnn.batchnorm", "true", "seed", "3", "kd.students", 4])
    assert config.plan.groups["structure"].weight == 0.5, "10 in the file makes 0.5 no type error"
    assert (config.cfg.gnn.batchnorm, config.cfg.seed, config.plan.students) == (True, 3, 4)
    assert read_config(good, ["kd.students", "None"]).plan["students"] == 2
    assert read_config(good, ["kd.cohort", "none", "kd_feature.pairs", "[[1, 2]]", "kd_feature.layer_map", "pairs"])


def test_values_configs_and_mappings_can_be_read_too(good):
    config = read_config(good)
    assert read_config(config).plan == config.plan
    again = read_config(config, ["kd.students", "3"])
    assert (again.plan.students, again.name, again.path) == (3, "cora_pp", good)
    assert read_config(yaml.safe_load(GOOD)).plan == config.plan
    assert read_config(yaml.safe_load(GOOD)).name == "config"
    values = read_values(config, ["kd.students", 3])
    assert values["kd"]["students"] == 3 and config.values["kd"]["students"] == 2


def test_empty_files_and_groups(tmp_path):
    path = tmp_path / "empty.yml"
    path.write_text("")
    assert read_config(path).plan.active == ()
    path.write_text("kd:\nkd_structure:\ngnn:\n")
    assert (read_config(path, ["kd.students", "2"]).plan.students, read_config(path).name) == (2, "empty")


def test_a_dumped_configuration_can_be_read_again(good, tmp_path):
    config = read_config(good)
    config.cfg.run_dir, config.cfg.params = "results/0", 4321  # as the host sets them in a run
    path = tmp_path / "config.yaml"
    path.write_text(config.cfg.dump())
    again = read_config(path)
    assert again.plan == config.plan
    assert again.cfg.gnn == config.cfg.gnn


def test_merge_keys_of_yaml(tmp_path):
    path = tmp_path / "merged.yaml"
    path.write_text("kd_structure: &s {weight: 1, tap: layer}\nkd_feature: {<<: *s, weight: 2}\n")
    groups = read_config(path).plan.groups
    assert (groups["feature"].weight, groups["feature"]["tap"]) == (2, "layer")


# --------------------------------------------------------------------------------------------------------- bad files
def test_a_missing_file_offers_its_neighbours(good):
    with pytest.raises(UserError, match=r"cora_p\.yaml does not exist\. Did you mean 'cora_pp\.yaml'"):
        read_config(good.parent / "cora_p.yaml")
    with pytest.raises(UserError, match=r"Did you mean 'cora_pp\.yaml'"):
        read_config(good.parent / "cora_pp")
    with pytest.raises(UserError, match="nor does the folder"):
        read_config(good.parent / "nowhere" / "a.yaml")
    with pytest.raises(UserError, match=r"is a folder.*cora_pp\.yaml"):
        read_config(good.parent)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kd: {preset: [", "is not YAML"),
        ("- a\n- b\n", "contains list, not keys"),
        ("alignahead", "contains str, not keys"),
        ("kd: {students: 2, students: 3}", "line 1: the key 'students' is defined twice"),
        ("seed: 1\nkd: {}\nseed: 2\n", "line 3: the key 'seed' is defined twice"),
        ("kd: {preset: !!python/name:os.system }", "is not YAML"),
    ],
)
def test_files_that_are_no_configuration(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_config(path)


def test_a_binary_file(tmp_path):
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read"):
        read_config(tmp_path / "bad.yaml")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["kd.students"], "'kd.students' has no value"),
        (["kd.students=3"], "Write 'kd.students 3'"),
        (["kd.a.b", "1"], "one or two levels"),
        (["kd.", "1"], "one or two levels"),
        (["kd.students", "[1,"], "not YAML"),
        (["seed.x", "1"], "seed is 1, not a group"),
    ],
)
def test_overrides_that_are_none(overrides, message):
    with pytest.raises(UserError, match=message):
        read_values({"seed": 1}, overrides)


# --------------------------------------------------------------------------------------------------------- host keys
def test_unknown_host_keys_with_the_nearest():
    assert "Did you mean 'eval_period'" in only({"train": {"eval_perod": 1}})[1]
    assert "There is gnn.dim_inner" in only({"dim_inner": 3})[1]
    assert "Did you mean 'optim'" in only({"optm": {"base_lr": 0.1}})[1]
    assert "Did you mean 'num_threads'" in only({"num_thread": 1})[1]
    assert only({"gnn": 3}) == ("gnn", "gnn: 3 is not a group. Write gnn: {key: value, ...}.")


@pytest.mark.parametrize(
    ("default", "raw", "value"),
    [
        (0.01, 1, 1.0),
        (0.01, "1e-3", 0.001),
        (200, 100.0, 100),
        (200, "100", 100),
        (True, "false", False),
        ("Cora", 123, "123"),
        ([], (1, 2), [1, 2]),
        (None, "anything", "anything"),
        (3, None, None),
    ],
)
def test_values_become_what_the_host_wants(default, raw, value):
    result = coerce(default, raw)
    assert result == value and type(result) is type(value)


@pytest.mark.parametrize(
    ("key", "raw"),
    [
        ("gnn.layers_mp", 2.5),
        ("gnn.layers_mp", True),
        ("gnn.layers_mp", "two"),
        ("optim.base_lr", float("nan")),
        ("optim.base_lr", "fast"),
        ("optim.base_lr", [0.1]),
        ("gnn.batchnorm", 1),
        ("gnn.batchnorm", "yes"),
        ("optim.scheduler", False),
        ("dataset.name", ["Cora"]),
        ("optim.steps", 30),
    ],
)
def test_values_of_another_type(key, raw):
    group, leaf = key.split(".")
    assert only({group: {leaf: raw}})[0] == key


@pytest.mark.parametrize(
    ("key", "raw"),
    [
        ("dataset.task", "nod"),
        ("model.type", "gnnn"),
        ("gnn.layer_type", "gcncon"),
        ("gnn.layer_type", "aux_aux_gcnconv"),
        ("gnn.act", "rel"),
        ("gnn.stage_type", "skip"),
        ("gnn.head", "nodes"),
        ("gnn.head", "graph"),
        ("optim.optimizer", "adamm"),
        ("optim.scheduler", "cosine"),
        ("optim.max_epoch", 0),
        ("train.eval_period", 0),
        ("gnn.dropout", 1.5),
        ("gnn.dim_inner", 0),
        ("gnn.layers_mp", 0),
        ("num_threads", 0),
        ("num_workers", -1),
        ("model.loss_fun", "nll"),
        ("model.size_average", "none"),
        ("dataset.task_type", "clasification"),
        ("train.sampler", "full"),
        ("val.sampler", "fullbatch"),
        ("train.sampler", "neighbor"),
        ("val.sampler", "cluster"),
        ("optim.base_lr", -0.01),
        ("optim.weight_decay", -1e-4),
        ("optim.momentum", -0.9),
        ("seed", -1),
        ("seed", 2**33),
        ("seed", 2**32 - 1),
        ("accelerator", "gpu"),
        ("accelerator", "cuda:99"),
        ("accelerator", "cuda "),
        ("accelerator", "abacus"),
    ],
)
def test_what_would_fail_only_once_a_run_has_begun(key, raw):
    group, _, leaf = key.rpartition(".")
    assert only({group: {leaf: raw}} if group else {leaf: raw})[0] == key


USED = [  # a key; what makes the host read it; a wrong word and right ones
    ("model.graph_pooling", {"dataset": {"task": "graph"}}, "sum", ["add", "mean", "max"]),
    ("model.edge_decoding", {"dataset": {"task": "link_pred"}}, "mlp", ["dot", "concat", "cosine_similarity"]),
    ("dataset.node_encoder_name", {"dataset": {"node_encoder": True}}, "nosuch", ["Atom", "Integer"]),
    ("dataset.edge_encoder_name", {"dataset": {"edge_encoder": True}}, "nosuch", ["Bond"]),
    ("gnn.agg", {"gnn": {"layer_type": "generalconv"}}, "nosuch", ["add", "mean", "max", "sum"]),
    ("gnn.agg", {"gnn": {"layer_type": "aux_generalconv"}}, "quantile", ["add"]),
]


@pytest.mark.parametrize(("key", "used", "wrong", "right"), USED)
def test_words_are_checked_where_the_host_reads_them(key, used, wrong, right, monkeypatch):
    monkeypatch.setattr("gkd_plugin.config.host_checks._lacks_ogb", lambda: False)
    group, leaf = key.split(".")

    def having(word, groups):
        return {**groups, group: {**groups.get(group, {}), leaf: word}}

    refused, text = only(having(wrong, used))
    assert refused == key and "Allowed: " in text and all(word in text for word in right)
    for word in right:
        assert read_config(having(word, used)).cfg[group][leaf] == word
    elsewhere = {"gnn": {"layer_type": "gcnconv"}}
    assert read_config(having(wrong, elsewhere)).cfg[group][leaf] == wrong


def test_a_registered_loss_may_answer_to_any_word():
    register.register_loss("mine", lambda pred, true: None)
    assert read_config({"model": {"loss_fun": "mine"}, "dataset": {"task_type": "ranking"}})


def test_devices_are_those_of_this_machine(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for word in ("auto", "cpu"):
        assert read_config({"accelerator": word}).cfg.accelerator == word
    assert "'cuda' is not on this machine. Allowed here: auto, cpu" in only({"accelerator": "cuda"})[1]
    assert "Write cuda for a GPU" in only({"accelerator": "gpu"})[1]
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    for word in ("cuda", "cuda:0", "cuda:1"):
        assert read_config({"accelerator": word}).cfg.accelerator == word
    assert "Allowed here: auto, cpu, cuda, cuda:0, cuda:1" in only({"accelerator": "cuda:2"})[1]


@pytest.mark.parametrize(
    ("key", "raw", "said"),
    [
        (
            "gnn.layers_mp",
            "two",
            "'two' is not allowed. Allowed: a whole number of at least 0 and at most 10000. The default is 2.",
        ),
        ("gnn.layers_mp", 10**400, "Allowed: a whole number of at least 0"),
        ("optim.base_lr", float("inf"), "Allowed: a number of at least 0. The default is 0.01."),
        ("gnn.batchnorm", "yes", "Allowed: true or false. The default is True."),
        ("optim.scheduler", False, "quote the word. The default is 'cos'."),
        ("optim.steps", 30, "Allowed: a list; each part a whole number of at least 0. The default is [30, 60, 90]."),
    ],
)
def test_what_is_said_of_a_value_of_another_type(key, raw, said):
    group, leaf = key.split(".")
    assert said in only({group: {leaf: raw}})[1]


def test_marked_and_registered_layers_are_known():
    register.register_layer("mine", object)
    for word in ("mine", "aux_mine", "aux_gcnconv"):
        assert read_config({"gnn": {"layer_type": word}}).cfg.gnn.layer_type == word


def test_our_groups_beside_kd_are_checked():
    assert only({"model": {"type": "gnn"}, "gkd_model": {"heads": 3}})[0] == "gkd_model.heads"


def test_a_users_own_keys_are_known_and_checked():
    def set_mine(node: Any) -> None:
        node.mine = type(node)({"rate": 0.5})

    register.register_config("mine", set_mine)
    assert read_config({"mine": {"rate": 1}}).cfg.mine.rate == 1.0
    assert only({"mine": {"rat": 1}})[0] == "mine.rat"


def test_keys_that_a_module_of_ones_own_may_register_name_the_way():
    for values in ({"mine": {"rate": 1}}, {"gnn": {"mykey": 3}}):
        assert "One of your own must be registered first: --import MODULE" in only(values)[1]
    assert "--import" not in only({"gnn": {"dim_iner": 3}})[1]


def test_all_mistakes_at_once(good):
    mistakes = found(good, "gnn.layers_mp", "x", "optm.base_lr", "1", "kd.students", "0", "kd_structure.kernel", "rbff")
    assert list(mistakes) == ["gnn.layers_mp", "optm", "kd.students", "kd_structure.kernel"]


def test_a_refused_depth_is_not_held_against_the_layers(good):
    pairs = ["kd_structure.layer_map", "pairs", "kd_structure.pairs", "9~1"]
    assert only(good, *pairs)[0] == "kd_structure.pairs"
    assert only(good, *pairs, "gnn.layers_mp", "many")[0] == "gnn.layers_mp"


def test_the_file_is_named(good):
    with pytest.raises(ConfigError, match=str(good)):
        read_config(good, ["kd.students", 0])


def test_config_is_plain(good):
    assert isinstance(read_config(good), Config)
