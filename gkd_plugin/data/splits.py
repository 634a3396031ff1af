"""Splits drawn by seed, for data sets that come without one; the global random stream is left alone."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.transforms import LargestConnectedComponents, RandomNodeSplit

from gkd_plugin.errors import UserError


def random_split(data: Data, train: float = 0.5, val: float = 0.25, seed: int = 0) -> Data:
    """A copy of ``data`` with masks over shares of its nodes; what training and validation leave is the test set.

    Args:
        data (Data): A graph.
        train, val (float): Shares of the nodes.
        seed (int): The same seed gives the same split.

    Raises:
        UserError: If a split would be empty.
    """
    num_val, num_test = round(data.num_nodes * val), data.num_nodes - round(data.num_nodes * (train + val))
    num_train = data.num_nodes - num_val - num_test
    if min(num_train, num_val, num_test) < 1:
        raise UserError(
            f"random split: train={train:g} and val={val:g} of {data.num_nodes} nodes are {num_train} and {num_val}, "
            f"which leaves {num_test} for the test. Every split needs a node: choose shares that sum to less than 1."
        )
    return _node_split(data, seed, split="train_rest", num_val=num_val, num_test=num_test, key=None)


def planetoid_split(
    data: Data, train_per_class: int = 20, num_val: int = 500, num_test: int = 1000, seed: int = 0
) -> Data:
    r"""A copy of ``data`` split in the manner of `"Revisiting Semi-Supervised Learning with Graph Embeddings"
    <https://arxiv.org/abs/1603.08861>`_: the same number of training nodes for every class, the rest counted out.

    Args:
        data (Data): A graph with labels.
        train_per_class, num_val, num_test (int): Numbers of nodes.
        seed (int): The same seed gives the same split.

    Raises:
        UserError: If the graph has too few nodes.
    """
    rest = data.num_nodes - train_per_class * int(data.y.unique().numel())
    if rest < num_val + num_test:
        raise UserError(
            f"split: {data.num_nodes} nodes less {train_per_class} per class leave {rest} for {num_val} validation "
            f"and {num_test} test nodes. Ask for fewer."
        )
    return _node_split(
        data, seed, split="random", num_train_per_class=train_per_class, num_val=num_val, num_test=num_test
    )


def per_class_split(data: Data, train: int = 20, val: int = 30, seed: int = 0, largest_component: bool = False) -> Data:
    r"""A copy of ``data`` with fixed numbers of training and validation nodes *per class* and the rest as test set: the
    split of `"Pitfalls of Graph Neural Network Evaluation" <https://arxiv.org/abs/1811.05868>`_ that CPF and GLNN use.

    Args:
        data (Data): A graph with labels.
        train, val (int): Nodes per class.
        seed (int): The same seed gives the same split.
        largest_component (bool): Whether to keep the largest connected component only, as those papers do.

    Raises:
        UserError: If a class has fewer nodes than asked for, none is left for the test, or nodes have several labels.
    """
    data = LargestConnectedComponents()(data) if largest_component else data.clone()
    generator = torch.Generator().manual_seed(seed)
    parts: dict[str, list[Tensor]] = {"train_mask": [], "val_mask": [], "test_mask": []}
    classes = _flatten(data.y)
    if classes.dim() > 1:
        raise UserError(
            f"split per class: y has the shape {list(data.y.shape)}, but one class for each item is needed. Draw at random "
            "instead."
        )
    for label in classes.unique().tolist():
        nodes = (classes == label).nonzero().view(-1)
        if nodes.numel() < train + val:
            raise UserError(
                f"split per class: class {label} has {nodes.numel()} nodes, {train} + {val} are asked for. "
                f"Lower them, or drop the class."
            )
        nodes = nodes[torch.randperm(nodes.numel(), generator=generator)]
        for name, part in zip(parts, nodes.tensor_split((train, train + val)), strict=True):
            parts[name].append(part)
    for name, nodes_of_classes in parts.items():
        mask = torch.zeros(data.num_nodes, dtype=torch.bool)
        mask[torch.cat(nodes_of_classes)] = True
        data[name] = mask
    if not bool(data.test_mask.any()):
        raise UserError(f"split per class: {train} + {val} nodes per class leave none for the test. Ask for fewer.")
    return data


def hold_out_validation(data: Data, share: float = 0.2, seed: int = 0) -> Data:
    """A copy of ``data`` in which a share of its training nodes is the validation set; of every class alike, where nodes have one.

    Args:
        data (Data): A graph with a ``train_mask``.
        share (float): Share of the training nodes; one node at least.
        seed (int): The same seed takes the same nodes.

    Raises:
        UserError: If fewer than two training nodes are there.
    """
    data = data.clone()
    nodes = data.train_mask.nonzero().view(-1)
    if nodes.numel() < 2:
        raise UserError(f"split: {nodes.numel()} training nodes leave none for validation. Two are needed.")
    generator = torch.Generator().manual_seed(seed)
    nodes = nodes[torch.randperm(nodes.numel(), generator=generator)]
    y = _flatten(data.y)[nodes]
    if y.dim() == 1 and not y.is_floating_point():
        parts = [nodes[y == label] for label in y.unique()]
    else:
        parts = [nodes]
    taken = torch.cat([part[: round(share * part.numel())] for part in parts])
    taken = taken if taken.numel() else nodes[:1]
    data.val_mask = torch.zeros_like(data.train_mask)
    data.val_mask[taken] = True
    data.train_mask = data.train_mask & ~data.val_mask
    return data


def _flatten(y: Tensor) -> Tensor:
    """Labels without axes of size 1 behind the first."""
    return y.reshape(y.size(0)) if y.numel() == y.size(0) else y


def _node_split(data: Data, seed: int, **options: object) -> Data:
    """PyG's own split, which draws from the global stream, under a stream of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        result: Data = RandomNodeSplit(**options)(data.clone())
    return result
