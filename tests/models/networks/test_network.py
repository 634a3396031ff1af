"""Our networks against their equations, their published sizes, and the host's own layers."""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.graphgym import register
from torch_geometric.graphgym.config import cfg, set_cfg
from torch_geometric.graphgym.loader import create_loader
from torch_geometric.graphgym.loss import compute_loss
from torch_geometric.graphgym.model_builder import create_model
from yacs.config import CfgNode

from gkd_plugin.data.keys import METRIC_KEYS, SPLIT_KEYS
from gkd_plugin.errors import ConfigError
from gkd_plugin.models.networks import GROUP, KEYS, NETWORKS, check, join_keys
from gkd_plugin.models.observed import ObservedModel
from gkd_plugin.models.sample import Sample
from gkd_plugin.schema import BadValue, Key, Number
from tests.models.networks.network_oracles import EQUATIONS

PLAIN = {"batchnorm": False, "l2norm": False, "dropout": 0.0}
Build = Callable[..., nn.Module]
RELATIONS = 3


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``build('gat', 5, 3, {'heads': 2}, layers_mp=2)`` is the host's ``create_model`` under such a cfg."""
    for name, network in NETWORKS.items():
        monkeypatch.setitem(register.network_dict, name, network)

    def make(kind: str, dim_in: int = 5, dim_out: int = 3, own: dict[str, Any] | None = None, **gnn: Any) -> nn.Module:
        cfg.clear()
        set_cfg(cfg)
        cfg[GROUP] = CfgNode({**{key.name: None for key in KEYS}, **(own or {})})
        cfg.model.type, cfg.gnn.head, cfg.share.relations = kind, "node", RELATIONS
        for key, value in {**PLAIN, **gnn}.items():
            cfg.gnn[key] = value
        return create_model(to_device=False, dim_in=dim_in, dim_out=dim_out).model

    yield make
    cfg.clear()
    set_cfg(cfg)


def toy(dtype: torch.dtype = torch.float32, nodes: int = 6, edges: str = "01 10 12 21 23 32 30 03 34 43") -> Batch:
    """Two small graphs in one batch; in the first, node 5 is isolated and 0-1-2-3 is a ring."""
    generator = torch.Generator().manual_seed(1)
    parts = []
    for _ in range(2):
        parts.append(
            Data(
                x=torch.randn(nodes, 5, generator=generator, dtype=dtype),
                edge_index=torch.tensor([[int(u), int(v)] for u, v in edges.split()], dtype=torch.long)
                .reshape(-1, 2)
                .t(),
                y=torch.arange(nodes) % 3,
                train_mask=torch.arange(nodes) < 2,
            )
        )
    batch = Batch.from_data_list(parts)
    batch.edge_type = torch.arange(batch.num_edges) % RELATIONS
    return batch


# ---------------------------------------------------------------------------------------------------- published sizes


def gat(heads: int, out_heads: int, residual: str, layers: int, width: int, count: int) -> tuple[Any, ...]:
    own = {"heads": heads, "out_heads": out_heads, "residual": residual}
    return "gat", 50, 121, own, {"layers_mp": layers, "dim_inner": width}, count


def gcnii(dim_in: int, dim_out: int, size: int, count: int) -> tuple[Any, ...]:
    return "gcnii", dim_in, dim_out, {}, {"layers_mp": size, "dim_inner": size}, count


