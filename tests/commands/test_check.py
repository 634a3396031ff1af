from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

import gkd_plugin
from gkd_plugin.commands.check import check
from gkd_plugin.config.load import read_config
from gkd_plugin.host import cfg
from gkd_plugin.space import axes
from tests import toy

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


TEACHES = {"kd_response": {"weight": 1.0, "nodes": "all"}}


def teachers(**kd):
    return str(check(toy.values(kd=kd, **TEACHES)))


@pytest.mark.usefixtures("work_folder")
def test_what_a_run_would_refuse_at_its_start():
    Path("results").mkdir()
    Path("results/wide.pt").touch()
    Path("wrong.yaml").write_text("gnn: {layers_mp: two}")
    assert "there is no 'nobody'" in teachers(teacher="nobody")
    assert "there is no 'nobody'" in teachers(teacher=["module", "nobody"])
    assert "wide.pt is not a teacher" in teachers(teacher="wide.pt")
    assert "there is no 'wide.npz'" in teachers(teacher="wide.npz")
    assert "there is no 'gone.yaml'" in teachers(teacher_cfg="gone")
    assert "gnn.layers_mp: 'two' is not allowed" in teachers(teacher_cfg="wrong")
    assert "results/wide.pt is a file" in str(check({**toy.values(), "out_dir": "results/wide.pt"}))
    assert os.listdir("results") == ["wide.pt"], "nothing was written"


@pytest.mark.usefixtures("work_folder")
def test_a_teacher_that_will_be_there_is_not_missed():
    Path("wide.yaml").write_text(yaml.safe_dump(toy.values()))
    Path("narrow.yaml").write_text(yaml.safe_dump(toy.values(kd={"teacher": "wide"}, **TEACHES)))
    assert check(["narrow.yaml", "wide.yaml"]).ok
    assert not check("narrow.yaml").ok
    assert teachers(teacher_cfg="wide").startswith("ok")
    assert teachers(teacher="module").startswith("ok")


@pytest.mark.usefixtures("work_folder")
def test_data_are_looked_at_on_request():
    values = toy.values(dataset={"name": "no_validation"})
    assert check(values).ok
    assert "has no val_mask" in str(check(values, data=True))
    assert check(toy.values(), data=True).ok


def test_thousands_of_students_are_asked_once():
    asked = []
    source = axes.sources["peers"]
    with pytest.MonkeyPatch.context() as patch:
        counting = replace(
            source, members=lambda learner, students: asked.append(learner) or source.members(learner, students)
        )
        patch.setitem(axes.sources._answers, "peers", (counting, "gkd_plugin"))
        assert check({"num_threads": 1, "kd": {"preset": "mutual", "students": 300}}).ok
    assert len(asked) < 1500


def test_long_messages_stay_on_one_line(files):
    lines = str(check([files / "bad.yaml"])).splitlines()
    assert len(lines) == 3 and len(lines[1]) > 150


def test_nothing_is_left_in_the_global_cfg(files):
    before = cfg.clone()
    check([files / "good.yaml", files / "bad.yaml"])
    assert cfg == before


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"metric_best": "f1"}, "metric_best: 'f1' is not measured. Allowed: auto, accuracy"),
        ({"metric_best": "auc"}, "'auc' is not measured"),
        ({"metric_best": "accuracy"}, "ok"),
        ({"metric_agg": "argmin"}, "metric_agg: argmin selects"),
    ],
)
@pytest.mark.usefixtures("work_folder")
def test_the_data_tell_which_metrics_there_are(values, said):
    config = {**toy.values(), "metric_best": "auto", **values}
    assert said in str(check(config, data=True))


@pytest.mark.usefixtures("work_folder")
def test_splits_that_share_nodes_are_warned_of():
    checks = check(toy.values(dataset={"name": "leaky"}), data=True)
    assert checks.ok and "16 nodes are in both the train and the test split" in checks[0].warnings[-1]
    assert "(all of both)" in str(checks)
