"""A trained student as a plain module: tensors or data in, logits out."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.graphgym.model_builder import create_model
from yacs.config import CfgNode

from gkd_plugin import host
from gkd_plugin.errors import UserError, cut, describe_error
from gkd_plugin.models.inputs import check_graph, check_names
from gkd_plugin.models.networks import NETWORKS
from gkd_plugin.models.own import OWN
from gkd_plugin.models.sample import infer_task


class TrainedStudent(nn.Module):
    """A network under its own cfg. It returns logits of every item, and leaves what it is called with as it is.

    Args:
        model (nn.Module): The network, built under ``own``; its state dict is that of a run's ``student_<n>.pt``.
        own (CfgNode): The configuration it was made from, also as ``kd_cfg``.
    """

    def __init__(self, model: nn.Module, own: CfgNode) -> None:
        super().__init__()
        self.model, self.kd_cfg = model, own

    def forward(self, data: Tensor | Data, edge_index: Tensor | None = None, **further: Any) -> Tensor:
        """Logits of every node, of every graph, or of every pair in ``edge_label_index``.

        Args:
            data (Tensor or Data): Features ``x`` of every node, or a graph (a batch of graphs) as PyG has it.
            edge_index (Tensor, optional): The edges, where the first argument is features.
            **further (Tensor, optional): What else the network reads of a graph: ``edge_attr``, ``batch`` (the graph of each
                node), ``edge_label_index`` (the pairs of an edge task), ...

        Raises:
            UserError: If edges are missing, or the pairs of an edge task, or what is given cannot be read: features of
                another width or type, edges to nodes that are not there, a misspelt name.
        """
        if isinstance(data, Tensor):
            if edge_index is None:
                raise UserError("a student is called with a graph, or with x and edge_index; edge_index is missing.")
            data = Data(x=data)
        elif not isinstance(data, Data):
            raise UserError(
                f"a student is called with a graph (torch_geometric.data.Data), or with x and edge_index, not with a "
                f"{type(data).__name__}."
            )
        check_names(further)
        data = copy.copy(data)  # the host's layers write into theirs
        own, x = self.kd_cfg, data.get("x")
        takes_floats = own.model.type in ("gnn", *NETWORKS) and not own.dataset.node_encoder
        if takes_floats and isinstance(x, Tensor) and not x.is_floating_point():
            data.x = x.float()  # counts and the like, as in training
        for name, value in {"edge_index": edge_index, **further}.items():
            if value is not None:
                data[name] = value
        weights = next(self.model.parameters(), None)
        check_graph(
            data, int(own.share.dim_in) if takes_floats else None, weights.dtype if weights is not None else None
        )
        if infer_task(self.kd_cfg).level == "edge":
            _name_pairs(data)
        elif "split" in data:
            del data.split  # without it the host's head returns every row
        with host.scoped(self.kd_cfg):
            logits: Tensor = self.model(data)[0]
        return logits


def build_student(own: CfgNode, weights: Mapping[str, Tensor], where: Path) -> TrainedStudent:
    """A trained student in evaluation mode.

    Args:
        own (CfgNode): The configuration it was made from.
        weights (mapping): Its weights, as a run's ``student_<n>.pt`` has them.
        where (Path): The folder that they come from, for messages.

    Raises:
        UserError: If its network cannot be built here, or the weights are those of another one.
    """
    try:
        with host.scoped(own):
            network: nn.Module = create_model(to_device=False).model
    except Exception as error:  # users' networks may raise anything
        if own.model.type.startswith(OWN):
            raise UserError(
                f"{where}: its network is of a class that was handed over in Python (gkd_plugin.distill), and only the call that "
                "trained it knows that class. Export its result there: torch.export.export(result.student, (x, edge_index))."
            ) from error
        raise UserError(
            f"{where}: its network (model.type: {own.model.type}) cannot be built here ({describe_error(error)}). Register "
            "its parts first, as its own run did: import the module that calls register_network, register_layer, ..."
        ) from error
    module = TrainedStudent(network, own)
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        first = next(
            (line.strip() for line in str(error).splitlines()[1:]), str(error)
        )  # the first line names our class only
        raise UserError(
            f"{where}: its weights are not those of the network that its configuration describes (model.type: "
            f"{own.model.type}; {cut(first).rstrip('.')})."
        ) from error
    return module.eval()


def _name_pairs(data: Data) -> None:
    """Puts PyG's ``edge_label_index`` where the host looks for the pairs of a split; those of the data's own split stay."""
    pairs = data.get("edge_label_index")
    if pairs is not None:
        data.split = "test"
        data.test_edge_index, data.test_edge_label = pairs, torch.zeros(pairs.size(1))
    elif "split" not in data:
        raise UserError("a student of an edge task needs the pairs to decode: give edge_label_index [2, pairs].")
