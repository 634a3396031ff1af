"""Our kernels written again from their equations, for two rows of plain floats. All tests take them from here."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

Rows = list[float]
Formula = Callable[[Rows, Rows, Any], float]


def dot(x: Rows, y: Rows) -> float:
    return sum(a * b for a, b in zip(x, y, strict=True))


def distance(x: Rows, y: Rows, norm: int) -> float:
    return float(sum(abs(a - b) ** norm for a, b in zip(x, y, strict=True)) ** (1 / norm))


def cosine(x: Rows, y: Rows) -> float:
    lengths = math.sqrt(dot(x, x)) * math.sqrt(dot(y, y))
    return dot(x, y) / lengths if lengths else 0.0


FORMULAS: dict[str, Formula] = {
    "laplacian": lambda x, y, s: math.exp(-distance(x, y, 1) / s),
    "rbf": lambda x, y, s: math.exp(-(distance(x, y, 2) ** 2) / (2 * s**2)),
    "heat": lambda x, y, s: math.exp(-(distance(x, y, 2) ** 2) / (4 * s)),
    "linear": lambda x, y, s: dot(x, y),
    "poly": lambda x, y, s: (dot(x, y) + 1) ** 3,
    "cosine": lambda x, y, s: cosine(x, y),
    "cosine_squared": lambda x, y, s: cosine(x, y) ** 2,
    "l2": lambda x, y, s: distance(x, y, 2),
    "euclidean": lambda x, y, s: distance(x, y, 2) ** 2,
    "sigmoid": lambda x, y, s: math.tanh(dot(x, y)),
}


def formula_of(kernel: str) -> Formula:
    """The formula of a kernel, or a failure that says what to write."""
    assert kernel in FORMULAS, (
        f"the kernel '{kernel}' has no formula of its own in tests/space/kernel_oracles.py: write it there once, for two "
        "lists of floats and the scale, from the equation and not from the tensor code; every test compares with it"
    )
    return FORMULAS[kernel]
