"""Our own trackers: Weights & Biases and MLflow, each installed with the extra of its name."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from gkd_plugin.errors import UserError
from gkd_plugin.space.tracker import TrackedRun, Tracker

_PROJECT = "gkd_plugin"
_PATIENCE = 30  # seconds for a server to answer
_BATCH, _LONGEST = 100, 500  # parameters in one call, and letters of each, that every MLflow server takes


def _load(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise UserError(f"the package {name} is not installed: pip install 'gkd_plugin[{name}]'") from None


class WandbTracker(Tracker):
    """Weights & Biases: project ``WANDB_PROJECT`` or ``gkd_plugin``, the study as group."""

    summary = "Weights & Biases (pip install 'gkd_plugin[wandb]')"
    reference = "https://wandb.ai"

    def begin(self, run: TrackedRun) -> None:
        wandb = _load("wandb")
        settings = wandb.Settings(console="off", silent=True, init_timeout=_PATIENCE)
        if os.environ.get("WANDB_MODE", "online") == "online" and not wandb.login(prompt=False):
            raise UserError("nobody is logged in: run 'wandb login', or set WANDB_MODE=offline")
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            group=run.group,
            name=run.name,
            id=run.id,
            resume="allow",
            config=dict(run.config),
            settings=settings,
        )
        self.run.define_metric("*", step_metric="epoch")

    def epoch(self, epoch: int, values: Mapping[str, float]) -> None:
        self.run.log({"epoch": epoch, **values})

    def end(self, values: Mapping[str, float] | None) -> None:
        if values is not None:
            self.run.summary.update(dict(values))
        self.run.finish(exit_code=int(values is None))


class MlflowTracker(Tracker):
    """MLflow: the server or folder of ``MLFLOW_TRACKING_URI``, experiment ``MLFLOW_EXPERIMENT_NAME`` or the study's name."""

    summary = "MLflow (pip install 'gkd_plugin[mlflow]')"
    reference = "https://mlflow.org"

    def begin(self, run: TrackedRun) -> None:
        mlflow = _load("mlflow")
        self.entities = mlflow.entities
        self.client = mlflow.MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", run.group)
        known = self.client.get_experiment_by_name(name)
        experiment = self.client.create_experiment(name) if known is None else known.experiment_id
        found = self.client.search_runs([experiment], f"tags.gkd_id = '{run.id}'", max_results=1) if run.again else []
        if found:
            self.id = found[0].info.run_id
            self.client.update_run(self.id, status="RUNNING")
            return
        tags = {"gkd_id": run.id, "seed": str(run.seed), "folder": str(run.folder)}
        self.id = self.client.create_run(experiment, run_name=run.name, tags=tags).info.run_id
        params = [self.entities.Param(key, str(value)[:_LONGEST]) for key, value in run.config.items()]
        for start in range(0, len(params), _BATCH):
            self.client.log_batch(self.id, params=params[start : start + _BATCH])

    def epoch(self, epoch: int, values: Mapping[str, float]) -> None:
        self._log(values, epoch)

    def end(self, values: Mapping[str, float] | None) -> None:
        self._log(values or {}, 0)
        self.client.set_terminated(self.id, "KILLED" if values is None else "FINISHED")

    def _log(self, values: Mapping[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        metrics = [self.entities.Metric(name, value, now, step) for name, value in values.items()]
        for start in range(0, len(metrics), _BATCH):
            self.client.log_batch(self.id, metrics=metrics[start : start + _BATCH])


TRACKERS: dict[str, type[Tracker]] = {"wandb": WandbTracker, "mlflow": MlflowTracker}
