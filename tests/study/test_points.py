"""What a damaged or foreign study.json may name."""

from __future__ import annotations

import pytest

from gkd_plugin.study.points import check_name, check_place


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "a\\b", "a\0", "/a"])
def test_names_that_lead_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not the name of a run"):
        check_name(name)
    with pytest.raises(ValueError, match="is not the name of a run"):
        check_place(name, f"../study/{name}", "study")


@pytest.mark.parametrize("name", ["a", "base-lr=0.1", "...", "b.v2", "ä ö"])
def test_other_names_are_taken(name: str) -> None:
    check_name(name)
    check_place(name, f"../study/{name}", "study")
    check_place(name, f"controls/{name}", "study")
    with pytest.raises(ValueError, match="study"):
        check_place(name, f"../other/{name}", "study")
