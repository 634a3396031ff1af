"""Teachers: frozen, in evaluation mode whatever happens to them, each under its own cfg; rows by node id."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch_geometric.data import Batch
from torch_geometric.graphgym.model_builder import create_model
from torch_geometric.nn import GAT, GCN, MLP

from gkd_plugin import host
from gkd_plugin.commands.run import run
from gkd_plugin.config.load import read_config
from gkd_plugin.errors import RunFailed, UserError
from gkd_plugin.models.observed import ObservedModel
from gkd_plugin.models.rng import RandomStreams
from gkd_plugin.models.sample import Sample
from gkd_plugin.space.observation import Observation, Task
from gkd_plugin.training.teachers.base import (
    ModelTeacher,
    ModuleTeacher,
    Record,
    check_observation,
    doubt_logits,
    doubt_sureness,
)
from gkd_plugin.training.teachers.file import StoredTeacher
from tests import toy
from tests.running import SOFT

TASK = Task("node", "multiclass")


def sample(nodes: int = 48) -> Sample:
    return Sample(Batch.from_data_list([toy.community(0, nodes=nodes)]), TASK)


def own_cfg(**gnn: Any) -> Any:
    own = read_config(toy.values(gnn={"batchnorm": True, "layers_pre_mp": 1, **gnn})).cfg
    own.share.dim_in, own.share.dim_out, own.share.num_splits = 6, 3, 3
    return own


def teacher(**gnn: Any) -> ModelTeacher:
    own = own_cfg(**gnn)
    with host.scoped(own):
        module = create_model(to_device=False)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d):
            part.running_mean.uniform_(-1, 1)
    return ModelTeacher("t", ObservedModel(module, own), RandomStreams(1), Record("accuracy", 0.5, Path("there")))


@pytest.mark.usefixtures("toy_data")
class TestNetwork:
    def test_it_is_read_in_evaluation_mode_even_where_somebody_trains_it(self) -> None:
        found, batch = teacher(dropout=0.9), sample()
        with torch.no_grad(), host.scoped(found.model.own):
            expected = found.model.module.eval()(copy.copy(batch.batch))[0]
        state = copy.deepcopy(found.model.module.state_dict())
        found.model.module.train()
        seen = found.observe(batch, ("layer", "conv"))
        assert torch.equal(seen.logits, expected)
        after = found.model.module.state_dict()
        assert all(torch.equal(after[name], value) for name, value in state.items())

    def test_no_gradient_reaches_it(self) -> None:
        found = teacher()
        seen = found.observe(sample(), ("layer", "stage"))
        tensors = [seen.logits, *seen.hidden["layer"], *seen.hidden["stage"]]
        assert not any(tensor.requires_grad for tensor in tensors)
        assert not any(parameter.requires_grad for parameter in found.model.module.parameters())

    def test_it_runs_under_its_own_cfg(self) -> None:
        found, batch = teacher(stage_type="skipsum"), sample()
        expected = found.observe(batch, ("stage",))
        with host.scoped(own_cfg(stage_type="stack")):
            again = found.observe(batch, ("stage",))
        assert torch.equal(again.logits, expected.logits)
        found.model.own.gnn.stage_type = "stack"  # what it would be under the students' cfg
        assert not torch.equal(found.observe(batch, ()).logits, expected.logits)

    def test_it_draws_nothing_from_the_global_stream(self) -> None:
        found = teacher()
        torch.manual_seed(3)
        expected = torch.rand(4)
        torch.manual_seed(3)
        found.observe(sample(), ("layer",))
        assert torch.equal(torch.rand(4), expected) and not found.drew


class Noisy(nn.Module):
    def forward(self, batch: Any) -> Any:
        batch.x = None  # its own copy
        return torch.randn(batch.num_nodes, 3)


def test_a_module_draws_from_a_stream_of_its_own_and_leaves_the_batch() -> None:
    batch = sample()
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    first = ModuleTeacher(Noisy(), RandomStreams(1)).observe(batch, ())
    assert torch.equal(torch.rand(4), expected)
    assert batch.batch.x is not None
    assert torch.equal(first.logits, ModuleTeacher(Noisy(), RandomStreams(1)).observe(batch, ()).logits)


def file(folder: Path, **arrays: Any) -> StoredTeacher:
    np.savez(folder / "said.npz", **arrays)
    return StoredTeacher(folder / "said.npz")


@pytest.mark.parametrize("shuffled", [False, True])
def test_rows_go_to_the_nodes_that_they_name(shuffled: bool, tmp_path: Path) -> None:
    logits, layer = torch.randn(48, 3), torch.randn(48, 5, dtype=torch.float64)
    order = torch.randperm(48) if shuffled else torch.arange(48)
    ids = {"node_id": order.int().numpy()} if shuffled else {}
    found = file(tmp_path, logits=logits[order].numpy(), layer_1=layer[order].numpy(), **ids)
    seen = found.observe(sample(), ("layer", "conv"))
    assert torch.equal(seen.logits, logits)
    for tap in ("layer", "conv"):
        assert torch.equal(seen.layer(tap, 1), layer.float())
    part = sample(nodes=6)
    part.batch.n_id = torch.tensor([40, 3, 3, 0, 47, 12])
    seen = found.observe(part, ("layer",))
    assert torch.equal(seen.logits, logits[part.batch.n_id])
    assert torch.equal(seen.layer("layer", 1), layer[part.batch.n_id].float())
    outline = found.outline(seen)
    assert (outline.depth, outline.widths["layer"], outline.dim_out) == (1, (5,), 3)


def test_a_sampled_part_with_a_node_that_has_no_row(tmp_path: Path) -> None:
    found = file(tmp_path, logits=np.zeros((40, 3)))
    part = sample(nodes=6)
    part.batch.n_id = torch.tensor([0, 1, 2, 3, 4, 45])
    with pytest.raises(UserError, match="has 40 rows and none for node 45"):
        found.observe(part, ())


def test_numbers_of_one_value_for_each_node(tmp_path: Path) -> None:
    found = file(tmp_path, logits=np.arange(48))
    assert found.outline(found.observe(sample(), ())).dim_out == 1


def test_node_numbers_under_another_name_are_refused_and_other_arrays_are_not(tmp_path: Path) -> None:
    logits = np.random.default_rng(0).normal(size=(48, 3))
    with pytest.raises(
        UserError, match=r"n_id in .*said\.npz has a whole number of its own for each row.*call it node_id"
    ):
        file(tmp_path, logits=logits, n_id=np.arange(48)[::-1].copy())
    file(tmp_path, logits=logits, y=np.arange(48) % 3, seed=np.array(7))
    with pytest.raises(UserError, match="nodes 0 to 47 once. It goes up to 95: a row is needed for every node"):
        file(tmp_path, logits=logits, node_id=np.arange(48) * 2 + 1)
    with pytest.raises(UserError, match="nodes 0 to 47 once"):
        file(tmp_path, logits=logits, node_id=np.arange(0))


@pytest.mark.usefixtures("work_folder")
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda batch: None, "the module returned NoneType"),
        (lambda batch: batch.x[:5, :3], "5 rows of logits for 48 nodes"),
        (lambda batch: batch.x[:, :3] * float("nan"), "NaN"),
        (lambda batch: batch.x[:, :2], "classes"),
        (
            lambda batch: batch.x @ torch.ones(99, 3),
            r"the module failed on these data \(x: 48 x \d+\): RuntimeError: mat1 .* \(.*test_base.py, line \d+\)",
        ),
    ],
)
def test_modules_with_something_wrong(answer: Any, words: str, tmp_path: Path) -> None:
    module = nn.Module()
    module.forward = answer  # type: ignore[method-assign]
    with pytest.raises(UserError, match=words):
        run(toy.config(tmp_path, "narrow", **SOFT), teacher=module, quiet=True)
    assert not (tmp_path / "results" / "narrow").exists()


def test_a_module_gives_a_graph_for_each_of_its_layers_or_none() -> None:
    batch = sample()
    graph, states = batch.graph("train"), torch.randn(48, 2)
    hidden = {"conv": (states, states)}
    for count in (0, 2):
        seen = Observation(states, hidden, graph, graphs=(graph.moved(graph.edge_index),) * count)
        assert check_observation(seen, batch, ("conv",), "teacher=: the module") is seen
    seen = Observation(states, hidden, graph, graphs=(graph.moved(graph.edge_index),))
    with pytest.raises(UserError, match="teacher=: the module gives 1 graphs for 2 layers; each needs its own"):
        check_observation(seen, batch, ("conv",), "teacher=: the module")


@pytest.mark.usefixtures("work_folder")
def test_what_may_be_there_for_the_next_seed_is_no_mistake_and_a_path_is_no_module(tmp_path: Path) -> None:
    class Large(nn.Module):
        def forward(self, batch: Any) -> Any:
            raise torch.cuda.OutOfMemoryError("of the device")

    with pytest.raises(RunFailed, match="OutOfMemoryError: of the device"):
        run(toy.config(tmp_path, "narrow", **SOFT), teacher=Large(), quiet=True)
    with pytest.raises(UserError, match=r"teacher=: str 'model.pt'. It must be a torch.nn.Module; .* kd.teacher"):
        run(toy.config(tmp_path, "other", **SOFT), teacher="model.pt", quiet=True)  # type: ignore[arg-type]


class Plain(nn.Module):
    """As PyG's own models are called."""

    def forward(self, x: Any, edge_index: Any, edge_weight: Any = None, batch: Any = None, labels: Any = None) -> Any:
        assert labels is None and batch is None  # it is a task on nodes
        ends = x[edge_index[0], :3] * (1 if edge_weight is None else edge_weight.view(-1, 1))
        return torch.zeros(len(x), 3).index_add(0, edge_index[1], ends)


