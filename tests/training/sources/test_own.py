"""Source ``self``: the learner's own forward pass, detached; nothing is run for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from gkd_plugin.commands.check import check
from tests import toy
from tests.running import Driven, compare, single

pytestmark = pytest.mark.usefixtures("toy_data")


def test_deeper_layers_of_the_same_pass_teach_and_get_no_gradient() -> None:
    keys = {"kd_feature": {"weight": 1.0, "source": "self", "tap": "layer", "layer_map": "last"}}
    with Driven(gnn={"layers_mp": 3}, **keys) as trainer:
        student, calls = trainer.students[0], []
        student.model.module.register_forward_hook(lambda *_: calls.append(1))
        own = student.model.observe(single(trainer), ("layer",))
        trainer.updates.begin_epoch(0)
        members = student.objective.members(0)
        assert trainer.sources.observe(1, members, single(trainer)) == {} and calls == [1]
        taught = trainer.sources.add_own({}, own, members)
        total, values, _ = student.objective(own.logits.new_zeros(()), own, taught, 0)
        states = own.hidden["layer"]
        by_hand = sum(functional.mse_loss(states[row], states[2].detach()) for row in (0, 1))
        torch.testing.assert_close(total, by_hand)
        ours = torch.autograd.grad(total, states[2], retain_graph=True, allow_unused=True)
        assert ours == (None,) and float(values["kd_feature"]) > 0


def test_a_sharpened_target_is_the_pass_with_its_dropout() -> None:
    keys = {"kd_response": {"weight": 1.0, "source": "self", "sharpen": 0.5, "nodes": "all"}}
    with Driven(**keys) as trainer:
        trainer.students[0].model.module.train()
        own, targets, values = compare(trainer)
        assert targets == {}
        q, p = (own.logits / 0.5).softmax(-1), own.logits.log_softmax(-1)
        expected = (q * (q.log() - p)).sum(-1).mean()
        torch.testing.assert_close(values["kd_response"], expected.detach())


@pytest.mark.parametrize(
    "groups",
    [
        {"kd_response": {"weight": 1.0, "source": "self"}},
        {"kd": {"preset": "self_st"}, "kd_response": {"loss": "mse"}},  # which drops what the preset changes
    ],
)
def test_logits_that_are_not_changed_cannot_teach_themselves(groups: dict[str, Any], tmp_path: Path) -> None:
    (checked,) = check(toy.values(tmp_path, **groups))
    (problem,) = checked.problems
    assert problem.key == "kd_response.source" and "cannot teach themselves" in problem.found
    assert "kd_response.sharpen" in problem.allowed and "self" not in problem.allowed
