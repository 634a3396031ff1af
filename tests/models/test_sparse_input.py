"""Networks that read sparse features against the same networks on dense ones."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch_geometric.nn as pyg_nn
from torch import nn
from torch_geometric.data import Batch, Data
from torch_geometric.graphgym.model_builder import create_model
from torch_geometric.nn import MessagePassing

import gkd_plugin  # noqa: F401
from gkd_plugin import host, load_student
from gkd_plugin.commands.run import run
from gkd_plugin.host import cfg
from gkd_plugin.models.normalisation import find_convolutions, normalised_once
from gkd_plugin.models.observed import ObservedModel
from gkd_plugin.models.sample import Sample
from gkd_plugin.models.sparse_input import SparseFeatures, explain_refusal, find_layers, reading
from gkd_plugin.space.observation import Task
from gkd_plugin.training.trainer import Trainer
from tests import toy
from tests.running import Stop, outcome, result, rows, stop_in

NODES, WIDTH = 9, 7


def features(dtype: torch.dtype = torch.float64, nodes: int = NODES) -> torch.Tensor:
    random = torch.Generator().manual_seed(2)
    x = torch.randn(nodes, WIDTH, generator=random).to(dtype)
    x = x * (torch.rand(nodes, WIDTH, generator=random) < 0.2)
    x[nodes // 2] = 0  # a node without any
    return x


EDGES = {
    "random": torch.randint(
        0, NODES - 1, (2, 20), generator=torch.Generator().manual_seed(4)
    ),  # the last node has none
    "none": torch.zeros(2, 0, dtype=torch.long),
    "loops": torch.arange(NODES).repeat(2, 1),
    "twice": torch.tensor([[0, 0, 1], [1, 1, 0]]),
}
LAYERS = {
    "linear": lambda: pyg_nn.Linear(WIDTH, 3),
    "torch_linear": lambda: nn.Linear(WIDTH, 3, bias=False),
    "gcn": lambda: pyg_nn.GCNConv(WIDTH, 3),
    "gat": lambda: pyg_nn.GATConv(WIDTH, 3, heads=2),
    "sage": lambda: pyg_nn.SAGEConv(WIDTH, 3),
    "sage_sum": lambda: pyg_nn.SAGEConv(WIDTH, 3, aggr="sum", bias=False),
    "sage_alone": lambda: pyg_nn.SAGEConv(WIDTH, 3, root_weight=False, normalize=True),
    "sage_max": lambda: pyg_nn.SAGEConv(WIDTH, 3, aggr="max"),
    "sage_pool": lambda: pyg_nn.SAGEConv(WIDTH, 3, aggr="max", project=True),
    "graph_conv": lambda: pyg_nn.GraphConv(WIDTH, 3),
    "graph_conv_mean": lambda: pyg_nn.GraphConv(WIDTH, 3, aggr="mean", bias=False),
    "graph_conv_max": lambda: pyg_nn.GraphConv(WIDTH, 3, aggr="max"),
}


def gradients(layer, out):
    return torch.autograd.grad(out.pow(2).sum(), list(layer.parameters()))


@pytest.mark.parametrize("edges", EDGES)
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_gives_the_dense_result_and_gradient(name, edges):
    torch.manual_seed(0)
    layer, x = LAYERS[name]().double(), features()
    args = (EDGES[edges],) if isinstance(layer, MessagePassing) else ()
    plain = layer(x, *args)
    with reading(find_layers(layer), SparseFeatures(x)) as readers:
        found = layer(x, *args)
    assert readers
    torch.testing.assert_close(found, plain)
    for ours, theirs in zip(gradients(layer, found), gradients(layer, plain), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("edges", EDGES)
@pytest.mark.parametrize(
    ("options", "sparse"), [({}, True), ({"improved": True}, True), ({"flow": "target_to_source"}, False)]
)
def test_gcn_propagates_by_a_sparse_product_in_every_layer(options, sparse, edges):
    first, second = (pyg_nn.GCNConv(*widths, **options).double() for widths in ((WIDTH, 4), (4, 3)))
    both, x, memo, ends = nn.ModuleList([first, second]), features(), {}, EDGES[edges]
    entries = SparseFeatures(x)
    plain = second(first(x, ends).relu(), ends)
    for _ in range(2):
        once = normalised_once(find_convolutions(both), ends, lambda key, make: memo.setdefault(key, make()))
        with once, reading(find_layers(both), entries) as readers:
            found = second(first(x, ends).relu(), ends)
    assert (readers == [first.lin, first]) if sparse else (readers == [first.lin])
    assert len(entries._normalised) == sparse
    torch.testing.assert_close(found, plain)
    for ours, theirs in zip(gradients(both, found), gradients(both, plain), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("aggr", ["add", "mean"])
def test_edge_weights_count(aggr):
    layer, x = pyg_nn.GraphConv(WIDTH, 3, aggr=aggr).double(), features()
    weight = torch.rand(20, dtype=torch.float64, requires_grad=True)
    with reading(find_layers(layer), SparseFeatures(x)) as readers:
        found = layer(x, EDGES["random"], edge_weight=weight)
    plain = layer(x, EDGES["random"], weight)
    assert layer in readers
    for part in (*layer.parameters(), weight):
        torch.testing.assert_close(*(torch.autograd.grad(out.sum(), part, retain_graph=True) for out in (found, plain)))


def test_other_rows_and_layers_of_other_kinds_run_as_ever():
    class Own(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    x = features()
    layers = nn.ModuleList([nn.Linear(WIDTH, 3), Own(WIDTH, 3), pyg_nn.SAGEConv(WIDTH, 3)]).double()
    assert find_layers(layers) == [layers[0], layers[2], layers[2].lin_l, layers[2].lin_r]
    with reading(find_layers(layers), SparseFeatures(x)) as readers:
        found = layers[0](x + 1), layers[1](x), layers[2]((x.clone(), x.clone()), EDGES["random"])
        assert torch.equal(layers[0](input=x), layers[0](x.clone()))
    assert not readers
    plain = layers[0](x + 1), layers[1](x), layers[2]((x, x), EDGES["random"])
    assert all(torch.equal(a, b) for a, b in zip(found, plain, strict=True))


def test_nothing_is_left_in_a_layer():
    layer, x = nn.Linear(WIDTH, 3).double(), features()
    with pytest.raises(RuntimeError), reading([layer], SparseFeatures(x)):
        layer(layer(x))  # of another width
    assert "forward" not in vars(layer) and torch.equal(copy.deepcopy(layer)(x), layer(x))


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (features() * (torch.arange(WIDTH) < 3), None),
        (torch.zeros(0, 3), None),
        (torch.zeros(4, 3), None),
        (torch.ones(4, 3), "100% of the features are not 0 (allowed: up to 20%"),
        (None, "no table"),
        (torch.zeros(4, dtype=torch.float), "no table"),
        (torch.zeros(4, 3, dtype=torch.long), "no table"),
        (features().to_sparse(), "no table"),
    ],
)
def test_features_that_are_better_read_as_they_are(x, text):
    found = explain_refusal(x)
    assert found is None if text is None else text in found


# -- whole networks and runs --------------------------------------------------------------------------------------------


NETWORKS = {
    "gcnconv": {},
    "sageconv": {"gnn": {"layer_type": "sageconv"}},
    "gatconv": {"gnn": {"layer_type": "gatconv"}},
    "pre_mp": {"gnn": {"layers_pre_mp": 1}},
    "skipconcat": {"gnn": {"stage_type": "skipconcat"}},
    "skipsum": {"gnn": {"stage_type": "skipsum", "dim_inner": WIDTH}},
    "no_layers": {"model": {"type": "mlp"}, "gnn": {"layers_mp": 0}},
    **{name: {"model": {"type": name}, "gnn": {"l2norm": False}} for name in ("gcn", "sage", "gat", "mlp", "gcnii")},
    "sage_gcn": {"model": {"type": "sage"}, "gkd_model": {"aggregator": "gcn"}},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_of_ours_and_the_hosts_reads_them(name):
    groups = {"gnn": {"layers_mp": 2, "dim_inner": 8, "stage_type": "stack", "layer_type": "gcnconv", "head": "node"}}
    for group, values in toy.merge(groups, NETWORKS[name]).items():
        for key, value in values.items():
            cfg[group][key] = value
    cfg.share.dim_in, cfg.share.dim_out, cfg.accelerator = WIDTH, 3, "cpu"
    torch.manual_seed(0)
    own = host.snapshot()
    with host.scoped(own):
        module = create_model(to_device=False).eval()
    labels = torch.zeros(NODES, dtype=torch.long)
    batch = Batch.from_data_list([Data(x=features(torch.float32), edge_index=EDGES["random"], y=labels)])
    sample = Sample(batch, Task("node", "multiclass"), features=SparseFeatures(batch.x))
    found, plain = (ObservedModel(module, own, None, sparse).observe(sample) for sparse in (True, False))
    torch.testing.assert_close(found.logits, plain.logits)
    ours, theirs = (
        torch.autograd.grad(seen.logits.square().sum(), list(module.parameters())) for seen in (found, plain)
    )
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    model = ObservedModel(module, own, None, True)
    model.observe(sample)
    assert not model.reads_dense


def bag_of_words() -> Data:
    data = toy.community(0)
    data.x = (data.x > 1.2).float()
    return data


@pytest.fixture
def words(monkeypatch):
    monkeypatch.setitem(toy.SETS, "words", lambda: [bag_of_words()])


RUNS = {
    "supervised": {},
    "several": {"kd": {"students": 3, "update": "joint"}, "kd_response": {"weight": 1.0}},
    "alignahead_pp": {"kd": {"preset": "alignahead_pp", "students": 2}},
    "ema": {"kd_response": {"weight": 1.0, "source": "ema"}},
    "hidden_edges": {"kd": {"hide_edges": 0.3}},
}


@pytest.mark.usefixtures("toy_data", "words")
@pytest.mark.parametrize("name", RUNS)
def test_runs_end_like_dense_ones(name, tmp_path, monkeypatch):
    def train(title: str, sparse: bool) -> Path:
        groups = toy.merge(RUNS[name], {"kd": {"sparse_input": sparse}, "dataset": {"name": "words"}})
        return run(toy.config(tmp_path, title, **groups), quiet=True).folder

    taken = []
    plain = Trainer.run

    def watched(self: Trainer, seed: int):
        done = plain(self, seed)
        taken.append([s.model.sparse_input and not s.model.reads_dense for s in self.students])
        return done

    monkeypatch.setattr(Trainer, "run", watched)
    dense, sparse = train("dense", False), train("sparse", True)
    assert not any(taken[0]) and all(taken[1])
    assert result(sparse)["warnings"] == result(dense)["warnings"]
    for split in ("train", "val", "test"):
        for ours, theirs in zip(rows(sparse / "0", split), rows(dense / "0", split), strict=True):
            assert ours == pytest.approx(theirs, abs=2e-4, nan_ok=True)


@pytest.mark.usefixtures("toy_data", "words")
def test_resume_and_loading(tmp_path, monkeypatch):
    groups = {"kd": {"sparse_input": True}, "dataset": {"name": "words"}, "train": {"ckpt_period": 1}}
    whole = run(toy.config(tmp_path, "whole", **groups), quiet=True).folder
    path = toy.config(tmp_path, "stopped", **groups)
    with monkeypatch.context() as patch:
        stop_in(2, patch)
        with pytest.raises(Stop):
            run(path, quiet=True)
    stopped = run(path, quiet=True).folder
    assert outcome(stopped / "0") == outcome(whole / "0")
    data, student = bag_of_words(), load_student(whole / "0")
    with torch.no_grad():
        logits = student(Batch.from_data_list([data]))
    right = (logits.argmax(1) == data.y)[data.test_mask].float().mean()
    assert result(whole)["answers"]["best"]["test"] == pytest.approx(float(right), abs=1e-4)
