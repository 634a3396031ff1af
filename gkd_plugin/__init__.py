"""Graph knowledge distillation for PyTorch Geometric's GraphGym.

Importing the package makes it known to the host: the ``kd`` groups join the global ``cfg``, ``train.mode: distill``
is registered, and the stock program dispatches on it again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gkd_plugin.errors import RunFailed, UserError
from gkd_plugin.hookspecs import hookimpl
from gkd_plugin.host import alone
from gkd_plugin.plugins import register_plugin, unregister_plugin
from gkd_plugin.registration import register_all

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor, nn

    from gkd_plugin.commands.check import Checks
    from gkd_plugin.commands.data import DataDescription, DataListing
    from gkd_plugin.commands.distilled import Distilled
    from gkd_plugin.commands.export import Exported
    from gkd_plugin.commands.list import Listing
    from gkd_plugin.commands.report import RunReport
    from gkd_plugin.config.explain import Explanation
    from gkd_plugin.config.load import Source
    from gkd_plugin.models.trained import TrainedStudent
    from gkd_plugin.study.card import RunCard
    from gkd_plugin.study.estimate import DryRun
    from gkd_plugin.study.front import StudyCard
    from gkd_plugin.study.outcome import Outcome
    from gkd_plugin.study.overview import Overview
    from gkd_plugin.training.trainer import Progress

register_all()

__version__ = "0.1.0"
__all__ = [  # without list, which `import *` would put in the place of Python's own
    "RunFailed",
    "UserError",
    "card",
    "check",
    "describe_data",
    "distill",
    "explain",
    "export",
    "grid",
    "hookimpl",
    "load_student",
    "register_all",
    "register_plugin",
    "report",
    "run",
    "unregister_plugin",
]


def card(run: str | Path, teacher: str | None = None, seed: int | None = None) -> RunCard | StudyCard:
    """Measures what a run's student costs beside its teacher, or a study's runs; see :func:`gkd_plugin.study.card.make_card`."""
    from gkd_plugin.study.card import make_card

    return make_card(run, teacher, seed)


def check(cfg: Source, overrides: Sequence[Any] = ()) -> Checks:
    """Checks a configuration (a path or nested mapping) without training; see :func:`gkd_plugin.commands.check.check`."""
    from gkd_plugin.commands.check import check as command

    return command([cfg], overrides)


def describe_data(
    name: str | None = None, dir: str = "./datasets", overrides: Sequence[Any] = ()
) -> DataDescription | DataListing:
    """What a data set is, or which there are; see :func:`gkd_plugin.commands.data.describe_data`."""
    from gkd_plugin.commands.data import describe_data as command

    return command(name, dir, overrides)


def distill(
    teacher: nn.Module | Tensor | str | Path,
    data: Any,
    student: str | nn.Module = "gcn",
    preset: str = "soft_target",
    *,
    width: int | None = None,
    depth: int | None = None,
    dropout: float | None = None,
    epochs: int = 200,
    lr: float = 0.01,
    weight_decay: float = 0.0005,
    seeds: int = 1,
    control: bool = True,
    task: str | None = None,
    layers: str | None = None,
    teacher_layers: str | None = None,
    out: str | Path | None = None,
    fresh: bool = False,
    quiet: bool = False,
    **keys: Any,
) -> Distilled:
    """Trains a small network to do what a trained one does; see :func:`gkd_plugin.commands.distill.distill`."""
    from gkd_plugin.commands.distill import distill as command

    with alone:
        return command(
            teacher,
            data,
            student,
            preset,
            width=width,
            depth=depth,
            dropout=dropout,
            epochs=epochs,
            lr=lr,
            weight_decay=weight_decay,
            seeds=seeds,
            control=control,
            task=task,
            layers=layers,
            teacher_layers=teacher_layers,
            out=out,
            fresh=fresh,
            quiet=quiet,
            **keys,
        )


def explain(cfg: Source, overrides: Sequence[Any] = ()) -> Explanation:
    """Explains a configuration: every key with its origin, and the loss as a formula."""
    from gkd_plugin.commands.explain import explain as command

    return command(cfg, overrides)


def export(run: str | Path, out: str | Path, seed: int | None = None) -> Exported:
    """Writes the selected student of a run into a folder of its own; see :func:`gkd_plugin.commands.export.export`."""
    from gkd_plugin.commands.export import export as command

    return command(run, out, seed)


def grid(
    config: str | Path,
    grid: str | Path | None = None,
    overrides: Sequence[Any] = (),
    *,
    repeat: int = 3,
    workers: int | None = None,
    **options: Any,
) -> Outcome | DryRun:
    """Trains every configuration of a grid beside its control; see :func:`gkd_plugin.study.grid.run_grid`.

    Args:
        config (str or Path): The base configuration, or a folder of configurations.
        grid (str or Path, optional): The grid file. (default: none, for a folder)
        overrides (sequence): ``key value`` pairs for the base.
        repeat (int): Seeds of each configuration.
        workers (int, optional): Processes; 0 trains in this one. (default: one for each core)
        **options: Further arguments of ``run_grid``, such as ``placebo``, ``sample`` or ``dry_run``.
    """
    from gkd_plugin.study.execute import Resources
    from gkd_plugin.study.grid import run_grid

    with alone:
        return run_grid(config, grid, overrides=overrides, repeat=repeat, resources=Resources(workers), **options)


def list(axis: str | None = None) -> Listing:
    """Lists the answers to every axis, to one, or the keys of a group; see :func:`gkd_plugin.commands.list.list_answers`."""
    from gkd_plugin.commands.list import list_answers

    return list_answers(axis)


def run(
    cfg: Source,
    repeat: int = 1,
    overrides: Sequence[Any] = (),
    *,
    name: str | None = None,
    control: bool = False,
    fresh: bool = False,
    quiet: bool = False,
    teacher: nn.Module | None = None,
    watch: Progress | None = None,
) -> RunReport:
    """Trains a configuration; see :func:`gkd_plugin.commands.run.run`."""
    from gkd_plugin.commands.run import run as command

    with alone:
        return command(
            cfg,
            repeat=repeat,
            overrides=overrides,
            name=name,
            control=control,
            fresh=fresh,
            quiet=quiet,
            teacher=teacher,
            watch=watch,
        )


def load_student(run: str | Path, student: int | None = None) -> TrainedStudent:
    """The selected student of a finished run, or of a folder that ``export`` wrote; see :func:`gkd_plugin.commands.results.load_student`."""
    from gkd_plugin.commands.results import load_student as command

    return command(run, student)


def report(folder: str | Path, answer: str = "mean") -> Overview:
    """Reads a study, a folder of runs, or one run; see :class:`gkd_plugin.study.overview.Overview`."""
    from gkd_plugin.study.overview import make_overview

    return make_overview(folder, answer)
