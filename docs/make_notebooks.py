"""Executes the notebooks of docs/notebooks/ anew and stores their output: python docs/make_notebooks.py [NAME...]

Needs the extra `docs`. Each runs in an empty folder, so that what it shows holds no path of this machine.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent / "notebooks"
ROOT = FOLDER.parent.parent


def execute(path: Path, folder: str | Path) -> nbformat.NotebookNode:
    """The notebook with new output, run in a folder; an error in a cell is raised.

    Args:
        path (Path): The notebook.
        folder (str or Path): Its working folder.
    """
    notebook = nbformat.read(path, as_version=4)
    paths = [str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
    environment["PYTHONWARNINGS"] = "ignore:IProgress not found"  # tqdm misses widgets, and names its own file
    client = NotebookClient(
        notebook, timeout=None, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute(env=environment)
    for cell in notebook.cells:
        cell.metadata.clear()  # times of execution
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return notebook


def write(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        notebook = execute(path, folder)
    path.write_text(nbformat.writes(notebook).replace(f"{folder}/", "") + "\n", encoding="utf-8")


if __name__ == "__main__":
    for path in sorted(FOLDER.glob("*.ipynb")):
        if not sys.argv[1:] or path.stem in sys.argv[1:]:
            write(path)
