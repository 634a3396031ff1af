"""The page of a study: its tables are the frames, its figures are whole, nothing comes from elsewhere."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from gkd_plugin.study.report.write import write_report
from tests.study.report.made_studies import write_run, write_study
from tests.study.report.reading import Page

EVIL = "<script>alert('1')</script>&\"$x_y$`|"


def make_points(widths: tuple[int, ...] = (8, 16), presets: tuple[str, ...] = ("lsp", "gkd")) -> dict[str, Any]:
    """A grid of width and preset, each with its control."""
    draw = random.Random(0)
    points: dict[str, Any] = {}
    for width, preset in itertools.product(widths, presets):
        base = [0.7 + width / 1000 + draw.gauss(0, 0.01) for _ in range(4)]
        points.setdefault(f"control-{width}", ({"width": width}, None, base))
        own = [score + 0.02 + draw.gauss(0, 0.001) for score in points[f"control-{width}"][2]]
        points[f"made-width={width}-preset={preset}"] = (
            {"width": width, "preset": preset},
            f"control-{width}",
            own,
        )
    return points


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with everything that a page can show; some of its names are code."""
    points = make_points(presets=("lsp", EVIL))
    names = [name for name in points if name.startswith("made")]
    points |= {
        "shuffled": ({"width": 8, "preset": "lsp"}, None, [0.70, 0.71, 0.72, 0.70]),
        "broken": ({"width": 32, "preset": "lsp"}, "control-8", []),
    }
    places = {name: name.replace("/", "") for name in points}
    points = {places[name]: point for name, point in points.items()}
    names = [places[name] for name in names]
    return write_study(
        tmp_path_factory.mktemp("study"),
        points,
        failed={"broken": f"RuntimeError: {EVIL}"},
        roles={"control-8": "control", "control-16": "control", "shuffled": "shuffled_teacher"},
        of={"shuffled": "made-width=8-preset=lsp"},
        dimensions={"width": "gnn.dim_inner", "preset": "kd.preset"},
        students=dict.fromkeys(names, 2),
        parameters={name: 500 if "=8" in name else 5000 for name in names},
        columns={name: {"s1_layer1_mad": 0.4, "s1_layer2_mad": 0.2, "mean_accuracy": 0.5} for name in names},
        maps={name: [[0.1, 0.2], [0.3, 0.4]] for name in names},
    )


@pytest.fixture(scope="module")
def page(study: Path) -> Page:
    return Page(write_report(study).page.read_text())


def test_nothing_comes_from_elsewhere_and_every_figure_is_whole(page: Page) -> None:
    page.check()
    assert page.tags.count("script") == 1, "only our own"


def test_the_caption_speaks_of_intervals_only_where_some_are_drawn(tmp_path: Path, page: Page) -> None:
    assert "minus that of the control; lines are 95 % intervals over seeds" in page.text
    pair = {"kd": ({"width": 8}, "plain", [0.5, 0.6]), "plain": ({"width": 8}, None, [0.4, 0.6])}
    folder = write_study(tmp_path, pair, roles={"plain": "control"}, dimensions={"width": "gnn.dim_inner"})
    text = Page(write_report(folder).page.read_text()).text
    assert "minus that of the control. Filled" in text and "(no interval)" in text


def test_user_text_is_shown_and_never_run(page: Page) -> None:
    assert EVIL in page.text and "<script>alert" not in page.source


def test_every_kind_of_figure_is_there(page: Page) -> None:
    named = {figure.get("aria-labelledby", "").removesuffix("-title") for figure in page.figures}
    assert named == {
        *("differences", "rank-1", "rank-2", "effects", "pair-1"),
        *("pareto-1", "curves-1", "maps-1", "smoothing-1"),
    }


def test_the_tables_are_the_frames(page: Page, study: Path) -> None:
    frame = pd.read_csv(study / "tables" / "comparison.csv").query("seeds > 0")
    head, *rows = page.tables["comparison-table"]
    assert head[:6] == ["width", "preset", "validation", "test", "control test", "difference"]
    shown = [[row[0], row[1], row[5]] for row in rows]
    wanted = zip(frame["width"], frame["preset"], frame["difference"], strict=True)
    assert shown == [[str(width), preset, f"{100 * gap:+.2f}"] for width, preset, gap in wanted]
    runs = pd.read_csv(study / "tables" / "runs.csv")
    assert len(page.tables["points-table"]) == 1 + len(runs) == 9
    assert page.tables["failures-table"][1][-1] == f"RuntimeError: {EVIL}"
    assert page.tables["placebos-table"][1][:3] == ["8", "lsp", "shuffled"]


