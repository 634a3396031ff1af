"""Optuna's part of a search: what is proposed depends on its number and on what was told, whichever process asks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from gkd_plugin.errors import UserError
from gkd_plugin.study.grid_file import parse_grid
from gkd_plugin.study.proposals import FILE, Proposals, draw
from gkd_plugin.study.space import Space

TEXT = (
    "kd.preset preset [supervised, oc]\ngnn.dim_inner width 8~64 log\nwhen preset oc\n  kd_feature.weight weight 0~1\n"
)


def make_space(text: str = TEXT) -> Space:
    return Space({}, "base", parse_grid(text, Path("space.txt"), ranges=True))


def score(choices: dict[str, Any]) -> float | None:
    """Best at the largest weight; one width fails."""
    return None if choices["width"] == 8 else choices.get("weight", -1.0)


def search(folder: Path, count: int, method: str = "tpe", calls: int = 1) -> list[dict[str, Any]]:
    folder.mkdir(exist_ok=True)
    found = []
    for _ in range(calls):
        proposals = Proposals(folder, make_space(), method)
        for _ in range(count // calls):
            proposal = proposals.ask()
            found.append(proposal.choices)
            proposals.tell(proposal.number, score(proposal.choices))
    return found


@pytest.mark.parametrize("method", ["tpe", "random"])
def test_an_interrupted_search_goes_on_as_it_would_have(method: str, tmp_path: Path) -> None:
    whole = search(tmp_path / "whole", 18, method)
    assert search(tmp_path / "parts", 18, method, calls=6) == whole
    assert len({str(choices) for choices in whole}) > 12


def test_tpe_learns_and_random_does_not(tmp_path: Path) -> None:
    late = {method: search(tmp_path / method, 40, method)[20:] for method in ("tpe", "random")}
    means = {method: sum(c.get("weight", -1.0) for c in found) / 20 for method, found in late.items()}
    assert means["tpe"] > 0.6 > means["random"]


def test_what_was_asked_and_told_is_there_after_a_kill(tmp_path: Path) -> None:
    proposals = Proposals(tmp_path, make_space())
    first, second = proposals.ask(), proposals.ask()
    proposals.tell(first.number, 0.5)
    proposals._study.ask()  # killed before anything was suggested
    with open(tmp_path / FILE, "ab") as file:
        file.write(b'{"op_code":6,"work')
    (tmp_path / f"{FILE}.lock").touch()
    again = Proposals(tmp_path, make_space())
    assert [(p.choices, p.told) for p in again.read()] == [(first.choices, True), (second.choices, False)]
    again.tell(second.number, None)
    again.tell(first.number, 0.25)
    assert [p.told for p in Proposals(tmp_path, make_space()).read()] == [True, True]
    states = [trial.state.name for trial in again._study.trials]
    assert states == ["COMPLETE", "FAIL", "FAIL"] and again._study.trials[0].value == 0.5
    again.tell(second.number, 0.75)  # it was tried again
    assert again._study.best_value == 0.75


def test_a_damaged_storage_and_a_missing_package_are_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / FILE).write_text("[1]\n{}\n")
    with pytest.raises(UserError, match="is damaged"):
        Proposals(tmp_path, make_space())
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"pip install 'gkd_plugin\[search\]'"):
        draw(make_space(), 3)


def test_random_choices_cover_the_space() -> None:
    drawn = draw(make_space("gnn.act act [relu, prelu]\ngnn.layers_mp depth [2, 3, 4]\n"), 60)
    assert len({str(choices) for choices in drawn}) == 6
