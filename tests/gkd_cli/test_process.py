from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gkd_cli.process import show

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize("target", ["/dev/full", None])
def test_an_output_that_nobody_reads_is_no_failure(target, monkeypatch):
    if target and not os.path.exists(target):
        pytest.skip(f"this system has no {target}")
    monkeypatch.setattr(sys, "stdout", open(target, "w") if target else None)
    show("done")
    assert target is None or sys.stdout.name == os.devnull  # what follows has somewhere to go


def test_a_narrow_encoding_shows_stand_ins(tmp_path):
    (tmp_path / "f.yaml").write_text("kd: {preset: alignahead_pp}\n")
    for encoding, word in (("cp1252", "sum D_structure"), ("utf-8", "Σ D_structure")):
        env = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "gkd_cli", "explain", "f.yaml"]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True)
        assert done.returncode == 0, done.stderr
        assert word in done.stdout.decode(encoding)
