"""Runs on the toy data sets, whole or stopped, and trainers that a test drives by hand."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric import seed_everything
from torch_geometric.data import Batch, Data
from torch_geometric.graphgym.loader import create_loader
from torch_geometric.graphgym.model_builder import create_model

from gkd_plugin import host
from gkd_plugin.config.load import read_config
from gkd_plugin.config.resolve import resolve
from gkd_plugin.host import cfg
from gkd_plugin.models.observed import Sample
from gkd_plugin.space.answers import Member
from gkd_plugin.space.observation import Observation
from gkd_plugin.training.graphgym import make_trainer
from gkd_plugin.training.trainer import Trainer
from tests import toy

TIMES = ("eta", "time_iter", "time_used")


class Driven:
    """A trainer under its own cfg, built as a run of seed 1 builds it: ``with Driven(kd=...) as trainer``."""

    def __init__(self, **groups: Any) -> None:
        self.own = read_config(toy.values(Path("results"), **groups)).cfg
        self.own.out_dir = self.own.run_dir = "results/driven"
        self.own.seed = 1

    def __enter__(self) -> Trainer:
        self.scope = host.scoped(self.own)
        self.scope.__enter__()
        seed_everything(1)
        loaders = create_loader()
        model = create_model()
        cfg.run_dir = "results/driven/0"
        return make_trainer(resolve(cfg), model, loaders, [])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.scope.__exit__(kind, error, trace)


def single(trainer: Trainer) -> Sample:
    """The one batch of a full-batch trainer."""
    sample = trainer.feeds[0].single
    assert sample is not None
    return sample


def compare(trainer: Trainer, learner: int = 1) -> tuple[Observation, dict[Member, Observation], dict[str, Tensor]]:
    """What a student says now, what its members say, and the values of its terms."""
    student, sample = trainer.students[learner - 1], single(trainer)
    trainer.updates.begin_epoch(0)
    members = student.objective.members(0)
    targets = trainer.sources.observe(learner, members, sample)
    own = student.model.observe(sample, student.objective.taps(0))
    taught = trainer.sources.add_own(targets, own, members)
    return own, targets, student.objective(own.logits.new_zeros(()), own, taught, 0)[1]


def forward(module: nn.Module, data: Data) -> tuple[Tensor, list[Tensor]]:
    """The logits of every node and the output of every layer of a network in evaluation mode, layer by layer."""
    clone = copy.deepcopy(module).eval()
    inside, hidden = Batch.from_data_list([data]), []
    with torch.no_grad():
        for layer in clone.model.mp.children():  # type: ignore[union-attr, operator]
            inside = layer(inside)
            hidden.append(inside.x)
        return clone.model.post_mp.layer_post_mp(inside.clone()).x, hidden  # type: ignore[union-attr, operator]


class Stop(KeyboardInterrupt):
    """As if the user pressed Ctrl-C."""


def stop_in(epoch: int, patch: pytest.MonkeyPatch) -> None:
    """Runs are stopped before this epoch is evaluated."""
    plain = Trainer._evaluate

    def stopping(self: Trainer, now: int, *rest: Any) -> None:
        if now == epoch:
            raise Stop
        plain(self, now, *rest)

    patch.setattr(Trainer, "_evaluate", stopping)


def rows(seed_folder: Path, split: str) -> list[dict[str, Any]]:
    """The rows of a run but for the times in them."""
    found = [json.loads(line) for line in (seed_folder / split / "stats.json").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in TIMES} for row in found]


def outcome(seed_folder: Path) -> dict[str, Any]:
    """All that two equal runs share: answers, rows, and the weights to the last bit."""
    found: dict[str, Any] = {split: rows(seed_folder, split) for split in ("train", "val", "test")}
    found["answers"] = json.loads((seed_folder / "result.json").read_text())["answers"]
    for path in sorted(seed_folder.glob("student_*.pt")):
        weights = torch.load(path, weights_only=True)
        found[path.name] = {name: value.tolist() for name, value in weights.items()}
    return found
