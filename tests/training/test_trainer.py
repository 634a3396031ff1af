"""What a run answers, recomputed from the weights after every epoch; when it stops."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from gkd_plugin.errors import RunFailed
from gkd_plugin.training.result import RunResult, Score
from gkd_plugin.training.scoring import score_tests
from gkd_plugin.training.selection import State, copy_state
from gkd_plugin.training.trainer import Trainer
from tests.running import Driven, forward, single

pytestmark = pytest.mark.usefixtures("work_folder")

EPOCHS = 10
Epochs = list[list[State]]  # of every epoch, of every student


class Log:
    """The rows of a split, one list for each epoch."""

    def __init__(self) -> None:
        self.out_dir, self.epochs, self._open = "nowhere", dict[int, list[dict[str, Any]]](), list[dict[str, Any]]()

    def update_stats(self, **values: Any) -> None:
        self._open.append(values)

    def write_epoch(self, epoch: int) -> None:
        self.epochs[epoch], self._open = self._open, []


def train(trainer: Trainer) -> tuple[RunResult, Epochs, list[Log]]:
    """The result, every student's weights after every epoch, and the rows of each split."""
    epochs: Epochs = []
    logs = [Log(), Log(), Log()]
    trainer.rows.logs = list(logs)
    trainer.progress = lambda *_: epochs.append([copy_state(s.model.module.state_dict()) for s in trainer.students])
    return trainer.run(1), epochs, logs


def probabilities(trainer: Trainer, states: list[State]) -> list[Tensor]:
    """Of every node, with each student's weights, without the loop's own evaluation."""
    data = single(trainer).batch.get_example(0)
    found = []
    for student, state in zip(trainer.students, states, strict=True):
        module, kept = student.model.module, copy_state(student.model.module.state_dict())
        module.load_state_dict(state)
        found.append(forward(module, data)[0].softmax(-1))
        module.load_state_dict(kept)
    return found


def accuracy(trainer: Trainer, given: Tensor, split: str) -> float:
    data = single(trainer).batch
    nodes = data[f"{split}_mask"].nonzero().view(-1).tolist()
    right = sum(int(given[node].argmax()) == int(data.y[node]) for node in nodes)
    return round(right / len(nodes), 4)


def scores(trainer: Trainer, epochs: Epochs, split: str) -> dict[str, list[float]]:
    """Every answer's accuracy at every epoch."""
    count = len(trainer.students)
    found: dict[str, list[float]] = {name: [] for name in [*(f"s{m}" for m in range(1, count + 1)), "ensemble"]}
    for states in epochs:
        single_ones = probabilities(trainer, states)
        for name, given in zip(found, [*single_ones, torch.stack(single_ones).mean(0)], strict=True):
            found[name].append(accuracy(trainer, given, split))
    return found


COHORT: dict[str, Any] = {
    "kd": {"students": 3},
    "optim": {"max_epoch": EPOCHS, "base_lr": 0.02},
    "gnn": {"dim_inner": 3, "dropout": 0.5},
}


@pytest.mark.parametrize("predict", ["best", "first", "ensemble"])
def test_every_answer_is_tested_with_the_weights_of_its_own_epoch(predict: str) -> None:
    """Also the ensemble: all its students at the epoch at which the ensemble was best."""
    with Driven(**{**COHORT, "kd": {"students": 3, "predict": predict}}) as trainer:
        result, epochs, _ = train(trainer)
        val, test = scores(trainer, epochs, "val"), scores(trainer, epochs, "test")
        assert len(epochs) == EPOCHS
        chosen = {name: found.index(max(found)) for name, found in val.items()}
        wanted = {name: Score(epoch, val[name][epoch], test[name][epoch]) for name, epoch in chosen.items()}
        singles = [wanted[name] for name in ("s1", "s2", "s3")]
        assert set(result.answers) == {*wanted, "mean", "first", "best"}
        for name, score in wanted.items():
            assert result.answers[name] == score, name
        reached = [score.val for score in singles]
        best = reached.index(max(reached))
        assert result.best_student == best + 1 and result.answers["best"] == singles[best]
        assert result.answers["first"] == singles[0]
        for field in ("epoch", "val", "test"):
            mean = sum(getattr(score, field) for score in singles) / 3
            assert getattr(result.answers["mean"], field) == pytest.approx(mean), field
            assert mean != pytest.approx(getattr(singles[0], field)), f"the {field} of the first would do"
        assert result.answer == result.answers[predict]
        states = trainer.answering(result)
        epoch = chosen["ensemble"] if predict == "ensemble" else int(result.answer.epoch)
        for number, state in states.items():
            assert all(torch.equal(state[name], value) for name, value in epochs[epoch][number - 1].items())
        assert chosen["ensemble"] not in (EPOCHS - 1, *(chosen[f"s{m}"] for m in (1, 2, 3))), "other weights would do"
        again, _ = score_tests(
            trainer.students, trainer.selection.bests, trainer.feeds[2], trainer.streams, trainer.teachers
        )
        nodes = single(trainer).batch.test_mask
        for name, epoch in chosen.items():  # to the digit, where an accuracy may be right by chance
            each = probabilities(trainer, epochs[epoch])
            given = torch.stack(each).mean(0) if name == "ensemble" else each[int(name[1:]) - 1]
            torch.testing.assert_close(again[name].score[0].exp(), given[nodes])
        for student, state in zip(trainer.students, epochs[-1], strict=True):
            assert all(torch.equal(student.model.module.state_dict()[name], value) for name, value in state.items())


