"""The update orders against loops written out by hand, step by step, parameters equal."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.data import Data
from torch_geometric.graphgym.model_builder import create_model
from torch_geometric.graphgym.optim import create_optimizer, create_scheduler
from torch_geometric.loader import DataLoader

from gkd_plugin import host
from gkd_plugin.config.resolve import resolve
from gkd_plugin.errors import RunFailed
from gkd_plugin.host import cfg
from gkd_plugin.training.graphgym import make_trainer
from gkd_plugin.training.trainer import Trainer

WEIGHT, EPOCHS, RATE = 0.7, 3, 0.05


def graphs(count: int) -> list[Data]:
    torch.manual_seed(5)
    made = []
    for _ in range(count):
        data = Data(x=torch.randn(9, 4), edge_index=torch.randint(0, 9, (2, 30)), y=torch.randint(0, 3, (9,)))
        for position, split in enumerate(("train", "val", "test")):
            data[f"{split}_mask"] = torch.arange(9) % 3 == position
        made.append(data)
    return made


def configure(update: str, students: int, **keys: Any) -> None:
    cfg.accelerator, cfg.num_threads = "cpu", 1
    cfg.share.dim_in, cfg.share.dim_out, cfg.share.num_splits = 4, 3, 3
    cfg.gnn.head, cfg.gnn.layers_mp, cfg.gnn.layers_post_mp, cfg.gnn.dim_inner = "node", 2, 1, 6
    cfg.gnn.layer_type, cfg.gnn.batchnorm, cfg.gnn.l2norm, cfg.gnn.dropout = "gcnconv", False, False, 0.0
    cfg.optim.max_epoch, cfg.optim.base_lr, cfg.optim.scheduler, cfg.optim.weight_decay = EPOCHS, RATE, "none", 0.0
    cfg.train.eval_period = 1
    cfg.kd.update, cfg.kd.students = update, students
    for key, value in keys.items():
        cfg.kd[key] = value
    cfg.kd_feature.weight, cfg.kd_feature.tap, cfg.kd_feature.layer_map = WEIGHT, "layer", "shift"


def trainer_on(data: list[Data], seed: int = 3, logs: list[Any] | None = None) -> Trainer:
    cfg.seed = seed
    torch.manual_seed(seed)
    model = create_model(to_device=False)
    loaders = [DataLoader(data, batch_size=1) for _ in range(3)]
    return make_trainer(resolve(cfg), model, loaders, logs or [])


def forward(module: nn.Module, batch: Data) -> tuple[Tensor, list[Tensor]]:
    inside, hidden = copy.copy(batch), []
    for layer in module.model.mp.children():
        inside = layer(inside)
        hidden.append(inside.x)
    return module.model.post_mp(inside)[0], hidden


def loss_of(m: int, modules: list[nn.Module], batch: Data, targets: list[list[Tensor]]) -> Tensor:
    """CE + weight * mean over peers of the sum over layers of MSE to the next layer of the peer (cyclic)."""
    logits, hidden = forward(modules[m], batch)
    loss = functional.cross_entropy(logits[batch.train_mask], batch.y[batch.train_mask])
    peers = [n for n in range(len(modules)) if n != m]
    values = []
    for n in peers:
        value = torch.zeros(())
        for layer in range(2):
            value = value + functional.mse_loss(hidden[layer], targets[n][(layer + 1) % 2])
        values.append(value)
    return loss + WEIGHT * torch.stack(values).mean()


def states(modules: list[nn.Module], batch: Data) -> list[list[Tensor]]:
    with torch.no_grad():
        return [forward(module, batch)[1] for module in modules]


def by_hand(update: str, modules: list[nn.Module], data: list[Data]) -> None:
    optimizers = [torch.optim.Adam(module.parameters(), lr=RATE) for module in modules]

    def step(m: int, batch: Data, targets: list[list[Tensor]]) -> None:
        loss = loss_of(m, modules, batch, targets)
        optimizers[m].zero_grad()
        loss.backward()
        optimizers[m].step()

    for _ in range(EPOCHS):
        if update == "epoch_alternate":
            for m in range(len(modules)):
                for batch in data:
                    step(m, batch, states(modules, batch))
        else:
            for batch in data:
                before = states(modules, batch)
                for m in range(len(modules)):
                    step(m, batch, before if update == "joint" else states(modules, batch))


@pytest.mark.parametrize("update", ["joint", "step_alternate", "epoch_alternate"])
@pytest.mark.parametrize("students", [2, 3])
@pytest.mark.parametrize("batches", [1, 3])
def test_order_equals_the_loop_written_by_hand(update: str, students: int, batches: int) -> None:
    configure(update, students)
    data = graphs(batches)
    trainer = trainer_on(data)
    modules = [copy.deepcopy(student.model.module) for student in trainer.students]
    first = [copy.deepcopy(module.state_dict()) for module in modules]
    trainer.run(3)
    by_hand(update, modules, data)
    for student, module, start in zip(trainer.students, modules, first, strict=True):
        for name, value in module.state_dict().items():
            torch.testing.assert_close(student.model.module.state_dict()[name], value, rtol=0, atol=1e-6)
            assert not torch.equal(value, start[name])


def test_the_three_orders_differ() -> None:
    found = []
    for update in ("joint", "step_alternate", "epoch_alternate"):
        configure(update, 2)
        trainer = trainer_on(graphs(3))
        trainer.run(3)
        found.append(
            trainer.students[1].model.module.model.post_mp.layer_post_mp.model[0].model.weight.detach().clone()
        )
    assert not any(torch.allclose(a, b) for a, b in ((found[0], found[1]), (found[1], found[2]), (found[0], found[2])))


def test_a_joint_step_equals_separate_optimizers_exactly() -> None:
    """One Adam over both students' sum against our optimizer for each: peers are detached, so nothing mixes."""
    configure("joint", 2)
    data = graphs(1)
    trainer = trainer_on(data)
    modules = [copy.deepcopy(student.model.module) for student in trainer.students]
    together = torch.optim.Adam([p for module in modules for p in module.parameters()], lr=RATE)
    for _ in range(EPOCHS):
        targets = states(modules, data[0])
        loss = sum(loss_of(m, modules, data[0], targets) for m in range(2))
        together.zero_grad()
        loss.backward()  # type: ignore[union-attr]
        together.step()
    trainer.run(3)
    for student, module in zip(trainer.students, modules, strict=True):
        for name, value in module.state_dict().items():
            assert torch.equal(student.model.module.state_dict()[name], value), name


