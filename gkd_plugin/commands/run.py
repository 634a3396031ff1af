"""``gkd run``: trains a configuration for some seeds, in GraphGym's folder layout."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn
from torch_geometric import seed_everything
from torch_geometric.graphgym.model_builder import create_model
from torch_geometric.graphgym.utils.agg_runs import agg_runs
from torch_geometric.graphgym.utils.comp_budget import params_count
from torch_geometric.graphgym.utils.device import auto_select_device

from gkd_plugin import host
from gkd_plugin.commands.load import read_result
from gkd_plugin.commands.progress import run_progress
from gkd_plugin.commands.report import RunReport
from gkd_plugin.config.cohort import find_cohort, find_file
from gkd_plugin.config.plan import Plan
from gkd_plugin.config.read import Config, read_config
from gkd_plugin.data.check import load
from gkd_plugin.errors import RunFailed, UserError
from gkd_plugin.host import cfg
from gkd_plugin.models.teachers import ModuleTeacher
from gkd_plugin.training import lookup
from gkd_plugin.training.checkpoint import Checkpoints
from gkd_plugin.training.doors import make_trainer
from gkd_plugin.training.metrics import make_logs
from gkd_plugin.training.outcome import PLAN, aggregate_tests, write_outcome, write_plan, write_text
from gkd_plugin.training.result import RunResult

# differ between two runs of one configuration, or say nothing of its numbers
_NOT_COMPARED = (
    "out_dir",
    "run_dir",
    "share",
    "params",
    "print",
    "cfg_dest",
    "tensorboard_agg",
    "tensorboard_each_run",
)


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
        _train_teacher(plain, repeat, quiet)
    report = _run_one(plain, label, repeat, quiet, teacher)
    if control:
        without = read_config(config, [*overrides, *control_overrides(plain.plan)])
        beside = _run_one(without, f"{label}-control", repeat, quiet)
        report = RunReport(report.name, report.folder, report.plan, report.results, report.failures, beside)
    failed = {**report.failures, **(report.control.failures if report.control else {})}
    if not report.results or (report.control and not report.control.results):
        raise RunFailed("; ".join(f"seed {seed}: {why}" for seed, why in failed.items()))
    return report


def control_overrides(plan: Plan) -> list[str]:
    """The control of a plan as ``key value`` pairs: all KD weights 0, ``label_weight`` 1."""
    pairs = ["kd.label_weight", "1", "kd.students", str(plan.students)]
    if plan["cohort"]:
        pairs = pairs[:2]
    for group in plan.groups.values():
        if group.named:
            for key in ("weight", "soft_weight"):
                if key in group.values:
                    pairs += [f"kd_{group.name}.{key}", "0"]
    return pairs


def _train_teacher(config: Config, repeat: int, quiet: bool) -> None:
    """Trains ``kd.teacher_cfg`` where the teacher is missing; once, whoever asks for it later."""
    plan = config.plan
    if plan["teacher_cfg"] is None or not any(group.get("source") == "teacher" for group in plan.active):
        return
    path = find_file(str(plan["teacher_cfg"]), config.path.parent if config.path else None)
    name = str(plan["teacher"] or path.stem)
    first, which = int(config.cfg.seed), plan["teacher_seed"]
    seeds = [which] if isinstance(which, int) else list(range(first, first + repeat))
    if lookup.has_seeds(name, Path(config.cfg.out_dir), seeds):
        return
    values = {key: config.cfg[key] for key in ("out_dir", "num_threads", "accelerator")}
    values |= {"dataset.dir": config.cfg.dataset.dir, "seed": seeds[0]}
    pairs = [part for key, value in values.items() for part in (key, value)]
    run(path, repeat=len(seeds), overrides=pairs, name=name, quiet=quiet)


def _run_one(config: Config, name: str, repeat: int, quiet: bool, teacher: nn.Module | None = None) -> RunReport:
    own = config.cfg.clone()
    folder = Path(own.out_dir) / name
    own.out_dir = own.run_dir = str(folder)
    _claim(folder, own, config.plan)
    results: list[RunResult] = []
    failures: dict[int, str] = {}
    threads = torch.get_num_threads()
    with host.scoped(own), warnings.catch_warnings():
        # the host's loaders ask for pinned memory, also where there is no accelerator
        warnings.filterwarnings("ignore", message="'pin_memory' argument is set as true")
        torch.set_num_threads(int(cfg.num_threads))
        try:
            first = int(cfg.seed)
            for position in range(repeat):
                seed_folder = folder / str(first + position)
                done = read_result(seed_folder)
                if done is None:
                    title = f"{name} seed {first + position + 1} ({position + 1}/{repeat})"
                    with run_progress(title, int(cfg.optim.max_epoch), quiet) as progress:
                        try:
                            done = _run_seed(config, seed_folder, first + position + 1, progress, teacher)
                        except RunFailed as error:
                            failures[first + position + 1] = str(error)
                            write_text(seed_folder / "failed.json", json.dumps({"error": str(error)}) + "\n")
                            continue
                results.append(done)
            if results:
                _aggregate(folder, results[0], own)
        finally:
            torch.set_num_threads(threads)
    return RunReport(name, folder, config.plan, results, failures)


def _claim(folder: Path, own: Any, plan: Plan) -> None:
    """Makes the run's folder, or sees that it is this run's.

    Raises:
        UserError: If something else lies there.
    """
    path = folder / "config.yaml"
    advice = "Choose another one with --name NAME (or out_dir); nothing here was touched."
    if folder.exists() and any(folder.iterdir()):
        if not (folder / PLAN).is_file() or not path.is_file():
            raise UserError(f"{folder} is not empty and holds no run of gkd_plugin. {advice}")
        before, now = _compared(yaml.safe_load(path.read_text())), _compared(yaml.safe_load(own.dump()))
        if before != now:
            keys = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
            changes = ", ".join(f"{key}: {before.get(key)} there, {now.get(key)} now" for key in keys[:6])
            raise UserError(f"{folder} holds a run of another configuration ({changes}). {advice}")
    with _disk(folder):
        write_text(path, own.dump())
        write_plan(folder, plan)


def _compared(values: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if key in _NOT_COMPARED:
            continue
        if isinstance(value, dict):
            flat |= {f"{key}.{part}": found for part, found in value.items() if found is not None}
        elif value is not None:
            flat[key] = value
    return flat


@contextlib.contextmanager
def _disk(folder: Path) -> Iterator[None]:
    """A full or read-only disk ends a run with one message; what was finished stays."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM):
            raise RunFailed(
                f"{folder} could not be written: {error.strerror}. Finished seeds are kept; "
                "make room (or choose another out_dir) and run the same command again."
            ) from error
        raise


