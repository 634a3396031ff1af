"""What is shown while a study runs: a live line on a terminal, one line for each run elsewhere."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gkd_plugin.study.ledger import DONE, FAILED, Entry
from gkd_plugin.training.metrics import PERCENT

_SHOWN = 8  # running runs on the terminal
_PATIENCE = 3.0  # seconds without a terminal in which nothing needs to be said
_PERIOD = 30.0  # seconds between plain lines that only say that it goes on


class Display:
    """Counts what ends and says it.

    Args:
        title (str): What is shown first.
        total (int): Runs of the study, those that are kept included.
        kept (sequence of Entry): Runs that were finished before.
        running (callable): Returns what runs now.
        quiet (bool): Shows nothing.
        ranked (collection of str, optional): The runs of which the best is shown; controls are none. (default: all)
    """

    def __init__(
        self,
        title: str,
        total: int,
        kept: Sequence[Entry],
        running: Callable[[], Sequence[Entry]],
        quiet: bool = False,
        ranked: Collection[str] | None = None,
    ) -> None:
        self._ranked = ranked
        self.title, self.total, self.quiet = title, total, quiet
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.counts: Counter[str] = Counter(entry.state for entry in kept)
        self.best: Entry | None = None
        self.ended = 0
        self.failures: list[Entry] = []
        self._ask = running
        self._running: list[Entry] = []
        self._asked = -math.inf  # when it may be asked again
        self._start = self._last = time.monotonic()
        self._live: Live | None = None
        self._over = threading.Event()
        for entry in kept:
            self._rank(entry)

    def __enter__(self) -> Display:
        if self.quiet:
            return self
        if self.console.is_terminal:
            self._live = Live(console=self.console, get_renderable=self._draw, refresh_per_second=2, transient=False)
            self._live.start()
        else:
            kept = sum(self.counts.values())
            self.console.print(f"{self.title}{f'; {kept} finished before' if kept else ''}", markup=False)
            threading.Thread(target=self._keep_saying, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        if self._live is not None:
            self._live.stop()

    def end(self, entry: Entry) -> None:
        """Takes note of a run that ended."""
        self.counts[entry.state] += 1
        self.ended += 1
        self._rank(entry)
        why = ""
        if entry.state == FAILED:
            same = next((other.name for other in self.failures if other.reason == entry.reason), None)
            why = f"as {same}" if same is not None else str(entry.reason)
            self.failures.append(entry)
        if self.quiet:
            return
        if self._live is not None:
            if entry.state == FAILED:
                self._live.console.print(f"[bold red]failed[/] {escape(entry.name)}: {escape(why)}")
            return
        self._last = time.monotonic()
        what = f"validation {format_score(entry)}" if entry.state == DONE else f"{entry.state}: {why or entry.reason}"
        self.console.print(
            f"{sum(self.counts.values())}/{self.total} {entry.name}: {what}{self._tell_left()}", markup=False
        )

    def _keep_saying(self) -> None:
        """Says without a terminal that the study goes on, where nothing has ended for a while."""
        while not self._over.wait(1.0):
            if time.monotonic() - self._last >= _PERIOD:
                self._last = time.monotonic()
                running = ", ".join(entry.name for entry in self._find_running()[:3])
                over = sum(self.counts.values())
                self.console.print(f"{over}/{self.total}, running: {running or '-'}{self._tell_left()}", markup=False)

    def _find_running(self) -> Sequence[Entry]:
        """What runs now; a large ledger takes its time to read, so it is not asked too often."""
        start = time.monotonic()
        if start >= self._asked:
            self._running = list(self._ask())
            now = time.monotonic()
            self._asked = now + max(1.0, 20 * (now - start))
        return self._running

    def _rank(self, entry: Entry) -> None:
        if entry.state != DONE or entry.val is None or (self._ranked is not None and entry.name not in self._ranked):
            return
        sign = 1 if entry.better else -1
        if self.best is None or self.best.val is None or sign * entry.val > sign * self.best.val:
            self.best = entry

    def _tell_left(self) -> str:
        left = self.total - sum(self.counts.values())
        if not self.ended or left <= 0:
            return ""
        return f", {format_seconds((time.monotonic() - self._start) / self.ended * left)} left"

    def _draw(self) -> RenderableType:
        over = sum(self.counts.values())
        line = Table.grid(padding=(0, 1))
        said = f"{over}/{self.total}  {self.counts[DONE]} done"
        if self.counts[FAILED]:
            said += f", [bold red]{self.counts[FAILED]} failed[/]"
        passed = format_seconds(time.monotonic() - self._start)
        line.add_row(ProgressBar(total=self.total, completed=over, width=24), said, f"{passed}{self._tell_left()}")
        rows: list[RenderableType] = [Text(self.title), line]
        if self.best is not None:
            rows.append(Text(f"best validation {format_score(self.best)}: {self.best.name}"))
        running = self._find_running()
        rows += [
            Text(f"  running {entry.name}", style="dim", no_wrap=True, overflow="ellipsis")
            for entry in running[:_SHOWN]
        ]
        if len(running) > _SHOWN:
            rows.append(Text(f"  and {len(running) - _SHOWN} more", style="dim"))
        return Group(*rows)


def format_score(entry: Entry) -> str:
    """The validation score of a run, in per cent where it is a share."""
    if entry.val is None:
        return "-"
    return f"{100 * entry.val:.2f} %" if entry.metric in PERCENT else f"{entry.val:.4f}"


def format_seconds(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


@contextmanager
def say(text: str, quiet: bool) -> Iterator[None]:
    """Shows what is being done while it takes a moment; where there is no terminal, only if it takes some seconds."""
    console = Console(stderr=True, highlight=False)
    if quiet:
        yield
    elif console.is_terminal:
        with console.status(text):
            yield
    else:
        late = threading.Timer(_PATIENCE, console.print, (text,), {"markup": False})
        late.daemon = True
        late.start()
        try:
            yield
        finally:
            late.cancel()