def test_same_and_independent_initialisation() -> None:
    configure("joint", 3)
    weights = [s.model.module.model.mp.layer0.layer.model.lin.weight for s in trainer_on(graphs(1)).students]
    assert not torch.equal(weights[0], weights[1]) and not torch.equal(weights[1], weights[2])
    configure("joint", 3, init="same")
    trainer = trainer_on(graphs(1))
    first = trainer.students[0].model.module.state_dict()
    for student in trainer.students[1:]:
        assert all(torch.equal(first[name], value) for name, value in student.model.module.state_dict().items())
        assert student.model.module is not trainer.students[0].model.module


def test_peers_are_detached_and_read_in_evaluation_mode() -> None:
    configure("joint", 2)
    cfg.gnn.dropout = 0.5
    trainer = trainer_on(graphs(1))
    sample = trainer.feeds[0].single
    assert sample is not None
    one, two = trainer.students
    trainer.updates.begin_epoch(0)
    first = trainer.sources.observe(one.number, one.objective.members(0), sample)[2]
    assert not first.hidden["layer"][0].requires_grad
    with torch.no_grad(), two.model.untouched():
        clean = two.model.observe(sample, ("layer",)).hidden["layer"]
    assert all(torch.equal(a, b) for a, b in zip(first.hidden["layer"], clean, strict=True))
    assert two.model.module.training
    trainer.sources.run.readings.train_mode = True
    noisy = trainer.sources.observe(one.number, one.objective.members(0), sample)[2].hidden["layer"]
    assert not torch.equal(noisy[0], clean[0])