def _run_seed(config: Config, folder: Path, seed: int, progress: Any, teacher: nn.Module | None = None) -> RunResult:
    """One seed as the host's main program runs it, in the order in which that draws random numbers."""
    with _disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "failed.json").unlink(missing_ok=True)
        cfg.run_dir, cfg.seed = str(folder), seed
        seed_everything(seed)
        auto_select_device()
        loaders = load(cfg)
        model = create_model()
        cfg.params = params_count(model)
        checkpoints = Checkpoints(folder / "ckpt", int(cfg.train.ckpt_period)) if cfg.train.enable_ckpt else None
        trainer = make_trainer(
            config.plan,
            model,
            loaders,
            make_logs(),
            further=find_cohort(config.cfg, config.plan, config.path.parent if config.path else None),
            checkpoints=checkpoints,
            progress=progress,
            teacher=teacher,
        )
        try:
            result = trainer.run(seed)
        except RunFailed:
            _set_aside(folder)
            raise
        write_outcome(folder, trainer, result)
        if checkpoints is not None:
            checkpoints.clear()
    return result


def _set_aside(folder: Path) -> None:
    """What a diverged seed wrote goes to ``failed/``: the host's aggregation wants whole seeds only."""
    for split in ("train", "val", "test"):
        if (folder / split).is_dir():
            target = folder / "failed" / split
            if target.exists():
                shutil.rmtree(target)
            target.parent.mkdir(exist_ok=True)
            (folder / split).rename(target)
    shutil.rmtree(folder / "ckpt", ignore_errors=True)  # it would only lead there again


def _aggregate(folder: Path, result: RunResult, own: Any) -> None:
    """The host's own aggregation (which prints every row it reads), and the test table beside it."""
    cfg.metric_agg = "argmax" if result.better else "argmin"
    cfg.tensorboard_agg = bool(own.tensorboard_agg) and _has_tensorboard()
    with contextlib.redirect_stdout(io.StringIO()):
        agg_runs(str(folder), result.metric)
    aggregate_tests(folder)


def _has_tensorboard() -> bool:
    from importlib.util import find_spec

    return find_spec("tensorboardX") is not None
