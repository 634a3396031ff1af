"""What is shown while a run goes on."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from gkd_plugin.training.trainer import Progress as EpochProgress

SECONDS = 10.0  # between two lines of progress in a file
REFRESH = 0.5  # seconds between two texts of the line in a notebook


def show_warnings(found: Sequence[str]) -> None:
    """Warnings, before anything is trained."""
    console = Console(stderr=True)
    if console.is_jupyter:
        console = Console(stderr=True, color_system=None)  # no escape codes in its text; its HTML has the colours
    for warning in found:
        console.print(f"[yellow]warning:[/] {escape(warning)}", highlight=False, soft_wrap=True)


@contextmanager
def run_progress(
    title: str, epochs: int, quiet: bool = False, watch: EpochProgress | None = None
) -> Iterator[EpochProgress]:
    """A progress bar on a terminal, in a notebook one line that changes; where the output goes into a file, a line after ten
    seconds and one at the end.

    Args:
        title (str): The run and its seed.
        epochs (int): Epochs in all.
        quiet (bool): Shows nothing.
        watch (callable, optional): Called after every epoch, too.
    """
    with _show_progress(title, epochs, quiet) as show:

        def note(epoch: int, total: int, score: float) -> None:
            show(epoch, total, score)
            if watch is not None:
                watch(epoch, total, score)

        yield note


@contextmanager
def _show_progress(title: str, epochs: int, quiet: bool) -> Iterator[EpochProgress]:
    console = Console(stderr=True)
    if quiet:
        yield lambda epoch, total, score: None
    elif not console.is_terminal:
        lines = _Cell(console, title, epochs) if console.is_jupyter else _Lines(console, title, epochs)
        yield lines.note
        lines.write()
    else:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[score]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(escape(title), total=epochs, score="")
            yield lambda epoch, total, score: bar.update(task, completed=epoch, score=f"validation {score:.4f}")


class _Lines:
    """A line of text at most every ten seconds: the first epoch that ends after them writes it.

    Args:
        console (Console): Where it is written.
        title (str): The run and its seed.
        epochs (int): Epochs in all.
    """

    period = SECONDS

    def __init__(self, console: Console, title: str, epochs: int) -> None:
        self.console, self.title, self.epochs = console, title, epochs
        self.epoch, self.score, self.written = 0, float("nan"), 0
        self.last = time.monotonic()

    def note(self, epoch: int, total: int, score: float) -> None:
        """What the loop calls after every epoch."""
        self.epoch, self.score = epoch, score
        if time.monotonic() - self.last >= self.period:
            self.write()

    def write(self) -> None:
        """Writes how far it is, unless that was written already."""
        if self.epoch > self.written:
            self.put(f"{self.title}: {self.epoch}/{self.epochs} epochs, validation {self.score:.4f}")
            self.written, self.last = self.epoch, time.monotonic()

    def put(self, text: str) -> None:
        """Shows a text."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


class _Cell(_Lines):
    """The line in a notebook, where each text takes the place of the one before; it needs no widgets.

    Args:
        console, title, epochs: As for :class:`_Lines`.
    """

    period = REFRESH

    def __init__(self, console: Console, title: str, epochs: int) -> None:
        super().__init__(console, title, epochs)
        self._shown: Any = None

    def put(self, text: str) -> None:
        from IPython.display import display  # it is there, since rich has found a notebook

        words = {"text/plain": text}
        if self._shown is None:
            self._shown = display(words, raw=True, display_id=True)
        else:
            self._shown.update(words, raw=True)


def merge_warnings(found: Mapping[int, Sequence[str]]) -> list[str]:
    """Each warning once with the seeds that gave it; those that differ in their numbers only are one.

    Args:
        found (mapping): The warnings of every seed.
    """
    alike: dict[str, list[tuple[int, str]]] = {}
    for seed, texts in found.items():
        for text in texts:
            alike.setdefault(re.sub(r"\d+", "0", text), []).append((seed, text))
    lines = []
    for given in alike.values():
        (first, text), others = given[0], [str(seed) for seed, _ in given[1:]]
        seeds = f"seed{'s' if others else ''} {', '.join([str(first), *others])}"
        if len({each for _, each in given}) > 1:
            seeds = f"seed {first}; alike, with other numbers: {', '.join(others)}"
        lines.append(f"{text} ({seeds})" if len(found) > 1 else text)
    return lines
