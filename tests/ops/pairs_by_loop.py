"""Measures of pairs of rows, and their gradients, by loops in Python."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor

from gkd_plugin.ops import compiled
from gkd_plugin.ops.edges import EdgeSet

NAMES = (compiled.MANHATTAN, compiled.SQUARED, compiled.DOT)
PARTS = {  # of one coordinate, and its derivative by x
    compiled.MANHATTAN: (lambda x, y: abs(x - y), lambda x, y: (x > y) - (x < y)),
    compiled.SQUARED: (lambda x, y: (x - y) ** 2, lambda x, y: 2 * (x - y)),
    compiled.DOT: (lambda x, y: x * y, lambda x, y: y),
}


@dataclass(frozen=True)
class Problem:
    """Rows (some of them equal) and pairs of them (self-loops, repeated ones, none at all)."""

    rows: list[list[float]]
    pairs: list[tuple[int, int]]

    def tensors(self) -> tuple[Tensor, EdgeSet, Tensor]:
        """The rows, the pairs, and a weight for each pair's value in a loss."""
        index = torch.tensor(self.pairs, dtype=torch.long).reshape(-1, 2).t()  # not contiguous
        rows = torch.tensor(self.rows, dtype=torch.float64, requires_grad=True)
        return rows, EdgeSet(index, len(self.rows)), torch.tensor(self._weights(), dtype=torch.float64)

    def _weights(self) -> list[float]:
        return [0.5 + place for place in range(len(self.pairs))]

    def solve(self, name: str) -> tuple[Tensor, Tensor]:
        """The values, and the gradient of their weighted sum for the rows."""
        part, slope = PARTS[name]
        width = len(self.rows[0])
        values = [float(sum(part(self.rows[u][k], self.rows[v][k]) for k in range(width))) for u, v in self.pairs]
        gradient = [[0.0] * width for _ in self.rows]
        for (u, v), weight in zip(self.pairs, self._weights(), strict=True):
            for k in range(width):
                gradient[u][k] += weight * slope(self.rows[u][k], self.rows[v][k])
                gradient[v][k] += weight * slope(self.rows[v][k], self.rows[u][k])
        return torch.tensor(values, dtype=torch.float64), torch.tensor(gradient, dtype=torch.float64)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Some rows of a width that may be 1."""
    nodes, width = draw(st.integers(1, 6)), draw(st.integers(1, 9))
    number = st.sampled_from([-1.5, -1.0, 0.0, 0.25, 1.0, 3.0])
    rows = draw(st.lists(st.lists(number, min_size=width, max_size=width), min_size=nodes, max_size=nodes))
    node = st.integers(0, nodes - 1)
    return Problem(rows, draw(st.lists(st.tuples(node, node), max_size=12)))
