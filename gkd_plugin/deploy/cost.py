"""What one forward pass costs: parameters, multiply-adds, time, memory."""

from __future__ import annotations

import statistics
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

aten = torch.ops.aten
_ADDING = (
    "scatter_add",
    "scatter_add_",
    "scatter_reduce",
    "scatter_reduce_",
    "index_add",
    "index_add_",
    "segment_reduce",
)
_PRODUCTS = ("mm", "addmm", "_sparse_mm", "_sparse_addmm")
WARM_UP, MOST = 3, 100  # passes that are not counted, and at most as many that are


@dataclass(frozen=True)
class Timing:
    """How long one pass takes, in seconds.

    Args:
        median, low, high (float): The median and the quartiles.
        count (int): Passes that were measured, after those to warm up.
    """

    median: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Work:
    """The multiply-adds of one pass.

    Args:
        dense (int): Of products of dense matrices, whatever in them is 0.
        messages (int): One for each number that is added up over edges: by a scatter, or by a sparse product.
    """

    dense: int
    messages: int


def count_bytes(module: nn.Module) -> int:
    """The memory of all parameters and buffers.

    Args:
        module (nn.Module): The network.
    """
    return sum(value.numel() * value.element_size() for value in (*module.parameters(), *module.buffers()))


def count_work(call: Callable[[], Any]) -> Work:
    """The multiply-adds of one pass: what adds up weights, features or messages; activations and normalisations are left out.

    Args:
        call (callable): Runs the pass.
    """
    messages = 0

    def add_up(number: int) -> int:
        nonlocal messages
        messages += number
        return 0

    def gather(*args: Any, **kwargs: Any) -> int:
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        return add_up(max(value.numel() for value in tensors[1:]))  # after the place that is added to

    def multiply(*args: Any, **kwargs: Any) -> int:
        left, right = [value for value in args if isinstance(value, Tensor)][-2:]
        if left.layout != torch.strided:
            return add_up(left._nnz() * right.shape[1])
        return int(2 * left.shape[0] * left.shape[1] * right.shape[1])

    formulas: dict[Any, Any] = {getattr(aten, name): gather for name in _ADDING if hasattr(aten, name)}
    formulas |= {getattr(aten, name): multiply for name in _PRODUCTS if hasattr(aten, name)}
    for formula in (gather, multiply):
        vars(formula)["_get_raw"] = True  # torch then hands over the tensors, not their shapes alone
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=formulas) as counter:
        call()
    return Work(counter.get_total_flops() // 2, messages)


def time_in_turns(
    calls: Mapping[str, Callable[[], Any]], device: torch.device, seconds: float = 4.0
) -> dict[str, Timing]:
    """How long each of several passes takes, one after the other in turns, so that a busy machine slows all alike.

    Args:
        calls (mapping): What runs each pass, by name.
        device (torch.device): Where they run.
        seconds (float): About how long to measure; each is run three times at least.
    """
    for _ in range(WARM_UP):
        for call in calls.values():
            clock(call, device)
    found: dict[str, list[float]] = {name: [] for name in calls}
    begin = time.perf_counter()
    for number in range(MOST):
        if number >= 3 and time.perf_counter() - begin > seconds:
            break
        for name, call in calls.items():
            found[name].append(clock(call, device))
    return {name: summarise(times) for name, times in found.items()}


def clock(call: Callable[[], Any], device: torch.device) -> float:
    """The seconds of one pass."""
    _finish(device)
    begin = time.perf_counter()
    with torch.no_grad():
        call()
    _finish(device)
    return time.perf_counter() - begin


def summarise(times: list[float]) -> Timing:
    """Median and quartiles."""
    low, high = np.quantile(times, (0.25, 0.75)).tolist()
    return Timing(statistics.median(times), low, high, len(times))


def measure_peak(call: Callable[[], Any], device: torch.device) -> int:
    """The most memory that the tensors of one pass take at a time, beside weights and graph.

    Args:
        call (callable): Runs the pass.
        device (torch.device): Where it runs.
    """
    if device.type == "cuda":
        _finish(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        clock(call, device)
        return int(torch.cuda.max_memory_allocated(device) - before)
    with torch.no_grad(), _Held() as tensors:
        call()
    most: int = tensors.most
    return most


class _Held(TorchDispatchMode):
    """Adds up the tensors that operators make and that are still there; what an operator needs inside is not seen."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.held = self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        known = {storage.data_ptr() for storage in _list_storages((args, kwargs))}  # of views, and of writes in place
        for storage in _list_storages(out):
            if storage.data_ptr() not in known:
                known.add(storage.data_ptr())
                self.held += storage.nbytes()
                weakref.finalize(storage, self._let_go, storage.nbytes())
        self.most = max(self.most, self.held)
        return out

    def _let_go(self, size: int) -> None:
        self.held -= size


def _list_storages(values: Any) -> list[torch.UntypedStorage]:
    tensors = [value for value in tree_leaves(values) if isinstance(value, Tensor) and value.layout == torch.strided]
    return [tensor.untyped_storage() for tensor in tensors]


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
