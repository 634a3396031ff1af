"""A teacher in a run: read once on a fixed graph, by node id on its parts, on a graph of its own, with edges hidden from
its students."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_geometric import seed_everything
from torch_geometric.data import Batch, Data
from torch_geometric.graphgym.loader import create_loader
from torch_geometric.graphgym.model_builder import create_model
from torch_geometric.loader import DataLoader
from torch_geometric.utils import coalesce, subgraph

from gkd_plugin import host
from gkd_plugin.commands.run import run
from gkd_plugin.config.load import read_config
from gkd_plugin.config.resolve import resolve
from gkd_plugin.errors import UserError
from gkd_plugin.host import cfg
from gkd_plugin.models.observed import ObservedModel
from gkd_plugin.models.rng import RandomStreams
from gkd_plugin.models.sample import Sample
from gkd_plugin.space.observation import Observation, Task
from gkd_plugin.training.batches import SplitLoader, hide_edges, make_split_loaders, whole_graph
from gkd_plugin.training.graphgym import make_trainer
from gkd_plugin.training.sources.teacher import Teacher as TeacherSource
from gkd_plugin.training.teachers.base import ModelTeacher, ModuleTeacher
from gkd_plugin.training.teachers.cache import Store
from gkd_plugin.training.teachers.file import StoredTeacher
from gkd_plugin.training.teachers.prepare import PreparedTeacher
from gkd_plugin.training.trainer import Trainer
from tests import toy
from tests.running import single
from tests.toy import values

TASK, CPU = Task("node", "multiclass"), torch.device("cpu")
LAYERS = {"kd_feature": {"weight": 1.0, "layer_map": "uniform"}, "kd_structure": {"weight": 1.0, "domain": "union"}}


pytestmark = pytest.mark.usefixtures("work_folder")


def teach(**groups: Any) -> Path:
    return run(values(**{"gnn": {"dim_inner": 16, "batchnorm": True}, **groups}), name="wide", quiet=True).folder


Loaders = Callable[[list[Any]], list[Any]]


class running:
    """A trainer under its own cfg."""

    def __init__(self, loaders: Loaders | None = None, teacher: nn.Module | None = None, **groups: Any) -> None:
        self.own = read_config(values(kd={"teacher": "wide"}, **groups)).cfg
        self.own.out_dir = self.own.run_dir = "results/narrow"
        self.own.seed = 1
        self.loaders, self.teacher = loaders, teacher

    def __enter__(self) -> Trainer:
        self.scope = host.scoped(self.own)
        self.scope.__enter__()
        seed_everything(1)
        loaders = create_loader()
        model = create_model()
        cfg.run_dir = "results/narrow/0"
        loaders = self.loaders(loaders) if self.loaders else loaders
        return make_trainer(resolve(cfg), model, loaders, [], teacher=self.teacher)

    def __exit__(self, *error: Any) -> None:
        self.scope.__exit__(*error)


def teacher_of(trainer: Trainer) -> PreparedTeacher:
    model = trainer.sources.models["teacher"]
    assert isinstance(model, TeacherSource)
    (taught,) = model.teachers
    return taught


# -- once -------------------------------------------------------------------------------------------------------------


def test_it_is_read_once_and_remembers_no_more_with_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    teach()
    read: list[str] = []
    plain = ModelTeacher.observe
    monkeypatch.setattr(ModelTeacher, "observe", lambda self, *args: read.append("") or plain(self, *args))
    kept = []
    with running(
        **LAYERS, kd_response={"weight": 1.0, "nodes": "all"}, kd_contrast={"weight": 0.1, "samples": 9}
    ) as trainer:
        taught = teacher_of(trainer)
        for epoch in range(4):
            trainer.updates.epoch(trainer.feeds[0], epoch)
            seen = taught.observe(trainer.feeds[0].single, ("conv",))
            kept.append((id(seen), dict(seen.memo), set(seen.graph.memo)))
    assert len(read) == 1
    assert len({number for number, _, _ in kept}) == 1
    assert [key[0] for key in kept[0][1]].count("structure") == 1  # its last layer
    first, *later = kept
    for _, memo, graph in later:
        assert memo.keys() == first[1].keys() and graph == first[2]
        assert all(memo[key] is value for key, value in first[1].items())


def test_the_teacher_is_no_part_of_the_students(tmp_path: Path) -> None:
    teach()
    with running(**LAYERS) as trainer:
        taught = teacher_of(trainer)
        assert isinstance(taught.teacher, ModelTeacher)
        theirs = {id(p) for p in taught.teacher.model.module.parameters()}
        before = [p.clone() for p in taught.teacher.model.module.state_dict().values()]
        student = trainer.students[0]
        moved = {id(p) for group in student.optimizer.param_groups for p in group["params"]}
        assert not theirs & (moved | {id(p) for p in student.model.module.parameters()})
        trainer.run(1)
        assert all(p.grad is None for p in taught.teacher.model.module.parameters())
        after = list(taught.teacher.model.module.state_dict().values())
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
        assert trainer.rows.parameters == [sum(p.numel() for p in student.model.module.parameters())]


class Counting(nn.Module):
    """Draws anew at every call."""

    calls = 0

    def forward(self, batch: Batch) -> Tensor:
        self.calls += 1
        return torch.randn(batch.num_nodes, 3)


def test_more_taps_are_read_again_and_other_batches_are_not_mixed_up() -> None:
    sample, other = (Sample(Batch.from_data_list([toy.community(seed)]), TASK) for seed in (0, 1))
    module = Counting()
    taught = PreparedTeacher(ModuleTeacher(module, RandomStreams(1)), sample)
    first = taught.observe(sample, ())
    assert taught.observe(sample, ()) is first and module.calls == 1
    loose = PreparedTeacher(ModuleTeacher(module, RandomStreams(1)))
    a, b = loose.observe(sample, ()), loose.observe(other, ())
    assert module.calls == 3 and a is not b and b.graph is other.graph("train")
    assert loose.observe(other, ()) is b


@pytest.mark.parametrize("kind", ["network", "stored network", "file"])
def test_a_reading_with_fewer_taps_does_not_stand_in_for_one_with_more(kind: str, tmp_path: Path) -> None:
    teach()
    with running(kd_response={"weight": 1.0}) as trainer:
        taught, sample = teacher_of(trainer), single(trainer)
        teacher: Any = taught.teacher
        if kind == "file":
            np.savez(tmp_path / "said.npz", logits=np.zeros((48, 3)), layer_1=np.ones((48, 5)))
            teacher = StoredTeacher(tmp_path / "said.npz")
        for _ in range(2):  # of the stored one, another run comes later
            again = PreparedTeacher(teacher, sample, store=Store(tmp_path / "kept") if kind[0] == "s" else None)
            first = again.observe(sample, ())
            assert not first.hidden and again.observe(sample, ()) is first
            more = again.observe(sample, ("layer",))
            assert set(more.hidden) == {"layer"} and torch.equal(more.logits, first.logits)
            assert again.observe(sample, ()) is more, "fewer taps need no other reading"
            other = again.observe(sample, ("conv", "layer"))
            assert set(other.hidden) == {"conv", "layer"}
            for tap in ("conv", "layer"):
                wanted = teacher.observe(sample, (tap,)).hidden[tap]
                assert all(torch.equal(a, b) for a, b in zip(other.hidden[tap], wanted, strict=True))
            assert again.outline(sample, ("stage",)).widths.keys() == {"stage"}


def test_what_a_network_draws_is_not_stored(tmp_path: Path) -> None:
    teach()
    with running(kd_response={"weight": 1.0}) as trainer:
        taught = teacher_of(trainer)
        assert taught.graph is not None and isinstance(taught.teacher, ModelTeacher)

        def draw(*_: Any) -> None:
            torch.rand(2)

        def observe() -> int:
            PreparedTeacher(taught.teacher, taught.graph, store=Store(tmp_path / "kept")).observe(taught.graph, ())
            return len(list((tmp_path / "kept").glob("*")))

        handle = taught.teacher.model.module.register_forward_hook(draw)
        assert observe() == 0
        handle.remove()
        assert observe() == 1


# -- parts of one graph -----------------------------------------------------------------------------------------------


class Parts:
    """Samples nodes of one graph, as PyG's samplers do: the induced subgraph, and ids in ``n_id``."""

    def __init__(self, data: Data, size: int = 20, keep_data: bool = False) -> None:
        self.whole, self.size, self.dataset = data, size, [data]
        if keep_data:
            self.data = data

    def __iter__(self) -> Iterator[Batch]:
        for ids in torch.randperm(self.whole.num_nodes).split(self.size):
            edges, _ = subgraph(ids, self.whole.edge_index, relabel_nodes=True, num_nodes=self.whole.num_nodes)
            keys = {key: self.whole[key][ids] for key in ("x", "y", *toy.MASKS)}
            yield Batch.from_data_list([Data(edge_index=edges, n_id=ids, **keys)])


