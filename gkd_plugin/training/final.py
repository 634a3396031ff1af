"""The end of a run: every answer on the test split with the weights of its selected epoch, once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gkd_plugin.models.streams import Streams
from gkd_plugin.training.beside import Beside
from gkd_plugin.training.cohort import Student
from gkd_plugin.training.evaluation import Outcome, ensemble
from gkd_plugin.training.feeds import Feed
from gkd_plugin.training.selection import Best, copy_state


def final_scores(
    students: Sequence[Student], bests: Mapping[str, Best], feed: Feed, streams: Streams, beside: Beside
) -> tuple[dict[str, Outcome], dict[str, Outcome]]:
    """What every answer gives on the test split, and what the teacher gives on the same batches.

    Args:
        students (sequence of Student): The cohort; its weights are afterwards what they were.
        bests (mapping): The selected weights of every answer.
        feed (Feed): The test split.
        streams (Streams): The run's streams.
        beside (Beside): The teacher.
    """
    last = [copy_state(student.model.module.state_dict()) for student in students]
    tests: dict[str, Outcome] = {}
    told: dict[str, Outcome] = {}
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
