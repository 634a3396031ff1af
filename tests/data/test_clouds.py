"""Point clouds of meshes: held-out samples of the same shapes, decided by the seed alone."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric import datasets
from torch_geometric.data import Data
from torch_geometric.datasets import ModelNet
from torch_geometric.graphgym import register
from torch_geometric.graphgym.config import cfg, set_cfg
from torch_geometric.utils import contains_self_loops, is_undirected
from yacs.config import CfgNode

from gkd_plugin.data import clouds as module
from gkd_plugin.data.clouds import NEIGHBOURS
from gkd_plugin.data.keys import SPLIT_KEYS, SPLITS
from gkd_plugin.data.known import check_known
from gkd_plugin.data.load import load
from gkd_plugin.data.loaders import LOADERS, load_gkd
from gkd_plugin.data.names import load_named
from gkd_plugin.data.split_graphs import PARTS, OwnSplit
from gkd_plugin.errors import ConfigError
from gkd_plugin.models.rng import random_state
from tests.conftest import FOLDERS

SQUARE = "OFF\n4 2 0\n-1 -2 0\n1 -2 0\n1 2 0\n-1 2 0\n3 0 1 2\n3 0 2 3\n"
TETRAHEDRON = "OFF\n4 4 0\n0 0 0\n3 0 0\n0 2 0\n0 0 1\n3 0 1 2\n3 0 1 3\n3 0 2 3\n3 1 2 3\n"


def values(**splits: Any) -> dict[str, Any]:
    return {key.name: key.default for key in SPLIT_KEYS} | splits


def load_shapes(root: str, splits: dict[str, Any], seed: int) -> OwnSplit:
    meshes = load_named("GeometricShapes", root)
    assert isinstance(meshes, module.Meshes)
    return meshes.draw(splits, seed)


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """Two meshes in the layout of PyG's class: a flat one and one with a volume."""
    root = tmp_path / "GeometricShapes"
    for name, text in (("2d_circle", SQUARE), ("3d_box", TETRAHEDRON)):
        for part in ("train", "test"):
            (root / "raw" / name / part).mkdir(parents=True)
            (root / "raw" / name / part / f"{name}.off").write_text(text)
    return root


def split(data: OwnSplit, part: str) -> list[Data]:
    return [data[int(i)] for i in data._data[f"{part}_graph_index"]]


def positions(data: OwnSplit, part: str) -> Tensor:
    return torch.stack([cloud.x for cloud in split(data, part)])


def test_each_split_has_its_own_clouds_of_every_shape(shapes: Path) -> None:
    data = load_shapes(str(shapes), values(kind="per_class", train=3.0, val=2.0, points=20), 5)
    for part, count in zip(PARTS, (3, 2, 2), strict=True):
        found = split(data, part)
        assert sorted(int(cloud.y) for cloud in found) == [0] * count + [1] * count
        assert all(cloud.x.shape == (20, 3) for cloud in found)
    everything = torch.cat([positions(data, part) for part in PARTS]).view(-1, 3)
    assert len(everything.unique(dim=0)) == len(everything) == 14 * 20, "no point is in two clouds"


def test_a_cloud_lies_on_its_surface_centred_with_radius_one(shapes: Path) -> None:
    data = load_shapes(str(shapes), values(points=40), 1)
    rows = positions(data, "test")
    torch.testing.assert_close(rows.norm(dim=-1).amax(dim=1), torch.ones(len(rows)))
    assert rows.mean(dim=1).abs().max() < 1e-6
    flat = torch.stack([cloud.x for cloud in split(data, "test") if int(cloud.y) == 0])
    thickness = torch.linalg.svdvals(flat)[:, -1]
    assert thickness.max() < 1e-5, "the square is flat, however it is turned"
    normals = torch.linalg.svd(flat)[2][:, -1]
    assert torch.linalg.matrix_rank(normals) == 3, "and it is turned every way"


def test_noise_is_added_to_every_coordinate(shapes: Path) -> None:
    plain, noisy = (load_shapes(str(shapes), values(points=40, noise=noise), 1) for noise in (0.0, 0.1))
    flat = torch.cat([cloud.x for cloud in split(noisy, "train") if int(cloud.y) == 0])
    thickness = torch.linalg.svdvals(torch.stack([cloud.x for cloud in split(noisy, "train") if int(cloud.y) == 0]))
    assert (thickness[:, -1] / 40**0.5).mean() == pytest.approx(0.1, rel=0.2)
    assert len(flat) == sum(len(cloud.x) for cloud in split(plain, "train") if int(cloud.y) == 0)


def test_the_seed_decides_everything_and_the_global_stream_stays(shapes: Path) -> None:
    before = random_state()
    one, again, other = (load_shapes(str(shapes), values(points=10), seed) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(before, random_state(), strict=True))
    assert all(torch.equal(one._data[key], again._data[key]) for key in ("x", "edge_index", "y"))
    assert not torch.equal(one._data.x, other._data.x)


def test_edges_lead_to_the_nearest_points_both_ways(shapes: Path) -> None:
    cloud = split(load_shapes(str(shapes), values(points=30), 1), "val")[0]
    assert is_undirected(cloud.edge_index) and not contains_self_loops(cloud.edge_index)
    far = torch.cdist(cloud.x, cloud.x).fill_diagonal_(float("inf"))
    linked = torch.zeros(30, 30, dtype=torch.bool)
    linked[cloud.edge_index[0], cloud.edge_index[1]] = True
    for v in range(30):
        assert linked[far[v].argsort()[:NEIGHBOURS], v].all()


