"""Source ``peers``: students that are trained together teach one another."""

from __future__ import annotations

from gkd_plugin.space.answers import Member, Source

NAME = "peers"


def list_others(learner: int, students: int) -> tuple[Member, ...]:
    """All students but the learner."""
    return tuple(number for number in range(1, students + 1) if number != learner)


SOURCE = Source(list_others, "the other students, trained at the same time", "Alignahead (arXiv 2205.02468)", 2)
