"""What a finished run says: test scores at the epochs that validation selected."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

RESULT = "result.json"  # its presence in a seed's folder marks the run as finished


@dataclass(frozen=True)
class Score:
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
        teacher (dict): The teacher's ``name``, its validation score ``val`` in its own ``metric``, the file ``from``
            which that is, and its ``test`` score in the metric that selects; empty where nobody listens to one.
        agreement (dict): For each answer the share of test items on which it decides as the teacher does; empty without
            a teacher, for regression and edge tasks, and in results of earlier versions.
    """

    seed: int
    metric: str
    better: bool
    predict: str
    answers: dict[str, Score]
    parameters: list[int]
    best_student: int
    epochs: int
    seconds: float
    warnings: tuple[str, ...] = ()
    teacher: dict[str, Any] = field(default_factory=dict)
    agreement: dict[str, float] = field(default_factory=dict)

    @property
    def answer(self) -> Score:
        """What the ``predict`` rule answers."""
        return self.answers[self.predict]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as they stand in ``result.json``."""
        values = asdict(self)
        for name in ("teacher", "agreement"):
            if not values[name]:
                del values[name]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunResult:
        """Reads what :meth:`as_dict` gave."""
        late = ("warnings", "teacher", "agreement")  # results may lack them
        known = {key: values[key] for key in cls.__dataclass_fields__ if key not in late}
        known["warnings"] = tuple(values.get("warnings", ()))
        known |= {key: dict(values.get(key, {})) for key in late[1:]}
        known["answers"] = {name: Score(**answer) for name, answer in values["answers"].items()}
        return cls(**known)
