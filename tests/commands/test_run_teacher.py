"""``gkd run`` with a teacher by run name, from the search to the rows; and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn
from torch_geometric.graphgym import register

from gkd_plugin.commands.run import run
from gkd_plugin.errors import UserError
from gkd_plugin.host import cfg
from gkd_plugin.training.teachers.cache import VARIABLE
from tests import toy
from tests.running import Code, kept, refused, result, same, stop_in, student, teach, weights
from tests.toy import config

pytestmark = pytest.mark.usefixtures("work_folder")


def test_a_run_of_ours_teaches_and_is_no_part_of_its_student(tmp_path: Path) -> None:
    teacher = teach(tmp_path, gnn={"batchnorm": True})
    before = weights(teacher)
    report = run(student(tmp_path, kd_feature={"weight": 1.0, "layer_map": "uniform"}), quiet=True)
    alone = run(config(tmp_path, "alone"), quiet=True)
    assert report.results[0].parameters == alone.results[0].parameters
    assert weights(report.folder).keys() == weights(alone.folder).keys()
    assert not same(weights(report.folder), weights(alone.folder))
    assert same(weights(teacher), before)
    told = result(report.folder)["teacher"]
    assert (told["name"], told["val"]) == ("wide", result(teacher)["answers"]["best"]["val"])
    assert "teacher" not in result(alone.folder)


@pytest.mark.parametrize("draws", [False, True])
def test_a_teacher_leaves_no_trace_in_the_random_stream(draws: bool, tmp_path: Path) -> None:
    """With a weight that changes no bit of the gradient, a taught run is the plain one."""
    sampling = {"layer_type": "generalsampleedgeconv", "keep_edge": 0.999} if draws else {}  # in evaluation, too
    data = {"dataset": {"name": "edge_features", "edge_dim": 4}}
    teach(tmp_path, gnn={"dropout": 0.5, "batchnorm": True, **sampling}, **data)
    taught = run(student(tmp_path, kd_response={"weight": 1e-40}, **data), quiet=True)
    alone = run(config(tmp_path, "alone", **data), quiet=True)
    assert taught.results[0].answers == alone.results[0].answers
    assert same(weights(taught.folder), weights(alone.folder))


def test_with_weights_of_0_nothing_is_looked_for(tmp_path: Path) -> None:
    path = student(tmp_path, kd={"preset": "lsp", "teacher": "nobody"}, kd_structure={"weight": 0}, kd_response={})
    report = run(path, quiet=True)
    assert same(weights(report.folder), weights(run(config(tmp_path, "alone"), quiet=True).folder))


def test_the_control_of_a_taught_student_needs_no_teacher(tmp_path: Path) -> None:
    teacher = teach(tmp_path)
    path = student(tmp_path)
    report = run(path, quiet=True)
    shutil.rmtree(teacher)
    report = run(path, control=True, quiet=True)
    assert report.control is not None and len(report.control.results) == 1
    assert same(weights(report.control.folder), weights(run(config(tmp_path, "alone"), quiet=True).folder))


@pytest.mark.parametrize(("which", "expected"), [("match", [0, 1]), ("best", None), (1, [1, 1])])
def test_which_seed_teaches_is_a_key(which: str | int, expected: list[int] | None, tmp_path: Path) -> None:
    teacher = teach(tmp_path, repeat=2)
    if expected is None:
        values = [result(teacher, seed)["answers"]["best"]["val"] for seed in (0, 1)]
        assert values[0] != values[1], "choose another length: both seeds are equally good"
        expected = [values.index(max(values))] * 2
    report = run(student(tmp_path, kd={"teacher_seed": which}), repeat=2, quiet=True)
    told = [Path(result(report.folder, seed)["teacher"]["from"]).parent.name for seed in (0, 1)]
    assert told == [str(seed) for seed in expected]


def test_a_teacher_that_is_no_better_than_its_student_is_named(tmp_path: Path) -> None:
    teach(tmp_path, optim={"max_epoch": 1, "base_lr": 1e-6})
    teach(tmp_path, "good", optim={"max_epoch": 60})
    report = run(student(tmp_path, optim={"max_epoch": 30}), quiet=True)
    assert [line for line in report.results[0].warnings if "kd.teacher: wide has accuracy" in line]
    report = run(student(tmp_path, "short", kd={"teacher": "good"}, optim={"max_epoch": 1}), quiet=True)
    assert not [line for line in report.results[0].warnings if "kd.teacher" in line]


def multilabel() -> list[Any]:
    data = toy.community(0)
    data.y = torch.stack([data.y == 0, data.y > 0, data.x[:, 0] > 0], dim=1).float()
    return [data]


TASKS: dict[str, dict[str, Any]] = {
    "binary": {"dataset": {"name": "binary"}},
    "regression": {"dataset": {"name": "regression", "task_type": "regression"}, "model": {"loss_fun": "mse"}},
    "links": {"dataset": {"name": "links", "task": "link_pred"}, "model": {"edge_decoding": "dot"}},
    "many": {"dataset": {"name": "many"}, "train": {"batch_size": 2}},
    "multilabel": {
        "dataset": {"name": "multilabel", "task_type": "classification_multilabel"},
        "custom_metrics": ["f1_micro"],
    },
}


@pytest.mark.parametrize("task", TASKS)
def test_every_task(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(toy.SETS, "multilabel", multilabel)
    teach(tmp_path, **TASKS[task])
    terms = {"kd_response": {"weight": 1.0}, "kd_feature": {"weight": 1.0, "layer_map": "uniform"}}
    taught = run(student(tmp_path, **terms, **TASKS[task]), quiet=True)
    alone = run(config(tmp_path, "alone", **TASKS[task]), quiet=True)
    assert not same(weights(taught.folder), weights(alone.folder))
    assert result(taught.folder)["teacher"]["metric"] == taught.results[0].metric


@pytest.mark.parametrize(
    ("family", "preset"),
    [("gcn", "abkd"), ("gat", "lsp"), ("sage", "gcrd"), ("gcnii", "stride"), ("mlp", "glnn"), ("gnn", "abkd")],
)
def test_families_mix(family: str, preset: str, tmp_path: Path) -> None:
    keys = {"layers_mp": 5, "batchnorm": family in ("gnn", "sage"), "act": "relu"}
    teach(tmp_path, model={"type": family}, gnn=keys, optim={"max_epoch": 1})
    learner = {"gcn": "mlp", "gnn": "gat", "mlp": "gcn"}.get(family, "gnn")
    keys = {"kd": {"preset": preset}, "model": {"type": learner}, "optim": {"max_epoch": 2}, "kd_response": {}}
    assert run(student(tmp_path, **keys), quiet=True).results


def test_an_interrupted_taught_run_goes_on_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teach(tmp_path)
    keys = {"train": {"enable_ckpt": True, "ckpt_period": 1}}
    whole = run(student(tmp_path, "whole", **keys), quiet=True)
    path = student(tmp_path, **keys)
    stop_in(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run(path, quiet=True)
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    (checkpoint,) = sorted((tmp_path / "results/narrow/0/ckpt").iterdir())[-1:]
    state = torch.load(checkpoint, weights_only=True)
    assert [len(s["model"]) for s in state["students"]] == [len(weights(whole.folder))]
    report = run(path, quiet=True)
    assert report.results[0].answers == whole.results[0].answers
    assert same(weights(report.folder), weights(whole.folder))


# -- what is refused ----------------------------------------------------------------------------------------------------


def test_a_teacher_that_is_missing_or_unfinished(tmp_path: Path) -> None:
    text = refused(student(tmp_path, kd={"teacher": "wide"}))
    assert "there is no 'wide'" in text and str(tmp_path / "results") in text and "kd.teacher_cfg" in text
    teacher = teach(tmp_path)
    assert "Did you mean 'wide'?" in refused(student(tmp_path, kd={"teacher": "wied"}))
    assert "asks for seed folder 3" in refused(student(tmp_path, kd={"teacher_seed": 3}))
    with pytest.raises(UserError, match="asks for seed folder 1 .*; finished: 0"):  # before seed 0 is trained
        run(student(tmp_path), repeat=2, quiet=True)
    assert not (tmp_path / "results" / "narrow").exists()
    assert "'narrow' is this run itself" in refused(student(tmp_path, kd={"teacher": "narrow"}))
    (teacher / "0" / "result.json").write_text('{"seed": 1}')
    assert "is not a result of gkd_plugin" in refused(student(tmp_path))
    (teacher / "0" / "result.json").unlink()
    assert "contains no finished run" in refused(student(tmp_path))


@pytest.mark.parametrize("name", ["../wide", "/etc/passwd", "a/../../wide", "..", "~/wide"])
@pytest.mark.parametrize("key", ["teacher", "teacher_cfg"])
def test_a_name_never_leaves_its_folder(key: str, name: str, tmp_path: Path) -> None:
    assert f"kd.{key}: '{name}'" in refused(student(tmp_path, kd={key: name}))


def test_layers_that_the_teacher_does_not_have(tmp_path: Path) -> None:
    teach(tmp_path)
    for pairs, side in (("1~7", "source layer 7"), ("9~1", "learner layer 9")):
        text = refused(student(tmp_path, kd_feature={"weight": 1.0, "layer_map": "pairs", "pairs": pairs}))
        assert "kd_feature.pairs: " in text and f"{side} does not exist" in text and "Allowed: 1 to 2" in text


def test_all_pairs_of_a_graph_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gkd_plugin.space.knowledge.structure.MATRIX_BYTES", 4096)
    teach(tmp_path)
    text = refused(student(tmp_path, kd_structure={"weight": 1.0, "domain": "all_pairs"}))
    assert "all pairs of 48 nodes" in text and "Set kd_structure.samples to 32 or less" in text


def test_a_preset_that_needs_a_teacher_and_has_none(tmp_path: Path) -> None:
    text = refused(config(tmp_path, "narrow", kd={"preset": "fitnet"}))
    assert "kd.teacher: not set" in text and "preset fitnet" in text


def test_a_teacher_of_other_data_or_labels(tmp_path: Path) -> None:
    teach(tmp_path, dataset={"name": "binary"})
    text = refused(student(tmp_path))
    assert "dataset.name: binary for the teacher, nodes here" in text and "labels or splits differ" in text
    teach(tmp_path, "graphs", dataset={"name": "many"})
    assert "dataset.name: many for the teacher" in refused(student(tmp_path, kd={"teacher": "graphs"}))
    regression = {"name": "regression", "task_type": "regression"}
    teach(tmp_path, "numbers", dataset=regression, model={"loss_fun": "mse"})
    assert "task_type: regression for the teacher" in refused(student(tmp_path, kd={"teacher": "numbers"}))
    # one number for each item, as the student gives it, of the same items, which means something else
    teach(tmp_path, "values", dataset={"name": "binary", "task_type": "regression"}, model={"loss_fun": "mse"})
    text = refused(student(tmp_path, dataset={"name": "binary"}, kd={"teacher": "values"}))
    assert "values predicts another task (dataset.task_type: regression for the teacher, classification here)" in text


def test_data_that_changed_under_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teach(tmp_path)
    monkeypatch.setitem(toy.SETS, "nodes", lambda: [toy.community(0, classes=4)])
    text = refused(student(tmp_path))
    assert "do not fit the network that wide describes" in text and "size mismatch" in text
    monkeypatch.setitem(toy.SETS, "nodes", lambda: [toy.community(7)])
    text = refused(student(tmp_path))
    assert "wide has accuracy" in text and "result.json says" in text


def test_data_that_changed_without_a_trace_in_validation_are_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training and test nodes that changed places: the teacher is tested on what it was trained on."""
    teach(tmp_path)

    def swapped() -> list[Any]:
        data = toy.community(0)
        data.train_mask, data.test_mask = data.test_mask, data.train_mask
        return [data]

    (same,) = run(student(tmp_path, "same"), quiet=True).results
    assert not any("other features, labels" in text for text in same.warnings)
    monkeypatch.setitem(toy.SETS, "nodes", swapped)
    (result,) = run(student(tmp_path), quiet=True).results
    assert any("trained on other features, labels, edges or splits" in text for text in result.warnings)


