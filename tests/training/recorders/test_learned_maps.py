"""Learned maps are kept by epoch, cut on resume and drawn."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from gkd_plugin.space.attention_map import AttentionMap
from gkd_plugin.space.observation import Graph, Observation, Outline
from gkd_plugin.training.recorders.learned_maps import AttentionLog, entropies

VALUES = {"dim": 4, "softmax_over": "learner", "detach": False, "frozen": False, "projection": "per_layer"}


def seen(depth: int) -> Observation:
    states = tuple(torch.randn(5, 3) for _ in range(depth))
    return Observation(torch.zeros(5, 2), {"layer": states}, Graph(torch.zeros(2, 0, dtype=torch.long), 5))


def student(number: int, learner: int, source: int) -> Any:
    outlines = [Outline(depth, {"layer": (3,) * depth}, 2) for depth in (learner, source)]
    layer_map = AttentionMap(VALUES, *outlines, "layer", False)
    return SimpleNamespace(
        number=number, objective=SimpleNamespace(maps=nn.ModuleDict({"attention_teacher": layer_map}))
    )


def test_rows_entropies_resume_and_figure(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    one = student(1, 2, 6)
    log = AttentionLog(tmp_path)
    log.record(0, [one])
    assert log.rows() == [] and entropies(one) == {"attention_teacher_entropy": 0.0} and log.draw() is None
    layer_map = one.objective.maps["attention_teacher"]
    for epoch in (1, 2):
        weights = layer_map(seen(2), seen(6))
        log.record(epoch, [one])
    rows = log.rows()
    assert [(row["epoch"], row["student"], row["source"]) for row in rows] == [(1, 1, "teacher"), (2, 1, "teacher")]
    torch.testing.assert_close(torch.tensor(rows[-1]["weights"]), weights.detach(), atol=1e-6, rtol=0)
    columns = torch.tensor(rows[-1]["weights"]).T * 6  # each source layer spreads a mass of 1
    by_hand = -(columns * columns.log()).sum(dim=1).mean()
    assert entropies(one)["attention_teacher_entropy"] == pytest.approx(float(by_hand), abs=1e-4)
    figure = log.draw()
    assert figure is not None and figure.read_bytes().startswith(b"\x89PNG")
    log.resume(2)
    assert [row["epoch"] for row in log.rows()] == [1]
    (tmp_path / "attention.json").open("a").write(json.dumps(rows[1])[:20])
    assert len(log.rows()) == 1