def test_rotations_are_rotations() -> None:
    turns = torch.stack([module._draw_rotation() for _ in range(200)])
    torch.testing.assert_close(turns @ turns.transpose(1, 2), torch.eye(3).expand(200, 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(turns), torch.ones(200), atol=1e-5, rtol=0)
    assert turns.mean(dim=0).abs().max() < 0.2, "every direction is as likely as its opposite"


# ---------------------------------------------------------------------------------------------------- the host's way
@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    monkeypatch.setattr(register, "loader_dict", dict(LOADERS))

    def make(name: str, folder: Path, **splits: Any) -> None:
        cfg.clear()
        set_cfg(cfg)
        cfg[SPLITS] = CfgNode({**{key.name: None for key in SPLIT_KEYS}, **splits})
        cfg.dataset.format, cfg.dataset.name, cfg.dataset.dir = "gkd", name, str(folder)
        cfg.dataset.task, cfg.dataset.task_type, cfg.train.batch_size = "graph", "classification", 4

    yield make
    cfg.clear()
    set_cfg(cfg)


def test_the_host_s_loaders_serve_each_split_its_own(shapes: Path, configure: Callable[..., None]) -> None:
    configure("GeometricShapes", shapes.parent, kind="per_class", train=3, val=2, points=10)
    assert check_known(cfg.dataset) == []
    loaders = load(cfg)
    assert [len(loader.dataset) for loader in loaders] == [6, 4, 4]
    assert (cfg.share.dim_in, cfg.share.dim_out) == (3, 2)
    batch = next(iter(loaders[0]))
    assert batch.x.shape == (40, 3) and batch.num_graphs == 4


@pytest.mark.parametrize(
    ("splits", "told"),
    [
        ({"kind": "random"}, "splits.kind: 'random', but GeometricShapes has numbers of clouds of each shape"),
        ({"kind": "per_class", "train": 0.5}, "splits.train: 0.5. Allowed: a whole number of clouds of each shape"),
        ({"largest_component": True}, "splits.largest_component: true, but GeometricShapes is many clouds"),
        ({"points": 1}, "splits.points: 1 is not allowed. Allowed: a whole number of at least 2"),
        ({"noise": -0.1}, "splits.noise: -0.1 is not allowed"),
    ],
)
def test_what_means_nothing_is_refused(
    shapes: Path, configure: Callable[..., None], splits: dict[str, Any], told: str
) -> None:
    configure("GeometricShapes", shapes.parent, **splits)
    with pytest.raises(ConfigError, match=told):
        load_gkd("gkd", "GeometricShapes", str(shapes.parent))


def test_keys_of_clouds_are_refused_elsewhere(tmp_path: Path, configure: Callable[..., None]) -> None:
    configure("digits", tmp_path, points=64, noise=0.1)
    with pytest.raises(ConfigError) as refusal:
        load_gkd("gkd", "digits", str(tmp_path))
    assert [problem.key for problem in refusal.value.problems] == ["splits.points", "splits.noise"]
    assert "clouds drawn from meshes: GeometricShapes" in str(refusal.value)


class Fake:
    """Stands in for PyG's class, whose files are large: four shapes of two kinds, and two to test."""

    asked: list[inspect.BoundArguments]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        bound = inspect.signature(ModelNet.__init__).bind(self, *args, **kwargs)  # what the true one would take
        bound.apply_defaults()
        assert bound.arguments["name"] in ("10", "40")
        type(self).asked.append(bound)
        self.meshes = [mesh(number % 2, 1.0 + number) for number in range(4 if bound.arguments["train"] else 2)]

    def __iter__(self) -> Iterator[Data]:
        return iter(self.meshes)


def mesh(label: int, height: float) -> Data:
    pos = torch.tensor([[0.0, 0, 0], [3, 0, 0], [0, 2, 0], [0, 0, height]])
    face = torch.tensor([[0, 0, 0, 1], [1, 1, 2, 2], [2, 3, 3, 3]])
    return Data(pos=pos, face=face, y=torch.tensor([label]))


@pytest.mark.parametrize("number", ["10", "40"])
def test_modelnet_is_loaded_by_name(
    number: str, tmp_path: Path, configure: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "ModelNet", Fake)
    Fake.asked = []
    name = f"ModelNet{number}"
    configure(name, tmp_path, points=12)
    data = load_gkd("gkd", name, str(tmp_path))
    assert isinstance(data, OwnSplit)
    assert [(each.arguments["name"], each.arguments["train"]) for each in Fake.asked] == [
        (number, True),
        (number, False),
    ]
    assert {each.arguments["root"] for each in Fake.asked} == {str(tmp_path / name)}
    assert [len(split(data, part)) for part in PARTS] == [3, 1, 2]
    assert data[0].x.shape == (12, 3)
    configure(name, tmp_path, kind="per_class")
    with pytest.raises(ConfigError, match=f"splits.kind: 'per_class', but {name} has a test set of its own"):
        load_gkd("gkd", name, str(tmp_path))


def test_the_real_shapes_are_forty(tmp_path: Path) -> None:
    source = FOLDERS["GKD_DATA_DIR"] / "GeometricShapes" / "raw"
    if not source.is_dir():
        pytest.skip(f"{source} is not there")
    shutil.copytree(source, tmp_path / "raw", copy_function=shutil.copyfile)
    data = load_shapes(str(tmp_path), values(kind="per_class", train=1.0, val=1.0, points=16), 1)
    for part in PARTS:
        assert [int(cloud.y) for cloud in split(data, part)] == list(range(40))
    assert data._data.x.isfinite().all()
