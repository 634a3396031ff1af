"""Results that print as text, with colours where rich shows them, and as themselves in notebooks."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from typing import ClassVar

from rich.console import Console

HANDED = "handed over in Python"
"""How a reader is told where data, a teacher or a student without a name come from."""

_warned: set[str] = set()
_notes: ContextVar[list[str] | None] = ContextVar("notes", default=None)
_PAGE = 110  # columns of a notebook
_BLOCK = '<pre style="white-space:pre;overflow-x:auto;line-height:normal;font-family:monospace">{code}</pre>'


def warn(text: str) -> None:
    """Says something once in this process: a plain line on stderr, as every warning of the commands.

    Args:
        text (str): What is to be said.
    """
    if text not in _warned:
        _warned.add(text)
        print(f"warning: {text}", file=sys.stderr)


def tell(text: str) -> None:
    """Says at once what a run meets at its start or on its way; a quiet run notes it for whoever started it.

    Args:
        text (str): What is to be said.
    """
    notes = _notes.get()
    if notes is None:
        warn(text)
    elif text not in notes:
        notes.append(text)


def is_noting() -> bool:
    """Whether the present run is one of many: what concerns it alone need not be said."""
    return _notes.get() is not None


def was_told(text: str) -> bool:
    """Whether this process has said it already."""
    return text in _warned


@contextlib.contextmanager
def noting() -> Iterator[list[str]]:
    """Within, :func:`tell` prints nothing; its texts are in the list that this gives."""
    outer = _notes.get()
    notes = [] if outer is None else outer
    token = _notes.set(notes)
    try:
        yield notes
    finally:
        _notes.reset(token)


class Printable:
    """Text for a class whose ``__rich_console__`` defines its appearance.

    A data class needs ``repr=False``, or its own ``__repr__`` comes before this one.
    """

    WIDTH: ClassVar[int] = 2000  # text that goes into a file or a pipe is not wrapped

    def __str__(self) -> str:
        # without force_jupyter a notebook would show an empty block for what is captured
        console = Console(width=self.WIDTH, color_system=None, force_jupyter=False)
        with console.capture() as text:
            console.print(self, highlight=False, soft_wrap=True)
        return "\n".join(line.rstrip() for line in text.get().rstrip().splitlines())

    def __repr__(self) -> str:
        """One line: a prompt that shows a value should not fill the screen."""
        first = next((line.strip() for line in str(self).splitlines() if line.strip()), "")
        return f"<{type(self).__name__}: {first if len(first) <= 80 else first[:77] + '...'}>"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        console = Console(width=_PAGE, record=True, file=io.StringIO(), force_jupyter=False)
        console.print(self, highlight=False)
        return console.export_html(inline_styles=True, code_format=_BLOCK)
