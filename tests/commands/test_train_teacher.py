"""``kd.teacher_cfg``: a teacher that is trained first, from a YAML of its own."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from gkd_plugin.commands.run import run
from tests.running import BIG, refused, student, teach, trained
from tests.toy import config

pytestmark = pytest.mark.usefixtures("work_folder")


def test_a_teacher_is_trained_once_for_all_students(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config(tmp_path, "wide", **BIG)
    done = trained(monkeypatch)
    keys = {"teacher": None, "teacher_cfg": "wide.yaml"}
    run(student(tmp_path, "first", kd=keys), quiet=True)
    assert done == ["wide/0", "first/0"]
    run(student(tmp_path, "second", kd=keys, num_threads=2), repeat=2, quiet=True)
    assert done[2:] == ["wide/1", "second/0", "second/1"]
    run(student(tmp_path, "third", kd={**keys, "teacher_seed": 4}), quiet=True)
    assert done[5:] == ["wide/4", "third/0"]
    run(student(tmp_path, "fourth", kd={**keys, "teacher_seed": "best"}), quiet=True)
    assert done[7:] == ["fourth/0"]
    run(student(tmp_path, "fifth", kd={"teacher": "other", "teacher_cfg": "wide"}), quiet=True)
    assert done[8:] == ["other/0", "fifth/0"]


def test_a_student_waits_for_a_teacher_that_another_process_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config(tmp_path, "wide", **BIG)
    path = student(tmp_path, kd={"teacher": None, "teacher_cfg": "wide.yaml"})
    teacher = teach(tmp_path)
    teacher.rename(tmp_path / "made")
    teacher.mkdir()
    lock = FileLock(teacher.parent / ".wide.lock")
    lock.acquire()
    done = trained(monkeypatch)
    other = threading.Thread(target=run, args=(path,), kwargs={"quiet": True})
    other.start()
    other.join(timeout=1)
    assert other.is_alive() and not done
    shutil.copytree(tmp_path / "made", teacher, dirs_exist_ok=True)
    lock.release()
    other.join(timeout=60)
    assert done == ["narrow/0"]


def test_a_teachers_yaml_that_changed_since_is_told(tmp_path: Path) -> None:
    config(tmp_path, "wide", **BIG)
    keys = {"teacher": None, "teacher_cfg": "wide.yaml"}
    run(student(tmp_path, kd=keys), quiet=True)
    config(tmp_path, "wide", gnn={"dim_inner": 12}, optim={"max_epoch": 6})
    text = refused(student(tmp_path, "later", kd=keys))
    assert "kd.teacher_cfg" in text and "gnn.dim_inner: was 16, now 12" in text and "kd.teacher: NAME" in text


def test_a_teachers_yaml_is_checked_before_anything_is_trained(tmp_path: Path) -> None:
    keys = {"teacher": None, "teacher_cfg": "wide.yaml"}
    text = refused(student(tmp_path, kd=keys))
    assert "kd.teacher_cfg: there is no 'wide.yaml'" in text and str(tmp_path) in text
    config(tmp_path, "wide", gnn={"dim_iner": 3})
    assert "gnn.dim_iner" in refused(student(tmp_path, kd=keys))
    config(tmp_path, "wide", dataset={"name": "no_masks"})
    assert "no_masks" in refused(student(tmp_path, kd=keys))
    student(tmp_path, "wide", kd={"teacher": None, "teacher_cfg": "narrow"})
    assert "its own teacher (narrow.yaml -> wide.yaml -> narrow.yaml)" in refused(student(tmp_path, kd=keys))