def test_weights_that_are_sharper_than_what_the_run_wrote_are_refused(tmp_path: Path) -> None:
    """They decide alike, so that the score is the same, and teach something else."""
    path = teach(tmp_path) / "0" / "student_1.pt"
    good = torch.load(path, weights_only=True)
    last = [name for name in good if name.startswith("post_mp")] or list(good)[-2:]
    torch.save({name: value * 2 if name in last else value for name, value in good.items()}, path)
    assert "is not what its run wrote: its sha256 is not that of result.json" in refused(student(tmp_path))


def test_several_labels_without_a_metric_are_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(toy.SETS, "several", multilabel)
    dataset = {"name": "several", "task_type": "classification_multilabel"}
    with pytest.raises(UserError, match=r"no metric for 'classification_multilabel'.*custom_metrics.*f1_micro"):
        run(toy.config(tmp_path, dataset=dataset), quiet=True)


def test_weights_that_are_other_ones(tmp_path: Path) -> None:
    teacher = teach(tmp_path)
    path = teacher / "0" / "student_1.pt"
    good = torch.load(path, weights_only=True)
    torch.save({name: -value for name, value in good.items()}, path)
    assert "on the validation split here, but" in refused(student(tmp_path))
    torch.save({name: value * float("nan") for name, value in good.items()}, path)
    assert "on the validation split here, but" in refused(student(tmp_path))
    torch.save(dict(list(good.items())[:-1]), path)
    assert "do not fit" in refused(student(tmp_path))
    torch.save({"state_dict": [1, 2]}, path)
    assert "contains no state dict" in refused(student(tmp_path))
    path.write_bytes(b"not a tensor file")
    assert "is not a tensor file" in refused(student(tmp_path))
    path.unlink()
    assert "are missing" in refused(student(tmp_path))


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    teacher = teach(tmp_path)
    torch.save({"state_dict": Code()}, teacher / "0" / "student_1.pt")
    text = refused(student(tmp_path))
    assert "contains pickled code, which is never run (UnpicklingError: Weights only load failed)" in text
    np.savez(tmp_path / "said.npz", logits=np.array([Code()] * 48, dtype=object))
    assert "plain arrays" in refused(student(tmp_path, kd={"teacher": "said.npz"}))
    assert not (tmp_path / "executed").exists()


