"""Rows of hidden states: which nodes are compared, their mean, and how each row is scaled."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from gkd_plugin.errors import UserError
from gkd_plugin.ops.rowwise import unit_rows
from gkd_plugin.space.observation import Graph, Observation

NODES = {"all": "all nodes", "train": "training nodes", "unlabeled": "nodes outside the training mask"}


def select(graph: Graph, nodes: str, key: str, answers: bool = False) -> Tensor | None:
    """Indices of the nodes that are compared, or ``None`` for all of them.

    Args:
        graph (Graph): The learner's graph.
        nodes (str): ``all``, ``train`` or ``unlabeled`` (outside the training mask).
        key (str): The configuration key, for the message.
        answers (bool): Whether logits are compared: those of nodes that are never predicted mean nothing.

    Raises:
        UserError: If ``unlabeled`` finds no node. A sampled part of a graph may have none.
    """
    mask, among = graph.train_mask, graph.predicted if answers else None
    if nodes == "all" and among is not None:
        return graph.remember(("nodes", nodes, answers), lambda: among.nonzero().view(-1))
    if nodes == "all" or (nodes == "train" and mask is None):
        return None
    if mask is None:
        raise UserError(
            f"{key}: unlabeled, but the graph has no training mask, so all its nodes count as training nodes. "
            "Allowed here: train, all."
        )
    wanted = mask if nodes == "train" else ~mask if among is None else ~mask & among
    index = graph.remember(("nodes", nodes, answers), lambda: wanted.nonzero().view(-1))
    if nodes == "unlabeled" and index.numel() == 0 and graph.node_id is None:
        raise UserError(
            f"{key}: unlabeled, but all {graph.num_nodes} nodes are in the training mask. Allowed here: train, all."
        )
    return index


def node_mean(seen: Observation, tap: str, layer: int, nodes: str = "all", index: Tensor | None = None) -> Tensor:
    """The mean over nodes of one layer, ``[d]``; computed once per observation."""

    def compute() -> Tensor:
        states = seen.layer(tap, layer)
        return (states if index is None else states[index]).mean(dim=0)

    return seen.remember(("node_mean", tap, layer, nodes, torch.is_grad_enabled()), compute)


def normalize(rows: Tensor, how: str) -> Tensor:
    """Rows as they are (``none``), of length 1 (``l2``), or with standardised columns (``batchnorm``).

    A row of length 0 stays 0 and gets the gradient 0; a single row is standardised to 0.
    """
    if how == "l2":
        return unit_rows(rows)
    if how == "batchnorm":
        return rows * 0.0 if rows.size(0) < 2 else functional.batch_norm(rows, None, None, training=True)
    return rows
