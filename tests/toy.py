"""Small data sets under ``dataset.format: toy``, and the configurations of tests; ``tests/running.py`` runs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml
from torch_geometric.data import Data, InMemoryDataset

MASKS = ("train_mask", "val_mask", "test_mask")


def community(seed: int, nodes: int = 48, classes: int = 3, width: int = 6) -> Data:
    """A graph whose labels can be learnt from features and neighbours; a third of the nodes in each split."""
    random = torch.Generator().manual_seed(seed)
    y = torch.arange(nodes) % classes
    x = torch.randn(nodes, width, generator=random)
    x[torch.arange(nodes), y] += 1.0
    ends = torch.randint(0, nodes, (2, 8 * nodes), generator=random)
    near = torch.rand(ends.size(1), generator=random) < torch.where(y[ends[0]] == y[ends[1]], 0.8, 0.2)
    ends = ends[:, near]
    data = Data(x=x, edge_index=torch.cat([ends, ends.flip(0)], dim=1), y=y)
    order = torch.randperm(nodes, generator=random)
    for position, name in enumerate(MASKS):
        data[name] = torch.zeros(nodes, dtype=torch.bool)
        data[name][order[position::3]] = True
    return data


def regression(seed: int) -> Data:
    data = community(seed)
    data.y = data.x[:, :2].sum(dim=1, keepdim=True)  # the host wants targets [N, 1]
    return data


def links(seed: int) -> Data:
    """A graph whose edges are to be told from pairs that are none, in the host's keys."""
    data = community(seed)
    random = torch.Generator().manual_seed(seed)
    positive = data.edge_index[:, torch.randperm(data.edge_index.size(1), generator=random)]
    del data.y
    for position, (split, size) in enumerate((("train", 40), ("val", 36), ("test", 32))):  # unlike, as real ones are
        del data[f"{split}_mask"]
        some = positive[:, position * 40 : position * 40 + size]
        other = torch.randint(0, data.num_nodes, (2, size), generator=random)
        data[f"{split}_edge_index"] = torch.cat([some, other], dim=1)
        data[f"{split}_edge_label"] = torch.cat([torch.ones(size), torch.zeros(size)]).long()
    return data


def with_edge_features(data: Data) -> Data:
    data.edge_attr = torch.randn(data.edge_index.size(1), 4, generator=torch.Generator().manual_seed(3))
    return data


def without(data: Data, *names: str) -> Data:
    for name in names:
        del data[name]
    return data


def without_edges(data: Data) -> Data:
    data.edge_index = data.edge_index[:, :0]
    return data


def swap_masks(data: Data) -> None:
    data.val_mask, data.test_mask = data.test_mask, data.val_mask


def leaky(data: Data) -> Data:
    """The test split is the training split."""
    data.test_mask = data.train_mask.clone()
    return data


class Toy(InMemoryDataset):  # type: ignore[misc]
    def __init__(self, graphs: list[Data]) -> None:
        super().__init__()
        self.data, self.slices = self.collate(graphs)


SETS = {
    "nodes": lambda: [community(0)],
    "binary": lambda: [community(0, classes=2)],
    "regression": lambda: [regression(0)],
    "links": lambda: [links(0)],
    "many": lambda: [community(seed, nodes=30) for seed in range(5)],
    "edge_features": lambda: [with_edge_features(community(0))],
    "no_validation": lambda: [without(community(0), "val_mask")],
    "no_edges": lambda: [without_edges(community(0))],
    "leaky": lambda: [leaky(community(0))],
    "no_masks": lambda: [without(community(0), *MASKS)],
}


def load(format: str, name: str, dataset_dir: str) -> Toy | None:
    return Toy(SETS[name]()) if format == "toy" else None


def merge(base: dict[str, Any], groups: dict[str, Any]) -> dict[str, Any]:
    """``groups`` over ``base``, key by key; a plain value replaces."""
    return {
        **base,
        **{name: {**base.get(name, {}), **new} if isinstance(new, dict) else new for name, new in groups.items()},
    }


def host(**groups: Any) -> dict[str, Any]:
    """What the rules of a configuration ask of the host: node classification with a 3-layer GCN, nothing to warn of."""
    base: dict[str, Any] = {
        "dataset": {"task": "node", "task_type": "classification"},
        "share": {"dim_in": 1433, "dim_out": 7},
        "model": {"type": "gnn"},
        "gnn": {"layers_mp": 3, "layer_type": "gcnconv", "dim_inner": 16, "l2norm": False, "stage_type": "stack"},
        "train": {"eval_period": 1},
        "optim": {"max_epoch": 200},
        "num_threads": 1,
    }
    return merge(base, groups)


def values(out_dir: Path = Path("results"), **groups: Any) -> dict[str, Any]:
    """A small supervised GCN; ``groups`` are merged over it."""
    base: dict[str, Any] = {
        "out_dir": str(out_dir),
        "tensorboard_agg": False,
        "num_threads": 1,
        "accelerator": "cpu",
        "dataset": {"format": "toy", "name": "nodes", "task": "node", "task_type": "classification"},
        "train": {"mode": "distill", "eval_period": 1},
        "gnn": {
            "layers_mp": 2,
            "layers_post_mp": 1,
            "dim_inner": 8,
            "layer_type": "gcnconv",
            "batchnorm": False,
            "l2norm": False,
            "dropout": 0.5,
        },
        "optim": {"max_epoch": 4, "base_lr": 0.05, "scheduler": "none"},
    }
    return merge(base, groups)


def config(folder: Path, name: str = "study", **groups: Any) -> Path:
    """The same in a file ``<folder>/<name>.yaml`` with ``out_dir`` ``<folder>/results``."""
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values(folder / "results", **groups)))
    return path
