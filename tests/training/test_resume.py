"""An interrupted run ends as an uninterrupted one, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from gkd_plugin.commands.run import run
from gkd_plugin.training.checkpoint import Checkpoints
from gkd_plugin.training.trainer import Trainer

EPOCHS = 8


class Stop(KeyboardInterrupt):
    """As if the user pressed Ctrl-C."""


def configuration(tmp_path: Path, **groups: Any) -> Path:
    values: dict[str, Any] = {
        "out_dir": str(tmp_path / "results"),
        "tensorboard_agg": False,
        "num_threads": 1,
        "accelerator": "cpu",
        "dataset": {"format": "PyG", "name": "digits", "task": "node", "task_type": "classification"},
        "train": {"mode": "distill", "eval_period": 1, "ckpt_period": 2},
        "gnn": {"layers_post_mp": 1, "dim_inner": 8, "layer_type": "gcnconv", "batchnorm": True, "l2norm": False},
        "optim": {"max_epoch": EPOCHS, "scheduler": "cos"},
        "kd": {"preset": "alignahead_pp", "students": 2},
        "kd_feature": {"projector": "linear"},
    }
    values["gnn"]["dropout"] = 0.5
    for group, keys in groups.items():
        values[group] = {**values.get(group, {}), **keys}
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def interrupt_after(epochs: int, patch: pytest.MonkeyPatch) -> None:
    plain = Trainer._evaluate

    def stopping(self: Trainer, epoch: int, *rest: Any) -> None:
        if epoch == epochs:
            raise Stop
        plain(self, epoch, *rest)

    patch.setattr(Trainer, "_evaluate", stopping)


def rows(folder: Path, split: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / split / "stats.json").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("eta", "time_iter")} for row in found]


def outcome(folder: Path) -> tuple[Any, ...]:
    result = json.loads((folder / "result.json").read_text())
    weights = torch.load(next(folder.glob("student_*.pt")), weights_only=True)
    return result["answers"], rows(folder, "train"), rows(folder, "val"), rows(folder, "test"), weights


def same(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    return a[:4] == b[:4] and all(torch.equal(a[4][name], b[4][name]) for name in b[4])


@pytest.mark.parametrize("update", ["joint", "epoch_alternate"])
@pytest.mark.parametrize("peer_mode", ["eval", "train"])
@pytest.mark.parametrize("stop", [1, 5])
def test_resumed_equals_uninterrupted(update: str, peer_mode: str, stop: int, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    keys = {"preset": "alignahead_pp", "students": 2, "update": update, "peer_mode": peer_mode}
    whole, cut = configuration(tmp_path / "a", kd=keys), configuration(tmp_path / "b", kd=keys)
    run(whole, quiet=True)
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(stop, patch)
        with pytest.raises(KeyboardInterrupt):
            run(cut, quiet=True)
    run(cut, quiet=True)
    assert same(outcome(tmp_path / "a/results/study/0"), outcome(tmp_path / "b/results/study/0"))
    assert not (tmp_path / "b/results/study/0/ckpt").exists()


def test_a_torn_checkpoint_costs_one_checkpoint(tmp_path: Path) -> None:
    path = configuration(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(5, patch)
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
    (tmp_path / "whole").mkdir()
    run(configuration(tmp_path / "whole"), quiet=True)
    assert same(outcome(tmp_path / "whole/results/study/0"), outcome(folder))


def test_only_the_two_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, 1)
    for epoch in range(12):
        checkpoints.save(epoch, {"done": epoch + 1})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch=10.pt", "epoch=11.pt"]
    loaded = checkpoints.load()
    assert loaded == {"done": 12}


def test_a_checkpoint_with_code_in_it_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "hacked",))

    torch.save({"done": Evil()}, tmp_path / "epoch=3.pt")
    assert Checkpoints(tmp_path, 1).load() is None
    assert not (tmp_path / "hacked").exists()


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
