"""One seed of a run: trained, or recorded with the error."""

from __future__ import annotations

import contextlib
import json
import shutil
import traceback
from collections.abc import Sequence
from pathlib import Path

from torch import nn
from torch_geometric import seed_everything
from torch_geometric.graphgym.model_builder import create_model
from torch_geometric.graphgym.utils.comp_budget import params_count
from torch_geometric.graphgym.utils.device import auto_select_device
from yacs.config import CfgNode

from gkd_plugin.config.load import Config
from gkd_plugin.data.load import load
from gkd_plugin.errors import Diverged, RunFailed, describe_error, find_place
from gkd_plugin.host import cfg
from gkd_plugin.printing import is_noting, warn
from gkd_plugin.training.checkpoint import Checkpoints
from gkd_plugin.training.claim import has_begun, keep_dated
from gkd_plugin.training.disk import guarded
from gkd_plugin.training.graphgym import make_trainer
from gkd_plugin.training.metrics import make_logs
from gkd_plugin.training.recorders import gradients, learned_maps
from gkd_plugin.training.result import RunResult
from gkd_plugin.training.run_folder import FAILED, TRACKED, write_outcome, write_text
from gkd_plugin.training.seed_files import SPLITS
from gkd_plugin.training.trainer import Progress

CHECKPOINTS, ASIDE = "ckpt", "failed"  # in a seed's folder; the second holds the rows of one that failed


def train_seed(
    config: Config, further: Sequence[CfgNode], folder: Path, seed: int, progress: Progress, teacher: nn.Module | None
) -> RunResult:
    """Trains one seed as the host's main program does, in the order in which that draws random numbers.

    Args:
        config (Config): The configuration, which is also the present global cfg.
        further (sequence of CfgNode): Configurations of unlike students.
        folder (Path): The seed's folder.
        seed (int): The seed.
        progress (callable): Called after every epoch.
        teacher (nn.Module, optional): A teacher that is not a run.
    """
    with guarded(folder):
        again = folder.is_dir()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FAILED).unlink(missing_ok=True)
        _restore_rows(folder)
        cfg.run_dir, cfg.seed = str(folder), seed
        seed_everything(seed)
        auto_select_device()
        loaders = load(cfg)
        model = create_model()
        cfg.params = params_count(model)
        checkpoints = Checkpoints(folder / CHECKPOINTS, int(cfg.train.ckpt_period)) if cfg.train.enable_ckpt else None
        if again and not (checkpoints and checkpoints.exist) and not is_noting():
            warn(f"{folder}: started again, nothing was kept yet (no checkpoint).")
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
        configs = {student.number: student.model.own for student in trainer.students}
        write_outcome(folder, result, trainer.answering(result), configs, trainer.single(result))
        if checkpoints is not None:
            checkpoints.clear()
    return result


def record_failure(folder: Path, error: Exception) -> str:
    """Records why a seed failed and moves its rows away: the host's aggregation needs whole seeds.

    Checkpoints are kept, and the rows with them, so that the seed goes on from there once the cause is fixed; only
    where the training itself diverged, it would end in the same place again.

    Args:
        folder (Path): The seed's folder.
        error (Exception): What ended it; one that is not ours (a user's own layer, memory) with its traceback.

    Returns:
        str: The reason in one line.
    """
    values = {"error": str(error)}
    if not isinstance(error, RunFailed):
        values["error"] = f"{describe_error(error)} ({find_place(error)}); its traceback is in {folder / FAILED}"
        values["traceback"] = "".join(traceback.format_exception(error))
    with contextlib.suppress(OSError):  # the failure itself is reported in any case
        write_text(folder / FAILED, json.dumps(values, indent=1) + "\n")
        if (folder / ASIDE).is_dir() and has_begun(folder):
            keep_dated(folder / ASIDE)  # rows of an earlier failure, from which nothing went on
        shutil.rmtree(folder / ASIDE, ignore_errors=True)
        (folder / ASIDE).mkdir()
        for split in SPLITS:
            if (folder / split).is_dir():
                (folder / split).rename(folder / ASIDE / split)
    if isinstance(error, Diverged):
        Checkpoints(folder / CHECKPOINTS).clear()
    return values["error"]


def _restore_rows(folder: Path) -> None:
    """Puts the rows of a seed that failed back beside its checkpoints."""
    if not (folder / CHECKPOINTS).is_dir():
        return
    for split in SPLITS:
        if (folder / ASIDE / split).is_dir() and not (folder / split).exists():
            (folder / ASIDE / split).rename(folder / split)
    with contextlib.suppress(OSError):  # something else lies there, or nothing
        (folder / ASIDE).rmdir()


def _remove_rows(folder: Path) -> None:
    for split in SPLITS:
        shutil.rmtree(folder / split, ignore_errors=True)
    for name in (gradients.FILE, learned_maps.FILE, TRACKED):
        (folder / name).unlink(missing_ok=True)
