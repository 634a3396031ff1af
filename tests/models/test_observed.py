"""Observations against what the host's modules really compute."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch_geometric.data import Batch, Data
from torch_geometric.graphgym import register
from torch_geometric.graphgym.model_builder import create_model
from torch_geometric.graphgym.models.head import GNNNodeHead
from yacs.config import CfgNode

import gkd_plugin  # noqa: F401
from gkd_plugin import host
from gkd_plugin.errors import UserError
from gkd_plugin.host import cfg
from gkd_plugin.models.observed import ObservedModel
from gkd_plugin.models.sample import Sample
from gkd_plugin.space.observation import Task

TAPS = ("conv", "layer", "stage")
NODE = Task("node", "multiclass")


def graph(nodes: int = 12, width: int = 5, classes: int = 3) -> Batch:
    torch.manual_seed(3)
    data = Data(
        x=torch.randn(nodes, width),
        edge_index=torch.randint(0, nodes, (2, 4 * nodes)),
        y=torch.randint(0, classes, (nodes,)),
    )
    for position, split in enumerate(("train", "val", "test")):
        data[f"{split}_mask"] = torch.arange(nodes) % 3 == position
    return Batch.from_data_list([data])


def configure(**gnn: object) -> CfgNode:
    cfg.share.dim_in, cfg.share.dim_out = 5, 3
    cfg.accelerator = "cpu"
    cfg.gnn.head = "node"
    for key, value in {"layers_mp": 3, "layers_post_mp": 1, "dim_inner": 8, "layer_type": "gcnconv", **gnn}.items():
        cfg.gnn[key] = value
    return host.snapshot()


def build(**gnn: object) -> ObservedModel:
    own = configure(**gnn)
    torch.manual_seed(0)
    with host.scoped(own):
        return ObservedModel(create_model(to_device=False), own)


def by_hand(model: ObservedModel, batch: Batch) -> dict[str, list[torch.Tensor]]:
    """The taps from the definition: every layer of the stage run one by one on a batch of its own."""
    gnn = model.own.gnn
    x, taps = batch.x, {tap: [] for tap in TAPS}
    layers = model.layers
    for number, layer in enumerate(layers, 1):
        inside = copy.copy(batch)
        inside.x = x
        conv = layer.layer(inside).x.clone()
        taps["conv"].append(conv)
        out = layer.post_layer(conv.clone())
        if gnn.l2norm:
            out = torch.nn.functional.normalize(out, p=2, dim=1)
        taps["layer"].append(out.clone())
        if gnn.stage_type == "skipsum":
            out = x + out
        elif gnn.stage_type == "skipconcat" and number < len(layers):
            out = torch.cat([x, out], dim=1)
        if number == len(layers) and gnn.l2norm:
            out = torch.nn.functional.normalize(out, p=2, dim=-1)
        taps["stage"].append(out)
        x = out
    return taps


@pytest.mark.parametrize("stage", ["stack", "skipsum", "skipconcat"])
@pytest.mark.parametrize("batchnorm", [False, True])
@pytest.mark.parametrize("l2norm", [False, True])
def test_taps_equal_layers_run_by_hand(stage: str, batchnorm: bool, l2norm: bool) -> None:
    cfg.mem.inplace = True
    pre = 0 if stage != "skipsum" else 1
    model = build(stage_type=stage, batchnorm=batchnorm, l2norm=l2norm, layers_pre_mp=pre, dropout=0.0, act="relu")
    model.module.eval()
    batch = graph()
    start = copy.copy(batch)
    with host.scoped(model.own), torch.no_grad():
        if pre:
            start = model.network.pre_mp(start)
        expected = by_hand(model, start)
    with torch.no_grad():
        seen = model.observe(Sample(batch, NODE), TAPS)
    for tap in TAPS:
        assert len(seen.hidden[tap]) == 3
        for got, want in zip(seen.hidden[tap], expected[tap], strict=True):
            torch.testing.assert_close(got, want, rtol=0, atol=1e-6)


def test_conv_tap_survives_an_in_place_activation() -> None:
    cfg.mem.inplace = True
    model = build(act="relu", batchnorm=False, l2norm=False)
    with torch.no_grad():
        seen = model.observe(Sample(graph(), NODE), ("conv",))
    assert all(bool((state < 0).any()) for state in seen.hidden["conv"])


def test_logits_of_every_node_and_the_host_s_masked_answers() -> None:
    model = build()
    model.module.eval()
    batch = graph()
    sample = Sample(batch, NODE)
    with torch.no_grad():
        seen = model.observe(sample)
        assert seen.logits.shape == (12, 3)
        for split in ("train", "val", "test"):
            theirs = copy.copy(batch)
            theirs.split = split
            pred, true = model.module(theirs)
            ours, labels = sample.answers(seen, split)
            assert torch.equal(ours, pred) and torch.equal(labels, true)


def test_a_model_runs_under_its_own_cfg_whatever_the_global_one_says() -> None:
    model = build(stage_type="skipsum", layers_pre_mp=1, l2norm=True)
    model.module.eval()
    sample = Sample(graph(), NODE)
    with torch.no_grad():
        before = model.observe(sample).logits
        cfg.gnn.stage_type, cfg.gnn.l2norm = "stack", False
        assert torch.equal(model.observe(sample).logits, before)
        assert (cfg.gnn.stage_type, cfg.gnn.l2norm) == ("stack", False)
        plain = copy.copy(sample.batch)
        assert not torch.equal(model.module(plain)[0], before)  # the trap is real


def test_scoped_restores_the_global_cfg_after_an_error() -> None:
    own = configure(dim_inner=4)
    cfg.gnn.dim_inner = 32

    def failing() -> None:
        with host.scoped(own):
            assert cfg.gnn.dim_inner == 4
            raise RuntimeError

    with pytest.raises(RuntimeError):
        failing()
    assert cfg.gnn.dim_inner == 32


def test_observing_leaves_no_trace() -> None:
    model = build(batchnorm=True, dropout=0.5)
    model.module.train()
    batch = graph()
    values = {key: value.clone() for key, value in batch.to_dict().items() if isinstance(value, torch.Tensor)}
    buffers = {name: value.clone() for name, value in model.module.state_dict().items()}
    state = torch.get_rng_state()
    with model.untouched():
        model.observe(Sample(batch, NODE), TAPS)
    assert torch.equal(state, torch.get_rng_state())
    with model.untouched(train=True):
        model.observe(Sample(batch, NODE), TAPS)
    for name, value in model.module.state_dict().items():
        assert torch.equal(value, buffers[name]), name
    assert all(module.training for module in model.module.modules())
    for key, value in values.items():
        assert torch.equal(batch[key], value), key
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.module.modules())
    copy.deepcopy(model.module)


class Other(nn.Module):
    """A network without ``mp``, as forks have them."""

    def __init__(self, dim_in: int, dim_out: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(dim_in, 6), nn.Linear(6, 4)])
        self.out = nn.Linear(4, dim_out)

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        x = batch.x
        for block in self.blocks:
            x = block(x).relu()
        return self.out(x), batch.y


def test_layers_by_module_name_pattern() -> None:
    own = configure()
    model = ObservedModel(Other(5, 3), own, "blocks.*")
    seen = model.observe(Sample(graph(), NODE), TAPS)
    assert model.depth == 2
    x = graph().x
    first = model.network.blocks[0](x)
    torch.testing.assert_close(seen.hidden["conv"][0], first)
    torch.testing.assert_close(seen.hidden["layer"][1], model.network.blocks[1](first.relu()))
    torch.testing.assert_close(seen.hidden["stage"][0], first.relu())  # what layer 2 receives


def test_an_unknown_pattern_names_what_exists() -> None:
    with pytest.raises(UserError, match=r"kd.layers: no module is called 'blokcs\.\*'.*blocks\.0.*out"):
        ObservedModel(Other(5, 3), configure(), "blokcs.*")


def test_a_network_without_mp_asks_for_a_pattern_only_when_layers_are_read() -> None:
    model = ObservedModel(Other(5, 3), configure())
    assert model.observe(Sample(graph(), NODE)).logits.shape == (12, 3)
    with pytest.raises(UserError, match=r"kd\.layers"):
        model.observe(Sample(graph(), NODE), ("layer",))


def test_edge_tasks_decode_every_split_from_one_set_of_states() -> None:
    configure()
    cfg.dataset.task, cfg.gnn.head, cfg.share.dim_out = "link_pred", "link_pred", 1
    cfg.model.edge_decoding = "dot"
    own = host.snapshot()
    torch.manual_seed(0)
    model = ObservedModel(create_model(to_device=False), own)
    model.module.eval()
    batch = graph()
    for split in ("train", "val", "test"):
        batch[f"{split}_edge_index"] = torch.randint(0, 12, (2, 6))
        batch[f"{split}_edge_label"] = torch.randint(0, 2, (6,))
    sample = Sample(batch, Task("edge", "binary"))
    with torch.no_grad():
        seen = model.observe_splits(sample, ("layer",), ("train", "val", "test"))
        for split, observation in seen.items():
            alone = model.observe(sample, (), split)
            assert torch.equal(alone.logits, observation.logits)
            assert torch.equal(observation.labels, batch[f"{split}_edge_label"])


def test_every_host_layer_can_be_observed() -> None:
    batch = graph()
    batch.edge_attr = torch.randn(batch.edge_index.size(1), 4)
    cfg.dataset.edge_dim = 4
    for name in [n for n in register.layer_dict if n.endswith("conv") and n not in ("splineconv",)]:
        model = build(layer_type=name)
        seen = model.observe(Sample(batch, NODE), TAPS)
        assert [state.size(-1) for state in seen.hidden["conv"]] == [8, 8, 8], name


@pytest.mark.parametrize("ask", [lambda batch: batch.split, lambda batch: batch["split"]])
def test_a_head_that_needs_a_split_is_told_what_to_do(ask: Callable[[Batch], str]) -> None:
    class Older(GNNNodeHead):  # as the host's own was, and heads that were copied from it
        def _apply_index(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
            mask = batch[f"{ask(batch)}_mask"]
            return batch.x[mask], batch.y[mask]

    register.head_dict["older"] = Older
    model = build(head="older")
    with pytest.raises(UserError, match=r"gnn.head: 'older'.*reads batch.split.*every row where batch.split is absent"):
        model.observe(Sample(graph(), NODE))
