"""Finished runs, read back."""

from __future__ import annotations

from pathlib import Path

from gkd_plugin.deploy.chosen import choose_seed, read_folder
from gkd_plugin.deploy.folder import is_export, read_export, require_both
from gkd_plugin.errors import UserError
from gkd_plugin.models.trained import TrainedStudent, build_student
from gkd_plugin.training.result import read_result
from gkd_plugin.training.seed_files import SINGLE
from gkd_plugin.training.stored_config import own_cfg
from gkd_plugin.training.teachers.base import load_weights


def load_student(run: str | Path, student: int | None = None) -> TrainedStudent:
    """The selected student of a finished run, in evaluation mode: ``student(x, edge_index)`` or ``student(data)`` gives
    logits, one for each class. For two classes that is one logit, as the host's networks have it: above 0 means class 1.

    Args:
        run (str or Path): A run's folder, of whose seeds the best by validation is taken, as ``gkd export`` does; the folder
            of one seed, e.g. ``results/cora_alignahead_pp/0``; or what ``gkd export`` wrote.
        student (int, optional): Its number. (default: the one that answers; of an ensemble, the best one with the weights of its
            own best epoch, while each number names a part of the ensemble)

    Returns:
        TrainedStudent: The network; ``student.kd_cfg`` is the configuration it was made from.

    Raises:
        UserError: If the folder contains no finished run, or not that student, or its network cannot be built here.
    """
    folder = read_folder(run)
    if is_export(folder):
        if student is not None:
            raise UserError(
                f"{folder} is an exported student, the only one in its folder: leave student={student} out."
            )
        return read_export(folder)
    require_both(folder)
    result = read_result(folder)
    if result is None:
        chosen = choose_seed(folder)
        folder, result = chosen.folder, chosen.result
    number = result.single if student is None else student
    path = folder / f"student_{number}.pt"
    if student is None and len(result.answering) > 1 and (folder / SINGLE).is_file():
        path = folder / SINGLE
    if not path.is_file():
        kept = ", ".join(sorted(p.stem.removeprefix("student_") for p in folder.glob("student_*.pt")))
        raise UserError(f"{folder} has no student {number}; it has: {kept}.")
    own = own_cfg(folder / f"student_{number}.yaml")
    return build_student(own, load_weights(path, str(run)), folder)
