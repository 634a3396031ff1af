from __future__ import annotations

import re

import pytest

from gkd_plugin.schema import BadValue, Number


@pytest.mark.parametrize(
    ("kind", "described", "allowed", "refused"),
    [
        (Number(0, high=1), "a number of at least 0 and at most 1", [0, 0.5, 1, "1"], [-0.1, 1.0000001, 2, "nan"]),
        (Number(0, above=True, high=2), "a number above 0 and at most 2", [1e-9, 2], [0, 2.1]),
        (Number(0, below=1), "a number of at least 0 and below 1", [0, 0.999], [1]),
        (Number(1, integer=True, high=3), "a whole number of at least 1 and at most 3", [1, 3.0], [0, 4, 1.5]),
        (Number(0, high=1, words=("none",)), "none or a number of at least 0 and at most 1", [1], ["some"]),
    ],
)
def test_numbers_within_bounds(kind, described, allowed, refused):
    assert kind.describe() == described
    assert [kind.parse(raw) for raw in allowed] == [float(raw) for raw in allowed]
    for raw in refused:
        with pytest.raises(BadValue, match=re.escape(f"Allowed: {described}.")):
            kind.parse(raw)
