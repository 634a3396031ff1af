"""What a finished run says: test scores at the epochs that validation selected."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

RESULT = "result.json"  # its presence in a seed's folder marks the run as finished


@dataclass(frozen=True)
class Answer:
    """One answer of a cohort at its selected epoch.

    Args:
        epoch (int): The first epoch with the best validation score.
        val, test (float): The selecting metric there; ``test`` is NaN where there is no test split.
    """

    epoch: float
    val: float
    test: float


@dataclass(frozen=True)
class RunResult:
    """One seed's result.

    Args:
        seed (int): The seed.
        metric (str): The metric that selects.
        better (bool): Whether more of it is better.
        predict (str): The rule that answers (``best``, ``first``, ``ensemble``).
        answers (dict): ``s1`` ... ``sM``, ``mean`` (over students, each at its own epoch), ``best``, ``first`` and,
            with several students, ``ensemble``.
        parameters (list of int): Parameters of each student; heads and projections are none of them.
        best_student (int): The student with the best validation score.
        epochs (int): Epochs trained.
        seconds (float): Time of the training loop.
        warnings (tuple of str): What the run showed to be hardly meant.
    """

    seed: int
    metric: str
    better: bool
    predict: str
    answers: dict[str, Answer]
    parameters: list[int]
    best_student: int
    epochs: int
    seconds: float
    warnings: tuple[str, ...] = ()

    @property
    def answer(self) -> Answer:
        """What the ``predict`` rule answers."""
        return self.answers[self.predict]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as they stand in ``result.json``."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunResult:
        """Reads what :meth:`as_dict` gave."""
        known = {key: values[key] for key in cls.__dataclass_fields__ if key != "warnings"}
        known["warnings"] = tuple(values.get("warnings", ()))
        known["answers"] = {name: Answer(**answer) for name, answer in values["answers"].items()}
        return cls(**known)
