"""Source ``cohort`` against loops over items and students in float64."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gkd_plugin.commands.check import check
from gkd_plugin.training.sources.cohort import mean_probability
from tests import toy
from tests.running import Driven, compare, single

pytestmark = pytest.mark.usefixtures("toy_data")


def draw(count: int, *shape: int, scale: float = 2.0) -> list[Tensor]:
    random = torch.Generator().manual_seed(count)
    return [torch.randn(*shape, generator=random, dtype=torch.float64) * scale for _ in range(count)]


def softmax(row: list[float]) -> list[float]:
    powers = [math.exp(value - max(row)) for value in row]
    return [power / sum(powers) for power in powers]


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_mean_over_several_classes_is_that_of_the_softmaxes(count: int) -> None:
    logits = draw(count, 7, 4)
    target = mean_probability(logits, "multiclass")
    for item in range(7):
        each = [softmax(model[item].tolist()) for model in logits]
        expected = [sum(row[label] for row in each) / count for label in range(4)]
        assert target[item].exp().tolist() == pytest.approx(expected, abs=1e-12)
    assert not torch.allclose(target.softmax(-1), torch.stack(logits).mean(0).softmax(-1))


@pytest.mark.parametrize("kind", ["multilabel", "binary"])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_labels_and_a_single_logit_have_the_mean_of_the_sigmoids(kind: str, count: int) -> None:
    logits = draw(count, *((7, 4) if kind == "multilabel" else (7,)))
    target = mean_probability(logits, kind)
    assert target.shape == logits[0].shape
    for place, value in enumerate(target.flatten().tolist()):
        expected = sum(sigmoid(float(model.flatten()[place])) for model in logits) / count
        assert sigmoid(value) == pytest.approx(expected, abs=1e-12)


def test_a_regression_has_the_mean() -> None:
    logits = draw(3, 5, 1)
    for item in range(5):
        expected = sum(float(model[item, 0]) for model in logits) / 3
        assert float(mean_probability(logits, "regression")[item, 0]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kind", ["multiclass", "multilabel", "binary", "regression"])
def test_one_model_alone_keeps_its_logits_to_the_last_bit(kind: str) -> None:
    (logits,) = draw(1, 6, 3)
    assert torch.equal(mean_probability([logits], kind), logits)


def test_extreme_logits_stay_finite_and_right() -> None:
    sure, other = torch.tensor([[1000.0, -1000.0, 0.0]]), torch.tensor([[-1000.0, 1000.0, 0.0]])
    target = mean_probability([sure, other], "multiclass")
    assert torch.isfinite(target).all()
    assert target.exp()[0].tolist() == pytest.approx([0.5, 0.5, 0.0])
    both = mean_probability([torch.tensor([800.0, 800.0, -800.0]), torch.tensor([800.0, -800.0, -800.0])], "binary")
    assert torch.isfinite(both).all()
    # sure and unsure: one half; both sure: the logit of 1 - e^-800 is 800
    assert both.tolist() == pytest.approx([800.0, 0.0, -800.0], abs=1e-3)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_it_is_everybodys_belief_in_evaluation_mode_and_each_student_is_run_once(mode: str) -> None:
    keys = {"kd": {"students": 3, "peer_mode": mode, "update": "joint"}}
    with Driven(**keys, kd_response={"weight": 1.0, "source": "cohort", "nodes": "all"}) as trainer:
        clean = []
        for student in trainer.students:
            with torch.no_grad(), student.model.untouched():
                clean.append(student.model.observe(single(trainer)).logits.double())
        calls: list[tuple[int, bool]] = []
        for student in trainer.students:
            student.model.module.train()
            student.model.module.register_forward_hook(
                lambda module, *_, number=student.number: calls.append((number, module.training))
            )
        trainer.sources.run.readings.begin_epoch(())
        for student in trainer.students:
            trainer.sources.run.readings.note_change(student.number)  # what was read before no longer counts
        found = [trainer.sources.observe(n, ["cohort"], single(trainer))["cohort"] for n in (1, 2, 3)]
        assert calls == [(1, False), (2, False), (3, False)]
        assert all(student.model.module.training for student in trainer.students)
        expected = sum(torch.stack([logits.softmax(-1) for logits in clean])) / 3
        for seen in found:
            torch.testing.assert_close(seen.logits.exp().double(), expected, rtol=0, atol=1e-6)
            assert not seen.logits.requires_grad and not seen.hidden
        own, _, values = compare(trainer, 2)
        q, p = expected, own.logits.detach().double().log_softmax(-1)
        divergence = sum(float((q[v] * (q[v].log() - p[v])).sum()) for v in range(len(q))) / len(q)
        assert float(values["kd_response"]) == pytest.approx(divergence, abs=1e-5)


def test_a_step_of_one_student_is_seen_by_the_next() -> None:
    keys = {"kd": {"students": 2, "update": "step_alternate"}, "gnn": {"dropout": 0.0}}
    with Driven(**keys, kd_response={"weight": 1.0, "source": "cohort"}) as trainer:
        before = trainer.sources.observe(2, ["cohort"], single(trainer))["cohort"].logits
        assert trainer.sources.observe(1, ["cohort"], single(trainer))["cohort"].logits.equal(before)
        with torch.no_grad():
            for parameter in trainer.students[0].model.module.parameters():
                parameter.mul_(-2)
        trainer.sources.note_step(1)
        assert not torch.allclose(trainer.sources.observe(2, ["cohort"], single(trainer))["cohort"].logits, before)


def test_one_student_alone_is_sent_to_source_self(tmp_path: Path) -> None:
    keys = {"kd": {"students": 1}, "kd_response": {"weight": 1.0, "source": "cohort"}}
    (checked,) = check(toy.values(tmp_path, **keys))
    (problem,) = checked.problems
    assert problem.key == "kd_response.source" and "cohort with 1 student" in problem.found
    assert "source: self" in problem.allowed and "kd.students: 2" in problem.allowed


def test_it_gives_logits_only(tmp_path: Path) -> None:
    keys = {"kd": {"students": 2}, "kd_feature": {"weight": 1.0, "source": "cohort"}}
    (checked,) = check(toy.values(tmp_path, **keys))
    (problem,) = checked.problems
    assert problem.key == "kd_feature.source" and "gives logits only" in problem.found
    assert "cohort" not in problem.allowed and "peers" in problem.allowed
