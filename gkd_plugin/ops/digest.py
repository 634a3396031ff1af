"""One hash for nested tensors and plain values, to the last bit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor


def compute_digest(value: Any) -> str:
    """The sha256 of tensors and plain values, however they are nested in mappings, lists and tuples.

    Args:
        value: The value; the order of a mapping's names does not matter.
    """
    found = hashlib.sha256()
    for part in _flatten(value):
        if isinstance(part, Tensor):
            found.update(f"{part.dtype} {tuple(part.shape)} ".encode())
            # as bytes: numpy has no bfloat16
            found.update(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        else:
            text = repr(part).encode()
            found.update(f"{len(text)} ".encode() + text)
    return found.hexdigest()


def _flatten(value: Any) -> Iterator[Any]:
    """Tensors and plain values one by one: the text of a tensor within a list would leave most of it out."""
    if isinstance(value, Mapping):
        yield len(value)
        for name in sorted(value):
            yield name
            yield from _flatten(value[name])
    elif isinstance(value, (list, tuple)):
        yield len(value)
        for part in value:
            yield from _flatten(part)
    else:
        yield value
