"""Switched off, the plugin is the host digit for digit; a cohort's student 1 is the host's run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch_geometric import seed_everything
from torch_geometric.graphgym.model_builder import GraphGymModule, create_model
from torch_geometric.graphgym.train import GraphGymDataModule

from gkd_plugin import host
from gkd_plugin.config.read import read_config
from gkd_plugin.host import cfg
from gkd_plugin.training import doors

EPOCHS = 20
BASE: dict[str, Any] = {
    "tensorboard_agg": False,
    "num_threads": 1,
    "accelerator": "cpu",
    "dataset": {"format": "PyG", "name": "digits", "task": "node", "task_type": "classification"},
    "train": {"mode": "distill", "sampler": "full_batch", "eval_period": 1, "enable_ckpt": False},
    "model": {"type": "gnn", "loss_fun": "cross_entropy"},
    "gnn": {
        "layers_mp": 2,
        "layers_post_mp": 1,
        "dim_inner": 16,
        "layer_type": "gcnconv",
        "batchnorm": False,
        "l2norm": False,
        "dropout": 0.5,
    },
    "optim": {"optimizer": "adam", "base_lr": 0.01, "max_epoch": EPOCHS, "scheduler": "cos"},
}


def hosts_losses(own: Any, tmp_path: Path) -> list[tuple[str, float]]:
    """(split, loss) of every step of the host's own Lightning training, the untrained sanity check left out."""
    found: list[tuple[str, float]] = []
    plain = GraphGymModule._shared_step

    def spy(self: Any, batch: Any, split: str) -> Any:
        out = plain(self, batch, split)
        found.append((split, float(out["loss"])))
        return out

    with host.scoped(own), pytest.MonkeyPatch.context() as patch:
        cfg.out_dir = cfg.run_dir = str(tmp_path / "host")
        cfg.seed = 1
        seed_everything(cfg.seed)
        data = GraphGymDataModule()
        model = create_model()
        cfg.params = 1
        patch.setattr(GraphGymModule, "_shared_step", spy)
        cfg.train.mode = "standard"
        from torch_geometric.graphgym.train import train

        train(model, data, logger=False, trainer_config={"enable_progress_bar": False, "logger": False})
    first = next(index for index, (split, _) in enumerate(found) if split == "train")
    return [step for step in found[first:] if step[0] != "test"]


def our_losses(own: Any, tmp_path: Path, student: int = 1) -> list[tuple[str, float]]:
    """The same of one student of our loop."""
    found: list[tuple[str, float]] = []
    with host.scoped(own):
        cfg.out_dir = cfg.run_dir = str(tmp_path / "ours")
        cfg.seed = 1
        seed_everything(cfg.seed)
        loaders = GraphGymDataModule().loaders
        model = create_model()
        trainer = doors.make_trainer(doors.resolve(cfg), model, loaders, [])
        train, validate = trainer.updates.epoch, trainer._validate

        def trained(*args: Any) -> Any:
            outcomes = train(*args)
            found.extend(("train", loss) for loss in outcomes[student - 1].losses)
            return outcomes

        def validated(epoch: int) -> Any:
            outcomes = validate(epoch)
            found.extend(("val", loss) for loss in outcomes[student - 1].losses)
            return outcomes

        trainer.updates.epoch, trainer._validate = trained, validated  # type: ignore[method-assign]
        trainer.run(1)
    return found


def configuration(data_dir: Path, name: str, **groups: dict[str, Any]) -> Any:
    values = {**BASE, "dataset": {**BASE["dataset"], "name": name, "dir": str(data_dir)}}
    for group, keys in groups.items():
        values[group] = {**values.get(group, {}), **keys}
    return read_config(values).cfg


@pytest.mark.parametrize("name", ["digits", "Cora"])
def test_supervised_gives_the_losses_of_the_host_s_own_training(name: str, data_dir: Path, tmp_path: Path) -> None:
    own = configuration(data_dir, name)
    theirs, ours = hosts_losses(own, tmp_path), our_losses(own, tmp_path)
    assert len(ours) == 2 * EPOCHS
    assert ours == theirs


@pytest.mark.parametrize("update", ["joint", "step_alternate", "epoch_alternate"])
@pytest.mark.parametrize("preset", ["alignahead_pp", "mutual"])
def test_student_one_of_three_with_all_weights_zero_is_the_host_s_run(
    update: str, preset: str, data_dir: Path, tmp_path: Path
) -> None:
    own = configuration(
        data_dir,
        "digits",
        kd={"preset": preset, "students": 3, "update": update},
        kd_structure={"weight": 0},
        kd_feature={"weight": 0},
        kd_response={"weight": 0},
        kd_auxiliary={"weight": 0},
    )
    assert our_losses(own, tmp_path) == hosts_losses(own, tmp_path)


def test_marked_layers_at_weight_zero_are_the_plain_run(data_dir: Path, tmp_path: Path) -> None:
    plain = configuration(data_dir, "digits")
    marked = configuration(data_dir, "digits", gnn={"layer_type": "aux_gcnconv"}, kd_auxiliary={"weight": 0})
    assert our_losses(marked, tmp_path) == our_losses(plain, tmp_path)


def test_distillation_changes_student_one(data_dir: Path, tmp_path: Path) -> None:
    """The tests above could not fail if nothing were ever added to the loss."""
    on = configuration(data_dir, "digits", kd={"preset": "alignahead"}, kd_structure={"weight": 100})
    off = configuration(data_dir, "digits", kd={"preset": "alignahead"}, kd_structure={"weight": 0})
    with_kd, without = our_losses(on, tmp_path), our_losses(off, tmp_path)
    assert with_kd[0] == without[0]  # the first forward is the same
    assert with_kd[-1] != without[-1]
