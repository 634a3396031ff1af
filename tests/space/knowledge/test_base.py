"""What a term's methods give is checked before the layer map's weights are multiplied with it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from gkd_plugin.errors import UserError
from gkd_plugin.plan import GroupPlan
from gkd_plugin.space.knowledge.base import LayerTerm
from gkd_plugin.space.observation import Observation, Outline, Task

OUTLINE = Outline(2, {"conv": (2, 2)}, 3)


class Gap(LayerTerm):
    name, summary, reference = "gap", "what a test asks for", "a test"

    def __init__(self, answer: Any, several: bool) -> None:
        group = GroupPlan("gap", {"weight": 1.0, "layer_reduction": "sum", "tap": "conv"}, True, ())
        super().__init__(group, OUTLINE, OUTLINE, Task("node", "multiclass"))
        self.answer, self.several = answer, several

    def distance(self, learner: Observation, source: Observation, row: int, column: int) -> Tensor:
        found: Tensor = self.answer
        return found

    def distances(self, learner: Observation, source: Observation, pairs: Any) -> Tensor:
        return self.answer if self.several else super().distances(learner, source, pairs)


def value(answer: Any, several: bool = False) -> Tensor:
    seen: Any = type("Seen", (), {"logits": torch.zeros(4, 3)})()
    found = Gap(answer, several)(seen, seen, torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
    assert isinstance(found, Tensor)
    return found


def test_one_number_for_a_pair_is_weighed() -> None:
    assert value(torch.tensor(3.0)) == 9 and value(torch.tensor([3.0, 5.0]), True) == 13


@pytest.mark.parametrize(
    ("answer", "several", "said"),
    [
        (torch.ones(4, 2), False, r"distance gives the shape \[4, 2\]. It must give one number"),  # would be broadcast
        (torch.ones(2), False, r"distance gives the shape \[2\]"),
        (1.5, False, "distance gives float"),
        (torch.ones(2, 2), True, r"distances gives the shape \[2, 2\]. It must give \[2\], one a pair"),
        (torch.tensor(1.0), True, r"distances gives the shape \[\]"),
    ],
)
def test_anything_else_is_refused(answer: Any, several: bool, said: str) -> None:
    with pytest.raises(UserError, match=f"knowledge 'gap': {said}"):
        value(answer, several)