SIZES = {
    # d h + h [linear in] + L h^2 [a bias-free matrix per layer] + h C + C [linear out]
    "Cora 64x64": gcnii(1433, 7, 64, 354_375),
    "Cora 4x4": gcnii(1433, 7, 4, 5_835),
    "CiteSeer 64x64": gcnii(3703, 6, 64, 499_590),
    "CiteSeer 4x4": gcnii(3703, 6, 4, 14_910),
    "PubMed 64x64": gcnii(500, 3, 64, 294_403),
    "PubMed 4x4": gcnii(500, 3, 4, 2_083),
    # w = heads x dim_inner, o = out_heads x C.
    # dgl: d w + 2 w [first], (L - 1)(2 w^2 + 2 w) [hidden, with skip], 2 w o + 2 o [out, with a skip per head]
    "LSP teacher": gat(4, 6, "dgl", 2, 256, 3_640_748),
    "LSP student": gat(2, 2, "dgl", 4, 68, 185_172),
    "Alignahead student": gat(3, 3, "dgl", 4, 64, 372_438),
    # pyg: d w + 3 w + d w + w [first with bias, and its skip], (L - 1)(2 w^2 + 4 w) [hidden],
    # w o + 2 o + C + w C + C [out, averaged before its skip]
    "G-CRD teacher": gat(4, 6, "pyg", 2, 256, 3_076_766),
    "G-CRD student of five layers": gat(2, 2, "pyg", 4, 68, 176_846),
    "G-CRD student of two layers": gat(4, 4, "pyg", 1, 64, 182_714),
    # (d + 1) h + (h + 1) C, the count of every two-layer GCN and MLP
    "GCN-16": ("gcn", 1433, 7, {}, {"layers_mp": 1, "dim_inner": 16}, 23_063),
    # R d h + d h + h [first: a matrix for each relation, one for the node, a bias], R h C + h C + C [last], R = 3
    "RGCN-16": ("rgcn", 1433, 7, {}, {"layers_mp": 1, "dim_inner": 16}, 4 * 1433 * 16 + 16 + 4 * 16 * 7 + 7),
    # the same with 2 bases: 2 d h + 2 R [of which each relation's matrix is a sum] + d h + h, and so on
    "RGCN-16 of 2 bases": (
        "rgcn",
        1433,
        7,
        {"bases": 2},
        {"layers_mp": 1, "dim_inner": 16},
        (3 * 1433 * 16 + 2 * 3 + 16) + (3 * 16 * 7 + 2 * 3 + 7),
    ),
    # 4 blocks in hidden layers: R h^2 / 4, after a linear layer d h + h
    "RGCN-16 of 4 blocks": (
        "rgcn",
        1433,
        7,
        {"blocks": 4},
        {"layers_pre_mp": 1, "layers_mp": 1, "dim_inner": 16},
        (1433 * 16 + 16) + (3 * 16 * 4 + 16 * 16 + 16) + (4 * 16 * 7 + 7),
    ),
    "MLP-128": ("mlp", 1433, 7, {}, {"layers_mp": 1, "dim_inner": 128}, 184_455),
    # plain batch normalisation has no parameters, and there is no bias before it: d h + h^2 + (h + 1) C
    "GKD's GCN-8": (
        "gcn",
        1433,
        7,
        {"batchnorm": "plain"},
        {"layers_mp": 2, "dim_inner": 8, "batchnorm": True},
        11_591,
    ),
}


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_has_the_published_number_of_parameters(build: Build, size: tuple[Any, ...]) -> None:
    kind, dim_in, dim_out, own, gnn, count = size
    assert sum(p.numel() for p in build(kind, dim_in, dim_out, own, **gnn).parameters()) == count


def test_the_pages_have_every_size_and_every_key() -> None:
    docs = Path(__file__).parents[3] / "docs"
    page = "".join((docs / f"{name}.md").read_text() for name in ("models", "splits"))
    published = [f"{size[-1]:,}" for size in SIZES.values() if size[0] in ("gcnii", "gat")]
    keys = [f"`{key.name}`" for key in (*KEYS, *SPLIT_KEYS)] + [key.name for key in METRIC_KEYS]
    missing = [word for word in (*published, *keys, *(f"`{kind}`" for kind in NETWORKS)) if word not in page]
    assert not missing, f"docs/models.md and docs/splits.md lack {', '.join(missing)}"


# --------------------------------------------------------------------------------------------- equations, in float64


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_network_has_an_equation(kind: str) -> None:
    assert kind in EQUATIONS, (
        f"the network '{kind}' has no slow version: write it into tests/models/networks/network_oracles.py from its equation, with "
        "dense matrices or loops over nodes, and name it in EQUATIONS with the keys to compare it under"
    )


@pytest.mark.parametrize(
    ("kind", "own", "slow"), [(kind, own, slow) for kind, (slow, cases) in EQUATIONS.items() for own in cases]
)
def test_is_its_equation(build: Build, kind: str, own: dict[str, Any], slow: Callable[..., Tensor]) -> None:
    network = build(kind, own=own, layers_mp=3, dim_inner=4, act="elu").double()
    batch = toy(torch.float64)
    with torch.no_grad():
        for parameter in network.parameters():  # biases start at 0, which would hide one that is missing
            parameter.copy_(torch.randn_like(parameter))
        expected = slow(network, toy(torch.float64), network.values)
        pred, true = network(batch)
    torch.testing.assert_close(pred, expected, rtol=1e-9, atol=1e-9)
    assert true is batch.y