def test_projections_and_heads_belong_to_the_learner_s_optimizer_and_not_to_the_model() -> None:
    configure("joint", 2)
    cfg.kd_feature.projector = "linear"
    cfg.kd_auxiliary.weight = 0.5
    trainer = trainer_on(graphs(1))
    for student in trainer.students:
        owned = list(student.objective.parameters())
        moved = {id(p) for group in student.optimizer.param_groups for p in group["params"]}
        assert owned and all(id(p) in moved for p in owned)
        in_model = {id(p) for p in student.model.module.parameters()}
        assert not any(id(p) in in_model for p in owned)
    before = [p.detach().clone() for p in trainer.students[0].objective.parameters()]
    trainer.run(3)
    after = list(trainer.students[0].objective.parameters())
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("scheduler", ["none", "step", "cos"])
@pytest.mark.parametrize("handed", [False, True])
def test_weight_decay_does_not_reach_a_learned_map(scheduler: str, handed: bool) -> None:
    """With SGD and a loss that hardly moves it, decay would shrink the map by (1 - rate * decay) a step, as it does a head."""
    configure("joint", 2)
    cfg.kd_feature.layer_map, cfg.kd_feature.shift, cfg.kd_feature.weight = "attention", None, 1e-12
    cfg.kd_auxiliary.weight = 1e-12
    cfg.optim.optimizer, cfg.optim.momentum, cfg.optim.weight_decay, cfg.optim.scheduler = "sgd", 0.0, 2.0, scheduler
    if handed:
        cfg.seed = 3
        model = create_model(to_device=False)
        optimizer = create_optimizer(model.parameters(), cfg.optim)
        loaders = [DataLoader(graphs(1), batch_size=1) for _ in range(3)]
        given = {"optimizer": optimizer, "scheduler": create_scheduler(optimizer, cfg.optim)}
        trainer = make_trainer(resolve(cfg), model, loaders, [], **given)
    else:
        trainer = trainer_on(graphs(1))
    student = trainer.students[0]
    (learned,) = student.objective.maps.values()
    head = student.objective.terms["auxiliary"]
    before = [p.detach().clone() for p in learned.parameters()], next(head.parameters()).detach().clone()
    trainer.run(3)
    for old, new in zip(before[0], learned.parameters(), strict=True):
        torch.testing.assert_close(new, old)
    assert not torch.allclose(next(head.parameters()), before[1])
    for trained in trainer.students:
        rates = [group["lr"] for group in trained.optimizer.param_groups]
        assert len(rates) == 2 and rates[0] == rates[1], "a scheduler moved one group only"


@pytest.mark.parametrize("owned", [False, True])
def test_gradient_clipping_limits_the_step(owned: bool) -> None:
    """One norm over the network and all that the objective owns: projections, heads, learned maps."""
    configure("joint", 2, clip_grad_norm=1e-3)
    cfg.optim.optimizer, cfg.optim.momentum = "sgd", 0.0
    if owned:
        cfg.kd_feature.layer_map, cfg.kd_feature.shift, cfg.kd_feature.projector = "attention", None, "linear"
        cfg.kd_auxiliary.weight = 0.5
    trainer = trainer_on(graphs(1))
    before = [[p.detach().clone() for p in student.parameters] for student in trainer.students]
    trainer.updates.epoch(trainer.feeds[0], 0)
    for student, start in zip(trainer.students, before, strict=True):
        moves = [(p.detach() - old).flatten() for p, old in zip(student.parameters, start, strict=True)]
        assert float(torch.cat(moves).norm()) == pytest.approx(1e-3 * RATE, rel=1e-3)
        network = len(list(student.model.module.parameters()))
        assert (len(moves) > network and float(torch.cat(moves[network:]).norm()) > 1e-5) == owned


