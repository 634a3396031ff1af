"""Every task of the host through ``gkd run``: supervised, and with terms on logits and on layers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn
from torch_geometric.graphgym import register

from gkd_plugin.commands.results import load_student
from gkd_plugin.commands.run import run
from gkd_plugin.errors import UserError
from tests.running import outcome, rows, stop_in
from tests.toy import SETS, community, config

pytestmark = pytest.mark.usefixtures("toy_data")

TASKS: dict[str, dict[str, Any]] = {
    "binary": {"dataset": {"name": "binary"}},
    "regression": {"dataset": {"name": "regression", "task_type": "regression"}, "model": {"loss_fun": "mse"}},
    "links": {"dataset": {"name": "links", "task": "link_pred"}, "model": {"edge_decoding": "dot"}},
    "many": {"dataset": {"name": "many"}, "train": {"batch_size": 2}},
}
METRIC = {"binary": "auc", "regression": "mae", "links": "auc", "many": "accuracy"}
TERMS: dict[str, dict[str, Any]] = {
    "mutual": {"kd": {"preset": "mutual", "students": 3}},
    "alignahead_pp": {"kd": {"preset": "alignahead_pp"}},
    "byot": {"kd": {"preset": "byot"}},
    "contrast": {"kd_contrast": {"weight": 0.1, "dim": 8, "source": "peers"}},
    "soft_heads": {"kd_auxiliary": {"weight": 0.5, "soft_weight": 0.5, "soft_source": "peers", "head": "gnn"}},
    "joint": {"kd": {"preset": "alignahead_pp", "update": "joint", "peer_mode": "train"}},
}


def finite(folder: Path) -> bool:
    return all(math.isfinite(row["loss"]) for split in ("train", "val", "test") for row in rows(folder, split))


@pytest.mark.parametrize("task", TASKS)
def test_supervised(task: str, tmp_path: Path) -> None:
    report = run(config(tmp_path, **TASKS[task], optim={"max_epoch": 20}), quiet=True)
    (result,) = report.results
    assert result.metric == METRIC[task]
    assert result.better == (task != "regression")
    column = [row[METRIC[task]] for row in rows(report.folder / "0", "val")]
    best = min(column) if task == "regression" else max(column)
    assert (result.answer.val, result.answer.epoch) == (best, column.index(best))
    assert finite(report.folder / "0")
    assert (report.folder / "agg" / "test" / "best.json").is_file()
    losses = [row["loss"] for row in rows(report.folder / "0", "train")]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("task", TASKS)
def test_with_terms(task: str, term: str, tmp_path: Path) -> None:
    groups = {**TASKS[task], **TERMS[term]}
    report = run(config(tmp_path, **groups), quiet=True)
    (result,) = report.results
    assert result.metric == METRIC[task]
    assert finite(report.folder / "0")
    train = rows(report.folder / "0", "train")
    found = {key: [row[key] for row in train] for key in train[0] if "_kd_" in key}
    active = {f"kd_{group.name}" for group in report.plan.active}
    assert {key.split("_", 1)[1].removesuffix("_soft") for key in found} == active
    assert all(math.isfinite(value) for column in found.values() for value in column)
    assert any(value > 0 for column in found.values() for value in column)


def test_training_rows_of_a_regression_compare_each_target_with_its_own_prediction(tmp_path: Path) -> None:
    """Targets are [N, 1] and scores [N]: subtracted as they are, every pair of items would count."""
    report = run(config(tmp_path, **TASKS["regression"], gnn={"dropout": 0.0}), quiet=True)
    for split in ("train", "val", "test"):
        for row in rows(report.folder / "0", split):
            assert row["mse"] == pytest.approx(row["loss"], abs=2e-4)  # the loss is the mean squared error


@pytest.mark.parametrize("task", ["many", "links"])
def test_columns_of_heads_stand_in_every_row_whatever_the_schedule(task: str, tmp_path: Path) -> None:
    """The host's aggregation stops at a column that comes and goes."""
    heads = {"weight": 0.3, "schedule": "window_1_2"}
    report = run(config(tmp_path, **TASKS[task], kd={"students": 2}, kd_auxiliary=heads), repeat=2, quiet=True)
    assert not report.failures
    metric = METRIC[task]
    for split in ("train", "val"):
        columns = [row.keys() for row in rows(report.folder / "0", split)]
        assert all(names == columns[0] for names in columns)
    wanted = {
        f"s{s}_{name}" for s in (1, 2) for layer in (1, 2) for name in (f"aux{layer}_{metric}", f"layer{layer}_mad")
    }
    assert wanted <= rows(report.folder / "0", "val")[0].keys()
    values = [row["s1_kd_auxiliary"] for row in rows(report.folder / "0", "train")]
    assert [value > 0 for value in values] == [False, True, False, False]


