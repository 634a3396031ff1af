"""``gkd run``: trains a configuration for some seeds, in GraphGym's folder layout."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch_geometric import seed_everything
from torch_geometric.graphgym.model_builder import create_model
from torch_geometric.graphgym.utils.agg_runs import agg_runs
from torch_geometric.graphgym.utils.comp_budget import params_count
from torch_geometric.graphgym.utils.device import auto_select_device
from torch_geometric.graphgym.utils.io import json_to_dict_list
from yacs.config import CfgNode

from gkd_plugin import host
from gkd_plugin.commands.comparison import write_comparison
from gkd_plugin.commands.lock import hold_lock
from gkd_plugin.commands.progress import run_progress, show_warnings
from gkd_plugin.commands.report import RunReport
from gkd_plugin.commands.train_teacher import order_teacher
from gkd_plugin.config.cohort import find_cohort
from gkd_plugin.config.load import Config, read_config
from gkd_plugin.data.load import load
from gkd_plugin.errors import RunFailed, UserError
from gkd_plugin.host import cfg
from gkd_plugin.plan import Plan
from gkd_plugin.training.checkpoint import Checkpoints
from gkd_plugin.training.claim import claim, withdraw
from gkd_plugin.training.disk import DiskFailed, guarded
from gkd_plugin.training.graphgym import make_trainer
from gkd_plugin.training.metrics import make_logs
from gkd_plugin.training.recorders import gradients
from gkd_plugin.training.result import RunResult, read_result
from gkd_plugin.training.run_folder import SPLITS, aggregate_tests, finished_seeds, write_outcome, write_text
from gkd_plugin.training.teachers.base import ModuleTeacher


def run(
    config: str | Path | dict[str, Any] | Config,
    *,
    repeat: int = 1,
    overrides: Sequence[Any] = (),
    name: str | None = None,
    control: bool = False,
    quiet: bool = False,
    teacher: nn.Module | None = None,
) -> RunReport:
    """Trains a configuration; finished seeds are skipped, interrupted ones go on from their last checkpoint.

    Args:
        config (str or Path or dict or Config): A GraphGym YAML; one that says nothing of KD runs as ``supervised``.
        repeat (int): Number of seeds: ``seed + 1`` to ``seed + repeat``, in folders ``seed`` ..., as the host has it.
        overrides (sequence): ``key value`` pairs.
        name (str, optional): Name of the run's folder below ``out_dir``. (default: the file's name)
        control (bool): Also trains the control: the same students without distillation, in ``<name>-control``.
        quiet (bool): Shows no progress.
        teacher (nn.Module, optional): A teacher that is no run: any module that maps the batch to logits of every
            item or to an :class:`~gkd_plugin.space.observation.Observation`.

    Returns:
        RunReport: Prints as a table.

    Raises:
        UserError: For mistakes in the configuration, the data, or a folder that holds something else.
        RunFailed: If no seed could be finished.
    """
    if repeat < 1:
        raise UserError(f"--repeat {repeat}: at least 1.")
    if teacher is not None:
        overrides = ["kd.teacher", ModuleTeacher.name, *overrides]
    plain = read_config(config, overrides)
    label = name or plain.name
    if teacher is None:
        _train_teacher(plain, label, repeat, quiet)
    report = _run_one(plain, label, repeat, quiet, teacher)
    if control:
        without = read_config(config, [*overrides, *control_overrides(plain.plan)])
        beside = _run_one(without, f"{label}-control", repeat, quiet)
        report = replace(report, control=beside)
        with guarded(report.folder):
            write_comparison(report)
    if not report.results:
        raise RunFailed("\n".join(f"seed {seed}: {why}" for seed, why in report.failures.items()))
    return report


def control_overrides(plan: Plan) -> list[str]:
    """The control of a plan as ``key value`` pairs: all KD weights 0, ``label_weight`` 1."""
    pairs = ["kd.label_weight", "1", "kd.students", str(plan.students)]
    if plan["cohort"]:  # files of further students may mark layers, which would bring heads unless somebody says no
        pairs = [*pairs[:2], "kd_auxiliary.weight", "0"]
    for group in plan.groups.values():
        if group.named:
            for key in ("weight", "soft_weight"):
                if key in group.values:
                    pairs += [f"kd_{group.name}.{key}", "0"]
    return pairs


def _train_teacher(config: Config, label: str, repeat: int, quiet: bool) -> None:
    """Trains what ``kd.teacher_cfg`` still lacks, or waits for another process that does."""
    order = order_teacher(config, label, repeat)
    if order is None:
        return
    with guarded(order.folder), hold_lock(order.folder, wait=True, quiet=quiet):
        order = order_teacher(config, label, repeat)
        if order is not None:
            run(order.path, repeat=len(order.seeds), overrides=order.overrides, name=order.name, quiet=quiet)


def _run_one(config: Config, name: str, repeat: int, quiet: bool, teacher: nn.Module | None = None) -> RunReport:
    own = config.cfg.clone()
    folder = Path(own.out_dir) / name
    own.out_dir = own.run_dir = str(folder)
    further = find_cohort(config.cfg, config.plan, config.path.parent if config.path else None)
    with guarded(folder):
        claim(folder, own, config.plan, further)
    if not quiet:
        show_warnings(config.plan.warnings)
    results: list[RunResult] = []
    failures: dict[int, str] = {}
    threads = torch.get_num_threads()
    with host.scoped(own), warnings.catch_warnings():
        # the host's loaders ask for pinned memory, also where there is no accelerator
        warnings.filterwarnings("ignore", message="'pin_memory' argument is set as true")
        # scikit-learn's, wherever a class is never predicted, in every epoch
        warnings.filterwarnings("ignore", message=".* is ill-defined and being set to 0.0")
        torch.set_num_threads(int(cfg.num_threads))
        try:
            first = int(cfg.seed)
            for position in range(repeat):
                seed_folder = folder / str(first + position)
                done = read_result(seed_folder)
                if done is None:
                    begun = seed_folder.exists()
                    title = f"{name} seed {first + position + 1} ({position + 1}/{repeat})"
                    with run_progress(title, int(cfg.optim.max_epoch), quiet) as progress:
                        try:
                            done = _run_seed(config, further, seed_folder, first + position + 1, progress, teacher)
                        except UserError:
                            if not begun:
                                withdraw(folder, seed_folder)
                            raise
                        except DiskFailed as error:
                            failures[first + position + 1] = str(error)
                            break
                        except RunFailed as error:
                            failures[first + position + 1] = str(error)
                            _note(seed_folder, error)
                            continue
                results.append(done)
            if results:
                with guarded(folder):
                    _aggregate(folder, results[0], own)
        finally:
            torch.set_num_threads(threads)
    if not quiet:
        show_warnings(sorted({warning for result in results for warning in result.warnings}))
    return RunReport(name, folder, config.plan, results, failures)


def _run_seed(
    config: Config, further: Sequence[CfgNode], folder: Path, seed: int, progress: Any, teacher: nn.Module | None
) -> RunResult:
    """One seed as the host's main program runs it, in the order in which that draws random numbers."""
    with guarded(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "failed.json").unlink(missing_ok=True)
        cfg.run_dir, cfg.seed = str(folder), seed
        seed_everything(seed)
        auto_select_device()
        loaders = load(cfg)
        model = create_model()
        cfg.params = params_count(model)
        checkpoints = Checkpoints(folder / "ckpt", int(cfg.train.ckpt_period)) if cfg.train.enable_ckpt else None
        if checkpoints is None:  # an interrupted seed starts again, and its rows with it
            _remove_rows(folder)
        trainer = make_trainer(
            config.plan,
            model,
            loaders,
            make_logs(),
            further=further,
            checkpoints=checkpoints,
            progress=progress,
            teacher=teacher,
        )
        result = trainer.run(seed)
        if trainer.attention is not None:
            trainer.attention.draw()
        configs = {student.number: student.model.own for student in trainer.students}
        write_outcome(folder, result, trainer.answering(result), configs)
        if checkpoints is not None:
            checkpoints.clear()
    return result


