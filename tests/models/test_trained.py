"""Trained students called as plain modules, against the host's own call of the same network."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.graphgym.model_builder import create_model
from yacs.config import CfgNode

from gkd_plugin import host
from gkd_plugin.config.load import read_config
from gkd_plugin.errors import UserError
from gkd_plugin.models.trained import TrainedStudent
from tests import toy

pytestmark = pytest.mark.usefixtures("toy_data")

TASKS: dict[str, dict[str, Any]] = {
    "node": {},
    "graph": {"dataset": {"task": "graph"}, "model": {"graph_pooling": "add"}},
    "link_pred": {"dataset": {"task": "link_pred"}, "model": {"edge_decoding": "dot"}},
}
PAIRS = torch.tensor([[0, 5, 7], [1, 2, 7]])


def build(task: str) -> TrainedStudent:
    own = read_config(toy.values(**TASKS[task], gnn={"act": "relu", "layers_pre_mp": 1})).cfg
    own.share.dim_in, own.share.dim_out, own.share.num_splits = 6, 1 if task == "link_pred" else 3, 3
    torch.manual_seed(0)
    with host.scoped(own):
        return TrainedStudent(create_model(to_device=False).model, own).eval()


def graphs() -> Batch:
    return Batch.from_data_list([toy.community(seed, nodes=12) for seed in range(3)])


def hosts(student: TrainedStudent, data: Data, task: str) -> Tensor:
    """As the host's own program would call it."""
    data = copy.deepcopy(data)
    if task == "link_pred":
        data.split, data.val_edge_index, data.val_edge_label = "val", PAIRS, torch.zeros(3)
    with host.scoped(student.kd_cfg):
        found: Tensor = student.model(data)[0]
    return found


@pytest.mark.parametrize("task", TASKS)
def test_tensors_and_data_give_the_hosts_logits_and_stay_what_they_were(task: str) -> None:
    student, data = build(task), graphs()
    expected = hosts(student, data, task)
    before = copy.deepcopy(data)
    further: dict[str, Any] = {"graph": {"batch": data.batch}, "link_pred": {"edge_label_index": PAIRS}}.get(task, {})
    assert torch.equal(student(data.x, data.edge_index, **further), expected)
    if task == "link_pred":
        data.edge_label_index = before.edge_label_index = PAIRS
    assert torch.equal(student(data), expected)
    data.split = before.split = "test"
    assert torch.equal(student(data), expected)
    assert set(data.keys()) == set(before.keys())
    for name, value in before.to_dict().items():
        assert torch.equal(data[name], value) if isinstance(value, Tensor) else data[name] == value, name


def test_it_runs_under_its_own_cfg_and_lets_gradients_through() -> None:
    student, data = build("node"), graphs()
    expected = student(data)
    other: CfgNode = student.kd_cfg.clone()
    other.gnn.stage_type, other.dataset.task = "skipsum", "graph"
    x = data.x.clone().requires_grad_()
    with host.scoped(other):
        found = student(x, data.edge_index)
    assert torch.equal(found, expected)
    found.sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0


def test_what_is_missing_is_said() -> None:
    data = graphs()
    with pytest.raises(UserError, match="edge_index is missing"):
        build("node")(data.x)
    with pytest.raises(UserError, match=r"edge_label_index \[2, pairs\]"):
        build("link_pred")(data)
