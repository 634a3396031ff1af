"""Means over batches, against sums by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from gkd_plugin.training.evaluation import Predictions

NONE = math.nan


@pytest.mark.parametrize(
    ("sizes", "values", "wanted"),
    [
        ([2, 6], [1.0, 3.0], {"number": 2.5}),
        ([2, 0], [1.0, 3.0], {"number": 1.0}),
        ([2, 0], [1.0, NONE], {"number": 1.0}),
        ([2, 6, 2], [1.0, NONE, 2.0], {"number": 1.5}),
        ([2, 6], [NONE, NONE], {}),
        ([0, 0], [1.0, 1.0], {}),
        ([], [], {}),
    ],
)
def test_means_leave_out_what_has_no_number(sizes: list[int], values: list[float], wanted: dict[str, Any]) -> None:
    found = Predictions()
    for size, value in zip(sizes, values, strict=True):
        found.add(torch.zeros(size), torch.zeros(size), value if size else 0.0, {"number": value})
    assert found.mean_extras() == wanted
    if not any(map(math.isnan, values)):
        assert found.loss == wanted.get("number", 0.0)
