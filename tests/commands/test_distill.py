"""From a model and its data to a small model: equal to a run of the same configuration, and nothing is left behind."""

from __future__ import annotations

import copy
import inspect
import logging
import math
import random
import re
import sys
import tempfile
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import SubsetRandomSampler
from torch_geometric.data import Data, InMemoryDataset
from torch_geometric.graphgym import register
from torch_geometric.graphgym.config import cfg
from torch_geometric.loader import DataLoader, NeighborLoader
from torch_geometric.nn import GCN, GCNConv, SAGEConv, global_mean_pool

import gkd_plugin
from gkd_plugin.commands.distill import distill
from gkd_plugin.commands.results import load_student
from gkd_plugin.commands.run import run
from gkd_plugin.errors import RunFailed, UserError
from gkd_plugin.study.card import make_card
from gkd_plugin.study.report.write import write_report
from tests import toy

QUICK: dict[str, Any] = {"epochs": 4, "quiet": True}


@pytest.fixture
def data() -> Data:
    return toy.community(1)


@pytest.fixture
def model(data: Data) -> GCN:
    """A teacher of plain PyG, trained by hand."""
    model = GCN(6, 16, num_layers=2, out_channels=3, dropout=0.5)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(30):
        optimizer.zero_grad()
        logits = model(data.x, data.edge_index)
        nn.functional.cross_entropy(logits[data.train_mask], data.y[data.train_mask]).backward()
        optimizer.step()
    return model


def score(logits: Tensor, data: Data) -> float:
    """Test accuracy, counted here."""
    return float((logits.argmax(dim=1) == data.y)[data.test_mask].double().mean())


