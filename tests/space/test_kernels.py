"""Kernels: the formulas row by row, and what happens at distance 0 and for zero vectors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gkd_plugin.space.kernels import KERNELS, all_squared
from tests.space.kernel_oracles import FORMULAS, distance, formula_of

SCALE = 1.7
SCALED = [name for name, kernel in KERNELS.items() if kernel.scaled]
DENSE = [name for name, kernel in KERNELS.items() if kernel.dense]


def rows() -> Tensor:
    """Random rows, two equal ones, a zero row, a tiny and a long one."""
    torch.manual_seed(0)
    x = torch.randn(7, 3, dtype=torch.float64)
    x[1], x[2] = x[0], 0
    x[3] *= 1e-9
    x[4] *= 30
    return x


def all_values(name: str, x: Tensor, y: Tensor) -> Tensor:
    """The formula for every row of x and every row of y."""
    formula = formula_of(name)
    return torch.tensor([[formula(a, b, SCALE) for b in y.tolist()] for a in x.tolist()], dtype=torch.float64)


def dense_values(name: str, x: Tensor, scale: float = SCALE) -> Tensor:
    dense = KERNELS[name].dense
    assert dense is not None
    return dense(x, scale)


@pytest.mark.parametrize("name", KERNELS)
def test_every_kernel_has_a_formula_of_its_own(name: str) -> None:
    assert formula_of(name)


def test_every_formula_has_a_kernel() -> None:
    assert set(FORMULAS) <= set(KERNELS)


# -------------------------------------------------------------------------------------------------------- values
@pytest.mark.parametrize("name", KERNELS)
def test_pairs_equal_the_formula(name: str) -> None:
    x, kernel = rows(), KERNELS[name]
    count = len(x)
    pairs = kernel.function(x.repeat_interleave(count, 0), x.repeat(count, 1), SCALE).view(count, count)
    torch.testing.assert_close(pairs, all_values(name, x, x), rtol=1e-10, atol=1e-12)
    if kernel.symmetric:
        torch.testing.assert_close(pairs, pairs.t(), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("name", DENSE)
def test_dense_values_equal_the_formula(name: str) -> None:
    torch.testing.assert_close(dense_values(name, rows()), all_values(name, rows(), rows()), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", KERNELS)
def test_scaled_is_what_depends_on_the_scale(name: str) -> None:
    x, y = [0.3, -0.4], [0.1, 0.9]
    assert (formula_of(name)(x, y, 1.0) != formula_of(name)(x, y, 3.0)) == KERNELS[name].scaled


@pytest.mark.parametrize("name", SCALED)
def test_the_norm_is_of_the_distance_that_the_formula_sees(name: str) -> None:
    formula, norm = formula_of(name), KERNELS[name].norm
    if formula([0.0, 0.0], [3.0, 4.0], SCALE) != formula([1.0, 1.0], [4.0, 5.0], SCALE):
        pytest.skip("not a function of the distance")
    same = [distance([0.0, 0.0], [3.0, 4.0], norm), 0.0]
    assert formula([0.0, 0.0], same, SCALE) == pytest.approx(formula([0.0, 0.0], [3.0, 4.0], SCALE))


# ----------------------------------------------------------------------------------------------------- gradients
STEP = 2.0**-12  # with rows of 0 and 0.25 every difference of the two sides is exact, and a kink's is exactly 0


def slopes(name: str, x: Tensor, y: Tensor | None = None) -> Tensor:
    """Central differences of the sum over pairs (x[i], y[i]), or over all pairs of x where there is no y."""
    found = torch.zeros_like(x)
    for place in range(x.numel()):
        for sign in (1, -1):
            moved = x.clone()
            moved.view(-1)[place] += sign * STEP
            values = all_values(name, moved, moved if y is None else y)
            total = values.sum() if y is None else values.diagonal().sum()
            found.view(-1)[place] += sign * total / (2 * STEP)
    return found


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("value", [0.0, 0.25])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", KERNELS)
def test_gradients_of_equal_and_zero_rows(name: str, dtype: torch.dtype, value: float) -> None:
    plain = torch.full((4, 5), value, dtype=torch.float64)
    equal = plain.to(dtype).requires_grad_()
    wanted = slopes(name, plain, plain)
    with torch.autograd.detect_anomaly(check_nan=True):
        found = torch.autograd.grad(KERNELS[name].function(equal, equal.detach(), SCALE).sum(), equal)[0]
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-5)
    assert not found[wanted == 0].any(), "a kernel of the distance pulls nowhere at distance 0"


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("value", [0.0, 0.25])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", DENSE)
def test_dense_gradients_of_equal_and_zero_rows(name: str, dtype: torch.dtype, value: float) -> None:
    plain = torch.full((4, 5), value, dtype=torch.float64)
    equal = plain.to(dtype).requires_grad_()
    with torch.autograd.detect_anomaly(check_nan=True):
        found = torch.autograd.grad(dense_values(name, equal).sum(), equal)[0]
    torch.testing.assert_close(found.double(), slopes(name, plain), rtol=1e-4, atol=1e-5)


def test_the_cosine_of_a_zero_vector_is_0_and_pulls_nothing() -> None:
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    value = KERNELS["cosine"].function(x[:1], x[1:], None)
    assert value.item() == 0
    assert not torch.autograd.grad(value.sum(), x)[0].any()


# ----------------------------------------------------------------------------------------------------- precision
@pytest.mark.parametrize("name", DENSE)
def test_dense_values_keep_their_digits_far_from_the_origin(name: str) -> None:
    x = rows()[5:] + 1000  # in float32 the squares are 1e6, the distances about 1
    torch.testing.assert_close(dense_values(name, x.float()).double(), dense_values(name, x), rtol=1e-3, atol=1e-4)


def test_rounding_makes_no_squared_distance_negative() -> None:
    torch.manual_seed(0)
    x = 100 * torch.randn(40, 64).repeat(2, 1)
    assert all_squared(x).min() >= 0


@pytest.mark.parametrize("name", KERNELS)
def test_every_answer_tells_what_it_is(name: str) -> None:
    assert KERNELS[name].summary
    assert KERNELS[name].reference
    assert "\n" not in KERNELS[name].summary
