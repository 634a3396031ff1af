"""The multi-student loop: epochs, evaluation, selection, rows, early stop, resume."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from gkd_plugin.errors import RunFailed, UserError
from gkd_plugin.host import cfg, scoped
from gkd_plugin.models.rng import RandomStreams
from gkd_plugin.models.sample import Sample
from gkd_plugin.plan import Plan
from gkd_plugin.space.knowledge.base import Judged, Term
from gkd_plugin.space.observation import Observation
from gkd_plugin.training.batches import SplitLoader
from gkd_plugin.training.checkpoint import Checkpoints, global_random_state, set_global_random_state
from gkd_plugin.training.depends import ADVICE, describe_change
from gkd_plugin.training.evaluation import Predictions, ensemble, score
from gkd_plugin.training.metrics import choose_metric, list_metrics
from gkd_plugin.training.protocol import describe_protocol
from gkd_plugin.training.recorders.base import Recorder
from gkd_plugin.training.result import RunResult, Score
from gkd_plugin.training.rows import find_gap
from gkd_plugin.training.scoring import TeacherScores, score_tests
from gkd_plugin.training.selection import ENSEMBLE, Selection, State, copy_state, name_of
from gkd_plugin.training.sources.base import Sources, fitting
from gkd_plugin.training.split_rows import Log, SplitRows, shorten
from gkd_plugin.training.step import Updates
from gkd_plugin.training.students import Student
from gkd_plugin.training.turns import clock

T = TypeVar("T")
_ENTRIES = ("done", "students", "streams", "random", "selection", "seconds", "threads")  # of every checkpoint
Progress = Callable[[int, int, float], None]


class Trainer:
    """Trains a cohort and says which epoch and student answer.

    Args:
        plan (Plan): The plan.
        students (sequence of Student): The cohort.
        feeds (sequence of SplitLoader): Train, validation and, where there is one, test.
        logs (sequence of Log): A logger for each split; empty for none.
        streams (RandomStreams): The run's streams.
        kind (str): The host's task type, which decides the metrics.
        sources (Sources): Who teaches the students.
        checkpoints (Checkpoints, optional): Where to keep the run's state.
        progress (callable, optional): ``progress(epoch, epochs, validation score)`` after every epoch.
        recorders (sequence of Recorder): Who writes down how it goes.
        depends (mapping): What :func:`~gkd_plugin.training.depends.find_depends` gave.

    Raises:
        UserError: If there is no validation split.
    """

    def __init__(
        self,
        plan: Plan,
        students: Sequence[Student],
        feeds: Sequence[SplitLoader],
        logs: Sequence[Log],
        streams: RandomStreams,
        kind: str,
        sources: Sources,
        checkpoints: Checkpoints | None = None,
        progress: Progress | None = None,
        recorders: Sequence[Recorder] = (),
        depends: Mapping[str, Any] | None = None,
    ) -> None:
        if len(feeds) < 2:
            raise UserError(
                "splits: the data set has no validation split, by which epochs are selected. Give the data val_mask "
                "(and test_mask), or draw a split (docs/data.md)."
            )
        self.plan, self.students, self.feeds = plan, list(students), list(feeds)
        self.streams, self.kind, self.checkpoints, self.progress = streams, kind, checkpoints, progress
        self.sources, self.recorders, self.depends = sources, recorders, dict(depends or {})
        teachers = [(model.name, each) for model in sources.models.values() for each in model.scored]
        taps = {tap for name, _ in teachers for tap in sources.taps_of(name)}
        self.teachers = TeacherScores([each for _, each in teachers], sorted(taps), feeds, kind, streams)
        self.together = self.students[0].model.together
        self.updates = Updates(plan, self.students, sources, streams, recorders, self.together)
        self.epochs = int(cfg.optim.max_epoch)
        self.selection = Selection(len(self.students), str(plan["predict"]))
        self.seconds = 0.0
        self.done = 0
        self.rows = SplitRows(logs, self.students, self.selection, may_stop=plan["patience"] is not None)
        self._measured: dict[int, dict[str, float]] = {}  # what terms measured last, by student
        self._measured_at = -1

    # -- the run ------------------------------------------------------------------------------------------------

    def run(self, seed: int) -> RunResult:
        """Trains to the end (or on from the last checkpoint) and reports the test scores once."""
        try:
            result = self._train(seed)
        except BaseException:
            for recorder in self.recorders:
                recorder.stop()
            raise
        for recorder in self.recorders:
            recorder.finish(result)
        return result

    def _train(self, seed: int) -> RunResult:
        with self.streams.use("workers"):  # as the host's check of the untrained network does, unseen
            self.feeds[1].start()
        self._resume()
        for epoch in range(self.done, self.epochs):
            started = clock()
            trained = self.updates.epoch(self.feeds[0], epoch)
            seconds = clock() - started
            if self._due(epoch):
                self._evaluate(epoch, trained, seconds)
            else:
                self.feeds[1].skip()
                self.rows.write_training(epoch, trained, seconds)
            self.seconds += clock() - started
            self.done = epoch + 1
            if self.progress is not None:
                self.progress(self.done, self.epochs, self._answer_now())
            if self._out_of_patience():
                self.rows.pad(epoch, self.epochs, self._due)
                break
            if self.checkpoints is not None and self.done < self.epochs and self.checkpoints.due(epoch):
                self.checkpoints.save(epoch, self.state_dict())
        return self._report(seed)

    def _due(self, epoch: int) -> bool:
        period = int(cfg.train.eval_period)
        return (epoch + 1) % period == 0 or epoch == 0 or epoch + 1 == self.epochs

    def _out_of_patience(self) -> bool:
        return self.plan["patience"] is not None and self.selection.stale >= self.plan["patience"]

    # -- evaluation and selection -------------------------------------------------------------------------------

    def _evaluate(self, epoch: int, trained: list[Predictions], seconds: float) -> None:
        outcomes = self._validate(epoch)
        metrics = [outcome.metrics(self.kind) for outcome in outcomes]
        selection = self.selection
        if not selection.metric:
            selection.begin(*choose_metric(list(metrics[0])))
        scores = {name_of(s.number): m[selection.metric] for s, m in zip(self.students, metrics, strict=True)}
        together = ensemble(outcomes, self.kind) if len(outcomes) > 1 else None
        if together is not None:
            scores[ENSEMBLE] = together.metrics(self.kind)[selection.metric]
        selection.update(epoch, scores, self._copy_weights)
        asks_ensemble = together is not None and selection.predict == ENSEMBLE
        extras: dict[str, float] = self.rows.mark(0.0)
        if together is not None:
            extras |= {f"{name}_{selection.metric}": value for name, value in scores.items()}
            extras |= {f"s{s.number}_loss": shorten(o.loss) for s, o in zip(self.students, outcomes, strict=True)}
            mean = sum(scores[name_of(s.number)] for s in self.students) / len(self.students)
            extras |= {f"mean_{selection.metric}": mean, "student": float(0 if asks_ensemble else selection.leader)}
        for student, outcome in zip(self.students, outcomes, strict=True):
            found = self._recall(epoch, student, dict(outcome.mean_extras()))
            for recorder in self.recorders:
                found |= recorder.columns(student)
            extras |= {f"s{student.number}_{name}": shorten(v) for name, v in found.items()}
        if self._measures(epoch):
            self._measured_at = epoch
        for recorder in self.recorders:
            recorder.see_evaluation(epoch, self.students)
        main = together if together is not None and asks_ensemble else outcomes[selection.leader - 1]
        self.rows.write_training(epoch, trained, seconds)
        self.rows.write(1, epoch, main, extras)
        measured = main.metrics(self.kind) if asks_ensemble else metrics[selection.leader - 1]
        values = {f"val/{name}": value for name, value in {"loss": main.loss, **measured, **extras}.items()}
        for recorder in self.recorders:
            recorder.see_scores(epoch, {"train/loss": trained[selection.leader - 1].loss, **values})
        for student, outcome in zip(self.students, outcomes, strict=True):
            if student.awaits_loss:
                student.scheduler.step(outcome.loss)

    def _validate(self, epoch: int) -> list[Predictions]:
        outcomes = [Predictions() for _ in self.students]
        further = {tap for student in self.students for tap in student.objective.evaluated_taps}
        measures = self._measures(epoch)
        for sample in self.feeds[1]:
            if self.together is not None and self.sources.stand_in(1) is None:
                self.sources.run.readings.evaluate_together(sample, further, self.together)
            for student, outcome in zip(self.students, outcomes, strict=True):
                seen = self._observe(student, sample)
                found = score(student.model, sample, seen, "val")
                agrees = self.teachers.on_validation(student.model, sample, seen, found[1])
                outcome.add(*found, {**(self._measure_terms(student, sample, seen) if measures else {}), **agrees})
        return outcomes

    def _measures(self, epoch: int) -> bool:
        """Whether terms measure in this epoch: in the first and the last, and ``kd.measure_period`` epochs after the last time."""
        since = epoch - self._measured_at
        return self._measured_at < 0 or since >= int(self.plan["measure_period"]) or epoch + 1 == self.epochs

    def _recall(self, epoch: int, student: Student, found: dict[str, float]) -> dict[str, float]:
        """A student's numbers of an evaluation, with what its terms measured last where they did not measure now."""
        silent = all(type(term).measure is Term.measure for term in student.objective.each_term())
        if silent or int(self.plan["measure_period"]) == 1:
            return found
        if self._measures(epoch):
            self._measured[student.number] = dict(found)
            return {**found, "measured": float(epoch)}
        return {**self._measured[student.number], **found, "measured": float(self._measured_at)}

    def _observe(self, student: Student, sample: Sample) -> Observation:
        """A student, or what stands in its place, in evaluation mode."""
        instead = self.sources.stand_in(student.number)
        return self.sources.run.readings.evaluate(student.number, sample, student.objective.evaluated_taps, instead)

    def _measure_terms(self, student: Student, sample: Sample, seen: Observation) -> dict[str, float | Judged]:
        """What the terms themselves add to a row of validation."""
        metric = self.selection.metric or choose_metric(list_metrics(self.kind))[0]

        def judge(logits: Tensor) -> dict[str, Judged]:
            true, scores, _ = score(student.model, sample, Observation(logits, {}, seen.graph, seen.labels), "val")
            return {metric: Judged(true.cpu(), scores.cpu(), self.kind, metric)}

        found: dict[str, float | Judged] = {}
        with torch.no_grad(), scoped(student.model.own):
            for term in student.objective.each_term():
                found |= term.measure(seen, judge)
        return found

    def _copy_weights(self, answer: str) -> list[State]:
        """The weights behind an answer: one student's, or everybody's."""
        members = [s for s in self.students if answer in (ENSEMBLE, name_of(s.number))]
        networks = [self.sources.stand_in(student.number) or student.model for student in members]
        return [copy_state(network.module.state_dict()) for network in networks]

    def _answer_now(self) -> float:
        return self.selection.answer.score if self.selection.bests else float("nan")

    # -- the end ------------------------------------------------------------------------------------------------

    def _report(self, seed: int) -> RunResult:
        selection, metric = self.selection, self.selection.metric
        if any(best.epoch < 0 for best in selection.bests.values()):
            raise RunFailed(
                f"{metric} was not a number on the validation split in any epoch, so none can be selected. Set metric_best to "
                "another metric (docs/run.md)."
            )
        tests: dict[str, Predictions] = {}
        told: dict[str, Predictions] = {}
        if len(self.feeds) > 2:
            tests, told = score_tests(self.students, selection.bests, self.feeds[2], self.streams, self.teachers)
        teacher = self.teachers.about(metric, told.get(name_of(1)), self.students[0].model, self.feeds[1])
        answers = {}
        for name, best in selection.bests.items():
            test = tests[name].metrics(self.kind)[metric] if name in tests else float("nan")
            answers[name] = Score(best.epoch, best.score, test)
        result = RunResult(
            seed,
            metric,
            selection.better,
            selection.predict,
            self._complete(answers, Score.mean),
            self.rows.parameters,
            selection.best_student,
            self.done,
            round(self.seconds, 3),
            tuple(self._warnings(teacher)),
            teacher,
            self._complete(self.teachers.agreements(tests, told), lambda each: sum(each) / len(each)),
            self.depends,
            max(student.model.stacked for student in self.students),
            describe_protocol(self.feeds[2], tests, told.get(name_of(1)), self.kind, metric, self._complete)
            if tests
            else {},
        )
        if tests:
            self._write_test(result, tests)
        return result

    def _complete(self, found: Mapping[str, T], mean: Callable[[Sequence[T]], T]) -> dict[str, T]:
        """What is known of every student and the ensemble, with that of the mean and of each rule that may answer."""
        if not found:
            return {}
        single = [found[name_of(student.number)] for student in self.students]
        best = single[self.selection.best_student - 1]
        rules = {"mean": mean(single), "first": single[0], "best": best}
        return {**found, **rules, ENSEMBLE: found.get(ENSEMBLE, single[0]), **self._add_stand_in(best)}

    def _add_stand_in(self, best: T) -> dict[str, T]:
        """What stands in the students' place answers as the best of them does."""
        rule = self.selection.predict
        return {} if rule in ("first", "best", ENSEMBLE) else {rule: best}

    def _warnings(self, told: Mapping[str, Any]) -> Iterator[str]:
        yield from self.teachers.warnings()
        selection = self.selection
        if told.get("metric") == selection.metric:
            ours = selection.bests[name_of(selection.best_student)].score
            if (ours >= told["val"]) if selection.better else (ours <= told["val"]):
                yield (
                    f"kd.teacher: {told['name']} has {selection.metric} {told['val']:g} on validation, no better than its "
                    f"student with {ours:g}. Is it the one you mean?"
                )
        if self.together is not None and all(student.model.stacked == 1 for student in self.students):
            why = next(iter(self.together.told), "no two of them are alike and see the same tensors")
            yield f"kd.stack: its networks ran one at a time: {why}."
        for recorder in self.recorders:
            yield from recorder.warnings()

    def _write_test(self, result: RunResult, tests: Mapping[str, Predictions]) -> None:
        """One row, that of the selected epoch: the host's aggregation cannot pick."""
        name, metric = self.selection.answering, self.selection.metric
        self.selection.leader = 1 if name in (name_of(1), ENSEMBLE) else result.best_student
        extras = self.rows.mark(float(result.epochs < self.epochs))
        if len(self.students) > 1:
            extras |= {f"{key}_{metric}": answer.test for key, answer in result.answers.items()}
            extras["student"] = float(0 if name == ENSEMBLE else self.selection.leader)
        scores = result.protocol.get("parts", {}).get(result.predict, {})
        extras |= {f"{part}_{metric}": value for part, value in scores.items()}
        self.rows.write(2, int(result.answer.epoch), tests[name], extras)

    def answering(self, result: RunResult) -> dict[int, State]:
        """The weights of the students that answer, by number, at the epoch at which they were selected."""
        states = self.selection.answer.states
        return dict(zip(result.answering, states, strict=True))

    def single(self, result: RunResult) -> State | None:
        """Of an ensemble, the weights of its best student at that student's own epoch, whose scores ``result`` has."""
        return self.selection.bests[name_of(result.best_student)].states[0] if len(result.answering) > 1 else None

    # -- resume -------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs to end as an uninterrupted one, bit for bit (GraphGym's own resume does not)."""
        return {
            "done": self.done,
            "students": [student.state_dict() for student in self.students],
            "sources": self.sources.state_dict(),
            "streams": {name: list(states) for name, states in self.streams.states.items()},
            "random": global_random_state(),
            "selection": self.selection.state_dict(),
            "measured": [self._measured_at, self._measured],
            "seconds": self.seconds,
            "threads": torch.get_num_threads(),
            "depends": self.depends,
        }

    def _resume(self) -> None:
        if self.checkpoints is None:
            for recorder in self.recorders:
                recorder.resume(0)
            return
        state = self.checkpoints.load(self._find_fault)
        if state is None:
            self._cut(0)
            return
        change = describe_change(state.get("depends", {}), self.depends)
        if change:
            raise UserError(f"{self.checkpoints.folder.parent} was interrupted, and {change}. {ADVICE}")
        with fitting("the students"):
            for student, theirs in zip(self.students, state["students"], strict=True):
                student.load_state_dict(theirs)
                self.sources.run.readings.note_change(student.number)
        self.sources.load_state_dict(state.get("sources", {}))
        with fitting("the run"):
            self.streams.states = {name: list(states) for name, states in state["streams"].items()}
            self.selection.load_state_dict(state["selection"])
            self._measured_at, self._measured = state.get("measured", (-1, {}))
            self.seconds, self.done = float(state["seconds"]), int(state["done"])
            torch.set_num_threads(int(state["threads"]))
            self.feeds[0].start()
            set_global_random_state(state["random"])
        self._cut(self.done)

    def _find_fault(self, state: Mapping[str, Any]) -> str | None:
        """Why a checkpoint cannot be used: it lacks something, or rows before it are lost."""
        lacking = [name for name in _ENTRIES if name not in state]
        if lacking:
            return f"it has no {', '.join(lacking)}"
        done = state["done"]
        if not isinstance(done, int):
            return f"done is {done!r}"
        for split, log in enumerate(self.rows.logs[:2]):
            epochs = [epoch for epoch in range(done) if split == 0 or self._due(epoch)]
            if (gap := find_gap(Path(log.out_dir) / "stats.json", epochs, done)) is not None:
                return gap
        return None

    def _cut(self, epochs: int) -> None:
        """Rows that were written after the checkpoint go."""
        for recorder in self.recorders:
            recorder.resume(epochs)
        self.rows.cut(epochs)
