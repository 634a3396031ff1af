"""How programs that are not ours reach the loop: ``train.mode: distill`` and the dispatch that the host lost."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from itertools import filterfalse
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch_geometric.graphgym import register
from torch_geometric.graphgym.logger import create_logger, infer_task
from torch_geometric.graphgym.optim import create_optimizer, create_scheduler
from yacs.config import CfgNode

from gkd_plugin.config.cohort import find_cohort
from gkd_plugin.config.resolve import resolve
from gkd_plugin.data.check import check_data
from gkd_plugin.data.doubts import find_doubts
from gkd_plugin.data.loaders import per_split
from gkd_plugin.errors import RunFailed, UserError
from gkd_plugin.host import cfg
from gkd_plugin.models.observed import Together
from gkd_plugin.models.rng import RandomStreams
from gkd_plugin.models.sample import infer_task as infer_plan_task
from gkd_plugin.plan import Plan
from gkd_plugin.printing import was_told
from gkd_plugin.training.batches import make_split_loaders, offer_sparse
from gkd_plugin.training.checkpoint import Checkpoints
from gkd_plugin.training.depends import DATA, TEACHERS, find_depends
from gkd_plugin.training.disk import guarded
from gkd_plugin.training.protocol import sees_part
from gkd_plugin.training.readings import Readings
from gkd_plugin.training.recorders.base import Recorder
from gkd_plugin.training.recorders.gradients import Diagnostics
from gkd_plugin.training.recorders.learned_maps import LearnedMaps
from gkd_plugin.training.recorders.notes import Notes
from gkd_plugin.training.recorders.sparse_input import SparseInput
from gkd_plugin.training.recorders.tracking import Tracking
from gkd_plugin.training.run_folder import (
    aggregate_tests,
    clear_earlier,
    forget_tests,
    read_seed,
    write_outcome,
    write_plan,
)
from gkd_plugin.training.sources.base import Run, Sources
from gkd_plugin.training.stack import find_together
from gkd_plugin.training.students import build_models, build_students
from gkd_plugin.training.teachers.prepare import list_other_data
from gkd_plugin.training.trainer import Progress, Trainer

MODE = "distill"


def make_trainer(
    plan: Plan,
    model: nn.Module,
    loaders: Sequence[Any],
    logs: Sequence[Any],
    *,
    further: Sequence[CfgNode] = (),
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: Any = None,
    checkpoints: Checkpoints | None = None,
    progress: Progress | None = None,
    teacher: nn.Module | None = None,
) -> Trainer:
    """A cohort around student 1, ready to train under the present global cfg.

    Args:
        plan (Plan): The resolved plan.
        model (nn.Module): Student 1, as the host built it.
        loaders (sequence): The host's loaders: train, validation, test.
        logs (sequence): A logger for each split, or none.
        further (sequence of CfgNode): Configurations of unlike students.
        optimizer, scheduler (optional): Student 1's, where the program made them.
        checkpoints (Checkpoints, optional): Where to keep the run's state.
        progress (callable, optional): Called after every epoch.
        teacher (nn.Module, optional): A teacher that is not a run.
    """
    check_data(loaders, cfg)
    notes = Notes(find_doubts(loaders, cfg))
    streams = RandomStreams(int(cfg.seed))
    device = next(model.parameters()).device
    models = build_models(plan, model, further, streams, device)
    together: Together | None = find_together(plan, streams)
    for each in models:
        each.together = together
    hidden = float(plan["hide_edges"])
    if hidden and sees_part():
        raise UserError(
            f"kd.hide_edges: {hidden:g}, but splits.protocol tests on a graph of its own, in which other edges would be hidden. "
            "Set one of the two only."
        )
    split_loaders = make_split_loaders(per_split(loaders), infer_plan_task(cfg), device, streams, hidden)
    sparse = [SparseInput(models, offer_sparse(split_loaders))] if plan["sparse_input"] else []
    readings = Readings(models, streams, plan["peer_mode"] == "train")
    run = Run(plan, models, split_loaders, streams, readings, Path(cfg.out_dir), _seed_folder(), teacher)
    sources = Sources(run)
    with streams.use("probe"):
        sample = split_loaders[0].peek()
    students = build_students(run, sources, sample, optimizer, scheduler)
    folder = Path(cfg.get("run_dir", ""))
    recorders: list[Recorder] = [*([Diagnostics(folder, plan), LearnedMaps(folder)] if logs else []), *sparse, notes]
    if logs and plan["tracker"] != "none":
        recorders.append(Tracking(str(plan["tracker"]), cfg))
    depends = find_depends(plan, loaders, run.folder, run.seed_folder, teacher)
    if TEACHERS in depends and teacher is None:
        recorders.append(Notes([*list_other_data(plan, run.folder, run.seed_folder, depends[DATA])]))
    return Trainer(
        plan, students, split_loaders, logs, streams, infer_task(), sources, checkpoints, progress, recorders, depends
    )


def _seed_folder() -> int:
    """The number of the run's seed folder, which the host names by the seed before it counts on."""
    number = read_seed(Path(cfg.get("run_dir", "")).name)
    return number if number is not None else int(cfg.seed) - 1


