"""Runs whose data hold nodes out of training: what is trained is what is trained without them, and each part has its score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch_geometric.data import Data, InMemoryDataset
from torch_geometric.nn import GCNConv

import gkd_plugin
from gkd_plugin.commands.run import run
from gkd_plugin.data.names import DATA_SETS, Known
from gkd_plugin.errors import UserError
from gkd_plugin.training.result import RunResult, read_result
from tests import toy
from tests.running import TIMES

pytestmark = pytest.mark.usefixtures("work_folder")


class One(InMemoryDataset):
    def __init__(self, data: Data) -> None:
        super().__init__()
        self.data, self.slices = self.collate([data])


HELD_OUT = 3  # of 16 test nodes


@pytest.fixture
def graph(monkeypatch: pytest.MonkeyPatch) -> Data:
    """The graph behind ``name: toy`` of format gkd; ``name: part`` is the same without the nodes that seed 1 holds out."""
    whole = toy.community(0)

    def load_part(root: str) -> InMemoryDataset:
        return One(cut(whole, find_late(whole)))

    monkeypatch.setitem(DATA_SETS, "toy", Known(lambda root: One(whole.clone()), "toys"))
    monkeypatch.setitem(DATA_SETS, "part", Known(load_part, "toys"))
    return whole


def find_late(whole: Data, seed: int = 1) -> set[int]:
    nodes = whole.test_mask.nonzero().view(-1)
    order = torch.randperm(len(nodes), generator=torch.Generator().manual_seed(seed))
    return set(nodes[order[:HELD_OUT]].tolist())


def cut(whole: Data, late: set[int]) -> Data:
    """By a loop: the other nodes in their order, and the edges among them."""
    stay = [node for node in range(whole.num_nodes) if node not in late]
    new = {node: place for place, node in enumerate(stay)}
    edges = [(new[a], new[b]) for a, b in whole.edge_index.t().tolist() if a in new and b in new]
    masks = {name: whole[name][stay] for name in toy.MASKS}
    return Data(x=whole.x[stay], edge_index=torch.tensor(edges).t().contiguous(), y=whole.y[stay], **masks)


def config(name: str, folder: str, **groups: Any) -> dict[str, Any]:
    base = toy.values(Path(folder), **groups)
    base["dataset"] = {"format": "gkd", "name": name, "task": "node", "task_type": "classification", "dir": "data"}
    base["seed"] = 0
    return base


def rows(folder: Path, split: str) -> list[dict[str, Any]]:
    lines = (folder / "0" / split / "stats.json").read_text().splitlines()
    if not lines:  # pragma: no cover
        raise AssertionError(f"no rows in {folder}")
    return [{key: value for key, value in json.loads(line).items() if key not in TIMES} for line in lines]


class Module(nn.Module):
    """A teacher that spreads what it sees along edges."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.conv = GCNConv(6, 3)

    def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.conv(x, edge_index)
        return out


EVERYTHING = {  # terms over all nodes, unlabelled ones, edges, all pairs and samples of nodes
    "peers": {
        "kd": {"students": 2},
        "kd_response": {"weight": 1, "nodes": "all"},
        "kd_structure": {"weight": 1, "domain": "all_pairs", "samples": 20},
        "kd_contrast": {"weight": 1, "samples": 20},
        "kd_feature": {"weight": 1, "nodes": "all"},
        "kd_auxiliary": {"weight": 0.3, "soft_weight": 0.5},
    },
    "unlabelled": {
        "kd": {"students": 2},
        "kd_response": {"weight": 1, "nodes": "unlabeled"},
        "kd_structure": {"weight": 1, "domain": "edges"},
        "kd_feature": {"weight": 1, "nodes": "unlabeled"},
    },
    "teacher": {
        "kd": {"students": 1, "label_weight": 0},
        "kd_response": {"weight": 1, "nodes": "all", "source": "teacher"},
    },
}


