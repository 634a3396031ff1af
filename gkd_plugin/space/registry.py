"""The axes of the design space: named answers, each with one line of meaning and its source."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from gkd_plugin.errors import UserError, nearest


class Answer(Protocol):
    """What every answer on an axis tells of itself."""

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
    """

    def __init__(self, name: str, question: str) -> None:
        self.name, self.question = name, question
        self._answers: dict[str, tuple[T, str]] = {}

    def add(self, name: str, answer: T, origin: str) -> None:
        """Adds an answer; ``origin`` names the plugin it comes from.

        Raises:
            UserError: If another plugin has taken the name.
        """
        if name in self._answers:
            known, by = self._answers[name]
            if known is answer:
                return
            raise UserError(
                f"{self.name}: the name '{name}' is taken by {known!r} of {by}; {answer!r} of {origin} needs another name."
            )
        self._answers[name] = (answer, origin)

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
