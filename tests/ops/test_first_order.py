"""Gradients that cannot be derived again say so, whatever comes in."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gkd_plugin.ops import compiled
from gkd_plugin.ops.edges import EdgeSet
from gkd_plugin.ops.rowwise import sum_rows, unit_gaps
from gkd_plugin.space.knowledge.contrast import info_nce

ROWS = compiled.SMALLEST // 64  # from here on loops are compiled


def measure_pairs(x: Tensor) -> Tensor:
    found = compiled.measure("dot", x, EdgeSet(torch.stack([torch.arange(ROWS), torch.arange(ROWS).flip(0)]), ROWS))
    if found is None:
        pytest.skip("numba is not there")
    return found.sum()


@pytest.mark.parametrize(
    "value",
    [
        lambda x: sum_rows(lambda rows: rows.square().sum(), (x,)),
        lambda x: unit_gaps(x, torch.ones(ROWS, 64), (), (), False),
        lambda x: info_nce(x[:8], torch.eye(8, 64)[None], 1.0).sum(),
        lambda x: info_nce(x[:8], torch.eye(8, 64).repeat(2, 1, 1), 1.0).sum(),
        measure_pairs,
    ],
)
def test_a_second_derivative_is_refused_and_not_0(value: Callable[[Tensor], Tensor]) -> None:
    x = torch.randn(ROWS, 64, requires_grad=True)
    (first,) = torch.autograd.grad(value(x), x)
    assert first.isfinite().all() and first.any()

    def derive_twice() -> None:
        total = value(x) + x.square().sum()  # another loss, whose second derivatives are there
        (again,) = torch.autograd.grad(total, x, create_graph=True)
        torch.testing.assert_close(again, first + 2 * x)
        torch.autograd.grad(again.square().sum(), x)

    with pytest.raises(RuntimeError, match="does not require grad: it has no second derivatives"):
        derive_twice()
    weight = torch.ones((), requires_grad=True)  # as a learned layer map's
    with pytest.raises(RuntimeError, match="no second derivatives"):
        torch.autograd.grad(torch.autograd.grad(weight * value(x), x, create_graph=True)[0].square().sum(), x)
    (again,) = torch.autograd.grad(value(x), x)
    assert torch.equal(first, again)
