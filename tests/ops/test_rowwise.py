"""Sums over rows, block by block, against the same in one piece, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from gkd_plugin.ops import compiled, rowwise
from gkd_plugin.space.knowledge.rows import normalize


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("rows", [1, 3, 7, 9])
def test_blocks_give_value_and_gradients_of_the_whole(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rowwise, "ROWS", 3)
    x, y, weight = draw(rows, 4), draw(rows, 2), draw(4, 2)

    def function(x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        return ((x @ weight).relu() * y).square().sum()

    whole = function(x, y, weight)
    summed = rowwise.sum_rows(function, (x, y), (weight,))
    torch.testing.assert_close(summed, whole)
    for _ in range(2):  # a record of gradients asks before the step does
        ours = torch.autograd.grad(3 * summed, (x, y, weight), retain_graph=True)
        torch.testing.assert_close(ours, torch.autograd.grad(3 * whole, (x, y, weight), retain_graph=True))


def test_only_what_learns_gets_a_gradient() -> None:
    x, fixed = draw(5, 2), torch.randn(5, 2, dtype=torch.float64)
    rowwise.sum_rows(lambda a, b: (a * b).sum(), (x, fixed)).backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, fixed)
    with torch.no_grad():
        assert not rowwise.sum_rows(lambda a, b: (a * b).sum(), (x, fixed)).requires_grad


@pytest.mark.parametrize("looped", [False, True], ids=["torch", "compiled"])
@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("mapped", ["none", "one", "both"])
def test_unit_gaps_equal_scaled_rows_compared(
    mapped: str, positive: bool, looped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rowwise, "ROWS", 4)
    if looped:
        pytest.importorskip("numba", reason="the extra fast is not installed")
        monkeypatch.setattr(compiled, "SMALLEST", 0)
    x, y = draw(6, 4 if mapped == "none" else 3), draw(6, 4 if mapped != "both" else 2).detach()
    first = [] if mapped == "none" else [draw(4, 3), draw(4)]
    second = [draw(4, 2), draw(4)] if mapped == "both" else []
    with torch.no_grad():  # rows of length 0, for x where only the positive counts
        x[1], y[2] = (-1.0 if mapped == "none" else 0.0), 0.0
        if first:
            first[1].fill_(-100.0)
            x[1], x[[0, 2, 3, 4, 5]] = 0.0, 100 * x[[0, 2, 3, 4, 5]]
    before = x.detach().clone(), y.clone()
    ours = rowwise.unit_gaps(x, y, first, second, positive)
    a = functional.linear(x, *first) if first else x
    b = functional.linear(y, *second) if second else y
    a, b = (a.relu(), b.relu()) if positive else (a, b)
    expected = (normalize(a, "l2") - normalize(b, "l2")).square().sum()
    leaves = (x, *first, *second)
    torch.testing.assert_close(ours, expected)
    for _ in range(2):
        found = torch.autograd.grad(3 * ours, leaves, retain_graph=True)
        torch.testing.assert_close(found, torch.autograd.grad(3 * expected, leaves, retain_graph=True))
    torch.testing.assert_close((x.detach(), y), before, rtol=0, atol=0)
    assert (compiled.unit_gap(a.detach(), b.detach(), positive, rowwise.SHORTEST) is not None) == looped
    with torch.no_grad():
        torch.testing.assert_close(rowwise.unit_gaps(x, y, first, second, positive), expected.detach())


@pytest.mark.parametrize("positive", [False, True])
def test_compiled_unit_gaps_carry_on_what_is_not_finite(positive: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba", reason="the extra fast is not installed")
    x, y = torch.randn(3, 4), torch.randn(3, 4)
    x[1, 2] = torch.nan
    plain = rowwise.unit_gaps(x.requires_grad_(), y, (), (), positive)
    monkeypatch.setattr(compiled, "SMALLEST", 0)
    looped = rowwise.unit_gaps(x, y, (), (), positive)
    assert plain.isnan() and looped.isnan()
    (gradient,) = torch.autograd.grad(looped, x)
    assert gradient[1].isnan().any() and not gradient[[0, 2]].isnan().any()


@pytest.mark.parametrize("looped", [False, True], ids=["torch", "compiled"])
def test_equal_rows_have_no_gap(looped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if looped:
        pytest.importorskip("numba", reason="the extra fast is not installed")
        monkeypatch.setattr(compiled, "SMALLEST", 0)
    x = torch.randn(4, 3)
    assert float(rowwise.unit_gaps(x, x.clone(), (), (), False)) == 0.0


def test_compiled_unit_rows_equal_eager_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba", reason="the extra fast is not installed")
    x, given = draw(6, 4), torch.randn(4, 6, dtype=torch.float64).t()  # a gradient that is not in one piece
    with torch.no_grad():
        x[2] = 0.0
    eager = rowwise.unit_rows(x)
    expected = torch.autograd.grad(eager, x, given)
    monkeypatch.setattr(compiled, "SMALLEST", 0)
    looped = rowwise.unit_rows(x)
    torch.testing.assert_close(looped, eager)
    torch.testing.assert_close(torch.autograd.grad(looped, x, given), expected)
    some = draw(5, 3)
    assert torch.autograd.gradcheck(rowwise.unit_rows, (some,))
    torch.testing.assert_close(rowwise.unit_rows(some.t()), (some / some.norm(dim=0)).t())
    assert rowwise.unit_rows(x[:, 0]).shape == (6,)  # one row, which is no table
    with torch.no_grad():
        assert not rowwise.unit_rows(x).requires_grad


def test_compiled_unit_rows_carry_on_what_is_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba", reason="the extra fast is not installed")
    x = torch.tensor([[1.0, torch.nan], [3.0, 4.0], [torch.inf, 1.0]])
    plain = rowwise.unit_rows(x)
    monkeypatch.setattr(compiled, "SMALLEST", 0)
    torch.testing.assert_close(rowwise.unit_rows(x), plain, equal_nan=True)


def test_rows_of_another_number_are_an_error_with_loops_and_without(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = torch.randn(2048, 64), torch.randn(1024, 64)
    with pytest.raises(RuntimeError):
        rowwise.unit_gaps(x, y, (), (), True)
    monkeypatch.setattr(compiled, "is_there", lambda *_, **__: False)
    with pytest.raises(RuntimeError):
        rowwise.unit_gaps(x, y, (), (), True)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_holds_the_sum_of_many_rows(kind: torch.dtype) -> None:
    x, y = torch.randn(30_000, 4).to(kind), torch.randn(30_000, 4).to(kind)
    exact = (x.double() - y.double()).square().sum()
    found = rowwise.sum_rows(lambda a, b: (a - b).square().sum(), (x.requires_grad_(), y))
    assert found.item() == pytest.approx(float(exact), rel=0.02)
    units = [functional.normalize(each.detach().double(), dim=1) for each in (x, y)]
    found = rowwise.unit_gaps(x, y, (), (), False)
    assert found.item() == pytest.approx(float((units[0] - units[1]).square().sum()), rel=0.02)
    (gradient,) = torch.autograd.grad(found / 30_000, x)
    assert gradient.dtype == kind and gradient.isfinite().all()