@pytest.mark.parametrize("case", EVERYTHING)
def test_no_term_sees_a_node_that_is_held_out(case: str, graph: Data) -> None:
    late = find_late(graph)
    teacher = Module() if case == "teacher" else None

    def train(name: str, folder: str, **splits: Any) -> Path:
        report = run(config(name, folder, **EVERYTHING[case], splits=splits), teacher=teacher, quiet=True)
        return report.folder

    for node in late:  # finite, so that the check of the data lets it through; any use of it would change every number
        graph.x[node] = 1e12
    planted = train("toy", "planted", protocol="inductive")
    without = train("part", "without")
    for split in ("train", "val"):
        assert rows(planted, split) == rows(without, split)
    (tested,) = rows(planted, "test")
    assert tested != rows(without, "test")[0]
    found = read_result(planted / "0")
    assert found is not None
    assert found.protocol == {"name": "inductive", "held_out": HELD_OUT, "tested": HELD_OUT}
    assert read_result(without / "0").protocol == {}


def test_the_test_reads_the_whole_graph(graph: Data, tmp_path: Path) -> None:
    report = run(config("toy", "out", splits={"protocol": "production"}), quiet=True)
    result = report.results[0]
    late = find_late(graph)
    trained = gkd_plugin.load_student(report.folder / "0")
    with torch.no_grad():
        logits = trained(graph.x, graph.edge_index)
    right = logits.argmax(dim=1) == graph.y

    def accuracy(nodes: list[int]) -> float:
        return round(float(right[nodes].double().mean()), 4)

    everyone = graph.test_mask.nonzero().view(-1).tolist()
    assert result.answer.test == accuracy(everyone)
    early = [node for node in everyone if node not in late]
    parts = {"transductive": accuracy(early), "inductive": accuracy(sorted(late))}
    assert result.protocol["parts"]["first"] == result.protocol["parts"]["s1"] == parts
    assert (result.protocol["held_out"], result.protocol["tested"]) == (HELD_OUT, 16)
    (row,) = rows(report.folder, "test")
    assert {name: row[f"{name}_accuracy"] for name in parts} == parts
    text = str(report)
    assert "transductive nodes" in text and "inductive nodes" in text
    assert "splits.protocol production: 3 nodes were held out of training and validation, 16 were tested" in text
    # and inductive tests the late ones of the same training
    inductive = run(config("toy", "ind", splits={"protocol": "inductive"}), quiet=True).results[0]
    assert inductive.answer.test == parts["inductive"] and inductive.answer.val == result.answer.val


def test_parts_of_a_cohort_and_of_its_teacher(graph: Data) -> None:
    values = config("toy", "cohort", splits={"protocol": "production"}, kd={"students": 2, "preset": "mutual"})
    result = run(values, quiet=True).results[0]
    parts = result.protocol["parts"]
    assert set(parts) == set(result.answers)
    for nodes in ("transductive", "inductive"):
        assert parts["mean"][nodes] == pytest.approx((parts["s1"][nodes] + parts["s2"][nodes]) / 2)
    for answer, score in result.answers.items():
        if answer != "mean":  # of accuracies that were rounded
            mixed = (13 * parts[answer]["transductive"] + 3 * parts[answer]["inductive"]) / 16
            assert score.test == pytest.approx(mixed, abs=1e-4)
    taught = {"kd_response": {"weight": 1, "source": "teacher"}, "splits": {"protocol": "production"}}
    result = run(config("toy", "taught", **taught), teacher=Module(), quiet=True).results[0]
    its = result.protocol["parts"]["teacher"]
    mixed = (13 * its["transductive"] + 3 * its["inductive"]) / 16
    assert result.teacher["test"] == pytest.approx(mixed, abs=1e-4)


def teach(folder: str, protocol: str | None, teacher: str) -> RunResult:
    splits = {} if protocol is None else {"protocol": protocol}
    kd = {"students": 1, "teacher": teacher}
    values = config("toy", folder, splits=splits, kd=kd, kd_response={"weight": 1, "source": "teacher", "nodes": "all"})
    return run(values, name="student", quiet=True, fresh=True).results[0]