class Small(nn.Module):
    """A student of a user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([SAGEConv(6, 4), SAGEConv(4, 3)])

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.convs[1](self.convs[0](x, edge_index).relu(), edge_index)


def test_the_student_is_the_one_that_was_measured(model: GCN, data: Data, tmp_path: Path) -> None:
    result = distill(model, data, width=4, seeds=2, out=tmp_path / "kept", **QUICK)
    logits = result.student(data.x, data.edge_index)
    assert logits.shape == (48, 3) and not result.student.training
    (best,) = [each for each in result.report.results if each.seed == result.seed]
    assert best.answer.val == max(each.answer.val for each in result.report.results)
    assert score(logits, data) == pytest.approx(best.answer.test, abs=1e-4)
    kept = load_student(tmp_path / "kept" / "student" / str(result.seed - 1))
    assert torch.equal(kept(data.x, data.edge_index), logits)
    assert torch.equal(load_student(tmp_path / "kept" / "student")(data.x, data.edge_index), logits)
    with pytest.raises(UserError, match="is a folder of runs. Name one of them: student, student-control"):
        load_student(tmp_path / "kept")
    taught = model.eval()(data.x, data.edge_index)
    assert best.teacher["test"] == pytest.approx(score(taught, data), abs=1e-4)
    assert best.agreement["first"] == pytest.approx(
        float((taught.argmax(1) == logits.argmax(1))[data.test_mask].double().mean()), abs=1e-4
    )
    again = distill(model, data, width=4, seeds=2, out=tmp_path / "kept", **QUICK)  # nothing is trained twice
    assert again.report.results[0].seconds == result.report.results[0].seconds
    with torch.no_grad():
        model.convs[0].lin.weight.zero_()
    with pytest.raises(UserError, match="teacher 'module' has changed since.*fresh=True.*choose another out="):
        distill(model, data, width=4, seeds=2, out=tmp_path / "kept", **QUICK)
    new = distill(model, data, width=4, seeds=2, out=tmp_path / "kept", fresh=True, **QUICK)
    assert new.report.results[0].depends != result.report.results[0].depends


def test_the_door_has_the_same_arguments() -> None:
    assert inspect.signature(gkd_plugin.distill) == inspect.signature(distill)


def test_it_is_the_run_of_the_same_configuration(model: GCN, data: Data, tmp_path: Path) -> None:
    mine = InMemoryDataset()
    mine.data, mine.slices = mine.collate([copy.copy(data)])
    register.loader_dict["mine"] = lambda format, name, folder: mine if format == "mine" else None
    values = {
        "out_dir": str(tmp_path),
        "num_threads": 1,
        "dataset": {"format": "mine", "name": "mine", "task": "node", "task_type": "classification"},
        "train": {"eval_period": 1},
        "model": {"type": "gcn"},
        "gnn": {"layers_mp": 1, "dim_inner": 5, "dropout": 0.5, "batchnorm": False, "l2norm": False, "act": "relu"},
        "optim": {"base_lr": 0.02, "weight_decay": 0.0005, "max_epoch": 6, "scheduler": "none"},
        "kd": {"preset": "soft_target"},
        "kd_response": {"temperature": 2},
    }
    theirs = run(values, teacher=model, name="theirs", repeat=2, control=True, quiet=True)
    del register.loader_dict["mine"]
    options: dict[str, Any] = {"kd_response": {"temperature": 2}}
    ours = distill(model, data, "gcn", width=5, lr=0.02, epochs=6, seeds=2, quiet=True, out=tmp_path / "o", **options)
    for report, other in ((ours.report, theirs), (ours.report.control, theirs.control)):
        assert report is not None and other is not None
        for one, two in zip(report.results, other.results, strict=True):
            assert one.answers == two.answers and one.parameters == two.parameters
            weights = [
                torch.load(each.folder / str(one.seed - 1) / "student_1.pt", weights_only=True)
                for each in (report, other)
            ]
            assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])


def test_nothing_is_left_behind(
    model: GCN,
    data: Data,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    passing = tmp_path_factory.mktemp("passing")
    monkeypatch.setattr(tempfile, "tempdir", str(passing))
    monkeypatch.chdir(tmp_path)
    model.train()
    model.convs[0].eval()
    weights, modes = copy.deepcopy(model.state_dict()), [part.training for part in model.modules()]
    grads = [each.grad.clone() for each in model.parameters() if each.grad is not None]
    assert len(grads) == len(list(model.parameters()))
    needs = [each.requires_grad for each in model.parameters()]
    before, held = {name: value.clone() for name, value in data.to_dict().items()}, list(data.keys())
    registries = {name: dict(value) for name, value in vars(register).items() if name.endswith("_dict")}
    own, paths, small, bad = cfg.clone(), list(sys.path), Small(), nn.Linear(2, 3)
    first = copy.deepcopy(small.state_dict())
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 # the global stream is what is tested
    random.seed(5)
    expected = (torch.rand(2), np.random.rand(2), random.random())  # noqa: NPY002
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    random.seed(5)
    distill(model, data, small, **QUICK)
    with pytest.raises(UserError):
        distill(bad, data, **QUICK)
    assert torch.equal(torch.rand(2), expected[0]) and random.random() == expected[2]
    assert np.array_equal(np.random.rand(2), expected[1])  # noqa: NPY002
    assert torch.get_num_threads() == 1
    assert cfg == own and sys.path == paths
    assert {name: dict(value) for name, value in vars(register).items() if name.endswith("_dict")} == registries
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    assert [part.training for part in model.modules()] == modes
    assert [each.requires_grad for each in model.parameters()] == needs
    assert all(b.grad is not None and torch.equal(a, b.grad) for a, b in zip(grads, model.parameters(), strict=True))
    assert not any(part._forward_hooks for part in model.modules())
    assert all(torch.equal(first[name], value) for name, value in small.state_dict().items())
    assert list(data.keys()) == held and all(torch.equal(data[name], value) for name, value in before.items())
    assert not [*tmp_path.iterdir()]
    assert not [*passing.iterdir()]
    assert capsys.readouterr() == ("", "")


def test_a_module_of_ones_own_is_trained_from_new_weights(model: GCN, data: Data, tmp_path: Path) -> None:
    small = Small()
    result = distill(model, data, small, out=tmp_path, seeds=2, **{**QUICK, "epochs": 1}, lr=0.0, weight_decay=0.0)
    assert type(result.student) is Small and result.student is not small
    new = [torch.load(tmp_path / "student" / str(k) / "student_1.pt", weights_only=True) for k in (0, 1)]
    for name, value in small.state_dict().items():
        kept = [each[f"model.model.{name}"] for each in new]
        assert not torch.equal(kept[0], kept[1]) and not torch.equal(kept[0], value)
    chosen = new[result.seed - 1]
    assert all(torch.equal(chosen[f"model.model.{name}"], value) for name, value in result.student.state_dict().items())
    other = Small()
    other.convs = nn.ModuleList([SAGEConv(6, 5), SAGEConv(5, 3)])
    with pytest.raises(UserError, match="model.type"):  # another shape is another student
        distill(model, data, other, out=tmp_path, **QUICK)


def test_what_has_no_new_weights_is_said(model: GCN, data: Data, capsys: pytest.CaptureFixture[str]) -> None:
    small = Small()
    small.register_parameter("scale", nn.Parameter(torch.ones(1)))
    distill(model, data, small, control=False, **QUICK)
    assert "student=: scale have no reset_parameters" in capsys.readouterr().err


@pytest.mark.parametrize("student", ["sage", "gat", "gcnii", "mlp", "gcnconv", "graphconv"])
def test_students_by_name(student: str, model: GCN, data: Data) -> None:
    if student == "graphconv":
        with pytest.raises(UserError, match="student=: 'graphconv' is unknown"):
            distill(model, data, student, **QUICK)
        return
    result = distill(model, data, student, width=4, control=False, **{**QUICK, "epochs": 1})
    assert result.student(data.x, data.edge_index).shape == (48, 3)


def test_rows_of_logits_teach_as_their_module_does(model: GCN, data: Data, tmp_path: Path) -> None:
    logits = model.eval()(data.x, data.edge_index).detach()
    np.savez(tmp_path / "logits.npz", logits=logits.numpy(), layer_1=torch.randn(48, 5).numpy())
    students = [
        distill(teacher, data, "mlp", "glnn", control=False, **QUICK).student(data.x, data.edge_index)
        for teacher in (model, logits, logits.numpy(), tmp_path / "logits.npz", str(tmp_path / "logits.npz"))
    ]
    assert all(torch.equal(students[0], each) for each in students[1:])
    hint = distill(tmp_path / "logits.npz", data, preset="fitnet", control=False, **QUICK)
    assert hint.teacher_parameters is None and math.isfinite(hint.report.results[0].answer.test)


def test_layers_of_a_module_are_named(model: GCN, data: Data) -> None:
    fit = distill(model, data, Small(), "fitnet", teacher_layers="convs.*", layers="convs.*", control=False, **QUICK)
    assert math.isfinite(fit.report.results[0].answer.test)
    with pytest.raises(
        UserError, match=r"preset='fitnet' compares layers.*need no more: soft_target, glnn\..*teacher_layers"
    ):
        distill(model, data, preset="fitnet", **QUICK)
    with pytest.raises(UserError, match=r"teacher_layers=: no part of the teacher is called 'conv\.\*'.*convs\.0"):
        distill(model, data, preset="fitnet", teacher_layers="conv.*", **QUICK)


def test_two_classes_are_two_logits(tmp_path: Path) -> None:
    data = toy.community(2, classes=2)
    teacher = GCN(6, 8, num_layers=1, out_channels=2)
    named = distill(teacher, data, width=4, out=tmp_path, **QUICK)
    pair = named.student(data.x, data.edge_index)
    one = load_student(tmp_path / "student" / "0")(data.x, data.edge_index).view(-1)
    torch.testing.assert_close(pair.softmax(1)[:, 1], one.sigmoid())
    own = distill(teacher, data, GCN(6, 4, num_layers=1, out_channels=2), control=False, **QUICK)
    assert own.student(data.x, data.edge_index).shape == (48, 2)


class Pooled(nn.Module):
    def __init__(self, out: int) -> None:
        super().__init__()
        self.conv = SAGEConv(6, out)

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        return global_mean_pool(self.conv(x, edge_index), batch)


def graphs(first: int, count: int) -> list[Data]:
    found = [toy.community(seed, nodes=9) for seed in range(first, first + count)]
    return [Data(x=each.x, edge_index=each.edge_index, y=torch.tensor([k % 3])) for k, each in enumerate(found)]


def test_graphs_come_as_the_loaders_of_each_split() -> None:
    parts = [graphs(0, 9), graphs(10, 6), graphs(20, 6)]
    loaders = tuple(DataLoader(part, batch_size=4, shuffle=number == 0) for number, part in enumerate(parts))
    result = distill(Pooled(3), loaders, "gcn", width=4, **QUICK)
    assert result.task == "graph_multiclass, 3 classes"
    (batch,) = DataLoader(parts[2], batch_size=6)
    logits = result.student(batch.x, batch.edge_index, batch=batch.batch)
    right = (logits.argmax(1) == batch.y).double().mean()
    assert float(right) == pytest.approx(result.report.results[0].answer.test, abs=1e-4)
    own = distill(Pooled(3), parts, Pooled(3), control=False, **QUICK)
    assert own.student(batch.x, batch.edge_index, batch.batch).shape == (6, 3)


def test_graphs_of_nodes_with_labels_or_numbers() -> None:
    parts = {
        name: [toy.community(seed + k) for k in range(2)] for seed, name in ((1, "train"), (4, "val"), (7, "test"))
    }
    for part in parts.values():
        for each in part:
            each.y = torch.stack([each.x[:, 0] > 0, each.x[:, 1] > 0], dim=1).float()
    labels = distill(GCN(6, 8, num_layers=1, out_channels=2), parts, width=4, **QUICK)
    assert labels.task == "node_multilabel, 2 labels each" and math.isfinite(labels.report.results[0].answer.test)
    data = toy.regression(1)
    for y in (data.y, data.y.view(-1)):
        data.y = y
        number = distill(GCN(6, 8, num_layers=1, out_channels=1), data, width=4, **QUICK)
        assert number.task == "node_regression, 1 number each" and number.student(data.x, data.edge_index).shape == (
            48,
            1,
        )


def test_the_table(model: GCN, data: Data) -> None:
    result = distill(model, data, width=4, seeds=3, **QUICK)
    text = str(result)
    for pattern in (
        r"test accuracy % at the validation-selected epoch, 3 seeds .*; node_multiclass, 3 classes",
        rf"teacher +{100 * result.report.teacher_tests()[0]:.2f} ± 0.00 +{16 * 6 + 16 + 16 * 3 + 3} +-",
        rf"student \(gcn, 2 layers of 4\) +\S+ ± \S+ +{6 * 4 + 4 + 4 * 3 + 3} +\d",
        r"the same without a teacher +\S+ ± \S+ +43 +\d",
        r"with the teacher less without, paired over seeds \[95 %\]: \S+ \[\S+, \S+\]",
        r"decides as the teacher does on \S+ ± \S+ % of the test items",
        rf"preset soft_target; \S+ s in all; .student is that of seed {result.seed}, the best on validation",
    ):
        assert re.search(pattern, text), (pattern, text)
    assert "written to" not in text and not result.report.folder.exists()
    assert len(repr(result).splitlines()) == 1 and "<pre" in result._repr_html_()
    pair = str(distill(model, data, width=4, seeds=2, **QUICK))
    assert re.search(r"paired over seeds: \S+ \(no interval: 2 seeds\)", pair) and "[95 %]" not in pair
    alone = str(distill(model, data, width=4, control=False, **QUICK))
    assert "without" not in alone


def change(data: Data, **values: Any) -> Data:
    data = copy.copy(data)
    for name, value in values.items():
        if value is None:
            del data[name]
        else:
            data[name] = value
    return data


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"train_mask": None, "val_mask": None, "test_mask": None}, "data has no train_mask, val_mask, test_mask"),
        ({"test_mask": None}, "data has no test_mask. .*a split drawn anew would test on its training nodes"),
        ({"val_mask": torch.ones(47, dtype=torch.bool)}, "data.val_mask has 47 values for 48 nodes"),
        ({"val_mask": torch.zeros(48, dtype=torch.bool)}, "data.val_mask has no node in it"),
        ({"val_mask": torch.ones(48, 3, dtype=torch.bool)}, r"data.val_mask holds 3 splits.*data.val_mask\[:, 0\]"),
        ({"val_mask": torch.arange(5)}, "data.val_mask holds int64, not truth values"),
        ({"y": None}, "data= has no labels y"),
        ({"y": torch.zeros(47, dtype=torch.long)}, "data=: y of graph 0 has 47 rows, for 48 nodes"),
        (
            {"y": torch.arange(48) % 3 * 1.0},
            "whole numbers as float32.*task='node_multiclass' or task='node_regression'",
        ),
        ({"x": None}, "data= has no x"),
        ({"edge_index": None}, "data= has no edge_index"),
        ({"x": torch.randn(48, 6).double()}, "data=: x is float64"),
        ({"edge_index": torch.tensor([[0], [48]])}, "data=: edge_index has 1 edge to nodes that are not there"),
    ],
)
def test_bad_data(values: dict[str, Any], message: str, model: GCN, data: Data) -> None:
    with pytest.raises(UserError, match=message) as error:
        distill(model, change(data, **values), **QUICK)
    assert "gkd_plugin.data.handed" not in str(error.value)


def test_without_a_validation_mask_some_training_nodes_validate(model: GCN, data: Data) -> None:
    result = distill(model, change(data, val_mask=None), control=False, **QUICK)
    assert "has no validation split" in str(result)


def test_loaders_that_sample_one_graph_are_its_splits(model: GCN, data: Data) -> None:
    masks = {part: data[f"{part}_mask"] for part in ("train", "val", "test")}
    plain = change(data, train_mask=None, val_mask=None, test_mask=None)
    for starts in (masks.values(), [mask.nonzero().view(-1) for mask in masks.values()]):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*pyg-lib.*")
            loaders = [NeighborLoader(plain, [2, 2], input_nodes=nodes, batch_size=4) for nodes in starts]
        sampled, whole = (distill(model, each, **QUICK).student for each in (tuple(loaders), data))
        assert torch.equal(*(student(data.x, data.edge_index) for student in (sampled, whole)))


def test_loaders_of_a_whole_graph_leave_its_splits_to_its_masks(model: GCN, data: Data) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*pyg-lib.*")
        loaders = tuple(NeighborLoader(data, [2, 2]) for _ in range(3))
        plain = tuple(NeighborLoader(each, [2]) for each in [change(data, train_mask=None)] * 3)
    sampled, whole = (distill(model, each, **QUICK).student for each in (loaders, data))
    assert torch.equal(*(student(data.x, data.edge_index) for student in (sampled, whole)))
    with pytest.raises(UserError, match="data has no train_mask"):
        distill(model, plain, **QUICK)


def test_masks_of_graphs_that_belong_to_a_split_as_a_whole_are_said_to_be_unread(model: GCN, data: Data) -> None:
    others = [change(data, x=data.x * factor) for factor in (1.001, 0.999)]
    said = "train_mask, val_mask, test_mask of its graphs are not read"
    assert said in " ".join(str(distill(model, (data, *others), control=False, **QUICK)).split())
    plain = [change(each, train_mask=None, val_mask=None, test_mask=None) for each in (data, *others)]
    assert "are not read" not in str(distill(model, tuple(plain), control=False, **QUICK))


def test_loaders_of_several_graphs_start_at_all_their_nodes(model: GCN, data: Data) -> None:
    plain = change(data, train_mask=None, val_mask=None, test_mask=None)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*pyg-lib.*")
        loaders = tuple(NeighborLoader(copy.copy(plain), [2], input_nodes=data.train_mask) for _ in range(3))
    with pytest.raises(UserError, match=r"data=train: the loader starts at \d+ of 48 nodes \(input_nodes\)"):
        distill(model, loaders, **QUICK)


@pytest.mark.parametrize("write", [lambda x: x.mul_(0.5), lambda x: x.add_(0.001), lambda x: torch.relu_(x)])
def test_a_teacher_that_writes_into_the_data_is_refused(write: Any, data: Data) -> None:
    class Writes(Small):
        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return super().forward(write(x), edge_index)

    before = data.x.clone()
    with pytest.raises(UserError, match="teacher=: the module writes into x of the data"):
        distill(Writes(), data, **QUICK)
    assert torch.equal(data.x, before)


def test_whole_numbers_are_features_for_the_student_too(data: Data) -> None:
    counts = change(data, x=(data.x * 3).round().long())
    student = distill(torch.randn(48, 3), counts, control=False, **QUICK).student
    assert torch.equal(student(counts.x, data.edge_index), student(counts.x.float(), data.edge_index))
    assert counts.x.dtype == torch.long


class Returns(nn.Module):
    def __init__(self, found: Any) -> None:
        super().__init__()
        self.found = found

    def forward(self, x: Tensor, edge_index: Tensor) -> Any:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (torch.zeros(47, 3), "teacher=: it gives 47 rows of logits for 48 nodes"),
        (torch.zeros(48, 5), r"teacher=: it gives logits \[48, 5\] for 48 nodes, but data.y has 3 classes"),
        (torch.zeros(48), r"teacher=: it gives logits \[48\] for 48 nodes, but data.y has 3 classes"),
        (torch.full((48, 3), math.nan), "teacher=: .* gives logits with NaN or infinity"),
        (torch.zeros(48, 3, dtype=torch.long), "teacher=: it gives torch.int64, such as predicted classes"),
        ("logits", "teacher=: the module returned str"),
        (RuntimeError("mat1 and mat2"), "teacher=: the module failed on these data .*mat1 and mat2"),
    ],
)
def test_a_teacher_whose_output_is_no_logits(found: Any, message: str, data: Data) -> None:
    with pytest.raises(UserError, match=message):
        distill(Returns(found), data, **QUICK)
    if isinstance(found, Tensor):
        with pytest.raises(UserError, match="teacher=: "):
            distill(found, data, **QUICK)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"teacher": "nowhere.npz"}, "teacher=: there is no file nowhere.npz"),
        ({"teacher": "model.pt"}, "teacher=: 'model.pt' is not a file of logits"),
        ({"teacher": 3}, "teacher=: int 3. Allowed: a torch.nn.Module"),
        ({"preset": "mutual"}, "preset='mutual' does not listen to a teacher. Allowed: soft_target"),
        ({"preset": "soft_targets"}, "preset='soft_targets' is unknown. Did you mean 'soft_target'"),
        ({"student": "gnc"}, "student=: 'gnc' is unknown. Did you mean 'gcn'"),
        ({"student": nn.ReLU()}, "student=: ReLU has no parameter to train"),
        ({"student": Small(), "width": 3}, "width=: a module of your own has its shape already"),
        ({"student": SAGEConv(-1, 3)}, "student=: .* have no size yet"),
        ({"student": Small(), "layers": "conv"}, "layers=: no part of the student is called 'conv'"),
        (
            {"student": Small(), "preset": "fitnet", "teacher_layers": "convs.*"},
            r"layers='convs.\*'. There are: convs, convs.0",
        ),
        ({"student": "rgcn"}, "rgcn has a weight for each relation, but the edges of data= have no types"),
        ({"depth": 0}, "depth=0: "),
        ({"task": "nodes"}, "task='nodes' is unknown. .*node_multiclass"),
        ({"data": []}, "data= an empty list"),
        ({"data": {"train": []}}, "data= is a mapping with 'train'"),
        ({"data": 7}, "data= a int"),
        ({"data": graphs(0, 4)}, "data= has 4 graphs with one label each"),
        ({"out_dir": "x"}, "out_dir: it is decided by out="),
        ({"optim": {"max_epoch": 3}}, "optim.max_epoch: it is decided by epochs="),
        ({"kd": {"preset": "lsp"}}, "kd.preset: it is decided by preset="),
        ({"kd.teacher": "x"}, "kd.teacher: it is decided by teacher="),
        ({"gnn": {"layers_pre_mp": 1, "dim_inner": 3}}, "gnn.dim_inner: it is decided by width="),
        ({"gnn": {"dim_iner": 3}}, "gnn.dim_iner"),
        ({"seeds": 0}, "seeds=0: must be at least 1"),
        ({"hidden_channels": 4}, "hidden_channels=: unknown argument. Did you mean 'width'"),
        ({"num_layers": 3}, "num_layers=: unknown argument. Did you mean 'depth'"),
        ({"epoch": 3}, "epoch=: unknown argument. Did you mean 'epochs'"),
        ({"droput": 0.1}, "droput=: unknown argument. Did you mean 'dropout'"),
        ({"kd_respones": {"weight": 1}}, "kd_respones=: unknown argument"),
    ],
)
def test_bad_arguments(options: dict[str, Any], message: str, model: GCN, data: Data) -> None:
    teacher, what = options.pop("teacher", model), options.pop("data", data)
    with pytest.raises(UserError, match=message):
        distill(teacher, what, **options, **QUICK)


class Odd(Small):
    """A student that does something to its logits."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.change = change

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.change(super().forward(x, edge_index))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda logits: logits[:5], r"student=: the module returned a tensor \[5, 3\] for 48 nodes"),
        (
            lambda logits: logits[:, :2],
            r"student=: the module returned \[48, 2\] for 48 nodes, but data.y asks for 3 logits",
        ),
        (lambda logits: "logits", "student=: the module returned a str for 48 nodes"),
    ],
)
def test_a_student_that_answers_for_others(change: Any, message: str, model: GCN, data: Data) -> None:
    with pytest.raises(UserError, match=message):
        distill(model, data, Odd(change), **QUICK)