def sampled(loaders: list[Any]) -> list[Any]:
    return [Parts(loaders[0].dataset[0]), *loaders[1:]]


def sampled_everywhere(loaders: list[Any]) -> list[Any]:
    return [Parts(loader.dataset[0], keep_data=True) for loader in loaders]


@pytest.mark.parametrize("loaders", [sampled, sampled_everywhere])
def test_parts_index_the_rows_of_the_whole_graph_by_node_id(loaders: Loaders, monkeypatch: pytest.MonkeyPatch) -> None:
    teach()
    read: list[int] = []
    plain = ModelTeacher.observe

    def watched(self: ModelTeacher, sample: Sample, taps: Any) -> Observation:
        read.append(int(sample.batch.num_nodes))
        return plain(self, sample, taps)

    monkeypatch.setattr(ModelTeacher, "observe", watched)
    whole = toy.community(0)
    with running(loaders, **LAYERS, kd_response={"weight": 1.0, "nodes": "unlabeled"}) as trainer:
        taught = teacher_of(trainer)
        full = plain(taught.teacher, Sample(Batch.from_data_list([whole]), TASK), ("conv",))  # type: ignore[arg-type]
        for sample in trainer.feeds[0]:
            seen, ids = taught.observe(sample, ("conv",)), sample.batch.n_id
            assert torch.equal(seen.logits, full.logits[ids])
            assert all(torch.equal(a, b[ids]) for a, b in zip(seen.hidden["conv"], full.hidden["conv"], strict=True))
            assert seen.graph is sample.graph("train")
        before = [p.clone() for p in trainer.students[0].parameters]
        trainer.updates.epoch(trainer.feeds[0], 0)
        assert not all(torch.equal(a, b) for a, b in zip(before, trainer.students[0].parameters, strict=True))
    assert read == [48]


