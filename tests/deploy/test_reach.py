"""How far an answer reaches, on a path of nodes where it can be counted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch_geometric.data import Data

from gkd_plugin.deploy.reach import find_hops, measure_neighbourhoods, take_neighbourhood
from tests.deploy.test_program import build

pytestmark = pytest.mark.usefixtures("toy_data")


def path(nodes: int = 15) -> Data:
    ends = torch.stack((torch.arange(nodes - 1), torch.arange(1, nodes)))
    random = torch.Generator().manual_seed(0)
    return Data(x=torch.randn(nodes, 6, generator=random), edge_index=torch.cat((ends, ends.flip(0)), dim=1))


def test_a_neighbourhood_goes_against_the_edges() -> None:
    data = path()
    part, place = take_neighbourhood(data, 7, 2)
    assert part.num_nodes == 5 and part.num_edges == 8
    assert torch.equal(part.x[place], data.x[7])
    one_way = Data(x=data.x, edge_index=data.edge_index[:, :14])  # 0 -> 1 -> 2 ...
    part, place = take_neighbourhood(one_way, 7, 2)
    assert torch.equal(part.x, data.x[5:8]) and place == 2
    alone = Data(x=data.x, edge_index=data.edge_index[:, :0])
    part, place = take_neighbourhood(alone, 3, 2)
    assert part.num_nodes == 1 and place == 0


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ({"model": {"type": "mlp"}}, (0, False)),
        ({"model": {"type": "sage"}}, (3, False)),  # two hidden layers and the last
        ({"model": {"type": "gat"}}, (3, False)),
        ({"gnn": {"layer_type": "ginconv"}}, (2, False)),  # the host's ends in a linear layer
        ({"model": {"type": "gcn"}, "gnn": {"layers_mp": 1}}, (3, True)),  # its normalisation reads degrees at the rim
        ({"model": {"type": "gcnii"}}, (3, True)),
        # statistics of all nodes
        ({"model": {"type": "gcn"}, "gnn": {"batchnorm": True}, "gkd_model": {"batchnorm": "plain"}}, None),
    ],
)
def test_hops_are_counted_and_tried(groups: dict[str, Any], expected: tuple[int, bool] | None) -> None:
    assert find_hops(build(**groups), path(), [7, 4]) == expected


def test_sizes_are_those_of_the_neighbourhoods() -> None:
    students = {"near": build(model={"type": "sage"}, gnn={"layers_mp": 1}), "none": build(model={"type": "mlp"})}
    data = path()
    hops = {name: found for name, student in students.items() if (found := find_hops(student, data, [7]))}
    times, reaches = measure_neighbourhoods(students, hops, data, [6, 7, 8, 9], torch.device("cpu"), seconds=60)
    assert reaches["near"].nodes == (5, 5) and reaches["near"].edges == (8, 8) and reaches["near"].count == 4
    assert reaches["none"].nodes == (1, 1) and reaches["none"].edges == (0, 0)
    assert times["near"].count == 4
    few = measure_neighbourhoods(students, hops, data, [6, 7, 8, 9], torch.device("cpu"), seconds=0)[1]
    assert few["near"].count == 3