@pytest.mark.parametrize("predict", ["best", "first", "ensemble"])
def test_rows_have_every_answer_of_their_epoch(predict: str) -> None:
    with Driven(**{**COHORT, "kd": {"students": 3, "predict": predict}}) as trainer:
        _, epochs, (_, rows, _) = train(trainer)
        val = scores(trainer, epochs, "val")
        for epoch, (row,) in rows.epochs.items():
            now = [val[name][epoch] for name in ("s1", "s2", "s3")]
            assert [row[f"s{m}_accuracy"] for m in (1, 2, 3)] == now
            assert row["ensemble_accuracy"] == val["ensemble"][epoch]
            assert row["mean_accuracy"] == pytest.approx(sum(now) / 3)
            leader = {"best": now.index(max(now)) + 1, "first": 1, "ensemble": 0}[predict]
            assert row["student"] == leader
            losses = [row[f"s{m}_loss"] for m in (1, 2, 3)]
            mean = sum(losses) / 3 if predict == "ensemble" else losses[leader - 1]
            assert row["loss"] == pytest.approx(mean, abs=2e-6)
        assert any(len({row[f"s{m}_accuracy"] for m in (1, 2, 3)}) < 3 for (row,) in rows.epochs.values()), "no tie"


def test_rows_between_two_measurements_repeat_the_last_and_say_so() -> None:
    rows = {}
    for period in (1, 4):
        keys = {"preset": "alignahead_pp", "students": 2, "measure_period": period}
        with Driven(optim={"max_epoch": EPOCHS}, kd=keys) as trainer:
            _, _, logs = train(trainer)
            rows[period] = [row for (row,) in logs[1].epochs.values()]
    measured = {name for name in rows[1][0] if "_aux" in name or "_layer" in name}
    assert len(measured) == 2 * 2 * 4  # students, layers, three measures and a head's score
    for epoch, (every, some) in enumerate(zip(rows[1], rows[4], strict=True)):
        last = 9 if epoch == 9 else epoch // 4 * 4
        assert some.pop("s1_measured") == some.pop("s2_measured") == last
        assert set(some) == set(every)
        for name in (name for name in every if name.startswith("s")):  # numbers of students
            assert some[name] == (rows[1][last] if name in measured else every)[name], name


@pytest.mark.parametrize("period", [1, 2])
@pytest.mark.parametrize("patience", [1, 2, 3])
def test_it_stops_after_so_many_evaluations_without_a_better_one(patience: int, period: int) -> None:
    keys = {"optim": {"max_epoch": 30, "base_lr": 0.2}, "train": {"eval_period": period}}
    with Driven(**keys) as trainer:
        _, _, (_, rows, _) = train(trainer)
    best, worse, stop = -math.inf, 0, 30
    for epoch in sorted(rows.epochs):
        (row,) = rows.epochs[epoch]
        score = float((row["pred"].argmax(-1) == row["true"]).double().mean())
        best, worse = (score, 0) if score > best else (best, worse + 1)
        if worse == patience:
            stop = epoch + 1
            break
    assert 1 + patience < stop < 30, "these data show nothing"
    with Driven(**keys, kd={"patience": patience}) as trainer:
        result, epochs, logs = train(trainer)
    assert result.epochs == len(epochs) == stop
    assert [epoch for epoch, (row,) in logs[0].epochs.items() if not row["stopped"]] == list(range(stop))
    assert sorted(logs[0].epochs) == list(range(30)) and sorted(logs[1].epochs) == sorted(rows.epochs)


def test_a_metric_that_is_never_a_number_ends_in_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gkd_plugin.training.evaluation.Predictions.metrics", lambda self, kind: {"accuracy": math.nan})
    with (
        Driven(optim={"max_epoch": 2}) as trainer,
        pytest.raises(RunFailed, match="accuracy was not a number on the validation split in any epoch.*metric_best"),
    ):
        trainer.run(1)
