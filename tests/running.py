"""Doing what a configuration says: whole, stopped and refused runs, and trainers that a test drives by hand.

What is run stands in ``tests/toy.py``: data sets and configurations.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from torch import Tensor, nn
from torch_geometric import seed_everything
from torch_geometric.data import Batch, Data
from torch_geometric.graphgym.loader import create_loader
from torch_geometric.graphgym.model_builder import create_model

import gkd_cli
from gkd_plugin import host
from gkd_plugin.commands.run import run
from gkd_plugin.config.load import read_config
from gkd_plugin.config.resolve import resolve
from gkd_plugin.host import cfg
from gkd_plugin.models.sample import Sample
from gkd_plugin.space.answers import Member
from gkd_plugin.space.observation import Observation
from gkd_plugin.training.graphgym import make_trainer
from gkd_plugin.training.trainer import Trainer
from tests import toy

TIMES = ("eta", "time_iter", "time_used")


class Driven:
    """A trainer under its own cfg, built as a run of seed 1 builds it: ``with Driven(kd=...) as trainer``."""

    def __init__(self, **groups: Any) -> None:
        self.own = read_config(toy.values(**groups)).cfg
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


# -- whole, stopped and refused runs ------------------------------------------------------------------------------------

OTHER = ["optim.base_lr", "0.1"]


def gkd(*words: str) -> Result:
    """``gkd run`` with these words."""
    return CliRunner().invoke(gkd_cli.main, ["run", *words])


def refused(path: Path, *overrides: str) -> str:
    """The one message with which ``gkd run`` ends with code 2; nothing of the run is left behind."""
    before = sorted(path.parent.rglob("*"))
    done = gkd("--cfg", str(path), *overrides)
    assert done.exit_code == 2, (done.output, done.exception)
    assert sorted(path.parent.rglob("*")) == before
    return "\n".join(line for line in done.output.splitlines() if line and "warning" not in line)


def break_seeds(patch: pytest.MonkeyPatch, error: BaseException, seeds: tuple[int, ...] = (2,)) -> list[int]:
    """These seeds end with an error before anything is trained; the seeds that begin, in order."""
    begun: list[int] = []
    plain = Trainer.run

    def breaking(self: Trainer, seed: int) -> Any:
        begun.append(seed)
        if seed in seeds:
            raise error
        return plain(self, seed)

    patch.setattr(Trainer, "run", breaking)
    return begun


def trained(patch: pytest.MonkeyPatch) -> list[str]:
    """The seed folders ``run/0`` that are really trained from now on."""
    folders: list[str] = []
    plain = Trainer.run

    def watched(self: Trainer, seed: int) -> Any:
        folders.append("/".join(Path(cfg.run_dir).parts[-2:]))
        return plain(self, seed)

    patch.setattr(Trainer, "run", watched)
    return folders


class Code:
    """A pickle that does something when it is read."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("executed"),))


class Stop(KeyboardInterrupt):
    """As if the user pressed Ctrl-C."""


def stop_in(epoch: int, patch: pytest.MonkeyPatch, by: BaseException | None = None) -> None:
    """Runs are stopped before this epoch is evaluated: by the user, unless something else is named."""
    plain = Trainer._evaluate

    def stopping(self: Trainer, now: int, *rest: Any) -> None:
        if now == epoch:
            raise by or Stop
        plain(self, now, *rest)

    patch.setattr(Trainer, "_evaluate", stopping)


# -- a teacher and its student ------------------------------------------------------------------------------------------

BIG: dict[str, Any] = {"gnn": {"dim_inner": 16, "dropout": 0.0}, "optim": {"max_epoch": 6}}
SOFT: dict[str, Any] = {"kd_response": {"weight": 1.0, "nodes": "all"}}


def teach(folder: Path, name: str = "wide", repeat: int = 1, **groups: Any) -> Path:
    """A trained teacher ``results/<name>``."""
    keys = {**groups, **{group: {**big, **groups.get(group, {})} for group, big in BIG.items()}}
    return run(toy.config(folder, name, **keys), repeat=repeat, quiet=True).folder


def student(folder: Path, name: str = "narrow", **groups: Any) -> Path:
    """The configuration of a student that listens to it."""
    return toy.config(folder, name, **{**SOFT, **groups, "kd": {"teacher": "wide", **groups.get("kd", {})}})


def kept(holding: str) -> list[Path]:
    """The files of the store that hold an observation (``logits``) or something derived from one (``value``)."""
    return [file for file in sorted(Path("kept").iterdir()) if holding in torch.load(file, weights_only=True)]


# -- what runs leave behind ---------------------------------------------------------------------------------------------


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def result(folder: Path, seed: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / str(seed) / "result.json").read_text())
    return found


def weights(folder: Path, seed: int = 0) -> dict[str, Tensor]:
    found: dict[str, Tensor] = torch.load(folder / str(seed) / "student_1.pt", weights_only=True)
    return found


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


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
