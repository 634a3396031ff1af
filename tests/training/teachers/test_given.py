"""Teachers that are handed over: a module on its own device, rows of logits, a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.nn import GCN

from gkd_plugin.data.tasks import LabelKind
from gkd_plugin.errors import UserError
from gkd_plugin.space.observation import TAPS, Graph, Observation
from gkd_plugin.training.teachers.base import list_content
from gkd_plugin.training.teachers.given import make_teacher
from tests import toy

THREE = LabelKind("node", "classification", 3)
TWO = LabelKind("node", "classification", 2)


@pytest.fixture
def batch() -> Batch:
    return Batch.from_data_list([toy.community(1)])


def test_layers_are_the_outputs_of_named_parts(batch: Batch) -> None:
    model = GCN(6, 8, num_layers=2, out_channels=3).eval()
    seen = make_teacher(model, THREE, pattern="convs.*")(batch)
    first = model.convs[0](batch.x, batch.edge_index)
    last = model.convs[1](first.relu(), batch.edge_index)
    for tap in TAPS:
        torch.testing.assert_close(seen.hidden[tap], (first, last))
    torch.testing.assert_close(seen.logits, last)
    assert not model.convs[0]._forward_hooks


def test_an_observation_passes(batch: Batch) -> None:
    class Observes(nn.Module):
        def forward(self, batch: Any) -> Observation:
            return Observation(batch.x[:, :3], {"layer": (batch.x,)}, Graph(batch.edge_index, batch.num_nodes))

    seen = make_teacher(Observes(), THREE, needs_layers="none")(batch)
    assert torch.equal(seen.hidden["layer"][0], batch.x) and torch.equal(seen.logits, batch.x[:, :3])


def test_two_logits_are_one(batch: Batch) -> None:
    rows = torch.randn(48, 2)
    one = make_teacher(rows, TWO)(batch).logits
    torch.testing.assert_close(one.sigmoid()[:, 0], rows.softmax(dim=1)[:, 1])
    assert torch.equal(make_teacher(rows[:, :1], TWO)(batch).logits, rows[:, :1])


def test_rows_are_part_of_what_tells_teachers_apart(batch: Batch, tmp_path: Path) -> None:
    rows, hidden = np.random.default_rng(0).normal(size=(48, 3)), np.ones((48, 2))
    contents = []
    for number in (1, 2):
        np.savez(tmp_path / f"{number}.npz", logits=rows, layer_1=hidden * number)
        teacher = make_teacher(tmp_path / f"{number}.npz", THREE, needs_layers="none")
        assert torch.equal(teacher(batch).hidden["conv"][0], torch.full((48, 2), float(number)))
        contents.append(list_content(teacher)[0]["layer_1"])
    assert not torch.equal(*contents)
    batch.n_id = torch.tensor([5, 3])
    part = make_teacher(torch.from_numpy(rows), THREE)
    with pytest.raises(UserError, match="2 rows of logits for 48 nodes"):
        part(batch)
    some = Batch.from_data_list([toy.community(1, nodes=2)])
    some.n_id = torch.tensor([5, 3])
    torch.testing.assert_close(part(some).logits, torch.from_numpy(rows)[[5, 3]].float())


def test_a_module_is_called_on_its_own_device(batch: Batch) -> None:
    devices: list[torch.device] = []

    class Notes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(6, 3, device="meta"))

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            devices.append(x.device)
            return torch.zeros(48, 3)

    assert make_teacher(Notes(), THREE)(batch).logits.device.type == "cpu"
    assert [device.type for device in devices] == ["meta"] and batch.x.device.type == "cpu"


@pytest.mark.parametrize(
    ("teacher", "kind", "pattern", "message"),
    [
        (torch.zeros(3, 3), LabelKind("graph", "classification", 3), None, "rows of logits teach node tasks only"),
        (torch.zeros(48, 3), THREE, "convs.*", "teacher_layers= names parts of a module, and the teacher is none"),
        (None, THREE, None, "teacher=: NoneType None"),
    ],
)
def test_what_is_refused(teacher: Any, kind: LabelKind, pattern: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_teacher(teacher, kind, pattern=pattern)
