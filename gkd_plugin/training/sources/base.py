"""The run as its sources see it, and the one place that reads them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gkd_plugin.errors import UserError
from gkd_plugin.models.observed import ObservedModel
from gkd_plugin.models.rng import RandomStreams
from gkd_plugin.models.sample import Sample
from gkd_plugin.plan import Plan
from gkd_plugin.space import axes
from gkd_plugin.space.answers import Member
from gkd_plugin.space.observation import Observation
from gkd_plugin.space.sources import SourceModel, everybody, stand_ins, taps_read
from gkd_plugin.training.batches import SplitLoader
from gkd_plugin.training.disk import is_disk_error
from gkd_plugin.training.readings import Readings
from gkd_plugin.training.sources.shuffle import shuffle_rows


@dataclass(frozen=True, eq=False)
class Run:
    """One run of a cohort, as the models behind its sources see it.

    Args:
        plan (Plan): The plan.
        models (sequence of ObservedModel): The students' networks.
        loaders (sequence of SplitLoader): Train, validation and, where there is one, test.
        streams (RandomStreams): Random streams; a source draws only inside ``streams.use("its name")``.
        readings (Readings): Observations of the students.
        folder (Path): The run's folder.
        seed_folder (int): The number of the seed's folder in it.
        module (nn.Module, optional): What was handed over as ``gkd_plugin.run(teacher=...)``.
    """

    plan: Plan
    models: Sequence[ObservedModel]
    loaders: Sequence[SplitLoader]
    streams: RandomStreams
    readings: Readings
    folder: Path = Path()
    seed_folder: int = 0
    module: nn.Module | None = None


class Sources:
    """The models behind the members of a run's sources, and the observations of all members.

    Only what some term with a weight listens to is built, and what ``kd.predict`` evaluates in its student's place.

    Args:
        run (Run): The run.
    """

    def __init__(self, run: Run) -> None:
        self.run, plan = run, run.plan
        parts = [(group, part) for group in plan.active for part in group.active_parts]
        used = {str(group[part.source]) for group, part in parts if part.source is not None}
        named = {m for source in used for m in everybody(source, plan.students) if isinstance(m, str)}
        named |= {plan["predict"]} & set(stand_ins())
        self.models: dict[str, SourceModel] = {}
        for name in axes.sources:
            kind = axes.sources[name].model
            if name in named and kind is not None:
                self.models[name] = kind(name, run)
        self._behind = dict(self.models)
        for model in self.models.values():
            self._behind |= dict.fromkeys(
                (m for layered in (True, False) for m in _list_members(model, layered)), model
            )
        self._taps = {name: taps_read(plan, name) for name in self.models}

    # ------------------------------------------------------------------------------------------------------ members
    def expand(self, members: Iterable[Member], layered: bool) -> tuple[Member, ...]:
        """Members with those in the place of a name that it stands for (several teachers under one name, say)."""
        found: list[Member] = []
        for member in members:
            found += [member] if isinstance(member, int) else self.models[member].members(layered)
        return tuple(found)

    def is_within(self, member: Member) -> bool:
        """Whether a member is the learner's own forward pass."""
        return isinstance(member, str) and self._behind[member].within

    def model_of(self, member: str) -> SourceModel:
        """The model behind a member that is not a student."""
        return self._behind[member]

    def taps_of(self, member: str) -> tuple[str, ...]:
        """The taps that terms read off a member that is not a student."""
        return self._taps[self._behind[member].name]

    # ------------------------------------------------------------------------------------------------- observations
    def observe(self, learner: int, members: Iterable[Member], sample: Sample) -> dict[Member, Observation]:
        """What teaches a student now, except its own forward pass."""
        found: dict[Member, Observation] = {}
        for member in members:
            if isinstance(member, int):
                found[member] = self.run.readings.read_peer(member, sample)
            elif not self.is_within(member):
                seen = self._behind[member].observe(member, learner, sample, self.taps_of(member))
                _require_rows(self._behind[member].name, seen, sample)
                found[member] = seen
        return {member: self._shuffle(seen) for member, seen in found.items()}

    def add_own(
        self, found: Mapping[Member, Observation], own: Observation, members: Iterable[Member]
    ) -> dict[Member, Observation]:
        """The same with the learner's own, detached observation where it teaches itself."""
        within = [member for member in members if self.is_within(member)]
        return {**found, **({member: self._shuffle(own.detached()) for member in within} if within else {})}

    def _shuffle(self, seen: Observation) -> Observation:
        """What a member says, of other items where ``kd.shuffle_sources`` asks for it."""
        return shuffle_rows(seen, self.run.streams.seed) if self.run.plan["shuffle_sources"] else seen

    def note_step(self, learner: int) -> None:
        """Called after every optimizer step of a student."""
        self.run.readings.note_change(learner)
        for model in self.models.values():
            model.stepped(learner)

    def stand_in(self, learner: int) -> ObservedModel | None:
        """What is evaluated in a student's place, where ``kd.predict`` asks for it."""
        model = self.models.get(self.run.plan["predict"])
        found: ObservedModel | None = model.stand_in(learner) if model is not None and model.stands_in else None
        return found

    # ------------------------------------------------------------------------------------------------------- resume
    def state_dict(self) -> dict[str, Any]:
        """The state of all models, by source."""
        return {name: model.state_dict() for name, model in self.models.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what :meth:`state_dict` returned.

        Raises:
            UserError: If it is of other sources, or one of them refuses it.
        """
        if set(state) != set(self.models):
            there, here = ", ".join(sorted(state)) or "none", ", ".join(sorted(self.models)) or "none"
            raise UserError(f"the checkpoint has the state of the sources {there}, but this run has {here}. {_ADVICE}")
        for name, model in self.models.items():
            with fitting(f"the source '{name}'"):
                model.load_state_dict(state[name])


@contextlib.contextmanager
def fitting(part: str) -> Iterator[None]:
    """Turns an error while a checkpoint is put back into one of the user's, who gave it to another run.

    Args:
        part (str): Whose state is put back.

    Raises:
        UserError: For any error but those of the memory and the disk.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, (UserError, MemoryError, torch.cuda.OutOfMemoryError)) or is_disk_error(error):
            raise
        text = " ".join(str(error).split())
        raise UserError(f"the checkpoint's state of {part} does not fit: {text}. {_ADVICE}") from None


