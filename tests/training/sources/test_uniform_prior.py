"""Source ``uniform_prior`` is label smoothing: against torch's own, and against labels that nobody may read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional
from torch_geometric.data import Data

from gkd_plugin.commands.check import check
from gkd_plugin.commands.run import run
from tests import toy
from tests.running import Driven, rows, single

pytestmark = pytest.mark.usefixtures("toy_data")

SMOOTHED: dict[str, Any] = {"kd": {"preset": "label_smoothing"}}


def several_labels() -> Data:
    data = toy.community(0)
    data.y = torch.stack([data.y == 0, data.x[:, 1] > 0, data.x[:, 2] > 0], dim=1).float()
    return data


@pytest.fixture(autouse=True)
def _several_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(toy.SETS, "several", lambda: [several_labels()])


@pytest.mark.parametrize("name", ["nodes", "binary", "several"])
@pytest.mark.parametrize("epsilon", [0.1, 0.4])
def test_its_gradient_is_that_of_smoothed_labels(name: str, epsilon: float) -> None:
    kind = "classification_multilabel" if name == "several" else "classification"
    keys = {"kd": {**SMOOTHED["kd"], "label_weight": 1 - epsilon}, "kd_response": {"weight": epsilon}}
    with Driven(dataset={"name": name, "task_type": kind}, **keys) as trainer:
        student, sample = trainer.students[0], single(trainer)
        trainer.updates.begin_epoch(0)
        members = student.objective.members(0)
        assert members == ("uniform_prior",)
        own = student.model.observe(sample)
        pred, true = sample.answers(own, "train")
        if name == "nodes":
            label = functional.cross_entropy(pred, true)
            smoothed = functional.cross_entropy(pred, true, label_smoothing=epsilon)
        else:
            true = true.float().view_as(pred)
            label = functional.binary_cross_entropy_with_logits(pred, true)
            smoothed = functional.binary_cross_entropy_with_logits(pred, (1 - epsilon) * true + epsilon / 2)
        total, _, _ = student.objective(label, own, trainer.sources.observe(1, members, sample), 0)
        (ours,) = torch.autograd.grad(total, own.logits, retain_graph=True)
        (theirs,) = torch.autograd.grad(smoothed, own.logits)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)
        assert float(theirs.abs().sum()) > 0 and not theirs[~sample.batch.train_mask].any()


def test_labels_outside_the_training_nodes_are_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def trained(name: str) -> list[dict[str, Any]]:
        path = toy.config(tmp_path, name, **SMOOTHED, optim={"max_epoch": 6})
        return rows(run(path, quiet=True).folder / "0", "train")

    def relabelled(mask: str) -> Data:
        data = toy.community(0)
        data.y = torch.where(data[mask], (data.y + 1) % 3, data.y)
        return data

    plain = trained("plain")
    for mask in ("val_mask", "test_mask"):
        monkeypatch.setitem(toy.SETS, "nodes", lambda mask=mask: [relabelled(mask)])
        assert trained(mask) == plain
    monkeypatch.setitem(toy.SETS, "nodes", lambda: [relabelled("train_mask")])
    assert trained("train") != plain, "the test cannot fail"


TASKS: dict[str, dict[str, Any]] = {
    "links": {"dataset": {"name": "links", "task": "link_pred"}, "model": {"edge_decoding": "dot"}},
    "many": {"dataset": {"name": "many"}, "train": {"batch_size": 2}},
    "heads": {"kd_auxiliary": {"soft_weight": 1.0, "soft_source": "uniform_prior"}},
}


@pytest.mark.parametrize("task", TASKS)
def test_it_smooths_in_every_task(task: str, tmp_path: Path) -> None:
    report = run(toy.config(tmp_path, **toy.merge(TASKS[task], SMOOTHED)), quiet=True)
    assert all(row["s1_kd_response"] > 0 for row in rows(report.folder / "0", "train"))


@pytest.mark.parametrize(
    ("groups", "key", "found"),
    [
        (
            {"dataset": {"name": "regression", "task_type": "regression"}, "model": {"loss_fun": "mse"}},
            "kd_response.source",
            "uniform_prior: numbers have no uniform prior",
        ),
        (
            {
                "dataset": {"name": "regression", "task_type": "regression"},
                "model": {"loss_fun": "mse"},
                "kd": {"preset": "none"},
                "kd_auxiliary": {"soft_weight": 1, "soft_source": "uniform_prior"},
            },
            "kd_auxiliary.soft_source",
            "uniform_prior: numbers have no uniform prior",
        ),
        (
            {"kd_response": {"target": "hard"}},
            "kd_response.source",
            "uniform_prior: it decides for no class, but target is hard",
        ),
        ({"kd_response": {"loss": "bce_hard"}}, "kd_response.source", "but loss is bce_hard"),
        ({"kd_feature": {"weight": 1, "source": "uniform_prior"}}, "kd_feature.source", "gives logits only"),
    ],
)
def test_what_has_no_uniform_distribution_is_refused(
    groups: dict[str, Any], key: str, found: str, tmp_path: Path
) -> None:
    (checked,) = check(toy.values(tmp_path, **{**groups, "kd": {**SMOOTHED["kd"], **groups.get("kd", {})}}))
    (problem,) = checked.problems
    assert problem.key == key and found in problem.found and problem.allowed
