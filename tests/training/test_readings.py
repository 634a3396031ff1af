"""One reading serves for as long as weights, batch, taps and mode stay the same, and no longer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from gkd_plugin.models.sample import Sample
from gkd_plugin.training.readings import Readings
from gkd_plugin.training.trainer import Trainer
from tests.running import Driven, single

pytestmark = pytest.mark.usefixtures("work_folder")


@pytest.fixture
def trainer() -> Iterator[Trainer]:
    with Driven(kd={"students": 2}) as driven:
        yield driven


def readings_of(trainer: Trainer, train_mode: bool = False) -> Readings:
    made = Readings([student.model for student in trainer.students], trainer.streams, train_mode)
    made.begin_epoch(("layer",))
    return made


def another(trainer: Trainer) -> Sample:
    batch = single(trainer).batch.clone()
    batch.x = batch.x + 1.0
    return Sample(batch, single(trainer).task)


def draw_in_every_pass(trainer: Trainer) -> None:
    for student in trainer.students:
        student.model.module.register_forward_pre_hook(lambda *_: torch.rand(1) and None)


def test_it_serves_again_and_for_fewer_taps(trainer: Trainer) -> None:
    readings, sample = readings_of(trainer), single(trainer)
    first = readings.read_peer(2, sample)
    assert readings.read_peer(2, sample) is first
    readings.begin_epoch(())
    assert readings.read_peer(2, sample) is first
    readings.note_change(1)
    assert readings.read_peer(2, sample) is first, "another student's step"
    assert readings.read_peer(1, sample) is not first
    assert readings.evaluate(2, sample, ()) is first, "one forward pass for the scores and the peers"


def test_it_is_void_for_more_taps_other_weights_or_another_batch(trainer: Trainer) -> None:
    readings, sample = readings_of(trainer), single(trainer)
    first = readings.read_peer(2, sample)
    assert set(first.hidden) == {"layer"}
    readings.begin_epoch(("conv", "layer"))
    more = readings.read_peer(2, sample)
    assert more is not first and set(more.hidden) == {"conv", "layer"}
    assert readings.evaluate(2, sample, ("stage",)).hidden.keys() == {"conv", "layer", "stage"}
    moved = more
    for _ in range(3):
        for parameter in trainer.students[1].model.module.parameters():
            parameter.data.add_(0.1)
        readings.note_change(2)
        before, moved = moved, readings.read_peer(2, sample)
        assert not torch.equal(moved.logits, before.logits)
    other = readings.read_peer(2, another(trainer))
    assert not torch.equal(other.logits, moved.logits)
    assert torch.equal(readings.evaluate(2, sample, ()).logits, moved.logits)


@pytest.mark.parametrize("train_mode", [False, True])
def test_training_and_evaluation_mode_are_told_apart(train_mode: bool, trainer: Trainer) -> None:
    """With dropout 0.5 they differ; a peer in training mode is drawn once for all who listen to it."""
    readings, sample = readings_of(trainer, train_mode), single(trainer)
    evaluated = readings.read_evaluated(2, sample)
    peer = readings.read_peer(2, sample)
    assert torch.equal(peer.logits, evaluated.logits) != train_mode
    assert readings.read_peer(2, sample) is peer
    assert torch.equal(readings.read_evaluated(2, sample).logits, evaluated.logits)
    assert torch.equal(readings.evaluate(2, sample, ()).logits, evaluated.logits)


@pytest.mark.parametrize("draws", [False, True])
def test_what_was_drawn_lasts_one_epoch_and_is_never_a_score(draws: bool, trainer: Trainer) -> None:
    if draws:
        draw_in_every_pass(trainer)
    readings, sample = readings_of(trainer), single(trainer)
    first = readings.read_peer(2, sample)
    assert readings.read_peer(2, sample) is first
    assert (readings.evaluate(2, sample, ()) is first) != draws
    kept = readings.read_peer(2, sample)
    readings.begin_epoch(("layer",))
    assert (readings.read_peer(2, sample) is kept) != draws


def test_what_stands_in_a_student_s_place_is_never_kept(trainer: Trainer) -> None:
    readings, sample = readings_of(trainer), single(trainer)
    instead: Any = trainer.students[0].model
    first = readings.evaluate(2, sample, (), instead)
    assert readings.evaluate(2, sample, (), instead) is not first
    assert torch.equal(first.logits, readings.read_peer(1, sample).logits)
    assert not torch.equal(readings.read_peer(2, sample).logits, first.logits)
