"""Which point a search tries next: Optuna's samplers, and its storage in the study's folder."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gkd_plugin.errors import UserError
from gkd_plugin.study.extras import load_extra
from gkd_plugin.study.space import Space

FILE = "search.log"
TPE, RANDOM, HALVING = "tpe", "random", "halving"
METHODS = (TPE, RANDOM, HALVING)
_CHOICES = "choices"  # under which a trial keeps its choices


@dataclass(frozen=True)
class Proposal:
    """A point that Optuna proposed.

    Args:
        number (int): Its number, from 0.
        choices (dict): The choices by alias.
        told (bool): Whether Optuna knows how it ended.
    """

    number: int
    choices: dict[str, Any]
    told: bool = False


class Proposals:
    """Asks Optuna for points and tells it their scores; larger is better.

    What it proposes follows from its seed, the number of the proposal and what it was told: a search that was interrupted
    goes on as it would have.

    Args:
        folder (Path): Where its storage lies. The caller holds the study's lock: nobody else writes into it.
        space (Space): The space.
        method (str): ``tpe``, or any other for random points.
        seed (int): The seed.

    Raises:
        UserError: Without Optuna, or if the storage is damaged.
    """

    def __init__(self, folder: Path, space: Space, method: str = TPE, seed: int = 0) -> None:
        self._optuna = load_extra("optuna", "search")
        self._optuna.logging.set_verbosity(self._optuna.logging.WARNING)
        journal = load_extra("optuna.storages.journal", "search")
        self._space, self._method, self._seed = space, method, seed
        path = folder / FILE
        _repair(path)
        try:
            lock = journal.JournalFileOpenLock(str(path))  # of a kind that every system has
            storage = self._optuna.storages.JournalStorage(journal.JournalFileBackend(str(path), lock))
            self._study = self._optuna.create_study(
                storage=storage, study_name="search", direction="maximize", load_if_exists=True
            )
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} is damaged ({type(error).__name__}: {error}). Its runs are intact: remove this file, and the same "
                "command begins the search anew; runs that it asks for again are kept."
            ) from None

    def read(self) -> list[Proposal]:
        """All proposals so far. One that was never handed out, as the process was killed, is given up."""
        found = []
        for trial in self._study.get_trials(deepcopy=False):
            told = bool(trial.state.is_finished())
            if _CHOICES in trial.user_attrs:
                found.append(Proposal(trial.number, dict(trial.user_attrs[_CHOICES]), told))
            elif not told:
                self._study.tell(trial.number, state=self._optuna.trial.TrialState.FAIL)
        return found

    def ask(self, explore: bool = False) -> Proposal:
        """The next point.

        Args:
            explore (bool): Draws it at random, whatever the method.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", self._optuna.exceptions.ExperimentalWarning)
            number = len(self._study.get_trials(deepcopy=False))
            self._study.sampler = self._make_sampler(number, explore)
            trial = self._study.ask()
            choices = self._space.suggest(trial)
        trial.set_user_attr(_CHOICES, choices)
        return Proposal(trial.number, choices)

    def _make_sampler(self, number: int, explore: bool) -> Any:
        """One for each proposal, so that it does not matter which process draws it."""
        seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
        samplers = self._optuna.samplers
        if explore or self._method != TPE:
            return samplers.RandomSampler(seed=seed)
        # group: parameters under a condition are modelled together with what they depend on
        return samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)

    def tell(self, number: int, score: float | None) -> None:
        """How a point ended.

        Args:
            number (int): The number of the proposal.
            score (float, optional): Its score; ``None`` where it failed.
        """
        states = self._optuna.trial.TrialState
        old = self._study.get_trials(deepcopy=False)[number]
        if not old.state.is_finished():
            self._study.tell(number, score, state=states.FAIL if score is None else None)
        elif old.state == states.FAIL and score is not None:  # it was tried again
            self._study.add_trial(
                self._optuna.trial.create_trial(
                    value=score, params=old.params, distributions=old.distributions, user_attrs=old.user_attrs
                )
            )


def draw(space: Space, count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Random choices of a space.

    Args:
        space (Space): The space.
        count (int): How many; some may be equal.
        seed (int): The seed.
    """
    optuna = load_extra("optuna", "search")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return [space.suggest(study.ask()) for _ in range(count)]


def _repair(path: Path) -> None:
    """Removes what a process that was killed as it wrote has left: half a line, and its lock."""
    for lock in path.parent.glob(f"{path.name}.lock*"):
        lock.unlink(missing_ok=True)
    if path.is_file():
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with open(path, "r+b") as file:
                file.truncate(whole)
