"""Schedulers of the user's own: those that wait for the validation loss, and those that are composed of others; heads on
marked layers of further students."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CyclicLR,
    LambdaLR,
    LinearLR,
    ReduceLROnPlateau,
    SequentialLR,
)
from torch_geometric.graphgym import register
from torch_geometric.graphgym.model_builder import create_model

from gkd_plugin import host
from gkd_plugin.commands.run import run
from gkd_plugin.config.load import read_config
from gkd_plugin.config.resolve import resolve
from gkd_plugin.models.observed import ObservedModel
from gkd_plugin.training.students import place_marks
from tests import toy
from tests.running import Driven, Stop, outcome, rows, stop_in

pytestmark = pytest.mark.usefixtures("toy_data")

MAP = {"kd": {"students": 2}, "kd_feature": {"weight": 1.0, "projector": "linear", "layer_map": "attention"}}


def halve(epoch: int) -> float:
    return 0.5**epoch


MAKERS: dict[str, Any] = {
    "sequential": lambda optimizer: SequentialLR(
        optimizer, [LinearLR(optimizer, 0.1, total_iters=1), LambdaLR(optimizer, halve)], [1]
    ),
    "chained": lambda optimizer: ChainedScheduler([ConstantLR(optimizer, 0.1, 1), LambdaLR(optimizer, halve)]),
    "nested": lambda optimizer: ChainedScheduler([MAKERS["sequential"](optimizer), LambdaLR(optimizer, halve)]),
    "cyclic": lambda optimizer: CyclicLR(optimizer, 0.01, 0.1, 2, cycle_momentum=False),
    "plateau": lambda optimizer: ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=10.0, min_lr=[1e-4]),
}


@pytest.fixture(autouse=True)
def _schedulers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, make in MAKERS.items():
        monkeypatch.setitem(register.scheduler_dict, name, make)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("learned", [False, True])
def test_all_groups_move_alike(name: str, learned: bool) -> None:
    rates: list[list[float]] = []
    with Driven(optim={"scheduler": name, "max_epoch": 5}, **(MAP if learned else {"kd": {"students": 2}})) as trainer:
        plain = trainer._evaluate

        def watched(epoch: int, *rest: Any) -> None:
            plain(epoch, *rest)
            rates.append([group["lr"] for group in trainer.students[1].optimizer.param_groups])

        trainer._evaluate = watched  # type: ignore[method-assign]
        trainer.run(1)
    assert all(len(found) == 1 + learned and len(set(found)) == 1 for found in rates)
    assert len({found[0] for found in rates}) > 1, "no scheduler stepped"


@pytest.mark.parametrize("period", [1, 2])
def test_a_plateau_sees_each_student_s_own_validation_loss(period: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[int, list[float]] = {}

    class Watched(ReduceLROnPlateau):
        def step(self, metrics: Any, epoch: Any = None) -> None:
            seen.setdefault(id(self), []).append(round(float(metrics), 6))
            super().step(metrics)

    monkeypatch.setitem(register.scheduler_dict, "plateau", lambda optimizer: Watched(optimizer, patience=0))
    keys = {"optim": {"scheduler": "plateau", "max_epoch": 5}, "train": {"eval_period": period}}
    run(toy.values(Path("results"), kd={"students": 2}, **keys), name="study", quiet=True)
    found = rows(Path("results/study/0"), "val")
    assert [row["epoch"] for row in found] == ([0, 1, 2, 3, 4] if period == 1 else [0, 1, 3, 4])
    assert list(seen.values()) == [[row[f"s{number}_loss"] for row in found] for number in (1, 2)]


def test_a_run_with_a_plateau_resumes(tmp_path: Path) -> None:
    values = toy.values(
        Path("results"), optim={"scheduler": "plateau", "max_epoch": 5}, train={"ckpt_period": 1}, **MAP
    )
    run(values, name="whole", quiet=True)
    with pytest.MonkeyPatch.context() as patch:
        stop_in(3, patch)
        with pytest.raises(Stop):
            run(values, name="cut", quiet=True)
    run(values, name="cut", quiet=True)
    assert outcome(Path("results/cut/0")) == outcome(Path("results/whole/0"))


@pytest.mark.parametrize(
    ("groups", "wanted"),
    [
        ({}, (0.3, (2,))),
        ({"kd_auxiliary": {"weight": 0.7}}, (0.7, "all")),
        ({"kd_auxiliary": {"weight": 0}}, (0.0, "all")),
        ({"gnn": {"layer_type": "aux_gcnconv"}}, (0.3, (2,))),
        ({"gnn": {"layer_type": "aux_gcnconv"}, "kd_auxiliary": {"weight": 0.7}}, (0.7, (2,))),
        ({"gnn": {"layer_type": "aux_gcnconv"}, "kd_auxiliary": {"layers": "all"}}, (0.3, "all")),
    ],
)
def test_heads_stand_on_the_marked_layers_of_each_student(groups: dict[str, Any], wanted: tuple[float, Any]) -> None:
    """A further student's marks count with the weight of marked layers, unless the configuration has one of its own."""
    plan = resolve(toy.host(kd={"students": 2}, **groups))
    own = read_config(toy.values(gnn={"layer_type": "aux_gcnconv", "layers_mp": 3})).cfg
    own.share.dim_in, own.share.dim_out = 4, 3
    with host.scoped(own):
        module = create_model(to_device=False)
    for number in (0, 2):
        del getattr(module.model.mp, f"layer{number}").layer.kd_marked
    found = place_marks(plan, ObservedModel(module, own))
    group = found.groups["auxiliary"]
    assert (group.weight, group["layers"]) == wanted and group.named
    others = [name for name in plan.groups if name != "auxiliary"]
    assert [found.groups[name] for name in others] == [plan.groups[name] for name in others]
    del module.model.mp.layer1.layer.kd_marked
    assert place_marks(plan, ObservedModel(module, own)) is plan
