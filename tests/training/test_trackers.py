"""Weights & Biases and MLflow, with modules that stand in for theirs: what they are asked for, and what is said without them."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gkd_plugin.commands.run import run
from gkd_plugin.space.tracker import TrackedRun, Tracker
from gkd_plugin.training.trackers import MlflowTracker, WandbTracker
from tests import toy

CONFIG = {"gnn.dim_inner": 8, "dataset.name": "x" * 600, **{f"key.{number}": number for number in range(120)}}
RUN = TrackedRun("base/0", "study", 1, Path("results/base/0"), CONFIG, "abc", False)


def follow(tracker: Tracker, run: TrackedRun = RUN, ended: bool = True) -> None:
    tracker.begin(run)
    tracker.epoch(0, {"train/loss": 1.0, "val/accuracy": 0.5})
    tracker.epoch(1, {"train/loss": 0.5, "val/accuracy": 0.75})
    tracker.end({"mean/test": 0.7} if ended else None)


class Wandb:
    """The part of wandb that is used."""

    def __init__(self, key: str | None) -> None:
        self.key, self.begun, self.rows = key, dict[str, Any](), list[Any]()
        self.summary, self.code = dict[str, Any](), -1

    def Settings(self, **values: Any) -> dict[str, Any]:
        return values

    def login(self, prompt: bool) -> bool:
        assert not prompt
        return self.key is not None

    def init(self, **values: Any) -> Any:
        self.begun = values
        return self

    def define_metric(self, name: str, step_metric: str) -> None:
        assert (name, step_metric) == ("*", "epoch")

    def log(self, row: dict[str, float]) -> None:
        self.rows.append(row)

    def finish(self, exit_code: int) -> None:
        self.code = exit_code


@pytest.mark.parametrize("ended", [True, False])
def test_wandb(ended: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = Wandb("key")
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    follow(WandbTracker(), ended=ended)
    begun = wandb.begun
    assert [begun[key] for key in ("project", "group", "name", "id", "resume")] == [
        "mine",
        "study",
        "base/0",
        "abc",
        "allow",
    ]
    assert begun["config"] == CONFIG
    assert wandb.rows[1] == {"epoch": 1, "train/loss": 0.5, "val/accuracy": 0.75}
    assert (wandb.summary, wandb.code) == (({"mean/test": 0.7}, 0) if ended else ({}, 1))


def test_wandb_asks_nobody_to_log_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", Wandb(None))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with pytest.raises(ValueError, match="nobody is logged in: run 'wandb login', or set WANDB_MODE=offline"):
        follow(WandbTracker())
    monkeypatch.setenv("WANDB_MODE", "offline")
    follow(WandbTracker())


class Mlflow:
    """The part of MLflow that is used: one store for all clients."""

    def __init__(self) -> None:
        self.experiments, self.runs = dict[str, str](), list[dict[str, Any]]()
        self.entities = SimpleNamespace(Param=lambda *parts: parts, Metric=lambda *parts: parts)

    def MlflowClient(self) -> Mlflow:
        return self

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(experiment_id=self.experiments[name]) if name in self.experiments else None

    def create_experiment(self, name: str) -> str:
        return self.experiments.setdefault(name, str(len(self.experiments)))

    def search_runs(self, experiments: list[str], text: str, max_results: int) -> list[Any]:
        found = [run for run in self.runs if text == f"tags.gkd_id = '{run['tags']['gkd_id']}'"]
        return [SimpleNamespace(info=SimpleNamespace(run_id=self.runs.index(run))) for run in found[:max_results]]

    def create_run(self, experiment: str, run_name: str, tags: dict[str, str]) -> Any:
        self.runs.append({"name": run_name, "tags": tags, "params": [], "metrics": [], "status": "RUNNING"})
        return SimpleNamespace(info=SimpleNamespace(run_id=len(self.runs) - 1))

    def update_run(self, number: int, status: str) -> None:
        self.runs[number]["status"] = status

    def log_batch(self, number: int, metrics: Any = (), params: Any = ()) -> None:
        assert len(metrics) <= 1000 and len(params) <= 100
        self.runs[number]["metrics"] += metrics
        self.runs[number]["params"] += params

    def set_terminated(self, number: int, status: str) -> None:
        self.runs[number]["status"] = status


def test_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = Mlflow()
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    follow(MlflowTracker(), ended=False)
    assert mlflow.experiments == {"study": "0"} and mlflow.runs[0]["status"] == "KILLED"
    assert dict(mlflow.runs[0]["params"]) == {key: str(value)[:500] for key, value in CONFIG.items()}
    again = TrackedRun(**{**vars(RUN), "again": True})
    follow(MlflowTracker(), again)
    assert len(mlflow.runs) == 1 and mlflow.runs[0]["status"] == "FINISHED", "it goes on under its id"
    metrics = [(name, value, step) for name, value, _, step in mlflow.runs[0]["metrics"]]
    assert metrics[:4] == [
        ("train/loss", 1.0, 0),
        ("val/accuracy", 0.5, 0),
        ("train/loss", 0.5, 1),
        ("val/accuracy", 0.75, 1),
    ]
    assert metrics[-1] == ("mean/test", 0.7, 0)
    follow(MlflowTracker(), TrackedRun(**{**vars(RUN), "id": "other", "again": True}))
    assert len(mlflow.runs) == 2, "a store that does not know it begins anew"


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_without_the_package_a_run_goes_on(name: str, work_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    report = run(toy.values(Path("results"), optim={"max_epoch": 2}, kd={"tracker": name}), name="one", quiet=True)
    said = f"kd.tracker {name}: the package {name} is not installed: pip install 'gkd_plugin[{name}]'. The run goes on without it."
    assert said in report.results[0].warnings
