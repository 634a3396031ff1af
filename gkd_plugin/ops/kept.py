"""What is derived from tensors that do not change, made once for as long as they live."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar
from weakref import ref

from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

T = TypeVar("T")
_kept = WeakTensorKeyDictionary()


def derive_once(tensors: Sequence[Tensor], key: Hashable, make: Callable[[], T]) -> T:
    """What ``make`` gives, kept until one of the tensors is written into or is gone.

    Args:
        tensors (sequence of Tensor): All that the value depends on beside ``key``, such as a graph's edges. The value must not
            hold the first one itself, which would then live for ever.
        key (hashable): What it is.
        make (callable): Gives it.
    """
    if any(tensor.is_inference() for tensor in tensors):  # torch does not count the writes into these
        return make()
    first, *others = tensors
    versions = [tensor._version for tensor in tensors]
    of_first: dict[Hashable, Any] = _kept.setdefault(first, {})
    found = of_first.get(key)
    if found is not None:
        before, beside, kept = found
        if before == versions and all(there() is tensor for there, tensor in zip(beside, others, strict=True)):
            value: T = kept
            return value
    made = make()
    of_first[key] = versions, [ref(tensor) for tensor in others], made
    return made
