"""Against loops over all pairs of nodes, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gkd_plugin.ops import compiled, pairwise
from gkd_plugin.ops.oversmoothing import dirichlet_energy, mad


def cosine(a: Tensor, b: Tensor) -> float:
    length = math.sqrt(float(a @ a)) * math.sqrt(float(b @ b))
    return float(a @ b) / length if length > 0 else 0.0


def slow_mad(x: Tensor, edge_index: Tensor) -> tuple[float, float, float]:
    n = x.size(0)
    edges = {(u, v) for u, v in edge_index.t().tolist() if u != v}
    means: dict[bool, list[float]] = {True: [], False: []}
    for v in range(n):
        for near in (True, False):
            others = [u for u in range(n) if u != v and ((u, v) in edges) is near]
            if others:
                means[near].append(sum(1 - cosine(x[u], x[v]) for u in others) / len(others))
    neighbour, remote = (sum(part) / len(part) if part else math.nan for part in (means[True], means[False]))
    return neighbour, remote, remote - neighbour


def slow_energy(x: Tensor, edge_index: Tensor) -> float:
    edges = [(u, v) for u, v in edge_index.t().tolist() if u != v]
    degree = [sum(v == node for _, v in edges) for node in range(x.size(0))]
    total = 0.0
    for u, v in edges:
        difference = x[u] / math.sqrt(1 + degree[u]) - x[v] / math.sqrt(1 + degree[v])
        total += float(difference @ difference)
    return total / x.size(0)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Any number of nodes and edges: loops, repeated edges, isolated nodes, rows of zeros, no edges at all."""
    n, width = draw(st.integers(1, 7)), draw(st.integers(1, 3))
    node = st.integers(0, n - 1)
    edges = draw(st.lists(st.tuples(node, node), max_size=20))
    value = st.sampled_from([0.0, 0.0, 1.0, -1.0, 0.5, 3.0, -7.0])
    rows = draw(st.lists(st.lists(value, min_size=width, max_size=width), min_size=n, max_size=n))
    return torch.tensor(rows, dtype=torch.float64), torch.tensor(edges, dtype=torch.long).reshape(-1, 2).t()


@given(graphs())
@settings(max_examples=150, deadline=None)
def test_equal_the_loops_over_all_pairs(graph: tuple[Tensor, Tensor]) -> None:
    x, edge_index = graph
    for fast, slow in zip(mad(x, edge_index), slow_mad(x, edge_index), strict=True):
        assert float(fast) == pytest.approx(slow, abs=1e-12, nan_ok=True)
    assert float(dirichlet_energy(x, edge_index)) == pytest.approx(slow_energy(x, edge_index), abs=1e-12)


def test_mad_of_a_path_by_hand() -> None:
    # 0 - 1 - 2: cosines 0 (0,1), 0 (1,2), -1 (0,2); node 1 has no remote node
    x = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]])
    near, far, gap = mad(x, torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]))
    assert (float(near), float(far), float(gap)) == (1.0, 2.0, 1.0)


def test_energy_of_one_edge_by_hand() -> None:
    x = torch.tensor([[2.0], [0.0], [5.0]])  # (2 / sqrt 2)^2 = 2, both ways, over three nodes
    assert float(dirichlet_energy(x, torch.tensor([[0, 1], [1, 0]]))) == pytest.approx(4 / 3)


def test_collapsed_embeddings_have_neither_distance_nor_energy() -> None:
    ring = torch.tensor([[0, 1, 2, 3, 1, 2, 3, 0], [1, 2, 3, 0, 0, 1, 2, 3]])
    x = torch.full((4, 3), 0.7)
    assert float(dirichlet_energy(x, ring)) == 0.0
    assert all(abs(float(value)) < 1e-6 for value in mad(x, ring))


def test_a_tiny_energy_survives_single_precision() -> None:
    torch.manual_seed(0)
    ring = torch.stack([torch.arange(50), torch.arange(50).roll(1)])
    ring = torch.cat([ring, ring.flip(0)], dim=1)
    x = (1 + 1e-5 * torch.randn(50, 8, dtype=torch.float64)).float()
    exact = slow_energy(x.double(), ring)
    assert float(dirichlet_energy(x, ring)) == pytest.approx(exact, rel=1e-2)


def test_chunks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    x, edge_index = torch.randn(6, 3, dtype=torch.float64), torch.randint(6, (2, 17))
    whole = dirichlet_energy(x, edge_index), mad(x, edge_index)
    monkeypatch.setattr(pairwise, "CHUNK_ELEMENTS", 15)
    torch.testing.assert_close((dirichlet_energy(x, edge_index), mad(x, edge_index)), whole)
    monkeypatch.setattr(compiled, "SMALLEST", 0)  # loops of numba, where it is installed
    torch.testing.assert_close((dirichlet_energy(x, edge_index), mad(x, edge_index)), whole)


def test_half_precision_is_measured_in_single_and_nothing_is_touched() -> None:
    x = torch.randn(5, 4).half().requires_grad_()
    edge_index = torch.tensor([[0, 1, 2, 2], [1, 0, 2, 3]])
    before = x.detach().clone(), edge_index.clone()
    near, far, gap = mad(x, edge_index)
    assert {near.dtype, far.dtype, gap.dtype, dirichlet_energy(x, edge_index).dtype} == {torch.float32}
    assert not near.requires_grad
    assert torch.equal(x, before[0])
    assert torch.equal(edge_index, before[1])
