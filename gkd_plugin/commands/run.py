"""``gkd run``: trains a configuration for some seeds, in GraphGym's folder layout."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import filterfalse
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gkd_plugin import host
from gkd_plugin.commands.aggregate import aggregate
from gkd_plugin.commands.comparison import write_comparison
from gkd_plugin.commands.lock import hold_lock
from gkd_plugin.commands.progress import merge_warnings, show_warnings
from gkd_plugin.commands.report import RunReport
from gkd_plugin.commands.reuse import describe_finished, require_unchanged
from gkd_plugin.commands.seeds import train_seeds
from gkd_plugin.commands.start import require_name, require_teacher_seeds
from gkd_plugin.commands.train_teacher import order_teacher
from gkd_plugin.config.cohort import find_cohort
from gkd_plugin.config.load import Config, Source, read_config
from gkd_plugin.errors import RunFailed, UserError, quote
from gkd_plugin.host import cfg
from gkd_plugin.plan import Plan
from gkd_plugin.printing import noting, was_told
from gkd_plugin.space import axes
from gkd_plugin.training.claim import claim, set_aside
from gkd_plugin.training.disk import guarded
from gkd_plugin.training.result import read_result
from gkd_plugin.training.run_folder import seed_folders
from gkd_plugin.training.seed_files import find_damage
from gkd_plugin.training.teachers.base import ModuleTeacher
from gkd_plugin.training.trainer import Progress as EpochProgress
from gkd_plugin.training.turns import staying


@contextlib.contextmanager
def ordinary_numbers() -> Iterator[None]:
    """Within, gradients are on and numbers have their full precision, wherever the caller is just now.

    Autocast keeps rounded copies of weights, which would be those of the epoch before.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield


@ordinary_numbers()
def run(
    config: Source,
    *,
    repeat: int = 1,
    overrides: Sequence[Any] = (),
    name: str | None = None,
    control: bool = False,
    fresh: bool = False,
    quiet: bool = False,
    teacher: nn.Module | None = None,
    watch: EpochProgress | None = None,
) -> RunReport:
    """Trains a configuration; finished seeds are skipped, interrupted ones resume from their last checkpoint.

    Args:
        config (str or Path or mapping or Config): A GraphGym YAML; without KD keys it runs as ``supervised``.
        repeat (int): Number of seeds: ``seed + 1`` to ``seed + repeat``, in folders ``seed`` ..., as the host has it.
        overrides (sequence): ``key value`` pairs.
        name (str, optional): Name of the run's folder below ``out_dir``. (default: the file's name)
        control (bool): Also trains the control: the same students without distillation, in ``<name>-control``.
        fresh (bool): Starts anew; an existing run, finished or not, is kept as ``<name>.<date>-<time>``.
        quiet (bool): Shows no progress.
        teacher (nn.Module, optional): A teacher that is not a run: any module that maps the batch to logits of every
            item or to an :class:`~gkd_plugin.space.observation.Observation`.
        watch (callable, optional): Called after every epoch with its number, the number of epochs and the validation
            score. What it raises interrupts the run if it is no ``Exception``.

    Returns:
        RunReport: Prints as a table.

    Raises:
        UserError: For mistakes in the configuration or the data, for a folder that contains something else or is in use
            by another process, and for finished or interrupted seeds whose teacher or data have changed since.
        RunFailed: If no seed could be finished.
    """
    if repeat < 1:
        raise UserError(f"--repeat {repeat}: must be at least 1.")
    if teacher is not None:
        if not isinstance(teacher, nn.Module):
            raise UserError(
                f"teacher=: {type(teacher).__name__} {quote(teacher)}. It must be a torch.nn.Module; a run, a grid or a file "
                "is named by the key kd.teacher."
            )
        overrides = ["kd.teacher", ModuleTeacher.name, *overrides]
    plain = read_config(config, overrides)
    if plain.cfg.seed + repeat >= 2**32:
        raise UserError(
            f"--repeat {repeat}: seed {plain.cfg.seed} + {repeat} is above {2**32 - 1}, the largest seed. Lower one."
        )
    label = name or plain.name
    require_name(Path(plain.cfg.out_dir), label)
    if teacher is None:
        _train_teacher(plain, label, repeat, quiet, watch)
    names = [label, f"{label}-control"] if control else [label]
    with contextlib.ExitStack() as locks:
        for each in names:  # both before anything is written
            locks.enter_context(hold_lock(Path(plain.cfg.out_dir) / each))
        report = _run_one(plain, label, repeat, quiet, fresh, teacher, watch)
        if control:
            without = read_config(config, [*overrides, *control_overrides(plain.plan)])
            beside = _run_one(without, names[1], repeat, quiet, fresh, watch=watch)
            report = replace(report, control=beside)
            with guarded(report.folder):
                write_comparison(report)
    if not report.results:
        raise RunFailed("\n".join(f"seed {seed}: {why}" for seed, why in report.failures.items()))
    return report


