"""Teachers that are files of arrays; a module that says the same teaches the same."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gkd_plugin.commands.run import run
from gkd_plugin.space.observation import Graph, Observation
from tests.running import SOFT, refused, same, student, weights
from tests.toy import config

pytestmark = pytest.mark.usefixtures("work_folder")


def arrays(seed: int = 0, nodes: int = 48, classes: int = 3) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    shapes = {"logits": (nodes, classes), "layer_1": (nodes, 5), "layer_2": (nodes, 5), "layer_3": (nodes, 5)}
    return {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


class Said(nn.Module):
    """Answers with fixed numbers, in whatever form."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form, self.calls = form, 0
        self.dropout = nn.Dropout(0.5)

    def forward(self, batch: Any) -> Any:
        self.calls += 1
        assert not self.training and not torch.is_grad_enabled()
        said = {name: self.dropout(torch.from_numpy(array)) for name, array in arrays().items()}
        if self.form == "observation":
            layers = tuple(said[f"layer_{n}"] for n in (1, 2, 3))
            return Observation(said["logits"], {"layer": layers}, Graph(batch.edge_index, batch.num_nodes))
        return (said["logits"], batch.y) if self.form == "pair" else said["logits"]


@pytest.mark.parametrize("form", ["npz", "npz by id", "safetensors", "logits", "pair", "observation"])
def test_the_same_numbers_teach_the_same_whatever_holds_them(form: str, tmp_path: Path) -> None:
    layers = {"kd_structure": {"weight": 1.0, "tap": "layer", "layer_map": "uniform"}} if form != "logits" else {}
    layers = {} if form == "pair" else layers
    Path("results").mkdir()
    np.savez("results/said.npz", **arrays())
    expected = run(student(tmp_path, "expected", kd={"teacher": "said.npz"}, **layers), quiet=True)
    if form == "npz":  # also where the results' parent holds it
        shutil.move("results/said.npz", "said.npz")
        found = run(student(tmp_path, kd={"teacher": "said.npz"}, **layers), quiet=True)
    elif form == "npz by id":
        order = np.random.default_rng(3).permutation(48)
        np.savez("results/mixed.npz", node_id=order, **{name: array[order] for name, array in arrays().items()})
        found = run(student(tmp_path, kd={"teacher": "mixed.npz"}, **layers), quiet=True)
    elif form == "safetensors":
        numpy = pytest.importorskip("safetensors.numpy")
        numpy.save_file(arrays(), "results/said.safetensors")
        found = run(student(tmp_path, kd={"teacher": "said.safetensors"}, **layers), quiet=True)
    else:
        module = Said(form).train()
        found = run(config(tmp_path, "narrow", **SOFT, **layers), teacher=module, quiet=True)
        assert module.training and module.dropout.training
        assert module.calls == 1  # one fixed graph
    assert same(weights(found.folder), weights(expected.folder))
    assert not same(weights(found.folder), weights(run(config(tmp_path, "alone"), quiet=True).folder))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"logits": None}, ["layer_1", "it needs 'logits'"]),
        ({"logits": np.zeros((40, 3))}, ["layer_1", "48 rows, logits has 40"]),
        ({"node_id": np.arange(48) // 2}, ["node_id", "0 to 47 once"]),
        ({"node_id": np.arange(48) + 0.5}, ["node_id"]),
        ({"node_id": np.arange(47)}, ["node_id"]),
        ({"logits": np.full((48, 3), np.nan)}, ["logits", "NaN", "48 of 48 nodes (0, 1, 2, 3, 4, ...)"]),
        ({"layer_2": np.where(np.eye(48, 5) > 0, np.inf, 1.0)}, ["layer_2", "5 of 48 nodes"]),
        ({"logits": np.full((48, 3), 1e300)}, ["logits", "infinite"]),
        ({"logits": np.zeros((48, 3, 2))}, ["logits", "[48, 3, 2]"]),
        ({"logits": np.float64(3)}, ["logits", "[]"]),
        ({"logits": np.zeros((48, 4))}, ["gives 4 logits for each item", "students give 3", "same classes"]),
        ({"layer_2": None}, ["layer_1, layer_3", "called layer_1, layer_2"]),
        ({"layer_x": np.zeros((48, 2))}, ["layer_x"]),
        ({"logits": np.array([{"a": 1}] * 48, dtype=object)}, ["cannot be read as plain arrays", "allow_pickle"]),
        ({"logits": np.array(["cat"] * 48)}, ["cannot be read as plain arrays"]),
    ],
)
def test_files_with_something_wrong(change: dict[str, Any], words: list[str], tmp_path: Path) -> None:
    said = {name: array for name, array in {**arrays(), **change}.items() if array is not None}
    np.savez(tmp_path / "said.npz", **said)  # type: ignore[arg-type]
    text = refused(student(tmp_path, kd={"teacher": "said.npz"}))
    assert all(word in text for word in ["kd.teacher", *words]), text


def test_files_of_other_nodes_or_no_file_at_all(tmp_path: Path) -> None:
    np.savez(tmp_path / "said.npz", **arrays(nodes=40))
    path = student(tmp_path, kd={"teacher": "said.npz"})
    assert "has 40 rows, the graph 48 nodes; every node needs one" in refused(path)
    (tmp_path / "said.npz").write_bytes(b"PK\x03\x04 torn")
    assert "cannot be read as plain arrays" in refused(path)
    (tmp_path / "said.npz").unlink()
    (tmp_path / "said.pkl").write_bytes(b"")
    assert "Allowed: .npz, .safetensors" in refused(student(tmp_path, kd={"teacher": "said.pkl"}))
    np.savez(tmp_path / "said.npz", logits=arrays()["logits"])
    keys = {"kd_feature": {"weight": 1.0, "layer_map": "uniform"}}
    assert "gives no hidden states" in refused(student(tmp_path, kd={"teacher": "said.npz"}, **keys))


def test_files_teach_nodes_only(tmp_path: Path) -> None:
    np.savez(tmp_path / "said.npz", **arrays())
    path = student(
        tmp_path,
        kd={"teacher": "said.npz"},
        dataset={"name": "links", "task": "link_pred"},
        kd_response={"weight": 1.0},
    )
    assert "task on edges" in refused(path)
