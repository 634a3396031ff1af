"""The student that ``gkd_plugin.distill`` trains: a network by its name, or a module of the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from gkd_plugin.errors import UserError, nearest, quote
from gkd_plugin.models.aux_layers import has_layer
from gkd_plugin.models.networks import NETWORKS
from gkd_plugin.models.own import OWN, find_lasting, match_parts, require_whole
from gkd_plugin.ops.digest import compute_digest
from gkd_plugin.printing import warn

SHAPE = {"width": 16, "depth": 2, "dropout": 0.5}  # of a student that is named


@dataclass(frozen=True)
class ChosenStudent:
    """What is trained, as a configuration describes it.

    Args:
        type (str): ``model.type``.
        name (str): How it is called in the table.
        values (dict): What else of a configuration describes it.
        module (nn.Module, optional): A module of the user's own.
    """

    type: str
    name: str
    values: dict[str, Any]
    module: nn.Module | None = None


def choose_student(student: str | nn.Module, layers: str | None, shape: Mapping[str, Any]) -> ChosenStudent:
    """Describes what ``student=`` means.

    Args:
        student (str or nn.Module): Name of a network or of a layer of GraphGym, or a module.
        layers (str, optional): Pattern of the module's parts that are its layers.
        shape (dict): The arguments ``width``, ``depth`` and ``dropout``; ``None`` where one was left out.

    Raises:
        UserError: For an unknown name, a depth that is no number, or an argument that says what is known already.
    """
    given = {name: value for name, value in shape.items() if value is not None}
    if isinstance(student, nn.Module):
        if given:
            raise UserError(
                f"{', '.join(f'{name}=' for name in given)}: a module of your own has its shape already. Leave it out."
            )
        return _take_module(student, layers)
    if not isinstance(student, str):
        raise UserError(f"student=: {quote(student)} is a {type(student).__name__}. {_list_students()}")
    if student not in NETWORKS and not has_layer(student):
        raise UserError(f"student=: {quote(student)} is unknown. {nearest(student, NETWORKS)}{_list_students()}")
    if layers is not None:
        raise UserError(f"layers=: the layers of student '{student}' are known. Leave it out.")
    shape = {**SHAPE, **given}
    if not isinstance(shape["depth"], int) or shape["depth"] < 1:
        raise UserError(
            f"depth={quote(shape['depth'])}: the number of layers, with the last one, is a whole number from 1 on."
        )
    gnn = {
        "layers_pre_mp": 0,
        "layers_mp": shape["depth"] - 1,
        "layers_post_mp": 1,
        "dim_inner": shape["width"],
        "dropout": shape["dropout"],
        "act": "relu",
        "batchnorm": False,
        "l2norm": False,
    }
    name = f"{student}, {shape['depth']} layer{'s' if shape['depth'] != 1 else ''} of {shape['width']}"
    if student in NETWORKS:
        return ChosenStudent(student, name, {"gnn": gnn})
    return ChosenStudent("gnn", name, {"gnn": {**gnn, "layer_type": student, "stage_type": "stack"}})


def _list_students() -> str:
    return f"Allowed: {', '.join(NETWORKS)}, a layer of GraphGym such as gcnconv, or a torch.nn.Module of your own."


def _take_module(module: nn.Module, layers: str | None) -> ChosenStudent:
    require_whole(module)
    lasting = find_lasting(module)
    if lasting:
        names = ", ".join(lasting[:5]) + (", ..." if len(lasting) > 5 else "")
        warn(
            f"student=: {names} have no reset_parameters, so every seed begins with the values that they have now. Give the module "
            "a method reset_parameters() for new ones."
        )
    kd = {}
    if layers is not None:
        match_parts(module, layers, "layers=", "the student")
        kd["layers"] = f"model.{layers}"  # below the frame that makes it a network of the host
    word = compute_digest([repr(module), {name: list(each.shape) for name, each in module.named_parameters()}])[:8]
    name = type(module).__name__
    return ChosenStudent(f"{OWN}{name}_{word}", name, {"kd": kd} if kd else {}, module)
