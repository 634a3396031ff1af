"""What a finished run says: test scores at the epochs that validation selected."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gkd_plugin.errors import UserError, describe_damage
from gkd_plugin.printing import HANDED

RESULT = "result.json"  # its presence in a seed's folder marks the run as finished
REMEDY = "Remove it and train that seed again."


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

    @classmethod
    def mean(cls, scores: Sequence[Score]) -> Score:
        """The mean over students, each at its own epoch."""
        count = len(scores)
        return cls(
            sum(score.epoch for score in scores) / count,
            sum(score.val for score in scores) / count,
            sum(score.test for score in scores) / count,
        )


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
        parameters (list of int): Parameters of each student; without heads and projections.
        best_student (int): The student with the best validation score.
        epochs (int): Epochs trained.
        seconds (float): Time of the training loop.
        warnings (tuple of str): What the run showed to be probably a mistake.
        teacher (dict): The teacher's ``name``, the ``class`` of one that was handed over in Python, its validation score ``val`` in its own ``metric``, the file ``from``
            which that is, and its ``test`` score in the metric that selects; empty where no term listens to one.
        agreement (dict): For each answer the share of test items on which it decides as the teacher does; empty without
            a teacher, for regression and edge tasks, and in results of earlier versions.
        depends (dict): The sha256 of what the result depends on beside its configuration: ``data`` (its tensors, masks
            too) and ``teachers`` by name; empty in results of earlier versions.
        stacked (int): The largest number of networks that ran in one pass with one of its students (``kd.stack``).
        protocol (dict): Where nodes were held out of training (``splits.protocol``): its ``name``, how many were ``held_out``
            of the nodes ``tested``, and under ``parts`` the test scores of each answer (and of the ``teacher``) on ``transductive``
            and ``inductive`` nodes, where both are tested.
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
    depends: dict[str, Any] = field(default_factory=dict)
    stacked: int = 1
    protocol: dict[str, Any] = field(default_factory=dict)

    @property
    def answer(self) -> Score:
        """What the ``predict`` rule answers."""
        return self.answers[self.predict]

    @property
    def answering(self) -> tuple[int, ...]:
        """The numbers of the students that answer: all of an ensemble, otherwise one."""
        if self.predict == "ensemble":
            return tuple(range(1, len(self.parameters) + 1))
        return (1,) if self.predict == "first" else (self.best_student,)

    @property
    def single(self) -> int:
        """The one student that is kept of a cohort: the one that answers; of an ensemble, the best by validation."""
        return self.answering[0] if len(self.answering) == 1 else self.best_student

    @property
    def teacher_name(self) -> str | None:
        """The teacher as a reader knows it: a run's or file's name, or the class of what was handed over in Python."""
        title = self.teacher.get("class")
        return self.teacher.get("name") if title is None else f"{title} ({HANDED})"

    def part(self, answer: str, nodes: str) -> float:
        """The test score of an answer on ``transductive`` or ``inductive`` nodes; NaN where there is none."""
        return float(self.protocol.get("parts", {}).get(answer, {}).get(nodes, float("nan")))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as in ``result.json``; ``None`` for a missing number."""
        values = asdict(self)
        for name in ("teacher", "agreement", "depends", "protocol"):
            if not values[name]:
                del values[name]
        if self.stacked == 1:
            del values["stacked"]
        found: dict[str, Any] = replace_nan(values)
        return found

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunResult:
        """Reads what :meth:`as_dict` gave."""
        late = ("warnings", "teacher", "agreement", "depends", "stacked", "protocol")  # results may lack them
        known = {key: values[key] for key in cls.__dataclass_fields__ if key not in late}
        known["warnings"] = tuple(values.get("warnings", ()))
        known |= {key: dict(values.get(key, {})) for key in ("teacher", "agreement", "depends", "protocol")}
        known["stacked"] = values.get("stacked", 1)
        known["answers"] = {name: Score(**_restore_nan(answer)) for name, answer in values["answers"].items()}
        known["teacher"] = _restore_nan(known["teacher"])
        if "parts" in known["protocol"]:
            parts = known["protocol"]["parts"].items()
            known["protocol"]["parts"] = {answer: _restore_parts(scores) for answer, scores in parts}
        return cls(**known)

    def check(self) -> None:
        """Checks what was read from a file of any origin.

        Raises:
            ValueError: If a value is of another kind, or values do not go together.
        """
        for name in ("seed", "epochs", "best_student", "stacked"):
            _require(name, getattr(self, name), int)
        for name in ("metric", "predict"):
            _require(name, getattr(self, name), str)
        _require("better", self.better, bool)
        _require("seconds", self.seconds, int, float)
        _require("parameters", self.parameters, list)
        for part in self.parameters:
            _require("parameters", part, int)
        for warning in self.warnings:
            _require("warnings", warning, str)
        for name, score in self.answers.items():
            for key, value in asdict(score).items():
                _require(f"answers.{name}.{key}", value, int, float)
        for name, share in self.agreement.items():
            _require(f"agreement.{name}", share, int, float)
        if self.protocol:
            _require("protocol.name", self.protocol.get("name"), str)
            for name in ("held_out", "tested"):
                _require(f"protocol.{name}", self.protocol.get(name), int)
            _require("protocol.parts", self.protocol.get("parts", {}), dict)
        for name in ("val", "test"):
            _require(f"teacher.{name}", self.teacher.get(name, 0.0), int, float)
        for name in ("name", "class", "metric", "from"):
            _require(f"teacher.{name}", self.teacher.get(name, ""), str)
        if not 1 <= self.best_student <= len(self.parameters):
            raise ValueError(f"best_student is {self.best_student} of {len(self.parameters)}")
        singles = [f"s{number}" for number in range(1, len(self.parameters) + 1)]
        missing = [name for name in (*singles, "mean", "first", "best", self.predict) if name not in self.answers]
        if missing:
            raise ValueError(f"answers lack {', '.join(missing)}")


def replace_nan(value: Any) -> Any:
    """JSON has no NaN; missing values are null."""
    if isinstance(value, dict):
        return {key: replace_nan(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [replace_nan(part) for part in value]
    return None if value != value else value


def _restore_nan(values: dict[str, Any]) -> dict[str, Any]:
    missing: dict[str, Any] = {key: float("nan") for key in ("val", "test") if key in values and values[key] is None}
    return {**values, **missing}


def _restore_parts(scores: dict[str, Any]) -> dict[str, float]:
    return {part: float("nan") if score is None else float(score) for part, score in scores.items()}


def _require(name: str, value: object, *kinds: type) -> None:
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise ValueError(f"{name} is {value!r:.50}")


def read_result(folder: Path) -> RunResult | None:
    """The result of one seed's folder, or ``None`` where it is not finished.

    Args:
        folder (Path): The seed's folder.

    Raises:
        UserError: If the file is not one of ours, or damaged.
    """
    path = folder / RESULT
    if not path.is_file():
        return None
    try:
        result = RunResult.from_dict(json.loads(path.read_text()))
        result.check()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{path} is not a result of gkd_plugin, or it is damaged ({describe_damage(error)}). {REMEDY}"
        ) from None
    return result
