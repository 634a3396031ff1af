"""An interrupted run ends as an uninterrupted one, bit for bit; a checkpoint of no use costs one checkpoint."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gkd_plugin.commands.run import run
from gkd_plugin.errors import Diverged, RunFailed, UserError
from gkd_plugin.training.checkpoint import Checkpoints, write_atomically, write_tensors
from gkd_plugin.training.trainer import Trainer
from tests import toy
from tests.running import Code, Stop, outcome, rows, stop_in

pytestmark = pytest.mark.usefixtures("toy_data")

EPOCHS = 8


def configuration(folder: Path, **groups: Any) -> Path:
    cohort: dict[str, Any] = {
        "train": {"ckpt_period": 2},
        "gnn": {"batchnorm": True},
        "optim": {"max_epoch": EPOCHS, "scheduler": "cos"},
        "kd": {"preset": "alignahead_pp", "students": 2},
        "kd_feature": {"projector": "linear"},
    }
    folder.mkdir(exist_ok=True)
    return toy.config(folder, **toy.merge(cohort, groups))


def starts(patch: pytest.MonkeyPatch) -> list[int]:
    """The epochs with which runs begin from now on."""
    found: list[int] = []
    plain = Trainer._resume

    def watched(self: Trainer) -> None:
        plain(self)
        found.append(self.done)

    patch.setattr(Trainer, "_resume", watched)
    return found


@pytest.mark.parametrize("update", ["joint", "epoch_alternate"])
@pytest.mark.parametrize("peer_mode", ["eval", "train"])
@pytest.mark.parametrize("stop", [1, 5])
def test_resumed_equals_uninterrupted(update: str, peer_mode: str, stop: int, tmp_path: Path) -> None:
    keys = {"preset": "alignahead_pp", "students": 2, "update": update, "peer_mode": peer_mode, "measure_period": 3}
    whole, cut = configuration(tmp_path / "a", kd=keys), configuration(tmp_path / "b", kd=keys)
    run(whole, quiet=True)
    with pytest.MonkeyPatch.context() as patch:
        stop_in(stop, patch)
        with pytest.raises(KeyboardInterrupt):
            run(cut, quiet=True)
    run(cut, quiet=True)
    assert outcome(tmp_path / "a/results/study/0") == outcome(tmp_path / "b/results/study/0")
    assert not (tmp_path / "b/results/study/0/ckpt").exists()


def test_a_torn_checkpoint_costs_one_checkpoint(tmp_path: Path) -> None:
    path = configuration(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        stop_in(5, patch)
        with pytest.raises(KeyboardInterrupt):
            run(path, quiet=True)
    folder = tmp_path / "results/study/0"
    newest = folder / "ckpt" / "epoch=3.pt"
    newest.write_bytes(newest.read_bytes()[:100])
    with pytest.MonkeyPatch.context() as patch:
        started = starts(patch)
        run(path, quiet=True)
    assert started == [2]
    run(configuration(tmp_path / "whole"), quiet=True)
    assert outcome(tmp_path / "whole/results/study/0") == outcome(folder)


def test_only_the_two_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, 1)
    for epoch in range(12):
        checkpoints.save(epoch, {"done": epoch + 1})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch=10.pt", "epoch=11.pt"]
    loaded = checkpoints.load()
    assert loaded == {"done": 12}


@pytest.mark.parametrize("write", [lambda file: file.write(b"new"), lambda file: torch.save({"new": 1}, file)])
def test_a_file_is_written_beside_the_old_one_and_moved(write: Any, tmp_path: Path) -> None:
    path = tmp_path / "kept"
    path.write_bytes(b"old")
    order: list[str] = []

    def watched(file: Any) -> None:
        write(file)
        file.flush()
        assert path.read_bytes() == b"old" and Path(file.name).parent == tmp_path, "moving works on one disk only"
        order.append("written")

    with pytest.MonkeyPatch.context() as patch:
        for name in ("fsync", "replace"):
            plain = getattr(os, name)
            patch.setattr(os, name, lambda *args, name=name, plain=plain: (order.append(name), plain(*args))[1])
        write_atomically(path, watched)
    assert order == ["written", "fsync", "replace"], "else a power cut leaves an empty file under the name"
    assert path.read_bytes() != b"old" and [each.name for each in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(error: BaseException, tmp_path: Path) -> None:
    path = tmp_path / "kept.pt"
    write_tensors(path, {"epoch": 3})

    def write(file: Any) -> None:
        file.write(b"half")
        raise error

    with pytest.raises(type(error)):
        write_atomically(path, write)
    assert torch.load(path, weights_only=True) == {"epoch": 3}
    assert [each.name for each in tmp_path.iterdir()] == ["kept.pt"]


def test_tensors_rows_and_results_are_written_beside_and_moved(tmp_path: Path) -> None:
    """Everything of a run but the rows that are appended: nobody ever reads half of a file."""
    moved: list[str] = []
    plain = os.replace

    def watched(old: Any, new: Any) -> None:
        moved.append(Path(new).name)
        plain(old, new)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", watched)
        report = run(configuration(tmp_path), quiet=True)
    files = {path.name for path in (report.folder / "0").rglob("*") if path.is_file()} - {"stats.json"}
    files -= {"diagnostics.json"}  # rows, one by one
    assert "result.json" in files and {"epoch=1.pt", "epoch=3.pt", *files} <= set(moved), files - set(moved)


def test_a_checkpoint_with_code_in_it_is_not_run(work_folder: Path) -> None:
    torch.save({"done": Code()}, work_folder / "epoch=3.pt")
    assert Checkpoints(work_folder, 1).load() is None
    assert not (work_folder / "executed").exists()


def test_early_stop_pads_rows_and_resumes(tmp_path: Path) -> None:
    path = configuration(tmp_path, kd={"preset": "supervised", "patience": 2}, optim={"max_epoch": 40, "base_lr": 0.2})
    report = run(path, repeat=2, quiet=True)
    folder = tmp_path / "results/study"
    assert all(result.epochs < 40 for result in report.results)
    for seed in ("0", "1"):
        for split in ("train", "val"):
            found = rows(folder / seed, split)
            assert [row["epoch"] for row in found] == list(range(40))
            stopped = [row["stopped"] for row in found]
            assert stopped == sorted(stopped) and stopped[0] == 0.0 and stopped[-1] == 1.0
        assert len(rows(folder / seed, "test")) == 1
    for split in ("train", "val", "test"):
        assert (folder / "agg" / split / "best.json").is_file()


# -- what ends a seed, and what it costs --------------------------------------------------------------------------------


def begin(tmp_path: Path, error: BaseException, **groups: Any) -> tuple[Path, Path]:
    """A run that ended with an error in epoch 5; its configuration and its seed's folder."""
    path = configuration(tmp_path, kd={"preset": "supervised", "students": 1}, **groups)
    with pytest.MonkeyPatch.context() as patch:
        stop_in(5, patch, error)
        with pytest.raises((RunFailed, KeyboardInterrupt)):
            run(path, quiet=True)
    return path, tmp_path / "results/study/0"