def test_heads_are_scored_over_all_batches_of_a_split_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The AUC of a split is no mean of the AUCs of its batches. Nothing moves, so batches may differ in size alone."""
    monkeypatch.setitem(SETS, "pairs", lambda: [community(seed, nodes=10, classes=2) for seed in range(6)])
    found = []
    for size in (6, 4, 1):
        path = config(
            tmp_path,
            f"of_{size}",
            dataset={"name": "pairs"},
            train={"batch_size": size},
            gnn={"dropout": 0.0},
            optim={"base_lr": 0.0, "max_epoch": 2},
            kd_auxiliary={"weight": 0.3, "layers": "all"},
        )
        last = rows(run(path, quiet=True).folder / "0", "val")[-1]
        found.append({name: value for name, value in last.items() if "auc" in name})
    assert found[0].keys() == {"auc", "s1_aux1_auc", "s1_aux2_auc"}
    assert found[0] == found[1] == found[2]


def test_a_custom_metric_selects_and_an_unknown_one_is_named(tmp_path: Path) -> None:
    groups = {"custom_metrics": ["f1_micro"], "metric_best": "f1_micro"}
    assert run(config(tmp_path, **groups), quiet=True).results[0].metric == "f1_micro"
    with pytest.raises(UserError, match=r"f1_mikro.*f1_micro"):
        run(config(tmp_path, "typo", custom_metrics=["f1_mikro"]), quiet=True)
    with pytest.raises(UserError, match=r"metric_best.*'auc'.*accuracy"):
        run(config(tmp_path, "other", metric_best="auc"), quiet=True)


# -- unlike students ----------------------------------------------------------------------------------------------------


def unlike(folder: Path, **groups: Any) -> Path:
    """A GCN of two layers with a GAT of four."""
    (folder / "deep_gat.yaml").write_text(
        yaml.safe_dump({"gnn": {"layer_type": "gatconv", "layers_mp": 4, "dim_inner": 12}})
    )
    kd = {"preset": "alignahead_pp", "cohort": "deep_gat"}
    return config(folder, kd=kd, kd_feature={"projector": "linear"}, **groups)


def test_unlike_students_from_a_cohort_file(tmp_path: Path) -> None:
    report = run(unlike(tmp_path, optim={"max_epoch": 8}), control=True, quiet=True)
    (result,) = report.results
    assert result.parameters[0] < result.parameters[1]
    assert report.plan.students == 2
    first = rows(report.folder / "0", "val")[0]
    assert "s1_layer2_mad" in first and "s1_layer3_mad" not in first and "s2_layer4_mad" in first
    model = load_student(report.folder / "0")
    own = model.kd_cfg
    assert (own.gnn.layer_type, own.gnn.layers_mp) == [("gcnconv", 2), ("gatconv", 4)][result.best_student - 1]
    assert report.control is not None and report.control.plan.students == 2


def test_the_control_of_a_cohort_has_no_heads_on_marked_layers_either(tmp_path: Path) -> None:
    (tmp_path / "marked.yaml").write_text("gnn: {layer_type: aux_gcnconv}\n")
    path = config(tmp_path, kd={"preset": "mutual", "cohort": "marked"})
    report = run(path, control=True, quiet=True)
    assert report.control is not None
    columns, without = (rows(r.folder / "0", "val")[0].keys() for r in (report, report.control))
    assert "s2_aux1_accuracy" in columns and "s1_aux1_accuracy" not in columns
    assert not any("aux" in name for name in without)


def interrupt(epoch: int, path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        stop_in(epoch, patch)
        with pytest.raises(KeyboardInterrupt):
            run(path, quiet=True)


@pytest.mark.parametrize("stop", [1, 4])
def test_unlike_students_go_on_after_an_interruption(stop: int, tmp_path: Path) -> None:
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    groups = {"train": {"ckpt_period": 2}, "optim": {"max_epoch": 6}}
    whole, cut = unlike(tmp_path / "whole", **groups), unlike(tmp_path / "cut", **groups)
    expected = run(whole, quiet=True)
    interrupt(stop, cut)
    found = run(cut, quiet=True)
    assert outcome(found.folder / "0") == outcome(expected.folder / "0")


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.filterwarnings("ignore")
def test_mini_batches_go_on_after_an_interruption(workers: int, tmp_path: Path) -> None:
    """Loaders keep no state that a checkpoint would need, persistent workers neither."""
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    groups = {
        "dataset": {"name": "many"},
        "train": {"batch_size": 2, "ckpt_period": 1},
        "optim": {"max_epoch": 5},
        "kd": {"preset": "alignahead_pp"},
        "num_workers": workers,
    }
    expected = run(config(tmp_path / "whole", **groups), quiet=True)
    interrupt(2, config(tmp_path / "cut", **groups))
    found = run(config(tmp_path / "cut", **groups), quiet=True)
    assert outcome(found.folder / "0") == outcome(expected.folder / "0")


def test_a_cohort_that_predicts_other_classes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("dataset: {name: binary}\n")
    with pytest.raises(UserError, match=r"other\.yaml: dataset"):
        run(config(tmp_path, kd={"preset": "mutual", "cohort": "other"}), quiet=True)
    with pytest.raises(UserError, match=r"there is no 'nobody\.yaml'.*other|Searched"):
        run(config(tmp_path, kd={"preset": "mutual", "cohort": "nobody"}), quiet=True)


class Odd(nn.Module):
    """Answers for what it likes."""

    shape = (48, 3)

    def __init__(self, dim_in: int, dim_out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim_in, self.shape[-1])

    def forward(self, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return self.linear(batch.x)[: self.shape[0]], batch.y


@pytest.mark.parametrize("weight", [0, 1])
@pytest.mark.parametrize("shape", [(48, 2), (48, 4), (48, 1), (1, 3)])
def test_a_cohort_whose_head_answers_for_other_items_or_classes_is_refused(
    shape: tuple[int, int], weight: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Odd, "shape", shape)
    register.register_network("odd", Odd)
    (tmp_path / "other.yaml").write_text("model: {type: odd}\n")
    path = config(tmp_path, kd={"cohort": "other"}, kd_response={"weight": weight})
    told = rf"kd.cohort: student 2 \(model.type: odd\) gives logits \[{shape[0]}, {shape[1]}\].*gives \[48, 3\]"
    with pytest.raises(UserError, match=told):
        run(path, quiet=True)
    assert not (tmp_path / "results").exists()
    monkeypatch.setattr(Odd, "shape", (48, 3))
    assert run(path, quiet=True).results


def refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


@pytest.mark.parametrize("name", ["nodes", "no_edges"])
def test_what_has_no_number_is_none(name: str, tmp_path: Path) -> None:
    """Readers that are stricter than Python's take every file; the host's aggregation finds the same columns in each row."""
    report = run(config(tmp_path, dataset={"name": name}, kd={"preset": "byot"}), repeat=2, quiet=True)
    files = sorted(report.folder.rglob("*.json"))
    assert len(files) > 8
    for path in files:
        lines = path.read_text().splitlines()
        for text in ["".join(lines)] if lines[0] == "{" else lines:
            json.loads(text, parse_constant=refuse_constant)
    columns = {tuple(row) for seed in "01" for row in rows(report.folder / seed, "val")}
    assert len(columns) == 1 and ("s1_layer1_mad" in next(iter(columns))) == (name != "no_edges")


def test_a_score_that_is_no_number_is_null(tmp_path: Path) -> None:
    def only_validated(true: list[torch.Tensor], pred: list[torch.Tensor], kind: str) -> float:
        return math.nan if torch.equal(true[0], labels) else 0.5

    data = SETS["nodes"]()[0]
    labels = data.y[data.test_mask]
    register.metric_dict["odd"] = only_validated
    path = config(tmp_path, custom_metrics=["odd"], metric_best="odd")
    first = run(path, quiet=True)
    assert json.loads((first.folder / "0" / "result.json").read_text())["answers"]["first"]["test"] is None
    assert all(math.isnan(report.results[0].answer.test) for report in (first, run(path, quiet=True)))


def test_a_student_of_a_network_that_is_not_registered_here(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self, dim_in: int, dim_out: int) -> None:
            super().__init__()
            self.linear = nn.Linear(dim_in, dim_out)

        def forward(self, batch: Any) -> Any:
            return self.linear(batch.x), batch.y

    register.network_dict["net"] = Net
    report = run(config(tmp_path, model={"type": "net"}), quiet=True)
    data = SETS["nodes"]()[0]
    assert load_student(report.folder / "0")(data).shape == (48, 3)
    del register.network_dict["net"]  # as in another process
    with pytest.raises(UserError, match=r"model.type: net\) cannot be built here.*Register its parts first"):
        load_student(report.folder / "0")


# -- real data ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kd", [{}, {"preset": "mutual"}, {"preset": "alignahead_pp"}], ids=["supervised", "mutual", "layers"]
)
def test_graphs(kd: dict[str, Any], data_sets: Callable[..., Path], tmp_path: Path) -> None:
    dataset = {"format": "gkd", "name": "TU_MUTAG", "task": "graph", "dir": str(data_sets("TU_MUTAG"))}
    report = run(config(tmp_path, dataset=dataset, splits={"kind": "random"}, kd=kd), quiet=True)
    (result,) = report.results
    assert result.metric == "auc" and finite(report.folder / "0")
    assert len(result.parameters) == report.plan.students


@pytest.mark.slow
def test_several_labels_on_ppi(data_sets: Callable[..., Path], tmp_path: Path) -> None:
    groups = {
        "dataset": {
            "format": "gkd",
            "name": "PPI",
            "task_type": "classification_multilabel",
            "dir": str(data_sets("PPI")),
        },
        "custom_metrics": ["f1_micro"],
        "metric_best": "f1_micro",
        "train": {"batch_size": 10},
        "optim": {"max_epoch": 2, "base_lr": 0.01},
        "gnn": {"dropout": 0.0},
    }
    report = run(config(tmp_path, **groups, kd={"preset": "alignahead"}), quiet=True)
    (result,) = report.results
    assert result.metric == "f1_micro" and 0.1 < result.answer.test < 1
    assert len(result.parameters) == 2 and finite(report.folder / "0")
    train = rows(report.folder / "0", "train")
    assert train[1]["loss"] < train[0]["loss"]
    assert all(row["s1_kd_structure"] >= 0 for row in train)
