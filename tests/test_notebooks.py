"""The notebooks of docs/, run anew in an empty folder by the script that stores their output; an error in a cell fails."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("nbclient", reason="the extra [docs] is not installed")
pytest.importorskip("ipykernel", reason="the extra [docs] is not installed")

from tests.test_docs import ROOT, script

pytestmark = pytest.mark.slow
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    before = path.read_bytes()
    notebook = script("make_notebooks").execute(path, tmp_path)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert path.read_bytes() == before, "a test writes nothing into docs/"
