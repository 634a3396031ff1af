"""Where our answers stand in the host's registries."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch_geometric.data import Data, InMemoryDataset
from torch_geometric.graphgym import register
from torch_geometric.graphgym.config import cfg
from torch_geometric.graphgym.loader import load_dataset

import gkd_plugin  # noqa: F401 - so that conftest knows the registries
from gkd_plugin.data.loaders import LOADERS
from gkd_plugin.registration import register_all


def master(format: str, name: str, folder: str) -> Any:
    """A fork's loader that refuses what is not its own."""
    if format == "PyG-Own":
        return name
    raise ValueError(f"Unknown data format: {format}")


def own(format: str, name: str, folder: str) -> Any:
    return "own" if name == "digits" else None


@pytest.mark.parametrize(
    ("before", "order"),
    [
        ({}, [*LOADERS]),
        ({"master": master}, [*LOADERS, "master"]),
        ({"a": own, "master": master}, [*LOADERS, "a", "master"]),
        ({"gkd_digits": own, "master": master}, ["gkd_kept", "gkd", "gkd_digits", "master"]),
        ({"master": master, "gkd": own}, ["gkd_kept", "gkd_digits", "master", "gkd"]),
    ],
)
def test_our_loaders_are_asked_first(before: dict[str, Any], order: list[str]) -> None:
    register.loader_dict.clear()
    register.loader_dict.update(before)
    for _ in range(2):
        register_all()
        assert list(register.loader_dict) == order
        assert before.items() <= register.loader_dict.items(), "a user's own loader was replaced"


@pytest.mark.parametrize(("format", "kind"), [("gkd", "DigitsGraph"), ("PyG", "DigitsGraph"), ("PyG-Own", "str")])
def test_a_loader_that_refuses_every_other_format_does_not_hide_ours(format: str, kind: str) -> None:
    register.loader_dict.clear()
    register.loader_dict["master"] = master
    register_all()
    cfg.dataset.format, cfg.dataset.name = format, "digits"
    assert type(load_dataset()).__name__ == kind


def test_the_host_notes_types_of_the_data_beside_their_widths() -> None:
    from torch_geometric.graphgym import loader

    first = loader.set_dataset_info
    register_all()
    assert loader.set_dataset_info is first  # once
    for data, expected in (
        (Data(x=torch.ones(2, 3), edge_index=torch.zeros(2, 4).long(), edge_type=torch.arange(4)), (4, [])),
        (Data(x=torch.ones(2, 3), edge_index=torch.zeros(2, 4).long()), (0, [])),
        (
            Data(num_nodes=2, node_type=torch.tensor([0, 1]), type_row=torch.zeros(2).long(), x_1=torch.ones(1, 7)),
            (0, [[0, 1], [7, 1]]),
        ),
    ):
        dataset = InMemoryDataset()
        dataset.data, dataset.slices = dataset.collate([data])
        loader.set_dataset_info(dataset)
        assert (cfg.share.relations, cfg.share.node_types) == expected
