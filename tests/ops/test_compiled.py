"""Compiled loops against loops in Python and torch's own operations."""

from __future__ import annotations

import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gkd_plugin.ops import compiled
from gkd_plugin.ops.edges import EdgeSet
from gkd_plugin.printing import noting
from gkd_plugin.space import kernels
from gkd_plugin.space.kernels import KERNELS
from tests.ops.pairs_by_loop import NAMES, Problem, problems

pytest.importorskip("numba", reason="the extra fast is not installed")


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "SMALLEST", 0)


@pytest.fixture
def fresh() -> None:
    compiled._find_obstacle.cache_clear()
    yield
    compiled._find_obstacle.cache_clear()


def fail_without_a_word(device: str) -> None:
    raise RuntimeError


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", NAMES)
@given(problem=problems())
@settings(deadline=None, max_examples=60)
def test_values_and_gradients_equal_loops(name: str, threads: int, problem: Problem) -> None:
    rows, pairs, weights = problem.tensors()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "SMALLEST", 0)
        patch.setattr("gkd_plugin.ops.loops._MANY", 1)
        patch.setattr(torch, "get_num_threads", lambda: threads)
        found = compiled.measure(name, rows, pairs)
        assert found is not None
        (found * weights).sum().backward()
    values, gradient = problem.solve(name)
    torch.testing.assert_close(found, values)
    torch.testing.assert_close(rows.grad, gradient)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", KERNELS)
def test_every_kernel_gives_what_torch_gives(name: str, kind: torch.dtype, always: None) -> None:
    torch.manual_seed(0)
    rows = torch.randn(40, 17, dtype=kind)
    rows[3] = 0
    rows[5] = rows[4]  # the root's gradient at 0
    index = torch.cat((torch.randint(40, (2, 300)), torch.tensor([[3, 4, 5, 7], [6, 5, 4, 7]])), dim=1)
    kernel, weights = KERNELS[name], torch.randn(304, dtype=kind)

    def both(values: Tensor, leaf: Tensor) -> tuple[Tensor, Tensor]:
        return values.detach(), torch.autograd.grad((values * weights).sum(), leaf)[0]

    near = {"rtol": 1e-4, "atol": 1e-4} if kind == torch.float32 else {"rtol": 1e-10, "atol": 1e-10}
    leaf = rows.clone().requires_grad_()
    plain = both(kernel.function(leaf[index[0]], leaf[index[1]], 3.0), leaf)
    assert kernel.on_edges is not None
    torch.testing.assert_close(both(kernel.on_edges(leaf, EdgeSet(index, 40), 3.0), leaf), plain, **near)


@pytest.mark.parametrize("name", NAMES)
def test_gradcheck(name: str, always: None) -> None:
    torch.manual_seed(1)
    rows = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    pairs = EdgeSet(torch.tensor([[0, 1, 2, 2], [1, 2, 4, 3]]), 5)
    assert torch.autograd.gradcheck(lambda r: compiled.measure(name, r, pairs), (rows,))