@pytest.mark.parametrize(
    ("error", "start"),
    [
        (RuntimeError("a layer"), 4),
        (MemoryError(), 4),
        (RunFailed("a part cannot go on"), 4),
        (json.JSONDecodeError("torn", "", 0), 4),
        (Diverged("epoch 5: not finite"), 0),
    ],
)
def test_only_training_that_diverged_loses_its_checkpoints(
    error: Exception, start: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, folder = begin(tmp_path, error)
    assert (folder / "failed.json").is_file() and not (folder / "train").exists()
    found = starts(monkeypatch)
    (result,) = run(path, quiet=True).results
    assert found == [start]
    for split in ("train", "val"):
        assert [row["epoch"] for row in rows(folder, split)] == list(range(EPOCHS))
    whole = configuration(tmp_path / "whole", kd={"preset": "supervised", "students": 1})
    assert run(whole, quiet=True).results[0].answers == result.answers


def drop_entry(folder: Path) -> None:
    newest = folder / "ckpt" / "epoch=3.pt"
    state = torch.load(newest, weights_only=True)
    del state["selection"]
    torch.save(state, newest)


def keep_rows(split: str, *epochs: int) -> Callable[[Path], None]:
    def keep(folder: Path) -> None:
        path = folder / split / "stats.json"
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(lines[epoch] for epoch in epochs))

    return keep


def tear_row(folder: Path) -> None:
    path = folder / "train" / "stats.json"
    lines = path.read_text().splitlines(keepends=True)
    path.write_bytes("".join([*lines[:3], "\0" * 30 + "\n", *lines[4:]]).encode())


