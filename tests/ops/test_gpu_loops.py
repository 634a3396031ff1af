"""The loops for GPUs against loops in Python; Triton interprets them where there is no GPU."""

from __future__ import annotations

import os
from importlib import import_module
from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gkd_plugin.ops import compiled
from gkd_plugin.ops.edges import EdgeSet
from gkd_plugin.space.kernels import KERNELS
from tests.ops.pairs_by_loop import NAMES, Problem, problems

ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"
gpu = pytest.mark.skipif(not ON_GPU, reason="there is no GPU")


@pytest.fixture(scope="module")
def loops() -> ModuleType:
    if not ON_GPU and os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("there is no GPU; with triton installed and TRITON_INTERPRET=1 set a CPU interprets the loops")
    pytest.importorskip("triton", reason="triton is not installed")
    return import_module("gkd_plugin.ops.gpu_loops")


@pytest.mark.parametrize("name", NAMES)
@given(problem=problems())
@settings(deadline=None, max_examples=60)
def test_values_and_gradients_equal_loops(loops: ModuleType, name: str, problem: Problem) -> None:
    rows, pairs, weights = problem.tensors()
    rows, pairs = rows.detach().to(DEVICE), EdgeSet(pairs.index.to(DEVICE), pairs.num_nodes)
    values, gradient = problem.solve(name)
    torch.testing.assert_close(loops.compare(name, rows, pairs.index).cpu(), values)
    torch.testing.assert_close(loops.spread(name, rows, pairs, weights.to(DEVICE)).cpu(), gradient)


@pytest.mark.parametrize("name", NAMES)
@given(width=st.sampled_from([1, 31, 128, 300, 520]), pairs=st.integers(1, 200))
@settings(deadline=None, max_examples=12)
def test_wide_rows_and_many_pairs_equal_torch(loops: ModuleType, name: str, width: int, pairs: int) -> None:
    torch.manual_seed(width + pairs)
    rows = torch.randn(20, width, dtype=torch.float64, device=DEVICE, requires_grad=True)
    edges, weights = (
        EdgeSet(torch.randint(20, (2, pairs), device=DEVICE), 20),
        torch.randn(pairs, device=DEVICE).double(),
    )
    x, y = rows[edges.index[0]], rows[edges.index[1]]
    values = {"manhattan": (x - y).abs(), "squared": (x - y) ** 2, "dot": x * y}[name].sum(-1)
    (gradient,) = torch.autograd.grad((values * weights).sum(), rows)
    torch.testing.assert_close(loops.compare(name, rows.detach(), edges.index), values.detach())
    torch.testing.assert_close(loops.spread(name, rows.detach(), edges, weights), gradient)


@gpu
@pytest.mark.parametrize("name", KERNELS)
def test_every_kernel_takes_them_on_a_gpu_and_gives_what_torch_gives(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    leaf = torch.randn(50, 40, device=DEVICE, requires_grad=True)
    edges, kernel = EdgeSet(torch.randint(50, (2, 400), device=DEVICE), 50), KERNELS[name]
    assert kernel.on_edges is not None
    plain = kernel.function(leaf[edges.index[0]], leaf[edges.index[1]], 3.0)
    monkeypatch.setattr(compiled, "SMALLEST", 0)
    found = kernel.on_edges(leaf, edges, 3.0)
    assert compiled.is_there("cuda")
    torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-4)
    given_weights = torch.randn_like(plain)
    once, again = (
        torch.autograd.grad((kernel.on_edges(leaf, edges, 3.0) * given_weights).sum(), leaf)[0] for _ in range(2)
    )
    assert torch.equal(once, again)
    torch.testing.assert_close(once, torch.autograd.grad((plain * given_weights).sum(), leaf)[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["fp32", "fp64"])
def test_they_compile_for_a_gpu_that_is_not_there(name: str, kind: str) -> None:
    compiler = pytest.importorskip("triton.compiler", reason="triton is not installed")
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("interpreted loops are not compiled")
    backends, gpu_loops = import_module("triton.backends.compiler"), import_module("gkd_plugin.ops.gpu_loops")
    places = dict.fromkeys(("ends", "starts", "partners", "places"), "*i64")
    types = {**places, **dict.fromkeys(("rows", "given", "out"), f"*{kind}"), "count": "i32"}
    for kernel, some in ((gpu_loops._compare, 32), (gpu_loops._spread, 8)):
        chosen = {"width": 128, "NAME": name, "PAIRS": some, "WIDTH": 128}
        names = kernel.arg_names
        source = compiler.ASTSource(
            kernel,
            {each: types.get(each, "constexpr") for each in names},
            {(names.index(each),): value for each, value in chosen.items()},
        )
        assert import_module("triton").compile(source, target=backends.GPUTarget("cuda", 90, 32)).asm["ptx"]
