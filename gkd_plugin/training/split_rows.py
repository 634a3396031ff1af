"""The rows of a run, one for each epoch and split, as the host's aggregation reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from gkd_plugin.errors import RunFailed
from gkd_plugin.models.sample import SPLITS
from gkd_plugin.training.evaluation import Predictions
from gkd_plugin.training.metrics import cut_rows
from gkd_plugin.training.selection import Selection
from gkd_plugin.training.students import Student


class Log(Protocol):
    """What the loop asks of a logger: the host's methods, which every fork's own class has too."""

    out_dir: Any

    def update_stats(self, **values: Any) -> None: ...

    def write_epoch(self, epoch: int) -> Any: ...


def shorten(value: float) -> float:
    """A number of a row with six digits; rounding error below 0 is 0, and no -0.0."""
    return round(value, 6) + 0.0


class SplitRows:
    """Writes the rows of a cohort through the program's loggers.

    Args:
        logs (sequence of Log): A logger for each split; empty for none.
        students (sequence of Student): The cohort.
        selection (Selection): Who leads: whose metrics stand in the host's own columns.
        may_stop (bool): Whether the run may end early; its rows then have a column ``stopped``.
    """

    def __init__(self, logs: Sequence[Log], students: Sequence[Student], selection: Selection, may_stop: bool) -> None:
        self.logs, self.students, self.selection, self.may_stop = list(logs), students, selection, may_stop
        self.parameters = [sum(p.numel() for p in student.model.module.parameters()) for student in students]
        self._last: dict[int, list[dict[str, Any]]] = {}

    def mark(self, stopped: float) -> dict[str, float]:
        """The column ``stopped``, where there is one."""
        return {"stopped": stopped} if self.may_stop else {}

    def write_training(self, epoch: int, trained: Sequence[Predictions], seconds: float) -> None:
        """The row of an epoch of training.

        Args:
            epoch (int): Which.
            trained (sequence of Predictions): What each student answered on the way.
            seconds (float): How long it took.
        """
        extras = self.mark(0.0)
        for student, outcome in zip(self.students, trained, strict=True):
            if len(trained) > 1:
                extras[f"s{student.number}_loss"] = shorten(outcome.loss)
            extras |= {f"s{student.number}_{name}": shorten(v) for name, v in outcome.mean_extras().items()}
        self.write(0, epoch, trained[self.selection.leader - 1], extras, seconds)

    def write(
        self, split: int, epoch: int, outcome: Predictions, extras: Mapping[str, float], seconds: float = 0.0
    ) -> None:
        """The row of an epoch and a split.

        Args:
            split (int): 0 for training, 1 for validation, 2 for the test.
            epoch (int): Which.
            outcome (Predictions): What is measured.
            extras (mapping): Further columns.
            seconds (float): How long it took.

        Raises:
            RunFailed: If no batch has ever had an item of the split.
        """
        rows = self._list_batches(outcome, seconds, extras)
        if not any(len(row["true"]) for row in rows):  # sampled batches without an item of the split
            rows = self._find_last(split, epoch)
        self._put(split, epoch, rows)

    def pad(self, epoch: int, epochs: int, is_due: Callable[[int], bool]) -> None:
        """The last rows again for every epoch after one in which the run stopped, marked as such.

        The host's aggregation wants seeds of equal length.
        """
        for later in range(epoch + 1, epochs):
            for split in (0, 1):
                if split == 0 or is_due(later):
                    self._put(split, later, [{**row, **self.mark(1.0)} for row in self._last[split]])

    def cut(self, epochs: int) -> None:
        """Drops rows from an epoch on; the test row comes last of all, so any goes."""
        for split, log in enumerate(self.logs):
            cut_rows(log, epochs if split < 2 else 0)

    def _list_batches(self, outcome: Predictions, seconds: float, extras: Mapping[str, float]) -> list[dict[str, Any]]:
        leader = self.students[self.selection.leader - 1]
        rate = leader.scheduler.get_last_lr()[0]
        rows = zip(outcome.true, outcome.score, outcome.losses, strict=True)
        return [
            {
                "true": true,
                "pred": values,
                "loss": loss,
                "lr": rate,
                "time_used": seconds / max(len(outcome.true), 1),
                "params": self.parameters[leader.number - 1],
                **extras,
            }
            for true, values, loss in rows
        ]

    def _put(self, split: int, epoch: int, rows: list[dict[str, Any]]) -> None:
        self._last[split] = rows
        if len(self.logs) > split:
            for row in rows:
                self.logs[split].update_stats(**row)
            self.logs[split].write_epoch(epoch)

    def _find_last(self, split: int, epoch: int) -> list[dict[str, Any]]:
        """The rows before these: the host's aggregation wants a row of numbers for every epoch."""
        if split not in self._last:
            raise RunFailed(
                f"epoch {epoch}: no batch holds an item of the {SPLITS[split]} split. Take larger samples (train.sampler, "
                "train.batch_size)."
            )
        return self._last[split]
