"""The page of one run: its scores as in the files, its figures, its control."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import gkd_plugin
from gkd_plugin.commands.report import Paired
from gkd_plugin.study.report.write import write_report
from tests import toy
from tests.study.report.made_studies import write_run
from tests.study.report.reading import Page


def test_a_run_that_was_trained_shows_curves_terms_maps_and_control(work_folder: Path) -> None:
    keys = {
        "kd": {"students": 2},
        "kd_feature": {"source": "peers", "weight": 1.0, "layer_map": "attention"},
        "kd_auxiliary": {"weight": 0.1},
    }
    report = gkd_plugin.run(toy.config(work_folder, "run", **keys), repeat=3, control=True, quiet=True)
    written = write_report(report.folder)
    page = Page(written.page.read_text())
    page.check()
    assert written.page == report.folder / "report.html"
    named = {figure.get("aria-labelledby", "").removesuffix("-title") for figure in page.figures}
    assert named == {"curves", "terms", "gradients", "maps", "smoothing"}
    head, *rows = page.tables["summary"]
    assert head == ["answer", "seeds", "validation", "test", "control test", "paired difference [95 %]"]
    assert [row[0] for row in rows] == ["mean over students", "best student", "first student", "ensemble"]
    for row, answer in zip(rows, ("mean", "best", "first", "ensemble"), strict=True):
        tests = report.tests(answer)
        assert row[3] == f"{100 * np.mean(tests):.2f} ± {100 * np.std(tests, ddof=1):.2f}"
        assert row[5] == report.difference(answer).text(100.0)
    assert len(page.tables["seeds"]) == 1 + 3 * 4
    assert f"Paired difference to the control: {report.difference('mean').text(100.0)}" in page.text


@pytest.mark.parametrize(
    ("shift", "word"), [([0.03, 0.031, 0.029], "is clear of 0"), ([0.03, -0.03, 0.01], "contains 0"), ([0.1, 0.1], "")]
)
def test_the_interval_is_read_for_the_reader(tmp_path: Path, shift: list[float], word: str) -> None:
    control = [0.5, 0.6, 0.7][: len(shift)]
    write_run(tmp_path / "kd-control", control)
    write_run(tmp_path / "kd", [base + part for base, part in zip(control, shift, strict=True)])
    text = " ".join(write_report(tmp_path / "kd").report.verdict)
    pair = Paired.of(np.add(control, shift), control)
    assert pair.text(100.0) in text
    assert (word in text) if word else ("interval" not in text.replace("(no interval: 2 seeds)", ""))


def test_a_control_with_other_seeds_is_not_compared(tmp_path: Path) -> None:
    write_run(tmp_path / "kd", [0.5])
    write_run(tmp_path / "kd-control", [0.5, 0.6])
    shutil.rmtree(tmp_path / "kd-control" / "0")
    text = " ".join(write_report(tmp_path / "kd").report.verdict)
    assert "No seed is finished both here and in the control." in text and "difference" not in text


def test_one_student_has_one_answer_and_warnings_are_shown(tmp_path: Path) -> None:
    written = write_report(write_run(tmp_path / "alone", [0.5], warnings=("kd_feature: faint <b>",)))
    page = Page(written.page.read_text())
    page.check()
    assert [row[0] for row in page.tables["summary"]] == ["answer", "student"]
    assert "There is no control beside it" in page.text
    assert "Warning: kd_feature: faint <b>" in page.text


def test_seeds_without_a_result_are_listed(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [0.5, 0.6])
    (folder / "1" / "result.json").unlink()
    (folder / "1" / "failed.json").write_text(json.dumps({"error": "RuntimeError: boom"}))
    page = Page(write_report(folder).page.read_text())
    assert page.tables["failures-table"][1:] == [["2", "RuntimeError: boom"]]
    assert "Not finished: 1 seed; the reasons are listed below." in page.text
