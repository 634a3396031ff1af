"""The fronts of a study against all pairs of its points, and a study from its runs to the table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gkd_plugin
from gkd_plugin.commands.run import run
from gkd_plugin.study.card import write_numbers
from gkd_plugin.study.front import StudyCard, find_front
from tests import toy

SCORES = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=8)


@given(SCORES, st.booleans())
def test_the_front_is_what_nothing_dominates(points: list[tuple[int, int]], better: bool) -> None:
    found = find_front([(float(cost), float(score)) for cost, score in points], better)
    assert any(found)
    for number, (cost, score) in enumerate(points):
        beaten = False
        for place, (price, other) in enumerate(points):
            as_good = other >= score if better else other <= score
            as_cheap = price <= cost
            strictly = price < cost or other != score
            beaten |= place != number and as_good and as_cheap and strictly
        assert found[number] == (not beaten)


def test_a_study_is_measured_run_by_run(tmp_path: Path, toy_data: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gkd_plugin.deploy.cost.MOST", 3)
    for width in (4, 8):
        own = toy.values(tmp_path / "study", gnn={"dim_inner": width}, optim={"max_epoch": 6})
        run(own, name=f"wide{width}", repeat=2, quiet=True)
    run(toy.values(tmp_path / "study", optim={"max_epoch": 1}), name="broken", quiet=True)
    (tmp_path / "study" / "broken" / "0" / "student_1.yaml").write_text("no: {")
    card = gkd_plugin.card(tmp_path / "study")
    assert isinstance(card, StudyCard) and {each.name for each in card.runs} == {"wide4", "wide8"}
    four = next(each for each in card.runs if each.name == "wide4")
    assert four.small and four.parameters == 6 * 4 + 4 + 4 * 4 + 4 + 4 * 3 + 3
    values = [
        json.loads((tmp_path / "study" / "wide4" / str(n) / "result.json").read_text())["answers"]["s1"] for n in (0, 1)
    ]
    assert four.test == pytest.approx(sum(value["test"] for value in values) / 2)
    text = str(card)
    assert "wide4" in text and "its size" in text
    write_numbers(card, tmp_path / "card.json")
    assert json.loads((tmp_path / "card.json").read_text())["runs"][0]["latency"]["count"] == 3
