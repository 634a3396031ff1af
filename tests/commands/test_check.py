from __future__ import annotations

import pytest

import gkd_plugin
from gkd_plugin.commands.check import check
from gkd_plugin.config.load import read_config
from gkd_plugin.host import cfg

GOOD = {"num_threads": 1, "train": {"eval_period": 1}, "kd": {"preset": "oc"}}


@pytest.fixture
def files(tmp_path):
    (tmp_path / "good.yaml").write_text("num_threads: 1\ntrain: {eval_period: 1}\nkd: {preset: oc}\n")
    (tmp_path / "bad.yaml").write_text("kd: {preset: ocs, students: 0}\n")
    return tmp_path


def test_one_result_for_each_file(files):
    checks = check([files / "good.yaml", files / "bad.yaml", files / "missing.yaml"])
    assert [checked.error is None for checked in checks] == [True, False, False]
    assert not checks.ok
    assert [problem.key for problem in checks[1].problems] == ["kd.preset", "kd.students"]
    text = str(checks)
    assert text.count("wrong") == 2 and "(oc, 2 students, labels + 1 structure)" in text
    assert "kd.students" in text and "missing.yaml does not exist" in text
    assert len(repr(checks)) < 100


def test_overrides_reach_every_file(files):
    checks = check([files / "good.yaml", files / "bad.yaml"], ["kd.preset", "mutual", "kd.students", "3"])
    assert checks.ok and [checked.config.plan.students for checked in checks] == [3, 3]


def test_a_single_one_and_values_will_do():
    assert check(GOOD).ok
    assert check(read_config(GOOD)).ok
    assert gkd_plugin.check(GOOD).ok
    assert str(check(GOOD)).startswith("ok     config")


def test_warnings_are_no_mistakes():
    checks = check({**GOOD, "train": {"eval_period": 5}})
    assert checks.ok and "warning: train.eval_period 5" in str(checks)
    assert len(checks[0].warnings) == 1


def test_long_messages_stay_on_one_line(files):
    lines = str(check([files / "bad.yaml"])).splitlines()
    assert len(lines) == 3 and len(lines[1]) > 150


def test_nothing_is_left_in_the_global_cfg(files):
    before = cfg.clone()
    check([files / "good.yaml", files / "bad.yaml"])
    assert cfg == before