# ------------------------------------------------------------------------------------------------------ the host's own


@pytest.mark.parametrize("stage", ["stack", "skipsum", "skipconcat"])
@pytest.mark.parametrize("gnn", [PLAIN, {"batchnorm": True, "l2norm": True, "dropout": 0.5}])
def test_hidden_layers_are_the_hosts(build: Build, stage: str, gnn: dict[str, Any]) -> None:
    kind = {"stage_type": stage, "layers_pre_mp": 1, "layers_mp": 3, "dim_inner": 4, **gnn}
    host = build("gnn", layer_type="gcnconv", layers_post_mp=1, **kind)
    ours = build("gcn", **kind)
    ours.pre_mp.load_state_dict(host.pre_mp.state_dict())
    ours.mp.load_state_dict(host.mp.state_dict())
    for mode in (False, True):
        rows = []
        for network in (host.train(mode), ours.train(mode)):
            torch.manual_seed(3)
            rows.append(network.mp(network.pre_mp(toy())).x)
        assert torch.equal(*rows)
    assert set(ours.mp.state_dict()) == set(host.mp.state_dict())


@pytest.mark.parametrize("kind", NETWORKS)
def test_layers_and_taps_are_found_as_in_the_hosts_network(build: Build, kind: str) -> None:
    own = {"heads": 3} if kind == "gat" else {}
    network = build(kind, own=own, layers_mp=3, dim_inner=4, act="selu").eval()
    width = 12 if kind == "gat" else 4
    layers = list(network.mp.children())
    assert len(layers) == 3
    observed = ObservedModel(network, cfg.clone())
    batch = toy()
    before = batch.x.clone()
    seen = observed.observe(Sample(batch, observed.task), ("conv", "layer", "stage"))
    assert observed.outline(seen).widths == {tap: (width,) * 3 for tap in ("conv", "layer", "stage")}
    for number, layer in enumerate(layers, 1):
        conv, after = seen.layer("conv", number), seen.layer("layer", number)
        torch.testing.assert_close(layer.post_layer(conv), after)
        assert not torch.equal(conv, after)
        assert torch.equal(after, seen.layer("stage", number))
    assert seen.logits.shape == (12, 3)
    assert torch.equal(batch.x, before)


def test_a_gat_reads_its_conv_tap_after_the_skip(build: Build) -> None:
    network = build("gat", own={"heads": 2, "residual": "pyg"}, layers_mp=1, dim_inner=4).eval()
    observed = ObservedModel(network, cfg.clone())
    seen = observed.observe(Sample(toy(), observed.task), ("conv",))
    attention = network.mp.layer0.layer.model
    x = toy().x
    torch.testing.assert_close(seen.layer("conv", 1), attention.conv(x, toy().edge_index) + attention.skip(x))


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_forward_pass_asks_no_configuration(build: Build, kind: str) -> None:
    network = build(kind, layers_pre_mp=1, layers_mp=3, dim_inner=4, l2norm=True, batchnorm=True, dropout=0.3).eval()
    expected = network(toy())[0]
    build("gnn", stage_type="skipconcat", layers_mp=1, dim_inner=9, act="selu")
    cfg.dataset.task, cfg.model.graph_pooling, cfg.mem.inplace = "graph", "max", True
    assert torch.equal(network(toy())[0], expected)


def test_node_read_out_masks_by_split_and_keeps_all_logits(build: Build) -> None:
    network = build("gcn", layers_mp=2, dim_inner=4).eval()
    everything, labels = network(toy())
    batch = toy()
    batch.split = "train"
    pred, true = network(batch)
    assert torch.equal(pred, everything[batch.train_mask])
    assert torch.equal(true, labels[batch.train_mask])
    assert torch.equal(batch.x, everything)


@pytest.mark.parametrize("kind", NETWORKS)
def test_graph_read_out_pools_the_logits_of_nodes(build: Build, kind: str) -> None:
    node = build(kind, layers_mp=2, dim_inner=4).eval()
    rows = node(toy())[0]
    cfg.dataset.task, cfg.model.graph_pooling = "graph", "mean"
    network = create_model(to_device=False, dim_in=5, dim_out=3).model.eval()
    network.load_state_dict(node.state_dict())
    batch = toy()
    pred, true = network(batch)
    torch.testing.assert_close(pred, torch.stack([rows[:6].mean(dim=0), rows[6:].mean(dim=0)]))
    assert true is batch.y
    assert batch.graph_feature is pred