def _note(folder: Path, error: RunFailed) -> None:
    """Keeps why a seed failed, and sets aside what it wrote: the host's aggregation wants whole seeds only."""
    with contextlib.suppress(OSError):  # the failure itself is reported in any case
        write_text(folder / "failed.json", json.dumps({"error": str(error)}) + "\n")
        shutil.rmtree(folder / "failed", ignore_errors=True)
        (folder / "failed").mkdir()
        for split in SPLITS:
            if (folder / split).is_dir():
                (folder / split).rename(folder / "failed" / split)
    shutil.rmtree(folder / "ckpt", ignore_errors=True)  # it would only lead there again


def _remove_rows(folder: Path) -> None:
    for split in SPLITS:
        shutil.rmtree(folder / split, ignore_errors=True)
    (folder / gradients.FILE).unlink(missing_ok=True)


def _aggregate(folder: Path, result: RunResult, own: CfgNode) -> None:
    """The host's own aggregation (which prints every row it reads) of the finished seeds, the test table beside it."""
    cfg.metric_agg = "argmax" if result.better else "argmin"
    cfg.tensorboard_agg = bool(own.tensorboard_agg) and _has_tensorboard()
    copy = folder / "agg.part"  # the host would also read seeds that were cut short, and stop there
    shutil.rmtree(copy, ignore_errors=True)
    for split in SPLITS[:2]:
        tables = {seed.name: json_to_dict_list(str(seed / split / "stats.json")) for seed in finished_seeds(folder)}
        # columns that every row has: seeds that an earlier version finished may lack some, and the host would stop
        shared = set.intersection(*(set(row) for rows in tables.values() for row in rows))
        for seed, rows in tables.items():
            (copy / seed / split).mkdir(parents=True)
            lines = (json.dumps({key: row[key] for key in row if key in shared}) for row in rows)
            (copy / seed / split / "stats.json").write_text("".join(f"{line}\n" for line in lines))
    with contextlib.redirect_stdout(io.StringIO()):
        agg_runs(str(copy), result.metric)
    for split in SPLITS[:2]:
        shutil.rmtree(folder / "agg" / split, ignore_errors=True)
        (folder / "agg").mkdir(exist_ok=True)
        (copy / "agg" / split).rename(folder / "agg" / split)
    shutil.rmtree(copy)
    aggregate_tests(folder)


def _has_tensorboard() -> bool:
    from importlib.util import find_spec

    return find_spec("tensorboardX") is not None
