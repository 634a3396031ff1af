"""Asynchronous successive halving: all points train for few epochs, and the best third of them for three times as many.

"A System for Massively Parallel Hyperparameter Tuning" (https://arxiv.org/abs/1810.05934). A search without it is the same
with a single step.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from gkd_plugin.errors import UserError
from gkd_plugin.study.points import Point

ETA, STEPS = 3, 3
LEAST = ETA ** (STEPS - 1)  # points until the first has all epochs
_EPOCHS = "optim.max_epoch"


@dataclass
class Candidate:
    """A point that was proposed, and how far it has come.

    Args:
        point (Point): The point, with all epochs.
        proposals (list of int): The numbers under which it was proposed.
        step (int): Where it stands: the index of its present number of epochs.
        scores (dict): Its score at each step that it has finished; larger is better.
        running (bool): Whether it is being trained.
        failed (bool): Whether it failed.
    """

    point: Point
    proposals: list[int] = field(default_factory=list)
    step: int = 0
    scores: dict[int, float] = field(default_factory=dict)
    running: bool = False
    failed: bool = False

    @property
    def waits(self) -> bool:
        """Whether it has finished the step on which it stands."""
        return not self.running and not self.failed and self.step in self.scores


def make_steps(halving: bool, epochs: int, runs: int | None, dimensions: Iterable[str]) -> tuple[int | None, ...]:
    """The number of epochs of each step; ``None`` for all.

    Args:
        halving (bool): Whether there are several.
        epochs (int): All epochs.
        runs (int, optional): How many points there are to be.
        dimensions (iterable of str): The keys of the space.

    Raises:
        UserError: If there are too few epochs or points, or the epochs are searched.
    """
    if not halving:
        return (None,)
    if _EPOCHS in dimensions:
        raise UserError(f"--method halving chooses {_EPOCHS}, so the space cannot. Remove it, or take another method.")
    if epochs < LEAST:
        raise UserError(f"--method halving begins with {_EPOCHS} / {LEAST}, and that is {epochs}. Train longer.")
    if runs is not None and runs < LEAST:
        raise UserError(
            f"--method halving needs at least --runs {LEAST}: of {LEAST} points {ETA} go on, and one of them has all epochs."
        )
    return (*(epochs // ETA**step for step in range(STEPS - 1, 0, -1)), None)


def shorten(point: Point, epochs: int | None) -> Point:
    """A point with fewer epochs: a run of its own, since schedules follow the number of epochs.

    Args:
        point (Point): The point.
        epochs (int, optional): The epochs; ``None`` for all.
    """
    if epochs is None:
        return point
    values = {**point.values, "optim": {**(point.values.get("optim") or {}), "max_epoch": epochs}}
    return replace(point, name=f"{point.name}-epochs={epochs}", values=values, epochs=epochs)


def choose_promotion(candidates: Sequence[Candidate], steps: int) -> Candidate | None:
    """The candidate that goes on: the best that is among the best third of its step, at the highest step that has one.

    Args:
        candidates (sequence of Candidate): All candidates.
        steps (int): The number of steps.
    """
    for step in range(steps - 2, -1, -1):
        ended = sorted((c for c in candidates if step in c.scores), key=lambda c: -c.scores[step])
        for candidate in ended[: len(ended) // ETA]:
            if candidate.step == step and candidate.waits:
                return candidate
    return None


def count_runs(points: int, steps: int) -> int:
    """About how many runs so many points come to."""
    return sum(points // ETA**step for step in range(steps))
