"""Results that print as text, and with colours where rich shows them."""

from __future__ import annotations

from typing import ClassVar

from rich.console import Console


class Printable:
    """Text for a class whose ``__rich_console__`` defines its appearance.

    A data class needs ``repr=False``, or its own ``__repr__`` comes before this one.
    """

    WIDTH: ClassVar[int] = 120
    SOFT_WRAP: ClassVar[bool] = False  # whether lines longer than that stay whole

    def __str__(self) -> str:
        console = Console(width=self.WIDTH, color_system=None)
        with console.capture() as text:
            console.print(self, highlight=False, soft_wrap=self.SOFT_WRAP)
        return "\n".join(line.rstrip() for line in text.get().rstrip().splitlines())

    def __repr__(self) -> str:
        return str(self)