def test_parts_have_their_share_of_each_layers_graph_where_it_moves() -> None:
    teach(model={"type": "edgeconv"}, gkd_model={"k": 3}, gnn={"dim_inner": 16})
    with running(sampled, **LAYERS, kd_response={"weight": 1.0, "nodes": "all"}) as trainer:
        taught = teacher_of(trainer)
        for sample in trainer.feeds[0]:
            seen, ids = taught.observe(sample, ("conv",)), sample.batch.n_id.tolist()
            assert taught._last is not None
            full = taught._last[2]
            assert len(seen.graphs) == len(full.graphs) == len(full.hidden["conv"]) > 1
            for part, whole in zip(seen.graphs, full.graphs, strict=True):
                named = {(ids[u], ids[v]) for u, v in part.edge_index.t().tolist()}
                inside = {(u, v) for u, v in whole.edge_index.t().tolist() if u in ids and v in ids}
                assert named == inside and part.num_nodes == len(ids)
        trainer.updates.epoch(trainer.feeds[0], 0)


def test_parts_without_a_whole_graph_are_read_one_by_one() -> None:
    teach()

    def changed(loaders: list[Any]) -> list[Any]:
        other = loaders[0].dataset[0].clone()
        other.x = other.x + 1  # augmented: its rows are not those of the graph that is kept
        return [Parts(other), *loaders[1:]]

    with running(changed, kd_response={"weight": 1.0}) as trainer:
        taught = teacher_of(trainer)
        assert taught.graph is None
        (sample, *_) = trainer.feeds[0]
        expected = taught.teacher.observe(sample, ())
        assert torch.equal(taught.observe(sample, ()).logits, expected.logits)


def test_a_graph_that_a_transform_changes_is_not_fixed() -> None:
    data = toy.Toy([toy.community(0)])
    data.transform = lambda graph: graph.update({"x": graph.x + torch.rand(())})
    feeds = make_split_loaders([DataLoader(data)] * 2, TASK, CPU, RandomStreams(1))
    assert feeds[0].single is None and whole_graph(feeds) is None
    (first,), (second,) = feeds[0], feeds[0]
    assert not torch.equal(first.batch.x, second.batch.x)


# -- another graph ----------------------------------------------------------------------------------------------------


def other_edges(seed: int = 5) -> Data:
    data = toy.community(0)
    ends = torch.randint(0, 48, (2, 60), generator=torch.Generator().manual_seed(seed))
    data.edge_index = coalesce(torch.cat([ends, ends.flip(0)], dim=1))
    return data


