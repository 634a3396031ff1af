"""What is shown while a run goes on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from gkd_plugin.training.trainer import Progress as EpochProgress


def show_warnings(found: Sequence[str]) -> None:
    """Warnings, before anything is trained."""
    console = Console(stderr=True)
    for warning in found:
        console.print(f"[yellow]warning:[/] {escape(warning)}", highlight=False, soft_wrap=True)


@contextmanager
def run_progress(
    title: str, epochs: int, quiet: bool = False, watch: EpochProgress | None = None
) -> Iterator[EpochProgress]:
    """A progress bar on a terminal; one line at the end where the output goes into a file.

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
        last = [0, float("nan")]

        def note(epoch: int, total: int, score: float) -> None:
            last[:] = [epoch, score]

        yield note
        if last[0]:
            console.print(f"{title}: {last[0]:.0f}/{epochs} epochs, validation {last[1]:.4f}", highlight=False)
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
            task = bar.add_task(title, total=epochs, score="")
            yield lambda epoch, total, score: bar.update(task, completed=epoch, score=f"validation {score:.4f}")
