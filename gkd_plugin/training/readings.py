"""Reading students: each is run once for as long as its weights and the batch stay the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass

from gkd_plugin.models.observed import ObservedModel, Request, Together
from gkd_plugin.models.rng import RandomStreams, has_drawn, random_state
from gkd_plugin.models.sample import Sample
from gkd_plugin.space.observation import Observation


@dataclass(frozen=True, eq=False)
class _Reading:
    seen: Observation
    sample: Sample
    version: int
    taps: frozenset[str]
    train: bool
    drew: bool

    def serves(self, version: int, sample: Sample, taps: frozenset[str], train: bool) -> bool:
        return self.version == version and self.sample is sample and taps <= self.taps and self.train == train


class Readings:
    """Observations of the students by number, kept while they hold.

    Args:
        models (sequence of ObservedModel): The students' networks.
        streams (RandomStreams): The run's streams; peers are read under streams of their own.
        train_mode (bool): Whether peers are read with dropout and batch statistics on (``peer_mode: train``).
    """

    def __init__(self, models: Sequence[ObservedModel], streams: RandomStreams, train_mode: bool) -> None:
        self.models = dict(enumerate(models, 1))
        self.streams, self.train_mode = streams, train_mode
        self.taps: frozenset[str] = frozenset()
        self._versions = dict.fromkeys(self.models, 0)
        self._kept: dict[int, _Reading] = {}

    def begin_epoch(self, taps: Iterable[str]) -> None:
        """Forgets readings that drew random numbers: a resumed run could not have them.

        Args:
            taps (iterable of str): What any learner needs in this epoch; the same for all, so that a reading serves
                everyone.
        """
        self.taps = frozenset(taps)
        self._kept = {number: kept for number, kept in self._kept.items() if not kept.drew}

    def note_change(self, number: int) -> None:
        """A student's weights have changed: its earlier readings are void."""
        self._versions[number] += 1

    def read_peer(self, number: int, sample: Sample) -> Observation:
        """A student as another one's teacher, in the mode that ``kd.peer_mode`` asks for."""
        return self._observe(number, sample, self.taps, self.train_mode, self.streams.use(f"peer/{number}"))

    def read_evaluated(self, number: int, sample: Sample) -> Observation:
        """A student as a teacher in evaluation mode, for any ``kd.peer_mode``."""
        return self._observe(number, sample, self.taps, False, self.streams.use(f"peer/{number}"))

    def evaluate(
        self, number: int, sample: Sample, further: Iterable[str], instead: ObservedModel | None = None
    ) -> Observation:
        """A student in evaluation mode for its own scores; the same forward pass serves its peers where it drew nothing.

        Args:
            number (int): The student.
            sample (Sample): A batch of the validation split.
            further (iterable of str): Taps that its terms read in every epoch, also where their schedule is 0.
            instead (ObservedModel, optional): What is evaluated in its place.
        """
        taps = self.taps | frozenset(further)
        # the host draws student 1's evaluation from the global stream
        stream = nullcontext() if number == 1 else self.streams.use(f"evaluation/{number}")
        if instead is not None:
            with stream, instead.untouched():
                return instead.observe(sample, taps, "val")
        if sample.task.level == "edge":  # what peers read are the pairs of another split
            model = self.models[number]
            with stream, model.untouched():
                return model.observe(sample, taps, "val")
        kept = self._kept.get(number)
        if kept is not None and kept.serves(self._versions[number], sample, taps, False) and not kept.drew:
            return kept.seen
        self._kept.pop(number, None)
        return self._observe(number, sample, taps, False, stream)

    def evaluate_together(self, sample: Sample, further: Iterable[str], together: Together) -> None:
        """All students in evaluation mode in one pass, for :meth:`evaluate` and their peers.

        Args:
            sample (Sample): A batch of the validation split.
            further (iterable of str): As for :meth:`evaluate`, of all students.
            together (Together): Who runs them.
        """
        taps = self.taps | frozenset(further)
        wanted = []
        for number in self.models:
            kept = self._kept.get(number)
            if kept is None or kept.drew or not kept.serves(self._versions[number], sample, taps, False):
                wanted.append(number)
        if len(wanted) < 2 or sample.task.level == "edge":
            return
        with ExitStack() as modes:
            for number in wanted:
                modes.enter_context(self.models[number].untouched())
            found = together.observe([Request(self.models[number], sample, tuple(sorted(taps))) for number in wanted])
        for number, seen in zip(wanted, found, strict=True):
            if seen is not None:
                self._kept[number] = _Reading(seen, sample, self._versions[number], taps, False, False)

    def _observe(
        self, number: int, sample: Sample, taps: frozenset[str], train: bool, stream: AbstractContextManager[None]
    ) -> Observation:
        model, version = self.models[number], self._versions[number]
        kept = self._kept.get(number)
        if kept is not None and kept.serves(version, sample, taps, train):
            return kept.seen
        with stream, model.untouched(train):
            before = random_state()
            seen = model.observe(sample, taps)
            drew = has_drawn(before)
        self._kept[number] = _Reading(seen, sample, version, taps, train, drew)
        return seen