_ADVICE = "Remove the folder ckpt of that seed to train it from the start, or choose another --name."


def _list_members(model: SourceModel, layered: bool) -> tuple[str, ...]:
    """The members that a model's name means: the name itself, or names that begin with it and an underscore."""
    found = model.members(layered)
    sound = isinstance(found, (tuple, list)) and bool(found)
    if not sound or not all(isinstance(m, str) and (m == model.name or m.startswith(f"{model.name}_")) for m in found):
        raise UserError(
            f"source '{model.name}': its model has the members {found!r}. Allowed: a tuple of '{model.name}' or of names "
            f"such as '{model.name}_1'."
        )
    taken = [m for m in found if m != model.name and m in axes.sources]
    if taken:
        raise UserError(f"source '{model.name}': its member '{taken[0]}' is the name of another source.")
    return tuple(found)


def _require_rows(source: str, seen: Observation, sample: Sample) -> None:
    """What a source gives must be an observation of the same items."""
    if not isinstance(seen, Observation):
        raise UserError(f"source '{source}' gives {type(seen).__name__}. Its observe must give an Observation.")
    nodes = int(sample.batch.num_nodes)
    rows = [("logits", seen.logits)] if sample.task.level == "node" else []
    rows += [(f"states at tap {tap}", state) for tap, states in seen.hidden.items() for state in states]
    for what, found in rows:
        if found.dim() == 0 or found.size(0) != nodes:
            raise UserError(f"source '{source}' gives {what} of the shape {list(found.shape)} for {nodes} nodes.")
