"""The seed of a run that is put into use: the best by validation, unless the user names another."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gkd_plugin.errors import UserError, quote
from gkd_plugin.training.result import RESULT, RunResult, Score, read_result
from gkd_plugin.training.run_folder import FAILED, finished_seeds, is_seed, read_reason, seed_folders
from gkd_plugin.training.seed_files import SINGLE, find_damage

_AGAIN = "The same gkd run command again finishes it."


@dataclass(frozen=True)
class Chosen:
    """One seed of a run beside all finished ones.

    Args:
        run (Path): The run's folder.
        folder (Path): The seed's folder.
        result (RunResult): Its result.
        results (tuple of RunResult): Those of all finished seeds, this one among them.
        folders (tuple of Path): Their folders.
        named (bool): Whether the user named the seed, by its folder or its number.
    """

    run: Path
    folder: Path
    result: RunResult
    results: tuple[RunResult, ...]
    folders: tuple[Path, ...]
    named: bool

    @property
    def number(self) -> int:
        """The student that is kept of a cohort: the one that answers; of an ensemble, the best by validation."""
        return self.result.single

    @property
    def score(self) -> Score:
        """That student's own score; of an ensemble of earlier versions, which kept its weights of another epoch, none."""
        own = self.result.answers[f"s{self.number}"]
        if self.is_known:
            return own
        return Score(self.result.answer.epoch, math.nan, math.nan)

    @property
    def is_known(self) -> bool:
        """Whether the weights that are kept are those of its score."""
        own, whole = self.result.answers[f"s{self.number}"], self.result.answer
        return len(self.result.answering) == 1 or own.epoch == whole.epoch or (self.folder / SINGLE).is_file()

    def tests(self) -> list[float]:
        """The test score, in each finished seed, of the student that would be kept of it."""
        seeds = zip(self.folders, self.results, strict=True)
        return [replace(self, folder=folder, result=result).score.test for folder, result in seeds]


def read_folder(run: str | Path) -> Path:
    """The folder that a caller names, as a path.

    Args:
        run (str or Path): What came.

    Raises:
        UserError: If it is neither text nor a path.
    """
    if not isinstance(run, (str, os.PathLike)):
        raise UserError(f"{quote(run)} names no folder. Give that of a run as text or a Path, such as 'results/NAME'.")
    return Path(run).expanduser()


def choose_seed(run: str | Path, seed: int | None = None) -> Chosen:
    """A finished seed of a run.

    Args:
        run (str or Path): The run's folder, or that of one seed.
        seed (int, optional): The number of its folder. (default: the best by validation; the one that ``run`` names)

    Raises:
        UserError: If there is no such folder, no finished seed in it, or the one asked for is damaged.
    """
    folder = read_folder(run).resolve()
    if not folder.is_dir():
        raise UserError(f"{run}: there is no such folder. Name the folder of a run, such as results/NAME.")
    if (folder / RESULT).is_file():  # one seed's
        if seed is not None and folder.name != str(seed):
            raise UserError(
                f"{run} is the folder of seed {folder.name}, and --seed asks for {seed}. Name the run: {folder.parent}."
            )
        return _choose(folder.parent, folder, True)
    found = {int(path.name): path for path in seed_folders(folder)}
    finished = {number: path for number, path in found.items() if (path / RESULT).is_file()}
    if not finished:
        raise UserError(_explain(folder, list(found.values())))
    if seed is not None:
        if seed not in finished:
            if seed in found:
                raise UserError(_explain_seed(found[seed]))
            known = ", ".join(map(str, finished))
            raise UserError(f"--seed: {folder} has no finished seed {seed}; finished: {known}.")
        return _choose(folder, finished[seed], True)
    whole = finished_seeds(folder)
    if not whole:
        return _choose(folder, next(iter(finished.values())), False)  # says what is damaged
    ranked = {path: _rank(_read(path)) for path in whole}
    return _choose(folder, max(ranked, key=lambda path: ranked[path]), False)


def _choose(run: Path, folder: Path, named: bool) -> Chosen:
    if damage := find_damage(folder):
        raise UserError(damage)
    folders = tuple(finished_seeds(run))
    return Chosen(run, folder, _read(folder), tuple(_read(path) for path in folders), folders, named)


def _read(folder: Path) -> RunResult:
    result = read_result(folder)
    assert result is not None
    return result


def _rank(result: RunResult) -> float:
    """Larger is better; NaN is worst."""
    value = result.answers[f"s{result.single}"].val * (1 if result.better else -1)
    return value if value == value else float("-inf")


def _explain(folder: Path, seeds: Sequence[Path]) -> str:
    """Why nothing in a folder can be put into use."""
    if seeds:
        failed = next((path for path in seeds if (path / FAILED).is_file()), None)
        if failed is not None:
            return f"{folder} has no finished seed. {_explain_seed(failed)}"
        return f"{folder} is not finished: no seed in it has a {RESULT}. {_AGAIN}"
    if is_seed(folder):
        return _explain_seed(folder)
    runs = sorted(path.name for path in folder.iterdir() if path.is_dir() and seed_folders(path))
    if runs:
        some = ", ".join(runs[:5]) + (", ..." if len(runs) > 5 else "")
        return f"{folder} is a folder of runs. Name one of them: {some} (gkd report {folder} says which are good)."
    return (
        f"{folder} contains no finished run. Name the folder of a run (results/NAME) or of one seed (results/NAME/0)."
    )


def _explain_seed(folder: Path) -> str:
    """Why a seed has no result."""
    if (folder / FAILED).is_file():
        return f"{folder} failed, as its {FAILED} says: {read_reason(folder)}"
    return f"{folder} is one seed, and it is not finished: it has no {RESULT}. {_AGAIN}"
