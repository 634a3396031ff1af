"""Sums over rows, block by block, against the same in one piece, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

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
def test_unit_gap_equals_scaled_rows_compared(positive: bool, looped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if looped:
        pytest.importorskip("numba", reason="the extra fast is not installed")
        monkeypatch.setattr(compiled, "SMALLEST", 0)
    x, y = draw(6, 4), draw(6, 4)
    with torch.no_grad():
        x[1], y[2] = -1.0, 0.0  # rows of length 0, for x where only the positive counts
    ours = rowwise.unit_gap(x, y, positive)
    a, b = (x.relu(), y.relu()) if positive else (x, y)
    expected = (normalize(a, "l2") - normalize(b, "l2")).square().sum()
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(torch.autograd.grad(ours, (x, y)), torch.autograd.grad(expected, (x, y)))
    assert (compiled.unit_gap(x, y, positive, rowwise.SHORTEST) is not None) == looped


@pytest.mark.parametrize("positive", [False, True])
def test_compiled_unit_gap_carries_on_what_is_not_finite(positive: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba", reason="the extra fast is not installed")
    x, y = torch.randn(3, 4), torch.randn(3, 4)
    x[1, 2] = torch.nan
    plain = rowwise.unit_gap(x.requires_grad_(), y, positive)
    monkeypatch.setattr(compiled, "SMALLEST", 0)
    looped = rowwise.unit_gap(x, y, positive)
    assert plain.isnan() and looped.isnan()
    (gradient,) = torch.autograd.grad(looped, x)
    assert gradient[1].isnan().any() and not gradient[[0, 2]].isnan().any()


@pytest.mark.parametrize("looped", [False, True], ids=["torch", "compiled"])
def test_equal_rows_have_no_gap(looped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if looped:
        pytest.importorskip("numba", reason="the extra fast is not installed")
        monkeypatch.setattr(compiled, "SMALLEST", 0)
    x = torch.randn(4, 3)
    assert float(rowwise.unit_gap(x, x.clone(), False)) == 0.0