def distill(
    loggers: Sequence[Any], loaders: Sequence[Any], model: nn.Module, optimizer: Any, scheduler: Any, *_: Any
) -> None:
    """The loop behind ``train.mode: distill``, under the signature that programs dispatch on.

    Args:
        loggers (sequence): The program's loggers, the host's or its own class; empty writes no rows.
        loaders (sequence): Its loaders.
        model (nn.Module): Student 1.
        optimizer, scheduler: Student 1's.

    Raises:
        SystemExit: With code 2 and one message for a user's mistake, 1 for a run that cannot go on.
    """
    try:
        plan = resolve(cfg)
        for warning in plan.warnings:
            logging.warning("gkd_plugin: %s", warning)
        if (
            cfg.tensorboard_agg and find_spec("tensorboardX") is None
        ):  # the host's aggregation would end in an ImportError
            cfg.tensorboard_agg = False
            logging.warning("gkd_plugin: tensorboard_agg is switched off: tensorboardX is not installed")
        folder = Path(cfg.run_dir)
        further = find_cohort(cfg, plan, _config_folder())
        trainer = make_trainer(plan, model, loaders, loggers, further=further, optimizer=optimizer, scheduler=scheduler)
        with guarded(folder):
            if loggers:
                clear_earlier(folder, loggers)
                forget_tests(Path(cfg.out_dir))
                write_plan(folder, plan)
            result = trainer.run(int(cfg.seed))
            if loggers:
                configs = {student.number: student.model.own for student in trainer.students}
                write_outcome(folder, result, trainer.answering(result), configs, trainer.single(result))
                aggregate_tests(Path(cfg.out_dir))
        for warning in filterfalse(was_told, result.warnings):
            logging.warning("gkd_plugin: %s", warning)
        if cfg.metric_best == "auto":
            # the program's aggregation, which comes next, must select by what selected here: its loggers may measure more
            cfg.metric_best, cfg.metric_agg = result.metric, "argmax" if result.better else "argmin"
        answer = result.answer
        logging.info(
            "gkd_plugin: %s %.4f on test (%.4f on validation, epoch %d)",
            result.metric,
            answer.test,
            answer.val,
            answer.epoch,
        )
    except UserError as error:
        print(f"gkd_plugin: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except RunFailed as error:
        print(f"gkd_plugin: run {cfg.run_dir} failed: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def _config_folder() -> Path | None:
    """The folder of the YAML that the program was started with; cohort files lie beside it."""
    for position, word in enumerate(sys.argv):
        if word.startswith("--cfg="):
            return Path(word.removeprefix("--cfg=")).resolve().parent
        if word == "--cfg" and position + 1 < len(sys.argv):
            return Path(sys.argv[position + 1]).resolve().parent
    return None


def dispatching(standard: Callable[..., None]) -> Callable[..., None]:
    """The host's ``train`` with the dispatch on ``train.mode`` given back; plain runs go straight through.

    Args:
        standard (callable): The host's own ``train(model, datamodule, logger=True, trainer_config=None)``.
    """

    def train(model: Any, datamodule: Any, logger: bool = True, trainer_config: dict[str, Any] | None = None) -> None:
        mode = cfg.train.get("mode", "standard")
        if mode == "standard":
            standard(model, datamodule, logger, trainer_config)
            return
        if mode not in register.train_dict:
            known = ", ".join(["standard", *register.train_dict])
            print(f"gkd_plugin: train.mode: '{mode}' is not registered. Allowed: {known}.", file=sys.stderr)
            raise SystemExit(2)
        if trainer_config:
            names = ", ".join(trainer_config)
            print(
                f"gkd_plugin: trainer_config: {names}: train.mode {mode} does not run in Lightning. "
                "Leave it out, or use train.mode standard.",
                file=sys.stderr,
            )
            raise SystemExit(2)
        loggers = create_logger() if logger else []
        optimizer = create_optimizer(model.model.parameters(), cfg.optim)
        scheduler = create_scheduler(optimizer, cfg.optim)
        register.train_dict[mode](loggers, datamodule.loaders, model, optimizer, scheduler)

    train.gkd_standard = standard  # type: ignore[attr-defined]
    return train
