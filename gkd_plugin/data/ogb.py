"""OGB's node data sets as the host's node tasks read them; the package ogb is imported here only, and only when needed."""

from __future__ import annotations

import os.path as osp

import torch
from torch_geometric.data import InMemoryDataset
from torch_geometric.utils import index_to_mask, to_undirected

from gkd_plugin.data.trust import know_storages

PARTS = {"train": "train_mask", "valid": "val_mask", "test": "test_mask"}


def load_ogb_nodes(root: str, name: str, directed: bool = False) -> InMemoryDataset:
    r"""A data set of `"Open Graph Benchmark: Datasets for Machine Learning on Graphs" <https://arxiv.org/abs/2005.00687>`_
    with its own split as masks, one class for each node, and every edge in both directions.

    OGB keeps its files in ``<dataset.dir>/ogbn_<name>``, so what lies there for ``dataset.format: OGB`` is read, too.

    Args:
        root (str): ``<dataset.dir>/<name>``.
        name (str): ``ogbn-arxiv``, say.
        directed (bool): Whether its files have one direction only, of which both are made, as is usual. (default: ``False``)
    """
    from ogb.nodeproppred import PygNodePropPredDataset

    know_storages()
    dataset: InMemoryDataset = PygNodePropPredDataset(name=name, root=osp.dirname(root))
    data = dataset[0]
    if directed:
        data.edge_index = to_undirected(data.edge_index, num_nodes=data.num_nodes)
    data.y = data.y.view(-1)
    for part, indices in dataset.get_idx_split().items():
        data[PARTS[part]] = index_to_mask(torch.as_tensor(indices), size=data.num_nodes)
    dataset.data, dataset.slices = dataset.collate([data])
    return dataset
