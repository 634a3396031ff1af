"""Rows about the gradients of terms."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gkd_plugin.config.load import read_config
from gkd_plugin.host import cfg
from gkd_plugin.printing import noting
from gkd_plugin.training.recorders.gradients import Diagnostics, compare


def test_norms_shares_and_cosine() -> None:
    row = compare({"task": torch.tensor([3.0, 0.0, 0.0]), "kd_a": torch.tensor([3.0, 4.0, 0.0])})
    assert row["task_norm"] == pytest.approx(3) and row["kd_a_norm"] == pytest.approx(5)
    assert row["task_share"] == pytest.approx(3 / 8) and row["kd_a_share"] == pytest.approx(5 / 8)
    assert row["cosine"] == pytest.approx(9 / 15)


def test_no_task_and_no_gradient() -> None:
    assert "cosine" not in compare({"kd_a": torch.ones(2)})
    nothing = compare({"task": torch.zeros(2), "kd_a": torch.zeros(2)})
    assert math.isnan(nothing["cosine"]) and math.isnan(nothing["kd_a_share"])


def student_of(number: int) -> Any:
    return SimpleNamespace(number=number)


def test_rows_are_cut_on_resume_and_faint_terms_named(tmp_path: Path) -> None:
    diagnostics, path = Diagnostics(tmp_path), tmp_path / "diagnostics.json"
    one = student_of(1)

    def rows() -> list[dict[str, Any]]:
        return [json.loads(line) for line in path.read_text().splitlines()]

    for epoch in (0, 20, 40):
        for later in (0, 0, 1, 19):  # the first step of every 20th epoch, once
            if diagnostics.asks_step(epoch + later, one):
                gradients = {"task": torch.ones(2), "kd_a": 1e-5 * torch.ones(2), "kd_b": torch.ones(2)}
                diagnostics.see_step(epoch + later, one, gradients, {"kd_a": 1.0})
    assert [row["epoch"] for row in rows()] == [0, 20, 40]
    assert diagnostics.find_faint() == ["kd_a"]
    (warning,) = diagnostics.warnings()
    assert warning.startswith("kd_a: its gradient stayed under 0.1 %")
    again = Diagnostics(tmp_path)
    again.resume(21)
    assert [row["epoch"] for row in rows()] == [0, 20] and rows()[0]["kd_a"] == 1.0
    assert rows()[0]["kd_b_norm"] == pytest.approx(2**0.5) and rows()[0]["cosine"] == pytest.approx(1)
    assert again.find_faint() == ["kd_a"]


def test_a_faint_term_is_told_of_after_two_records(tmp_path: Path) -> None:
    diagnostics = Diagnostics(tmp_path)
    one, ones = student_of(1), torch.ones(2)
    with noting() as notes:
        for epoch in range(42):
            large = 1.0 if epoch >= 40 else 1e-5
            gradients = {"task": ones, "kd_a": 1e-5 * ones, "kd_b": ones, "kd_c": large * ones}
            if diagnostics.asks_step(epoch, one):
                diagnostics.see_step(epoch, one, gradients, {})
            diagnostics.see_evaluation(epoch, [one])
            said = [note.partition(":")[0] for note in notes]
            assert said == ([] if epoch < 20 else ["kd_a", "kd_c"])
    assert notes[:1] == list(diagnostics.warnings())  # what has been said at once is not said again at the end


@pytest.mark.parametrize(
    ("l2norm", "keys", "hint"),
    [
        (True, {}, "Its kernel_scale 100 may be too wide for these hidden states: try kernel_scale: median, or gnn"),
        (False, {}, "try kernel_scale: median."),
        (True, {"kernel_scale": "median"}, ""),
        (True, {"kernel": "linear"}, ""),
    ],
)
def test_what_is_said_of_a_faint_structure(l2norm: bool, keys: dict[str, Any], hint: str, tmp_path: Path) -> None:
    cfg.gnn.l2norm = l2norm
    plan = read_config({"kd": {"students": 2}, "kd_structure": {"weight": 1.0, **keys}}).plan
    diagnostics = Diagnostics(tmp_path, plan)
    diagnostics.see_step(0, student_of(1), {"task": torch.ones(2), "kd_structure": torch.zeros(2)}, {})
    (text,) = diagnostics.warnings()
    assert hint in text and ("kernel_scale" in text) == bool(hint)


def test_each_student_has_a_row_of_its_own(tmp_path: Path) -> None:
    diagnostics = Diagnostics(tmp_path)
    for number in (1, 2, 1, 2):
        if diagnostics.asks_step(0, student_of(number)):
            diagnostics.see_step(0, student_of(number), {"kd_a": torch.ones(2)}, {})
    rows = [json.loads(line) for line in (tmp_path / "diagnostics.json").read_text().splitlines()]
    assert [(row["student"], row["kd_a_share"]) for row in rows] == [(1, 1.0), (2, 1.0)]