def test_a_teacher_on_other_edges_of_the_same_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(toy.SETS, "dynamic", lambda: [other_edges()])
    teach(dataset={"name": "dynamic"})
    with running(**LAYERS) as trainer:
        taught, sample = teacher_of(trainer), trainer.feeds[0].single
        assert sample is not None and taught.own_edges
        seen = taught.observe(sample, ("conv",))
        its = Sample(Batch.from_data_list([other_edges()]), TASK)
        assert torch.equal(seen.logits, taught.teacher.observe(its, ()).logits)
        assert torch.equal(seen.graph.edge_index, other_edges().edge_index)
        trainer.updates.epoch(trainer.feeds[0], 0)
        (union,) = [value for key, value in sample.graph("train").memo.items() if key[0] == "union"]
        both = coalesce(torch.cat([sample.batch.edge_index, its.batch.edge_index], dim=1))
        expected = both[:, both[0] != both[1]]
        assert torch.equal(coalesce(union.index), expected)


def test_parts_of_students_see_the_teachers_own_edges_between_their_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(toy.SETS, "dynamic", lambda: [other_edges()])
    teach(dataset={"name": "dynamic"})
    with running(sampled, **LAYERS) as trainer:
        taught = teacher_of(trainer)
        (sample, *_) = trainer.feeds[0]
        ids = sample.batch.n_id
        edges = taught.observe(sample, ("conv",)).graph.edge_index
        position = {int(node): place for place, node in enumerate(ids)}
        expected = {
            (position[u], position[v])
            for u, v in other_edges().edge_index.T.tolist()
            if u in position and v in position
        }
        assert set(map(tuple, edges.T.tolist())) == expected
        trainer.updates.epoch(trainer.feeds[0], 0)


def test_digits_of_another_k(tmp_path: Path) -> None:
    data = {"format": "PyG", "task": "node", "task_type": "classification"}
    teach(dataset={**data, "name": "digits_k5"}, optim={"max_epoch": 2})
    with running(dataset={**data, "name": "digits"}, **LAYERS) as trainer:
        taught, sample = teacher_of(trainer), trainer.feeds[0].single
        assert sample is not None
        theirs = taught.observe(sample, ("conv",)).graph
        assert theirs.num_nodes == sample.batch.num_nodes == 1797
        assert theirs.edge_index.size(1) < sample.batch.edge_index.size(1)
        trainer.updates.epoch(trainer.feeds[0], 0)
        (union,) = [value for key, value in sample.graph("train").memo.items() if key[0] == "union"]
        assert union.num_pairs == sample.batch.edge_index.size(1)  # five nearest are among ten nearest


