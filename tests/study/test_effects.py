"""What each dimension does, in designs whose effects are known."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from gkd_plugin.study.effects import interact, rank, rank_groups
from gkd_plugin.study.records import read_study
from tests.study.folders import make_factorial, write_run, write_study

DIMENSIONS = {"width": "gnn.dim_inner", "preset": "kd.preset", "act": "gnn.act"}
VALUES: tuple[tuple[Any, ...], ...] = ((16, 4, 8), ("lsp", "none"), ("relu", "prelu"))
WIDTH = {4: -0.05, 8: 0.0, 16: 0.05}
PRESET = {"lsp": 0.01, "none": -0.01}
ACT = {"relu": 0.002, "prelu": -0.002}


def additive(width: int, preset: str, act: str) -> float:
    return 0.7 + WIDTH[width] + PRESET[preset] + ACT[act]


def test_effects_of_an_additive_design_are_its_parts(tmp_path: Path) -> None:
    scores = {values: additive(*values) for values in itertools.product(*VALUES)}
    results = make_factorial(tmp_path, scores, DIMENSIONS)
    table = rank(results)
    found = {(row["dimension"], row["value"]): row for row in table.to_dict("records")}
    order = [("width", "4"), ("width", "8"), ("width", "16"), ("preset", "lsp"), ("preset", "none"), ("act", "relu")]
    assert list(found) == [*order, ("act", "prelu")]  # numbers by size, words as the grid has them
    for dimension, parts in (("width", WIDTH), ("preset", PRESET), ("act", ACT)):
        for value, effect in parts.items():
            row = found[dimension, str(value)]
            assert row["effect"] == pytest.approx(effect) and row["score"] == pytest.approx(0.7 + effect)
            assert row["balanced"] and row["groups"] == len(scores) / len(parts)
    assert [found["width", str(value)]["mean_rank"] for value in (4, 8, 16)] == [3, 2, 1]
    assert [found["width", str(value)]["first"] for value in (4, 8, 16)] == [0, 0, 1]

    pairs = interact(results)
    assert len(pairs) == 3 * 2 + 3 * 2 + 2 * 2 and pairs["balanced"].all()
    assert pairs["interaction"].abs().max() < 1e-9
    cell = pairs[(pairs["first_value"] == "16") & (pairs["second_value"] == "none")].iloc[0]
    assert cell["difference"] == pytest.approx(0.05 - 0.01) and cell["groups"] == 2


def test_an_interaction_is_what_the_values_do_together(tmp_path: Path) -> None:
    scores = {("a", "x"): 0.4, ("a", "y"): 0.2, ("b", "x"): 0.2, ("b", "y"): 0.4}
    results = make_factorial(tmp_path, scores, {"one": "gnn.act", "two": "kd.preset"})
    assert rank(results)["effect"].tolist() == pytest.approx([0.0] * 4)
    assert interact(results)["interaction"].tolist() == pytest.approx([0.1, -0.1, -0.1, 0.1])


@pytest.mark.parametrize("metric", ["accuracy", "mae"])
def test_ranks_are_those_of_scipy(tmp_path: Path, metric: str) -> None:
    scores = {4: [0.5, 0.9, 0.7], 8: [0.6, 0.9, 0.1 + 0.2], 16: [0.5, 0.2, 0.3]}
    points = []
    for width, acts in scores.items():
        for act, score in zip("abc", acts, strict=True):
            points.append({"name": f"{width}{act}", "choices": {"width": width, "act": act}})
            write_run(tmp_path / "s" / f"{width}{act}", {1: (score, -score)}, metric=metric)
    write_study(tmp_path / "s", points, DIMENSIONS)
    table = rank_groups(read_study(tmp_path / "s"))
    table = table[table["dimension"] == "width"]
    for group, score in enumerate(zip(*scores.values(), strict=True)):
        sign = -1 if metric == "accuracy" else 1
        expected = stats.rankdata([sign * round(value, 6) for value in score], method="min")
        assert table[table["group"] == group]["rank"].tolist() == expected.tolist()
    tests = rank_groups(read_study(tmp_path / "s"), score="test")
    assert tests["score"].max() <= 0


def test_close_scores_share_a_rank_where_asked(tmp_path: Path) -> None:
    results = make_factorial(tmp_path, {(4,): 0.80, (8,): 0.79, (16,): 0.775, (32,): 0.5}, {"width": "gnn.dim_inner"})
    ranks = {tie: rank(results, tie=tie)["mean_rank"].tolist() for tie in (0.0, 0.02, 0.03)}
    # 0.775 is within 0.02 of the second, but not of the best, whose rank that shares
    assert ranks == {0.0: [1, 2, 3, 4], 0.02: [1, 1, 3, 4], 0.03: [1, 1, 1, 4]}


def test_only_complete_groups_count_where_there_are_any(tmp_path: Path) -> None:
    scores = {("a", 4): 0.5, ("a", 8): 0.6, ("b", 4): 0.9}  # at b, 8 is missing: a mean of 4 over both would be 0.7
    results = make_factorial(tmp_path, scores, {"act": "gnn.act", "width": "gnn.dim_inner"})
    table = rank(results).set_index(["dimension", "value"])
    assert table.loc[("width", "4"), "score"] == 0.5 and table.loc[("width", "8"), "groups"] == 1
    assert table.loc[("act", "b"), "effect"] == pytest.approx(0.2)
    pairs = interact(results)
    assert not pairs["balanced"].any() and pairs["interaction"].isna().all()
    assert pairs["difference"].tolist() == pytest.approx([0.5 - 2 / 3, 0.6 - 2 / 3, 0.9 - 2 / 3])


def test_incomplete_groups_say_so(tmp_path: Path) -> None:
    scores = {("a", 4): 0.5, ("a", 8): 0.6, ("b", 8): 0.9, ("b", 16): 0.8, ("c", 4): 0.1}
    results = make_factorial(tmp_path, scores, {"act": "gnn.act", "width": "gnn.dim_inner"})
    table = rank(results)
    width = table[table["dimension"] == "width"]
    assert not width["balanced"].any() and width["groups"].tolist() == [1, 2, 1]
    assert width["effect"].tolist() == pytest.approx([-0.05, 0.05, -0.05])


def test_points_without_all_their_seeds_are_not_ranked(tmp_path: Path) -> None:
    """b lost the seed on which every point is bad: by its other one it would be first."""
    home = tmp_path / "s"
    points = [{"name": name, "choices": {"act": name}} for name in ("a", "b", "c")]
    folder = write_study(home, points, {"act": "gnn.act"})
    meta = json.loads((folder / "study.json").read_text())
    (folder / "study.json").write_text(json.dumps({**meta, "repeat": 2}))
    for name, score in (("a", 0.5), ("b", 0.6), ("c", 0.7)):
        write_run(home / name, {1: (score - 0.2, 0.5), 2: (score + 0.2, 0.5)})
    assert rank(read_study(home))["mean_rank"].tolist() == [3, 2, 1]
    shutil.rmtree(home / "b" / "0")
    left = rank(read_study(home))
    assert left["value"].tolist() == ["a", "c"] and left["mean_rank"].tolist() == [2, 1]


def test_conditional_dimensions_are_compared_where_they_apply(tmp_path: Path) -> None:
    scores = {("none", ...): 0.5, ("lsp", 0.5): 0.6, ("lsp", 1): 0.7}
    results = make_factorial(tmp_path, scores, {"preset": "kd.preset", "weight": "kd_structure.weight"})
    table = rank(results)
    weight = table[table["dimension"] == "weight"]
    assert weight["value"].tolist() == ["0.5", "1.0"] and weight["balanced"].all()
    assert weight["effect"].tolist() == pytest.approx([-0.05, 0.05])
    preset = table[table["dimension"] == "preset"]
    assert preset["score"].tolist() == pytest.approx([0.5, 0.65])  # of the weights, which only lsp has, the mean
    assert preset["mean_rank"].tolist() == [2, 1] and preset["balanced"].all()


def test_data_sets_and_single_values_are_not_ranked(tmp_path: Path) -> None:
    scores = {("cora", 4, "x"): 0.5, ("cora", 8, "x"): 0.6, ("pubmed", 4, "x"): 0.9, ("pubmed", 8, "x"): 0.8}
    dimensions = {"data": "dataset.name", "width": "gnn.dim_inner", "act": "gnn.act"}
    table = rank(make_factorial(tmp_path, scores, dimensions))
    assert set(table["dimension"]) == {"width"} and table["mean_rank"].tolist() == [1.5, 1.5]


def test_a_pair_of_which_one_has_a_single_value_is_left_out(tmp_path: Path) -> None:
    dimensions = {"preset": "kd.preset", "act": "gnn.act", "w": "kd_structure.weight", "t": "kd_response.temperature"}
    scores = {
        (preset, act, value if preset == "oc" else ..., value if preset == "mutual" else ...): 0.5 + value / 100
        for preset, act, value in itertools.product(("oc", "mutual"), ("relu", "prelu"), (1, 10))
    }
    pairs = interact(make_factorial(tmp_path, scores, dimensions))
    found = list(dict.fromkeys(zip(pairs["first"], pairs["second"], strict=True)))
    assert found == [("preset", "act"), ("act", "w"), ("act", "t")]
    assert pairs["balanced"].all()
