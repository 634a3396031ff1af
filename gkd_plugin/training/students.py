"""Students that are trained together: each a host model under its own cfg with its own optimizer and objective."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch_geometric.graphgym.model_builder import create_model
from torch_geometric.graphgym.optim import create_optimizer, create_scheduler
from yacs.config import CfgNode

from gkd_plugin import host
from gkd_plugin.errors import UserError
from gkd_plugin.models.aux_layers import find_marked
from gkd_plugin.models.observed import ObservedModel
from gkd_plugin.models.rng import RandomStreams
from gkd_plugin.models.sample import Sample
from gkd_plugin.plan import MARKED, Plan
from gkd_plugin.space import axes
from gkd_plugin.space.answers import Member
from gkd_plugin.space.observation import Outline
from gkd_plugin.training.objective import Objective, list_taps
from gkd_plugin.training.sources.base import Run, Sources

# what torch's schedulers keep for each group of parameters
_PER_GROUP = ("base_lrs", "lr_lambdas", "_last_lr", "min_lrs", "max_lrs", "base_momentums", "max_momentums")


@dataclass(eq=False)
class Student:
    """One student.

    Args:
        number (int): From 1; student 1 is what the configuration itself describes.
        model (ObservedModel): Its network under its own cfg.
        optimizer, scheduler: The host's, over the network and whatever the objective owns.
        objective (Objective): Its terms.
    """

    number: int
    model: ObservedModel
    optimizer: torch.optim.Optimizer
    scheduler: Any
    objective: Objective

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Everything its optimizer moves."""
        return [*self.model.module.parameters(), *self.objective.parameters()]

    @property
    def awaits_loss(self) -> bool:
        """Whether its scheduler goes by the validation loss, and so steps after an evaluation only."""
        return isinstance(self.scheduler, ReduceLROnPlateau)

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
    own, sparse, memory = host.snapshot(), bool(plan["sparse_input"]), float(plan["eval_memory"])
    models = [ObservedModel(first, own, plan["layers"], sparse, memory)]
    for number in range(2, plan.students + 1):
        theirs = further[number - 2].clone() if further else own
        if further:
            theirs.share = own.share  # dimensions are known only since the data set was loaded
        with host.scoped(theirs), streams.use(f"build/{number}"):
            module = create_model(to_device=False).to(device)
        if plan["init"] == "same":
            module.load_state_dict(first.state_dict())
        models.append(ObservedModel(module, theirs, plan["layers"], sparse, memory))
    return models


def place_marks(plan: Plan, model: ObservedModel) -> Plan:
    """The plan with the numbers of a network's marked layers where a group's ``layers`` stand for them.

    A further student may have marks where the first has none: they switch a group on that nobody mentions.
    """
    found = tuple(find_marked(model.layers)) if model.depth else ()
    if not found:
        return plan
    groups = dict(plan.groups)
    for name, group in plan.groups.items():
        marked = axes.knowledge[name].marked
        if marked and not group.named:
            group = replace(group.with_values(**marked), named=True)
        numbers = {key: found for key, value in marked.items() if value == MARKED and group.get(key) == MARKED}
        groups[name] = group.with_values(**numbers)
    return replace(plan, groups=groups)


def build_students(
    run: Run, sources: Sources, sample: Sample, optimizer: torch.optim.Optimizer | None = None, scheduler: Any = None
) -> list[Student]:
    """Students with objectives and optimizers.

    Args:
        run (Run): The run with the students' networks.
        sources (Sources): The models that teach them.
        sample (Sample): Some batch, on which widths are read off.
        optimizer, scheduler (optional): Those of student 1 where a host program made them.
    """
    plans = [place_marks(run.plan, model) for model in run.models]
    outlines = _observe_outlines(run, plans, sample)
    students = []
    for number, (model, plan) in enumerate(zip(run.models, plans, strict=True), 1):
        device = next(model.module.parameters()).device
        with run.streams.use("probe"):
            taught = _outline_sources(sources, plan, number, outlines, sample)
        with run.streams.use(f"objective/{number}"), host.scoped(model.own):
            objective = Objective(plan, number, taught, model.task, sources).to(device)
        for term in objective.each_term():
            term.require(sample.graph("train"))
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


def _observe_outlines(run: Run, plans: Sequence[Plan], sample: Sample) -> dict[Member, Outline]:
    """Depth, widths and logits of every student, where some term asks for them."""
    if not run.plan["cohort"] and not any(plan.active for plan in plans):
        return {}
    outlines: dict[Member, Outline] = {}
    answers = []
    taps = {tap for plan in plans for tap in list_taps(plan)}
    for number, model in enumerate(run.models, 1):
        if taps and not model.depth:
            _ = model.layers  # says what to do
        with run.streams.use("probe"), model.untouched():
            seen = model.observe(sample, taps)
        outlines[number] = model.outline(seen)
        answers.append([len(seen.logits), outlines[number].dim_out])
    _require_same_answers(run.models, answers)
    return outlines


def _outline_sources(
    sources: Sources, plan: Plan, learner: int, outlines: Mapping[Member, Outline], sample: Sample
) -> dict[Member, Outline]:
    """The outlines of all members that may teach a student."""
    if not plan.active:
        return {}
    found = dict(outlines)
    for model in sources.models.values():
        for member in dict.fromkeys(m for layered in (False, True) for m in model.members(layered)):
            found[member] = outlines[learner]
            if not model.within:
                found[member] = model.outline(member, learner, sample, sources.taps_of(member))
                _require_same_classes(model.name, found[member], outlines[learner])
    return found


def _add_undecayed(optimizer: torch.optim.Optimizer, scheduler: Any, parameters: list[nn.Parameter]) -> None:
    """Adds a learned map's parameters: their gradients are so small that weight decay would keep every map uniform."""
    if not parameters:
        return
    first = optimizer.param_groups[0]
    settings = {key: 0.0 if key == "weight_decay" else value for key, value in first.items() if key != "params"}
    optimizer.add_param_group({**settings, "params": parameters})
    known: list[Any] = []
    for each in _list_schedulers(scheduler):
        for name in _PER_GROUP:
            values = getattr(each, name, None)
            if isinstance(values, list) and not any(values is other for other in known):  # nested ones share some
                values.append(values[0])
                known.append(values)


def _list_schedulers(scheduler: Any) -> Iterator[Any]:
    """A scheduler with those that it is composed of (torch's SequentialLR and ChainedScheduler)."""
    yield scheduler
    for inner in getattr(scheduler, "_schedulers", ()):
        yield from _list_schedulers(inner)


def _require_same_answers(models: Sequence[ObservedModel], answers: Sequence[list[int]]) -> None:
    """Students are compared and averaged item by item."""
    for number, (model, found) in enumerate(zip(models, answers, strict=True), 1):
        if found != answers[0]:
            raise UserError(
                f"kd.cohort: student {number} (model.type: {model.own.model.type}) gives logits {found} on these data, "
                f"student 1 gives {answers[0]}: [items, classes]. All students must answer for the same ones; a network "
                "or head of your own is built for the classes that it gets as dim_out."
            )


def _require_same_classes(source: str, taught: Outline, learner: Outline) -> None:
    if taught.dim_out != learner.dim_out:
        raise UserError(
            f"kd.{source}: it gives {taught.dim_out} logits for each item, the students give {learner.dim_out}. "
            "They must predict the same classes."
        )
