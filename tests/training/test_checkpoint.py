"""An interrupted run ends as an uninterrupted one, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from gkd_plugin.commands.run import run
from gkd_plugin.training.checkpoint import Checkpoints
from gkd_plugin.training.trainer import Trainer
from tests import toy
from tests.running import Code, outcome, rows, stop_in

pytestmark = pytest.mark.usefixtures("toy_data")


def configuration(folder: Path, **groups: Any) -> Path:
    cohort: dict[str, Any] = {
        "train": {"ckpt_period": 2},
        "gnn": {"batchnorm": True},
        "optim": {"max_epoch": 8, "scheduler": "cos"},
        "kd": {"preset": "alignahead_pp", "students": 2},
        "kd_feature": {"projector": "linear"},
    }
    folder.mkdir(exist_ok=True)
    return toy.config(folder, **toy.merge(cohort, groups))


@pytest.mark.parametrize("update", ["joint", "epoch_alternate"])
@pytest.mark.parametrize("peer_mode", ["eval", "train"])
@pytest.mark.parametrize("stop", [1, 5])
def test_resumed_equals_uninterrupted(update: str, peer_mode: str, stop: int, tmp_path: Path) -> None:
    keys = {"preset": "alignahead_pp", "students": 2, "update": update, "peer_mode": peer_mode}
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
    started = []
    with pytest.MonkeyPatch.context() as patch:
        plain = Trainer._resume

        def watched(self: Trainer) -> None:
            plain(self)
            started.append(self.done)

        patch.setattr(Trainer, "_resume", watched)
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
