"""Who teaches."""

from __future__ import annotations

from gkd_plugin.space.answers import Source


def _peers(learner: int, students: int) -> tuple[int | str, ...]:
    return tuple(number for number in range(1, students + 1) if number != learner)


def _self(learner: int, students: int) -> tuple[int | str, ...]:
    return ("self",)


def _teacher(learner: int, students: int) -> tuple[int | str, ...]:
    return ("teacher",)


SOURCES: dict[str, Source] = {
    "peers": Source(_peers, "students trained together, each by all others", "Alignahead (arXiv 2205.02468)", 2),
    "self": Source(_self, "the learner's own later layers or final head, detached", "BYOT (arXiv 1905.08094)"),
    "teacher": Source(_teacher, "a model trained before, frozen", "Hinton et al. (arXiv 1503.02531)"),
}
