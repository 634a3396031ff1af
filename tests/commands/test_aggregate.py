"""The tables of a run's seeds: a seed with other rows is left out of them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from gkd_plugin.commands.run import run
from tests.running import gkd, result
from tests.toy import config

pytestmark = pytest.mark.usefixtures("toy_data")


def test_a_seed_with_other_rows_is_named_and_left_out_of_the_tables(tmp_path: Path) -> None:
    path = config(tmp_path)
    folder = run(path, repeat=2, quiet=True).folder
    stats = folder / "0" / "val" / "stats.json"
    stats.write_text("".join([*stats.read_text().splitlines(keepends=True)[:2], "\0\0\n"]))
    values, content = result(folder), stats.read_bytes()
    values["files"]["val/stats.json"] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "0" / "result.json").write_text(json.dumps(values))
    done = gkd("--cfg", str(path), "--repeat", "2")
    assert done.exit_code == 0, done.output
    assert f"{folder / '0'}: its rows (train 4, val 2)" in done.output and "left out" in done.output
    score = result(folder, 1)["answers"]["best"]["test"]
    assert json.loads((folder / "agg" / "test" / "best.json").read_text())["accuracy"] == pytest.approx(score, abs=1e-4)
