"""Students that are trained together: each a host model under its own cfg with its own optimizer and objective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch_geometric.graphgym.model_builder import create_model
from torch_geometric.graphgym.optim import create_optimizer, create_scheduler
from yacs.config import CfgNode

from gkd_plugin import host
from gkd_plugin.errors import UserError
from gkd_plugin.models.aux_layers import marked
from gkd_plugin.models.observed import ObservedModel, Sample
from gkd_plugin.models.rng import RandomStreams
from gkd_plugin.plan import Plan
from gkd_plugin.space.observation import Outline
from gkd_plugin.training.objective import Member, Objective, taps_of, teacher_taps
from gkd_plugin.training.teachers.prepare import PreparedTeacher


@dataclass(eq=False)
class Student:
    """One student.

    Args:
        number (int): From 1; student 1 is what the configuration itself describes.
        model (ObservedModel): Its network under its own cfg.
        optimizer, scheduler: The host's, over the network and whatever the objective owns.
        objective (Objective): Its terms.
        version (int): Number of optimizer steps so far; what was read of it is good for one version.
    """

    number: int
    model: ObservedModel
    optimizer: torch.optim.Optimizer
    scheduler: Any
    objective: Objective
    version: int = field(default=0)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Everything its optimizer moves."""
        return [*self.model.module.parameters(), *self.objective.parameters()]

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs of it."""
        return {
            "model": self.model.module.state_dict(),
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Puts back what :meth:`state_dict` gave."""
        self.model.module.load_state_dict(state["model"])
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.version += 1


def build_models(
    plan: Plan, first: nn.Module, further: Sequence[CfgNode], streams: RandomStreams, device: torch.device
) -> list[ObservedModel]:
    """Student 1 as it was handed in, and the others beside it, each under a random stream of its own.

    Args:
        plan (Plan): The plan.
        first (nn.Module): Student 1, built by the host from the present global cfg.
        further (sequence of CfgNode): Configurations of the unlike students of a cohort; empty for like ones.
        streams (RandomStreams): The run's streams.
        device (torch.device): Where the models live.
    """
    own = host.snapshot()
    models = [ObservedModel(first, own, plan["layers"])]
    for number in range(2, plan.students + 1):
        theirs = further[number - 2].clone() if further else own
        if further:
            theirs.share = own.share  # dimensions are known only since the data set was loaded
        with host.scoped(theirs), streams.use(f"build/{number}"):
            module = create_model(to_device=False).to(device)
        if plan["init"] == "same":
            module.load_state_dict(first.state_dict())
        models.append(ObservedModel(module, theirs, plan["layers"]))
    return models


def with_marks(plan: Plan, model: ObservedModel) -> Plan:
    """The plan with auxiliary heads on marked layers, unless the user's ``kd_auxiliary.layers`` says otherwise."""
    found = tuple(marked(model.layers)) if model.depth else ()
    group = plan.groups.get("auxiliary")
    if group is None or not found:
        return plan
    if group.named and group.get("layers") != "marked":
        return plan
    values: dict[str, Any] = {"layers": found}
    if not group.named:
        values["weight"] = 0.3
    groups = {**plan.groups, "auxiliary": replace(group.with_values(**values), named=True)}
    return replace(plan, groups=MappingProxyType(groups))


def build_cohort(
    plan: Plan,
    models: Sequence[ObservedModel],
    sample: Sample,
    streams: RandomStreams,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: Any = None,
    teacher: PreparedTeacher | None = None,
) -> list[Student]:
    """Students with objectives and optimizers.

    Args:
        plan (Plan): The plan.
        models (sequence of ObservedModel): The networks.
        sample (Sample): Some batch, on which widths are read off.
        streams (RandomStreams): The run's streams.
        optimizer, scheduler (optional): Those of student 1 where a host program made them.
        teacher (PreparedTeacher, optional): The teacher, where a term listens to one.
    """
    outlines: dict[Member, Outline] = {}
    answers: list[list[int]] = []
    plans = [with_marks(plan, model) for model in models]
    if plan["cohort"] or any(p.active for p in plans):
        taps = {tap for p in plans for tap in taps_of(p)}
        if teacher is not None:
            with streams.use("probe"):
                outlines["teacher"] = teacher.outline(sample, teacher_taps(plan))
        for number, model in enumerate(models, 1):
            if taps and not model.depth:
                _ = model.layers  # says what to do
            with streams.use("probe"), model.untouched():
                seen = model.observe(sample, taps)
            outlines[number] = model.outline(seen)
            answers.append([len(seen.logits), outlines[number].dim_out])
        _same_answers(models, answers)
        _same_classes(outlines)
    students = []
    for number, (model, theirs) in enumerate(zip(models, plans, strict=True), 1):
        device = next(model.module.parameters()).device
        with streams.use(f"objective/{number}"), host.scoped(model.own):
            objective = Objective(theirs, number, outlines, model.task).to(device)
        maps = list(objective.maps.parameters())
        extras = [p for p in objective.parameters() if not any(p is other for other in maps)]
        if number == 1 and optimizer is not None:
            # one group, so that schedulers made for it go on to fit
            optimizer.param_groups[0]["params"].extend(extras)
            its_optimizer, its_scheduler = optimizer, scheduler
        else:
            its_optimizer = create_optimizer(iter([*model.module.parameters(), *extras]), model.own.optim)
            its_scheduler = create_scheduler(its_optimizer, model.own.optim)
        _add_undecayed(its_optimizer, its_scheduler, [p for p in maps if p.requires_grad])
        students.append(Student(number, model, its_optimizer, its_scheduler, objective))
    return students


def _add_undecayed(optimizer: torch.optim.Optimizer, scheduler: Any, parameters: list[nn.Parameter]) -> None:
    """Adds a learned map's parameters: their gradients are so small that weight decay would keep every map uniform."""
    if not parameters:
        return
    first = optimizer.param_groups[0]
    settings = {key: 0.0 if key == "weight_decay" else value for key, value in first.items() if key != "params"}
    optimizer.add_param_group({**settings, "params": parameters})
    for name in ("base_lrs", "lr_lambdas", "_last_lr"):  # what schedulers keep for each group
        values = getattr(scheduler, name, None)
        if isinstance(values, list):
            values.append(values[0])


def _same_answers(models: Sequence[ObservedModel], answers: Sequence[list[int]]) -> None:
    """Students are compared and averaged item by item."""
    for number, (model, found) in enumerate(zip(models, answers, strict=True), 1):
        if found != answers[0]:
            raise UserError(
                f"kd.cohort: student {number} (model.type: {model.own.model.type}) gives logits {found} on these data, "
                f"student 1 gives {answers[0]}: [items, classes]. All students must answer for the same ones; a network "
                "or head of your own is built for the classes that it gets as dim_out."
            )


def _same_classes(outlines: Mapping[Member, Outline]) -> None:
    if "teacher" in outlines and outlines["teacher"].dim_out != outlines[1].dim_out:
        raise UserError(
            f"kd.teacher: it gives {outlines['teacher'].dim_out} logits for each item, the students give "
            f"{outlines[1].dim_out}. They must predict the same classes."
        )
