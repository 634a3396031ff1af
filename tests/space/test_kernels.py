"""Kernels: the formulas row by row, and what happens at distance 0 and for zero vectors."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gkd_plugin.space.kernels import KERNELS, all_squared

Rows = list[float]


def _dot(x: Rows, y: Rows) -> float:
    return sum(a * b for a, b in zip(x, y, strict=True))


def _square(x: Rows, y: Rows) -> float:
    return sum((a - b) ** 2 for a, b in zip(x, y, strict=True))


def _cosine(x: Rows, y: Rows) -> float:
    lengths = math.sqrt(_dot(x, x)) * math.sqrt(_dot(y, y))
    return _dot(x, y) / lengths if lengths else 0.0


FORMULAS: dict[str, Callable[[Rows, Rows, float], float]] = {
    "laplacian": lambda x, y, s: math.exp(-sum(abs(a - b) for a, b in zip(x, y, strict=True)) / s),
    "rbf": lambda x, y, s: math.exp(-_square(x, y) / (2 * s**2)),
    "heat": lambda x, y, s: math.exp(-_square(x, y) / (4 * s)),
    "linear": lambda x, y, s: _dot(x, y),
    "poly": lambda x, y, s: (_dot(x, y) + 1) ** 3,
    "cosine": lambda x, y, s: _cosine(x, y),
    "cosine_squared": lambda x, y, s: _cosine(x, y) ** 2,
    "l2": lambda x, y, s: math.sqrt(_square(x, y)),
    "euclidean": lambda x, y, s: _square(x, y),
    "sigmoid": lambda x, y, s: math.tanh(_dot(x, y)),
}
DISTANCES = ("laplacian", "rbf", "heat", "l2", "euclidean")
SCALE = 1.7


def rows() -> Tensor:
    """Random rows, two equal ones, a zero row, a tiny and a long one."""
    torch.manual_seed(0)
    x = torch.randn(7, 3, dtype=torch.float64)
    x[1], x[2] = x[0], 0
    x[3] *= 1e-9
    x[4] *= 30
    return x


def test_every_kernel_has_a_formula_here() -> None:
    assert set(FORMULAS) == set(KERNELS)
    assert {name for name, kernel in KERNELS.items() if kernel.scaled} == {"laplacian", "rbf", "heat"}


@pytest.mark.parametrize("name", KERNELS)
def test_formula_pair_by_pair_and_dense(name: str) -> None:
    x, kernel = rows(), KERNELS[name]
    wanted = torch.tensor([[FORMULAS[name](a, b, SCALE) for b in x.tolist()] for a in x.tolist()], dtype=torch.float64)
    count = len(x)
    pairs = kernel.function(x.repeat_interleave(count, 0), x.repeat(count, 1), SCALE).view(count, count)
    torch.testing.assert_close(pairs, wanted, rtol=1e-10, atol=1e-12)
    assert kernel.dense is not None
    torch.testing.assert_close(kernel.dense(x, SCALE), wanted, rtol=1e-10, atol=1e-12)
    assert kernel.symmetric
    torch.testing.assert_close(pairs, pairs.t(), rtol=1e-14, atol=1e-14)


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", KERNELS)
def test_gradients_of_equal_and_zero_rows(name: str, dtype: torch.dtype) -> None:
    kernel = KERNELS[name]
    assert kernel.dense is not None
    for value in (0.0, 0.3):
        equal = torch.full((4, 5), value, dtype=dtype, requires_grad=True)
        with torch.autograd.detect_anomaly(check_nan=True):
            pair_by_pair = torch.autograd.grad(kernel.function(equal, equal.flip(0), SCALE).sum(), equal)[0]
            dense = torch.autograd.grad(kernel.dense(equal, SCALE).sum(), equal)[0]
        for gradient in (pair_by_pair, dense):
            assert gradient.isfinite().all()
            if name in DISTANCES or value == 0 or "cosine" in name:
                assert gradient.abs().max() < 1e-5
        if name in DISTANCES or value == 0:
            assert not pair_by_pair.any()


def test_the_cosine_of_a_zero_vector_is_0_and_pulls_nothing() -> None:
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    value = KERNELS["cosine"].function(x[:1], x[1:], None)
    assert value.item() == 0
    assert not torch.autograd.grad(value.sum(), x)[0].any()


def test_dense_distances_keep_their_digits_far_from_the_origin() -> None:
    x = rows()[5:] + 1000  # in float32 the squares are 1e6, the distances about 1
    for name in ("rbf", "heat", "euclidean", "l2", "laplacian"):
        dense = KERNELS[name].dense
        assert dense is not None
        torch.testing.assert_close(dense(x.float(), SCALE).double(), dense(x, SCALE), rtol=1e-3, atol=1e-4)


def test_rounding_makes_no_squared_distance_negative() -> None:
    torch.manual_seed(0)
    x = 100 * torch.randn(40, 64).repeat(2, 1)
    assert all_squared(x).min() >= 0


@pytest.mark.parametrize("name", KERNELS)
def test_every_answer_tells_what_it_is(name: str) -> None:
    assert KERNELS[name].summary
    assert KERNELS[name].reference
    assert "\n" not in KERNELS[name].summary
