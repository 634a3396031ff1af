"""Splits under ``dataset.format: gkd``, PPI with its three splits, and micro-F1."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import Data, InMemoryDataset
from torch_geometric.datasets import PPI, Planetoid
from torch_geometric.graphgym import register
from torch_geometric.graphgym.config import cfg, set_cfg
from torch_geometric.graphgym.loader import create_loader
from torch_geometric.graphgym.logger import Logger
from torch_geometric.graphgym.loss import compute_loss
from torch_geometric.graphgym.model_builder import create_model
from torch_geometric.utils import to_networkx
from yacs.config import CfgNode

from gkd_plugin.data import loaders
from gkd_plugin.data.keys import METRIC_KEYS, METRICS, SPLIT_KEYS, SPLITS
from gkd_plugin.data.loaders import LOADERS, MASKS, create_loaders, load_gkd, per_split
from gkd_plugin.data.metrics import METRICS as METRIC_FUNCTIONS
from gkd_plugin.data.metrics import f1_micro
from gkd_plugin.data.names import DATA_SETS, Known
from gkd_plugin.errors import ConfigError, UserError

Set = Callable[..., None]


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Iterator[Set]:
    """``configure('Cora', folder, kind='random')`` sets ``dataset`` and ``splits`` in the host's cfg."""
    monkeypatch.setattr(register, "loader_dict", dict(LOADERS))

    def make(name: str = "toy", folder: Path | str = "", task: str = "node", **splits: Any) -> None:
        cfg.clear()
        set_cfg(cfg)
        cfg[SPLITS] = CfgNode({**{key.name: None for key in SPLIT_KEYS}, **splits})
        cfg[METRICS] = CfgNode({key.name: None for key in METRIC_KEYS})
        cfg.dataset.format, cfg.dataset.name, cfg.dataset.dir, cfg.dataset.task = "gkd", name, str(folder), task

    make()
    yield make
    cfg.clear()
    set_cfg(cfg)


class OneGraph(InMemoryDataset):
    """A data set of one graph that lies on no disk."""

    def __init__(self, data: Data) -> None:
        super().__init__()
        self.data, self.slices = data, None


def graph(nodes: int = 120, **more: Tensor) -> Data:
    """Three classes of equal size on a path, whose last 20 nodes hang on nothing."""
    path = torch.arange(nodes - 20)
    edges = torch.stack([path[:-1], path[1:]])
    x = torch.arange(1.0, 2 * nodes + 1).view(nodes, 2)
    return Data(x=x, edge_index=torch.cat([edges, edges.flip(0)], dim=1), y=torch.arange(nodes) % 3, **more)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, configure: Set) -> Callable[[Data], None]:
    """Makes a graph known as ``dataset.name: toy``."""

    def make(data: Data) -> None:
        monkeypatch.setitem(DATA_SETS, "toy", Known(lambda root: OneGraph(data.clone()), "toys"))

    make(graph())
    return make


def masks(seed: int = 0) -> tuple[Data, list[set[int]]]:
    cfg.seed = seed
    dataset = load_gkd("gkd", "toy", "")
    assert dataset is not None
    data = dataset[0]
    return data, [set(data[mask].nonzero().view(-1).tolist()) for mask in MASKS]


# --------------------------------------------------------------------------------------------------------------- splits


