"""Which keys of a term also meet presets without it, and that what is proposed instead mends it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import gkd_plugin  # noqa: F401 - registers
from gkd_plugin.study.grid_file import parse_grid
from gkd_plugin.study.strays import find_strays

PRESETS = "kd.preset preset [supervised, oc, alignahead, mutual]\n"
CASES: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "a weight": (
        f"{PRESETS}kd_structure.weight w [1, 10]",
        {},
        ["kd_structure.weight is also set for supervised, mutual, which have no kd_structure: it puts that term"],
    ),
    "a weight in a search": (
        f"{PRESETS}kd_structure.weight w 0.1~10 log",
        {},
        ["    kd_structure.weight w 0.1~10 log"],
    ),
    "another key": (
        f"{PRESETS}kd_structure.kernel_scale s [1, 10]\nkd_structure.shift n [1, -1]",
        {},
        ["kd_structure.kernel_scale, kd_structure.shift are also set for supervised, mutual"],
    ),
    "two terms": (
        f"{PRESETS}kd_structure.weight w [1, 10]\nkd_response.temperature t [1, 4]",
        {},
        [
            "supervised, oc, alignahead, which have no kd_response: it has no effect there",
            "kd_structure.weight is also",
        ],
    ),
    "the row stands first": (
        f"kd_structure.weight w [1]\n{PRESETS}",
        {},
        ["write below the row of kd.preset:\n    when preset oc, alignahead\n        kd_structure.weight w [1]"],
    ),
    "a condition": (f"{PRESETS}when preset oc\n  kd_structure.weight w [1, 10]", {}, []),
    "on and off": (f"{PRESETS}kd_structure.weight w [0, 10]", {}, []),
    "on and off in a search": (f"{PRESETS}kd_structure.weight w 0~10", {}, []),
    "no preset has it": ("kd.preset preset [supervised, mutual]\nkd_structure.weight w [1]", {}, []),
    "every preset has it": ("kd.preset preset [oc, alignahead]\nkd_structure.weight w [1]", {}, []),
    "the base has it": (f"{PRESETS}kd_structure.shift n [1, 2]", {"kd_structure": {"weight": 1}}, []),
    "no presets": ("kd_structure.weight w [1]", {}, []),
    "another block": (f"{PRESETS}\nkd_structure.weight w [1]", {}, []),
    "no term's key": (f"{PRESETS}kd.students s [2, 3]", {"kd_structure": None}, []),
}


@pytest.mark.parametrize("case", CASES)
def test_strays_and_what_is_none(case: str) -> None:
    text, base, expected = CASES[case]
    found = sorted(find_strays(parse_grid(text, Path("g.txt"), ranges=True), base))
    assert len(found) == len(expected)
    for warning, part in zip(found, expected, strict=True):
        assert part in warning


@pytest.mark.parametrize("case", [case for case, (_, _, expected) in CASES.items() if len(expected) == 1])
def test_the_proposal_is_a_grid_without_strays(case: str) -> None:
    text, base, _ = CASES[case]
    (warning,) = find_strays(parse_grid(text, Path("g.txt"), ranges=True), base)
    mended = PRESETS + "\n".join(line.removeprefix("    ") for line in warning.splitlines()[1:])
    grid = parse_grid(mended, Path("g.txt"), ranges=True)
    assert len(grid.blocks[0]) > 1 and not list(find_strays(grid, base))


def test_our_own_grids_have_none() -> None:
    files = sorted(Path(__file__).parents[2].glob("graphgym_configs/grids/*.txt"))
    assert len(files) > 5
    for path in files:
        assert not list(find_strays(parse_grid(path.read_text(), path), {}))