def test_the_first_paragraph_counts_as_the_frame_does(page: Page, study: Path) -> None:
    frame = pd.read_csv(study / "tables" / "comparison.csv")
    better = int(((frame["p_holm"] < 0.05) & (frame["difference"] > 0)).sum())
    tested = int(frame["p_holm"].notna().sum())
    assert f"{better} of {tested} KD designs are better than the control." in page.text


def test_what_was_run_is_said(page: Page) -> None:
    for text in (
        "Cora (PyG)",
        "width (gnn.dim_inner): 3 values, preset (kd.preset): 2 values",
        "5 points, 2 controls, 1 shuffled teacher",
        "3 asked, 4 finished",
        "gkd grid --config base.yaml --grid grid.txt",
        "2026-11-26 10:00:00",
        "python 3.11, gkd_plugin 0.1.0",
        "kd.preset preset ['a','b']",
    ):
        assert text in page.text, text


def test_heads_can_be_sorted_with_the_keyboard(page: Page) -> None:
    assert 'createElement("button")' in page.source and "aria-sort" in page.source
    assert page.source.count('<div class="scroll" tabindex="0" role="region"') == len(page.tables)


def test_figures_that_do_not_apply_are_left_out(tmp_path: Path) -> None:
    home = write_study(tmp_path, {"only": ({}, None, [0.5, 0.5, 0.5])})
    page = Page(write_report(home).page.read_text())
    page.check()
    assert [figure.get("aria-labelledby") for figure in page.figures] == ["curves-1-title"]
    assert set(page.tables) == {"points-table"}
    assert "No design is compared here" in page.text


def test_each_data_set_has_its_own_curves_and_sizes(tmp_path: Path) -> None:
    points: dict[str, Any] = {}
    sizes = {}
    for data, width in itertools.product(("Cora", "PubMed"), (8, 16)):
        points[f"{data}-{width}"] = ({"data": data, "width": width}, None, [0.5 + width / 100, 0.6])
        sizes[f"{data}-{width}"] = width
    home = write_study(
        tmp_path, points, dimensions={"data": "dataset.name", "width": "gnn.dim_inner"}, parameters=sizes
    )
    page = Page(write_report(home).page.read_text())
    page.check()
    for title in ("Validation by epoch, Cora", "Validation by epoch, PubMed", "Score against size, PubMed"):
        assert title in page.text
    assert "Cora / PubMed (PyG)" in page.text


def test_a_folder_of_runs_is_read_without_a_study(tmp_path: Path) -> None:
    config = {"dataset": {"name": "digits"}, "optim": {"max_epoch": 4}}
    for name, shift in (("kd", 0.05), ("kd-control", 0.0)):
        write_run(tmp_path / "runs" / name, [0.7 + shift, 0.72 + shift + 0.001, 0.71 + shift], config=config)
    written = write_report(tmp_path / "runs")
    assert written.page == tmp_path / "runs.gkd" / "report.html", "nothing of ours lies beside the runs"
    page = Page(written.page.read_text())
    page.check()
    assert page.tables["comparison-table"][1][0] == "kd"
    assert "digits" in page.text


def test_runs_of_the_host_are_read(tmp_path: Path) -> None:
    for number in range(2):
        seed = tmp_path / "host" / "grid-dim=8" / str(number)
        for split in ("train", "val", "test"):
            (seed / split).mkdir(parents=True)
            rows = [{"epoch": epoch, "accuracy": 0.1 * (epoch + 1), "loss": 1.0, "params": 99} for epoch in range(3)]
            (seed / split / "stats.json").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    page = Page(write_report(tmp_path / "host").page.read_text())
    page.check()
    assert page.tables["points-table"][1][:4] == ["8", "done", "30.00", "0.00"]


def test_the_base_counts_for_points_that_choose_nothing(tmp_path: Path) -> None:
    points = {
        "made-type=mlp": ({"type": "mlp"}, None, [0.5, 0.6, 0.7]),
        "made-width=16": ({"width": 16}, None, [0.5, 0.6, 0.7]),
    }
    folder = write_study(tmp_path, points, dimensions={"type": "model.type", "width": "gnn.dim_inner"})
    meta = json.loads((folder / "study.json").read_text())
    meta["base"]["values"] = {"model": {"type": "gcn"}, "gnn": {"dim_inner": 8}}
    (folder / "study.json").write_text(json.dumps(meta))
    text = Page(write_report(folder).page.read_text()).text
    assert "gcn / mlp, 8 / 16 wide" in text and "type (model.type): 2 values, width (gnn.dim_inner): 2 values" in text
