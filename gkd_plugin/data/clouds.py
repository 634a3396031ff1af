"""Point clouds drawn from the surfaces of meshes: ``GeometricShapes``, ``ModelNet10``, ``ModelNet40``.

Every cloud has its positions as features and is a task on graphs: which shape is it? Points, rotations and noise are drawn from
the seed of the split alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data, InMemoryDataset
from torch_geometric.datasets import GeometricShapes, ModelNet
from torch_geometric.transforms import SamplePoints
from torch_geometric.utils import remove_self_loops, to_undirected

from gkd_plugin.data.keys import SPLITS
from gkd_plugin.errors import ConfigError, Problem
from gkd_plugin.ops.neighbours import nearest_graph

PARTS = ("train", "val", "test")
NEIGHBOURS = 8
"""The points of a cloud are linked to so many nearest ones, both ways, for networks that take the edges of the data."""
VALIDATION = 0.1
"""Share of ModelNet's training shapes by which epochs are selected."""


class Clouds(InMemoryDataset):  # type: ignore[misc]
    """Clouds with the positions of each split's, as the host reads them.

    Args:
        parts (mapping): The clouds of ``train``, ``val`` and ``test``.
    """

    def __init__(self, parts: Mapping[str, Sequence[Data]]) -> None:
        super().__init__()
        self.data, self.slices = self.collate([cloud for part in PARTS for cloud in parts[part]])
        start = 0
        for part in PARTS:
            self._data[f"{part}_graph_index"] = torch.arange(start, start + len(parts[part]))
            start += len(parts[part])


def load_shapes(root: str, values: Mapping[str, Any], seed: int) -> Clouds:
    """Clouds of the 40 meshes of PyG's ``GeometricShapes``, each under a random rotation.

    Its test meshes are its training meshes, so that every split draws its own clouds of the same shapes: a score says how
    well known shapes are told apart in new samples, and nothing of new shapes.

    Args:
        root (str): Where its files are.
        values (mapping): The group ``splits``; ``train`` and ``val`` are clouds of each shape (16 and 8), and the test has as
            many as validation.
        seed (int): Decides everything that is drawn.
    """
    name = "GeometricShapes"
    refuse_keys(name, values, "per_class", "has numbers of clouds of each shape")
    train, val = (_read_count(values, key, default) for key, default in (("train", 16), ("val", 8)))
    meshes = list(GeometricShapes(root, train=True))
    with _drawing(seed):
        parts: dict[str, list[Data]] = {}
        for part, count in zip(PARTS, (train, val, val), strict=True):
            parts[part] = [cloud for mesh in meshes for cloud in _draw(mesh, count, values, turned=True)]
    return Clouds(parts)


def load_modelnet(root: str, name: str, values: Mapping[str, Any], seed: int) -> Clouds:
    """One cloud of each shape of PyG's ``ModelNet``; validation takes a tenth of the training shapes.

    Args:
        root (str): Where its files are.
        name (str): ``ModelNet10`` or ``ModelNet40``.
        values (mapping): The group ``splits``.
        seed (int): Decides everything that is drawn.
    """
    refuse_keys(name, values, "public", "has a test set of its own")
    own, tests = (list(ModelNet(root, name.removeprefix("ModelNet"), train=train)) for train in (True, False))
    with _drawing(seed):
        order = torch.randperm(len(own)).tolist()
        cut = max(1, round(VALIDATION * len(own)))
        shapes = {"train": [own[i] for i in order[cut:]], "val": [own[i] for i in order[:cut]], "test": tests}
        parts = {
            part: [cloud for mesh in shapes[part] for cloud in _draw(mesh, 1, values, turned=False)] for part in PARTS
        }
    return Clouds(parts)


CLOUDS: dict[str, Callable[[str, Mapping[str, Any], int], Clouds]] = {
    "GeometricShapes": load_shapes,
    "ModelNet10": lambda root, values, seed: load_modelnet(root, "ModelNet10", values, seed),
    "ModelNet40": lambda root, values, seed: load_modelnet(root, "ModelNet40", values, seed),
}


def refuse_keys(name: str, values: Mapping[str, Any], kind: str, why: str) -> None:
    """Raises where the group ``splits`` asks of clouds what they do not have.

    Args:
        name (str): The data set.
        values (mapping): The group.
        kind (str): The one value of ``splits.kind``.
        why (str): What the data set has instead.

    Raises:
        ConfigError: With all mistakes.
    """
    found = [
        Problem(f"{SPLITS}.{key}", f"true, but {name} is many clouds", "Remove the key.")
        for key in ("largest_component", "row_normalize")
        if values[key]
    ]
    if values["kind"] not in (None, kind):
        found.append(Problem(f"{SPLITS}.kind", f"'{values['kind']}', but {name} {why}", f"Allowed: {kind}."))
    if found:
        raise ConfigError(found)


def _read_count(values: Mapping[str, Any], key: str, default: int) -> int:
    value = default if values[key] is None else values[key]
    if value != int(value):
        raise ConfigError(
            [Problem(f"{SPLITS}.{key}", f"{value:g}", "Allowed: a whole number of clouds of each shape.")]
        )
    return int(value)


@contextmanager
def _drawing(seed: int) -> Iterator[None]:
    """PyG's samples draw from the global stream: here under a stream of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _draw(mesh: Data, count: int, values: Mapping[str, Any], turned: bool) -> Iterator[Data]:
    """Clouds of one mesh: centred, the farthest point at distance 1, noise on every coordinate."""
    size = int(values["points"])
    drawn = SamplePoints(count * size)(mesh.clone())  # independent points: they may be dealt out
    for points in drawn.pos.split(size):
        if turned:
            points = points @ _draw_rotation()
        points = points - points.mean(dim=0)
        points = points / points.norm(dim=1).max().clamp_min(1e-12)
        points = points + float(values["noise"]) * torch.randn_like(points)
        edges, _ = remove_self_loops(nearest_graph(points, NEIGHBOURS))
        yield Data(x=points, edge_index=to_undirected(edges, num_nodes=size), y=mesh.y)


def _draw_rotation() -> Tensor:
    """A rotation, all alike likely: the orthogonal part of a normal matrix, its reflections turned round."""
    q, r = torch.linalg.qr(torch.randn(3, 3))
    turn: Tensor = q * r.diagonal().sign()
    turn[:, 0] *= torch.det(turn).sign()
    return turn