# ------------------------------------------------------------------------------------------------------------- the rest


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize(("nodes", "edges"), [(1, ""), (3, ""), (2, "00 11 01"), (3, "01 01 10")])
def test_odd_graphs_give_finite_numbers(build: Build, kind: str, nodes: int, edges: str) -> None:
    network = build(kind, layers_mp=2, dim_inner=4)
    pred, _ = network(toy(nodes=nodes, edges=edges))
    pred.sum().backward()
    assert pred.shape == (2 * nodes, 3)
    assert pred.isfinite().all()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert gradients and all(each.isfinite().all() for each in gradients)


@pytest.mark.parametrize("kind", NETWORKS)
def test_without_hidden_layers_only_the_last_one_is_left(build: Build, kind: str) -> None:
    network = build(kind, layers_mp=0, dim_inner=4, l2norm=True)
    assert list(network.mp.children()) == []
    assert network(toy())[0].shape == (12, 3)


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_copy_stands_alone(build: Build, kind: str) -> None:
    network = build(kind, layers_mp=2, dim_inner=4).eval()
    expected = network(toy())[0]
    twin = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1.0)
    assert torch.equal(twin(toy())[0], expected)


def test_an_mlp_sees_no_edge(build: Build) -> None:
    network = build("mlp", layers_mp=2, dim_inner=4).eval()
    batch = toy()
    batch.edge_index = batch.edge_index[:, :0]
    assert torch.equal(network(batch)[0], network(toy())[0])


def test_places_of_dropout_and_kinds_of_batch_normalisation(build: Build) -> None:
    def parts(own: dict[str, Any], **gnn: Any) -> list[str]:
        network = build("gcn", own=own, layers_mp=1, **gnn)
        return [type(module).__name__ for module in network.mp.layer0.post_layer]

    assert parts({}, dropout=0.5, batchnorm=True) == ["BatchNorm1d", "Dropout", "ReLU"]
    assert parts({"dropout_place": "after_act"}, dropout=0.5, batchnorm=True) == ["BatchNorm1d", "ReLU", "Dropout"]
    norm = build("gcn", own={"batchnorm": "plain"}, layers_mp=1, batchnorm=True).mp.layer0.post_layer[0]
    assert (norm.affine, norm.track_running_stats) == (False, False)


def test_input_dropout_drops_features_in_training_only(build: Build) -> None:
    network = build("mlp", own={"input_dropout": 0.9}, layers_mp=0)
    twin = build("mlp", layers_mp=0)
    twin.load_state_dict(network.state_dict())
    assert torch.equal(network.eval()(toy())[0], twin(toy())[0])
    torch.manual_seed(0)
    dropped = F.dropout(toy().x, 0.9)
    torch.manual_seed(0)
    torch.testing.assert_close(network.train()(toy())[0], twin.post_mp.layer_post_mp.model(dropped))


@pytest.mark.parametrize(
    ("kind", "own", "gnn", "told"),
    [
        ("gcn", {"heads": 2}, {}, "gkd_model.heads: does not apply. model.type: gcn reads input_dropout"),
        ("gat", {"alpha": 0.2}, {}, "gkd_model.alpha: does not apply"),
        ("edgeconv", {"k": 0}, {}, "gkd_model.k: 0 is not allowed. Allowed: a whole number of at least 1"),
        ("edgeconv", {"k": -3}, {}, "gkd_model.k: -3 is not allowed"),
        ("gcn", {"k": 8}, {}, "gkd_model.k: does not apply"),
        ("gat", {"heads": 0}, {}, "gkd_model.heads: 0 is not allowed. Allowed: a whole number of at least 1"),
        ("gat", {"residual": "dlg"}, {}, "gkd_model.residual: 'dlg' is not allowed. Did you mean 'dgl'"),
        ("gcn", {"batchnorm": "plain"}, {}, "gkd_model.batchnorm: does not apply. Set gnn.batchnorm: true"),
        ("gcnii", {}, {"stage_type": "skipsum"}, "gnn.stage_type: 'skipsum'. gcnii has stack"),
        ("gcnii", {}, {"layers_pre_mp": 2}, "gnn.layers_pre_mp: 2"),
        ("rgcn", {"bases": 2, "blocks": 2}, {}, "gkd_model.bases: set beside blocks. Keep one of"),
        ("rgcn", {"blocks": 3}, {}, "gkd_model.blocks: 3 for gnn.dim_inner: 16. It must divide"),
        (
            "rgcn",
            {"blocks": 4},
            {},
            "gkd_model.blocks: 4 for widths 5 and 16. It must divide them; gnn.layers_pre_mp: 1",
        ),
        ("rgcn", {"bases": -1}, {}, "gkd_model.bases: -1 is not allowed"),
        ("gcn", {"bases": 2}, {}, "gkd_model.bases: does not apply"),
        ("sage", {}, {"layers_post_mp": 2}, "gnn.layers_post_mp: 2. sage ends in one layer"),
        ("sage", {}, {"stage_type": "skipsum"}, "gnn.stage_type: skipsum adds 5 channels to the 16 of layer 1"),
    ],
)
def test_what_means_nothing_is_refused(
    build: Build, kind: str, own: dict[str, Any], gnn: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)):
        build(kind, own=own, **gnn)


