"""The teacher's own score and the agreement of its students, against loops over nodes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_geometric.graphgym import register
from torch_geometric.graphgym.logger import Logger

from gkd_plugin import host
from gkd_plugin.commands.report import RunReport
from gkd_plugin.commands.results import load_student
from gkd_plugin.commands.run import run
from gkd_plugin.config.load import read_config
from gkd_plugin.data.metrics import f1_micro
from gkd_plugin.data.split_graphs import SplitGraphs
from gkd_plugin.training.scoring import agreement, decide
from gkd_plugin.training.teachers.base import ModelTeacher
from tests import toy
from tests.toy import config

pytestmark = pytest.mark.usefixtures("work_folder")

SOFT: dict[str, Any] = {"kd_response": {"weight": 1.0, "nodes": "all"}}
LAYERS: dict[str, Any] = {"kd_feature": {"weight": 1.0, "layer_map": "uniform"}}


def teach(folder: Path, name: str = "wide", **groups: Any) -> RunReport:
    keys = {"gnn": {"dim_inner": 16, "dropout": 0.0}, "optim": {"max_epoch": 6}}
    merged = {**groups, **{group: {**groups.get(group, {}), **own} for group, own in keys.items()}}
    return run(config(folder, name, **merged), quiet=True)


def taught(folder: Path, name: str = "narrow", teacher: Any = None, **groups: Any) -> RunReport:
    kd = {**({} if isinstance(teacher, nn.Module) else {"teacher": teacher or "wide"}), **groups.pop("kd", {})}
    path = config(folder, name, **{**SOFT, **groups, "kd": kd})
    return run(path, quiet=True, teacher=teacher if isinstance(teacher, nn.Module) else None)


def rows(report: RunReport, split: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (report.folder / "0" / split / "stats.json").read_text().splitlines()]


def written(report: RunReport) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((report.folder / "0" / "result.json").read_text())
    return found


def logits(report: RunReport, batch: Any, student: int | None = None) -> Tensor:
    """What the selected student of a run says on every item."""
    model = load_student(report.folder / "0", student)
    with host.scoped(model.kd_cfg), torch.no_grad():
        found: Tensor = model(batch.clone())
    return found


def share_of_equal_classes(some: Tensor, others: Tensor, items: Tensor) -> float:
    equal = [int(some[i].argmax()) == int(others[i].argmax()) for i in items.nonzero().view(-1)]
    return sum(equal) / len(equal)


# -- decisions --------------------------------------------------------------------------------------------------------


@pytest.fixture
def own() -> Any:
    return read_config(toy.values(Path("results"))).cfg


def test_agreement_counts_equal_decisions_of_all_batches(own: Any) -> None:
    draw = torch.Generator().manual_seed(0)
    sizes = (5, 1, 9)
    a, b = ([torch.randn(size, 4, generator=draw) for size in sizes] for _ in range(2))
    equal = sum(int(x[i].argmax() == y[i].argmax()) for x, y in zip(a, b, strict=True) for i in range(len(x)))
    with host.scoped(own):
        assert agreement(a, b, "classification_multi") == equal / 15
        assert agreement(a, a, "classification_multi") == 1.0


def test_thresholds_are_those_of_the_metrics(own: Any) -> None:
    scores = torch.tensor([0.2, 0.45, 0.55, 0.61, 0.9])
    with host.scoped(own):
        host.cfg.model.thresh = 0.6
        assert decide(scores, "classification_binary").tolist() == [False, False, False, True, True]
        host.cfg.metrics.f1_logit_threshold = 0.0
        labels = torch.stack([scores, 1 - scores], dim=1)
        assert decide(labels, "classification_multilabel").tolist() == [[s > 0.5, s < 0.5] for s in scores.tolist()]
        host.cfg.metrics.f1_logit_threshold = 0.5  # a probability of 0.622
        assert decide(labels, "classification_multilabel")[:, 0].tolist() == [False, False, False, False, True]
        other = labels.clone()
        other[0] = 1 - other[0]  # one of five nodes has its other label
        assert agreement([labels], [other], "classification_multilabel") == 0.8
        host.cfg.custom_metrics = ["f1_micro"]
        assert decide(scores, "classification_binary").tolist() == [False, False, False, False, True]


def test_a_score_on_the_threshold_is_a_no_as_in_the_metrics(own: Any) -> None:
    scores, yes = torch.tensor([0.5, 0.5]), torch.tensor([1, 1])
    with host.scoped(own):
        host.cfg.model.thresh = 0.5
        assert decide(scores, "classification_binary").tolist() == [False, False]
        judge = Logger.__new__(Logger)
        assert judge._get_pred_int(scores).tolist() == [0, 0]
        host.cfg.metrics.f1_logit_threshold = 0.0
        labels, columns = yes.view(1, 2), scores.view(1, 2)
        assert decide(columns, "classification_multilabel").tolist() == [[False, False]]
        assert f1_micro([labels], [columns], "classification_multilabel") == 0.0


# -- one graph --------------------------------------------------------------------------------------------------------


class Says(nn.Module):
    """Fixed numbers."""

    def __init__(self, numbers: np.ndarray) -> None:
        super().__init__()
        self.numbers = torch.from_numpy(numbers)

    def forward(self, batch: Any) -> Tensor:
        return self.numbers


@pytest.mark.parametrize("form", ["file", "module"])
def test_numbers_by_hand_against_a_loop_over_nodes(form: str, tmp_path: Path) -> None:
    said = np.random.default_rng(2).normal(size=(48, 3)).astype(np.float32)
    np.savez(tmp_path / "said.npz", logits=said)
    report = taught(tmp_path, teacher="said.npz" if form == "file" else Says(said))
    (result,) = report.results
    data, theirs = toy.community(0), torch.from_numpy(said)
    student = logits(report, data)
    expected = share_of_equal_classes(student, theirs, data.test_mask)
    assert result.agreement == dict.fromkeys(("s1", "mean", "first", "best", "ensemble"), pytest.approx(expected))
    assert 0 < expected < 1
    row = rows(report, "val")[int(result.answer.epoch)]
    assert row["s1_agreement"] == pytest.approx(share_of_equal_classes(student, theirs, data.val_mask), abs=1e-4)
    assert all("s1_agreement" in row for row in rows(report, "val"))
    right = {
        split: share_of_equal_classes(theirs, torch.eye(3)[data.y], data[f"{split}_mask"]) for split in ("val", "test")
    }
    told = written(report)["teacher"]
    assert told["metric"] == "accuracy" and told["name"] == ("said.npz" if form == "file" else "module")
    assert {split: told[split] for split in right} == pytest.approx(right, abs=1e-4)
    (warning,) = result.warnings
    assert warning.startswith(f"kd.teacher: {told['name']} has accuracy") and "no better than its student" in warning


@pytest.mark.parametrize("data", ["nodes", "binary", "many"])
def test_a_run_has_the_test_score_that_it_wrote_itself(data: str, tmp_path: Path) -> None:
    keys = {"dataset": {"name": data}}
    teacher = teach(tmp_path, **keys)
    for name, more in (("narrow", {}), ("hidden", {"kd": {"hide_edges": 0.5}})):
        if data != "many" or not more:
            told = written(taught(tmp_path, name, **keys, **more))["teacher"]
            answer = teacher.results[0].answer
            assert (told["val"], told["test"], told["metric"]) == (answer.val, answer.test, teacher.results[0].metric)


def test_a_teacher_on_other_edges_is_measured_on_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def other() -> list[Any]:
        data = toy.community(0)
        data.edge_index = data.edge_index.flip(1)[:, :60]
        return [data]

    monkeypatch.setitem(toy.SETS, "dynamic", other)
    teacher = teach(tmp_path, dataset={"name": "dynamic"})
    report = taught(tmp_path)
    assert written(report)["teacher"]["test"] == teacher.results[0].answer.test
    theirs = logits(teacher, other()[0])
    expected = share_of_equal_classes(logits(report, toy.community(0)), theirs, toy.community(0).test_mask)
    assert report.results[0].agreement["best"] == pytest.approx(expected)


def test_binary_decisions_are_signs_of_the_logit(tmp_path: Path) -> None:
    said = np.random.default_rng(5).normal(size=48).astype(np.float32)
    np.savez(tmp_path / "said.npz", logits=said)
    report = taught(tmp_path, teacher="said.npz", dataset={"name": "binary"})
    data = toy.community(0, classes=2)
    student = logits(report, data).view(-1)
    equal = [bool(student[i] > 0) == bool(said[i] > 0) for i in data.test_mask.nonzero().view(-1)]
    assert report.results[0].agreement["s1"] == pytest.approx(sum(equal) / len(equal))


def test_every_student_and_the_ensemble_agree_on_their_own(tmp_path: Path) -> None:
    teacher = teach(tmp_path)
    kd = {"students": 3, "predict": "ensemble"}
    report = taught(tmp_path, kd=kd, optim={"max_epoch": 8})
    (result,), data = report.results, toy.community(0)
    theirs = logits(teacher, data)
    mean = torch.stack([logits(report, data, number).softmax(1) for number in (1, 2, 3)]).mean(0)
    found = result.agreement
    assert found["ensemble"] == pytest.approx(share_of_equal_classes(mean, theirs, data.test_mask))
    each = [found[f"s{number}"] for number in (1, 2, 3)]
    assert found["mean"] == pytest.approx(sum(each) / 3)
    assert (found["first"], found["best"]) == (each[0], each[result.best_student - 1])
    assert {f"s{number}_agreement" for number in (1, 2, 3)} <= rows(report, "val")[0].keys()


def test_looking_at_it_costs_no_second_forward_on_one_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teach(tmp_path)
    read: list[tuple[str, ...]] = []
    plain = ModelTeacher.observe
    monkeypatch.setattr(ModelTeacher, "observe", lambda self, s, taps: read.append(tuple(taps)) or plain(self, s, taps))
    report = taught(tmp_path, **LAYERS)
    assert read == [("conv",)] and "s1_agreement" in rows(report, "val")[0]


# -- other tasks and feeds --------------------------------------------------------------------------------------------


def test_on_several_batches_it_is_read_at_the_end_only(tmp_path: Path) -> None:
    keys = {"dataset": {"name": "many"}, "train": {"batch_size": 2}}
    teacher = teach(tmp_path, **keys)
    report = taught(tmp_path, **keys)
    assert "s1_agreement" not in rows(report, "val")[0]
    equal = []
    for data in toy.SETS["many"]():
        ours, theirs = logits(report, data), logits(teacher, data)
        equal += [int(ours[i].argmax() == theirs[i].argmax()) for i in data.test_mask.nonzero().view(-1)]
    assert report.results[0].agreement["s1"] == pytest.approx(sum(equal) / len(equal))


def test_a_regression_has_scores_and_no_agreement(tmp_path: Path) -> None:
    keys = {"dataset": {"name": "regression", "task_type": "regression"}, "model": {"loss_fun": "mse"}}
    teacher = teach(tmp_path, **keys)
    report = taught(tmp_path, **keys)
    assert written(report)["teacher"]["test"] == teacher.results[0].answer.test
    assert "agreement" not in written(report) and "s1_agreement" not in rows(report, "val")[0]


def test_edge_tasks_are_left_out(tmp_path: Path) -> None:
    keys = {"dataset": {"name": "links", "task": "link_pred"}, "model": {"edge_decoding": "dot"}}
    teach(tmp_path, **keys)
    report = taught(tmp_path, **keys, kd_response={"weight": 1.0})
    assert written(report)["teacher"].keys() == {"name", "from", "metric", "val"}
    assert not report.results[0].agreement and "s1_agreement" not in rows(report, "val")[0]


def test_graphs(data_sets: Callable[..., Path], tmp_path: Path) -> None:
    dataset = {"format": "gkd", "name": "TU_MUTAG", "task": "graph", "dir": str(data_sets("TU_MUTAG"))}
    keys = {"dataset": dataset, "splits": {"kind": "random"}}
    teacher = teach(tmp_path, **keys)
    report = taught(tmp_path, **keys, kd_response={"weight": 1.0})
    assert written(report)["teacher"]["test"] == teacher.results[0].answer.test
    assert 0 < report.results[0].agreement["s1"] <= 1
    again = taught(tmp_path, "itself", **keys, kd_response={"weight": 1e-40}, gnn={"dim_inner": 16, "dropout": 0.0},
                   optim={"max_epoch": 6})  # fmt: skip
    assert again.results[0].agreement["s1"] == 1.0  # it is its teacher


def test_without_a_teacher_nothing_is_said(tmp_path: Path) -> None:
    report = run(config(tmp_path, kd={"preset": "mutual"}), quiet=True)
    assert not {"teacher", "agreement"} & written(report).keys()
    assert not any("agreement" in name for name in rows(report, "val")[0])


# -- splits that are graphs of their own ------------------------------------------------------------------------------


def test_splits_with_graphs_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read once is the training graph; on the others a network answers anew, and a file has no answer."""
    graphs = {split: [toy.community(seed)] for seed, split in enumerate(("train", "val", "test"))}
    monkeypatch.setitem(register.loader_dict, "toy", lambda *_: SplitGraphs(graphs))
    teacher = teach(tmp_path)
    report = taught(tmp_path)
    assert written(report)["teacher"]["test"] == teacher.results[0].answer.test
    assert "s1_agreement" not in rows(report, "val")[0]
    (data,) = graphs["test"]
    expected = share_of_equal_classes(logits(report, data), logits(teacher, data), torch.ones(48))
    assert report.results[0].agreement["s1"] == pytest.approx(expected)
    np.savez(tmp_path / "said.npz", logits=logits(teacher, graphs["train"][0]).numpy())
    other = taught(tmp_path, "by_file", teacher="said.npz")
    assert written(other)["teacher"] == {"name": "said.npz"} and not other.results[0].agreement
    assert any("kd.teacher: said.npz: its score on test could not be" in text for text in other.results[0].warnings)


