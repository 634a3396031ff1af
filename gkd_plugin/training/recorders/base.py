"""What everything that writes down how a run goes has in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from gkd_plugin.training.result import RunResult
from gkd_plugin.training.students import Student


class Recorder:
    """Observes a run. Every method is optional."""

    def asks_step(self, epoch: int, student: Student) -> bool:
        """Whether it wants to see the next step of a student."""
        return False

    def see_step(
        self, epoch: int, student: Student, gradients: Mapping[str, Tensor], values: Mapping[str, float]
    ) -> None:
        """Called in a step with an active term that it asked for, before the optimizer moves.

        Args:
            epoch (int): The epoch.
            student (Student): The learner.
            gradients (mapping): The gradient of each weighted term, and of the label loss (``task``) where it counts, as one
                vector of all weights of the network.
            values (mapping): What the rows of the run say of this step.
        """

    def see_evaluation(self, epoch: int, students: Sequence[Student]) -> None:
        """Called after every evaluation."""

    def see_scores(self, epoch: int, values: Mapping[str, float]) -> None:
        """Called after every evaluation has been written.

        Args:
            epoch (int): The epoch.
            values (mapping): ``train/loss`` and ``val/<column>``.
        """

    def columns(self, student: Student) -> Mapping[str, float]:
        """Further columns of a student's validation row."""
        return {}

    def resume(self, done: int) -> None:
        """Drops the rows of epochs that will be trained again."""

    def warnings(self) -> Iterator[str]:
        """What it found that the user should know, at the end of the run."""
        return iter(())

    def finish(self, result: RunResult) -> None:
        """Called once, after the run."""

    def stop(self) -> None:
        """Called instead, where the run was interrupted or failed."""
