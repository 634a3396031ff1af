"""Source ``ema`` against a loop over the weights of every optimizer step, and ``kd.predict: ema``."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch

from gkd_plugin import host
from gkd_plugin.commands.check import check
from gkd_plugin.commands.explain import explain
from gkd_plugin.commands.results import load_student
from gkd_plugin.commands.run import run
from gkd_plugin.training.sources.base import Sources
from gkd_plugin.training.sources.ema import MovingAverage
from tests import toy
from tests.running import Driven, outcome, rows, single, stop_in
from tests.toy import config

pytestmark = pytest.mark.usefixtures("toy_data")

SOFT: dict[str, Any] = {"kd_response": {"weight": 1.0, "source": "ema", "nodes": "all"}}
Weights = dict[str, Tensor]


def watch_steps(patch: pytest.MonkeyPatch) -> dict[int, list[Weights]]:
    """The weights of each student after each of its optimizer steps."""
    found: dict[int, list[Weights]] = {}
    plain = Sources.note_step

    def watched(self: Sources, learner: int) -> None:
        module = self.run.models[learner - 1].module
        found.setdefault(learner, []).append({n: p.detach().double().clone() for n, p in module.named_parameters()})
        plain(self, learner)

    patch.setattr(Sources, "note_step", watched)
    return found


def average(steps: list[Weights], decay: float) -> Weights:
    """Step by step, in float64: alpha_t = min(decay, 1 - 1/t)."""
    mean: Weights = {}
    for t, weights in enumerate(steps, 1):
        alpha = min(decay, 1 - 1 / t)
        mean = {name: alpha * mean.get(name, 0) + (1 - alpha) * value for name, value in weights.items()}
    return mean


@pytest.mark.parametrize("decay", [0.0, 0.6, 0.99])
@pytest.mark.parametrize("students", [1, 2])
def test_the_average_is_that_of_a_loop_over_all_steps(
    decay: float, students: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = watch_steps(monkeypatch)
    keys: dict[str, Any] = {
        "dataset": {"name": "many"},
        "train": {"batch_size": 2},
        "gnn": {"batchnorm": True},
        "kd": {"students": students, "ema_decay": decay},
    }
    with Driven(**keys, **SOFT) as trainer:
        source = trainer.sources.models["ema"]
        assert isinstance(source, MovingAverage)
        first = [copy.deepcopy(model.module.state_dict()) for model in source.models]
        for epoch in range(3):
            trainer.updates.epoch(trainer.feeds[0], epoch)
        for number, (model, start) in enumerate(zip(source.models, first, strict=True), 1):
            assert len(steps[number]) == 9  # three batches in each of three epochs
            expected, found = average(steps[number], decay), dict(model.module.named_parameters())
            assert expected.keys() == found.keys()
            for name, value in expected.items():
                torch.testing.assert_close(found[name].double(), value, rtol=1e-5, atol=1e-6)
                assert found[name].equal(steps[number][-1][name].float()) == (decay == 0.0)
            student = trainer.students[number - 1].model.module
            buffers = dict(student.named_buffers())
            assert any(not value.equal(start[name]) for name, value in buffers.items())
            for name, value in model.module.named_buffers():
                assert torch.equal(value, buffers[name]), name


def test_what_teaches_is_the_average_in_evaluation_mode_and_is_run_once_for_a_step() -> None:
    with Driven(kd={"students": 1, "ema_decay": 0.5}, gnn={"batchnorm": True}, **SOFT) as trainer:
        for epoch in range(3):
            trainer.updates.epoch(trainer.feeds[0], epoch)
        source = trainer.sources.models["ema"]
        assert isinstance(source, MovingAverage)
        alone, calls = copy.deepcopy(source.models[0].module).eval(), []
        source.models[0].module.register_forward_hook(lambda module, *_: calls.append(module.training))
        with torch.no_grad():
            expected = alone(Batch.from_data_list([toy.community(0)]))[0]
        seen = [trainer.sources.observe(1, ["ema"], single(trainer))["ema"] for _ in range(2)]
        assert calls == [False] and seen[0] is seen[1]
        torch.testing.assert_close(seen[0].logits, expected)
        assert not seen[0].logits.requires_grad
        trainer.sources.note_step(1)
        assert trainer.sources.observe(1, ["ema"], single(trainer))["ema"] is not seen[0]


@pytest.mark.parametrize("students", [1, 2])
@pytest.mark.parametrize("stop", [1, 5])
def test_stopped_and_resumed_it_ends_as_the_uninterrupted_run(students: int, stop: int, tmp_path: Path) -> None:
    keys: dict[str, Any] = {
        "train": {"ckpt_period": 2},
        "optim": {"max_epoch": 7, "scheduler": "cos"},
        "gnn": {"batchnorm": True},
        "kd": {"students": students, "predict": "ema", "ema_decay": 0.8},
        "kd_response": {"weight": 1.0, "source": "ema", "nodes": "unlabeled"},
    }
    found = []
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
        path = config(tmp_path / name, **keys)
        if name == "cut":
            with pytest.MonkeyPatch.context() as patch:
                stop_in(stop, patch)
                with pytest.raises(KeyboardInterrupt):
                    run(path, quiet=True)
        run(path, quiet=True)
        found.append(outcome(tmp_path / name / "results" / "study" / "0"))
    assert found[0] == found[1]
    assert any(row["s1_kd_response"] > 0 for row in found[0]["train"])


@pytest.mark.parametrize("students", [1, 2])
def test_what_answers_and_is_kept_is_the_average(
    students: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = watch_steps(monkeypatch)
    keys: dict[str, Any] = {"kd": {"students": students, "predict": "ema", "ema_decay": 0.7}}
    report = run(config(tmp_path, optim={"max_epoch": 12}, **keys, **SOFT), quiet=True)
    (result,) = report.results
    number, answer = result.best_student, result.answer
    assert result.predict == "ema" and result.answering == (number,)
    assert [path.name for path in (report.folder / "0").glob("*.pt")] == [f"student_{number}.pt"]
    module = load_student(report.folder / "0")
    expected = average(steps[number][: int(answer.epoch) + 1], 0.7)  # one step in each epoch
    for name, value in module.named_parameters():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6)
    data = toy.community(0)
    with host.scoped(module.kd_cfg), torch.no_grad():  # type: ignore[arg-type]
        logits = module(Batch.from_data_list([data]))
    for split, score in (("val", answer.val), ("test", answer.test)):
        nodes = data[f"{split}_mask"].nonzero().view(-1).tolist()
        right = sum(int(logits[v].argmax()) == int(data.y[v]) for v in nodes)
        assert score == pytest.approx(right / len(nodes), abs=1e-4)
    (row,) = rows(report.folder / "0", "test")
    assert row["accuracy"] == answer.test and row["epoch"] == answer.epoch


def test_answering_by_the_average_leaves_the_training_of_a_plain_run_as_it_is(tmp_path: Path) -> None:
    found = {}
    for name, kd in (("plain", {}), ("averaged", {"predict": "ema"}), ("off", {"predict": "ema", "students": 2})):
        weights = {"kd_response": {"weight": 0, "source": "ema"}} if name == "averaged" else {}
        report = run(config(tmp_path, name, optim={"max_epoch": 6}, kd=kd, **weights), quiet=True)
        found[name] = report.folder / "0"
    plain = rows(found["plain"], "train")
    assert rows(found["averaged"], "train") == plain
    assert rows(found["averaged"], "val") != rows(found["plain"], "val")
    losses = [row["s1_loss"] for row in rows(found["off"], "train")]
    assert losses == pytest.approx([row["loss"] for row in plain], abs=1e-4)


def test_the_decay_is_a_key_that_applies_where_somebody_listens_or_it_answers(tmp_path: Path) -> None:
    for groups in (SOFT, {"kd": {"predict": "ema"}}):
        kd = {"ema_decay": 0.5, **groups.get("kd", {})}
        assert check(toy.values(tmp_path, **{**groups, "kd": kd})).ok
    (checked,) = check(toy.values(tmp_path, kd={"ema_decay": 0.5, "students": 2}, kd_response={"weight": 1}))
    assert [problem.key for problem in checked.problems] == ["kd.ema_decay"]
    (checked,) = check(toy.values(tmp_path, kd={"ema_decay": 1}, **SOFT))
    assert [problem.key for problem in checked.problems] == ["kd.ema_decay"]


def test_it_is_explained_and_the_answer_named(tmp_path: Path) -> None:
    text = " ".join(str(explain(toy.values(tmp_path, kd={"predict": "ema", "ema_decay": 0.9}, **SOFT))).split())
    assert "D_response(z, z_E)" in text
    assert "E the moving average of the student's own weights (decay 0.9), in evaluation mode" in text
    assert "prediction: the best student by validation, each with its ema in its place" in text


def test_layers_of_the_average_teach_layers(tmp_path: Path) -> None:
    keys = {"kd_feature": {"weight": 1.0, "source": "ema", "layer_map": "one_to_one", "tap": "layer"}}
    report = run(config(tmp_path, **keys), quiet=True)
    values = [row["s1_kd_feature"] for row in rows(report.folder / "0", "train")]
    assert len(values) == 4 and all(value > 0 for value in values)
    assert json.loads((report.folder / "0" / "result.json").read_text())["predict"] == "best"
