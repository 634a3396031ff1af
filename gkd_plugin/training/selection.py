"""Which epoch answers: the first with the best validation score, for each student and for the ensemble."""

from __future__ import annotations

from collections.abc import Mapping
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