class OfFeatures(nn.Module):
    def forward(self, x: Any, return_emb: bool = False) -> Any:
        return x[:, :3]


class OfMore(nn.Module):
    def forward(self, x: Any, edge_index: Any, colour: Any) -> Any:
        return x[:, :3]


def by_hand(batch: Batch, weighted: bool) -> torch.Tensor:
    found = torch.zeros(batch.num_nodes, 3)
    for number, (u, v) in enumerate(batch.edge_index.t().tolist()):
        found[v] += batch.x[u, :3] * (batch.edge_weight[number] if weighted else 1)
    return found


@pytest.mark.parametrize("weighted", [False, True])
def test_a_module_is_called_by_its_signature(weighted: bool) -> None:
    batch = sample()
    if weighted:
        batch.batch.edge_weight = torch.rand(batch.batch.edge_index.size(1))
    found = ModuleTeacher(Plain(), RandomStreams(1)).observe(batch, ()).logits
    torch.testing.assert_close(found, by_hand(batch.batch, weighted))
    assert torch.equal(ModuleTeacher(OfFeatures(), RandomStreams(1)).observe(batch, ()).logits, batch.batch.x[:, :3])
    with pytest.raises(UserError, match="asks for colour, but the data have .*edge_index"):
        ModuleTeacher(OfMore(), RandomStreams(1)).observe(batch, ())


