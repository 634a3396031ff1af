"""The seeds of one run: trained one after the other, or stacked."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from torch import nn
from yacs.config import CfgNode

from gkd_plugin.commands.blame import describe_own_code
from gkd_plugin.commands.progress import run_progress
from gkd_plugin.commands.seed import CHECKPOINTS, record_failure, train_seed
from gkd_plugin.config.load import Config
from gkd_plugin.data.keep import keep_data
from gkd_plugin.errors import RunFailed, UserError
from gkd_plugin.host import cfg
from gkd_plugin.training.checkpoint import Checkpoints
from gkd_plugin.training.claim import withdraw
from gkd_plugin.training.disk import DiskFailed
from gkd_plugin.training.result import RESULT, RunResult, read_result
from gkd_plugin.training.seed_files import find_damage
from gkd_plugin.training.stack import Stack
from gkd_plugin.training.trainer import Progress
from gkd_plugin.training.turns import Stopped, find_seat


@dataclass
class Seeds:
    """What became of a run's seeds.

    Args:
        results (dict): The results by seed.
        failures (dict): Why the others have none, by seed.
        blamed (list of str): Whose code was said to have failed.
    """

    results: dict[int, RunResult] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    blamed: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Work:
    """A seed that is to be trained."""

    seed: int
    folder: Path
    train: Callable[[Progress], RunResult]


def train_seeds(
    config: Config,
    further: Sequence[CfgNode],
    folder: Path,
    repeat: int,
    quiet: bool,
    watch: Progress | None,
    teacher: nn.Module | None,
) -> Seeds:
    """Trains the seeds that are not finished; each fails for itself.

    Args:
        config (Config): The configuration, which is also the present global cfg.
        further (sequence of CfgNode): Configurations of unlike students.
        folder (Path): The run's folder.
        repeat (int): Number of seeds.
        quiet (bool): Shows no progress.
        watch (callable, optional): Called after every epoch.
        teacher (nn.Module, optional): A teacher that is not a run.

    Raises:
        UserError: For a mistake that every seed would end with.
    """
    seeds = Seeds()
    work = []
    first = int(cfg.seed)
    for number in range(first, first + repeat):
        seed, place = number + 1, folder / str(number)
        damage = find_damage(place)
        if damage is not None:
            seeds.failures[seed] = damage
        elif (done := read_result(place)) is not None:
            seeds.results[seed] = done
        else:
            train = partial(_train, config, further, folder, place, seed, teacher)
            work.append(_Work(seed, place, train))
    title, epochs = folder.name, int(cfg.optim.max_epoch)
    if len(work) > 1 and (config.plan["stack"] or find_seat() is not None):
        _train_stacked(seeds, work, title, epochs, quiet, watch)
        return seeds
    for each in work:
        what = f"{title} seed {each.seed} ({each.seed - first}/{repeat})"
        with run_progress(what, epochs, quiet, watch) as progress:
            try:
                seeds.results[each.seed] = each.train(progress)
            except UserError:
                raise
            except Exception as error:  # a user's own code, too: the other seeds and the control go on
                _record(seeds, each, error, quiet)
                if isinstance(error, DiskFailed):
                    break
    return seeds


def _train(
    config: Config,
    further: Sequence[CfgNode],
    folder: Path,
    place: Path,
    seed: int,
    teacher: nn.Module | None,
    progress: Progress,
) -> RunResult:
    try:
        with _withdraw_unless_begun(folder, place):
            return train_seed(config, further, place, seed, progress, teacher)
    except KeyboardInterrupt as stop:
        if not Checkpoints(place / CHECKPOINTS).exist and not (place / RESULT).is_file():
            stop.args = (f"seed {seed} of {folder.name} starts again: nothing of it was kept yet (no checkpoint)",)
        raise


def _record(seeds: Seeds, work: _Work, error: Exception, quiet: bool) -> None:
    if isinstance(error, DiskFailed):
        seeds.failures[work.seed] = str(error)
        return
    seeds.failures[work.seed] = record_failure(work.folder, error)
    if (
        not quiet
        and not isinstance(error, RunFailed)
        and (blame := describe_own_code(error)) not in ("", *seeds.blamed)
    ):
        seeds.blamed.append(blame)
        print(blame, file=sys.stderr)  # once for all seeds


def _train_stacked(
    seeds: Seeds, work: Sequence[_Work], title: str, epochs: int, quiet: bool, watch: Progress | None
) -> None:
    """All seeds at a time, in the stack that this run is in, or in one of their own."""
    seat = find_seat()
    stack = seat.turns if seat is not None else Stack(work[0].seed)
    assert isinstance(stack, Stack)
    what = f"{title} seeds {work[0].seed} to {work[-1].seed}, {len(work)} stacked"
    with run_progress(what, epochs, quiet, watch) as progress, keep_data():
        together = _Together(progress, [each.seed for each in work])
        calls = [partial(each.train, partial(together.note, each.seed)) for each in work]
        parts = range(0, len(calls), stack.most)
        seats = [seat for begin in parts for seat in stack.run(calls[begin : begin + stack.most])]
    errors = [each.error for each in seats if each.error is not None]
    grave = [error for error in errors if not isinstance(error, Exception) or isinstance(error, UserError)]
    for error in sorted(grave, key=lambda error: isinstance(error, Stopped)):  # what stopped the others first
        raise error
    for each, ended in zip(work, seats, strict=True):
        if ended.result is not None:
            seeds.results[each.seed] = ended.result
        elif isinstance(ended.error, Exception):
            _record(seeds, each, ended.error, quiet)


class _Together:
    """The progress of several seeds as one: the epoch that all have reached, and the mean of their scores.

    Args:
        progress (callable): Shows it.
        seeds (sequence of int): The seeds.
    """

    def __init__(self, progress: Progress, seeds: Sequence[int]) -> None:
        self.progress = progress
        self.reached = dict.fromkeys(seeds, 0)
        self.scores = dict.fromkeys(seeds, math.nan)
        self.shown = 0

    def note(self, seed: int, epoch: int, epochs: int, score: float) -> None:
        """What the loop of a seed calls after every epoch."""
        self.reached[seed], self.scores[seed] = epoch, score
        shown = sum(self.reached.values()) // len(self.reached)
        if shown > self.shown:
            self.shown = shown
            known = [value for value in self.scores.values() if not math.isnan(value)]
            self.progress(shown, epochs, sum(known) / len(known) if known else math.nan)


@contextlib.contextmanager
def _withdraw_unless_begun(folder: Path, seed_folder: Path) -> Iterator[None]:
    """Removes a seed that a user's mistake or Ctrl-C ended early, so that its folder does not block the name."""
    begun = seed_folder.exists()
    try:
        yield
    except BaseException as error:
        if not begun and (isinstance(error, UserError) or not isinstance(error, Exception)):
            withdraw(folder, seed_folder)
        raise
