"""Which nodes a graph has while students learn: all of them, or all but some that come for the test only."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch_geometric.data import Data, InMemoryDataset

from gkd_plugin.data.keys import PROTOCOLS, SPLITS
from gkd_plugin.data.relations import is_type_table
from gkd_plugin.errors import ConfigError, Problem, UserError

TRANSDUCTIVE, INDUCTIVE = PROTOCOLS[:2]
HELD_OUT = "held_out"  # truth values of the nodes that training does not see


class HeldOutNodes(InMemoryDataset):  # type: ignore[misc]
    """One graph of which some test nodes, and all their edges, are absent until the test.

    What training and validation read is a graph of its own, so no network, normalisation or term can see those nodes. The
    other nodes keep their order. The host's ``create_loader`` would serve the whole graph in every split;
    :func:`gkd_plugin.data.loaders.per_split` puts that right.

    Args:
        data (Data): The whole graph, with masks and the truth values ``held_out``.
    """

    divided = True

    def __init__(self, data: Data) -> None:
        super().__init__()
        self.data, self.slices = self.collate([data])
        self._parts: dict[str, InMemoryDataset] = {}

    def of(self, part: str) -> InMemoryDataset:
        """The data set of one split: training and validation share the graph without the nodes that are held out."""
        if not self._parts:
            whole = super().get(0)
            seen = whole.subgraph(~whole[HELD_OUT])
            del seen[HELD_OUT]
            for key in filter(partial(is_type_table, whole), whole.keys()):
                seen[key] = whole[key]  # as many rows as there are nodes or edges would be taken for theirs
            self._parts = {"train": _wrap(seen), "test": _wrap(whole)}
        return self._parts["test" if part == "test" else "train"]

    def get(self, idx: int) -> Data:
        raise UserError(
            "splits.protocol: some nodes are held out of training, but this loader would give all of them. Run with train.mode: "
            "distill (kd.preset: supervised for no distillation), or use gkd_plugin.data.loaders.create_loaders()."
        )


def _wrap(data: Data) -> InMemoryDataset:
    dataset = InMemoryDataset()
    dataset.data, dataset.slices = dataset.collate([data])
    return dataset


def hold_out(data: Data, values: Mapping[str, Any], seed: int) -> HeldOutNodes:
    r"""The protocols ``inductive`` and ``production`` of `"Graph-less Neural Networks: Teaching Old MLPs New Tricks via
    Distillation" <https://arxiv.org/abs/2110.08727>`_: a share of the test nodes comes after training.

    ``inductive`` tests those nodes only, ``production`` all test nodes, in either case on the whole graph.

    Args:
        data (Data): One graph with masks.
        values (mapping): The group ``splits``.
        seed (int): The same seed holds out the same nodes.

    Raises:
        ConfigError: If no test node, or none but those, would be held out.

    .. code-block:: yaml

        dataset: {format: gkd, name: Cora, task: node, task_type: classification}
        splits: {kind: per_class, protocol: inductive}
    """
    data = data.clone()
    nodes = data.test_mask.nonzero().view(-1)
    count = round(values["inductive_share"] * len(nodes))
    if not 0 < count < len(nodes):
        found = f"{values['inductive_share']:g} of {len(nodes)} test nodes are {count}"
        raise ConfigError(
            [Problem(f"{SPLITS}.inductive_share", found, "At least one must be held out, and one must stay.")]
        )
    order = torch.randperm(len(nodes), generator=torch.Generator().manual_seed(seed))
    held_out = torch.zeros_like(data.test_mask)
    held_out[nodes[order[:count]]] = True
    data[HELD_OUT] = held_out
    if values["protocol"] == INDUCTIVE:
        data.test_mask = held_out.clone()
    return HeldOutNodes(data)
