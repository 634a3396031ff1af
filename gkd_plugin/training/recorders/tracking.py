"""Tells the tracker of ``kd.tracker`` how a run goes; whatever becomes of that, the run and its numbers are the same."""

from __future__ import annotations

import json
import logging
import math
import secrets
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import yaml
from yacs.config import CfgNode

from gkd_plugin.errors import UserError, describe_error
from gkd_plugin.groups import flatten
from gkd_plugin.space import axes
from gkd_plugin.space.tracker import TrackedRun, Tracker
from gkd_plugin.training.checkpoint import global_random_state, set_global_random_state
from gkd_plugin.training.recorders.base import Recorder
from gkd_plugin.training.result import RunResult
from gkd_plugin.training.run_folder import TRACKED, write_text


class Tracking(Recorder):
    """Begins with the first epoch that is told, and ends with the run.

    Args:
        name (str): The tracker, a name on the axis ``trackers``.
        own (CfgNode): The run's configuration.
    """

    def __init__(self, name: str, own: CfgNode) -> None:
        self.name, self.own = name, own
        self.folder = Path(own.run_dir)
        self.tracker: Tracker | None = None
        self.failure: str | None = None

    def see_scores(self, epoch: int, values: Mapping[str, float]) -> None:
        if self.tracker is None and self.failure is None:
            self._call(self._begin)
        if self.tracker is not None:
            tracker, known = self.tracker, _drop_unknown(values)
            self._call(lambda: tracker.epoch(epoch, known))

    def finish(self, result: RunResult) -> None:
        values: dict[str, float] = {"epochs": result.epochs, "seconds": result.seconds}
        for name, score in result.answers.items():
            values |= {f"{name}/val": score.val, f"{name}/test": score.test, f"{name}/epoch": score.epoch}
        self._end(_drop_unknown(values))

    def stop(self) -> None:
        self._end(None)

    def warnings(self) -> Iterator[str]:
        if self.failure is not None:
            yield self.failure

    def _begin(self) -> None:
        path = self.folder / TRACKED
        known = _read(path)
        again = self.name in known
        values = {key: value for key, value in flatten(yaml.safe_load(self.own.dump())).items() if value is not None}
        place = Path(self.own.out_dir)
        tracker = axes.trackers[self.name]()
        ours = known.get(self.name) or secrets.token_hex(6)
        number = self.folder.name
        group = Path(place.absolute()).parent.name
        tracker.begin(TrackedRun(f"{place.name}/{number}", group, int(self.own.seed), self.folder, values, ours, again))
        self.tracker = tracker
        write_text(path, json.dumps({**known, self.name: ours}) + "\n")

    def _end(self, values: Mapping[str, float] | None) -> None:
        if self.tracker is None:
            return
        tracker = self.tracker
        self._call(lambda: tracker.end(values))
        if self.failure is not None:  # the result is written already, or there is none
            logging.warning("gkd_plugin: %s", self.failure)
        self.tracker = None

    def _call(self, function: Callable[[], None]) -> None:
        """Calls a tracker; after its first error no more. The run's random numbers stay as they are."""
        state = global_random_state()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of packages that are not ours
                function()
        except (Exception, SystemExit) as error:
            text = str(error) if isinstance(error, UserError) else describe_error(error)
            self.failure = f"kd.tracker {self.name}: {text.rstrip('.')}. The run goes on without it."
            self.tracker = None
        finally:
            set_global_random_state(state)


def _read(path: Path) -> dict[str, str]:
    """The ids that this seed has had before."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def _drop_unknown(values: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}