@pytest.mark.parametrize("update", ["joint", "step_alternate", "epoch_alternate"])
def test_every_student_s_rate_follows_the_schedule(update: str) -> None:
    configure(update, 3)
    cfg.optim.scheduler = "cos"
    trainer = trainer_on(graphs(2))
    for epoch in range(EPOCHS):
        trainer.updates.epoch(trainer.feeds[0], epoch)
        wanted = RATE * (1 + math.cos(math.pi * (epoch + 1) / EPOCHS)) / 2
        for student in trainer.students:
            assert student.optimizer.param_groups[0]["lr"] == pytest.approx(wanted, abs=1e-12)


def test_a_loss_that_is_not_finite_names_epoch_student_and_term() -> None:
    configure("joint", 2)
    trainer = trainer_on(graphs(1))
    with torch.no_grad():
        next(trainer.students[1].model.module.parameters()).fill_(math.nan)
    with pytest.raises(RunFailed, match=r"epoch 0, student 1: kd_feature is not finite"):
        trainer.run(3)


def test_a_schedule_of_zero_reads_no_peer() -> None:
    configure("joint", 2)
    cfg.kd_feature.schedule = "window_1_2"
    trainer = trainer_on(graphs(1))
    sample = trainer.feeds[0].single
    assert sample is not None
    members = [trainer.students[0].objective.members(epoch) for epoch in range(3)]
    counts = [bool(trainer.sources.observe(1, found, sample)) for found in members]
    assert counts == [False, True, False]


def test_forward_passes_grow_linearly_with_students() -> None:
    """Full batch: one training and one evaluation forward for each student and epoch, however many peers read it."""
    for update in ("joint", "step_alternate", "epoch_alternate"):
        counts = []
        for students in (2, 4, 8):
            configure(update, students)
            trainer = trainer_on(graphs(1))
            calls = []
            for student in trainer.students:
                student.model.module.register_forward_hook(lambda *_, calls=calls: calls.append(1))
            trainer.run(3)
            counts.append(len(calls))
        assert counts[2] - counts[1] == 2 * (counts[1] - counts[0]), update
        # per student: training and evaluation in each epoch, one reading before the first, two for the test scores
        assert counts[0] <= 2 * (2 * EPOCHS + 3), update


def test_unlike_students_of_unequal_depth_and_width_teach_each_other() -> None:
    configure("joint", 2)
    cfg.kd_feature.layer_map = "proportional"
    cfg.seed = 1
    further = cfg.clone()
    further.gnn.layers_mp, further.gnn.dim_inner, further.gnn.layer_type = 4, 10, "gatconv"
    model = create_model(to_device=False)
    loaders = [DataLoader(graphs(1), batch_size=1) for _ in range(3)]
    trainer = make_trainer(resolve(cfg), model, loaders, [], further=[further])
    assert [student.model.depth for student in trainer.students] == [2, 4]
    assert trainer.rows.parameters[0] != trainer.rows.parameters[1]
    with host.scoped(cfg.clone()):
        result = trainer.run(1)
    assert result.epochs == EPOCHS


class _Silent:
    """A logger that keeps nothing."""

    def update_stats(self, **values: Any) -> None: ...

    def write_epoch(self, epoch: int) -> None: ...


def test_recording_gradients_changes_nothing(tmp_path: Any) -> None:
    found = []
    for logs in ([], [_Silent(), _Silent(), _Silent()]):
        configure("joint", 2)
        cfg.gnn.dropout = 0.5
        cfg.run_dir = str(tmp_path)
        trainer = trainer_on(graphs(2), logs=logs)
        trainer.run(3)
        found.append([student.model.module.state_dict() for student in trainer.students])
    assert (tmp_path / "diagnostics.json").is_file()
    for plain, recorded in zip(*found, strict=True):
        assert all(torch.equal(plain[name], recorded[name]) for name in plain)