def control_overrides(plan: Plan) -> list[str]:
    """The control of a plan as ``key value`` pairs: all KD weights 0, ``label_weight`` 1."""
    pairs = ["kd.label_weight", "1"]
    if not plan["cohort"]:
        pairs += ["kd.students", str(plan.students)]
    for group in plan.groups.values():
        # files of further students may mark layers, which would add heads unless the weight is 0
        marked = bool(plan["cohort"]) and bool(axes.knowledge[group.name].marked)
        for part in group.parts:
            if part.weight in group.values and (group.named or (marked and part is group.parts[0])):
                pairs += [f"kd_{group.name}.{part.weight}", "0"]
    return pairs


def _train_teacher(config: Config, label: str, repeat: int, quiet: bool, watch: EpochProgress | None) -> None:
    """Trains what ``kd.teacher_cfg`` still lacks, or waits for another process that does."""
    order = order_teacher(config, label, repeat)
    if order is None:
        return
    # in a stack another run may wait for the same lock, and must not be given a turn meanwhile
    with staying(), guarded(order.folder), hold_lock(order.folder, wait=True, quiet=quiet):
        order = order_teacher(config, label, repeat)
        if order is not None:
            run(
                order.path,
                repeat=len(order.seeds),
                overrides=order.overrides,
                name=order.name,
                quiet=quiet,
                watch=watch,
            )


def _run_one(
    config: Config,
    name: str,
    repeat: int,
    quiet: bool,
    fresh: bool = False,
    teacher: nn.Module | None = None,
    watch: EpochProgress | None = None,
) -> RunReport:
    """Trains the seeds of one configuration; the caller holds the lock of its folder."""
    own = config.cfg.clone()
    folder = Path(own.out_dir) / name
    own.out_dir = own.run_dir = str(folder)
    further = find_cohort(config.cfg, config.plan, config.path.parent if config.path else None)
    asked = range(own.seed, own.seed + repeat)
    if teacher is None:
        require_teacher_seeds(config.plan, folder, (n for n in asked if fresh or _is_open(folder / str(n))))
    with guarded(folder):
        kept = set_aside(folder) if fresh else None
        claim(folder, own, config.plan, further)
    if kept is not None and not quiet:
        print(f"the earlier run is kept in {kept}", file=sys.stderr)
    if not quiet:
        show_warnings(config.plan.warnings)
    left_out: list[str] = []
    threads = torch.get_num_threads()
    with host.scoped(own), warnings.catch_warnings(), noting() if quiet else contextlib.nullcontext():
        # the host's loaders ask for pinned memory, also where there is no accelerator
        warnings.filterwarnings("ignore", message="'pin_memory' argument is set as true")
        # scikit-learn's, wherever a class is never predicted, in every epoch
        warnings.filterwarnings("ignore", message=".* is ill-defined and being set to 0.0")
        torch.set_num_threads(int(cfg.num_threads))
        try:
            require_unchanged(config.plan, own, folder, asked, teacher)
            if not quiet:
                _say_finished(folder, asked)
            seeds = train_seeds(config, further, folder, repeat, quiet, watch, teacher)
            results = [seeds.results[seed] for seed in sorted(seeds.results)]
            if results:
                with guarded(folder):
                    left_out = aggregate(folder, results[0], own)
        finally:
            torch.set_num_threads(threads)
    if not quiet:
        others = [find_damage(path) for path in seed_folders(folder) if int(path.name) not in asked]
        found = merge_warnings({each.seed: [*filterfalse(was_told, each.warnings)] for each in results})
        show_warnings([*found, *dict.fromkeys([*left_out, *(damage for damage in others if damage is not None)])])
    return RunReport(name, folder, config.plan, results, seeds.failures)


def _is_open(seed: Path) -> bool:
    """Whether a seed is to be trained: a damaged one is left alone."""
    return find_damage(seed) is None and read_result(seed) is None


def _say_finished(folder: Path, numbers: range) -> None:
    found = (read_result(folder / str(number)) for number in numbers if find_damage(folder / str(number)) is None)
    seeds = [result.seed for result in found if result is not None]
    if seeds:
        print(describe_finished(folder, seeds, len(numbers)), file=sys.stderr)
