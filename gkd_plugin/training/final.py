"""The end of a run: every answer on the test split with the weights of its selected epoch, once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gkd_plugin.models.rng import RandomStreams
from gkd_plugin.training.batches import SplitLoader
from gkd_plugin.training.evaluation import Predictions, ensemble
from gkd_plugin.training.scoring import TeacherScores
from gkd_plugin.training.selection import Best, copy_state
from gkd_plugin.training.students import Student


def final_scores(
    students: Sequence[Student],
    bests: Mapping[str, Best],
    feed: SplitLoader,
    streams: RandomStreams,
    beside: TeacherScores,
) -> tuple[dict[str, Predictions], dict[str, Predictions]]:
    """What every answer gives on the test split, and what the teacher gives on the same batches.

    Args:
        students (sequence of Student): The cohort; its weights are afterwards what they were.
        bests (mapping): The selected weights of every answer.
        feed (SplitLoader): The test split.
        streams (RandomStreams): The run's streams.
        beside (TeacherScores): The teacher.
    """
    last = [copy_state(student.model.module.state_dict()) for student in students]
    tests: dict[str, Predictions] = {}
    told: dict[str, Predictions] = {}
    with streams.use("test"):
        for student in students:
            name = f"s{student.number}"
            student.model.module.load_state_dict(bests[name].states[0])
            tests[name], told[name] = beside.evaluate(student.model, feed, "test")
        if "ensemble" in bests:
            members = []
            for student, state in zip(students, bests["ensemble"].states, strict=True):
                student.model.module.load_state_dict(state)
                ours, told["ensemble"] = beside.evaluate(student.model, feed, "test")
                members.append(ours)
            tests["ensemble"] = ensemble(members, beside.kind)
    for student, state in zip(students, last, strict=True):
        student.model.module.load_state_dict(state)
    return tests, told