@pytest.mark.parametrize("label_weight", [1.0, 0.0])
def test_a_batch_without_training_nodes_has_no_label_loss(label_weight: float) -> None:
    """What it holds beside labels still teaches; the epoch's loss is the mean over labelled nodes."""
    outcomes = []
    for empty in (False, True):
        configure("joint", 1, label_weight=label_weight)
        cfg.kd_feature.weight, cfg.kd_auxiliary.weight = 0.0, 1.0
        data = graphs(2)
        data[1].train_mask[:] = data[1].train_mask & (not empty)
        trainer = trainer_on(data)
        outcomes.append(trainer.updates.epoch(trainer.feeds[0], 0)[0])
    whole, part = outcomes
    assert part.losses == [whole.losses[0], 0.0]
    assert part.loss == pytest.approx(whole.losses[0])
    assert part.mean_extras() == pytest.approx(whole.extras[0])


def test_a_batch_without_anything_to_learn_moves_nothing() -> None:
    configure("joint", 1)
    cfg.kd_feature.weight, cfg.optim.weight_decay = 0.0, 0.1
    data = graphs(1)
    data.append(copy.copy(data[0]))
    data[1].train_mask = torch.zeros(9, dtype=torch.bool)
    found = []
    for part in (data[:1], data):
        trainer = trainer_on(part)
        trainer.updates.epoch(trainer.feeds[0], 0)
        found.append([p.detach().clone() for p in trainer.students[0].parameters])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_an_epoch_without_an_item_repeats_the_row_before_it() -> None:
    configure("joint", 1)
    cfg.kd_feature.weight = 0.0

    class Log:
        def __init__(self) -> None:
            self.rows: list[list[float]] = [[]]

        def update_stats(self, **values: Any) -> None:
            self.rows[-1].append(values["loss"])

        def write_epoch(self, epoch: int) -> None:
            self.rows.append([])

    log = Log()
    data = graphs(2)
    trainer = trainer_on(data)
    trainer.rows.logs = [log]

    def train(epoch: int) -> None:
        found = trainer.updates.epoch(trainer.feeds[0], epoch)
        trainer.rows.write_training(epoch, found, 1.0)

    train(0)
    for graph in data:
        graph.train_mask = torch.zeros(9, dtype=torch.bool)
    train(1)
    assert len(log.rows[0]) == 2 and log.rows[1] == log.rows[0]
    trainer.rows._last.clear()
    with pytest.raises(RunFailed, match="epoch 2: no batch holds an item of the train split"):
        train(2)


@pytest.mark.parametrize(
    ("group", "keys"),
    [
        ("response", {"nodes": "train"}),
        ("feature", {"nodes": "train"}),
        ("feature", {"nodes": "train", "pool": "mean"}),
        ("feature", {"nodes": "train", "loss": "cosine"}),
        ("feature", {"nodes": "train", "loss": "attention"}),
        ("feature", {"nodes": "train", "layer_map": "attention"}),
        ("structure", {"domain": "train_edges"}),
        ("structure", {"domain": "train_edges", "kernel_scale": "median", "reduction": "pair_mean"}),
        ("auxiliary", {"soft_weight": 1.0}),
        ("contrast", {}),
    ],
)
def test_no_term_breaks_on_a_batch_without_training_nodes(group: str, keys: dict[str, Any]) -> None:
    configure("joint", 2)
    cfg.kd_feature.weight = cfg.kd_feature.tap = cfg.kd_feature.layer_map = None
    cfg[f"kd_{group}"].weight = 1.0
    for key, value in keys.items():
        cfg[f"kd_{group}"][key] = value
    data = graphs(2)
    data[1].train_mask = torch.zeros(9, dtype=torch.bool)
    trainer = trainer_on(data)
    for outcome in trainer.updates.epoch(trainer.feeds[0], 0):
        values = [value for extras in outcome.extras for value in extras.values()]
        assert values and all(map(math.isfinite, values))
    for student in trainer.students:
        assert all(bool(p.isfinite().all()) for p in student.parameters)
