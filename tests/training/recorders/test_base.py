"""Records that go on after an interruption."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gkd_plugin.training.recorders.gradients import Diagnostics
from gkd_plugin.training.recorders.learned_maps import LearnedMaps
from tests.running import snapshot


@pytest.mark.parametrize(("name", "make"), [("diagnostics.json", Diagnostics), ("attention.json", LearnedMaps)])
def test_records_are_cut_beside_and_moved(
    name: str, make: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "".join(json.dumps({"epoch": epoch, "student": 1}) + "\n" for epoch in (0, 20, 40))
    (tmp_path / name).write_text(text)

    def full(_: int) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            make(tmp_path).resume(21)
    assert snapshot(tmp_path) == {name: text.encode()}
    make(tmp_path).resume(21)
    assert [json.loads(line)["epoch"] for line in (tmp_path / name).read_text().splitlines()] == [0, 20]