@pytest.mark.parametrize(
    ("damage", "start", "said"),
    [
        (
            lambda folder: (folder / "ckpt/epoch=3.pt").write_bytes(b""),
            2,
            "epoch=3.pt is not used.*epoch=1.pt is tried",
        ),
        (lambda folder: torch.save([1], folder / "ckpt/epoch=3.pt"), 2, "not one of ours"),
        (lambda folder: (folder / "ckpt/epoch=5 (1).pt").write_text("a copy"), 4, None),
        (lambda folder: (folder / "ckpt/epoch=last.pt").write_text("mine"), 4, None),
        (drop_entry, 2, "it has no selection; epoch=1.pt is tried"),
        (keep_rows("train", 0, 1, 3), 2, "train/stats.json has no row of epoch 2; epoch=1.pt is tried"),
        (keep_rows("val", 0, 1, 2, 2, 3), 2, "has 2 rows of epoch 2"),
        (tear_row, 2, "has no row of epoch 3"),
        (keep_rows("val", 1, 2, 3), 0, "epoch=1.pt is not used: .* has no row of epoch 0; training starts anew"),
        (lambda folder: (folder / "train/stats.json").unlink(), 0, "training starts anew"),
    ],
)
def test_a_checkpoint_of_no_use_costs_one_checkpoint(
    damage: Callable[[Path], Any],
    start: int,
    said: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path, folder = begin(tmp_path, Stop())
    damage(folder)
    found = starts(monkeypatch)
    run(path, quiet=True)
    assert found == [start]
    lines = [record.getMessage() for record in caplog.records]
    assert not lines if said is None else re.search(said, "\n".join(lines))
    for split in ("train", "val"):
        assert [row["epoch"] for row in rows(folder, split)] == list(range(EPOCHS))
    kept = [path.name for path in (folder / "ckpt").iterdir()] if (folder / "ckpt").is_dir() else []
    assert all(name in ("epoch=5 (1).pt", "epoch=last.pt") for name in kept) and bool(kept) == (said is None)


@pytest.mark.parametrize("part", ["shape", "count", "optimizer", "random"])
def test_a_checkpoint_that_does_not_fit_is_the_users_and_is_left_alone(part: str, tmp_path: Path) -> None:
    path, folder = begin(tmp_path, Stop())
    newest = folder / "ckpt" / "epoch=3.pt"
    state = torch.load(newest, weights_only=True)
    if part == "shape":
        weights = state["students"][0]["model"]
        weights.update({name: value[:1] for name, value in weights.items() if value.dim()})
    elif part == "count":
        state["students"] *= 2
    elif part == "optimizer":
        del state["students"][0]["optimizer"]
    else:
        state["random"] = {"torch": []}
    torch.save(state, newest)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="does not fit: .*Remove the folder ckpt of that seed"):
        run(path, quiet=True)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_what_is_older_than_a_newer_one_of_no_use_is_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for name in ("epoch=7.pt", "epoch=9.pt"):
        (tmp_path / name).write_text("torn")
    for epoch in (1, 2):
        checkpoints.save(epoch, {"done": epoch + 1})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch=1.pt", "epoch=2.pt"]


class Odd:
    """Pickled, but not read with ``weights_only=True``."""


@pytest.mark.parametrize("value", [Odd(), lambda: None, np.random.default_rng(0), {"deep": [np.float64(1)]}, {1: open}])
@pytest.mark.parametrize("source", ["ema", "mine"])
def test_a_state_that_cannot_be_read_again_names_its_source(source: str, value: Any, tmp_path: Path) -> None:
    state = {"done": 1, "sources": {"fine": {"a": torch.ones(2)}, source: {"x": value}}}
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(RunFailed, match=rf"state of the source '{source}'.*tensors.*train\.enable_ckpt"):
        checkpoints.save(0, state)
    assert list(tmp_path.iterdir()) == []


def test_a_plain_state_is_read_back_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []
    plain = torch.load
    monkeypatch.setattr(torch, "load", lambda *args, **keys: (read.append(args), plain(*args, **keys))[1])
    checkpoints = Checkpoints(tmp_path)
    for epoch in range(3):
        checkpoints.save(epoch, {"sources": {"mine": {"a": torch.ones(2), "b": [1, "x", None]}}})
    assert len(read) == 1
