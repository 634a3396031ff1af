"""What a study writes of itself is what it reads; where its folders lie; what continues and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gkd_plugin.errors import UserError
from gkd_plugin.study.ledger import DONE, Entry
from gkd_plugin.study.points import CONTROL, Point
from gkd_plugin.study.status import Status
from gkd_plugin.study.study import Study, find_study, read_study_file

POINTS = (
    Point("base-width=8", {"gnn": {"dim_inner": 8}}, {"width": 8}, control="control-1"),
    Point("control-1", {}, {"width": 8}, CONTROL),
)


def make(folder: Path, **changes: Any) -> Study:
    study = Study(
        name="base_grid_small",
        out_dir=folder,
        kind="grid",
        base={"file": "base.yaml", "values": {"out_dir": "results"}},
        grid={"file": "small.txt", "text": "gnn.dim_inner width [8]\n"},
        dimensions={"width": "gnn.dim_inner"},
        repeat=3,
        threads=1,
        points=POINTS,
        command="gkd grid --config base.yaml --grid small.txt",
        created="2026-01-01T00:00:00",
    )
    return replace(study, **changes)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    study = make(tmp_path)
    study.save()
    beside = find_study(tmp_path / "base_grid_small")
    assert beside == find_study(tmp_path / "base_grid_small.gkd") == study.beside
    assert (beside / "grid.txt").read_text() == study.grid["text"]
    assert read_study_file(beside) == replace(study, points=tuple(replace(point, values={}) for point in POINTS))
    said = [point["folder"] for point in json.loads((beside / "study.json").read_text())["points"]]
    assert said == ["../base_grid_small/base-width=8", "controls/control-1"]
    places = [study.place(point) / point.name for point in POINTS]
    assert [(beside / path).resolve() for path in said] == [path.resolve() for path in places]


def test_it_continues_with_the_threads_and_the_points_it_had(tmp_path: Path) -> None:
    later = make(tmp_path, threads=4, repeat=5, created="", points=(Point("base-width=16", {}),))
    study = later.continue_from(make(tmp_path))
    assert (study.threads, study.repeat, study.created) == (1, 5, "2026-01-01T00:00:00")
    assert [point.name for point in study.points] == ["base-width=16", "base-width=8", "control-1"]
    with pytest.raises(UserError, match="holds a search, and this is a grid"):
        later.continue_from(make(tmp_path, kind="search"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        ('{"format": 1}', "damaged"),
        ('{"format": 2}', "Install a newer gkd_plugin"),
        ('{"format": 1, "points": [3]}', "damaged"),
        ('{"format": "one"}', "damaged"),
        ('{"format": 1, "name": "x", "points": [{"name": "../x"}]}', "is not the name"),
    ],
)
def test_a_damaged_file_is_one_message(text: str, said: str, tmp_path: Path) -> None:
    make(tmp_path).save()
    (tmp_path / "base_grid_small.gkd/study.json").write_text(text)
    with pytest.raises(UserError, match=said):
        read_study_file(find_study(tmp_path / "base_grid_small"))


def test_where_there_is_none_others_are_named(tmp_path: Path) -> None:
    make(tmp_path).save()
    with pytest.raises(UserError, match="is not a study: .* In .*: base_grid_small"):
        find_study(tmp_path / "base_grid_smal")


@pytest.mark.parametrize("name", ["base_grid_small", "base_grid_small.gkd"])
def test_a_dry_run_is_told_from_no_study(name: str, tmp_path: Path) -> None:
    (tmp_path / "base_grid_small.gkd" / "configs").mkdir(parents=True)
    with pytest.raises(UserError, match="nothing was trained yet; base_grid_small.gkd holds what --dry-run wrote"):
        find_study(tmp_path / name)


def test_of_equal_scores_the_status_names_the_first_point(tmp_path: Path) -> None:
    points = tuple(Point(name, {}, {}) for name in ("b", "a", "c"))
    entries = {
        name: Entry(name, DONE, metric="accuracy", better=True, val=val)
        for name, val in zip("abc", (0.5, 0.5, 0.4), strict=True)
    }
    assert "best validation 50.00 %: b" in str(Status(make(tmp_path, points=points), entries, held=False))
