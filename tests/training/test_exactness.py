"""Switched off, the plugin is the host digit for digit; a cohort's student 1 is the host's run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch_geometric import seed_everything
from torch_geometric.graphgym.model_builder import GraphGymModule, create_model
from torch_geometric.graphgym.train import GraphGymDataModule

from gkd_plugin import host
from gkd_plugin.config.load import read_config
from gkd_plugin.host import cfg
from gkd_plugin.training import graphgym
from tests import toy

pytestmark = pytest.mark.usefixtures("toy_data")

EPOCHS = 20
NOTHING = (
    1e-300  # a weight whose products are 0 in single precision: all is built, read and drawn, and nothing is added
)
BASE = toy.values(
    dataset={"format": "PyG", "name": "digits"},
    train={"sampler": "full_batch", "enable_ckpt": False},
    model={"type": "gnn", "loss_fun": "cross_entropy"},
    gnn={"dim_inner": 16},
    optim={"optimizer": "adam", "base_lr": 0.01, "max_epoch": EPOCHS, "scheduler": "cos"},
)


def hosts_losses(own: Any, tmp_path: Path) -> list[tuple[str, float]]:
    """(split, loss) of every step of the host's own Lightning training, the untrained sanity check left out."""
    found: list[tuple[str, float]] = []
    plain = GraphGymModule._shared_step

    def spy(self: Any, batch: Any, split: str) -> Any:
        out = plain(self, batch, split)
        found.append((split, float(out["loss"].detach())))
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
        trainer = graphgym.make_trainer(graphgym.resolve(cfg), model, loaders, [])
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


def configuration(data_dir: Path, name: str, **groups: Any) -> Any:
    base = toy.merge(BASE, {"dataset": {"name": name, "dir": str(data_dir)}})
    return read_config(toy.merge(base, groups)).cfg


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


TERMS: dict[str, dict[str, Any]] = {
    "kd_structure": {"weight": NOTHING, "domain": "all_pairs", "samples": 12, "layer_map": "shift"},
    "kd_feature": {"weight": NOTHING, "projector": "linear", "layer_map": "attention"},
    "kd_response": {"weight": NOTHING},
    "kd_contrast": {"weight": NOTHING, "samples": 10, "dim": 8},
    "kd_auxiliary": {"weight": NOTHING, "soft_weight": NOTHING, "soft_source": "peers", "head": "gnn"},
}


def on_toy(name: str, **groups: Any) -> Any:
    """A configuration on a toy data set; seven epochs."""
    dataset = {"format": "toy", "name": name, **groups.pop("dataset", {})}
    optim = {"max_epoch": 7, **groups.pop("optim", {})}
    return configuration(Path(), name, dataset=dataset, optim=optim, **groups)


@pytest.mark.parametrize("update", ["joint", "step_alternate", "epoch_alternate"])
@pytest.mark.parametrize("peer_mode", ["eval", "train"])
@pytest.mark.parametrize("name", ["nodes", "many"])
def test_terms_that_add_nothing_leave_student_one_the_host_s_run(
    name: str, peer_mode: str, update: str, tmp_path: Path
) -> None:
    """Peers read, nodes sampled, heads and projections built: none of it may be seen in student 1's random stream."""
    kd = {"students": 3, "update": update, "peer_mode": peer_mode}
    own = on_toy(name, kd=kd, gnn={"batchnorm": True}, train={"batch_size": 2}, **TERMS)
    theirs = hosts_losses(own, tmp_path)
    assert len(theirs) == 7 * 2 * (3 if name == "many" else 1)
    assert our_losses(own, tmp_path) == theirs


@pytest.mark.parametrize("kd", [{}, {"students": 2, "preset": "mutual"}], ids=["supervised", "cohort"])
def test_mini_batches_of_several_graphs_equal_the_host(kd: dict[str, Any], tmp_path: Path) -> None:
    own = on_toy("many", kd=kd, kd_response={"weight": 0}, train={"batch_size": 2})
    ours = our_losses(own, tmp_path)
    assert ours == hosts_losses(own, tmp_path)
    assert len({loss for split, loss in ours if split == "train"}) == 7 * 3


@pytest.mark.parametrize("name", ["nodes", "many"])
def test_evaluating_less_often_changes_no_training_step(name: str, tmp_path: Path) -> None:
    """For networks that draw nothing in evaluation; the host itself evaluates in every epoch."""
    own = on_toy(name, train={"eval_period": 3, "batch_size": 2})
    theirs, ours = hosts_losses(own, tmp_path), our_losses(own, tmp_path)
    batches = 3 if name == "many" else 1
    assert [loss for split, loss in ours if split == "train"] == [loss for split, loss in theirs if split == "train"]
    validated = [loss for split, loss in theirs if split == "val"]
    due = [epoch for epoch in range(7) if epoch in (0, 2, 5, 6)]
    expected = [loss for epoch in due for loss in validated[epoch * batches : (epoch + 1) * batches]]
    assert [loss for split, loss in ours if split == "val"] == expected


@pytest.mark.parametrize("students", [1, 2])
def test_a_network_that_draws_in_evaluation(students: int, tmp_path: Path) -> None:
    """The reading of student 1 for its peers draws from a stream of its own, its evaluation from the global one."""
    own = on_toy(
        "edge_features",
        dataset={"edge_dim": 4},
        gnn={"layer_type": "generalsampleedgeconv", "keep_edge": 0.5, "dropout": 0.3},
        kd={"students": students},
        kd_feature={"weight": NOTHING},
    )
    ours = our_losses(own, tmp_path)
    assert ours == hosts_losses(own, tmp_path)
    assert len({loss for _, loss in ours}) == 14


def test_the_second_student_differs_and_does_not_depend_on_the_first_one_s_stream(tmp_path: Path) -> None:
    """Under weights of 0 student 2 is a run of its own: the same beside one student or two."""
    two = on_toy("nodes", kd={"students": 2, "preset": "mutual"}, kd_response={"weight": 0})
    three = on_toy("nodes", kd={"students": 3, "preset": "mutual"}, kd_response={"weight": 0})
    second = our_losses(two, tmp_path, student=2)
    assert second == our_losses(three, tmp_path, student=2)
    assert second != our_losses(two, tmp_path)


@pytest.mark.parametrize("students", [1, 2])
@pytest.mark.parametrize("name", ["nodes", "many"])
@pytest.mark.filterwarnings("ignore")
def test_loaders_with_workers(name: str, students: int, tmp_path: Path) -> None:
    """The host keeps its workers, which draw when they start; validation's start unseen, in its sanity check."""
    kd = {"students": students, "update": "epoch_alternate"}
    feature = {"weight": NOTHING if students > 1 else 0}
    own = on_toy(name, num_workers=1, train={"batch_size": 2}, optim={"max_epoch": 3}, kd=kd, kd_feature=feature)
    assert our_losses(own, tmp_path) == hosts_losses(own, tmp_path)
