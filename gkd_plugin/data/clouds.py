"""Point clouds drawn from the surfaces of meshes: ``GeometricShapes``, ``ModelNet10``, ``ModelNet40``.

Every cloud has its positions as features and is a task on graphs: which shape is it? Points, rotations and noise are drawn from
the seed of the split alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data, InMemoryDataset
from torch_geometric.transforms import SamplePoints
from torch_geometric.utils import remove_self_loops, to_undirected

from gkd_plugin.data.keys import SPLITS
from gkd_plugin.data.split_graphs import PARTS, OwnSplit
from gkd_plugin.errors import ConfigError, Problem
from gkd_plugin.ops.neighbours import nearest_graph

KEYS = ("points", "noise")
NEIGHBOURS = 8
"""The points of a cloud are linked to so many nearest ones, both ways, for networks that take the edges of the data."""
VALIDATION = 0.1
"""Share of the training shapes by which epochs are selected, where a data set has shapes of its own for the test."""


class Meshes(InMemoryDataset):  # type: ignore[misc]
    """Shapes as meshes, of which the clouds of each split are drawn.

    Args:
        name (str): The data set's name.
        shapes (sequence of Data): The meshes.
        tests (sequence of Data, optional): Meshes of other shapes for the test; ``None`` where there are none, so that every
            split draws clouds of its own from the same shapes.
    """

    def __init__(self, name: str, shapes: Sequence[Data], tests: Sequence[Data] | None = None) -> None:
        super().__init__()
        self.called, self.shapes, self.tests = name, shapes, tests

    def draw(self, values: Mapping[str, Any], seed: int) -> OwnSplit:
        """The clouds of each split.

        Where all splits have the same shapes, each cloud is rotated at random; a score then says how well known shapes are told
        apart in new samples, and nothing of new shapes.

        Args:
            values (mapping): The group ``splits``. ``train`` and ``val`` are clouds of each shape (16 and 8), and the test has
                as many as validation; shapes of their own give one cloud each.
            seed (int): Decides everything that is drawn.

        Raises:
            ConfigError: If the group asks for what clouds do not have.
        """
        shared = self.tests is None
        why = "has numbers of clouds of each shape" if shared else "has a test set of its own"
        _refuse(self.called, values, "per_class" if shared else "public", why)
        counts = [_read_count(values, key, default) for key, default in (("train", 16), ("val", 8))]
        with _drawing(seed):
            if self.tests is None:
                taken = [(self.shapes, count) for count in (*counts, counts[1])]
            else:
                order = torch.randperm(len(self.shapes)).tolist()
                cut = max(1, round(VALIDATION * len(order)))
                train, val = ([self.shapes[i] for i in some] for some in (order[cut:], order[:cut]))
                taken = [(train, 1), (val, 1), (self.tests, 1)]
            clouds = [[c for mesh in meshes for c in _draw(mesh, count, values, shared)] for meshes, count in taken]
        return OwnSplit(dict(zip(PARTS, clouds, strict=True)))


def refuse_keys(name: str, written: Mapping[str, Any]) -> None:
    """Raises where the user wrote keys of clouds for another data set.

    Args:
        name (str): The data set.
        written (mapping): What the user wrote into the group ``splits``.

    Raises:
        ConfigError: With all such keys.
    """
    foreign = [key for key in KEYS if key in written]
    if foreign:
        allowed = "It is for clouds drawn from meshes: GeometricShapes, ModelNet10, ModelNet40. Remove the key."
        raise ConfigError(Problem(f"{SPLITS}.{key}", f"does not apply to {name}", allowed) for key in foreign)


def _refuse(name: str, values: Mapping[str, Any], kind: str, why: str) -> None:
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
    """A rotation, uniformly distributed: the orthogonal part of a normal matrix, its reflections turned round."""
    q, r = torch.linalg.qr(torch.randn(3, 3))
    turn: Tensor = q * r.diagonal().sign()
    turn[:, 0] *= torch.det(turn).sign()
    return turn