def test_a_teacher_of_another_protocol_is_refused(graph: Data) -> None:
    for protocol in ("transductive", "inductive", "production"):
        run(config("toy", "out", splits={"protocol": protocol}), name=f"t_{protocol}", quiet=True)
    refused = r"trained on other data \(splits.protocol: .*its nodes, labels or splits differ"
    for late in ("inductive", "production"):
        with pytest.raises(UserError, match=refused):
            teach("out", late, "t_transductive")
        with pytest.raises(UserError, match=refused):
            teach("out", None, f"t_{late}")
        for other in ("inductive", "production"):  # which train on the same nodes
            assert "test" in teach("out", late, f"t_{other}").teacher
    assert "test" in teach("out", None, "t_transductive").teacher


def test_a_function_that_only_a_teacher_names_is_not_run(graph: Data) -> None:
    run(config("toy", "out"), name="theirs", quiet=True)
    Path("trap.py").write_text("from pathlib import Path\nPath('ran').touch()\ndef make(): pass\n")
    for stored in Path("out/theirs").rglob("*.yaml"):
        stored.write_text(stored.read_text().replace("name: toy", "name: trap:make"))
    with pytest.raises(
        UserError, match=r"dataset.name: trap:make for the teacher, toy here\), by a function of its own"
    ):
        teach("out", None, "theirs")
    assert not Path("ran").exists()


def test_what_does_not_go_together(graph: Data, tmp_path: Path) -> None:
    import numpy as np

    np.savez("rows.npz", logits=np.zeros((48, 3)))
    with pytest.raises(UserError, match=r"rows.npz holds rows by node, and under splits.protocol"):
        teach("out", "inductive", "rows.npz")
    with pytest.raises(UserError, match=r"kd.hide_edges: 0.5, but splits.protocol tests on a graph of its own"):
        run(config("toy", "hidden", splits={"protocol": "inductive"}, kd={"hide_edges": 0.5}), quiet=True)


def test_a_teacher_that_is_trained_first_follows_its_student(graph: Data) -> None:
    import yaml

    Path("teacher.yaml").write_text(yaml.safe_dump(config("toy", "out")))
    kd = {"students": 1, "teacher_cfg": "teacher.yaml"}
    values = config(
        "toy", "out", splits={"protocol": "inductive"}, kd=kd, kd_response={"weight": 1, "source": "teacher"}
    )
    run(values, name="student", quiet=True)
    found = read_result(Path("out/teacher/0"))
    assert found is not None and found.protocol["name"] == "inductive"
    values["splits"] = {"protocol": "transductive"}
    with pytest.raises(UserError, match=r"kd.teacher_cfg: .*was trained with a different configuration .*protocol"):
        run(values, name="other", quiet=True)


def test_a_result_keeps_what_it_says(tmp_path: Path) -> None:
    from gkd_plugin.training.result import Score

    parts = {"first": {"transductive": 0.5, "inductive": float("nan")}}
    protocol = {"name": "production", "held_out": 3, "tested": 16, "parts": parts}
    answers = dict.fromkeys(("s1", "mean", "first", "best"), Score(1, 0.5, 0.5))
    result = RunResult(1, "accuracy", True, "first", answers, [7], 1, 2, 0.1, protocol=protocol)
    values = json.loads(json.dumps(result.as_dict()))
    assert values["protocol"]["parts"]["first"]["inductive"] is None
    back = RunResult.from_dict(values)
    back.check()
    assert back.part("first", "transductive") == 0.5 and back.part("first", "inductive") != back.part(
        "first", "inductive"
    )
    assert back.part("s9", "inductive") != back.part("s9", "inductive")
    for wrong in ({"name": 3}, {"name": "x", "held_out": "many", "tested": 1}, {**protocol, "parts": 3}):
        with pytest.raises((ValueError, AttributeError)):
            RunResult.from_dict({**values, "protocol": wrong}).check()
    assert "protocol" not in RunResult(1, "accuracy", True, "first", answers, [7], 1, 2, 0.1).as_dict()