def test_a_student_that_fails_is_shown_with_its_traceback(model: GCN, data: Data) -> None:
    def fail(logits: Tensor) -> Tensor:
        raise IndexError("boom")

    with pytest.raises(RunFailed, match=r"seed 1: IndexError: boom \(.*test_distill.py, line") as error:
        distill(model, data, Odd(fail), **QUICK)
    assert "Traceback" in str(error.value) and "its traceback is in" not in str(error.value)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_where_no_gradient_is_wanted(mode: Any, model: GCN, data: Data) -> None:
    with mode():
        result = distill(model, data, control=False, **QUICK)
        assert not torch.is_grad_enabled()
    free = distill(model, data, control=False, **QUICK)
    assert torch.equal(*(each.student(data.x, data.edge_index) for each in (result, free)))


def test_the_example_in_the_docstring(model: GCN, data: Data, capsys: pytest.CaptureFixture[str]) -> None:
    doc = distill.__doc__ or ""
    code = doc.partition(".. code-block:: python")[2]
    exec(
        "\n".join(line.strip() for line in code.splitlines()),
        names := {"gkd_plugin": gkd_plugin, "model": model, "data": data},
    )
    assert names["logits"].shape == (48, 3)
    assert "the same without a teacher" in capsys.readouterr().out


def test_what_is_kept_can_be_exported_and_measured(data, tmp_path, monkeypatch):
    model = GCN(6, 16, num_layers=2, out_channels=3)
    monkeypatch.chdir(tmp_path)
    result = distill(model, data, "mlp", "glnn", width=4, out="kept", **QUICK)
    made = gkd_plugin.export("kept/student", "small")
    assert "model.pt2" in str(made)
    student = gkd_plugin.load_student("small")
    with torch.no_grad():
        assert torch.allclose(student(data.x, data.edge_index), result.student(data.x, data.edge_index), atol=1e-6)
    shown = str(make_card("kept/student"))
    assert (
        "parameters" in shown and "its teacher, GCN (handed over in Python), was not measured: it is not a run" in shown
    )
    card = Path("small/card.md").read_text()
    assert "| data | data handed over in Python: 48 nodes" in card
    assert "Teacher: GCN (handed over in Python); validation accuracy 0." in card
    assert not re.search("handed:take|Given", card)


