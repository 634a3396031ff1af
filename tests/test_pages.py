"""Commands and Python of the pages, in the order in which a reader meets them, in a folder as a clone has it."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import gkd_cli
import gkd_plugin
from tests.test_docs import ROOT

pytestmark = pytest.mark.slow
PAGES = [  # those of one line share a folder: a page may go on from the one before it
    ("start.md",),
    ("python.md", "run_files.md"),
    ("tables.md",),
    ("teachers.md",),
    ("run.md", "oversmoothing.md"),
    ("own_data.md",),
]
NOT_HERE = ("python3 -m venv", ". .venv", "pip install", "export ")
ASIDE = {  # command lines that need what no page makes
    "gkd run --cfg mine.yaml --import custom_graphgym": "a program of the reader's",
}


def steps(page: Path) -> list[tuple[str, str]]:
    """What a page says to do: blocks of Python, and command lines in blocks or indented."""
    found, language, held = [], None, []
    for line in page.read_text().splitlines():
        if mark := re.match(r" *```(\w*)$", line):
            if language is None:
                language, held = mark[1] or "text", []
                continue
            if language == "bash":
                found += [("bash", each) for each in held if each]
            elif language == "python":
                found.append(("python", "\n".join(held)))
            language = None
        elif language is not None:
            held.append(line)
        elif outside := re.match(r"    (gkd .*)$", line):
            found.append(("bash", outside[1]))
    return found


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configurations of this repository with three epochs instead of two hundred."""
    shutil.copytree(ROOT / "graphgym_configs" / "digits", tmp_path / "graphgym_configs" / "digits")
    for path in (tmp_path / "graphgym_configs").rglob("*.yaml"):
        path.write_text(path.read_text().replace("max_epoch: 200", "max_epoch: 3"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GKD_STORE", raising=False)
    return tmp_path


def do(language: str, text: str, names: dict[str, Any]) -> None:
    if language == "python":
        exec(compile(text, "a page", "exec"), names)
    elif text.startswith("gkd ") and "[" not in text and text not in ASIDE:
        short = text.replace("optim.max_epoch 100", "optim.max_epoch 3").replace("--repeat 5", "--repeat 1")
        done = CliRunner().invoke(gkd_cli.main, shlex.split(short)[1:])
        assert done.exit_code == 0, f"{text}\n{done.output[-3000:]}"
    else:
        assert text.startswith(("gkd ", *NOT_HERE)), f"nobody runs: {text}"


@pytest.mark.parametrize("pages", PAGES, ids="-".join)
def test_what_pages_say_runs(pages: tuple[str, ...], clone: Path) -> None:
    if "tables.md" in pages:  # it reads a study
        Path("g.txt").write_text("kd.preset preset [supervised, mutual]\nkd.students students 2\n")
        base, study = "graphgym_configs/digits/supervised.yaml", {"repeat": 1, "workers": 0, "name": "digits_grid_g"}
        outcome = gkd_plugin.grid(base, "g.txt", ["out_dir", "results"], quiet=True, **study)
        assert not outcome.failed
    for page in pages:
        names: dict[str, Any] = {}
        todo = steps(ROOT / "docs" / page)
        assert todo, page
        for language, text in todo:
            do(language, text, names)
        check(page, names)


def check(page: str, names: dict[str, Any]) -> None:
    """What the reader then has."""
    if page == "start.md":
        assert Path("results/digits/glnn/report.html").is_file()
        assert Path("results/digits/warmer-control/2/result.json").is_file()
    elif page == "run_files.md":
        assert len(names["rows"]) == 3 and "s2_accuracy" in names["rows"][0]
    elif page == "tables.md":
        assert list(names["report"].comparison["preset"]) == ["mutual"] and Path("differences.png").is_file()
    elif page == "oversmoothing.md":
        assert names["near"] >= 0 and float(names["energy"]) >= 0
    elif page == "own_data.md":
        assert "200" in str(gkd_plugin.describe_data("mine"))
