"""Rows that were written one by one, read back after a crash: a line that cannot be read is none."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def read_rows(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Every whole row of a file with the text of its line.

    Args:
        path (Path): The file, which need not be there.
    """
    found: list[tuple[str, dict[str, Any]]] = []
    text = path.read_text(errors="replace") if path.is_file() else ""
    for line in text.split("\n"):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and isinstance(row.get("epoch"), int):
            found.append((line, row))
    return found


def find_gap(path: Path, epochs: Iterable[int], before: int) -> str | None:
    """What is wrong with the rows of a file; ``None`` where each of these epochs has one row and no other has any.

    Args:
        path (Path): The file.
        epochs (iterable of int): The epochs that were written.
        before (int): Rows from this epoch on do not matter.
    """
    there = Counter(row["epoch"] for _, row in read_rows(path) if row["epoch"] < before)
    wanted = set(epochs)
    wrong = sorted(epoch for epoch in {*wanted, *there} if there[epoch] != (epoch in wanted))
    if not wrong:
        return None
    epoch = wrong[0]
    return f"{path} has {there[epoch] or 'no'} row{'s' if there[epoch] > 1 else ''} of epoch {epoch}"