def test_a_report_names_what_was_handed_over_as_its_owner_would(model: GCN, data: Data, tmp_path: Path) -> None:
    logits = model(data.x, data.edge_index)
    for name, teacher, what in (("module", model, "GCN"), ("rows", logits, "logits")):
        result = distill(teacher, data, Small(), out=tmp_path / name, **QUICK)
        facts = dict(write_report(result.report.folder).report.facts)
        assert facts["data set"] == "data handed over in Python" and facts["network"] == "Small (handed over in Python)"
        assert facts["teacher"] == f"{what} (handed over in Python)"


def test_a_folder_that_was_moved_is_read_where_it_is(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = GCN(6, 16, num_layers=2, out_channels=3)
    distill(model, data, "mlp", "glnn", width=4, out="kept", **QUICK)
    Path("kept").rename("moved")
    assert "model.pt2" in str(gkd_plugin.export("moved/student", "small"))
    monkeypatch.chdir("moved")
    assert "model.pt2" in str(gkd_plugin.export("student", "../again"))


def test_a_class_of_ones_own_is_exported_where_it_is_known(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    distill(GCN(6, 16, num_layers=2, out_channels=3), data, Small(), out="kept", **QUICK)
    with pytest.raises(UserError, match=r"handed over in Python .*torch.export.export\(result.student"):
        gkd_plugin.export("kept/student", "small")


# -- callers of every make: threads, autocast, modules, loaders ----------------------------------------------------------


def test_threads_wait_for_one_another(model: GCN, data: Data) -> None:
    """There is one global configuration: two calls at once would train with values of each other."""

    def call() -> tuple[float, float]:
        result = gkd_plugin.distill(model, data, width=4, epochs=3, control=False, quiet=True)
        return result.report.results[0].answer.val, result.report.results[0].answer.test

    logging.root.handlers, before = [], logging.root.handlers
    try:
        alone = call()
        assert logging.root.handlers == [], "the host's loggers add one"
    finally:
        logging.root.handlers = before
    with ThreadPoolExecutor(2) as pool:
        assert [found.result() for found in [pool.submit(call) for _ in range(2)]] == [alone, alone]


def test_autocast_of_the_caller_changes_nothing(model: GCN, data: Data) -> None:
    """Its rounded copies of weights are those of an epoch before."""
    expected = gkd_plugin.distill(model, data, width=4, epochs=3, quiet=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = gkd_plugin.distill(model, data, width=4, epochs=3, quiet=True)
    assert torch.equal(found.student(data.x, data.edge_index), expected.student(data.x, data.edge_index))
    assert found.report.results[0].answers == expected.report.results[0].answers


@pytest.mark.parametrize("predict", ["best", "first", "ensemble"])
def test_of_several_students_the_returned_one_is_named_with_its_score(predict: str, model: GCN, data: Data) -> None:
    kd = {"students": 2, "predict": predict}
    result = gkd_plugin.distill(model, data, width=4, epochs=12, control=False, quiet=True, kd=kd)
    with torch.no_grad():
        right = (result.student(data.x, data.edge_index).argmax(1) == data.y)[data.test_mask]
    test = 100 * float(right.float().mean())
    assert f".student is student {result.number} of 2 (test {test:.2f})" in " ".join(str(result).split())


def test_modules_of_torch_itself_get_x(data: Data) -> None:
    """An engineer's first small model is an nn.Sequential."""
    teacher = nn.Linear(6, 3)
    student = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))
    result = gkd_plugin.distill(nn.DataParallel(teacher), data, student, epochs=3, quiet=True)
    assert result.report.results[0].answer.test == pytest.approx(
        float((result.student(data.x).argmax(1) == data.y)[data.test_mask].float().mean()), abs=1e-4
    )


class Keeping(nn.Module):
    """Layers that keep the normalised edges of the first graph."""

    def __init__(self) -> None:
        super().__init__()
        self.first = GCNConv(6, 3, cached=True)

    def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
        return self.first(x, edge_index)


def test_what_a_teacher_keeps_of_a_graph_is_as_before_and_refused_for_several(data: Data) -> None:
    teacher = Keeping()
    gkd_plugin.distill(teacher, data, width=4, epochs=1, control=False, quiet=True)
    assert teacher.first._cached_edge_index is None
    several = tuple([toy.community(seed)] for seed in range(3))
    calls: list[Callable[[], object]] = [
        lambda: gkd_plugin.distill(teacher, several),
        lambda: gkd_plugin.distill(GCNConv(6, 3), several, teacher),
    ]
    for call in calls:
        with pytest.raises(UserError, match="first of Keeping keep the normalised edges of the first graph"):
            call()


@pytest.mark.parametrize("word", ["sampler", "batch_sampler"])
def test_a_loader_that_chooses_its_graphs_is_refused(word: str, model: GCN) -> None:
    graphs = [toy.community(seed, nodes=12) for seed in range(6)]
    chosen: Any = SubsetRandomSampler([0, 1])
    more: dict[str, Any] = {"sampler": chosen} if word == "sampler" else {"batch_sampler": [[0, 1]]}
    with pytest.raises(UserError, match=rf"chooses its graphs by a .* \({word}=\).*Subset"):
        gkd_plugin.distill(model, tuple(DataLoader(graphs, **more) for _ in range(3)))
    usual = tuple(
        DataLoader(part, batch_size=2, shuffle=part is graphs) for part in (graphs[:2], graphs[2:4], graphs[4:])
    )
    gkd_plugin.distill(model, usual, width=4, epochs=1, control=False, quiet=True)


@pytest.mark.parametrize("key", ["kind", "train", "largest_component", "row_normalize"])
def test_another_split_than_the_teachers_is_refused(key: str, model: GCN, data: Data) -> None:
    value = {"kind": "random", "train": 0.5}.get(key, True)
    with pytest.raises(UserError, match=rf"splits\.{key}: it is decided by data="):
        gkd_plugin.distill(model, data, splits={key: value})
