"""Gradients of terms against autograd by hand; recording them changes nothing."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from gkd_plugin.training.recorders.gradients import Diagnostics, compare


def test_norms_shares_and_cosine() -> None:
    w = nn.Parameter(torch.tensor([1.0, 2.0]))
    unused = nn.Parameter(torch.ones(3))
    task, term = (w * torch.tensor([3.0, 0.0])).sum(), (w * torch.tensor([3.0, 4.0])).sum()
    row = compare(task, {"kd_a": term}, [w, unused])
    assert row["task_norm"] == pytest.approx(3) and row["kd_a_norm"] == pytest.approx(5)
    assert row["task_share"] == pytest.approx(3 / 8) and row["kd_a_share"] == pytest.approx(5 / 8)
    assert row["cosine"] == pytest.approx(9 / 15)
    assert w.grad is None


def test_no_task_and_no_gradient() -> None:
    w = nn.Parameter(torch.ones(2))
    assert "cosine" not in compare(None, {"kd_a": w.sum()}, [w])
    nothing = compare((w * 0).sum(), {"kd_a": (w * 0).sum()}, [w])
    assert math.isnan(nothing["cosine"]) and math.isnan(nothing["kd_a_share"])


def test_rows_are_cut_on_resume_and_faint_terms_named(tmp_path: Path) -> None:
    diagnostics = Diagnostics(tmp_path)
    w = nn.Parameter(torch.ones(2))
    for epoch in (0, 20, 40):
        assert diagnostics.due(epoch, 1) and not diagnostics.due(epoch + 1, 1)
        diagnostics.record(epoch, 1, w.sum(), {"kd_a": 1e-5 * w.sum(), "kd_b": w.sum()}, {"kd_a": 1.0}, [w])
        assert not diagnostics.due(epoch, 1)
    assert diagnostics.faint() == ["kd_a"]
    again = Diagnostics(tmp_path)
    again.resume(21)
    rows = [json.loads(line) for line in (tmp_path / "diagnostics.json").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [0, 20] and rows[0]["kd_a"] == 1.0
    assert again.faint() == ["kd_a"]
