"""``distill`` as callers come to it: in threads, under autocast, with modules and loaders of every make."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import SubsetRandomSampler
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader
from torch_geometric.nn import GCN, GCNConv

import gkd_plugin
from gkd_plugin.errors import UserError
from tests import toy


@pytest.fixture
def data() -> Data:
    return toy.community(1)


@pytest.fixture
def model() -> GCN:
    """A teacher of plain PyG; what it says is of no matter here."""
    torch.manual_seed(0)
    return GCN(6, 8, num_layers=2, out_channels=3)


def test_threads_wait_for_one_another(model: GCN, data: Data) -> None:
    """There is one global configuration: two calls at once would train with values of each other."""

    def call() -> tuple[float, float]:
        result = gkd_plugin.distill(model, data, width=4, epochs=3, control=False, quiet=True)
        return result.report.results[0].answer.val, result.report.results[0].answer.test

    logging.root.handlers, before = [], logging.root.handlers
    try:
        alone = call()
        assert logging.root.handlers == [], "the host's loggers add one"
    finally:
        logging.root.handlers = before
    with ThreadPoolExecutor(2) as pool:
        assert [found.result() for found in [pool.submit(call) for _ in range(2)]] == [alone, alone]


def test_autocast_of_the_caller_changes_nothing(model: GCN, data: Data) -> None:
    """Its rounded copies of weights are those of an epoch before."""
    expected = gkd_plugin.distill(model, data, width=4, epochs=3, quiet=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = gkd_plugin.distill(model, data, width=4, epochs=3, quiet=True)
    assert torch.equal(found.student(data.x, data.edge_index), expected.student(data.x, data.edge_index))
    assert found.report.results[0].answers == expected.report.results[0].answers


@pytest.mark.parametrize("predict", ["best", "ensemble"])
def test_of_several_students_the_returned_one_is_named_with_its_score(predict: str, model: GCN, data: Data) -> None:
    kd = {"students": 2, "predict": predict}
    result = gkd_plugin.distill(model, data, width=4, epochs=12, control=False, quiet=True, kd=kd)
    with torch.no_grad():
        right = (result.student(data.x, data.edge_index).argmax(1) == data.y)[data.test_mask]
    test = 100 * float(right.float().mean())
    assert f".student is student {result.number} of 2 (test {test:.2f})" in " ".join(str(result).split())


def test_modules_of_torch_itself_get_x(data: Data) -> None:
    """An engineer's first small model is an nn.Sequential."""
    teacher = nn.Linear(6, 3)
    student = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))
    result = gkd_plugin.distill(nn.DataParallel(teacher), data, student, epochs=3, quiet=True)
    assert result.report.results[0].answer.test == pytest.approx(
        float((result.student(data.x).argmax(1) == data.y)[data.test_mask].float().mean()), abs=1e-4
    )


class Keeping(nn.Module):
    """Layers that keep the normalised edges of the first graph."""

    def __init__(self) -> None:
        super().__init__()
        self.first = GCNConv(6, 3, cached=True)

    def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
        return self.first(x, edge_index)


def test_what_a_teacher_keeps_of_a_graph_is_as_before_and_refused_for_several(data: Data) -> None:
    teacher = Keeping()
    gkd_plugin.distill(teacher, data, width=4, epochs=1, control=False, quiet=True)
    assert teacher.first._cached_edge_index is None
    several = tuple([toy.community(seed)] for seed in range(3))
    calls: list[Callable[[], object]] = [
        lambda: gkd_plugin.distill(teacher, several),
        lambda: gkd_plugin.distill(GCNConv(6, 3), several, teacher),
    ]
    for call in calls:
        with pytest.raises(UserError, match="first of Keeping keep the normalised edges of the first graph"):
            call()


@pytest.mark.parametrize("word", ["sampler", "batch_sampler"])
def test_a_loader_that_chooses_its_graphs_is_refused(word: str, model: GCN) -> None:
    graphs = [toy.community(seed, nodes=12) for seed in range(6)]
    chosen: Any = SubsetRandomSampler([0, 1])
    more: dict[str, Any] = {"sampler": chosen} if word == "sampler" else {"batch_sampler": [[0, 1]]}
    with pytest.raises(UserError, match=rf"chooses its graphs by a .* \({word}=\).*Subset"):
        gkd_plugin.distill(model, tuple(DataLoader(graphs, **more) for _ in range(3)))
    usual = tuple(
        DataLoader(part, batch_size=2, shuffle=part is graphs) for part in (graphs[:2], graphs[2:4], graphs[4:])
    )
    gkd_plugin.distill(model, usual, width=4, epochs=1, control=False, quiet=True)


@pytest.mark.parametrize("key", ["kind", "train", "largest_component", "row_normalize"])
def test_another_split_than_the_teachers_is_refused(key: str, model: GCN, data: Data) -> None:
    value = {"kind": "random", "train": 0.5}.get(key, True)
    with pytest.raises(UserError, match=rf"splits\.{key}: it is decided by data="):
        gkd_plugin.distill(model, data, splits={key: value})