class Fragile(nn.Module):
    """Knows no batch but those of the training."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.calls, self.draws = calls, 0

    def forward(self, batch: Any) -> Tensor:
        self.draws += 1
        if self.draws > self.calls:
            raise ValueError("unheard of\nat all")
        return torch.randn(batch.num_nodes, 3)


def test_a_teacher_that_fails_at_the_end_costs_nothing_and_reading_it_moves_no_number(tmp_path: Path) -> None:
    keys = {"dataset": {"name": "many"}, "train": {"batch_size": 2}, "gnn": {"dropout": 0.5}}
    whole = taught(tmp_path, "whole", Fragile(10**6), **keys)
    assert 0 < whole.results[0].agreement["s1"] < 1
    training = 1 + 4 * 3  # a look at widths; epochs, batches
    cut = taught(tmp_path, "cut", Fragile(training + 1), **keys)
    assert cut.results[0].answers == whole.results[0].answers
    assert not cut.results[0].agreement and written(cut)["teacher"] == {"name": "module", "class": "Fragile"}
    start = (
        "kd.teacher: module: its score on test could not be measured (UserError: teacher=: the module failed on these"
    )
    (warning,) = [text for text in cut.results[0].warnings if text.startswith(start)]
    assert "ValueError: unheard of" in warning
