"""The seeds of a run: what is shown of several at a time, and what they share."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from gkd_plugin.commands.run import run
from gkd_plugin.commands.seeds import _Together
from gkd_plugin.training.trainer import Trainer
from tests import toy


def test_the_progress_of_several_seeds_is_one() -> None:
    shown: list[tuple[int, int, float]] = []
    together = _Together(lambda *words: shown.append(words), [1, 2])
    for seed, epoch, score in ((1, 1, 0.5), (2, 1, 0.7), (1, 2, math.nan), (2, 2, 0.9), (2, 3, 1.0), (2, 4, 1.0)):
        together.note(seed, epoch, 4, score)
    assert shown == [(1, 4, pytest.approx(0.6)), (2, 4, pytest.approx(0.9)), (3, 4, pytest.approx(1.0))]


@pytest.mark.parametrize("stack", [False, True])
def test_an_own_error_is_said_once_for_all_seeds(
    stack: bool, work_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(self: Trainer, seed: int) -> Any:
        raise ZeroDivisionError("nothing to divide")

    monkeypatch.setattr(Trainer, "run", fail)
    values = toy.values(Path("results"), kd={"stack": stack})
    with pytest.raises(Exception, match="nothing to divide"):
        run(values, repeat=3, name="broken")
    assert [(Path("results/broken") / str(number) / "failed.json").is_file() for number in range(3)] == [True] * 3
    said = capsys.readouterr().err
    assert ("3 stacked" in said) == stack or "epochs" not in said


def test_finished_seeds_are_left_out_of_a_stack(work_folder: Path) -> None:
    values = toy.values(Path("results"), kd={"stack": True})
    first = run(values, repeat=2, name="run", quiet=True)
    more = run(values, repeat=5, name="run", quiet=True)
    assert [result.stacked for result in more.results] == [2, 2, 3, 3, 3]
    assert [each.answers for each in more.results[:2]] == [each.answers for each in first.results]
