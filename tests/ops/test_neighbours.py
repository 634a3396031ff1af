"""Nearest-neighbour graphs against loops over points; the compiled helper, sound, sloppy and broken."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gkd_plugin.ops import neighbours
from gkd_plugin.ops.neighbours import nearest, nearest_graph
from tests.ops.test_pairwise import Largest

Clouds = tuple[Tensor, Tensor, int]


def by_loops(x: Tensor, k: int, batch: Tensor | None) -> list[tuple[int, int]]:
    """Every edge u -> v by the definition: the k nearest others of v's cloud, the lower number first where equally far; v."""
    found = []
    cloud = [0] * len(x) if batch is None else batch.tolist()
    for v in range(len(x)):
        others = [u for u in range(len(x)) if u != v and cloud[u] == cloud[v]]
        near = sorted(others, key=lambda u: (float((x[u] - x[v]).square().sum()), u))[:k]
        found += [(u, v) for u in [*sorted(near), v]]
    return found


def pairs(index: Tensor) -> list[tuple[int, int]]:
    return [(u, v) for u, v in index.t().tolist()]


@st.composite
def clouds(draw: st.DrawFn) -> Clouds:
    """Few points on a small grid, so that many coincide and many are equally far; clouds of one point and more."""
    sizes = draw(st.lists(st.integers(1, 7), min_size=1, max_size=4))
    points = st.lists(st.integers(0, 2), min_size=2, max_size=2)
    x = draw(st.lists(points, min_size=sum(sizes), max_size=sum(sizes)))
    batch = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    return torch.tensor(x, dtype=torch.float64), batch, draw(st.integers(1, 8))


@given(clouds(), st.sampled_from([2**22, 1, 12]))
@settings(max_examples=150, deadline=None)
def test_is_the_definition_whatever_is_held_at_a_time(problem: Clouds, most: int) -> None:
    x, batch, k = problem
    before, neighbours.MATRIX = neighbours.MATRIX, most
    try:
        assert pairs(nearest_graph(x, k, batch)) == by_loops(x, k, batch)
    finally:
        neighbours.MATRIX = before


def test_one_cloud_needs_no_batch_and_none_gives_no_edge() -> None:
    x = torch.randn(9, 3)
    assert pairs(nearest_graph(x, 4)) == by_loops(x, 4, None)
    assert nearest_graph(x[:0], 4).shape == (2, 0)
    assert pairs(nearest_graph(x[:1], 4)) == [(0, 0)]


def test_equal_points_are_nearest_of_all_and_a_cloud_is_the_same_in_every_batch() -> None:
    torch.manual_seed(0)
    x = torch.randn(40, 16)
    x[20:] = x[:20]  # by products of matrices two equal points would be apart
    near = nearest(x, 1)
    assert near[0].tolist() == [*range(20, 40), *range(20)]
    alone, both = nearest_graph(x[:25], 6), nearest_graph(x, 6, (torch.arange(40) >= 25).long())
    assert torch.equal(both[:, both[1] < 25], alone)


def test_no_gradient_flows_through_the_choice() -> None:
    x = torch.randn(5, 2, requires_grad=True)
    assert not nearest_graph(x, 2).requires_grad


def test_not_a_number_is_no_reason_to_stop() -> None:
    x = torch.full((4, 2), float("nan"))
    assert nearest_graph(x, 2).max() < 4  # a diverged run ends with its own message


def test_no_more_distances_are_held_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "MATRIX", 4096)
    x = torch.randn(500, 2)
    with Largest() as seen:
        nearest_graph(x, 3, (torch.arange(500) >= 300).long())
    assert seen.numel <= 2 * 4 * 500, "its edges are the largest: 300 x 300 distances never are there at a time"


# ------------------------------------------------------------------------------------------------------- the helper
def sloppy(x: Tensor, k: int, batch: Tensor | None = None, loop: bool = False, flow: str = "") -> Tensor:
    """As ``torch_cluster.knn_graph``: distances of its own rounding, and of equally far points the last ones."""
    assert not loop and flow == "source_to_target"
    cloud = [0] * len(x) if batch is None else batch.tolist()
    found = []
    for v in range(len(x)):
        others = [u for u in range(len(x)) if u != v and cloud[u] == cloud[v]]
        far = {u: float((x[u] - x[v]).square().sum()) * (1 + 1e-7 * u) for u in others}
        found += [(u, v) for u in sorted(others, key=lambda u: (far[u], -u))[:k]]
    return torch.tensor(found, dtype=torch.long).view(-1, 2).t()


def fails(*_args: Any, **_kwargs: Any) -> Tensor:
    raise RuntimeError("no kernel image is available")


def joins_clouds(x: Tensor, *_args: Any, **_kwargs: Any) -> Tensor:
    return torch.tensor([[0], [len(x) - 1]])


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Makes a module known as ``torch_cluster``."""

    def make(function: Callable[..., Tensor] | None) -> None:
        module = ModuleType("torch_cluster")
        module.__spec__ = ModuleSpec("torch_cluster", None)
        if function is not None:
            module.knn_graph = function  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "torch_cluster", module)
        neighbours._find_helper.cache_clear()

    monkeypatch.setattr(neighbours, "_broken", set())
    neighbours._find_helper.cache_clear()
    yield make
    neighbours._find_helper.cache_clear()


@given(clouds())
@settings(max_examples=100, deadline=None)
def test_a_helper_that_breaks_ties_in_its_own_way_gives_the_same_graph(problem: Clouds) -> None:
    x, batch, k = problem
    assert torch.equal(
        neighbours._settle(x, k, batch, sloppy(x, k + 1, batch, flow="source_to_target")), nearest(x, k, batch)
    )


def test_an_installed_helper_is_asked(install: Callable[..., None]) -> None:
    asked = []

    def watched(*args: Any, **kwargs: Any) -> Tensor:
        asked.append(args[1])
        return sloppy(*args, **kwargs)

    install(watched)
    torch.manual_seed(0)
    x, batch = torch.randn(30, 3), torch.arange(3).repeat_interleave(10)
    assert pairs(nearest_graph(x, 4, batch)) == by_loops(x, 4, batch)
    assert asked == [5]


@pytest.mark.parametrize(
    ("helper", "told"),
    [
        (None, "AttributeError"),
        (fails, "no kernel image is available"),
        (joins_clouds, "joins points of different clouds"),
    ],
)
def test_a_broken_helper_is_named_once_and_not_needed(
    install: Callable[..., None], capsys: pytest.CaptureFixture[str], helper: Callable[..., Tensor] | None, told: str
) -> None:
    install(helper)
    x, batch = torch.randn(8, 3), torch.arange(2).repeat_interleave(4)
    for _ in range(2):
        assert pairs(nearest_graph(x, 2, batch)) == by_loops(x, 2, batch)
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line and "torch_cluster is installed, but cannot be used" in line and "or remove it" in line
