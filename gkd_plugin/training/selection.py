"""Which epoch answers: the first with the best validation score, for each student and for the ensemble."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

State = dict[str, Tensor]


def copy_state(state: Mapping[str, Tensor]) -> State:
    """Weights that later steps do not reach."""
    return {name: value.detach().clone() for name, value in state.items()}


@dataclass
class Best:
    """The best epoch of one answer (a student, or the ensemble) so far.

    Args:
        better (bool): Whether more is better.
        epoch (int): The first epoch with the best score; -1 before any evaluation.
        score (float): That score, rounded as it is written.
        states (list): The weights at that epoch: one student's, or every student's for the ensemble.
    """

    better: bool
    epoch: int = -1
    score: float = float("nan")
    states: list[State] = field(default_factory=list, repr=False)

    def improves(self, score: float) -> bool:
        """Whether a score beats the best; the first of equal ones stays."""
        if score != score:
            return False
        return self.epoch < 0 or (score > self.score if self.better else score < self.score)

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints."""
        return {"epoch": self.epoch, "score": self.score, "states": self.states}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what :meth:`state_dict` returned."""
        self.epoch, self.score, self.states = int(state["epoch"]), float(state["score"]), list(state["states"])


ENSEMBLE = "ensemble"


def rank(score: float, better: bool) -> float:
    """A score as a number of which more is better; one that is no number is worst."""
    value = score if better else -score
    return value if value == value else float("-inf")


class Selection:
    """Which epoch and which student answer, by validation: the best epoch of every student and of the ensemble.

    Args:
        students (int): Number of students.
        predict (str): ``kd.predict``: ``first``, ``ensemble``, or any other word for the best student.
    """

    def __init__(self, students: int, predict: str) -> None:
        self.students, self.predict = students, predict
        self.metric, self.better = "", True  # known from the first evaluation on
        self.bests: dict[str, Best] = {}
        self.stale = 0  # evaluations since the answer last got better
        self.leader = 1  # the student whose rows are the main ones

    def begin(self, metric: str, better: bool) -> None:
        """Sets the metric that selects."""
        self.metric, self.better = metric, better
        names = [*map(name_of, range(1, self.students + 1)), *([ENSEMBLE] if self.students > 1 else [])]
        self.bests = {name: Best(better) for name in names}

    def update(self, epoch: int, scores: Mapping[str, float], copy: Callable[[str], list[State]]) -> None:
        """Keeps the weights of every answer that got better.

        Args:
            epoch (int): The epoch.
            scores (mapping): The validation score of every answer.
            copy (callable): ``copy(name)`` gives the weights behind an answer.
        """
        before = (self.answer.epoch, self.answer.score)
        for name, value in scores.items():
            if self.bests[name].improves(value):
                self.bests[name] = Best(self.better, epoch, value, copy(name))
        if self.predict not in ("first", ENSEMBLE):
            self.leader = self._find_best({n: rank(v, self.better) for n, v in scores.items()})
        self.stale = 0 if (self.answer.epoch, self.answer.score) != before else self.stale + 1

    def _find_best(self, ranks: Mapping[str, float]) -> int:
        """The student with the highest rank, the first of equal ones."""
        return max(range(1, self.students + 1), key=lambda number: ranks[name_of(number)])

    @property
    def best_student(self) -> int:
        """The student with the best validation score."""
        ranks = {n: rank(b.score, self.better) if b.epoch >= 0 else float("-inf") for n, b in self.bests.items()}
        return self._find_best(ranks)

    @property
    def answering(self) -> str:
        """The name of the answer that ``kd.predict`` asks for."""
        if self.predict == "first" or self.students == 1:
            return name_of(1)
        return ENSEMBLE if self.predict == ENSEMBLE else name_of(self.best_student)

    @property
    def answer(self) -> Best:
        """Its best epoch so far."""
        return self.bests[self.answering]

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints."""
        return {
            "metric": [self.metric, self.better],
            "bests": {name: best.state_dict() for name, best in self.bests.items()},
            "stale": self.stale,
            "leader": self.leader,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Puts back what :meth:`state_dict` gave."""
        metric, better = state["metric"]
        if metric:
            self.begin(str(metric), bool(better))
        for name, best in state["bests"].items():
            self.bests[name].load_state_dict(best)
        self.stale, self.leader = int(state["stale"]), int(state["leader"])


def name_of(student: int) -> str:
    """The name of a student's own answer: ``s1``, ``s2``, ..."""
    return f"s{student}"


def mean_score(scores: list[Tensor], kind: str) -> Tensor:
    """The ensemble's score: the mean of probabilities, in the form the host's metrics read.

    Args:
        scores (list of Tensor): Each student's scores as ``compute_loss`` returns them.
        kind (str): The host's task type; multi-class scores are log-probabilities.
    """
    stacked = torch.stack(scores)
    if stacked.dim() == 3 and kind == "classification_multi":
        mean: Tensor = stacked.exp().mean(0).log()
        return mean
    return stacked.mean(0)
