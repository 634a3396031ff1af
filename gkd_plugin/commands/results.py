"""Finished runs, read back."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch_geometric.graphgym.model_builder import create_model

from gkd_plugin import host
from gkd_plugin.errors import UserError, describe_error
from gkd_plugin.models.trained import TrainedStudent
from gkd_plugin.training.result import RESULT, read_result
from gkd_plugin.training.stored_config import own_cfg


def load_student(run: str | Path, student: int | None = None) -> TrainedStudent:
    """The selected student of a finished run, in evaluation mode: ``student(x, edge_index)`` or ``student(data)`` gives
    logits.

    Args:
        run (str or Path): A seed's folder, e.g. ``results/cora_alignahead_pp/0``.
        student (int, optional): Its number. (default: the one that answers; of an ensemble, the best)

    Returns:
        TrainedStudent: The network; ``student.kd_cfg`` is the configuration it was made from.

    Raises:
        UserError: If the folder contains no finished run, or not that student, or its network cannot be built here.
    """
    folder = Path(run)
    result = read_result(folder)
    if result is None:
        if not folder.is_dir():
            raise UserError(f"{folder}: there is no such folder. Give a seed's folder, such as results/NAME/0.")
        raise UserError(f"{folder} contains no finished run (no {RESULT}). Give a seed's folder, such as {folder}/0.")
    number = student or (result.answering[0] if len(result.answering) == 1 else result.best_student)
    path = folder / f"student_{number}.pt"
    if not path.is_file():
        kept = ", ".join(sorted(p.stem.removeprefix("student_") for p in folder.glob("student_*.pt")))
        raise UserError(f"{folder} has no student {number}; it has: {kept}.")
    own = own_cfg(folder / f"student_{number}.yaml")
    try:
        with host.scoped(own):
            network: nn.Module = create_model(to_device=False).model
    except Exception as error:  # users' networks may raise anything
        raise UserError(
            f"{folder}: its network (model.type: {own.model.type}) cannot be built here ({describe_error(error)}). Register "
            "its parts first, as its own run did: import the module that calls register_network, register_layer, ..."
        ) from error
    module = TrainedStudent(network, own)
    module.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
    return module.eval()