def test_without_any_key_a_bare_data_set_is_split_at_random_by_the_runs_seed(toy: Any) -> None:
    state = torch.get_rng_state()
    _, parts = masks(seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert [len(part) for part in parts] == [60, 30, 30]
    assert set.union(*parts) == set(range(120))
    assert masks(seed=1)[1] == parts
    assert masks(seed=2)[1] != parts
    cfg[SPLITS].seed = 7
    assert masks(seed=1)[1] == masks(seed=2)[1]


def test_a_public_split_stays_unless_another_is_named(toy: Any, configure: Set) -> None:
    given = {mask: torch.arange(120) % 3 == number for number, mask in enumerate(MASKS)}
    toy(graph(**given))
    for kind in (None, "public"):
        configure(kind=kind)
        assert all(torch.equal(masks()[0][mask], given[mask]) for mask in MASKS)
    configure(kind="random", train=0.1, val="0.2")
    assert [len(part) for part in masks()[1]] == [12, 24, 84]


def test_a_seed_that_would_choose_nothing_is_refused(toy: Any, configure: Set) -> None:
    toy(graph(**{mask: torch.arange(120) % 3 == number for number, mask in enumerate(MASKS)}))
    configure(seed=7)
    with pytest.raises(ConfigError, match=r"splits\.seed: 7, but toy has one split of its own.*kind: random"):
        masks()


def test_of_several_public_splits_the_seed_chooses_one(toy: Any) -> None:
    columns = torch.rand(120, 4) > 0.5
    toy(graph(**dict.fromkeys(MASKS, columns)))
    for seed in (1, 6):
        data, _ = masks(seed)
        assert all(torch.equal(data[mask], columns[:, seed % 4]) for mask in MASKS)


def test_numbers_per_class(toy: Any, configure: Set) -> None:
    configure(kind="per_class", train=5, val=7.0)
    data, parts = masks()
    for part, count in zip(parts[:2], (5, 7), strict=True):
        assert torch.bincount(data.y[list(part)]).tolist() == [count] * 3
    assert len(parts[2]) == 120 - 36
    configure(kind="per_class", train=4, val=10)
    assert [len(part) for part in masks()[1]] == [12, 30, 78]


def test_component_and_features_are_prepared_before_the_split(toy: Any, configure: Set) -> None:
    configure(largest_component=True, row_normalize="true")
    data, parts = masks()
    assert data.num_nodes == 100
    assert set.union(*parts) == set(range(100))
    assert bool((graph().x[:100] >= 1).all())  # so that a smallest feature that is taken off would show
    for row, raw in zip(data.x.tolist(), graph().x[:100].tolist(), strict=True):
        assert row == pytest.approx([value / sum(raw) for value in raw])


def test_rows_are_divided_by_their_own_sums_alone(toy: Any, configure: Set) -> None:
    configure(row_normalize=True)
    found = []
    for smallest in (0.0, 0.5, 2.0):  # of a node that a protocol may hold out: no other row may see it
        data = graph()
        data.x[3] /= 1000  # a sum below 1
        data.x[4] = 0
        data.x[5] = torch.tensor([smallest, 3.0])
        toy(data)
        found.append(masks()[0].x)
    torch.testing.assert_close(found[0].sum(dim=1), (torch.arange(120) != 4).float())
    others = torch.arange(120) != 5
    assert all(torch.equal(each[others], found[0][others]) for each in found)


@pytest.mark.parametrize("protocol", ["transductive", "inductive"])
def test_features_below_0_have_no_sum_to_divide_by(toy: Any, configure: Set, protocol: str) -> None:
    data = graph()
    data.x[7, 1] = -0.5
    toy(data)
    configure(row_normalize=True, protocol=protocol)
    with pytest.raises(
        ConfigError, match=r"splits\.row_normalize: true, but toy has features below 0, whose sum can be 0"
    ):
        masks()


@pytest.mark.parametrize(
    ("splits", "told"),
    [
        ({"kind": "public"}, "splits.kind: 'public', but toy has no split. Allowed: random, per_class."),
        ({"kind": "fixed"}, "splits.kind: 'fixed' is not allowed"),
        ({"train": 0.6}, "splits.train: 0.6 does not apply: splits.kind is neither random nor per_class"),
        ({"kind": "per_class", "train": 0.5}, "splits.train: 0.5 (and splits.val: 30)"),
        ({"kind": "per_class", "train": 20, "val": 30}, "class 0 has 40 nodes, 20 + 30 are asked for"),
        ({"kind": "random", "train": 0.9, "val": 0.1}, "Every split needs a node"),
        ({"seed": "ran"}, "splits.seed: 'ran' is not allowed. Allowed: run or a whole number of at least 0."),
        ({"largest_component": "maybe", "seed": -1}, "2 mistakes in the configuration"),
    ],
)
def test_a_split_that_cannot_be_is_refused(toy: Any, configure: Set, splits: dict[str, Any], told: str) -> None:
    configure(**splits)
    with pytest.raises(UserError) as caught:
        masks()
    assert told in str(caught.value)


def test_other_formats_are_left_to_the_host_and_take_no_split(configure: Set) -> None:
    assert load_gkd("PyG", "Cora", "") is None
    configure(kind="random")
    with pytest.raises(
        ConfigError, match=r"splits.kind: does not apply to dataset.format: PyG. Set dataset.format: gkd."
    ):
        load_gkd("PyG", "Cora", "")
    assert load_gkd("mine", "Cora", "") is None


def test_an_unknown_name_is_met_with_the_known_ones(configure: Set) -> None:
    with pytest.raises(UserError, match=r"'AmazonFoto' is unknown .* Did you mean 'AmazonPhoto'.*CoauthorCS"):
        load_gkd("gkd", "AmazonFoto", "")


def test_digits_may_be_split_too(configure: Set) -> None:
    configure("digits", kind="per_class", train=2, val=3)
    loader = create_loader()
    data = loader[0].dataset[0]
    assert [int(data[mask].sum()) for mask in MASKS] == [20, 30, 1797 - 50]
    configure("digits")
    assert int(create_loader()[0].dataset[0].train_mask.sum()) == 200


def test_cora_through_the_hosts_create_loader(data_dir: Path, configure: Set) -> None:
    public = Planetoid(str(data_dir / "Cora"), "Cora")[0]
    configure("Cora", data_dir)
    data = create_loader()[0].dataset[0]
    assert all(torch.equal(data[key], public[key]) for key in (*MASKS, "x", "y", "edge_index"))
    configure("Cora", data_dir, kind="random", row_normalize=True)
    parts = create_loader()
    assert len(parts) == 3
    assert (cfg.share.dim_in, cfg.share.dim_out, cfg.share.num_splits) == (1433, 7, 3)
    (batch,) = parts[2]
    assert [int(batch[mask].sum()) for mask in MASKS] == [1354, 677, 677]
    torch.testing.assert_close(batch.x.sum(dim=1), torch.ones(2708))
    configure("Cora", data_dir, kind="per_class", largest_component=True)
    (batch,) = create_loader()[0]
    import networkx

    largest = max(networkx.connected_components(to_networkx(public, to_undirected=True)), key=len)
    assert batch.num_nodes == len(largest) == 2485
    assert torch.equal(batch.y, public.y[sorted(largest)])


def test_graph_tasks_get_the_hosts_indices(data_sets: Callable[..., Path], configure: Set) -> None:
    folder = data_sets("TU_MUTAG")
    configure("TU_MUTAG", folder, "graph", seed=3)
    parts = create_loader()
    assert [len(part.dataset) for part in parts] == [94, 47, 47]
    names = [{_print(graph) for graph in part.dataset} for part in parts]
    configure("TU_MUTAG", folder, "graph", seed=4)
    assert {_print(graph) for graph in create_loader()[0].dataset} != names[0]
    configure("TU_MUTAG", folder, "graph", kind="per_class", train=10, val=10)
    parts = create_loader()
    assert torch.bincount(torch.cat([graph.y for graph in parts[0].dataset])).tolist() == [10, 10]
    for wrong in ({"kind": "public"}, {"row_normalize": True}):
        configure("TU_MUTAG", folder, "graph", **wrong)
        with pytest.raises(ConfigError, match="TU_MUTAG"):
            create_loader()


def _print(data: Data) -> tuple[Any, ...]:
    return (data.num_nodes, *data.edge_index.flatten().tolist())


# ------------------------------------------------------------------------------------------------------------------ PPI

SIZES = {"train": (7, 9, 11, 6), "val": (8, 5), "test": (10, 4)}


@pytest.fixture
def small_ppi(tmp_path: Path) -> Path:
    """Raw files of PPI's layout with eight small graphs, 5 features and 4 labels."""
    random = np.random.default_rng(0)
    raw = tmp_path / "PPI" / "raw"
    raw.mkdir(parents=True)
    for part, sizes in SIZES.items():
        name, nodes, first, links = {"val": "valid"}.get(part, part), sum(sizes), 0, []
        for size in sizes:
            links += [{"source": first + i, "target": first + (i + 1) % size} for i in range(size)]
            first += size
        graph = {"directed": True, "multigraph": False, "graph": {}, "edges": links}
        graph["nodes"] = [{"id": node} for node in range(nodes)]
        (raw / f"{name}_graph.json").write_text(json.dumps({**graph, "links": links}))
        np.save(raw / f"{name}_feats.npy", random.normal(size=(nodes, 5)))
        np.save(raw / f"{name}_labels.npy", random.integers(0, 2, size=(nodes, 4)))
        np.save(raw / f"{name}_graph_id.npy", np.repeat(np.arange(len(sizes)), sizes) + 1)
    return tmp_path


@pytest.fixture
def ppi(small_ppi: Path, configure: Set) -> Path:
    configure("PPI", small_ppi)
    cfg.dataset.task_type, cfg.train.batch_size = "classification_multilabel", 2
    return small_ppi


def test_ppi_serves_each_split_its_own_graphs(ppi: Path) -> None:
    parts = create_loaders()
    assert (cfg.share.dim_in, cfg.share.dim_out, cfg.share.num_splits) == (5, 4, 3)
    for (part, sizes), loader in zip(SIZES.items(), parts, strict=True):
        assert sorted(graph.num_nodes for graph in loader.dataset) == sorted(sizes)
        originals = PPI(str(ppi / "PPI"), split=part)
        for graph, original in zip(loader.dataset, originals, strict=True):
            assert all(torch.equal(graph[key], original[key]) for key in ("x", "y", "edge_index"))
        batches = list(loader)
        assert [batch.num_graphs for batch in batches] == [2] * (len(sizes) // 2)
        for batch in batches:  # the host's node head finds all rows of the split and none of another
            assert {name: bool(batch[f"{name}_mask"].all()) for name in SIZES} == {name: name == part for name in SIZES}
            assert not any(bool(batch[f"{name}_mask"].any()) for name in SIZES if name != part)
    assert [type(loader.sampler).__name__[:6] for loader in parts] == ["Random", "Sequen", "Sequen"]


def test_serving_by_split_changes_no_other_loaders_and_nothing_the_second_time(ppi: Path, toy: Any) -> None:
    once = per_split(create_loader())
    assert [loader.dataset for loader in per_split(once)] == [loader.dataset for loader in once]
    cfg.dataset.name = "toy"
    cfg.dataset.task_type = "classification"
    host = create_loader()
    assert per_split(host) == host


def test_the_host_cannot_train_on_all_splits_by_mistake(ppi: Path) -> None:
    with pytest.raises(UserError, match=r"this loader would give all of them.*train.mode: distill"):
        next(iter(create_loader()[0]))


def test_ppi_has_no_other_split(ppi: Path) -> None:
    for key, value in (("kind", "random"), ("largest_component", True)):
        cfg[SPLITS][key] = value
        with pytest.raises(ConfigError, match=rf"splits.{key}: .*PPI"):
            create_loader()
        cfg[SPLITS][key] = None


def test_the_hosts_network_learns_several_labels_per_node(
    ppi: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(register, "metric_dict", dict(METRIC_FUNCTIONS))
    parts = create_loaders()
    cfg.gnn.head, cfg.gnn.layers_post_mp, cfg.custom_metrics = "node", 1, ["f1_micro"]
    cfg.gnn.layer_type, cfg.run_dir = "sageconv", str(tmp_path)
    model = create_model(to_device=False)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    losses = []
    for _ in range(20):
        for batch in parts[0]:
            batch.split = "train"
            loss, _ = compute_loss(*model(batch))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    logger = Logger("test", "classification_multilabel")
    model.eval()
    for batch in parts[2]:
        batch.split = "test"
        loss, score = compute_loss(*model(batch))
        logger.update_stats(batch.y, score.detach(), float(loss.detach()), 0.1, 0.1, 1)
    logger.write_epoch(0)  # dies where a metric is no Python float
    row = json.loads((tmp_path / "test" / "stats.json").read_text())
    assert 0 < row["f1_micro"] < 1


@pytest.mark.slow
def test_real_ppi(data_sets: Callable[..., Path], configure: Set) -> None:
    configure("PPI", data_sets("PPI"))
    cfg.dataset.task_type, cfg.train.batch_size = "classification_multilabel", 2
    parts = create_loaders()
    assert [len(loader.dataset) for loader in parts] == [20, 2, 2]
    assert [sum(graph.num_nodes for graph in loader.dataset) for loader in parts] == [44_906, 6_514, 5_524]
    assert (cfg.share.dim_in, cfg.share.dim_out) == (50, 121)


# ------------------------------------------------------------------------------------------------------------- micro-F1


def slow_f1(true: Tensor, logits: Tensor, threshold: float) -> float:
    right = wrong = missed = 0
    for label, logit in zip(true.flatten().tolist(), logits.flatten().tolist(), strict=True):
        said = logit > threshold
        right += said and label == 1
        wrong += said and label == 0
        missed += not said and label == 1
    return 2 * right / (2 * right + wrong + missed) if right else 0.0


@pytest.mark.parametrize("threshold", [None, 0.0, 0.5, -1])
@pytest.mark.parametrize("labels", [1, 5])
def test_micro_f1_counts_all_labels_of_all_batches(configure: Set, labels: int, threshold: float | None) -> None:
    cfg[METRICS].f1_logit_threshold = threshold
    true, logits = torch.randint(2, (30, labels)), torch.randn(30, labels)
    expected = slow_f1(true, logits, threshold or 0.0)
    cut = (true.split(11), logits.sigmoid().split(11))
    if labels == 1:  # the host drops the last axis of size 1
        cut = tuple([part.squeeze(-1) for part in parts] for parts in cut)
    value = f1_micro(*cut, "classification_multilabel")
    assert type(value) is float
    assert value == pytest.approx(expected, abs=1e-6)


def test_micro_f1_by_hand_between_the_two_thresholds(configure: Set) -> None:
    true, logits = torch.tensor([[1, 0], [0, 1]]), torch.tensor([[0.3, -1.0], [0.2, 2.0]])
    assert f1_micro([true], [logits.sigmoid()], "") == pytest.approx(0.8)  # 2 right, 1 wrong, 0 missed
    cfg[METRICS].f1_logit_threshold = 0.5
    assert f1_micro([true], [logits.sigmoid()], "") == pytest.approx(2 / 3)  # 1 right, 0 wrong, 1 missed


def test_micro_f1_of_nothing_found_is_zero(configure: Set) -> None:
    assert f1_micro([torch.ones(4, 3)], [torch.zeros(4, 3)], "") == 0.0


def test_micro_f1_of_two_classes_counts_both(configure: Set) -> None:
    from sklearn.metrics import f1_score

    true, logits = torch.randint(2, (50,)), torch.randn(50)
    expected = f1_score(true.numpy(), (logits > 0).numpy(), average="micro")
    cut = (true.split(20), logits.sigmoid().split(20))
    assert f1_micro(*cut, "classification_binary") == pytest.approx(expected)
    assert f1_micro(*cut, "classification_multilabel") != pytest.approx(expected)  # of one label it is that label's F1


def test_micro_f1_with_one_class_per_node_is_the_accuracy(configure: Set) -> None:
    true, scores = torch.randint(4, (50,)), torch.randn(50, 4).log_softmax(dim=-1)
    accuracy = float((scores.argmax(dim=1) == true).double().mean())
    assert f1_micro([true], [scores], "classification_multi") == pytest.approx(accuracy)


PARTIAL = [
    (("val", "test"), "", "has val_mask, test_mask, but no train_mask"),
    (("train",), "", "has train_mask, but no val_mask, test_mask"),
    (("train", "test"), "valid_mask", "has train_mask, test_mask and valid_mask, but no val_mask"),
]


@pytest.mark.parametrize(("parts", "other", "said"), PARTIAL)
def test_a_split_that_lacks_a_part_is_not_thrown_away(parts, other, said):
    data = Data(x=torch.ones(8, 1), y=torch.arange(8) % 2, edge_index=torch.empty(2, 0).long())
    for part in parts:
        data[f"{part}_mask"] = torch.arange(8) < 4
    if other:
        data[other] = torch.arange(8) > 5
    values = {key.name: key.default for key in SPLIT_KEYS}
    with pytest.raises(ConfigError, match=said):
        loaders._split_nodes("mine", data, values, 0)
    drawn, _ = loaders._split_nodes("mine", data, {**values, "kind": "random"}, 0)  # asked for, so no accident
    assert drawn.num_nodes == 8 and all(int(drawn[f"{part}_mask"].sum()) for part in ("train", "val", "test"))
