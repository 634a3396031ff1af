"""One seed that fails leaves the others alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gkd_plugin.commands.run import run
from gkd_plugin.errors import RunFailed, UserError
from tests.running import break_seeds, gkd
from tests.toy import config

pytestmark = pytest.mark.usefixtures("toy_data")


@pytest.mark.parametrize("error", [RuntimeError("a layer.\nMore"), MemoryError(), KeyError("weight"), RunFailed("nan")])
def test_any_error_ends_its_seed_only(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = config(tmp_path)
    begun = break_seeds(monkeypatch, error)
    done = gkd("--cfg", str(path), "--repeat", "3", "--control")
    assert done.exit_code == 1 and begun == [1, 2, 3, 1, 2, 3]
    assert "seed 2 failed" in done.output and "control seed 2 failed" in done.output
    assert "Traceback" not in done.output
    folder = tmp_path / "results" / "study"
    kept = json.loads((folder / "1" / "failed.json").read_text())
    assert kept["error"] in done.output
    if isinstance(error, RunFailed):
        assert kept == {"error": "nan"}
    else:
        assert "Traceback" in kept["traceback"] and type(error).__name__ in kept["error"]
        assert "running.py, line" in kept["error"] and "\n" not in kept["error"]
    assert json.loads((folder / "comparison.json").read_text())["seeds"] == [1, 3]


@pytest.mark.parametrize("error", [UserError("no such loss"), KeyboardInterrupt()])
def test_mistakes_and_the_user_stop_all(error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = break_seeds(monkeypatch, error)
    with pytest.raises(type(error)):
        run(config(tmp_path), repeat=3, control=True, quiet=True)
    assert begun == [1, 2]
    assert sorted(path.name for path in (tmp_path / "results" / "study").iterdir()) == ["0", "config.yaml", "plan.yaml"]
