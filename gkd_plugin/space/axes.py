"""The axes of the design space: named answers, each with one line of meaning and its source.

They are empty until ``gkd_plugin.plugins`` has asked every plugin, our own first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from gkd_plugin.errors import UserError, nearest
from gkd_plugin.space.answers import Divergence, Kernel, LayerMap, Preset, Schedule, Source
from gkd_plugin.space.knowledge.base import Term
from gkd_plugin.space.tracker import Tracker


class Answer(Protocol):
    """What every answer on an axis has."""

    @property
    def summary(self) -> str:
        """One line for ``gkd list``."""

    @property
    def reference(self) -> str:
        """Where it comes from: a paper's short name, or ``gkd_plugin``."""


T = TypeVar("T", bound=Answer)


class Axis(Generic[T]):
    """One question of the design space and its registered answers.

    Args:
        name (str): The axis as ``gkd list`` names it, e.g. ``layer_maps``.
        question (str): The question it answers.
        kind (type): What an answer is: a record of this type, or for knowledge a subclass.
    """

    def __init__(self, name: str, question: str, kind: type) -> None:
        self.name, self.question, self.kind = name, question, kind
        self._answers: dict[str, tuple[T, str]] = {}

    def add(self, name: str, answer: T, origin: str) -> None:
        """Adds an answer; ``origin`` names the plugin it comes from.

        Raises:
            UserError: If it is not an answer to this question, or the name is in use.
        """
        self._require_sound(name, answer)
        if name in self._answers:
            known, by = self._answers[name]
            if known is answer:
                return
            raise UserError(
                f"{self.name}: the name '{name}' is taken by '{known.summary}' of plugin {by}; '{answer.summary}' of plugin "
                f"{origin} needs another name."
            )
        self._answers[name] = (answer, origin)

    def _require_sound(self, name: str, answer: object) -> None:
        """Refuses answers that would break ``gkd list``, a grid or a run later."""
        if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise UserError(
                f"{self.name}: {name!r} is not a valid name. Allowed: a-z, 0-9 and _, a letter first, as in YAML."
            )
        fits = issubclass(answer, self.kind) if isinstance(answer, type) else isinstance(answer, self.kind)
        if not fits:
            raise UserError(
                f"{self.name}: '{name}' is {answer!r}. Allowed: {self.kind.__module__}.{self.kind.__name__}."
            )
        for text in ("summary", "reference"):
            found = getattr(answer, text, None)
            if not isinstance(found, str) or not found:
                raise UserError(f"{self.name}: '{name}' has no {text}; gkd list prints it. Write one line.")

    def discard(self, origin: str) -> None:
        """Forgets all answers of one plugin."""
        self._answers = {name: entry for name, entry in self._answers.items() if entry[1] != origin}

    def __getitem__(self, name: str) -> T:
        if name not in self._answers:
            raise UserError(
                f"{self.name}: '{name}' is not registered. {nearest(name, self._answers)}Allowed: {', '.join(self._answers)}."
            )
        return self._answers[name][0]

    def __contains__(self, name: object) -> bool:
        return name in self._answers

    def __iter__(self) -> Iterator[str]:
        return iter(self._answers)

    def __len__(self) -> int:
        return len(self._answers)

    def origin(self, name: str) -> str:
        """The plugin that registered an answer."""
        return self._answers[name][1]


sources: Axis[Source] = Axis("sources", "who teaches?", Source)
layer_maps: Axis[LayerMap] = Axis("layer_maps", "which learner layer listens to which source layer?", LayerMap)
knowledge: Axis[type[Term]] = Axis("knowledge", "what is compared?", Term)
kernels: Axis[Kernel] = Axis("kernels", "how alike are two nodes (structure)?", Kernel)
divergences: Axis[Divergence] = Axis("divergences", "how far apart are two structures?", Divergence)
schedules: Axis[Schedule] = Axis("schedules", "when does a term count?", Schedule)
presets: Axis[Preset] = Axis("presets", "which published method is that?", Preset)

absent: dict[str, str] = {}
"""Installed plugins whose answers are not on the axes, each with the reason."""

trackers: Axis[type[Tracker]] = Axis("trackers", "where are a run's numbers shown?", Tracker)

ALL: tuple[Axis, ...] = (sources, layer_maps, knowledge, kernels, divergences, schedules, presets, trackers)  # type: ignore[type-arg]