def test_models_of_pyg_are_taken_as_they_are() -> None:
    batch = sample()
    for model in (GCN(6, 8, 2, 3), GAT(6, 8, 2, 3), MLP([6, 8, 3])):
        expected = model.eval()(batch.batch.x, *(() if isinstance(model, MLP) else (batch.batch.edge_index,)))
        assert torch.equal(ModuleTeacher(model, RandomStreams(1)).observe(batch, ()).logits, expected)


@pytest.mark.parametrize(
    ("kind", "logits", "inverse"),
    [
        ("multiclass", [[0.2, 0.8], [1.0, 0.0]], "log(p)"),
        ("multiclass", [[0.2, 0.9], [1.0, 0.0]], "log(p / (1 - p))"),
        ("multiclass", [[-0.2, 1.2], [1.0, 0.0]], ""),
        ("multiclass", [[-1.6, -0.2], [0.0, -9.0]], ""),
        ("binary", [[0.2], [0.9]], "log(p / (1 - p))"),
        ("binary", [[0.2], [1.9]], ""),
        ("multilabel", [[0.2, 0.9], [0.0, 1.0]], "log(p / (1 - p))"),
        ("multilabel", [[0.2, -0.9], [0.0, 1.0]], ""),
        ("regression", [[0.2], [0.9]], ""),
    ],
)
def test_probabilities_are_noticed(kind: str, logits: list[list[float]], inverse: str) -> None:
    found = doubt_logits("said.npz", torch.tensor(logits), kind)
    assert ("said.npz look like probabilities" in found) == bool(inverse)
    assert f"; {inverse} gives it back" in found or not inverse


@pytest.mark.parametrize(
    ("kind", "largest", "doubted"),
    [  # of three classes: 1/3 is all alike, and 0.15 of the way from there to 1 is 0.4333
        ("multiclass", [0.43, 0.43], True),
        ("multiclass", [0.44, 0.44], False),
        ("multiclass", [0.34, 0.52], True),
        ("multiclass", [0.36, 0.52], False),
        ("multilabel", [0.34, 0.34], False),
        ("multiclass", [], False),
    ],
)
def test_a_teacher_that_is_sure_of_nothing(kind: str, largest: list[float], doubted: bool) -> None:
    rows = torch.tensor([[p, (1 - p) / 2, (1 - p) / 2] for p in largest]).view(-1, 3)
    found = doubt_sureness("deep", rows.log() + 5, kind)
    assert bool(found) == doubted
    assert not doubted or "deep is sure of nothing: its largest probability is 0.43 on average, where 0.33" in found


@pytest.mark.usefixtures("work_folder")
@pytest.mark.parametrize(
    ("response", "doubted"),
    [
        ({}, True),
        ({"sharpen": 0.1}, False),
        ({"target": "hard"}, False),
        ({"loss": "mse"}, False),
        ({"weight": 0}, False),
    ],
)
def test_it_is_said_where_its_probabilities_teach(tmp_path: Path, response: dict[str, Any], doubted: bool) -> None:
    np.savez("flat.npz", logits=np.random.default_rng(0).normal(scale=0.01, size=(48, 3)))
    groups = {"kd": {"teacher": "flat.npz"}, "kd_feature": {"weight": 0}, "kd_response": {"weight": 1, **response}}
    report = run(toy.config(tmp_path, "narrow", **groups), quiet=True)
    found = [each for each in report.results[0].warnings if "flat.npz is sure of nothing" in each]
    assert len(found) == doubted


@pytest.mark.usefixtures("work_folder")
@pytest.mark.parametrize("quiet", [True, False])
def test_they_are_said_once_in_a_run_and_kept_in_its_result(
    quiet: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    np.savez("said.npz", logits=np.full((48, 3), 1 / 3))
    report = run(toy.config(tmp_path, "narrow", **SOFT, kd={"teacher": "said.npz"}), quiet=quiet)
    assert sum("look like probabilities" in each for each in report.results[0].warnings) == 1
    assert capfd.readouterr().err.count("look like probabilities") == (0 if quiet else 1)
