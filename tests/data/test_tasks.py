"""What labels mean, told by the labels; what they do not tell is asked for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Data

from gkd_plugin.data.tasks import TASKS, infer_labels
from gkd_plugin.errors import UserError


def graph(y: object, nodes: int = 4) -> Data:
    data = Data(x=torch.zeros(nodes, 2), edge_index=torch.zeros(2, 0, dtype=torch.long))
    data.y = y
    return data


@pytest.mark.parametrize(
    ("y", "told", "shaped"),
    [
        (torch.tensor([0, 1, 2, 1]), "node_multiclass, 3 classes", torch.tensor([0, 1, 2, 1])),
        (torch.tensor([[0], [1], [1], [1]]), "node_multiclass, 2 classes", torch.tensor([0, 1, 1, 1])),
        (torch.tensor([True, False, True, True]), "node_multiclass, 2 classes", torch.tensor([1, 0, 1, 1])),
        (torch.tensor([-1, 1, 0, -1]), "node_multiclass, 2 classes", torch.tensor([-1, 1, 0, -1])),
        (torch.tensor([0.5, 1, 2, 3]), "node_regression, 1 number each", torch.tensor([[0.5], [1], [2], [3]])),
        (torch.tensor([[1, 1], [0, 1], [0, 0], [1, 0]]), "node_multilabel, 2 labels each", None),
        (torch.tensor([[1.0, 1], [0, 1], [0, 0], [1, 0]]), "node_multilabel, 2 labels each", None),
        (torch.tensor([[0.5, 1], [0, 1], [0, 0], [1, 0]]), "node_regression, 2 numbers each", None),
        (torch.tensor(2), "graph_multiclass, 1 classes", torch.tensor([2])),
        (torch.tensor([0.25]), "graph_regression, 1 number each", torch.tensor([[0.25]])),
        (torch.tensor([[1, 1, 0]]), "graph_multilabel, 3 labels each", torch.tensor([[1.0, 1, 0]])),
    ],
)
def test_labels_tell(y: Tensor, told: str, shaped: Tensor | None) -> None:
    kind = infer_labels([graph(y)], None)
    assert kind.describe() == told
    assert torch.equal(kind.shape(y), y.float() if shaped is None else shaped)
    assert kind.shape(y).dtype == (torch.long if "multiclass" in told else torch.float32)
    assert kind.binary == told.endswith("multiclass, 2 classes")


ONE_HOT, WHOLE = torch.eye(3)[[0, 1, 2, 1]], torch.tensor([0.0, 2, 1, 1])


@pytest.mark.parametrize(
    ("y", "task", "told", "first"),
    [
        (ONE_HOT, "node_multiclass", "node_multiclass, 3 classes", 0),
        (ONE_HOT, "node_multilabel", "node_multilabel, 3 labels each", [1.0, 0.0, 0.0]),
        (WHOLE, "node_multiclass", "node_multiclass, 3 classes", 0),
        (WHOLE, "node_regression", "node_regression, 1 number each", [0.0]),
    ],
)
def test_what_is_ambiguous_is_asked_for(y: Tensor, task: str, told: str, first: object) -> None:
    with pytest.raises(UserError, match=f"Say it: .*task='{task}'"):
        infer_labels([graph(y)], None)
    kind = infer_labels([graph(y)], task)
    assert kind.describe() == told and kind.shape(y)[0].tolist() == first


def test_one_node_and_one_label() -> None:
    with pytest.raises(UserError, match="labels may be of nodes or of graphs.*task='graph_multiclass'"):
        infer_labels([graph(torch.tensor([1]), nodes=1)], None)
    assert infer_labels([graph(torch.tensor([1]), nodes=1)], "graph_multiclass").level == "graph"
    assert infer_labels([graph(torch.tensor([1]), 1), graph(torch.tensor([1, 0]), 2)], None).level == "node"
    assert infer_labels([graph(torch.tensor([1]), 1), graph(torch.tensor([0]), 2)], None).level == "graph"


@pytest.mark.parametrize(
    ("graphs", "task", "message"),
    [
        ([graph(None)], None, "data= has no labels y"),
        ([graph(torch.tensor([1])), graph("text")], None, "graph 1 of data= has no labels"),
        ([graph(torch.zeros(4, 2)), graph(torch.zeros(4, 3))], None, "y has 2 and 3 columns"),
        ([graph(torch.zeros(3))], None, "y of graph 0 has 3 rows, for 4 nodes"),
        ([graph(torch.tensor([[3, 1], [0, 1], [0, 0], [1, 0]]))], None, "2 columns of whole numbers beyond 0 and 1"),
        ([graph(torch.tensor([0.5, 1, 2, 3]))], "node_multiclass", "numbers such as 0.5, which are not classes"),
        ([graph(WHOLE)], "multiclass", f"task='multiclass' is unknown. .*{', '.join(TASKS)}"),
    ],
)
def test_what_is_refused(graphs: list[Data], task: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        infer_labels(graphs, task)
