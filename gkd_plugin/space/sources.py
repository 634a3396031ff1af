"""Who teaches: the members of a source, and the models behind those that are not students.

A member is a student's number (from 1) or the name of a source that has a model of its own. A source may name members of
another source: one that returns ``("teacher",)`` listens to the very model that the source ``teacher`` does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from gkd_plugin.errors import UserError, describe_error, nearest
from gkd_plugin.plan import GroupPlan, Part, Plan
from gkd_plugin.space import axes
from gkd_plugin.space.answers import Member, Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gkd_plugin.space.observation import Observation, Outline, Task


class SourceModel:
    """The model behind a source's own member: one object for the whole run.

    Subclasses give :meth:`outline` and :meth:`observe`; the others where they have something to do. ``run`` is the
    :class:`~gkd_plugin.training.sources.base.Run` that they belong to: the plan, the students' networks, random streams.

    Args:
        name (str): The source's name.
        run (Run): The run.
    """

    symbol: ClassVar[str] = "S"  # stands for it in the formula that explain prints
    within: ClassVar[bool] = False  # the learner's own forward pass teaches: nothing is observed apart from it
    layered: ClassVar[bool] = True  # has hidden states; False: gives logits only
    like_learner: ClassVar[bool] = False  # whether it has the learner's own layers
    stands_in: ClassVar[bool] = False  # whether `kd.predict: <name>` may evaluate it in its student's place

    def __init__(self, name: str, run: Any) -> None:
        self.name, self.run = name, run

    @property
    def scored(self) -> Sequence[Any]:
        """Frozen models (``PreparedTeacher``) whose own scores are reported beside the students'."""
        return ()

    def members(self, layered: bool) -> tuple[str, ...]:
        """The members that its name means, for terms that compare layers and for those that compare logits."""
        return (self.name,)

    @classmethod
    def count(cls, plan: Plan, layered: bool) -> int:
        """How many members that will be, for the formula that explain prints."""
        return 1

    def outline(self, member: str, learner: int, sample: Any, taps: Iterable[str]) -> Outline:
        """Depth, widths and logits of a member, read off some batch."""
        raise NotImplementedError(f"source '{self.name}': {type(self).__name__} defines no outline")

    def observe(self, member: str, learner: int, sample: Any, taps: Iterable[str]) -> Observation:
        """A member's logits and hidden states on a batch of the learner, without gradient."""
        raise NotImplementedError(f"source '{self.name}': {type(self).__name__} defines no observe")

    def stepped(self, learner: int) -> None:
        """Called after every optimizer step of a student."""

    def stand_in(self, learner: int) -> Any:
        """The model (an ``ObservedModel``) that is evaluated in a student's place, where ``stands_in`` is true."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs of it: tensors and plain values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what :meth:`state_dict` returned.

        Raises:
            ValueError: If it does not fit.
        """
        if state:
            raise ValueError(f"unexpected entries {', '.join(map(str, state))}")

    @classmethod
    def describe(cls, plan: Plan) -> str:
        """The meaning of its symbol in words; empty: the source's summary."""
        return ""


def model_of(member: Member) -> type[SourceModel] | None:
    """The class of model behind a member; ``None`` for a student.

    Raises:
        UserError: If there is no such member.
    """
    if isinstance(member, int):
        return None
    model = axes.sources[member].model if member in axes.sources else None
    if model is None:
        own = [name for name in axes.sources if axes.sources[name].model is not None]
        raise UserError(
            f"'{member}' is not a member. {nearest(member, own)}Allowed: students' numbers, {', '.join(own)}."
        )
    return model


def members_of(source: str, learner: int, students: int) -> tuple[Member, ...]:
    """Who teaches a student under a source; a student that names itself is taught by its own forward pass.

    With fewer students than a source needs nobody does.

    Args:
        source (str): The source.
        learner (int): The student's number, from 1.
        students (int): Number of students.

    Raises:
        UserError: If the source names a member that does not exist, returns anything but members, or fails.
    """
    if students < axes.sources[source].needs_students:
        return ()
    try:
        found = axes.sources[source].members(learner, students)
    except Exception as error:  # somebody else's code
        text = f"source '{source}' fails for student {learner} of {students}: {describe_error(error)}."
        raise UserError(text) from error
    named = [member for member in found if type(member) is not int] if isinstance(found, (tuple, list)) else [None]
    if not all(isinstance(member, str) for member in named):
        raise UserError(f"source '{source}' returns {found!r} for student {learner}. Allowed: a tuple of members.")
    numbers = [member for member in found if isinstance(member, int)]
    for number in (min(numbers), max(numbers)) if numbers else ():
        if not 1 <= number <= students:
            raise UserError(
                f"source '{source}' names student {number} as a teacher of student {learner}. Allowed: 1 to {students}."
            )
    for member in named:
        try:
            model_of(member)
        except UserError as error:
            raise UserError(f"source '{source}' has an unknown teacher of student {learner}: {error}") from None
    if learner in found:
        found = tuple(own_member() if member == learner else member for member in found)
    return tuple(dict.fromkeys(found))


