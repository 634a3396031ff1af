"""What trained students refuse to be called with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch, Data, HeteroData

from gkd_plugin import host
from gkd_plugin.config.load import read_config
from gkd_plugin.errors import UserError
from gkd_plugin.models.trained import TrainedStudent, create_model
from tests import toy

pytestmark = pytest.mark.usefixtures("toy_data")


def build(**groups: Any) -> TrainedStudent:
    own = read_config(toy.values(**groups)).cfg
    own.share.dim_in, own.share.dim_out, own.share.num_splits = 6, 3, 3
    with host.scoped(own):
        return TrainedStudent(create_model(to_device=False).model, own).eval()


DATA = toy.community(0, nodes=12)
X, EDGES = DATA.x, DATA.edge_index
WRONG: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "a negative node": ((X, torch.tensor([[0], [-3_000_000]])), {}, r"edge_index names node -3000000.*0 to 11"),
    "a node too many": ((X, torch.tensor([[0], [12]])), {}, r"edge_index names node 12.*0 to 11"),
    "edges lying": ((X, EDGES.t()), {}, r"edge_index is \[\d+, 2\] of int64.*\[2, edges\]"),
    "edges with a point": ((X, EDGES.float()), {}, r"edge_index is .* of float32"),
    "other features": ((X[:, :4], EDGES), {}, r"x is \[12, 4\], and must be \[nodes, 6\]"),
    "features of one node": ((X[0], EDGES), {}, r"x is \[6\], and must be \[nodes, 6\]"),
    "doubles": ((X.double(), EDGES), {}, r"x is float64 and the weights are float32: take x\.to\(torch\.float32\)"),
    "numpy": ((Data(x=np.zeros((12, 6)), edge_index=EDGES),), {}, "x is a ndarray"),
    "not a graph": (({"x": X},), {}, "not with a dict"),
    "nothing": ((None,), {}, "not with a NoneType"),
    "a graph of several types": ((HeteroData(),), {}, "not with a HeteroData"),
    "a misspelt name": ((X, EDGES), {"bacth": torch.zeros(12, dtype=torch.long)}, r"bacth=.*Did you mean 'batch'"),
    "a short batch": (
        (X, EDGES),
        {"batch": torch.zeros(3, dtype=torch.long)},
        r"batch is \[3\] of int64, and must be \[12\]",
    ),
    "a negative batch": ((X, EDGES), {"batch": torch.full((12,), -1)}, "batch names graph -1"),
    "a pair of nobody": ((X, EDGES), {"edge_label_index": torch.tensor([[0], [-1]])}, "edge_label_index names node -1"),
    "pairs lying": ((X, EDGES), {"edge_label_index": torch.zeros(5, 2, dtype=torch.long)}, r"\[5, 2\].*\[2, pairs\]"),
    "two mistakes": ((X[:, :4], EDGES + 12), {}, r"x is \[12, 4\].*; edge_index names node"),
}


@pytest.mark.parametrize("model", ["gnn", "gcnii"])
@pytest.mark.parametrize("case", WRONG)
def test_what_no_layer_can_read_rightly_is_refused(case: str, model: str) -> None:
    """GCNII's sparse product does not check its places: it would read memory of others."""
    arguments, further, said = WRONG[case]
    with pytest.raises(UserError, match=said):
        build(model={"type": model})(*arguments, **further)


def test_what_can_be_read_is() -> None:
    student = build()
    expected = student(X, EDGES)
    assert torch.equal(student(Batch.from_data_list([DATA])), expected)
    assert torch.equal(student(X, EDGES, batch=torch.zeros(12, dtype=torch.long), mine=3), expected)
    counts = X.round().long()
    assert torch.equal(student(counts, EDGES), student(counts.float(), EDGES))
    assert student(X, EDGES[:, :0]).shape == (12, 3) and student(X[:0], EDGES[:, :0]).shape == (0, 3)
    assert student(X[:1], torch.zeros(2, 1, dtype=torch.long)).shape == (1, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert student(X.bfloat16(), EDGES).shape == (12, 3)
    assert student.double()(X.double(), EDGES).dtype == torch.float64
