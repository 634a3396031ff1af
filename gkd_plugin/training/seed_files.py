"""What a finished seed left behind, with lengths and digests, so that damage is found before it gets into a table."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

from gkd_plugin.errors import UserError
from gkd_plugin.training.result import REMEDY, RESULT, RunResult, read_result
from gkd_plugin.training.rows import read_rows

SPLITS = ("train", "val", "test")
FILES = "files"  # the key in result.json
_ROUNDED = 1e-3  # what rounding may take from a score
SINGLE = "best_single.pt"  # of an ensemble's best student, at its own epoch; student_<n>.pt are those of the ensemble's
LISTED = (*(f"{split}/stats.json" for split in SPLITS), "student_*.*", SINGLE, "diagnostics.json", "attention.json")


def list_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Length and digest of every file that a seed's numbers lie in, for its ``result.json``.

    Args:
        folder (Path): The seed's folder.
    """
    paths = sorted(path for pattern in LISTED for path in folder.glob(pattern) if path.is_file())
    return {path.relative_to(folder).as_posix(): _measure(path) for path in paths}


def find_damage(folder: Path) -> str | None:
    """The damage in a finished seed and the remedy; ``None`` without damage, or where the seed is not finished.

    Args:
        folder (Path): The seed's folder.
    """
    try:
        result = read_result(folder)
        if result is None:
            return None
        listed = json.loads((folder / RESULT).read_text()).get(FILES)
        found = _compare(folder, listed) if isinstance(listed, dict) else _check_rows(folder, result)
        found = found or _check_test(folder, result)
    except UserError as error:
        found = str(error).removesuffix(REMEDY).rstrip()  # the one below says which folder
    except OSError as error:
        found = f"{error.filename or folder} cannot be read ({error.strerror})"
    if found is None:
        return None
    return f"{found.rstrip('.')}. The seed is left out of every table. Remove {folder} and run the same command again."


def is_as_written(path: Path) -> bool:
    """Whether a file of a seed's folder has the content that its result lists; true where it lists none.

    Args:
        path (Path): The file, whose folder has a result or is one of the host's own program.
    """
    try:
        listed = json.loads((path.parent / RESULT).read_text()).get(FILES)
    except (OSError, ValueError, AttributeError):
        return True
    known = listed.get(path.name) if isinstance(listed, dict) else None
    return known is None or known == _measure(path)


def _measure(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _compare(folder: Path, listed: dict[str, Any]) -> str | None:
    for name, expected in listed.items():
        path = folder / name
        if not path.is_file():
            return f"{path} is missing"
        found = _measure(path)
        if found != expected:
            size = expected.get("bytes") if isinstance(expected, dict) else None
            if size is not None and size != found["bytes"]:
                return f"{path} is damaged: it has {found['bytes']} bytes, {size} were written"
            return f"{path} is damaged: its content is not what was written"
    return None


def _check_test(folder: Path, result: RunResult) -> str | None:
    """Nothing vouches for ``result.json`` itself; its test score stands in the test row, too, rounded by whoever wrote it."""
    path = folder / "test" / "stats.json"
    row = next((row for _, row in read_rows(path)), {})
    shown = row.get(f"{result.predict}_{result.metric}", row.get(result.metric))
    if not isinstance(shown, (int, float)) or not math.isfinite(shown) or not math.isfinite(result.answer.test):
        return None
    if math.isclose(shown, result.answer.test, rel_tol=_ROUNDED, abs_tol=_ROUNDED):
        return None
    return f"{folder / RESULT} is damaged: its test score is {result.answer.test:g}, that of {path} is {shown:g}"


def _check_rows(folder: Path, result: RunResult) -> str | None:
    """Results of earlier versions list no files; their rows must at least be whole."""
    tested = result.answer.test == result.answer.test
    for split in SPLITS if tested else SPLITS[:2]:
        path = folder / split / "stats.json"
        if not path.is_file():
            return f"{path} is missing"
        try:
            epochs = [int(json.loads(line)["epoch"]) for line in path.read_text().splitlines()]
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return f"{path} is damaged: a row cannot be read"
        if len(set(epochs)) < len(epochs):
            return f"{path} is damaged: an epoch appears twice"
        if len(epochs) < (result.epochs if split == "train" else 1):
            return f"{path} is damaged: rows are missing"
    return None