def test_the_same_nodes_with_other_labels_or_splits_are_other_data(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, key in (("labels", "y"), ("split", "test_mask"), ("features", "x")):
        data = other_edges()
        data[key] = data[key].flip(0)
        monkeypatch.setitem(toy.SETS, name, lambda data=data: [data])
        run(values(dataset={"name": name}), name=name, quiet=True)
        with pytest.raises(UserError, match="its nodes, labels or splits differ"):
            run(values(kd={"teacher": name}, kd_response={"weight": 1}), name="narrow", quiet=True)


def by_seed() -> list[Data]:
    """The split that the run's seed draws."""
    data = toy.community(0)
    order = torch.randperm(48, generator=torch.Generator().manual_seed(int(cfg.seed)))
    for position, name in enumerate(toy.MASKS):
        data[name] = torch.zeros(48, dtype=torch.bool)
        data[name][order[position::3]] = True
    return [data]


def test_a_teacher_of_another_split_never_teaches(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would have been trained on what its students are tested on; that its score is reproduced is not enough."""
    monkeypatch.setitem(toy.SETS, "nodes", by_seed)
    monkeypatch.setattr("gkd_plugin.training.teachers.prepare._measure_again", lambda *_: None)
    run(values(), repeat=2, name="wide", quiet=True)
    keys = {"kd_response": {"weight": 1.0}}
    with pytest.raises(UserError, match=r"seed folder 1 of wide was trained with seed 2.*kd.teacher_seed: match"):
        run(values(kd={"teacher": "wide", "teacher_seed": 1}, **keys), name="narrow", quiet=True)
    assert len(run(values(kd={"teacher": "wide"}, **keys), repeat=2, name="narrow", quiet=True).results) == 2


def test_on_several_graphs_the_split_is_compared_too(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {"dataset": {"name": "many"}, "kd_response": {"weight": 1.0}}
    run(values(dataset={"name": "many"}), repeat=2, name="wide", quiet=True)
    assert run(values(kd={"teacher": "wide", "teacher_seed": 1}, **keys), name="one", quiet=True).results
    plain = toy.SETS["many"]

    def moved() -> list[Data]:
        graphs = plain()
        if int(cfg.seed) == 2:
            graphs[0].val_mask, graphs[0].test_mask = graphs[0].test_mask, graphs[0].val_mask
        return graphs

    monkeypatch.setitem(toy.SETS, "many", moved)
    with pytest.raises(UserError, match="seed folder 1"):
        run(values(kd={"teacher": "wide", "teacher_seed": 1}, **keys), name="two", quiet=True)


# -- hidden edges -----------------------------------------------------------------------------------------------------


def undirected(edge_index: Tensor) -> list[tuple[int, int]]:
    return sorted({(min(u, v), max(u, v)) for u, v in edge_index.T.tolist()})


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_share_is_exact_and_both_directions_go_together(share: float) -> None:
    data = toy.community(0)
    data.edge_attr = torch.arange(data.num_edges).float()
    whole = Sample(Batch.from_data_list([data]), TASK)
    cut = hide_edges(whole, share, seed=4)
    pairs, left = undirected(data.edge_index), undirected(cut.batch.edge_index)
    assert len(pairs) - len(left) == round(share * len(pairs)) and set(left) < set(pairs)
    kept = [i for i, (u, v) in enumerate(data.edge_index.T.tolist()) if (min(u, v), max(u, v)) in set(left)]
    assert torch.equal(cut.batch.edge_index, data.edge_index[:, kept])
    assert torch.equal(cut.batch.edge_attr, torch.tensor(kept).float())
    assert cut.whole is whole and whole.batch.num_edges == data.num_edges
    for key in ("x", "y", *toy.MASKS):
        assert torch.equal(cut.batch[key], data[key])
    again, other = hide_edges(whole, share, seed=4), hide_edges(whole, share, seed=5)
    assert torch.equal(again.batch.edge_index, cut.batch.edge_index)
    assert not torch.equal(other.batch.edge_index, cut.batch.edge_index)


def test_labelled_pairs_are_not_hidden() -> None:
    data = toy.links(0)
    data.train_edge_index, data.train_edge_label = data.edge_index.clone(), torch.ones(data.num_edges)
    cut = hide_edges(Sample(Batch.from_data_list([data]), Task("edge", "binary")), 0.5, seed=1).batch
    assert cut.num_edges < data.num_edges
    assert torch.equal(cut.train_edge_index, data.edge_index) and len(cut.train_edge_label) == data.num_edges


def test_students_neither_train_nor_are_evaluated_with_them_and_the_teacher_sees_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = teach()
    edges: dict[str, set[int]] = {"student": set(), "teacher": set()}
    plain = ObservedModel.observe

    def watched(self: ObservedModel, sample: Sample, taps: Any = (), split: str = "train") -> Observation:
        who = "teacher" if self.own.gnn.dim_inner == 16 else "student"
        edges[who].add(int(sample.batch.num_edges))
        return plain(self, sample, taps, split)

    monkeypatch.setattr(ObservedModel, "observe", watched)
    keys = {"kd": {"teacher": "wide", "hide_edges": 0.5}, **LAYERS}
    report = run(values(**keys), name="narrow", quiet=True)
    whole = toy.community(0)
    hidden = hide_edges(Sample(Batch.from_data_list([whole]), TASK), 0.5, seed=1)
    assert edges == {"student": {hidden.batch.num_edges}, "teacher": {whole.num_edges}}
    # its control is the same without the teacher: the host's run on the graph that is left
    control = run(values(kd={"hide_edges": 0.5}), name="control", quiet=True)
    monkeypatch.setitem(toy.SETS, "left", lambda: [cut(whole, hidden.batch.edge_index)])
    plain_run = run(values(dataset={"name": "left"}), name="left", quiet=True)
    assert control.results[0].answers == plain_run.results[0].answers != report.results[0].answers
    assert folder.is_dir()


def cut(data: Data, edge_index: Tensor) -> Data:
    left = data.clone()
    left.edge_index = edge_index
    return left


def test_a_feed_of_parts_hides_nothing() -> None:
    with pytest.raises(UserError, match="kd.hide_edges"):
        SplitLoader(Parts(toy.community(0)), TASK, CPU, RandomStreams(1), hidden=0.5)
