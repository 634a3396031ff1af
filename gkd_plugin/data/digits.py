"""A real data set that needs no download: scikit-learn's handwritten digits as a nearest-neighbour graph."""

from __future__ import annotations

import re

import numpy as np
import torch
from torch_geometric.data import Data, InMemoryDataset
from torch_geometric.utils import from_scipy_sparse_matrix

from gkd_plugin.data.splits import planetoid_split
from gkd_plugin.errors import UserError

NEIGHBOURS = 10


class DigitsGraph(InMemoryDataset):  # type: ignore[misc]
    r"""1,797 images of 8 x 8 pixels from `"Optical Recognition of Handwritten Digits"
    <https://archive.ics.uci.edu/dataset/80>`_, each linked to its ``k`` nearest ones (Euclidean, on pixels).

    The graph is undirected (a link counts if either end chose it) and has no self-loops; pixels are scaled to [0, 1];
    the split is fixed: 20 training nodes per class, 500 validation and 1,000 test nodes. Nothing is written to disk.

    Args:
        k (int): Neighbours that each image chooses. (default: 10)

    .. code-block:: yaml

        dataset: {format: PyG, name: digits, task: node, task_type: classification}
    """

    def __init__(self, k: int = NEIGHBOURS) -> None:
        from sklearn.datasets import load_digits  # most of what importing the plugin would cost
        from sklearn.neighbors import NearestNeighbors

        super().__init__()
        images = load_digits()
        pixels: np.ndarray = images.data / 16.0  # a power of two: distances stay exact, so ties are ties everywhere
        if not 1 <= k < len(pixels):
            raise UserError(f"dataset.name: digits_k{k} asks for {k} neighbours. Allowed: 1 to {len(pixels) - 1}.")
        # kd_tree settles ties by its order of visit, not by how a processor sorts; without an argument no image is its
        # own neighbour
        chosen = NearestNeighbors(n_neighbors=k, algorithm="kd_tree").fit(pixels).kneighbors_graph()
        edge_index, _ = from_scipy_sparse_matrix(chosen.maximum(chosen.T))
        data = Data(x=torch.from_numpy(pixels).float(), edge_index=edge_index, y=torch.from_numpy(images.target).long())
        self.data, self.slices = self.collate([planetoid_split(data)])


def load_digits_graph(format: str, name: str, dataset_dir: str) -> DigitsGraph | None:
    """The host's loader signature: a data set for ``digits`` or ``digits_k<number>``, ``None`` for any other name."""
    match = re.fullmatch(r"digits(?:_k(\d+))?", name)
    if format not in ("PyG", "gkd") or match is None:
        return None
    return DigitsGraph(int(match[1]) if match[1] else NEIGHBOURS)
