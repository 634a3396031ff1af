"""Chunks give the values, gradients and nothing but the memory of the plain computation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gkd_plugin.ops import pairwise
from gkd_plugin.ops.edges import EdgeSet
from gkd_plugin.space.kernels import KERNELS

NODES, WIDTH, PAIRS = 30, 16, 400


class Largest(TorchDispatchMode):
    """The largest tensor that any operation returns, also in backward passes and recomputations."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        # an expanded view occupies what it was expanded from
        self.numel = max(
            [
                self.numel,
                *(x.untyped_storage().size() // x.element_size() for x in tree_leaves(out) if isinstance(x, Tensor)),
            ]
        )
        return out


def function(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, y: KERNELS[name].function(x, y, 3.0)


@pytest.fixture
def problem() -> tuple[Tensor, EdgeSet]:
    torch.manual_seed(0)
    rows = torch.randn(NODES, WIDTH, dtype=torch.float64, requires_grad=True)
    return rows, EdgeSet(torch.randint(NODES, (2, PAIRS)), NODES)


def value_and_gradient(values: Callable[[Tensor], Tensor], rows: Tensor) -> tuple[Tensor, Tensor]:
    out = values(rows)
    weights = torch.linspace(-1, 1, out.numel(), dtype=rows.dtype).view_as(out)
    return out.detach(), torch.autograd.grad((weights * out).sum(), rows)[0]


@pytest.mark.parametrize("rows_per_chunk", [1, 7, PAIRS - 1])
@pytest.mark.parametrize("name", KERNELS)
def test_chunks_equal_the_plain_path(
    name: str, rows_per_chunk: int, problem: tuple[Tensor, EdgeSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, pairs = problem
    plain = value_and_gradient(lambda r: function(name)(r[pairs.index[0]], r[pairs.index[1]]), rows)
    monkeypatch.setattr(pairwise, "CHUNK_ELEMENTS", rows_per_chunk * WIDTH)
    chunked = value_and_gradient(lambda r: pairwise.pair_values(function(name), r, pairs), rows)
    torch.testing.assert_close(chunked, plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("elements", [1, 3 * NODES * WIDTH, 2**22])
@pytest.mark.parametrize("name", KERNELS)
def test_matrices_equal_loops_and_the_dense_path(
    name: str, elements: int, problem: tuple[Tensor, EdgeSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = problem[0][:9]
    monkeypatch.setattr(pairwise, "CHUNK_ELEMENTS", elements)
    found = value_and_gradient(lambda r: pairwise.matrix_values(function(name), r), rows)
    loops = torch.stack([torch.cat([function(name)(rows[u, None], rows[v, None]) for v in range(9)]) for u in range(9)])
    torch.testing.assert_close(found[0], loops.detach())
    dense = KERNELS[name].dense
    if dense is not None:
        torch.testing.assert_close(value_and_gradient(lambda r: dense(r, 3.0), rows), found)


def test_no_pairs() -> None:
    rows = torch.randn(3, 4, requires_grad=True)
    out = pairwise.pair_values(function("laplacian"), rows, EdgeSet(torch.zeros(2, 0, dtype=torch.long), 3))
    assert out.shape == (0,)
    out.sum().backward()
    assert rows.grad is not None
    assert not rows.grad.any()


def saved_sizes(compute: Callable[[], Tensor]) -> list[int]:
    sizes: list[int] = []

    def pack(x: Tensor) -> Tensor:
        sizes.append(x.numel())
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        out = compute()
    out.sum().backward()
    return sizes


@pytest.mark.parametrize("name", ["laplacian", "rbf", "cosine", "linear", "l2"])
def test_chunks_save_and_make_nothing_of_size_pairs_by_width(
    name: str, problem: tuple[Tensor, EdgeSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, pairs = problem

    def compute() -> Tensor:
        return pairwise.pair_values(function(name), rows, pairs)

    assert max(saved_sizes(compute)) >= PAIRS * WIDTH  # the plain path keeps the differences or both ends
    chunk = 50
    monkeypatch.setattr(pairwise, "CHUNK_ELEMENTS", chunk * WIDTH)
    assert max([0, *saved_sizes(compute)]) <= max(PAIRS, NODES * WIDTH)
    with Largest() as largest:
        compute().sum().backward()
    assert largest.numel <= max(PAIRS, NODES * WIDTH, chunk * WIDTH)


def test_matrix_chunks_make_nothing_of_size_pairs_by_width(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.randn(NODES, WIDTH, requires_grad=True)
    monkeypatch.setattr(pairwise, "CHUNK_ELEMENTS", 2 * NODES * WIDTH)
    with Largest() as largest:
        pairwise.matrix_values(function("laplacian"), rows).sum().backward()
    assert largest.numel <= max(NODES * NODES, 2 * NODES * WIDTH)


Sizes = list[int]


def counted(name: str, calls: Sizes) -> Callable[[Tensor, Tensor], Tensor]:
    """A function that notes how many pairs each of its calls has."""

    def compute(x: Tensor, y: Tensor) -> Tensor:
        calls.append(len(x))
        return function(name)(x, y)

    return compute


def test_without_gradient_nothing_is_saved(problem: tuple[Tensor, EdgeSet], monkeypatch: pytest.MonkeyPatch) -> None:
    rows, pairs = problem
    calls: Sizes = []
    monkeypatch.setattr(pairwise, "CHUNK_ELEMENTS", 100 * WIDTH)
    with torch.no_grad():
        out = pairwise.pair_values(counted("laplacian", calls), rows, pairs)
    assert calls == [100, 100, 100, 100]
    assert not out.requires_grad


@pytest.mark.parametrize(
    ("width", "elements", "cached", "wanted"),
    [
        (WIDTH, PAIRS * WIDTH, 50 * WIDTH, [PAIRS]),  # all at once where it just fits
        (WIDTH, PAIRS * WIDTH - 1, 50 * WIDTH, [50] * 8),  # several: small enough for a core's cache
        (WIDTH, 150 * WIDTH, 2**19, [150, 150, 100]),
        (WIDTH, WIDTH - 1, 2**19, [1] * PAIRS),  # never less than a pair
        (1, 100, 2**19, [100] * 4),
    ],
)
def test_no_block_is_larger_or_smaller_than_it_must_be(
    width: int,
    elements: int,
    cached: int,
    wanted: Sizes,
    problem: tuple[Tensor, EdgeSet],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows, pairs = problem
    rows = rows.detach()[:, :width]
    monkeypatch.setattr(pairwise, "CHUNK_ELEMENTS", elements)
    monkeypatch.setattr(pairwise, "CACHED_ELEMENTS", cached)
    calls: Sizes = []
    with torch.no_grad():
        pairwise.pair_values(counted("l2", calls), rows, pairs)
    assert calls == wanted


def test_with_gradient_one_pair_is_tried_and_each_block_computed_again(
    problem: tuple[Tensor, EdgeSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, pairs = problem
    monkeypatch.setattr(pairwise, "CHUNK_ELEMENTS", 100 * WIDTH)
    calls: Sizes = []
    out = pairwise.pair_values(counted("l2", calls), rows, pairs)
    assert calls == [1, 100, 100, 100, 100]
    out.sum().backward()
    assert calls == [1, *[100] * 8]


@pytest.mark.parametrize(
    ("width", "elements", "wanted"),
    [(WIDTH, 150 * WIDTH, [150, 150, 100]), (1, 100, [100] * 4), (WIDTH, 1, [1] * PAIRS)],
)
def test_blocks_of_a_function_with_parameters_are_computed_again_too(
    width: int, elements: int, wanted: Sizes, problem: tuple[Tensor, EdgeSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, pairs = problem
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    monkeypatch.setattr(pairwise, "CHUNK_ELEMENTS", elements)
    monkeypatch.setattr(pairwise, "CACHED_ELEMENTS", 1)  # of no account here
    calls: Sizes = []
    of_pairs = counted("l2", calls)
    out = pairwise.pair_values(lambda x, y: of_pairs(x, y) * scale, rows[:, :width], pairs)
    assert calls == [1, *wanted]
    out.sum().backward()
    assert sorted(calls) == sorted([1, *wanted, *wanted])  # in whatever order


@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize(("elements", "wanted"), [(100 * WIDTH, [100] * 4), (PAIRS * WIDTH, [PAIRS])])
def test_another_device_has_a_size_of_its_own(
    elements: int, wanted: Sizes, learns: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tensors without values are on a device that is not the CPU."""
    rows = torch.empty(NODES, WIDTH, device="meta", requires_grad=learns)
    pairs = EdgeSet(torch.zeros(2, PAIRS, dtype=torch.long, device="meta"), NODES)
    scale = torch.ones((), device="meta", requires_grad=learns)
    monkeypatch.setattr(pairwise, "CHUNK_ELEMENTS", 10 * WIDTH)
    monkeypatch.setattr(pairwise, "CACHED_ELEMENTS", 5 * WIDTH)
    monkeypatch.setattr(pairwise, "GPU_ELEMENTS", elements)
    calls: Sizes = []
    of_pairs = counted("linear", calls)
    pairwise.pair_values(lambda x, y: of_pairs(x, y) * scale, rows, pairs)
    assert calls == ([1, *wanted] if len(wanted) > 1 else wanted)


@pytest.mark.parametrize(
    ("elements", "wanted"),
    [
        (NODES * NODES * WIDTH, [NODES * NODES]),
        (4 * NODES * WIDTH, [4 * NODES] * 7 + [2 * NODES]),
        (2 * NODES * WIDTH - 1, [NODES] * NODES),
        (1, [NODES] * NODES),
    ],
)
def test_matrices_are_made_by_whole_rows(
    elements: int, wanted: Sizes, problem: tuple[Tensor, EdgeSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = problem[0]
    monkeypatch.setattr(pairwise, "CHUNK_ELEMENTS", elements)
    calls: Sizes = []
    out = pairwise.matrix_values(counted("l2", calls), rows)
    assert calls == wanted
    out.sum().backward()
    again = wanted if len(wanted) > 1 else []  # one block keeps what its gradient needs
    assert sorted(calls) == sorted([*wanted, *again])


@pytest.mark.parametrize(("count", "width", "wanted"), [(1, 1, [1]), (3, 0, [6, 3])])
def test_matrices_of_hardly_any_numbers(count: int, width: int, wanted: Sizes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairwise, "CHUNK_ELEMENTS", 2)
    calls: Sizes = []
    out = pairwise.matrix_values(counted("l2", calls), torch.ones(count, width))
    assert calls == wanted
    assert out.shape == (count, count)
    assert not out.any()


@pytest.mark.parametrize("end", [0, 1])
def test_a_function_of_one_end_has_the_gradient_of_that_end(
    end: int, problem: tuple[Tensor, EdgeSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, pairs = problem

    def compute(r: Tensor) -> Tensor:
        return pairwise.pair_values(lambda *ends: ends[end].square().sum(-1), r, pairs)

    plain = value_and_gradient(compute, rows)
    monkeypatch.setattr(pairwise, "CHUNK_ELEMENTS", 50 * WIDTH)
    torch.testing.assert_close(value_and_gradient(compute, rows), plain)


def test_a_function_with_parameters_of_its_own_gets_their_gradient_from_chunks_too(
    problem: tuple[Tensor, EdgeSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, pairs = problem
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)

    def gradient() -> Tensor:
        values = pairwise.pair_values(lambda x, y: (x * y).sum(-1) * scale, rows, pairs)
        return torch.autograd.grad(values.square().sum(), scale)[0]

    plain = gradient()
    monkeypatch.setattr(pairwise, "CHUNK_ELEMENTS", 50 * WIDTH)
    torch.testing.assert_close(gradient(), plain)


def test_a_second_derivative_of_chunks_is_refused(
    problem: tuple[Tensor, EdgeSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, pairs = problem
    monkeypatch.setattr(pairwise, "CHUNK_ELEMENTS", 50 * WIDTH)
    values = pairwise.pair_values(function("rbf"), rows, pairs)
    first = torch.autograd.grad(values.sum(), rows, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="does not require grad"):
        torch.autograd.grad(first.sum(), rows)