def test_what_is_not_finite_stays_so(always: None) -> None:
    rows = torch.tensor([[math.nan, 1.0], [math.inf, 1.0], [0.0, 1.0]])
    pairs = EdgeSet(torch.tensor([[0, 1, 1], [2, 2, 1]]), 3)
    found = kernels.manhattan_on(rows, pairs)
    assert found.isnan().tolist() == [True, False, True] and found[1].item() == math.inf


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_other_types_and_small_graphs_are_left_to_torch(kind: torch.dtype, always: None) -> None:
    pairs = EdgeSet(torch.tensor([[0], [1]]), 2)
    assert compiled.measure(compiled.DOT, torch.ones(2, 3, dtype=kind), pairs) is None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "SMALLEST", 4)
        assert compiled.measure(compiled.DOT, torch.ones(2, 3), pairs) is None


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda m: m.setattr(compiled, "find_spec", lambda name: None), r"numba is not installed \(pip install"),
        (lambda m: m.setattr("numba.config.DISABLE_JIT", 1), "NUMBA_DISABLE_JIT is set"),
        (
            lambda m: m.setattr(compiled, "_loops", lambda device: 1 / 0),
            r"numba does not work here \(ZeroDivisionError",
        ),
        (lambda m: m.setattr(compiled, "_loops", fail_without_a_word), r"numba does not work here \(RuntimeError\)"),
    ],
)
def test_where_numba_is_missing_or_broken_torch_computes_and_one_line_says_so(
    damage, said, always: None, fresh: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(monkeypatch)
    monkeypatch.setattr(compiled, "_LARGE", 0)
    rows = torch.tensor([[0.0], [2.0]])

    def use() -> None:
        for _ in range(3):
            assert kernels.manhattan_on(rows, EdgeSet(torch.tensor([[0], [1]]), 2)).tolist() == [2.0]

    with noting() as notes:  # as a worker, whose command says it
        use()
    (text,) = notes
    assert re.search(said, text) and capsys.readouterr().err == ""
    use()
    assert capsys.readouterr().err == f"warning: {text}\n"
    monkeypatch.setattr(compiled, "_LARGE", 100)
    with noting() as notes:  # where it does not pay, only a fault is said
        use()
    assert notes == ([text] if "does not work" in text else [])


@pytest.mark.parametrize("ends", [[[0], [2]], [[-1], [0]]])
def test_pairs_of_rows_that_are_not_there_are_left_to_torch(ends: list[list[int]], always: None) -> None:
    assert compiled.measure(compiled.DOT, torch.ones(2, 3), EdgeSet(torch.tensor(ends), 2)) is None
    with pytest.raises(IndexError):
        kernels.dot_on(torch.ones(2, 3), EdgeSet(torch.tensor(ends), 2))


def test_more_nodes_than_rows_are_left_to_torch(always: None) -> None:
    assert compiled.measure(compiled.DOT, torch.ones(2, 3), EdgeSet(torch.tensor([[0], [2]]), 3)) is None


# ------------------------------------------------------------------------------------------------------ groups of values
@st.composite
def grouped(draw: st.DrawFn) -> tuple[list[float], list[int], int]:
    """Values in groups, some of them empty, some values infinite or none at all."""
    groups = draw(st.integers(1, 5))
    number = st.sampled_from([-1e30, -2.0, 0.0, 0.5, 3.0, 700.0, math.inf, -math.inf, math.nan])
    values = draw(st.lists(number, max_size=12))
    return values, [draw(st.integers(0, groups - 1)) for _ in values], groups


@given(problem=grouped())
@settings(deadline=None, max_examples=150)
def test_log_softmax_over_groups_equals_torch_over_each(problem: tuple[list[float], list[int], int]) -> None:
    numbers, places, groups = problem
    values, group = torch.tensor(numbers, dtype=torch.float64), torch.tensor(places, dtype=torch.long)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "_FEW", 0)
        found = compiled.log_softmax(values, group, groups)
    assert found is not None
    for number in range(groups):
        torch.testing.assert_close(found[group == number], values[group == number].log_softmax(0), equal_nan=True)


def test_gradcheck_of_log_softmax(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_FEW", 0)
    torch.manual_seed(0)
    values, group = torch.randn(9, dtype=torch.float64, requires_grad=True), torch.tensor([0, 2, 2, 0, 3, 2, 0, 3, 3])
    assert torch.autograd.gradcheck(lambda v: compiled.log_softmax(v, group, 5), (values,))
    assert torch.autograd.gradcheck(lambda v: compiled.log_softmax(v[::2], group[::2], 5), (values,))


def test_distributions_over_edges_are_those_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    edges, values = EdgeSet(torch.randint(30, (2, 200)), 30), torch.randn(200)
    for over in ("in_edges", "out_edges"):
        plain = edges.log_softmax(values, over)
        with monkeypatch.context() as patch:
            patch.setattr(compiled, "_FEW", 0)
            assert torch.equal(edges.log_softmax(values, over), plain)
    beside = EdgeSet(torch.tensor([[0], [7]]), 3)
    monkeypatch.setattr(compiled, "_FEW", 0)
    with pytest.raises((IndexError, RuntimeError)):
        beside.log_softmax(torch.ones(1), "in_edges")
