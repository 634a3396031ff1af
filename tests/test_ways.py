"""The three ways of docs/ways.md, run as their pages have them: a GraphGym study, a model, a term of one's own."""

from __future__ import annotations

import csv
import json
import math
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch_geometric.data import Data
from torch_geometric.nn import GCN

import gkd_cli
from gkd_plugin.data.digits import DigitsGraph
from tests.test_docs import ROOT, blocks

pytestmark = pytest.mark.slow
STUDY, MODEL, TERM, EXPORT = (
    ROOT / "docs" / f"{name}.md" for name in ("existing_study", "compress", "own_term", "export")
)


def gkd(line: str) -> str:
    """What a command line of a page prints."""
    done = CliRunner().invoke(gkd_cli.main, shlex.split(line)[1:])
    assert done.exit_code == 0, done.output[-3000:]
    return done.output


def test_distillation_in_my_graphgym_study(host_program: Path) -> None:
    for folder, name, text in (
        ("configs", "study.yaml", blocks(STUDY, "yaml")[0]),
        ("grids", "kd.txt", blocks(STUDY, "text")[0]),
    ):
        path = host_program / folder / "pyg" / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    (host_program / "gkd").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gkd_cli "$@"\n')
    (host_program / "gkd").chmod(0o755)
    path = os.pathsep.join([str(host_program), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "SLEEP": "0"}
    done = subprocess.run(
        ["bash", "-ec", blocks(STUDY, "bash")[0]], cwd=host_program, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr[-3000:]
    results = host_program / "results" / "study_grid_kd"
    with open(results / "agg" / "test_best.csv") as file:
        table = list(csv.DictReader(file))
    assert [(row["preset"], row["layers"]) for row in table] == [
        (preset, layers) for preset in ("mutual", "supervised") for layers in ("2", "3")
    ]
    for row in table:
        assert 0 < float(row["accuracy"]) <= 1
        assert (row["mean_accuracy"] == "") == (row["s2_accuracy"] == "") == (row["preset"] == "supervised")
    assert sorted(path.name for path in (results / "study-preset=mutual-layers=2").iterdir() if path.is_dir()) == [
        "0",
        "1",
        "agg",
    ]


@pytest.fixture
def model_and_data() -> tuple[GCN, Data]:
    """What the user of the second way comes with: trained by a loop of plain PyG."""
    data = DigitsGraph()[0]
    model = GCN(64, 32, num_layers=2, out_channels=10, dropout=0.5)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        logits = model(data.x, data.edge_index)
        torch.nn.functional.cross_entropy(logits[data.train_mask], data.y[data.train_mask]).backward()
        optimizer.step()
    return model, data


def test_a_small_network_from_my_model(
    model_and_data: tuple[GCN, Data], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model, data = model_and_data
    code, with_layers, to_hand_on = blocks(MODEL, "python")
    assert len([line for line in code.splitlines() if line]) <= 5
    names: dict[str, Any] = {"model": model, "data": data}
    exec(compile(code, str(MODEL), "exec"), names)
    result, report, small = names["result"], names["result"].report, names["result"].student
    assert model.training  # it is left as it was
    right = (names["logits"].argmax(dim=1) == data.y)[data.test_mask].double().mean()
    assert float(right) == pytest.approx(report.results[0].answer.test, abs=1e-4)
    assert report.difference("mean").mean > 0.005  # 93.8 % without the teacher, 95.5 % with it
    assert math.isfinite(report.gap_closed("mean"))
    assert torch.equal(small(data.x, data.edge_index[:, :0]), names["logits"])  # it sees no edge
    text = MODEL.read_text()
    path = tmp_path / "weights.pt"
    for shown in ("print(result)", "torch.save(result.student.state_dict(), path)"):
        assert f"`{shown}`" in text
        eval(shown, {"result": result, "torch": torch, "path": path})
    assert torch.load(path, weights_only=True).keys() == small.state_dict().keys()
    assert [*tmp_path.iterdir()] == [path]
    exec(compile(with_layers.replace("seeds=3", "seeds=1, epochs=5"), str(MODEL), "exec"), names)
    assert names["result"].preset == "fitnet"

    assert "seeds=3" in to_hand_on
    exec(compile(to_hand_on.replace("seeds=3", "seeds=1, epochs=3"), str(MODEL), "exec"), names)
    to_export, to_measure = blocks(MODEL, "bash")[0].splitlines()
    assert "model.pt2: checked" in gkd(to_export)
    assert "multiply-adds" in gkd(to_measure)
    Path("small").rename("DIR")
    answers = []
    for code in blocks(EXPORT, "python"):
        seen: dict[str, Any] = {"data": data, "x": data.x, "edge_index": data.edge_index}
        exec(compile(code, str(EXPORT), "exec"), seen)
        answers.append(seen["logits"])
    assert torch.allclose(*answers, atol=1e-6) and answers[0].shape == (data.num_nodes, 10)


def test_a_term_of_my_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    term, suite = blocks(TERM, "python")
    Path("spread.py").write_text(term)
    Path("test_spread.py").write_text(suite)
    Path("spread.yaml").write_text(blocks(TERM, "yaml")[0].replace("max_epoch: 50", "max_epoch: 3"))
    use, test = blocks(TERM, "bash")
    try:
        listed, *_ = map(gkd, use.splitlines())
    finally:
        sys.modules.pop("spread", None)
    assert "power" in listed and "exponent of the spread" in listed
    rows = [json.loads(line) for line in Path("results/spread/0/train/stats.json").read_text().splitlines()]
    assert all(row["s1_kd_spread"] >= 0 for row in rows) and any(row["s1_kd_spread"] for row in rows)
    words = [sys.executable, *shlex.split(test)[1:], "-q", "-p", "no:cacheprovider", "-c", os.devnull]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout[-3000:]
