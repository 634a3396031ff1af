"""What was said of a run before it began, kept in its result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gkd_plugin.printing import tell
from gkd_plugin.training.recorders.base import Recorder


class Notes(Recorder):
    """Says warnings at once, and repeats them in the result: tables and reports are read by others, later.

    Args:
        found (sequence of str): The warnings.
    """

    def __init__(self, found: Sequence[str]) -> None:
        self.found = tuple(found)
        for text in self.found:
            tell(text)

    def warnings(self) -> Iterator[str]:
        yield from self.found
