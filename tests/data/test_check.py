"""What is said of data before anything is trained on them, through both doors; and what is let through."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.graphgym import register
from torch_geometric.graphgym.loader import create_loader
from torch_geometric.graphgym.model_builder import create_model
from torch_geometric.loader import DataLoader, RandomNodeLoader
from torch_geometric.transforms import Constant

import gkd_plugin  # noqa: F401 - registers
from gkd_plugin.config.resolve import resolve
from gkd_plugin.data.check import check_data
from gkd_plugin.data.doubts import find_doubts, find_shared_items
from gkd_plugin.data.handed import MASKS, NAME, handing, read_handed
from gkd_plugin.data.load import load
from gkd_plugin.data.split_graphs import PARTS
from gkd_plugin.errors import UserError
from gkd_plugin.host import cfg
from gkd_plugin.training.graphgym import make_trainer
from tests import toy

Edit = Callable[[Data], Any]
NAN = float("nan")


def serve(graphs: list[Data], transform: Any = None, **dataset: Any) -> None:
    made = toy.Toy(graphs)
    made.transform = transform
    register.loader_dict["mine"] = lambda format, name, folder: made if format == "mine" else None
    cfg.dataset.update({"format": "mine", "name": "mine", "task": "node", "task_type": "classification", **dataset})
    cfg.gnn.head, cfg.gnn.layer_type, cfg.accelerator = cfg.dataset.task, "gcnconv", "cpu"
    cfg.train.mode = "distill"


@pytest.fixture(autouse=True)
def _loaders() -> Any:
    before = dict(register.loader_dict)
    yield
    register.loader_dict.clear()
    register.loader_dict.update(before)


def put(key: str, value: Any) -> Edit:
    return lambda data: data.update({key: value(data) if callable(value) else value})


def rename(old: str, new: str) -> Edit:
    def edit(data: Data) -> None:
        data[new] = data[old]
        del data[old]

    return edit


def drop(*names: str) -> Edit:
    return lambda data: toy.without(data, *names)


def both(*edits: Edit) -> Edit:
    return lambda data: [edit(data) for edit in edits]


def masks(change: Callable[[Tensor], Tensor]) -> Edit:
    return lambda data: data.update({name: change(data[name]) for name in toy.MASKS})


def label(part: str, value: float, dtype: torch.dtype = torch.long) -> Edit:
    """The first two items of a split get another label."""

    def edit(data: Data) -> None:
        data.y = data.y.to(dtype)
        data.y[data[f"{part}_mask"].nonzero()[:2].view(-1)] = value

    return edit


def one_class(part: str) -> Edit:
    def edit(data: Data) -> None:
        data[f"{part}_mask"] &= data.y == 0

    return edit


def unlabelled(value: float, dtype: torch.dtype = torch.long) -> Edit:
    """Every fifth node has no label and is in no split."""

    def edit(data: Data) -> None:
        data.y = data.y.to(dtype)
        data.y[::5] = value
        for name in toy.MASKS:
            data[name][::5] = False

    return edit


def nan_in(data: Data) -> None:
    data.x[3, :2] = NAN
    data.x[5, 1] = float("inf")


# found in the data; the graph to edit; the edit; what is said
NODES: dict[str, tuple[int, Edit, str]] = {
    "val_named_valid": (3, rename("val_mask", "valid_mask"), r"has no val_mask \(.*It has valid_mask, "),
    "val_named_validation": (
        3,
        rename("val_mask", "validation_mask"),
        r"has no val_mask \(.*It has validation_mask, but the host reads these names only",
    ),
    "no_val": (3, drop("val_mask"), r"has no val_mask \("),
    "no_masks": (3, drop(*toy.MASKS), r"has no train_mask, val_mask, test_mask \("),
    "nothing_for_test": (3, put("test_mask", lambda d: d.test_mask & False), r"there is no node in test_mask"),
    "masks_of_0_and_1": (3, masks(Tensor.long), r"train_mask contains 0 and 1 as int64.*data\.train_mask\.bool\(\)"),
    "masks_of_bytes": (3, masks(Tensor.byte), r"val_mask contains 0 and 1 as uint8"),
    "masks_of_positions": (3, masks(lambda m: m.nonzero().view(-1)), r"contains positions \(int64\).*index_to_mask"),
    "several_splits": (3, masks(lambda m: torch.stack([m, m], 1)), r"shape \[48, 2\].*\[:, 0\]"),
    "masks_too_short": (3, masks(lambda m: m[:40]), r"train_mask has 40 values for 48 nodes"),
    "train_without_label": (3, label("train", -1), r"2 of 16 nodes of the train split have no class \(label -1\)"),
    "test_without_label": (3, label("test", -1), r"2 of 16 nodes of the test split have no class.*Leave them out"),
    "val_ignored_by_torch": (3, label("val", -100), r"val split have no class \(label -100\)"),
    "label_nan": (
        2,
        label("val", NAN, torch.float),
        r"2 of 16 nodes of the val split have a label that is not a number",
    ),
    "label_between": (2, label("val", 0.5, torch.float), r"0\.5 are not classes.*task_type: regression"),
    "classes_as_int32": (3, put("y", lambda d: d.y.int()), r"y holds classes as int32.*data\.y\.long\(\)"),
    "classes_as_floats": (3, put("y", lambda d: d.y.float()), r"y holds classes as float32.*data\.y\.long\(\)"),
    "classes_with_a_gap": (3, put("y", lambda d: d.y * 2), r"label of 3 or more \(up to 4\).*counts 3 classes"),
    "classes_from_1": (3, put("y", lambda d: d.y + 1), r"Number them from 0"),
    "two_classes_with_a_gap": (2, put("y", lambda d: d.y * 3), r"label of 2 or more \(up to 3\).*counts 2 classes"),
    "unlabelled_make_a_class": (2, unlabelled(-1), r"10 labels are -1, which the host counts .*\(3 instead of 2\)"),
    "unlabelled_nan": (2, unlabelled(NAN, torch.float), r"10 labels are nan.*\(12 instead of 2\).*nan_to_num"),
    "unlabelled_nan_of_three": (3, unlabelled(NAN, torch.float), r"10 labels are nan"),
    "x_double": (3, put("x", lambda d: d.x.double()), r"x is float64.*data\.x\.float\(\)"),
    "x_half": (3, put("x", lambda d: d.x.half()), r"x is float16"),
    "x_int": (3, put("x", lambda d: d.x.long()), r"x is int64"),
    "x_bool": (3, put("x", lambda d: d.x > 0), r"x is bool"),
    "x_nan": (3, nan_in, r"3 values of x are NaN or infinite \(in 2 of 48 nodes\)"),
    "val_of_one_class": (2, one_class("val"), r"metric_best: auto means auc.*val split.*metric_best: accuracy"),
    "test_of_one_class": (2, one_class("test"), r"auc.*test split"),
}


@pytest.mark.parametrize("case", NODES)
def test_both_doors_refuse(case: str) -> None:
    classes, edit, said = NODES[case]
    data = toy.community(0, classes=classes)
    edit(data)
    serve([data])
    with pytest.raises(UserError, match=rf"(?s)dataset\.name: 'mine'.*{said}"):
        load(cfg)
    loaders = create_loader()
    with pytest.raises(UserError, match=said):
        make_trainer(resolve(cfg), create_model(), loaders, [])


def test_everything_is_said_at_once() -> None:
    data = toy.community(0)
    both(put("x", lambda d: d.x.double()), label("val", -1), label("test", -1))(data)
    serve([data])
    with pytest.raises(UserError) as caught:
        load(cfg)
    assert len(str(caught.value).splitlines()) == 4


FINE: dict[str, tuple[int, Edit, dict[str, Any]]] = {
    "plain": (3, drop(), {}),
    "a_class_unknown_to_training": (3, put("train_mask", lambda d: d.train_mask & (d.y != 2)), {}),
    "a_class_in_no_split": (3, masks(lambda m: m & (torch.arange(48) % 3 != 2)), {}),
    "labels_in_a_column": (3, put("y", lambda d: d.y.view(-1, 1)), {}),
    "two_classes_as_floats": (2, put("y", lambda d: d.y.float()), {}),
    "val_of_one_class_by_accuracy": (2, one_class("val"), {"metric_best": "accuracy"}),
    "val_of_one_class_by_ones_own": (2, one_class("val"), {"custom_metrics": ["f1_micro"]}),
    "ids_for_an_encoder": (3, put("x", lambda d: d.x.long()), {"dataset.node_encoder": True}),
    "ids_for_ones_own_network": (3, put("x", lambda d: d.x.long()), {"model.type": "mine"}),
    "unlabelled_as_some_class": (2, both(unlabelled(-1), put("y", lambda d: d.y.clamp(0))), {}),
}


@pytest.mark.parametrize("case", FINE)
def test_what_is_let_through(case: str) -> None:
    classes, edit, keys = FINE[case]
    data = toy.community(0, classes=classes)
    edit(data)
    serve([data])
    for key, value in keys.items():
        group, _, leaf = key.rpartition(".")
        (cfg[group] if group else cfg)[leaf] = value
    assert len(load(cfg)) == 3


def test_a_program_that_set_the_classes_itself_may_have_unlabelled_nodes() -> None:
    data = toy.community(0, classes=2)
    unlabelled(-1)(data)
    serve([data])
    loaders = create_loader()
    cfg.share.dim_out = 2
    check_data(loaders, cfg)


# ----------------------------------------------------------------------------------------------------------- other tasks


def split_graphs(*edits: Callable[[list[Data]], Any]) -> None:
    graphs = [toy.without(toy.community(seed, nodes=12), *toy.MASKS) for seed in range(12)]
    for seed, graph in enumerate(graphs):
        graph.y = torch.tensor([seed % 2])
    for edit in edits:
        edit(graphs)
    made = toy.Toy(graphs)
    for position, part in enumerate(("train", "val", "test")):
        made._data[f"{part}_graph_index"] = torch.arange(position * 4, position * 4 + 4)
    register.loader_dict["mine"] = lambda format, name, folder: made if format == "mine" else None
    cfg.dataset.update({"format": "mine", "name": "mine", "task": "graph", "task_type": "classification"})


GRAPHS: dict[str, tuple[Callable[[list[Data]], Any], str]] = {
    "without_label": (lambda g: g[9].update({"y": torch.tensor([-1])}), r"1 of 4 graphs of the test split have no cl"),
    "val_of_one_class": (lambda g: [one.update({"y": torch.tensor([1])}) for one in g[4:8]], r"all 4 graphs are of cl"),
    "double": (lambda g: [one.update({"x": one.x.double()}) for one in g], r"x is float64"),
    "gap": (lambda g: g[0].update({"y": torch.tensor([7])}), r"1 of 4 graphs of the train split .*up to 7"),
}


@pytest.mark.parametrize("case", GRAPHS)
def test_graphs_are_looked_at_by_split(case: str) -> None:
    edit, said = GRAPHS[case]
    split_graphs(edit)
    with pytest.raises(UserError, match=said):
        load(cfg)


def test_sound_graphs_are_let_through() -> None:
    split_graphs()
    assert [len(loader.dataset) for loader in load(cfg)] == [4, 4, 4]


def test_a_split_of_graphs_under_another_name() -> None:
    graphs = [toy.without(toy.community(seed, nodes=12), *toy.MASKS) for seed in range(4)]
    serve(graphs, task="graph")
    with pytest.raises(UserError, match=r"has no train_graph_index.*must give the positions"):
        load(cfg)


LINKS: dict[str, tuple[Edit, str]] = {
    "no_test_pairs": (
        drop("test_edge_index"),
        r"has no test_edge_index \(task: link_pred\).*or give train_, val_ and",
    ),
    "pairs_the_other_way": (
        put("val_edge_index", lambda d: d.val_edge_index.t()),
        r"shape \[72, 2\]\. Allowed: \[2, p",
    ),
    "no_labels": (drop("val_edge_label"), r"val_edge_index has no val_edge_label"),
    "no_pairs": (put("test_edge_index", torch.empty(2, 0).long()), r"there is no pair in test_edge_index"),
    "too_many_labels": (put("val_edge_label", torch.ones(80).long()), r"val_edge_label has 80 values for 72 pairs"),
    "one_label": (put("val_edge_label", torch.ones(72).long()), r"all 72 pairs are of class 1"),
    "a_third_label": (put("test_edge_label", torch.full((64,), 2)), r"pairs of the test split .*up to 2"),
    "labels_of_nodes": (put("y", torch.arange(48) % 7), r"counts the 7 values of y.*del data\.y"),
}


@pytest.mark.parametrize("case", LINKS)
def test_pairs_are_looked_at_by_split(case: str) -> None:
    edit, said = LINKS[case]
    data = toy.links(0)
    edit(data)
    serve([data], task="link_pred")
    with pytest.raises(UserError, match=said):
        load(cfg)


def test_links_on_data_of_nodes_are_told_what_is_missing() -> None:
    serve([toy.community(0)], task="link_pred")
    with pytest.raises(UserError, match=r"has no train_edge_index, val_edge_index, test_edge_index") as caught:
        load(cfg)
    assert "Cora" not in str(caught.value)
    assert "train_edge_label" in str(caught.value) or "_edge_label ([pairs])" in str(caught.value)


def test_targets_without_a_number() -> None:
    data = toy.regression(0)
    label("val", NAN, torch.float)(data)
    serve([data], task_type="regression")
    with pytest.raises(UserError, match=r"2 of 16 nodes of the val split have a label that is not a number"):
        load(cfg)


@pytest.mark.parametrize("name", toy.SETS)
def test_the_toys_are_sound_or_lack_a_split(name: str) -> None:
    task = "link_pred" if name == "links" else "node"
    serve(toy.SETS[name](), task=task, task_type="regression" if name == "regression" else "classification")
    if name in ("no_validation", "no_masks"):
        with pytest.raises(UserError, match="has no"):
            load(cfg)
    else:
        load(cfg)


# ------------------------------------------------------------------------------------------------------ what is not seen


def test_what_a_transform_makes_is_not_judged() -> None:
    data = toy.community(0)
    del data.x
    data.y = data.y.double()
    serve([data], transform=Constant())
    load(cfg)


def test_loaders_with_graphs_of_their_own_need_no_masks() -> None:
    parts = [toy.Toy([toy.without(toy.community(seed), *toy.MASKS)]) for seed in range(3)]
    cfg.dataset.task, cfg.share.dim_out = "node", 3
    check_data([DataLoader(part) for part in parts], cfg)
    check_data([DataLoader([part[0]]) for part in parts], cfg)
    parts[1]._data.y[0] = -1
    with pytest.raises(UserError, match="1 of 48 nodes of the val split"):
        check_data([DataLoader(part) for part in parts], cfg)


def test_samplers_are_looked_at_through_their_data() -> None:
    cfg.dataset.task, cfg.share.dim_out = "node", 3
    data = toy.community(0)
    whole = toy.Toy([toy.community(0)])
    loaders = [RandomNodeLoader(data, num_parts=2), DataLoader(whole), DataLoader(whole)]
    check_data(loaders, cfg)
    data.x = data.x.double()
    with pytest.raises(UserError, match="x is float64"):
        check_data(loaders, cfg)


def test_looking_leaves_the_random_stream_alone() -> None:
    serve([toy.community(0)])
    loaders = create_loader()
    before = torch.get_rng_state()
    check_data(loaders, cfg)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("end", "value"), [(0, 48), (1, 99), (0, -1)])
def test_edges_lead_to_nodes_that_are_there(end: int, value: int) -> None:
    data = toy.community(0)
    assert data.num_nodes == 48
    data.edge_index[end, 3] = value
    serve([data])
    with pytest.raises(UserError, match=r"edge_index has 1 edge to nodes that are not there.*Nodes are counted from 0"):
        load(cfg)


def test_edges_of_a_graph_lead_to_its_own_nodes() -> None:
    split_graphs()
    made = register.loader_dict["mine"]("mine", "mine", "")
    made._data.edge_index[0, 0] = made[0].num_nodes  # there are more nodes in all graphs together
    with pytest.raises(UserError, match="edge_index has 1 edge to nodes that are not there"):
        load(cfg)


# ------------------------------------------------------------------------------------------- what two splits share


def first(count: int) -> Edit:
    def edit(data: Data) -> None:
        for name in toy.MASKS:
            data[name] = data[name].clone()
            data[name][:count] = True

    return edit


SHARED = {  # what is done to sound splits, and the numbers that the two splits of each warning share
    "nothing": (drop(), {}),
    "test is train": (put("test_mask", lambda d: d.train_mask.clone()), {("train", "test"): "16 nodes"}),
    "test is validation": (put("test_mask", lambda d: d.val_mask), {("val", "test"): "16 nodes"}),
    "one node in all": (
        first(1),
        {pair: "1 node" for pair in (("train", "val"), ("train", "test"), ("val", "test"))},
    ),
}


@pytest.mark.parametrize("case", SHARED)
def test_splits_that_share_nodes(case: str) -> None:
    edit, expected = SHARED[case]
    data = toy.community(0)
    edit(data)
    serve([data])
    found = find_shared_items(load(cfg), cfg)
    assert len(found) == len(expected)
    for text, ((a, b), count) in zip(found, expected.items(), strict=True):
        assert f"{count}" in text and f"both the {a} and the {b} split" in text
        assert ("(all of both)" in text) == (count == "16 nodes")


def test_splits_that_share_graphs() -> None:
    data = toy.Toy([toy.community(seed) for seed in range(6)])
    cfg.dataset.task = "graph"
    loaders = [DataLoader(data[part]) for part in ([0, 1, 2], [3, 4], [2, 4, 5])]
    found = find_shared_items(loaders, cfg)
    assert [text.partition(": ")[2].partition(", so ")[0].rpartition(": ")[2] for text in found] == [
        "1 graph is in both the train and the test split",
        "1 graph is in both the val and the test split",
    ]


@pytest.mark.parametrize("level", ["graph", "node"])
@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((range(6), range(6), range(6)), ["6 graphs are in both the train and the val split (all of both)"]),
        (([0, 1, 2], [3, 4], [4, 3]), ["2 graphs are in both the val and the test split (all of both)"]),
        (([0, 1, 2], [3, 4], [5, 1]), ["1 graph is in both the train and the test split, so the test score"]),
        (([0, 1, 2], [3, 4], [1, 1]), ["2 graphs are in both the train and the test split, so"]),
        (([0, 1], [2, 3], [4, 5]), []),
    ],
)
def test_equal_graphs_that_were_handed_over_in_two_splits(level: str, parts: Any, expected: list[str]) -> None:
    made = [toy.without(toy.community(seed, nodes=9), *MASKS) for seed in range(6)]
    made[5].edge_index = made[5].edge_index[:, :0]
    made[3] = made[4].clone()  # a neighbour in everything but one number
    made[3].x[0, 0] += 1
    if level == "graph":
        for number, graph in enumerate(made):
            graph.y = torch.tensor([number % 2])
    handed = read_handed([[made[k].clone() for k in part] for part in parts])  # copies: not by identity
    cfg.dataset.update({"format": "gkd", "name": NAME, "task": level, "task_type": "classification"})
    with handing(handed.make):
        found = find_shared_items(create_loader(), cfg)
    assert len(found) == (3 if parts[0] == range(6) else len(expected))
    for text, told in zip(found, expected, strict=False):
        assert text.startswith("data handed over in Python: ") and told in text


def test_equal_graphs_of_a_users_function(monkeypatch: pytest.MonkeyPatch) -> None:
    def make() -> toy.Toy:
        graphs = [
            Data(x=torch.rand(3, 2), edge_index=torch.tensor([[0], [1]]), y=torch.tensor([k % 2])) for k in range(4)
        ]
        made = toy.Toy([*graphs, graphs[0], graphs[3]])
        for part, positions in zip(PARTS, ([0, 1], [2, 3], [4, 5]), strict=True):
            made._data[f"{part}_graph_index"] = torch.tensor(positions)
        return made

    monkeypatch.setitem(sys.modules, "handed_graphs", SimpleNamespace(make=make))
    cfg.dataset.update({"format": "gkd", "name": "handed_graphs:make", "task": "graph", "task_type": "classification"})
    train, val = find_shared_items(create_loader(), cfg)
    assert "1 graph is in both the train and the test split, so" in train
    assert "1 graph is in both the val and the test split, so" in val


def test_masks_of_graphs_that_are_not_the_same_share_nothing() -> None:
    cfg.dataset.task = "node"
    everywhere = [toy.community(seed) for seed in range(3)]
    for data in everywhere:
        for name in toy.MASKS:
            data[name][:] = True
    assert find_shared_items([DataLoader(toy.Toy([data])) for data in everywhere], cfg) == []
    whole = toy.Toy(everywhere[:1])
    assert len(find_shared_items([DataLoader(whole)] * 3, cfg)) == 3
    sampled = [RandomNodeLoader(whole[0], num_parts=2), DataLoader(whole), DataLoader(whole)]
    assert len(find_shared_items(sampled, cfg)) == 3


def test_the_hosts_network_is_refused_where_features_lie_by_type() -> None:
    data = toy.community(0)
    del data.x
    data.node_type, data.type_row = torch.zeros_like(data.y), torch.arange(len(data.y))
    serve([data])
    cfg.model.type = "gnn"
    told = (
        r"its nodes have features by type, or none, and no common table x, which model.type: gnn reads.*gcn, gat.*rgcn"
    )
    with pytest.raises(UserError, match=told):
        load(cfg)
    cfg.model.type = "rgcn"
    load(cfg)
    cfg.model.type, cfg.dataset.node_encoder = "gnn", True  # a user's own encoder may read the types
    load(cfg)


def test_a_class_that_is_tested_and_was_never_trained_on() -> None:
    data = toy.community(0)
    serve([data])
    assert find_doubts(load(cfg), cfg) == []
    data.y[data.train_mask] = 0
    data.y[data.test_mask] = data.y[data.test_mask].clamp(max=1)
    assert set(data.y[data.test_mask].tolist()) == {0, 1}
    (told,) = find_doubts(load(cfg), cfg)
    assert "class 1: in the test split, and no item of the train split has it" in told
    cfg.dataset.task_type = "regression"
    assert find_doubts(create_loader(), cfg) == []


@pytest.mark.parametrize(
    ("model", "layer", "told"),
    [
        ("gnn", "gcnconv", "gcnconv"),
        ("gnn", "aux_gcnconv", "gcnconv"),
        ("gcn", "gcnconv", "gcn"),
        ("mine", "gcnconv", ""),
    ],
)
def test_weights_of_edges_that_no_student_reads(model: str, layer: str, told: str) -> None:
    data = toy.community(0)
    data.edge_weight = torch.ones(data.num_edges)
    serve([data])
    cfg.model.type, cfg.gnn.layer_type = model, layer
    assert find_doubts(create_loader(), cfg) == []  # all alike
    data.edge_weight[0] = 2
    found = find_doubts(create_loader(), cfg)
    assert [f"edge_weight: {told} does not read it" in each for each in found] == ([True] if told else [])


def test_a_layer_of_ones_own_may_read_weights_of_edges() -> None:
    data = toy.community(0)
    data.edge_weight = torch.rand(data.num_edges)
    serve([data])
    cfg.model.type, cfg.gnn.layer_type = "gnn", "weighted"
    register.layer_dict["weighted"] = type("Weighted", (torch.nn.Module,), {"__module__": "mine"})
    try:
        assert find_doubts(create_loader(), cfg) == []
    finally:
        del register.layer_dict["weighted"]
