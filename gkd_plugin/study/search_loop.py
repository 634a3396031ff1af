"""The loop of a search: what is proposed is trained, and what was trained leads to what is proposed."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gkd_plugin.config.load import Config, HostParts, read_config
from gkd_plugin.errors import UserError
from gkd_plugin.study.controls import add_controls
from gkd_plugin.study.display import Display
from gkd_plugin.study.engine import Engine
from gkd_plugin.study.execute import (
    Resources,
    describe,
    find_running,
    make_jobs,
    make_teacher_jobs,
    open_engine,
    run_jobs,
)
from gkd_plugin.study.expand import make_digest
from gkd_plugin.study.halving import Candidate, choose_promotion, count_runs, shorten
from gkd_plugin.study.job import Job
from gkd_plugin.study.ledger import DONE, FAILED, INTERRUPTED, PENDING, Entry, Ledger
from gkd_plugin.study.points import CONTROL, POINT, Point
from gkd_plugin.study.proposals import Proposals
from gkd_plugin.study.resume import choose_jobs
from gkd_plugin.study.space import Space
from gkd_plugin.study.study import Study

_PATIENCE = 100  # proposals in a row that bring nothing new
_BEST = 5  # points whose controls are trained


class Search:
    """Trains what is proposed and proposes by what was trained; the caller holds the study's lock.

    Args:
        study (Study): The study.
        space (Space): Its space.
        proposals (Proposals): Who proposes.
        path (Path): The base configuration.
        steps (tuple): The epochs of each step (:func:`~gkd_plugin.study.halving.make_steps`).
        resources (Resources): Where and how runs are trained.
    """

    def __init__(
        self,
        study: Study,
        space: Space,
        proposals: Proposals,
        path: Path,
        steps: Sequence[int | None],
        resources: Resources,
    ) -> None:
        self.study, self.space, self.proposals, self.path, self.steps = study, space, proposals, path, tuple(steps)
        self.resources = resources
        self.ledger = Ledger(study.ledger)
        self.session = secrets.token_hex(4)
        self.configs: dict[str, Config] = {}
        self.notes: list[str] = []
        self.candidates: dict[str, Candidate] = {}
        self._runs: dict[str, Candidate] = {}  # the candidate of each run, by the run's name
        self._left: list[Job] = []  # what an earlier call has left
        self._teachers: dict[str, bool] = {}  # those that this call has handed in, and whether they have ended
        self._controls: list[str] = []
        self._exhausted = False
        self._known: HostParts = {}

    def run(
        self, runs: int | None, hours: float | None, controls: bool, retry_failed: bool, quiet: bool = False
    ) -> list[Entry]:
        """Searches until the number or the time is reached; then trains the controls of the best.

        Args:
            runs (int, optional): How many points in all.
            hours (float, optional): Hours in which runs may begin.
            controls (bool): Whether controls are trained.
            retry_failed (bool): Also runs again what failed before.
            quiet (bool): Shows nothing.

        Returns:
            list of Entry: The state of every run.
        """
        deadline = None if hours is None else time.monotonic() + 3600 * hours
        kept = self._take_up(retry_failed)
        total = count_runs(runs, len(self.steps)) if runs is not None else len(kept)
        title = describe(self.study, total, self.resources)
        with Display(title, total, kept, self._find_running, quiet) as display:
            try:
                with open_engine(self.resources, self.study.threads) as engine:
                    self._search(engine, display, runs, deadline)
                    if controls:
                        self._train_controls(engine, display, retry_failed)
            except BaseException:
                self.ledger.mark_interrupted(self._list_running(), self.session)
                raise
        return self.ledger.entries()

    # -- the search ------------------------------------------------------------------------------------------------------

    def _search(self, engine: Engine, display: Display, runs: int | None, deadline: float | None) -> None:
        while True:
            while engine.pending < max(1, engine.slots):
                late = deadline is not None and time.monotonic() >= deadline
                job = None if late else self._find_job(runs, display)
                if job is None:
                    break
                self._train_teachers(engine, display, self.configs[job.name])
                self._submit(engine, display, job)
            if not engine.pending:
                break
            self._wait(engine, display)
        if all(self._find_score(each) is None for each in self.candidates.values()) and len(self.steps) > 1:
            self.notes.append("no point has finished all epochs; run the same command to continue")

    def _find_job(self, runs: int | None, display: Display) -> Job | None:
        """What is trained next: what was interrupted, a point that goes on, or a new one."""
        if self._left:
            return self._left.pop(0)
        chosen = choose_promotion(list(self.candidates.values()), len(self.steps))
        if chosen is not None:
            chosen.step += 1
            return self._begin(chosen)
        while not self._exhausted and (runs is None or len(self.candidates) < runs):
            new = self._propose()
            if new is None:
                return None
            try:
                return self._begin(new)
            except UserError as error:
                display.end(self._refuse(new, str(error)))
        return None

    def _propose(self) -> Candidate | None:
        """A point that was not proposed before; ``None`` where none turns up."""
        for attempt in range(_PATIENCE):
            # after one that was there already a random one, so that a search does not stay where it is
            proposal = self.proposals.ask(explore=attempt > 0)
            candidate = self._add(proposal.number, proposal.choices)
            if len(candidate.proposals) == 1:
                return candidate
            self._tell(candidate, [proposal.number])
        self._exhausted = True
        tried = len(self.candidates)
        self.notes.append(
            f"the search ended after {tried} points: {_PATIENCE} proposals in a row repeated earlier points"
        )
        return None

    def _add(self, number: int, choices: Mapping[str, Any]) -> Candidate:
        """The candidate of a proposal, new or known; equal configurations are one."""
        point = self.study.settle(self.space.make_point(choices))
        candidate = self.candidates.setdefault(make_digest(point.values), Candidate(point))
        candidate.proposals.append(number)
        return candidate

    def _begin(self, candidate: Candidate) -> Job:
        """The job of a candidate's present step, noted in the study."""
        job = self._make_job(candidate)
        candidate.running = True
        self.study.save()
        return job

    def _make_job(self, candidate: Candidate) -> Job:
        point = shorten(candidate.point, self.steps[candidate.step])
        self._note([point])
        self._runs[point.name] = candidate
        self.configs[point.name] = read_config(point.values, path=self.path, known=self._known)
        return make_jobs(self.study, [point], self.configs, self.session, self.resources.timeout)[0]

    def _note(self, points: Sequence[Point]) -> None:
        known = {point.name: point for point in self.study.points}
        self.study = replace(self.study, points=tuple({**known, **{point.name: point for point in points}}.values()))

    def _refuse(self, candidate: Candidate, reason: str) -> Entry:
        """Records a point that is no configuration; only a few random points were checked before."""
        name = shorten(candidate.point, self.steps[candidate.step]).name
        entry = Entry(name).begin(self.session, "", self.study.repeat).end(FAILED, " ".join(reason.split()))
        self.ledger.write(entry)
        self.study.save()
        self._end(candidate, entry)
        return entry

    def _wait(self, engine: Engine, display: Display) -> None:
        """Waits for one run and takes note of it."""
        entry = engine.next()
        display.end(entry)
        if entry.name in self._teachers:
            self._teachers[entry.name] = True
        elif entry.name in self._runs:
            self._end(self._runs[entry.name], entry)

    def _end(self, candidate: Candidate, entry: Entry) -> None:
        """Keeps how a candidate's step ended, and tells who proposes."""
        candidate.running = False
        if entry.state == INTERRUPTED:
            return
        self._score(candidate, entry)
        self._tell(candidate, candidate.proposals)

    def _score(self, candidate: Candidate, entry: Entry) -> None:
        if entry.state == DONE and entry.val is not None:
            candidate.scores[candidate.step] = entry.val if entry.better else -entry.val
        else:
            candidate.failed = True

    def _tell(self, candidate: Candidate, numbers: Iterable[int]) -> None:
        """Tells who proposes how a candidate has ended, if it has."""
        score = self._find_score(candidate)
        if candidate.failed or score is not None:
            for number in numbers:
                self.proposals.tell(number, score)

    def _submit(self, engine: Engine, display: Display, job: Job) -> None:
        engine.submit(job)
        display.total = max(display.total, sum(display.counts.values()) + engine.pending)

    def _train_teachers(self, engine: Engine, display: Display, config: Config) -> None:
        """Trains the teachers that a point still lacks, and waits for them."""
        jobs = make_teacher_jobs(self.study, [config], self.session, self.resources.timeout)
        for job in jobs:
            if job.name not in self._teachers:
                self._teachers[job.name] = False
                display.total += 1  # beside the points
                self._submit(engine, display, job)
        while not all(self._teachers[job.name] for job in jobs):
            self._wait(engine, display)

    # -- earlier calls -----------------------------------------------------------------------------------------------------

    def _take_up(self, retry_failed: bool) -> list[Entry]:
        """Reads what earlier calls have proposed and trained; returns what has ended."""
        untold = set()
        for proposal in self.proposals.read():
            self._add(proposal.number, proposal.choices)
            if not proposal.told:
                untold.add(proposal.number)
        kept: list[Entry] = []
        for candidate in self.candidates.values():
            kept += self._restore(candidate, retry_failed)
        for candidate in self.candidates.values():
            self._tell(candidate, [number for number in candidate.proposals if number in untold])
        return kept

    def _restore(self, candidate: Candidate, retry_failed: bool) -> list[Entry]:
        """Puts a candidate where the ledger says that it has come to."""
        kept: list[Entry] = []
        for step, epochs in enumerate(self.steps):
            if step and self.ledger.read(shorten(candidate.point, epochs).name).state == PENDING:
                break
            candidate.step = step
            try:
                job = self._make_job(candidate)
            except UserError as error:
                kept.append(self._refuse(candidate, str(error)))
                break
            ended, left = choose_jobs([job], self.ledger, retry_failed)
            if left:
                candidate.running = True
                self._left += left
                break
            kept += ended
            self._score(candidate, ended[0])
            if candidate.failed:
                break
        return kept

    # -- controls --------------------------------------------------------------------------------------------------------

    def _train_controls(self, engine: Engine, display: Display, retry_failed: bool) -> None:
        """Trains the controls of the best points; others that share one of these have it too."""
        ended = [each for each in self.candidates.values() if self._find_score(each) is not None]
        points, new = add_controls([each.point for each in ended], self.configs)
        best = {each.point.name for each in sorted(ended, key=lambda each: -(self._find_score(each) or 0.0))[:_BEST]}
        trained = {point.name for point in self.study.points if point.role == CONTROL}
        wanted = trained | {str(point.control) for point in points if point.name in best}
        there = wanted | {each.point.name for each in ended}
        self._note(
            [
                point if point.control in there else replace(point, control=None)
                for point in points
                if point.role == POINT
            ]
        )
        needed = [point for point in points if point.role == CONTROL and point.name in wanted]
        self._note(needed)
        self.study.save()
        self.configs |= {point.name: new[point.name] for point in needed}
        jobs = make_jobs(self.study, needed, self.configs, self.session, self.resources.timeout)
        _, left = choose_jobs(jobs, self.ledger, retry_failed)
        self._controls = [job.name for job in left]
        display.total = max(display.total, sum(display.counts.values()) + len(left))
        run_jobs(engine, left, display)

    # -- parts -----------------------------------------------------------------------------------------------------------

    def _find_score(self, candidate: Candidate) -> float | None:
        """Its score with all epochs; larger is better."""
        return candidate.scores.get(len(self.steps) - 1)

    def _list_running(self) -> list[str]:
        """What this call may be training."""
        runs = [name for name, candidate in list(self._runs.items()) if candidate.running]
        return [*runs, *(name for name, ended in list(self._teachers.items()) if not ended), *self._controls]

    def _find_running(self) -> list[Entry]:
        return find_running(self.ledger, self._list_running())
