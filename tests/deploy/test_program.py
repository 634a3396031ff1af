"""Programs against the students that they were traced from, on graphs of other sizes; the table of networks in docs/export.md."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.graphgym import register
from torch_geometric.graphgym.model_builder import create_model
from torch_geometric.nn import RGCNConv

from gkd_plugin import host
from gkd_plugin.config.load import read_config
from gkd_plugin.deploy.graphs import PAIRS, find_inputs, make_examples
from gkd_plugin.deploy.onnx_file import PACKAGES, write_onnx
from gkd_plugin.deploy.program import NotExportable, check_program, compare, export_program
from gkd_plugin.models.trained import TrainedStudent
from tests import toy
from tests.test_docs import ROOT

pytestmark = pytest.mark.usefixtures("toy_data")

BATCHNORM = {"batchnorm": True, "l2norm": True, "stage_type": "skipsum", "layers_pre_mp": 1}
NETWORKS: dict[str, dict[str, Any]] = {  # by the words of the table in docs/export.md
    "gcn": {"model": {"type": "gcn"}},
    "gcn, batchnorm plain": {"model": {"type": "gcn"}, "gnn": {"batchnorm": True}, "gkd_model": {"batchnorm": "plain"}},
    "gat": {"model": {"type": "gat"}, "gkd_model": {"heads": 2, "out_heads": 2, "residual": "dgl"}},
    "sage": {"model": {"type": "sage"}},
    "sage, aggregator gcn": {"model": {"type": "sage"}, "gkd_model": {"aggregator": "gcn"}},
    "sage, aggregator pool": {"model": {"type": "sage"}, "gkd_model": {"aggregator": "pool"}},
    "gcnii": {"model": {"type": "gcnii"}},
    "mlp": {"model": {"type": "mlp"}},
    "rgcn": {"model": {"type": "rgcn"}, "gkd_model": {"bases": 2}},
    "edgeconv": {"model": {"type": "edgeconv"}, "gkd_model": {"k": 3}},
    "gnn, gcnconv": {"gnn": {"layer_type": "gcnconv"}},
    "gnn, gcnconv with batchnorm, l2norm, skipsum": {"gnn": {"layer_type": "gcnconv", **BATCHNORM}},
    "gnn, gatconv": {"gnn": {"layer_type": "gatconv"}},
    "gnn, sageconv": {"gnn": {"layer_type": "sageconv"}},
    "gnn, ginconv": {"gnn": {"layer_type": "ginconv"}},
    "gnn, generalconv": {"gnn": {"layer_type": "generalconv"}},
    "gnn, generaledgeconv (edge_attr)": {"gnn": {"layer_type": "generaledgeconv"}, "dataset": {"edge_dim": 4}},
    "gnn, graphs (batch)": {"dataset": {"task": "graph"}, "model": {"graph_pooling": "mean"}},
    "gcn, graphs (batch)": {"dataset": {"task": "graph"}, "model": {"type": "gcn", "graph_pooling": "max"}},
    "gnn, pairs (edge_label_index)": {"dataset": {"task": "link_pred"}, "model": {"edge_decoding": "dot"}},
}
REFUSED = ("edgeconv",)


def build(node_types: Sequence[list[int]] = (), **groups: Any) -> TrainedStudent:
    own = read_config(toy.values(**groups)).cfg
    own.share.dim_in, own.share.dim_out, own.share.relations = 6, 3, 4
    own.share.node_types = list(node_types)
    if own.dataset.task == "link_pred":
        own.share.dim_out = 1
    torch.manual_seed(0)
    with host.scoped(own):
        student = TrainedStudent(create_model(to_device=False).model, own)
    for module in student.modules():  # as after training, where these are not 0 and 1
        if isinstance(module, nn.BatchNorm1d) and module.running_mean is not None:
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return student.eval()


def graphs(name: str) -> list[Data]:
    found = [toy.community(seed, nodes=20 + seed) for seed in range(5)]
    for number, graph in enumerate(found):
        count, random = graph.num_edges, torch.Generator().manual_seed(number)
        if name == "rgcn":
            graph.edge_type = torch.randint(0, 4, (count,), generator=random)
        if "edge_attr" in name:
            graph.edge_attr = torch.randn(count, 4, generator=random)
    return found


def level(groups: dict[str, Any]) -> str:
    return {"graph": "graph", "link_pred": "edge"}.get(groups.get("dataset", {}).get("task", "node"), "node")


@pytest.fixture(scope="module")
def table() -> dict[str, list[str]]:
    text = (ROOT / "docs" / "export.md").read_text()
    rows = re.findall(r"^\| `?([^|`]+)`? \| (yes|no[^|]*) \| (yes|no[^|]*) \|$", text, re.MULTILINE)
    return {name.strip(): [program.strip(), onnx.strip()] for name, program, onnx in rows}


@pytest.mark.parametrize("name", NETWORKS)
def test_what_the_table_says_of_a_network_is_so(name: str, table: dict[str, list[str]], tmp_path: Path) -> None:
    student, kind = build(**NETWORKS[name]), level(NETWORKS[name])
    first, other = make_examples(graphs(name), kind)
    names = find_inputs(student, other, kind)
    further = re.search(r"\((\w+)\)", name)
    wanted = ["edge_type"] if name == "rgcn" else [further.group(1)] if further else []
    assert names == ["x", "edge_index", *(wanted if name != "edgeconv" else ["batch"])]
    if name in REFUSED:
        with pytest.raises(NotExportable, match=r"in mp.layer0.layer \(EdgeConvolution\)"):
            export_program(student, names, first)
        assert table[name][0].startswith("no")
        return
    program = export_program(student, names, first)
    torch.export.save(program, tmp_path / "model.pt2")
    found = check_program(tmp_path / "model.pt2", student, names, other)
    assert found.nodes == other.num_nodes > first.num_nodes and found.difference < 1e-5
    assert table[name][0] == "yes"
    for odd in odd_graphs(first)[1 if "plain" in name else 0 :]:  # which the layer itself refuses for one node
        logits = torch.export.load(tmp_path / "model.pt2").module()(*(odd[key] for key in names))
        assert compare(logits.detach(), student, names, odd).difference < 1e-5
    if all(find_spec(package) for package in PACKAGES):
        found = write_onnx(tmp_path / "model.onnx", program, student, names, other)
        assert found.difference < 1e-4 and table[name][1] == "yes"


def odd_graphs(graph: Batch) -> list[Data]:
    """One node without an edge; self-loops alone."""
    lone, loops = Data(x=graph.x[:1]), Data(x=graph.x[:3])
    lone.edge_index, loops.edge_index = torch.zeros(2, 0, dtype=torch.long), torch.arange(3).expand(2, 3).clone()
    for each, nodes in ((lone, 1), (loops, 3)):
        count = each.edge_index.size(1)
        each.edge_type, each.edge_attr = torch.zeros(count, dtype=torch.long), torch.ones(count, 4)
        each.batch = torch.zeros(nodes, dtype=torch.long)
        each[PAIRS] = torch.zeros(2, 1, dtype=torch.long)
    return [lone, loops]


def test_every_row_of_the_table_is_tested(table: dict[str, list[str]]) -> None:
    assert list(table) == list(NETWORKS)


class Broken(nn.Module):
    """A network that counts edges in Python, which no program can."""

    def __init__(self, dim_in: int, dim_out: int, **_: Any) -> None:
        super().__init__()
        self.map = nn.Linear(dim_in, dim_out)

    def forward(self, batch: Any) -> tuple[Tensor, Tensor]:
        many = int(batch.edge_index.sum()) > 10
        return self.map(batch.x) * (2 if many else 1), batch.get("y")


def test_a_network_that_cannot_be_traced_is_named(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(register.network_dict, "broken", Broken)
    student = build(model={"type": "broken"})
    first, _ = make_examples(graphs("broken"), "node")
    with pytest.raises(NotExportable, match="in .*Broken.*data-dependent"):
        export_program(student, ["x", "edge_index"], first)
    assert capfd.readouterr() == ("", "")


def test_a_program_that_says_otherwise_is_found() -> None:
    student = build(model={"type": "gcn"})
    first, other = make_examples(graphs("gcn"), "node")
    right = student(other)
    assert compare(right, student, ["x", "edge_index"], other).difference == 0
    with pytest.raises(NotExportable, match="differ from the student's by 0.1"):
        compare(right + 0.1, student, ["x", "edge_index"], other)
    with pytest.raises(NotExportable, match="logits on a graph of another size"):
        compare(right[:3], student, ["x", "edge_index"], other)
    with pytest.raises(NotExportable, match="differ"):
        compare(right * torch.nan, student, ["x", "edge_index"], other)
    del first.x
    with pytest.raises(NotExportable, match="the data have no x"):
        export_program(student, ["x", "edge_index"], first)


@pytest.mark.parametrize("how", [{}, {"bases": 2}, {"blocks": 2}])
def test_the_relational_convolution_of_programs_is_pygs(how: dict[str, int]) -> None:
    from gkd_plugin.models.networks.rgcn import RelationalConv

    words = {f"num_{key}": value for key, value in how.items()}
    torch.manual_seed(0)
    ours, theirs = RelationalConv(4, 6, 3, **words), RGCNConv(4, 6, 3, **words)
    theirs.load_state_dict(ours.state_dict())
    x, edges, kinds = torch.randn(7, 4), torch.randint(0, 6, (2, 20)), torch.randint(0, 2, (20,))
    assert torch.allclose(ours.propagate_all(x, edges, kinds), theirs(x, edges, kinds), atol=1e-6)
