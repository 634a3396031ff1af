"""Data that are handed over are a data set for as long as they are, and stay the caller's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch_geometric.data import Data, HeteroData
from torch_geometric.loader import DataLoader

from gkd_plugin.data.handed import handing, read_handed, take
from gkd_plugin.errors import UserError
from tests import toy


def test_they_are_there_for_as_long_as_they_are_handed_over() -> None:
    data, other = toy.community(1), toy.community(2)
    with pytest.raises(UserError, match="were handed over in Python"):
        take()
    with handing(read_handed(data).make):
        with handing(read_handed(other).make):
            assert torch.equal(take()[0].x, other.x)
        mine = take()
        mine._data.more = mine._data.x = torch.zeros(1)  # whatever a run does to it
        assert torch.equal(take()[0].x, data.x) and "more" not in data
    with pytest.raises(UserError):
        take()


def test_what_was_kept_is_there_again(tmp_path: Path) -> None:
    graphs = [toy.community(seed, nodes=12) for seed in range(6)]
    for number, (data, task) in enumerate(
        (
            (toy.community(1), None),
            ((graphs[:3], graphs[3:5], graphs[5:]), None),
            ([Data(**{**graph, "y": graph.y[:1]}) for graph in graphs], "graph_multiclass"),
        )
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        if number == 2:
            data = {"train": data[:3], "val": data[3:5], "test": data[5:]}
        handed = read_handed(data, task)
        handed.keep(folder)
        mine, again = handed.make(), take(str(folder))
        assert type(mine) is type(again) and mine._data.keys() == again._data.keys()
        for key in mine._data.keys():
            assert torch.equal(torch.as_tensor(mine._data[key]), torch.as_tensor(again._data[key])), key


@pytest.mark.parametrize("content", [b"", b"no file of tensors", {"graphs": 3}, {"graphs": [3], "level": "node"}, [1]])
def test_a_damaged_file_is_one_message(content: Any, tmp_path: Path) -> None:
    if isinstance(content, bytes):
        (tmp_path / "handed.pt").write_bytes(content)
    else:
        torch.save(content, tmp_path / "handed.pt")
    with pytest.raises(UserError, match="handed.pt"):
        take(str(tmp_path))


def test_nothing_in_the_file_can_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"graphs": [Trap()], "level": "node"}, tmp_path / "handed.pt")
    with pytest.raises(UserError, match="cannot be read"):
        take(str(tmp_path))
    assert not (tmp_path / "ran").exists()


def test_nodes_of_no_split_may_lack_a_class() -> None:
    data = toy.community(1)
    none = torch.arange(48) < 10
    data.y[none] = -1
    for mask in toy.MASKS:
        data[mask] &= ~none
    before = data.y.clone()
    made = read_handed(data).make()[0]
    assert torch.equal(made.y, before.clamp(min=0)) and torch.equal(data.y, before)
    data.train_mask[0] = True
    assert read_handed(data).make()[0].y[0] == -1  # refused later, as in any data


@pytest.mark.parametrize("form", [list, tuple, dict, "loaders"])
def test_graphs_of_each_split(form: Any) -> None:
    parts = [[toy.community(seed + k, nodes=9) for k in range(3)] for seed in (0, 5, 10)]
    given: Any = parts
    if form == "loaders":
        given = [DataLoader(part, batch_size=2) for part in parts]
    elif form is dict:
        given = dict(zip(("test", "val", "train"), reversed(parts), strict=True))
    elif form is tuple:
        given = tuple(parts)
    found = read_handed(given)
    made = found.make()
    assert made.members == {"train": [0, 1, 2], "val": [3, 4, 5], "test": [6, 7, 8]}
    assert torch.equal(made.of("val")[1].x, parts[1][1].x)
    assert found.batch_size == (2 if form == "loaders" else None)


def test_a_data_set_and_a_loader_of_one_graph() -> None:
    data = toy.community(1)
    dataset = read_handed(data).make()
    assert torch.equal(read_handed(dataset).make()[0].x, data.x)
    assert torch.equal(read_handed(DataLoader([data])).make()[0].x, data.x)
    parts = {part: data for part in ("train", "val", "test")}
    assert len(read_handed(parts).make()) == 3


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (HeteroData(), r"a HeteroData \(graphs of several types"),
        ("Cora", "data= a str"),
        (
            (DataLoader([toy.community(1)]),) * 2,
            r"2 parts \(a DataLoader, a DataLoader\), and needs three: data=\(train, val",
        ),
        ([[toy.community(1)], [toy.community(1)]], r"has 2 parts \(a list, a list\), and needs three"),
        (([toy.community(1)],) * 4, "has 4 parts .* and needs three"),
        ([toy.community(1), 3], "a list with a int in it"),
        ([toy.community(1), toy.without(toy.community(2), "val_mask")], r"data\[1\] has no val_mask"),
        ([toy.community(1), toy.with_edge_features(toy.community(2))], "graphs 0 and 1 do not both have edge_attr"),
        (([toy.community(1)], [toy.community(1)], []), "data=test: an empty list"),
        ([toy.community(1), toy.without(toy.community(2), "x")], "data= graph 1 has no x"),
        (Data(), r"data= has no x \(it has nothing\)"),
    ],
)
def test_what_is_refused(found: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_handed(found)