def own_member() -> str:
    """The name of the member that is the learner's own forward pass."""
    for name in axes.sources:
        model = axes.sources[name].model
        if model is not None and model.within:
            return str(name)
    raise UserError("no source is the learner's own forward pass")


@dataclass(frozen=True)
class Survey:
    """Who teaches whom under a source, in short.

    Args:
        everybody (frozenset): All members that teach anybody, as far as the source can tell them.
        most (int): The largest number of members that teach one student.
    """

    everybody: frozenset[Member]
    most: int


def survey(source: str, students: int) -> Survey:
    """Asks a source about every student; once, as thousands of students may each have thousands of teachers."""
    answer, (asked, known) = axes.sources[source], _surveys.get((source, students), (None, None))
    if known is None or asked is not answer:  # another plugin may have taken the name
        everybody: set[Member] = set()
        most = 0
        for learner in range(1, students + 1):
            members = members_of(source, learner, students)
            everybody.update(members)
            most = max(most, len(members))
        known = Survey(frozenset(everybody), most)
        _surveys[source, students] = (answer, known)
    return known


_surveys: dict[tuple[str, int], tuple[Source, Survey] | tuple[None, None]] = {}


def everybody(source: str, students: int) -> frozenset[Member]:
    """All members that teach anybody under a source, as far as the source can tell them."""
    return survey(source, students).everybody


def is_within(source: str, students: int = 1) -> bool:
    """Whether a source is the learner itself: then only deeper layers teach, and logits only where they are changed."""
    students = max(students, axes.sources[source].needs_students)
    models = [model_of(member) for member in everybody(source, students)]
    return any(model is not None and model.within for model in models)


def has_layers(source: str, students: int = 1) -> bool:
    """Whether all members of a source have hidden states."""
    students = max(students, axes.sources[source].needs_students)
    models = [model_of(member) for member in everybody(source, students)]
    return all(model is None or model.layered for model in models)


def find_misuse(source: str, students: int, values: Mapping[str, Any], task: Task | None) -> Iterator[tuple[str, str]]:
    """What a source, or one whose model teaches under it, refuses in a group that listens to it, and what is allowed.

    Args:
        source (str): The source.
        students (int): Number of students.
        values (mapping): The group's keys.
        task (Task, optional): What is predicted.
    """
    for name in sorted({source, *(member for member in everybody(source, students) if isinstance(member, str))}):
        check = axes.sources[name].check
        found = check(values, task) if check is not None else None
        if found is not None:
            yield found


def listening(plan: Plan, member: Member) -> Iterator[tuple[GroupPlan, Part]]:
    """The active parts in which a member teaches some student."""
    for group in plan.active:
        for part in group.active_parts:
            if part.source is not None and member in everybody(str(group[part.source]), plan.students):
                yield group, part


def taps_read(plan: Plan, member: Member) -> tuple[str, ...]:
    """The taps that active groups read off a member."""
    groups = [group for group, _ in listening(plan, member)]
    return tuple(sorted({tap for group in groups for tap in axes.knowledge[group.name].source_taps(group)}))


def default_source(kd: Mapping[str, Any]) -> str:
    """The source of a group that names none: the one that the scheme's keys name, else the first of the axis."""
    named = [name for name in axes.sources if (rule := axes.sources[name].named) is not None and rule(kd)]
    return str([*named, *axes.sources][0])


def stand_ins() -> tuple[str, ...]:
    """The sources whose model may be evaluated in its student's place."""
    records: list[tuple[str, Source]] = [(name, axes.sources[name]) for name in axes.sources]
    return tuple(name for name, source in records if source.model is not None and source.model.stands_in)