def test_a_configuration_that_cannot_be_read(tmp_path: Path) -> None:
    teacher = teach(tmp_path)
    stored = teacher / "0" / "student_1.yaml"
    values = yaml.safe_load(stored.read_text())
    stored.write_text(yaml.safe_dump({**values, "model": {**values["model"], "type": "mine"}}))
    assert "model.type: mine" in refused(student(tmp_path))
    stored.write_text(yaml.safe_dump({**values, "gnn": {"dim_inner": "wide"}}))
    assert "is not a configuration of this host" in refused(student(tmp_path))
    stored.write_text("- a\n- list\n")
    assert "is not a configuration" in refused(student(tmp_path))


def test_a_teacher_that_did_not_see_all(tmp_path: Path) -> None:
    teach(tmp_path, kd={"hide_edges": 0.5})
    assert "was trained with hidden edges (kd.hide_edges: 0.5)" in refused(student(tmp_path))


def test_an_ensemble_is_no_single_teacher(tmp_path: Path) -> None:
    teach(tmp_path, kd={"students": 2, "predict": "ensemble"})
    assert "predicts as an ensemble" in refused(student(tmp_path))


def test_the_best_student_of_a_cohort_teaches(tmp_path: Path) -> None:
    teacher = teach(tmp_path, kd={"students": 3})
    told = result(run(student(tmp_path), quiet=True).folder)["teacher"]
    assert told["val"] == result(teacher)["answers"]["best"]["val"]


