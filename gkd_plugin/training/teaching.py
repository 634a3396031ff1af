"""A teacher made ready for one run: found, rebuilt, checked against the data, measured again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch_geometric.graphgym.loader import create_loader
from torch_geometric.graphgym.logger import infer_task
from yacs.config import CfgNode

from gkd_plugin import host
from gkd_plugin.config.plan import Plan
from gkd_plugin.config.stored import own_cfg
from gkd_plugin.errors import UserError
from gkd_plugin.host import cfg
from gkd_plugin.models.observed import Sample
from gkd_plugin.models.streams import Streams
from gkd_plugin.models.teachers import ModelTeacher, ModuleTeacher, StoredTeacher, Teacher, build_teacher
from gkd_plugin.space.observation import Observation, Outline
from gkd_plugin.training import lookup
from gkd_plugin.training.evaluation import evaluate
from gkd_plugin.training.feeds import Feed, make_feeds

# what makes two configurations read the same graphs
_SAME_DATA = ("format", "name", "task", "task_type", "node_encoder", "edge_encoder")


class Taught:
    """A teacher and the graph it sees, which need not be the students'.

    Args:
        teacher (Teacher): The teacher.
        sample (Sample, optional): Its own graph over the same nodes; by default it sees the students' with all edges.
    """

    def __init__(self, teacher: Teacher, sample: Sample | None = None) -> None:
        self.teacher, self.sample = teacher, sample

    def observe(self, sample: Sample, taps: Iterable[str]) -> Observation:
        """The teacher on a batch of the students."""
        return self.teacher.observe(self._its(sample), taps)

    def outline(self, sample: Sample, taps: Iterable[str]) -> Outline:
        """Depth and widths of the teacher."""
        return self.teacher.outline(self._its(sample), taps)

    def _its(self, sample: Sample) -> Sample:
        return self.sample or sample.whole or sample


def find_teacher(
    plan: Plan, feeds: Sequence[Feed], streams: Streams, out_dir: Path, seed_folder: int, given: nn.Module | None = None
) -> Taught | None:
    """The plan's teacher, or ``None`` where no term with a weight listens to one.

    Args:
        plan (Plan): The plan.
        feeds (sequence of Feed): The students' feeds: train, validation, test.
        streams (Streams): The run's streams.
        out_dir (Path): The run's ``out_dir``, from which names are looked up.
        seed_folder (int): Number of the student's seed folder.
        given (nn.Module, optional): A teacher handed over by ``gkd_plugin.run(teacher=...)``.

    Raises:
        UserError: If it is missing, unfinished, of other data or classes, unreadable, or does not reproduce its score.
    """
    if not any(group.get("source") == "teacher" for group in plan.active):
        return None
    if given is not None:
        return Taught(ModuleTeacher(given, streams))
    target = lookup.find_folder(str(plan["teacher"] or Path(plan["teacher_cfg"]).stem), out_dir)
    if lookup.is_file(target):
        return Taught(StoredTeacher(target))
    found = lookup.choose(target, plan["teacher_seed"], seed_folder)
    own = own_cfg(found.config)
    other = _other_data(own)
    if other:
        theirs = _their_feeds(own, feeds, streams, other, found.name)
    else:
        own.dataset.dir = cfg.dataset.dir
        own.share = cfg.share.clone()
        theirs = list(feeds)
    with host.scoped(own):
        own.kd = own.get("kd") or CfgNode()
    teacher = build_teacher(found.name, own, found.weights, found.record, streams, own.kd.get("layers"))
    _measure_again(teacher, theirs)
    return Taught(teacher, theirs[0].single if other else None)


def _other_data(own: CfgNode) -> str:
    """How the teacher's data set differs from the students', in words."""
    differing = [key for key in _SAME_DATA if own.dataset.get(key) != cfg.dataset.get(key)]
    changes = [f"dataset.{key}: {own.dataset.get(key)} there, {cfg.dataset.get(key)} here" for key in differing]
    ours, its = (dict(node.get("splits") or {}) for node in (cfg, own))
    changes += [f"splits.{k}: {its.get(k)} there, {ours.get(k)} here" for k in ours if its.get(k) != ours.get(k)]
    return "; ".join(changes)


def _their_feeds(own: CfgNode, feeds: Sequence[Feed], streams: Streams, how: str, name: str) -> list[Feed]:
    """The teacher's own data set, where it is another graph over the same nodes (k-nearest neighbours of another k)."""
    mine = feeds[0].single
    refused = f"kd.teacher: {name} was trained on other data ({how})"
    if mine is None:
        raise UserError(f"{refused}. Train a teacher on this data set.")
    own.dataset.dir, own.seed = cfg.dataset.dir, cfg.seed
    with host.scoped(own), streams.use("teacher"):
        loaders = create_loader()
        own.share = cfg.share.clone()
        theirs = make_feeds(loaders, mine.task, feeds[0].device, streams)
    its = theirs[0].single
    keys = ("x", "y", "train_mask", "val_mask", "test_mask")
    same = its is not None and all(
        isinstance(a := its.batch.get(key), torch.Tensor)
        and isinstance(b := mine.batch.get(key), torch.Tensor)
        and torch.equal(a, b)
        for key in keys
    )
    if not same:
        raise UserError(f"{refused}, and its nodes, labels or splits are not these. Train a teacher on this data set.")
    return theirs


def _measure_again(teacher: ModelTeacher, feeds: Sequence[Feed]) -> None:
    """The gate: a teacher whose validation score cannot be reproduced is not the one that its record describes."""
    record = teacher.record
    assert record is not None
    samples = [sample.whole or sample for sample in feeds[1].samples()]
    outcome = evaluate(teacher.model, samples, ("val",))["val"]
    measured = outcome.metrics(infer_task()).get(record.metric)
    items = sum(len(true) for true in outcome.true)
    # one item more or less: another number of threads may tip a tie
    if measured is None or abs(measured - record.val) > 1.5 / max(items, 1) + 10.0**-cfg.round:
        raise UserError(
            f"kd.teacher: {teacher.name} scores {record.metric} {measured} on the validation split here, but "
            f"{record.where} says {record.val}. Weights, data, split or seed are not those of that run "
            "(splits drawn by seed need kd.teacher_seed: match)."
        )


def describe(taught: Taught | None) -> Any:
    """What a run's result says of its teacher."""
    if taught is None:
        return None
    record = getattr(taught.teacher, "record", None)
    return {"name": taught.teacher.name, "val": record.val if record else None}
