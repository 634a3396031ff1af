"""Source ``self``: a network's own deeper layers or final logits, from the same forward pass, teach it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from gkd_plugin.models.sample import Sample
from gkd_plugin.plan import Plan
from gkd_plugin.space.answers import Source
from gkd_plugin.space.observation import Outline
from gkd_plugin.space.sources import SourceModel

NAME = "self"


class Self(SourceModel):
    """The learner's own forward pass, detached; the loop hands it over, nothing is run for it."""

    within: ClassVar[bool] = True

    def outline(self, member: str, learner: int, sample: Sample, taps: Iterable[str]) -> Outline:
        raise RuntimeError("the learner has its own outline")

    @classmethod
    def describe(cls, plan: Plan) -> str:
        return "the student's own deeper layer, detached"


SOURCE = Source(
    lambda learner, students: (NAME,),
    "the learner's own later layers or final head, detached",
    "BYOT (arXiv 1905.08094)",
    model=Self,
)