def test_unlabelled_nodes_where_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def labelled() -> list[Any]:
        data = toy.community(0)
        data.train_mask = torch.ones(48, dtype=torch.bool)
        return [data]

    monkeypatch.setitem(toy.SETS, "nodes", labelled)
    teach(tmp_path)
    text = refused(student(tmp_path, kd_response={"weight": 1.0, "nodes": "unlabeled"}))
    assert "all 48 nodes are in the training mask" in text


def test_edges_are_hidden_on_one_fixed_graph_only(tmp_path: Path) -> None:
    text = refused(config(tmp_path, "narrow", dataset={"name": "many"}, kd={"hide_edges": 0.5}))
    assert "kd.hide_edges: 0.5" in text and "one fixed graph only" in text


# -- networks without mp ------------------------------------------------------------------------------------------------


class Bare(nn.Module):
    """A network of the user's, whose layers the host does not know."""

    def __init__(self, dim_in: int, dim_out: int) -> None:
        super().__init__()
        width = cfg.gnn.dim_inner
        self.layers = nn.ModuleList([nn.Linear(dim_in, width), nn.Linear(width, width)])
        self.out = nn.Linear(width, dim_out)

    def forward(self, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        x = batch.x
        for layer in self.layers:
            x = layer(x).relu()
        return self.out(x), batch.y


def test_layers_of_a_teacher_without_mp_are_named_by_the_student(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register.register_network("bare", Bare)
    bare = {"model": {"type": "bare"}}
    layers = {"kd_feature": {"weight": 1.0, "layer_map": "one_to_one"}}
    folder = teach(tmp_path, **bare)
    text = refused(student(tmp_path, **layers))
    assert "network of wide (model.type: bare) has no part called 'mp'" in text and "layers.1, out" in text
    assert "kd_response" in text and "docs/teachers.md" in text
    assert run(student(tmp_path, "logits"), quiet=True).results
    monkeypatch.setenv(VARIABLE, "kept")
    keys = {**bare, **layers, "kd": {"layers": "layers.*"}}
    found = run(student(tmp_path, "found", **keys), quiet=True)
    run(student(tmp_path, "less", **{**keys, "kd": {"layers": "layers.0"}}), quiet=True)
    assert sorted(len(torch.load(file, weights_only=True)["hidden"]["conv"]) for file in kept("logits")) == [1, 2]
    # as if the teacher's own run had named them
    path = folder / "0" / "student_1.yaml"
    own = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**own, "kd": {**own["kd"], "layers": "layers.*"}}))
    assert same(weights(found.folder), weights(run(student(tmp_path, "own", **keys), quiet=True).folder))
