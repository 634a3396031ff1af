"""Learned maps are kept by epoch, cut on resume and drawn."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import gkd_plugin  # noqa: F401
from gkd_plugin.config.resolve import resolve
from gkd_plugin.space.answers import Member
from gkd_plugin.space.observation import Graph, Observation, Outline, Task
from gkd_plugin.training.objective import Objective
from gkd_plugin.training.recorders import learned_maps
from gkd_plugin.training.recorders.learned_maps import LearnedMaps

PLAN = {
    "kd": {"teacher": "wide"},
    "kd_feature": {"weight": 1, "tap": "layer", "layer_map": "attention"},
    "kd_attention": {"dim": 4, "softmax_over": "learner"},
}


class Behind:
    def expand(self, members: Iterable[Member], layered: bool) -> tuple[Member, ...]:
        return tuple(members)

    def is_within(self, member: Member) -> bool:
        return False


def seen(depth: int) -> Observation:
    states = tuple(torch.randn(5, 3) for _ in range(depth))
    return Observation(torch.zeros(5, 2), {"layer": states}, Graph(torch.zeros(2, 0, dtype=torch.long), 5))


def student(number: int, learner: int, source: int) -> Any:
    outlines: dict[Any, Outline] = {
        name: Outline(depth, {"layer": (3,) * depth}, 2) for name, depth in ((number, learner), ("teacher", source))
    }
    objective = Objective(resolve(PLAN), number, outlines, Task("node", "multiclass"), Behind())
    return SimpleNamespace(number=number, objective=objective)


def test_rows_entropies_resume_and_figure(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    one = student(1, 2, 6)
    log = LearnedMaps(tmp_path)
    log.see_evaluation(0, [one])
    assert log.rows() == [] and log.columns(one) == {"attention_teacher_entropy": 0.0} and log.draw() is None
    for epoch in (1, 2):
        one.objective(torch.zeros(()), seen(2), {"teacher": seen(6)}, epoch)
        weights = one.objective.last_weights["attention", "teacher"]
        log.see_evaluation(epoch, [one])
    rows = log.rows()
    assert [(row["epoch"], row["student"], row["map"], row["source"]) for row in rows] == [
        (1, 1, "attention", "teacher"),
        (2, 1, "attention", "teacher"),
    ]
    torch.testing.assert_close(torch.tensor(rows[-1]["weights"]), weights, atol=1e-6, rtol=0)
    columns = torch.tensor(rows[-1]["weights"]).T * 6  # each source layer spreads a mass of 1
    by_hand = -(columns * columns.log()).sum(dim=1).mean()
    assert log.columns(one)["attention_teacher_entropy"] == pytest.approx(float(by_hand), abs=1e-4)
    assert rows[-1]["entropy"] == pytest.approx(float(by_hand), abs=1e-4)
    figure = log.draw()
    assert figure is not None and figure.read_bytes().startswith(b"\x89PNG")
    vector = tmp_path / "attention.pdf"
    content = vector.read_bytes()
    assert content.startswith(b"%PDF")
    log.draw()
    assert vector.read_bytes() == content  # nothing of the hour in it
    log.resume(2)
    assert [row["epoch"] for row in log.rows()] == [1]
    (tmp_path / "attention.json").open("a").write(json.dumps(rows[1])[:20])
    assert len(log.rows()) == 1


@pytest.mark.parametrize(("depth", "columns"), [(1, 1), (2, 1), (1, 6), (3, 64), (64, 64)])
def test_axes_name_whole_layers_and_cells_lie_on_them(depth: int, columns: int) -> None:
    pytest.importorskip("matplotlib")
    weights = [[float(row == column) for column in range(columns)] for row in range(depth)]
    shared = {"student": 1, "map": "attention", "entropy": 0.5}
    rows = [
        {**shared, "source": "teacher", "epoch": 3, "weights": [[0.0] * columns] * depth},
        {**shared, "source": "teacher", "epoch": 4, "weights": weights},
        {**shared, "source": "2", "epoch": 4, "weights": weights},
    ]
    figure = learned_maps.draw_maps(rows, "cost$ of $mine, seed folder 0")
    assert figure.get_suptitle() == "cost$ of $mine, seed folder 0"
    figure.canvas.draw()
    maps = [axis for axis in figure.axes if axis.get_xlabel() == "source layer"]
    assert [axis.get_title() for axis in maps] == [
        f"student 1 listening to {name}, epoch 4, entropy 0.50" for name in ("student 2", "teacher")
    ]
    for axis in maps:
        assert axis.get_xlim() == (0.5, columns + 0.5) and axis.get_ylim() == (depth + 0.5, 0.5)  # layer 1 on top
        for ticks, count in ((axis.get_xticks(), columns), (axis.get_yticks(), depth)):
            shown = [tick for tick in ticks if 0.5 <= tick <= count + 0.5]
            assert shown and all(tick == int(tick) and 1 <= tick <= count for tick in shown) and len(shown) <= 20
        (cells,) = axis.collections
        assert cells.get_array().reshape(depth, columns).tolist() == weights


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learned_maps, "find_spec", lambda name: None)
    log = LearnedMaps(tmp_path)
    assert list(log.warnings()) == []  # nothing to draw
    row = {"epoch": 1, "student": 1, "map": "attention", "source": "teacher", "weights": [[1.0]], "entropy": 0.0}
    (tmp_path / "attention.json").write_text(json.dumps(row) + "\n")
    (warning,) = log.warnings()
    assert "gkd_plugin[plot]" in warning and log.draw() is None