def test_all_mistakes_are_reported_together_and_for_the_hosts_network_too(build: Build) -> None:
    build("gcn")
    cfg.dataset.task = "link_pred"
    cfg[GROUP].heads, cfg.gnn.layers_post_mp = 2, 3
    assert [problem.key for problem in check(cfg)] == ["gkd_model.heads", "gnn.layers_post_mp", "dataset.task"]
    build("gnn")
    assert check(cfg) == []
    cfg[GROUP].heads = 2
    assert [str(problem) for problem in check(cfg)] == [
        "gkd_model.heads: does not apply. model.type: gnn reads no key of this group."
    ]


def test_a_network_of_others_that_is_built_like_ours_reads_its_keys(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wide(NETWORKS["gat"]):
        """Somebody's own."""

    monkeypatch.setitem(register.network_dict, "wide", Wide)
    build("wide", own={"heads": 2}, layers_mp=1)
    assert check(cfg) == []
    cfg[GROUP].alpha = 0.2
    assert [problem.key for problem in check(cfg)] == ["gkd_model.alpha"]


def test_networks_share_a_key_of_one_name_or_are_refused() -> None:
    class Other(NETWORKS["gcn"]):
        keys = (*NETWORKS["gat"].keys[:4], Key("alpha", 0.5, Number(0), "not gcnii's"))

    assert join_keys([NETWORKS["gat"], Other])[-1] is Other.keys[-1]
    with pytest.raises(TypeError, match=r"Other declares a key gkd_model\.alpha"):
        join_keys([*NETWORKS.values(), Other])


def test_numbers_as_a_grid_or_a_command_line_writes_them(build: Build) -> None:
    network = build("gat", own={"heads": "3", "negative_slope": "1e-1", "attention_dropout": 0}, layers_mp=1)
    assert network.values["heads"] == 3
    assert network.values["negative_slope"] == 0.1


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)
def test_every_default_is_a_value_that_its_key_allows(key: Any) -> None:
    assert key.kind.parse(key.default) == key.default
    with pytest.raises(BadValue):
        key.kind.parse({"a": 1})


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_example_of_the_docstring_builds(build: Build, kind: str) -> None:
    build("gnn")
    text = inspect.getdoc(NETWORKS[kind]) or ""
    example = yaml.safe_load(text.split(".. code-block:: yaml")[1])
    cfg.merge_from_other_cfg(CfgNode(example))
    assert cfg.model.type == kind
    network = create_model(to_device=False, dim_in=5, dim_out=3).model
    assert type(network) is NETWORKS[kind]
    assert len(list(network.mp.children())) == example["gnn"]["layers_mp"]
    assert network(toy())[0].isfinite().all()


PUBLISHED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "gat": ({"heads": 4, "residual": "dgl"}, {"layers_mp": 2, "act": "elu"}),
    "gcnii": ({}, {"layers_mp": 64}),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_two_epochs_on_cora_lower_the_loss(build: Build, data_dir: Path, kind: str) -> None:
    own, gnn = PUBLISHED.get(kind, ({}, {"layers_mp": 1}))
    build("gnn")
    cfg.dataset.dir = str(data_dir)
    (batch,) = create_loader()[0]
    batch.edge_type = torch.arange(batch.num_edges) % RELATIONS
    network = build(kind, batch.num_features, 7, own, dim_inner=16, **gnn)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    losses = []
    for _ in range(3):
        fresh = copy.copy(batch)
        fresh.split = "train"
        loss, _ = compute_loss(*network(fresh))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[2] < losses[1] < losses[0]
